//! What the engine wants done. Effects return nothing; what they lead to is an event.
//!
//! Order matters: a `Record` stands before the effects whose intent it holds, and is written
//! before they are performed.

use crate::config::Definition;
use crate::engine::alerts::{Alert, AlertRecord};
use crate::engine::plan::Plan;
use crate::engine::snapshot::{HoldRecord, ReloadRecord, ServiceSnapshot, WantedRecord};
use crate::engine::storm::StormRecord;
use crate::engine::story::{Decision, Transition};
use crate::exit::{Exit, Signal};
use crate::id::{CheckId, Pid, RunId, ServiceId, Ticket};
use crate::probe::Report;
use crate::service::hook::Hook;
use crate::service::state::Cause;
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// To the runtime journal, now, no fsync.
    Record(Record),
    /// To the state directory, by the scribe; `Durable {seq}` answers.
    Remember {
        seq: u64,
        wanted: WantedRecord,
    },
    /// The same for a reload that can go back; None: there is none any more.
    Keep {
        seq: u64,
        reload: Option<Rc<ReloadRecord>>,
    },
    /// Make the process. `Spawned` or `SpawnFailed` answers, then `Executed` or `SpawnFailed`.
    Spawn {
        run: RunId,
        definition: Rc<Definition>,
    },
    /// Make the process of a command of the run. `HookSpawned` and `HookEnded` answer, or the latter
    /// alone.
    Hook {
        run: RunId,
        hook: Hook,
        definition: Rc<Definition>,
        /// The program's, while it lives.
        main: Option<Pid>,
        /// How the program ended, and what ended it.
        end: Option<(Cause, Exit)>,
    },
    /// Signal a command's whole process group.
    HookSignal {
        run: RunId,
        hook: Hook,
        signal: Signal,
    },
    /// The first process of a forking daemon has ended: find its main one, and watch it. `MainSought`
    /// answers.
    FindMain {
        run: RunId,
        definition: Rc<Definition>,
    },
    /// Signal a run's process; with `group`, its whole process group.
    Signal {
        run: RunId,
        pid: Pid,
        signal: Signal,
        group: bool,
    },
    /// The main process is gone: end what it left behind, first with `signal`, after `grace` with
    /// SIGKILL. `TreeEnded` answers.
    EndTree {
        run: RunId,
        pid: Pid,
        signal: Signal,
        grace: Duration,
    },
    /// End it faster: SIGKILL to all that is left, now.
    KillTree {
        run: RunId,
        pid: Pid,
    },
    /// Collect what may tell what this process is stuck on, for at most so long. `EvidenceDone`
    /// answers, in that time or not.
    CollectEvidence {
        run: RunId,
        pid: Pid,
        definition: Rc<Definition>,
        cause: Cause,
        /// The trouble, in words.
        reason: Box<str>,
        timeout: Duration,
    },
    /// What was collected will have to do: if `EvidenceDone` did not come yet it does at once.
    /// `more`: the service, or a command, is to tell more, and that is over with another of these.
    EvidenceOver {
        run: RunId,
        more: bool,
    },
    /// Ask a probe. `ProbeFinished` answers.
    Check {
        check: CheckId,
        definition: Rc<Definition>,
    },
    /// Its time is up: `ProbeFinished` answers at once with what there is (usually `timeout`).
    CheckExpired {
        check: CheckId,
    },
    /// Something of this run was late: how is the host? `Looked` answers at once.
    Look {
        run: RunId,
    },
    /// Nobody wants the answer any more: drop the check, no answer.
    CheckCancelled {
        check: CheckId,
    },
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
    /// The host is to be rebooted for its sake: count that, for good. `RebootCounted` answers.
    CountReboot {
        service: ServiceId,
    },
    /// The shutdown that begins ends in a reboot.
    Reboot,
    /// What its calendar says was due since then, by the wall clock, and what is next. `Due` answers.
    AskDue {
        service: ServiceId,
        since_ms: u64,
        definition: Rc<Definition>,
    },
    /// The budget is spent: run its `on_exhausted_exec`. `ExhaustedTold` answers when that was
    /// executed, or cannot be.
    TellExhausted {
        service: ServiceId,
        definition: Rc<Definition>,
        /// What happened, in words.
        reason: Box<str>,
    },
    /// Tell somebody, by the rule of this number. `AlertSent` answers.
    SendAlert {
        rule: u16,
        alert: Rc<Alert>,
        /// With this one.
        tries: u32,
        /// It is not tried again.
        last: bool,
    },
    /// Its time is up, or its rule is gone: `AlertSent` answers at once.
    AlertExpired {
        number: u64,
    },
    /// Settings are again as they were before a reload, also those that are not the engine's.
    RevertSettings,
    /// Of a run that is over: remove the directories that were made for it; `runtime`: its runtime
    /// directories, too.
    RemoveDirectories {
        service: ServiceId,
        runtime: bool,
        definition: Rc<Definition>,
    },
    /// Open its sockets, as they are defined; what is open already stays so. `watch`: tell, once, when
    /// somebody comes. `Listening` answers.
    Listen {
        service: ServiceId,
        definition: Rc<Definition>,
        watch: bool,
    },
    /// Close its sockets; remove their files.
    Unlisten {
        service: ServiceId,
    },
    /// No run of its comes by itself: close the descriptors that are kept for it.
    Unstore {
        service: ServiceId,
    },
    /// A name is gone for good: forget its rings and pipes.
    Forget {
        service: ServiceId,
    },
    /// The host's watchdog waits for so long once more.
    FeedWatchdog,
    /// Who started us is told that we live.
    TellAlive,
    /// This boot, and those before it, count no more as failed.
    BootWell,
    /// All is done: leave the loop.
    Exit {
        code: u8,
    },
}

/// A line of the runtime journal. All but `Service`, `Alert` and `Storm` are also sent to subscribers.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    Service(Box<ServiceSnapshot>),
    Transition(Transition),
    Decision(Decision),
    Hold(Option<HoldRecord>),
    /// None: it was confirmed, or the files are in force again.
    Reload(Option<Rc<ReloadRecord>>),
    Alert(Box<AlertRecord>),
    /// Who had the last restarts for health; what is told of an incident are transitions.
    Storm(Box<StormRecord>),
}

/// The answer to a request. `Err` carries a JSON-RPC error code.
pub type Answer = Result<Accepted, Refusal>;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Accepted {
    /// Lines a person reads: what was done, what it touches, what comes next.
    pub note: Box<str>,
    /// Set for verbs that promise durability.
    pub durable: Option<Result<(), Box<str>>>,
    /// The answers of a `ProbeRun`, by probe name.
    pub reports: Vec<(Box<str>, Report)>,
    /// Of a reload: what it did, or would do.
    pub plan: Option<Box<Plan>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: i32,
    pub message: Box<str>,
    /// Of a reload: what it did nevertheless, or would have done.
    pub plan: Option<Box<Plan>>,
}

impl Refusal {
    pub fn new(code: i32, message: &str) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            plan: None,
        }
    }
}
