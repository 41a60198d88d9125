//! What is written down: the scribe's answers and its death, the runtime journal's turn and its
//! compaction.

use super::*;

impl Reactor {
    pub(super) fn scribe_ready(&mut self) {
        let mut acks = Vec::new();
        let state = self.scribe.on_ready(&mut acks);
        for ack in acks {
            if ack.seq == scribe::frame::RECORDING {
                self.recording_failed(&ack.result.err().unwrap_or_default());
                continue;
            }
            if ack.seq == scribe::frame::DOSSIER {
                log::warn!("not written: {}", ack.result.err().unwrap_or_default());
                continue;
            }
            if ack.seq == scribe::frame::SYSLOG {
                syslog_said(&ack.result);
                continue;
            }
            self.durable(ack);
        }
        if let scribe::State::Died(how) = state {
            log::error!("the scribe died ({how}); a new one is started");
            self.recording_failed("the scribe died");
            let due = self.now + SCRIBE_PAUSE;
            self.wheel.set(timer_key(self.scribe_token), due);
        }
    }

    /// What the scribe says of records.
    pub(super) fn durable(&mut self, ack: scribe::frame::Ack) {
        let error: Option<Box<str>> = ack.result.err().map(Into::into);
        match (&self.state_trouble, &error) {
            (None, Some(why)) => log::error!(
                "{why}: what operators want is not on disk yet; services are supervised, and it \
                 is tried again"
            ),
            (Some(_), None) => log::info!("what operators want is on disk again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.state_trouble.clone_from(&error);
        self.handle(Event::Durable {
            seq: ack.seq,
            error,
        });
    }

    pub(super) fn restart_scribe(&mut self) {
        if let Err(error) = self.scribe.restart() {
            log::error!("cannot start the scribe: {error}; tried again");
            let due = self.now + SCRIBE_PAUSE;
            self.wheel.set(timer_key(self.scribe_token), due);
        }
    }

    /// Waits until no scribe of a daemon before us writes any more; false: it still does.
    pub fn scribe_before_gone(&self, patience: Duration) -> bool {
        let lock = self.locks.state.as_ref();
        lock.is_none_or(|lock| lock.scribe_gone(self.scribe.pid(), patience))
    }

    /// The file of what operators want was damaged, or is mostly history.
    pub fn rewrite_state(&mut self) {
        self.scribe.rewrite();
    }

    pub(super) fn flush_records(&mut self) {
        if !std::mem::take(&mut self.unflushed) {
            return;
        }
        if let Err(failure) = self.runtime.flush(self.now)
            && failure.first
        {
            log::error!(
                "{}: services are supervised, but what happens is not remembered should the \
                 daemon die",
                failure.fault
            );
        }
    }

    pub(super) fn mind_journal(&mut self) {
        if self.runtime.compaction_due(self.now) {
            self.compact_journal();
        }
    }

    pub(super) fn compact_journal(&mut self) {
        let key = timer_key(self.journal_token);
        let mut done = self.runtime.compact(self.now, &mut self.engine.records());
        if let Err(failure) = &done
            && matches!(failure.fault.errno, libc::ENOSPC | libc::EDQUOT)
            && (self.runtime)
                .compact_in_place(self.now, &mut self.engine.records())
                .is_ok()
        {
            done = Ok(());
        }
        match (done, self.runtime.deadline()) {
            (Err(failure), deadline) => {
                if failure.first {
                    log::error!("{}", failure.fault);
                }
                let due = deadline.unwrap_or(self.now + Duration::from_secs(10));
                self.wheel.set(key, due);
            }
            (Ok(()), _) => {
                self.wheel.cancel(key);
            }
        }
    }
}

/// Whether syslog takes what services write.
fn syslog_said(result: &Result<(), String>) {
    match result {
        Ok(()) => log::info!("syslog takes messages"),
        Err(why) => log::warn!(
            "syslog does not take messages: {why}: lines for it are dropped and counted until it \
             does"
        ),
    }
}
