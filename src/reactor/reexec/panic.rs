//! What a panic does: the daemon executes itself anew, with what it must not lose.

use super::*;
use crate::reactor::clock::Clock;
use crate::reactor::init;
use crate::reactor::known;
use crate::reactor::messages::Messages;
use crate::reactor::watchdog;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// What the hook needs and cannot ask for when it is needed.
pub(super) struct Armed {
    process: u32,
    pub(super) origin: Origin,
    panics: Vec<Time>,
}

pub(super) static ARMED: OnceLock<Armed> = OnceLock::new();

/// What is open for as long as the daemon lives.
#[derive(Clone, Debug)]
pub struct Kept {
    pub runtime_lock: RawFd,
    pub state_lock: Option<RawFd>,
    pub socket: Socket,
    pub identity: Identity,
}

static KEPT: OnceLock<Kept> = OnceLock::new();

/// From now on these go along over a panic: nobody is refused at the door, nobody else takes the
/// lock.
pub fn keep(kept: Kept) {
    // Once in a process's execution; a second daemon in one process is a test's.
    let _ = KEPT.set(kept);
}

/// All services are being stopped.
static SHUTTING_DOWN: AtomicBool = AtomicBool::new(false);

/// What comes after it.
static ENDING: Mutex<Ending> = Mutex::new(Ending::Exit);

/// What the execution after a panic does when all services are stopped.
pub fn ends_in(ending: Ending) {
    if let Ok(mut kept) = ENDING.lock() {
        *kept = ending;
    }
}

/// From now on the execution after a panic goes on with stopping all services. True: that is new.
pub fn shutting_down() -> bool {
    !SHUTTING_DOWN.swap(true, Ordering::Relaxed)
}

/// From now on a panic executes the daemon anew. `panics`: those that count already.
pub fn arm(origin: Origin, panics: Vec<Time>) {
    let process = std::process::id();
    let armed = Armed {
        process,
        origin,
        panics,
    };
    if ARMED.set(armed).is_ok() {
        std::panic::set_hook(Box::new(|panic| on_panic(&panic.to_string())));
    }
}

fn on_panic(panic: &str) {
    let Some(armed) = ARMED.get() else { return };
    if std::process::id() != armed.process {
        return;
    }
    let message = panic.lines().collect::<Vec<_>>().join(" ");
    let line = format!("vitald: error: {message}\n");
    tell(&line);
    fall_back(&message);
    let now = Clock::new().read().0;
    let kept = KEPT.get();
    let mut handover = Handover {
        cause: Cause::Panic { message },
        origin: armed.origin,
        panics: armed.panics.clone(),
        jobs: known::jobs(),
        runtime_lock: kept.map(|kept| kept.runtime_lock),
        state_lock: kept.and_then(|kept| kept.state_lock),
        socket: kept.map(|kept| kept.socket),
        identity: kept.map(|kept| kept.identity.clone()),
        execs: known::execs(),
        heard: known::all_heard(),
        shutting_down: SHUTTING_DOWN.load(Ordering::Relaxed),
        ending: ENDING.try_lock().map(|ending| *ending).unwrap_or_default(),
        shell: init::shell(),
        watchdog: watchdog::descriptor(),
        ..Handover::default()
    };
    handover.panics.push(now);
    handover.panics = handover.recent_panics(now);
    if handover.panics.len() > 2 * PANICS {
        if armed.process != 1 {
            std::process::abort();
        }
        std::thread::sleep(LAST_RESORT_PAUSE);
    }
    let error = execute_own(&handover);
    tell(&format!(
        "vitald: error: cannot execute itself anew: {error}\n"
    ));
    init::go_on_or(|| std::process::abort());
}

/// Not by the logger, which may be what panicked; and waiting for nobody who does not read.
pub(super) fn tell(line: &str) {
    let _ = Messages::new(io::stderr()).write_all(line.as_bytes());
}
