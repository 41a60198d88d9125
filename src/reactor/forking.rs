//! The loop's part in finding the main process of a daemon that forks: the helper that looks, and
//! the process that is watched from then on.
//!
//! What is believed of a pid file is `pid_file`'s, what follows from it the engine's.
//!
//! Invariant: a process is watched only while the run it was found for waits for it.

use super::jobs::Work;
use super::pid_file::{self, MainJob};
use super::runs::Process;
use super::tree::{RunMark, TreeJob};
use super::*;
use crate::engine::Sought;

/// What a helper may say.
const LIMIT: usize = 4096;

impl Reactor {
    pub(super) fn find_main(&mut self, run: RunId, definition: &Definition) {
        let process = &definition.process;
        let who = self.spawner.accounts().resolve(
            process.user.as_deref(),
            process.group.as_deref(),
            process.groups.as_deref(),
        );
        let leader = self.engine.runs().find(|(known, ..)| *known == run);
        let (Ok(who), Some((_, leader, started))) = (who, leader) else {
            let words = "its user is not known any more".into();
            let sought = Sought::NotYet(words);
            return self.caused.push_back(Event::MainSought { run, sought });
        };
        let mut known: Vec<Pid> = self.children.keys().copied().collect();
        known.extend(self.scribe.pid().map(Pid));
        let job = MainJob {
            pid_file: definition.pid_file.as_deref().map(str::to_owned),
            uid: who.uid,
            tree: TreeJob {
                main: leader,
                started,
                also: None,
                mark: RunMark {
                    run: format!("{}/{}", self.name(run.service), run.number),
                    socket: self.socket.clone(),
                },
                signal: Signal::TERM,
                grace: Duration::ZERO,
                leaf: self.leaves.made(self.name(run.service)),
            },
            known,
        };
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-main", origin, &[], LIMIT, move |out| {
            let line = pid_file::encode(&pid_file::find(&job));
            u8::from(io::Write::write_all(out, line.as_bytes()).is_err())
        });
        let work = Work::Main { run };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            // Our own want of something; it is tried again.
            let sought = Sought::NotYet(format!("cannot look for it: {error}").into());
            self.caused.push_back(Event::MainSought { run, sought });
        }
    }

    /// What the helper found.
    pub(super) fn main_found(&mut self, run: RunId, line: &str) {
        if !self.engine.seeks_main(run) {
            return;
        }
        let lost = || Sought::NotYet("whoever looked for it died".into());
        let sought = match pid_file::decode(line).unwrap_or_else(lost) {
            Sought::Main { pid, started } => self.watch_main(run, pid, started),
            other => other,
        };
        self.caused.push_back(Event::MainSought { run, sought });
    }

    fn watch_main(&mut self, run: RunId, pid: Pid, started: u64) -> Sought {
        let id = run.service;
        let leader = self.engine.runs().find(|(known, ..)| *known == run);
        // The number could have changed hands until here, not from here on.
        let pidfd = child::adopt(pid, started, false);
        let (Some(pidfd), Some((_, leader, _))) = (pidfd, leader) else {
            return Sought::NotYet(format!("its main process {pid} has ended").into());
        };
        let token = self.sources.insert(Source::Process(id));
        if let Err(error) = self.register(&pidfd, token) {
            self.sources.remove(token);
            return Sought::NotYet(format!("cannot watch its main process: {error}").into());
        }
        log::info!("{}: its main process is {pid}", self.name(id));
        self.children.insert(pid, Child::Service);
        let process = Process::forked(run, pid, leader, pidfd, token);
        *Self::slot(&mut self.processes, id) = Some(Box::new(process));
        // It may have ended before it was watched.
        self.recheck.push(id);
        Sought::Main { pid, started }
    }
}
