//! What must hold when an event is over, by what an operator is shown.

use super::Watcher;
use super::book::{Book, By, RunBook};
use crate::engine::Engine;
use crate::engine::status::Status;
use crate::exit::Exit;
use crate::simulator::kernel::Kernel;
use crate::time::{Time, Wall};
use std::time::Duration;

/// What may come on top of a stop's own time before it is too long: uninterruptible sleep, a
/// helper that died, tries that are repeated.
const STOP_SLACK: Duration = Duration::from_secs(150);
/// And before a SIGKILL: one that was journalled and not sent comes a second later.
const KILL_SLACK: Duration = Duration::from_millis(1_100);

/// Running and healthy, or done: by what is shown.
pub fn is_satisfied(engine: &Engine, name: &str, now: Time) -> bool {
    let Some(id) = engine.find(name) else {
        return false;
    };
    let status = engine.status(id, Wall { now, wall_ms: 0 });
    satisfied(&status)
}

pub fn status_of(engine: &Engine, name: &str, now: Time) -> Option<Status> {
    let id = engine.find(name)?;
    Some(engine.status(id, Wall { now, wall_ms: 0 }))
}

/// It runs, has done what it was for, or rests until somebody connects.
pub fn is_up(engine: &Engine, name: &str, now: Time) -> bool {
    let up = |s: Status| s.state == "running" || s.listening || satisfied(&s);
    status_of(engine, name, now).is_some_and(up)
}

fn satisfied(status: &Status) -> bool {
    match status.state.as_str() {
        "running" => status
            .health
            .as_deref()
            .is_none_or(|health| health == "healthy"),
        "exited" => {
            let code = status.last_end.as_ref().and_then(|end| end.code);
            status.kind == "oneshot" && code == Some(0)
        }
        "inactive" => status.listening && status.sockets.iter().all(|socket| socket.open),
        _ => false,
    }
}

impl Watcher {
    pub fn finished(&mut self, wall: Wall, engine: &mut Engine, kernel: &Kernel) {
        let now = wall.now;
        self.before = None;
        self.step.recorded.clear();
        self.learn_ids(engine);
        for name in self.step.stopped.difference(&self.step.decided) {
            let words = format!("{name} is stopped for its health without a decision");
            if self.breach.is_none() {
                self.breach = Some(words);
            }
        }
        let all = self.step.moved;
        let names: Vec<String> = match all {
            true => self.books.keys().cloned().collect(),
            false => self.step.performed.iter().cloned().collect(),
        };
        let mut wrong = Vec::new();
        let states: Vec<(String, Status)> = names
            .into_iter()
            .filter_map(|name| {
                let id = engine.find(&name)?;
                let status = engine.status(id, wall);
                Some((name, status))
            })
            .collect();
        for name in std::mem::take(&mut self.step.denied) {
            let book = self.books.get(&name);
            let definition = book.and_then(|book| book.definition.as_ref());
            let exec = definition.is_some_and(|d| d.retry_policy.on_exhausted_exec.is_some());
            if exec && book.is_some_and(|book| book.told.is_none()) {
                wrong.push(format!("{name}: its budget is spent, and nobody was told"));
            }
        }
        for (name, status) in &states {
            if let Some(book) = self.books.get_mut(name) {
                see(book, status);
                // New definitions did not start it; what it waited for still has its cause.
                book.excused &= !(self.step.reload && book.charged);
            }
        }
        if let Some((name, cause)) = self.step.ended.take() {
            let status = states.iter().find(|(of, _)| *of == name);
            let end = status.and_then(|(_, status)| status.last_end.as_ref());
            // One that something follows, as `post_stop`, is not over yet.
            let end = end.filter(|end| end.at == wall.rfc3339(now));
            if end.is_some_and(|end| end.cause != cause.word()) {
                wrong.push(format!(
                    "{name}: it ended by {cause}, and is told otherwise"
                ));
            }
        }
        let booted = self.step.boot;
        // Its time is over, and it ends with the timers' turn, in whole milliseconds.
        let tick = Duration::from_millis(1);
        let over = self.hold_over.is_some_and(|over| now >= over + tick);
        let turn = self.step.timers && !self.goes_back();
        let ending = engine.holds() && self.hold_over.is_some() && !(over && turn);
        let held = self.hold.is_some() || ending;
        for (name, status) in &states {
            let shown = self.shown(name, status, held);
            wrong.extend(shown.into_iter().map(|words| format!("{name}: {words}")));
            let sockets = self.sockets_of(name, status, kernel);
            wrong.extend(sockets.map(|words| format!("{name}: {words}")));
            let adopted = booted.then(|| self.step.adopted.get(name)).flatten();
            if adopted.is_some_and(|pid| status.pid != Some(pid.0)) {
                wrong.push(format!(
                    "{name}: its process lives and is not known any more"
                ));
            }
            let held = status.detail.as_deref() == Some("held") && held;
            if status.state == "blocked" && all && !held && self.is_free(name) {
                wrong.push(format!("{name}: blocked, though nothing is in its way"));
            }
        }
        if all {
            wrong.extend(self.check_followers(now, engine));
        }
        wrong.extend(kernel.doubled.clone());
        wrong.extend(self.gives_back(now, engine));
        wrong.extend(self.reload_stands(now, engine));
        wrong.extend(self.settings_stand(engine));
        // To go back is all that such an event does; the timers' turn is the next one.
        if turn {
            if engine.holds() && self.hold.is_none() && over {
                wrong.push("a hold goes on, though its time is over".to_owned());
            }
            for (name, book) in &mut self.books {
                owes(book, now, self.late);
                let overlooked = book
                    .run
                    .as_ref()
                    .is_some_and(|r| r.is_overlooked(now, self.late));
                if overlooked && book.definition.is_some() {
                    wrong.push(format!(
                        "{name}: its watchdog is long due, and nobody noticed"
                    ));
                }
                let words = stop_in_time(book, now, self.stolen, name, kernel);
                wrong.extend(words.map(|words| format!("{name}: {words}")));
            }
        }
        if !wrong.is_empty() {
            self.breach(now, wrong.join("; "));
        }
    }

    /// What is shown of one service, against the model.
    fn shown(&self, name: &str, status: &Status, held: bool) -> Vec<String> {
        let Some(book) = self.books.get(name) else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        let mut unless = |holds: bool, words: String| {
            if !holds {
                wrong.push(words);
            }
        };
        let state = status.state.as_str();
        let stopping = state == "stopping";
        if let Some(wanted) = book.wanted {
            let word = match (wanted, book.once) {
                (true, true) => "once",
                (true, false) => "start",
                (false, _) => "stop",
            };
            unless(
                status.wanted == word,
                format!("wanted {}, but the operator said {word}", status.wanted),
            );
            let idle = matches!(state, "inactive" | "exited" | "failed");
            unless(
                wanted || stopping || idle,
                format!("{state}, though wanted stopped"),
            );
        }
        let pinned = status.pinned;
        unless(
            pinned == book.pinned,
            format!("pinned: {pinned}, but the operator said {}", book.pinned),
        );
        unless(
            stopping || status.attempts == book.spent,
            format!(
                "attempts {}, but {} were made since the refund",
                status.attempts, book.spent
            ),
        );
        let timed = status.next_in_ms.is_some();
        let run = book.run.as_ref();
        match state {
            "stopping" => {
                unless(timed, "a stop without an end".to_owned());
                let goes_on = status.next.as_deref() == Some("repair timeout");
                unless(
                    !goes_on || (book.wanted != Some(false) && !self.shutting),
                    "told to stop, and its repair is not asked to end".to_owned(),
                );
            }
            "backoff" => {
                let waits = status.detail.as_deref() == Some("held");
                unless(
                    timed || (waits && held),
                    "a backoff without an end".to_owned(),
                );
            }
            "running" => {
                let judged = status.health.as_deref() != Some("unhealthy") || status.gate.is_some();
                unless(
                    judged,
                    "unhealthy, and the gate has no word on it".to_owned(),
                );
            }
            _ => {}
        }
        if let Some(gate) = status
            .gate
            .as_ref()
            .filter(|gate| gate.verdict == "deferred")
        {
            let reason = gate.reason.as_str();
            let ends = match reason.split_once(' ') {
                _ if reason == "hold" => held,
                _ if reason == "its last answer passed" => run.is_some_and(RunBook::is_recovering),
                _ if reason.starts_with("storm, held") => self.line.is_held(),
                Some(("dependency", other)) => self.books.contains_key(other),
                _ => gate.next_in_ms.is_some(),
            };
            unless(ends, format!("deferred for ever: {reason}"));
            unless(
                run.is_some_and(|run| run.is_judged()),
                "deferred, though its run is being ended".to_owned(),
            );
        }
        wrong
    }

    /// What it waits for is there.
    fn is_free(&self, name: &str) -> bool {
        let Some(definition) = self.books.get(name).and_then(|b| b.definition.clone()) else {
            return false;
        };
        let met = |other: &str| self.books.get(other).is_some_and(|b| b.satisfied);
        definition.requires.iter().all(|other| met(other))
            && definition
                .after
                .iter()
                .chain(&definition.wants)
                .all(|o| met(o))
            && self.is_untied(name, &definition)
    }
}

/// What is learnt from the status alone.
fn see(book: &mut Book, status: &Status) {
    let state = status.state.as_str();
    if book.wanted.is_none() {
        let said = book.said;
        if status.wanted == "stop" && book.run.is_some() {
            // A rival took its place.
            book.stopped();
        }
        book.said = said;
        book.wanted = Some(status.wanted != "stop");
        let by = book.run.as_ref().and_then(|run| run.stop.as_ref());
        let aside = by.is_some_and(|stop| matches!(stop.by, By::Config | By::Operator));
        // It made way for a rival, and is wanted again before it is gone.
        book.excused |= status.wanted == "start" && aside && state == "stopping";
        book.once = status.wanted == "once";
    }
    if std::mem::take(&mut book.perhaps) && state == "failed" {
        // By what it wrote it will not be better a moment later, and somebody is there to see it.
        book.spent = book.spent.saturating_sub(1);
        book.charged = false;
    }
    book.satisfied = satisfied(status);
    book.seen = Some(status.clone());
    book.rests(state);
    if state == "blocked" && status.cause == "dependency" {
        // It waits for what it requires, whatever it came from.
        book.retry = None;
        (book.excused, book.charged) = (true, false);
    }
    if let ("blocked", Some((automatic, restart))) = (state, book.retry) {
        // It waits for something else now.
        book.retry = None;
        book.restarting = restart;
        book.charged |= automatic;
        book.excused |= !automatic;
    }
    book.idle =
        matches!(state, "inactive" | "blocked") || (state == "failed" && status.cause == "config");
}

/// A stop whose time is up for the first time.
fn owes(book: &mut Book, now: Time, late: Duration) {
    let stop = book.run.as_mut().and_then(|run| run.stop.as_mut());
    let stop = stop.filter(|stop| stop.waits.is_none() && stop.evidence.is_none());
    if let Some(stop) = stop.filter(|stop| stop.owed.is_none() && now >= stop.at + stop.timeout) {
        stop.owed = Some(late.saturating_sub(stop.late));
    }
}

fn stop_in_time(
    book: &mut Book,
    now: Time,
    stolen: Duration,
    name: &str,
    kernel: &Kernel,
) -> Option<String> {
    let run = book.run.as_mut()?;
    let alive = kernel.alive(name) > 0;
    let stuck = kernel.stuck_until(name, run.number);
    let (has_pid, exited) = (
        run.pid.is_some(),
        run.exit.is_some_and(|e| e != Exit::Unknown),
    );
    let stop = run.stop.as_ref()?;
    if let Some(until) = stop.waits {
        let words = "those who go down with it are waited for too long";
        return (now > until + STOP_SLACK).then(|| words.to_owned());
    }
    if let Some((_, until)) = stop.evidence {
        let stolen = stolen.saturating_sub(stop.stolen);
        let words = "what it is stuck on is looked at for too long";
        return (now > until + stolen + STOP_SLACK).then(|| words.to_owned());
    }
    // Lateness is found when the time is up, and then given once more.
    let stolen = stolen.saturating_sub(stop.stolen) * 2;
    let due = stop.at + stop.timeout + stolen;
    if alive && has_pid && !exited && !stop.killed && now > due + KILL_SLACK {
        return Some("its time to stop is over, and no SIGKILL was sent".to_owned());
    }
    (now > due.max(stuck) + STOP_SLACK).then(|| "its stop does not end".to_owned())
}
