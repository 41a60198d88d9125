//! The fake kernel's daemons that fork: their first process ends, the main one is looked for.
//!
//! Both are one process here, which lives until the main one ends; what is known of it changes.

use super::kernel::{Answers, Kernel, PidFile, Process, told};
use crate::config::Definition;
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::{Event, Sought};
use crate::exit::{Exit, Signal};
use crate::id::RunId;
use crate::time::Time;
use std::time::Duration;

impl Kernel {
    fn forking(&mut self, service: &str, number: u32) -> Option<&mut Process> {
        self.processes.get_mut(&(service.to_owned(), number))
    }

    /// The first process ends with 0; true: it lived until now, and was watched.
    pub fn forks(&mut self, service: &str, number: u32) -> bool {
        let process = self.forking(service, number);
        process.is_some_and(|process| {
            let lived = process.exit.is_none() && !std::mem::replace(&mut process.forked, true);
            lived && !process.lost
        })
    }

    /// Its main process ended, and nobody knew which that was.
    pub fn is_unwatched(&self, service: &str, number: u32) -> bool {
        self.process(service, number)
            .is_some_and(|process| (process.forked || process.lost) && !process.found)
    }

    /// A daemon that returns knows the first process, which has ended, and no other.
    pub fn is_unnamed(&self, snapshot: &ServiceSnapshot) -> bool {
        let run = snapshot.run.as_ref();
        let named = run.is_some_and(|r| r.told.as_ref().is_some_and(|told| told.main.is_some()));
        let process = self.process(&snapshot.name, snapshot.number);
        !named && process.is_some_and(|process| process.forked || process.lost)
    }

    /// The daemon died before it wrote down whom it had made: one of those is found by its mark,
    /// and the main one is looked for.
    pub fn find_forked(&mut self, snapshot: &mut ServiceSnapshot) {
        let process = self.forking(&snapshot.name, snapshot.number);
        let living = process.filter(|process| process.forks && process.exit.is_none());
        if let (Some(process), Some(run)) = (living, &mut snapshot.run)
            && run.pid.is_none()
        {
            (run.pid, run.started) = (Some(process.pid), 1);
            (run.seeking, process.lost) = (true, true);
        }
    }

    pub fn find_main(
        &mut self,
        now: Time,
        service: &str,
        run: RunId,
        definition: &Definition,
    ) -> Answers {
        let (file, in_trouble) = (self.script(service).pid_file, now < self.trouble_until);
        let path = definition.pid_file.as_deref().unwrap_or("/run/its.pid");
        let Some(process) = self.forking(service, run.number) else {
            return Vec::new();
        };
        // Nobody else is there yet; and whoever is there first writes it.
        let file = if process.forked {
            file
        } else {
            PidFile::Missing
        };
        let sought = match (in_trouble, process.exit, file) {
            (true, _, _) => Sought::NotYet("cannot look for it: fork: no memory".into()),
            (false, Some(_), _) => Sought::Gone(
                format!("pid_file {path} is not there; and no process of it is left").into(),
            ),
            (false, None, PidFile::Missing) => {
                Sought::NotYet(format!("pid_file {path} is not there").into())
            }
            (false, None, PidFile::Wrong) => {
                Sought::Wrong(format!("pid_file {path} holds `x`, which is no process id").into())
            }
            (false, None, PidFile::Good) => {
                process.found = true;
                Sought::Main {
                    pid: process.pid,
                    started: 1,
                }
            }
        };
        told(Duration::from_millis(5), Event::MainSought { run, sought })
    }

    /// What is searched for by its mark is ended, whoever it is.
    pub(super) fn end_unknown_main(&mut self, service: &str, number: u32) {
        if let Some(process) = self.forking(service, number).filter(|p| p.forked || p.lost) {
            process.exit.get_or_insert(Exit::Signal(Signal::TERM));
        }
    }
}
