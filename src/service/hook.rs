//! The commands around a run: which there are, and how far a run is with them.
//!
//! Not here: when they are run (`engine::hooks`), what they are (the definition).
//!
//! Invariant: of one run at most one command is under way.

use crate::config::{Definition, Hooks};
use crate::id::Pid;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a command is for; the key that holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Before the program.
    PreStart,
    /// To stop it.
    StopExec,
    /// When nothing of the run is left.
    PostStop,
    /// To make it read its configuration anew.
    ReloadExec,
    /// To take back what a oneshot has done.
    Undo,
    /// To tell more of what it is stuck on, before it is stopped for that.
    Diagnose,
    /// To repair what restarts did not cure, between two runs. Its index is that of its rung.
    Repair,
}

/// One command of a run: the `index`th of its list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Hook {
    pub purpose: Purpose,
    pub index: u8,
}

/// How far a run is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The program was not asked for yet: `pre_start` is under way.
    pub waits: bool,
    /// The program's spawn failed for our own want of something, and is to be tried again in this
    /// run, for which `pre_start` is done.
    pub again: bool,
    /// Commands of each list that are over.
    pub pre_start: u8,
    pub stop_exec: u8,
    pub post_stop: u8,
    #[serde(skip_serializing_if = "is_zero")]
    pub undo: u8,
    /// The repair of this rung is to be made, when nothing of the run is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<u8>,
    /// When the time of all of `post_stop` is up.
    pub post_until: Option<Time>,
    pub live: Option<Live>,
    /// Something of it may live on, although what was run has ended.
    pub leftovers: bool,
    /// Why the start failed before the program ran.
    pub failed: Option<Box<str>>,
    /// It failed so that trying again would not help.
    pub hopeless: bool,
    /// Start time of the run's first process, clock ticks since boot; 0: it is the program's.
    pub began: u64,
    /// The last command's number: where the program never ran, the run's.
    pub last: Option<Pid>,
}

/// The command that is under way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Live {
    pub hook: Hook,
    /// None until the process exists.
    pub pid: Option<Pid>,
    /// As /proc tells it, clock ticks since boot.
    pub started: u64,
    /// When the time of its whole list is up.
    pub until: Time,
    /// It was sent SIGKILL.
    pub killed: bool,
    /// It was asked to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// It could not be spawned for our own want of something, and waits to be tried again.
    pub retry: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Purpose {
    pub const ALL: [Purpose; 7] = [
        Purpose::PreStart,
        Purpose::StopExec,
        Purpose::PostStop,
        Purpose::ReloadExec,
        Purpose::Undo,
        Purpose::Diagnose,
        Purpose::Repair,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Purpose::PreStart => "pre_start",
            Purpose::StopExec => "stop_exec",
            Purpose::PostStop => "post_stop",
            Purpose::ReloadExec => "reload_exec",
            Purpose::Undo => "undo",
            Purpose::Diagnose => "diagnose",
            Purpose::Repair => "repair",
        }
    }

    pub fn parse(word: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|p| p.word() == word)
    }
}

impl Hook {
    /// `pre_start/0`, as VITALD_HOOK says it, read back.
    pub fn parse(text: &str) -> Option<Hook> {
        let (word, index) = text.split_once('/')?;
        Some(Hook {
            purpose: Purpose::parse(word)?,
            index: index.parse().ok()?,
        })
    }

    /// Program and arguments; None: the definition changed and has it no more.
    pub fn argv(self, definition: &Definition) -> Option<&[Box<str>]> {
        let hooks = &definition.hooks;
        let index = usize::from(self.index);
        let commands = match self.purpose {
            Purpose::PreStart => &hooks.pre_start,
            Purpose::StopExec => &hooks.stop_exec,
            Purpose::PostStop => &hooks.post_stop,
            Purpose::ReloadExec => &hooks.reload_exec,
            Purpose::Undo => &hooks.undo,
            Purpose::Diagnose => &hooks.diagnose,
            Purpose::Repair => {
                let rung = definition.retry_policy.rungs().get(index)?;
                return rung.action.repair().map(|(argv, _)| argv);
            }
        };
        commands.get(index).map(|argv| &**argv)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.purpose.word(), self.index)
    }
}

impl Progress {
    /// Of a run that begins.
    pub fn of(hooks: &Hooks) -> Progress {
        Progress {
            waits: !hooks.pre_start.is_empty(),
            ..Progress::default()
        }
    }

    /// The next command of this list; None: all are over.
    pub fn next(&self, purpose: Purpose, definition: &Definition) -> Option<Hook> {
        let index = match purpose {
            Purpose::PreStart => self.pre_start,
            Purpose::StopExec => self.stop_exec,
            Purpose::PostStop => self.post_stop,
            Purpose::Undo => self.undo,
            Purpose::ReloadExec | Purpose::Diagnose => 0,
            Purpose::Repair => self.repair?,
        };
        let hook = Hook { purpose, index };
        hook.argv(definition).map(|_| hook)
    }

    /// This command is over.
    pub fn done(&mut self, hook: Hook) {
        let over = hook.index.saturating_add(1);
        match hook.purpose {
            Purpose::PreStart => self.pre_start = over,
            Purpose::StopExec => self.stop_exec = over,
            Purpose::PostStop => self.post_stop = over,
            Purpose::Undo => self.undo = over,
            Purpose::Repair => self.repair = None,
            Purpose::ReloadExec | Purpose::Diagnose => {}
        }
    }

    pub fn is_live(&self, purpose: Purpose) -> bool {
        self.live
            .as_ref()
            .is_some_and(|l| l.hook.purpose == purpose)
    }

    /// Nothing is to be remembered of it: what a program left behind is looked for anew.
    pub fn is_blank(&self) -> bool {
        let without = Progress {
            leftovers: false,
            ..self.clone()
        };
        without == Progress::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for purpose in Purpose::ALL {
            let hook = Hook { purpose, index: 3 };
            assert_eq!(Hook::parse(&hook.to_string()), Some(hook));
        }
        for nonsense in ["", "pre_start", "pre_start/", "pre_start/300", "x/1"] {
            assert_eq!(Hook::parse(nonsense), None, "{nonsense}");
        }
    }
}
