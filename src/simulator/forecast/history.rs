//! A scenario made of what really happened: when a service was seen to fail, to answer again, to
//! end; and what operators did.
//!
//! Of a history only changes are known, so this is how they are read:
//! - a failure began before the first of its failing probes, in the run that was there then, which
//!   stays so until it is restarted, or answered again by itself;
//! - a run that died within the stability period after its start (a minute at most), or never got
//!   ready, would have been the same had it been started a little earlier or later: so are all that
//!   begin between its start and the next;
//! - any other end comes at its time, if the service runs then.

use super::scenario::{Deed, Scenario, Statement, Verb, When};
use crate::config::Definition;
use crate::control::forecast::Actual;
use crate::engine::query::{decision_line, transition_line};
use crate::engine::status::{StoryLine, Why};
use crate::engine::story::{Decision, Transition};
use crate::exit::{Exit, Signal};
use crate::journal::line;
use crate::limits::SIMULATED_STATEMENTS;
use crate::probe::Reason;
use crate::simulator::kernel::Mood;
use crate::time::{Time, Wall, millis};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;

pub struct History {
    pub scenario: Scenario,
    /// Wall clock of its beginning, milliseconds since 1970; None where none was written down.
    pub origin_ms: Option<u64>,
    pub actual: Actual,
    pub assumed: Vec<String>,
}

/// The lines of a file: what `history --json`, `why --json` or `events --json` wrote, a
/// recording, or a runtime journal; and whether their times are of the wall clock.
pub fn lines(bytes: &[u8]) -> Result<(Vec<StoryLine>, bool), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| UNKNOWN.to_owned())?;
    let begin = text.trim_start();
    if begin.starts_with('[') {
        let read = serde_json::from_slice(text.as_bytes());
        return read
            .map(|lines| (lines, true))
            .map_err(|e| format!("{UNKNOWN}: {e}"));
    }
    if !begin.starts_with('{') {
        return journal(bytes);
    }
    if let Ok(why) = serde_json::from_slice::<Why>(text.as_bytes())
        && !why.story.is_empty()
    {
        return Ok((why.story, true));
    }
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            let read = serde_json::from_slice(line.as_bytes());
            lines.push(read.map_err(|e| format!("line {}: {UNKNOWN}: {e}", number + 1))?);
        }
    }
    Ok((lines, true))
}

const UNKNOWN: &str = "no history: that is what `vitald history NAME --json` or `vitald events \
                       --json` wrote, a recording or a journal";

/// The instant at which a recording's part begins, by both clocks.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Clocks {
    now: Time,
    wall_ms: u64,
}

fn journal(bytes: &[u8]) -> Result<(Vec<StoryLine>, bool), String> {
    let mut lines = Vec::new();
    let mut wall = None;
    line::scan(bytes, &mut |kind, value| match kind {
        "recording" => {
            if let Ok(Clocks { now, wall_ms }) = serde_json::from_slice(value) {
                wall = Some(Wall { now, wall_ms });
            }
        }
        "out" => {
            for record in records(value) {
                for (kind, value) in parts(record) {
                    let kind = kind.to_ascii_lowercase();
                    lines.extend(line_of(&kind, value.as_bytes(), wall));
                }
            }
        }
        kind => lines.extend(line_of(kind, value, wall)),
    });
    match lines.is_empty() {
        true => Err(UNKNOWN.to_owned()),
        false => Ok((lines, wall.is_some())),
    }
}

/// The records among a recording's effects: `[{"Record": …}, …]`.
fn records(effects: &[u8]) -> Vec<&str> {
    let effects = std::str::from_utf8(effects).unwrap_or_default();
    let effects: Vec<&RawValue> = serde_json::from_slice(effects.as_bytes()).unwrap_or_default();
    let parts = effects.into_iter().flat_map(|effect| parts(effect.get()));
    let records = parts.filter(|(kind, _)| kind.eq_ignore_ascii_case("record"));
    records.map(|(_, value)| value).collect()
}

/// The members of an object whose names need no escapes; of anything else none.
fn parts(object: &str) -> BTreeMap<&str, &str> {
    let parts: Option<BTreeMap<&str, &RawValue>> = serde_json::from_slice(object.as_bytes()).ok();
    let parts = parts.unwrap_or_default().into_iter();
    parts.map(|(name, value)| (name, value.get())).collect()
}

fn line_of(kind: &str, value: &[u8], wall: Option<Wall>) -> Option<StoryLine> {
    let wall = wall.unwrap_or_default();
    match kind {
        "transition" => {
            let transition: Transition = serde_json::from_slice(value).ok()?;
            Some(transition_line(&transition, wall))
        }
        "decision" => {
            let decision: Decision = serde_json::from_slice(value).ok()?;
            Some(decision_line(&decision, wall))
        }
        _ => None,
    }
}

impl History {
    /// The history of one service; `definition` is what it ran under, `end_ms` how far it is
    /// known, if farther than its last line.
    pub fn read(
        name: &str,
        lines: &[StoryLine],
        wall: bool,
        definition: &Definition,
        end_ms: Option<u64>,
    ) -> Result<History, String> {
        let mut own: Vec<(u64, &StoryLine)> = lines
            .iter()
            .filter(|line| line.service == name || line.kind == "hold")
            .filter_map(|line| Some((at_ms(&line.time)?, line)))
            .collect();
        own.sort_by_key(|(at, line)| (*at, line.seq));
        let begin = own
            .iter()
            .find(|(_, line)| line.service == name && line.kind != "decision");
        let Some(&(begin, _)) = begin else {
            return Err(format!("nothing is told there of `{name}`"));
        };
        let last = own.last().map_or(begin, |(at, _)| *at);
        let end = end_ms.unwrap_or(last).max(last);
        let mut reading = Reading::new(definition);
        for (at, line) in own.iter().filter(|(at, _)| *at >= begin) {
            reading.take(at - begin, line);
        }
        reading.end_run(Time::MAX);
        let mut scenario = Scenario {
            statements: reading.statements,
            length: Duration::from_millis((end - begin).max(1000)),
        };
        let mut assumed = vec![
            "the service would have behaved the same under the other policy: a run that hung stays \
             hung until a restart, a crash comes at its time if it runs then, a start that failed \
             fails again until the time of the next that did not"
                .to_owned(),
            "the budget was full at the beginning, and the definition until now was the present \
             file's"
                .to_owned(),
        ];
        if scenario.statements.len() > SIMULATED_STATEMENTS {
            scenario.statements.truncate(SIMULATED_STATEMENTS);
            assumed.push(format!(
                "only the first {SIMULATED_STATEMENTS} troubles are replayed"
            ));
        }
        Ok(History {
            scenario,
            origin_ms: wall.then_some(begin),
            actual: reading.actual,
            assumed,
        })
    }
}

fn at_ms(time: &str) -> Option<u64> {
    let at = humantime::parse_rfc3339(time).ok()?;
    at.duration_since(std::time::UNIX_EPOCH).ok().map(millis)
}

/// A run that dies older than this did not die of its start.
const YOUNG: Duration = Duration::from_secs(60);

/// A little before a start: its moment is not met to the millisecond, least of all with jitter.
fn early(before: Time, born: Time) -> Time {
    born - (born.since(before) / 2).min(Duration::from_secs(1))
}

/// A run that failed young: how, so long after its start.
struct Young {
    born: Time,
    /// From then on a run would have failed like it.
    from: Time,
    after: Duration,
    deed: Deed,
    words: String,
}

struct Reading<'a> {
    definition: &'a Definition,
    statements: Vec<Statement>,
    actual: Actual,
    /// When the present run began, where that is known.
    born: Option<Time>,
    /// When it was last seen to become well.
    well: Option<Time>,
    /// When the one before it began.
    before: Option<Time>,
    young: Option<Young>,
    first: bool,
    /// An operator's will just changed: what follows is its consequence.
    willed_at: Option<u64>,
}

impl<'a> Reading<'a> {
    fn new(definition: &'a Definition) -> Reading<'a> {
        Reading {
            definition,
            statements: Vec::new(),
            actual: Actual::default(),
            born: None,
            well: None,
            before: None,
            young: None,
            first: true,
            willed_at: None,
        }
    }

    fn take(&mut self, at: u64, line: &StoryLine) {
        let time = Time::from_millis(at);
        match line.kind.as_str() {
            "state" => self.state(at, line),
            "health" if line.to == "unhealthy" => self.fails(time, &line.detail),
            "health" if line.from == "unhealthy" && line.to == "healthy" => {
                self.well = Some(time);
                self.put(When::At(time), Deed::Answer, "answer");
            }
            "wanted" if line.cause == "operator" => {
                self.willed_at = Some(at);
                match line.to.as_str() {
                    "stop" => self.put(When::At(time), Deed::Operator(Verb::Stop), "stop"),
                    _ => self.put(When::At(time), Deed::Operator(Verb::Start), "start"),
                }
            }
            "hold" if line.to == "held" => self.put(When::At(time), Deed::Hold(None), "hold"),
            "hold" => self.put(When::At(time), Deed::Release, "release"),
            "decision" if line.to == "denied" && line.detail.starts_with("budget") => {
                self.actual.gave_up_ms.get_or_insert(at);
            }
            _ => {}
        }
        if line.kind == "state" {
            self.first = false;
        }
    }

    fn state(&mut self, at: u64, line: &StoryLine) {
        let time = Time::from_millis(at);
        match (line.from.as_str(), line.to.as_str(), line.cause.as_str()) {
            (from, "starting", cause) => {
                if matches!((from, cause), ("running" | "starting", "exit")) {
                    self.dies(time, &line.detail);
                }
                self.end_run(time);
                self.before = self.born.replace(time);
                self.well = None;
                if matches!(cause, "unhealthy" | "exit" | "start_timeout" | "watchdog")
                    && !self.first
                {
                    self.actual.restarts += 1;
                }
            }
            (_, "running", _) => self.well = Some(time),
            ("starting", "stopping", "start_timeout") => {
                let deed = Deed::Mood {
                    mood: Mood::Mute,
                    for_good: false,
                };
                self.fails_young(Duration::ZERO, deed, "hang".to_owned());
            }
            ("running", "stopping", "operator") if self.willed_at != Some(at) => {
                self.put(When::At(time), Deed::Operator(Verb::Restart), "restart");
            }
            ("running" | "starting", "backoff" | "failed" | "exited", "exit") => {
                self.dies(time, &line.detail);
            }
            _ => {}
        }
    }

    /// It ended by itself: `exit code 1`, `signal SIGSEGV`.
    fn dies(&mut self, time: Time, detail: &str) {
        let word_after = |mark: &str| {
            let (_, rest) = detail.split_once(mark)?;
            rest.split([' ', ')', ';', ',']).next()
        };
        let exit = match (word_after("exit code "), word_after("signal ")) {
            (Some(code), _) => Exit::Code(code.parse().unwrap_or(1)),
            (None, Some(signal)) => Exit::Signal(Signal::parse(signal).unwrap_or(Signal::KILL)),
            (None, None) => Exit::Code(1),
        };
        let words = match exit {
            Exit::Code(code) => format!("exit {code}"),
            Exit::Signal(signal) => format!("die {signal}"),
            Exit::Unknown => "exit 1".to_owned(),
        };
        let age = self.born.map(|born| time.since(born));
        let young = self.definition.retry_policy.stability_period.min(YOUNG);
        match age.filter(|age| *age < young) {
            Some(age) => self.fails_young(age, Deed::Dies(exit), words),
            None => self.put(When::At(time), Deed::Dies(exit), &words),
        }
    }

    fn fails_young(&mut self, after: Duration, deed: Deed, words: String) {
        if let Some(born) = self.born {
            self.young = Some(Young {
                born,
                from: self.before.map_or(Time::ZERO, |before| early(before, born)),
                after,
                deed,
                words,
            });
        }
    }

    /// The present run is over, and another begins: what befell a young one befalls all that begin
    /// meanwhile.
    fn end_run(&mut self, until: Time) {
        let Some(young) = self.young.take() else {
            return;
        };
        let until = match until {
            Time::MAX => until,
            until => early(young.born, until),
        };
        let when = When::AfterStart {
            after: young.after,
            from: young.from,
            until,
        };
        self.put(when, young.deed, &young.words);
    }

    /// `http: timeout, 3 in a row`: it began to fail so many intervals ago.
    fn fails(&mut self, time: Time, detail: &str) {
        let detail = detail.split(';').next().unwrap_or_default();
        let (name, rest) = detail.split_once(": ").unwrap_or(("", detail));
        let (reason, row) = rest.rsplit_once(", ").unwrap_or((rest, ""));
        let row: u32 = row
            .split(' ')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap_or(1);
        let probe = self
            .definition
            .probes
            .iter()
            .find(|probe| *probe.name == *name);
        let (mood, words) = match reason {
            "timeout" => (Mood::Mute, "hang".to_owned()),
            "connection refused" => (Mood::Fail(Reason::Refused), "refuse".to_owned()),
            "empty reply" => (Mood::Fail(Reason::EmptyReply), "empty".to_owned()),
            other => match other
                .strip_prefix("status ")
                .and_then(|code| code.parse().ok())
            {
                Some(code) => (Mood::Fail(Reason::Status(code)), format!("status {code}")),
                None => (Mood::Mute, "hang".to_owned()),
            },
        };
        let since = probe.map_or(Duration::ZERO, |probe| {
            let waited = if mood == Mood::Mute {
                probe.timeout
            } else {
                Duration::ZERO
            };
            let rounds = probe.interval.saturating_mul(row.saturating_sub(1));
            rounds + waited + Duration::from_millis(1)
        });
        // After it was well, and by so much that the simulated run is, too.
        let well = self.well.or(self.born).unwrap_or_default();
        let soonest = well + (time.since(well) / 2).min(Duration::from_secs(1));
        let began = (time - since).max(soonest);
        let for_good = false;
        self.put(When::At(began), Deed::Mood { mood, for_good }, &words);
    }

    fn put(&mut self, when: When, deed: Deed, words: &str) {
        self.statements.push(Statement {
            service: None,
            when,
            deed,
            words: words.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use serde_json::json;

    fn transition(seq: u64, at: u64, from: &str, to: &str, cause: &str, detail: &str) -> Value {
        json!({"seq": seq, "at": at * 1_000_000, "service": "web", "run": seq / 2 + 1,
               "kind": "state", "from": from, "to": to, "cause": cause, "detail": detail})
    }

    type Value = serde_json::Value;

    /// A run that crashes after ten minutes, started again at once.
    fn story() -> Vec<Value> {
        vec![
            transition(1, 1000, "inactive", "starting", "boot", ""),
            transition(2, 1001, "starting", "running", "boot", "ready after 1 s"),
            transition(3, 1600, "running", "backoff", "exit", "signal SIGSEGV"),
            transition(4, 1601, "backoff", "starting", "exit", ""),
        ]
    }

    fn read(bytes: &[u8]) -> History {
        let (lines, wall) = lines(bytes).expect("a history");
        let definition = load::read("web", "web.toml", b"exec = ['web']").definition;
        History::read(
            "web",
            &lines,
            wall,
            &definition.expect("a definition"),
            None,
        )
        .expect("read")
    }

    fn told(history: &History) -> (Vec<String>, Option<u64>, u32) {
        let statements = history.scenario.statements.iter().map(Statement::text);
        (
            statements.collect(),
            history.origin_ms,
            history.actual.restarts,
        )
    }

    #[test]
    fn recordings_and_journals_say_the_same_as_the_daemon() {
        let wall = json!({"now": 1_000_000_000u64, "wall_ms": 5_000_000});
        let mut recording = Vec::new();
        line::write(&mut recording, "recording", &wall).unwrap();
        for transition in story() {
            let out = json!([{"Spawn": {}}, 7, {"Record": {"Transition": transition}}]);
            line::write(&mut recording, "out", &out).unwrap();
        }
        let crash = vec!["at 10m die SIGSEGV".to_owned()];
        assert_eq!(told(&read(&recording)), (crash.clone(), Some(5_000_000), 1));
        let mut journal = Vec::new();
        for transition in story() {
            line::write(&mut journal, "transition", &transition).unwrap();
        }
        assert_eq!(told(&read(&journal)), (crash.clone(), None, 1));
        // What `events --json` and `history --json` write.
        let (lines, _) = lines(&recording).unwrap();
        let events: Vec<String> = lines
            .iter()
            .map(|line| serde_json::to_string(line).unwrap())
            .collect();
        let told = |text: String| told(&read(text.as_bytes()));
        assert_eq!(told(events.join("\n")), (crash.clone(), Some(5_000_000), 1));
        assert_eq!(
            told(format!("[{}]", events.join(","))),
            (crash, Some(5_000_000), 1)
        );
    }

    #[test]
    fn what_is_no_history_is_said_to_be_none() {
        for bytes in [
            &b""[..],
            b"[",
            b"{}x",
            b"hello",
            b"\xff",
            b"{\"story\": []}\n{",
        ] {
            let why = lines(bytes).err().unwrap_or_default();
            assert!(
                why.contains("no history"),
                "{}: {why}",
                String::from_utf8_lossy(bytes)
            );
        }
        let definition = load::read("web", "web.toml", b"exec = ['web']")
            .definition
            .unwrap();
        let none = History::read("web", &[], true, &definition, None)
            .err()
            .unwrap();
        assert!(none.contains("nothing is told there of `web`"), "{none}");
    }

    /// How soon a young run died, and from when until when others would have.
    #[test]
    fn a_start_that_failed_fails_again_until_the_next_that_did_not() {
        let crash = |seq, at| transition(seq, at, "starting", "backoff", "exit", "exit code 3");
        let start = |seq, at| transition(seq, at, "backoff", "starting", "exit", "");
        let mut journal = Vec::new();
        let story = [
            transition(1, 1000, "inactive", "starting", "boot", ""),
            crash(2, 1002),
            start(3, 1010),
            crash(4, 1013),
            start(5, 1050),
            transition(6, 1051, "starting", "running", "exit", "ready after 1 s"),
        ];
        for transition in story {
            line::write(&mut journal, "transition", &transition).unwrap();
        }
        let (statements, _, restarts) = told(&read(&journal));
        let said = [
            "exit 3 2s after each start until 9s",
            "exit 3 3s after each start from 9s until 49s",
        ];
        assert_eq!(
            (statements, restarts),
            (said.map(str::to_owned).to_vec(), 2)
        );
    }
}
