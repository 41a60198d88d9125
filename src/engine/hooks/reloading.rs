//! `reload NAME`: by signal, or by `reload_exec` and then with an answer when it is done.

use super::*;
use crate::engine::operator::refuse;
use crate::id::Ticket;

impl Engine {
    pub(in crate::engine) fn verb_reload(
        &mut self,
        ticket: Ticket,
        id: ServiceId,
    ) -> Result<Option<String>, Refusal> {
        let service = self.service(id);
        let name = &service.name;
        let running = service.state == State::Running;
        let Some((run, pid)) = service
            .run
            .as_ref()
            .filter(|run| running && run.is_judged())
            .and_then(|run| Some((run, run.main()?)))
        else {
            let words = format!("{name} does not run: it is {}", service.state);
            return Err(refuse(code::IS_DOWN, &words));
        };
        let hooks = &run.definition.hooks;
        if let Some(signal) = hooks.reload_signal {
            let run = run.id;
            let group = false;
            self.effects.push(Effect::Signal {
                run,
                pid,
                signal,
                group,
            });
            return Ok(Some(format!("{signal} sent to pid {pid}")));
        }
        let Some(hook) = run.hooks.next(Purpose::ReloadExec, &run.definition) else {
            let source = &service.source;
            let words = format!(
                "{name} has no `reload_signal` and no `reload_exec`: add one to {source}, or `restart {name}`"
            );
            return Err(refuse(code::CONFIG, &words));
        };
        if run.hooks.live.is_some() {
            let words = format!("{name} is being reloaded: wait for its end");
            return Err(refuse(code::TOO_MANY, &words));
        }
        let (run, until) = (run.id, self.now + hooks.reload_timeout);
        self.reloading.push((run, ticket));
        self.begin_hook(id, hook, until);
        Ok(None)
    }

    pub(super) fn reload_exec_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        failure: Option<Box<str>>,
    ) {
        let key = self.service_key(id, Key::lifecycle);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let (run_id, over) = (run.id, run.exit.is_some());
        let stopping = run.stop.is_some();
        let index = hook.index.saturating_add(1);
        let next = Hook { index, ..hook };
        let more = next.argv(&run.definition).is_some();
        let limit = run.definition.hooks.reload_timeout;
        if failure.is_none() && !live.killed && !stopping && more {
            return self.begin_hook(id, next, live.until);
        }
        let failure = match (live.killed, stopping) {
            (_, true) => Some("reload_exec: ended, the service is stopping".into()),
            (true, false) => Some(format!("reload_exec: not done within {}", spoken(limit)).into()),
            (false, false) => failure,
        };
        if !stopping {
            self.timers.cancel(key);
            self.tell_hook(id, failure.clone().or(Some("reload_exec done".into())));
        }
        self.answer_reload(run_id, failure);
        match (stopping, over) {
            (true, true) => self.clear_up(id),
            (true, false) => {
                let stop = self.stop_mut(id).map(|stop| stop.deadline);
                self.timers.set(key, stop.unwrap_or(self.now));
                self.begin_stop(id);
            }
            (false, _) => {}
        }
    }

    pub(super) fn answer_reload(&mut self, run: RunId, failure: Option<Box<str>>) {
        let Some(at) = self.reloading.iter().position(|(who, _)| *who == run) else {
            return;
        };
        let (_, ticket) = self.reloading.remove(at);
        let note = "reload_exec done".into();
        let answer = match failure {
            Some(words) => Err(refuse(code::HOOK_FAILED, &words)),
            None => Ok(Accepted {
                note,
                ..Accepted::default()
            }),
        };
        self.answer(ticket, answer);
    }
}
