//! Effects, done. One arm each; nothing here decides.

use super::*;
use crate::engine::Record;
use crate::engine::story::TransitionKind;

impl Reactor {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(record) => {
                self.runtime.push(self.now, &record);
                self.unflushed = true;
                if let Record::Reload(Some(reload)) = &record
                    && let Some(back) = &reload.went_back
                {
                    log::warn!("the reload by {} went back: {}", reload.by, back.why);
                }
                if let Record::Transition(transition) = &record
                    && matches!(
                        transition.kind,
                        TransitionKind::Host | TransitionKind::Storm
                    )
                {
                    log::warn!("{}", transition.detail);
                }
                if !matches!(record, Record::Service(_) | Record::Alert(_)) {
                    self.publish(&record);
                }
            }
            Effect::Remember { seq, wanted } => {
                if let Err(why) = self.scribe.remember(seq, &wanted) {
                    let error = Some(why.into());
                    self.caused.push_back(Event::Durable { seq, error });
                }
            }
            Effect::Keep { seq, reload } => {
                if let Err(why) = self.scribe.keep(seq, reload.as_deref()) {
                    let error = Some(why.into());
                    self.caused.push_back(Event::Durable { seq, error });
                }
            }
            Effect::Spawn { run, definition } => {
                self.flush_records();
                self.spawn(run, &definition);
            }
            Effect::Signal {
                run, signal, group, ..
            } => {
                self.flush_records();
                self.signal(run, signal, group);
            }
            Effect::Hook {
                run,
                hook,
                definition,
                main,
                end,
            } => {
                self.flush_records();
                self.run_hook(run, hook, &definition, main, end);
            }
            Effect::HookSignal { run, hook, signal } => {
                self.flush_records();
                self.signal_hook(run, hook, signal);
            }
            Effect::EndTree {
                run,
                pid,
                signal,
                grace,
            } => {
                self.flush_records();
                self.end_tree(run, pid, signal, grace);
            }
            Effect::KillTree { run, pid } => {
                self.flush_records();
                self.end_tree(run, pid, Signal::KILL, Duration::ZERO);
            }
            Effect::CollectEvidence {
                run,
                pid,
                definition,
                cause,
                reason,
                timeout,
            } => {
                self.flush_records();
                self.collect_evidence(run, pid, &definition, (cause, reason), timeout);
            }
            Effect::EvidenceOver { run, more } => self.evidence_over(run, more),
            Effect::Check { check, definition } => self.begin_check(check, &definition),
            Effect::CheckExpired { check } => {
                self.look_for_check(check.run);
                self.expire_check(check);
            }
            Effect::Look { run } => self.look(run),
            Effect::CheckCancelled { check } => self.cancel_check(check),
            Effect::Answer { ticket, mut answer } => {
                self.flush_records();
                if let (Ok(accepted), Some(fault)) = (&mut answer, self.runtime.trouble()) {
                    // Done, but should the daemon die it is forgotten.
                    accepted.durable = Some(Err(fault.to_string().into()));
                }
                self.answer(ticket, &answer);
            }
            Effect::TellExhausted {
                service,
                definition,
                reason,
            } => {
                self.flush_records();
                self.tell_exhausted(service, &definition, &reason);
            }
            Effect::SendAlert {
                rule, alert, last, ..
            } => {
                self.flush_records();
                self.send_alert(rule, &alert, last);
            }
            Effect::AlertExpired { number } => self.expire_alert(number),
            Effect::AskDue {
                service,
                since_ms,
                definition,
            } => self.look_up_due(service, &definition, since_ms),
            Effect::FindMain { run, definition } => {
                self.flush_records();
                self.find_main(run, &definition);
            }
            Effect::RemoveDirectories {
                service,
                runtime,
                definition,
            } => self.remove_directories(service, runtime, &definition),
            Effect::Listen {
                service,
                definition,
                watch,
            } => self.listen(service, &definition, watch),
            Effect::Unlisten { service } => self.unlisten(service),
            Effect::Unstore { service } => self.unstore(service),
            Effect::Forget { service } => self.forget(service),
            Effect::FeedWatchdog => self.feed_watchdog(),
            Effect::BootWell => self.clear_boots(),
            Effect::CountReboot { service } => self.count_reboot(service),
            Effect::Reboot => self.ends_in(Ending::Reboot),
            Effect::TellAlive => parent::alive(),
            Effect::RevertSettings => self.settings_went_back(),
            Effect::Exit { code } => self.exit = Some(code),
        }
    }

    fn forget(&mut self, id: ServiceId) {
        self.forget_voice(id);
        self.forget_dossier(id);
        self.unlisten(id);
        self.leaves.forget(id, self.engine.name(id));
        self.forget_log(id);
    }
}
