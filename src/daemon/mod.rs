//! The daemon from the first lock to the last byte: prepares, hands the loop what it needs, and
//! ends. What nobody can handle ends here.
//!
//! Order matters: locks before anything is read, the scribe before there is memory to share,
//! processes of a daemon before this one are found before anything is started.

mod find;

use crate::config::Kind;
use crate::config::settings::{EarlySetup, Settings};
use crate::config::templates::{Instance, Templates};
use crate::control::power::{Ending, Role};
use crate::engine::instances::known_before;
use crate::engine::snapshot::{
    ReloadRecord, RunSnapshot, ServiceSnapshot, StopSnapshot, WantedRecord,
};
use crate::engine::{Boot, Engine, Found, Left, Loaded};
use crate::exit::Signal;
use crate::journal::lock::{self, Lock, LockError};
use crate::journal::runtime::{self, Identity, Runtime};
use crate::journal::state;
use crate::reactor::boots;
use crate::reactor::cgroup::Cgroups;
use crate::reactor::clock::Clock;
use crate::reactor::init;
use crate::reactor::listener::Listener;
use crate::reactor::logs::LogDir;
use crate::reactor::messages::{self, Messages};
use crate::reactor::parent;
use crate::reactor::program;
use crate::reactor::reexec::{self, Handover};
use crate::reactor::rehearsal::Rehearsal;
use crate::reactor::settings;
use crate::reactor::signals::Signals;
use crate::reactor::spawn::Spawner;
use crate::reactor::sys::Origin;
use crate::reactor::tree::{Lost, find_runs_within};
use crate::reactor::voice::VoiceDir;
use crate::reactor::watchdog;
use crate::reactor::{
    Adopted, Before, LeftHook, Life, Locks, Parts, Reactor, child, definitions, scribe,
};
use crate::service::hook::{Hook, Progress};
use crate::service::state::{Cause, State, Wanted};
use crate::simulator;
use crate::time::Time;
use std::fmt::Display;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long a former daemon's scribe may take to write what it was given.
const SCRIBE_PATIENCE: Duration = Duration::from_secs(2);

/// How long the search for processes that the journal does not know may take.
const SEARCH_PATIENCE: Duration = Duration::from_secs(2);

/// How long what no service owns may take to end in a container.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// Where the daemon lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// `vitald.toml` and `services/`.
    pub config_dir: PathBuf,
    /// What outlives the boot.
    pub state_dir: PathBuf,
    /// What outlives the daemon, not the boot; the control socket.
    pub runtime_dir: PathBuf,
    /// All is recorded there, whatever `vitald.toml` says.
    pub record_dir: Option<PathBuf>,
    /// With whose end for good the daemon ends, whatever `vitald.toml` says.
    pub main: Option<Box<str>>,
}

/// Runs until told to end. As PID 1 of a host it does not return.
pub fn run(options: &Options) -> ExitCode {
    start_log();
    let role = init::role();
    // What is wrong with them is told when it is known what is used in their place.
    let settings = settings::read(&options.config_dir).settings;
    init::arm(&settings.rescue_shell);
    let early = match settings.early_setup {
        EarlySetup::Auto => role == Role::Host,
        EarlySetup::Always => role != Role::Ordinary,
        EarlySetup::Never => false,
    };
    if early {
        init::set_up();
    }
    match try_run(options) {
        Ok((_, ending)) if role == Role::Host => {
            init::end_machine(ending, &|| end_in_order(options, &settings));
        }
        Ok((code, _)) => {
            end_in_order(options, &settings);
            watchdog::disarm();
            init::end_leftovers(LEFTOVERS);
            ExitCode::from(code)
        }
        Err(words) => {
            log::error!("{words}");
            reexec::fall_back(&words);
            ExitCode::FAILURE
        }
    }
}

/// Such a boot has not failed.
fn end_in_order(options: &Options, settings: &Settings) {
    if boots::counts(settings)
        && let Ok(state_dir) = absolute(&options.state_dir)
    {
        boots::end(&state_dir);
    }
}

/// Says on stdout whether this program could take the place of the daemon that runs there.
pub fn rehearse(options: &Options) -> ExitCode {
    let places = || {
        let config_dir = absolute(&options.config_dir)?;
        let state_dir = absolute(&options.state_dir)?;
        Ok::<_, String>((config_dir, state_dir, absolute(&options.runtime_dir)?))
    };
    let said = places().and_then(|(config_dir, state_dir, runtime_dir)| {
        let line = Rehearsal::perform(&config_dir, &state_dir, &runtime_dir).line();
        let written = std::io::stdout().write_all(line.as_bytes());
        written.map_err(|error| format!("cannot write to stdout: {error}"))
    });
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("vitald: {words}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ended this process's work: as PID 1 of a host it goes on, by a shell on the console
/// and another start.
pub fn never_ends() {
    init::go_on_or(|| {});
}

fn start_log() {
    let filter = env_logger::Env::default().filter_or("VITALD_LOG", "info");
    let mut builder = env_logger::Builder::from_env(filter);
    builder.format(|out, record| {
        out.write_all(messages::line(record.level(), &record.args().to_string()).as_bytes())
    });
    let to = Box::new(Messages::new(std::io::stderr()));
    builder.target(env_logger::Target::Pipe(to));
    // A second logger in one process is a test's, and no reason to end.
    let _ = builder.try_init();
}

/// The same directories, absolute, and the control socket.
struct Places {
    config_dir: PathBuf,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    socket: PathBuf,
    /// Named on the command line.
    record_dir: Option<PathBuf>,
}

fn try_run(options: &Options) -> Result<(u8, Ending), String> {
    let mut clock = Clock::new();
    let (now, _) = clock.read();
    let handover = take_handover(now);
    // How tests see one that cannot take over; not in a release.
    #[cfg(debug_assertions)]
    if let (reexec::Cause::Upgrade { .. }, Some("at the start")) = (
        &handover.cause,
        std::env::var("VITALD_TEST_PANIC").ok().as_deref(),
    ) {
        panic!("asked to panic at the start");
    }
    let reduced = handover.reduced().is_some();
    let origin = handover.origin;
    let watchdog_before = handover.watchdog;
    let in_place = handover.cause != reexec::Cause::Unknown;
    let deaf = handover.is_none();
    let runtime_dir = absolute(&options.runtime_dir)?;
    let places = Places {
        config_dir: absolute(&options.config_dir)?,
        state_dir: absolute(&options.state_dir)?,
        socket: runtime_dir.join("control.sock"),
        record_dir: options.record_dir.as_deref().map(absolute).transpose()?,
        runtime_dir,
    };
    let locks = lock_both(&places.runtime_dir, &places.state_dir, &handover)?;
    let identity = identity(&handover);
    let read = settings::begin(&places.config_dir, &places.runtime_dir, &identity);
    let settings = read.settings.clone();
    let kept = settings::Kept::new(read, &places.runtime_dir, &identity);
    let signals =
        Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    if let Err(error) = child::become_subreaper() {
        log::warn!(
            "cannot become the reaper of orphans: {error}; what leaves its session may survive a stop"
        );
    }
    let (mut reactor, journal) = build(
        &places,
        &settings,
        Prepared {
            kept,
            identity,
            locks,
            signals,
        },
        handover,
        now,
    )?;
    tell(&journal.notes);
    if !reactor.scribe_before_gone(SCRIBE_PATIENCE) {
        log::warn!(
            "the scribe of a daemon before this one still writes; what it writes now is not seen"
        );
    }
    let new = journal.first_of_boot && !in_place;
    let guard = boots::begin(&places.state_dir, &settings, new);
    let wanted = state::load(&places.state_dir);
    tell(&wanted.notes);
    if wanted.rewrite {
        reactor.rewrite_state();
    }
    let main = options.main.clone().or_else(|| settings.main.clone());
    let instances = known_before(&wanted.wanted, &journal.services, main.as_deref());
    let (definitions, templates, digest) =
        read_definitions(&places.config_dir, &wanted.wanted, &instances, reduced);
    reactor.templates.keep(templates);
    let left = left_reload(&journal, wanted.reload, digest);
    let socket = places.socket.display().to_string();
    let forks = |name: &str| {
        let mut known = definitions.iter().filter(|loaded| *loaded.name == *name);
        known.any(|loaded| {
            loaded
                .definition
                .as_ref()
                .is_ok_and(|d| d.kind == Kind::Forking)
        })
    };
    let (services, adopted, commands) = find::find_processes(
        journal.services,
        &wanted.wanted,
        now,
        &origin,
        &socket,
        in_place,
        &forks,
    );
    let number = counted(definitions.len(), "definition", "definitions");
    let taken_up = match adopted.len() {
        0 => String::new(),
        number => format!(
            ", {} taken up again",
            counted(number, "process", "processes")
        ),
    };
    log::info!(
        "vitald {}: {number}{taken_up}, control socket {socket}",
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(name) = main.as_deref()
        && !definitions.iter().any(|loaded| *loaded.name == *name)
        && !left.iter().any(|left| left.has_before(name))
    {
        let shown = places.config_dir.display();
        return Err(format!(
            "the main service {name} is not defined: write {shown}/services/{name}.toml, or name \
             another"
        ));
    }
    let rules = settings::rules(&settings);
    let boot = Boot {
        definitions,
        wanted: wanted.wanted,
        services,
        transitions: journal.transitions,
        decisions: journal.decisions,
        hold: journal.hold,
        wall_ms: clock.wall_ms(),
        deaf: Some(deaf),
        main,
        shutdown_timeout: rules.shutdown_timeout,
        max_checks: rules.max_checks,
        left,
        guard,
        alerts: rules.alerts,
        alerted: journal.alerts,
        limits: rules.limits,
        storm: journal.storm,
        reboots: crate::reactor::reboots::may(),
        watchdogs: reactor.open_watchdogs(settings.watchdog.as_ref(), watchdog_before),
    };
    parent::ready(&format!("{number}{taken_up}"));
    let code = reactor
        .run(boot, adopted, commands)
        .map_err(|error| format!("the loop ended: {error}"))?;
    let ending = reactor.ending();
    reactor.finish();
    log::info!("ended");
    Ok((code, ending))
}

fn counted(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

/// What an execution of this process before us left, and what we do to the host, once in its
/// life; from here on a panic executes us anew.
fn take_handover(now: Time) -> Handover {
    let before = Handover::take();
    program::remember(None);
    let origin = Origin::take(before.as_ref().map(|handover| handover.origin));
    let mut handover = before.unwrap_or_default();
    handover.origin = origin;
    handover.panics = handover.recent_panics(now);
    reexec::arm(origin, handover.panics.clone());
    reexec::end_jobs(&handover.jobs);
    if let Some(words) = handover.words() {
        log::info!("{words}");
    }
    if let Some(words) = handover.reduced() {
        log::error!("{words}");
    }
    handover
}

/// What comes before the loop.
struct Prepared {
    kept: settings::Kept,
    identity: Identity,
    locks: Locks,
    signals: Signals,
}

/// The loop, with all that it needs, and what its journal held.
fn build(
    places: &Places,
    settings: &Settings,
    prepared: Prepared,
    handover: Handover,
    now: Time,
) -> Result<(Reactor, runtime::Loaded), String> {
    let Prepared {
        kept,
        identity,
        locks,
        signals,
    } = prepared;
    let rights = settings::rights(settings);
    let mode = settings::socket_mode(&rights);
    let inherited = handover
        .socket
        .and_then(|socket| Listener::inherit(&places.socket, mode, &socket, rights.clone()));
    let listener = match inherited {
        Some(listener) => listener,
        None => Listener::bind(&places.socket, mode, None, rights.clone())?,
    };
    reexec::keep(reexec::Kept {
        runtime_lock: locks.runtime.as_raw_fd(),
        state_lock: locks.state.as_ref().map(AsRawFd::as_raw_fd),
        socket: listener.hand_over(),
        identity: identity.clone(),
    });
    let life = Life {
        began: handover.words(),
        failed: matches!(handover.cause, reexec::Cause::FellBack { .. }),
        reduced: handover.reduced(),
        shutting_down: handover.shutting_down,
        ending: handover.ending,
        shell: handover.shell,
    };
    handover
        .logs
        .iter()
        .for_each(|(_, fd)| reexec::claim_open(*fd));
    let log_dir = LogDir::prepare(&places.runtime_dir).map_err(|fault| fault.to_string())?;
    let voice_dir = VoiceDir::prepare(&places.runtime_dir).map_err(|fault| fault.to_string())?;
    // Before there are children, which are where we are.
    let cgroups = Cgroups::prepare(&settings.cgroup, &places.runtime_dir);
    let poll = mio::Poll::new().map_err(|error| format!("cannot make an event queue: {error}"))?;
    let socket = places.socket.display().to_string();
    let spawner = Spawner::new(handover.origin, &socket)
        .map_err(|error| format!("cannot prepare to spawn: {error}"))?;
    let record = settings.record || places.record_dir.is_some();
    let record_dir = places.record_dir.clone();
    let record_dir = record_dir.unwrap_or_else(|| places.state_dir.join("recording"));
    if record {
        log::info!("recording to {}/current", record_dir.display());
    }
    let (runtime, journal) = Runtime::open(&places.runtime_dir, Some(&identity));
    let reactor = Reactor::new(Parts {
        poll,
        engine: Engine::new(now, seed()),
        spawner,
        settings: kept,
        alerts: settings.alerts.clone(),
        cgroups,
        signals,
        runtime,
        scribe_options: scribe::Options {
            state_dir: places.state_dir.clone(),
            record_dir,
            syslog: Path::new(&*settings.syslog_socket).into(),
            dossier_keep: settings.dossier_keep,
            dossier_max_bytes: settings.dossier_max_bytes,
        },
        record_bytes: record.then_some(settings.record_bytes),
        log_dir,
        log_defaults: settings.log.clone(),
        listener,
        rights,
        config_dir: places.config_dir.clone(),
        state_dir: places.state_dir.clone(),
        socket,
        locks,
        before: Before {
            logs: handover.logs.into_iter().map(|(name, _)| name).collect(),
            execs: handover.execs,
            clients: handover.clients,
        },
        identity,
        voice_dir,
        heard: handover.heard,
        life,
        simulate: simulator::forecast::inside,
    });
    let reactor = reactor.map_err(|error| format!("cannot start the loop: {error}"))?;
    Ok((reactor, journal))
}

/// What this boot is known by. An execution of this process before us knew it already.
fn identity(handover: &Handover) -> Identity {
    if let Some(identity) = &handover.identity {
        return identity.clone();
    }
    Identity::read().unwrap_or_else(|error| {
        log::warn!(
            "cannot tell this boot from another ({error}): nothing that runs is taken up again, \
             but by an upgrade"
        );
        Identity::of_this_process(seed())
    })
}

/// A reload that a daemon before this one did not finish: the runtime directory knows best, the
/// state directory outlives the boot.
fn left_reload(
    journal: &runtime::Loaded,
    on_disk: Option<ReloadRecord>,
    digest: u64,
) -> Option<Box<Left>> {
    let known = on_disk.is_some();
    let record = match journal.first_of_boot {
        false => journal.reload.as_deref().cloned(),
        true => on_disk,
    };
    let same_files = record
        .as_ref()
        .is_some_and(|record| record.digest == digest);
    (known || record.is_some()).then(|| {
        Box::new(Left {
            record,
            same_boot: !journal.first_of_boot,
            same_files,
        })
    })
}

/// What there is, and what tells the files from others.
fn read_definitions(
    config_dir: &Path,
    wanted: &[WantedRecord],
    instances: &[Instance],
    reduced: bool,
) -> (Vec<Loaded>, Templates, u64) {
    let shown = config_dir.display();
    let files = definitions::read_files(config_dir).unwrap_or_else(|error| {
        log::error!("cannot read {shown}/services: {error}");
        Vec::new()
    });
    let digest = definitions::digest(&files, &settings::read_raw(config_dir));
    let given = wanted
        .iter()
        .filter_map(|record| Some((&*record.name, record.definition.as_deref()?)));
    let joined = definitions::join(files, given, instances);
    let mut definitions = joined.services;
    definitions::log(&joined.problems);
    if reduced {
        definitions::without_probes(&mut definitions);
    }
    if definitions.is_empty() {
        log::warn!(
            "no definitions in {shown}/services: nothing to run yet; `vitald reload` reads them \
             again"
        );
    }
    (definitions, joined.templates, digest)
}

fn tell(notes: &[impl Display]) {
    for note in notes {
        log::warn!("{note}");
    }
}

fn absolute(dir: &Path) -> Result<PathBuf, String> {
    std::path::absolute(dir).map_err(|error| format!("cannot find {}: {error}", dir.display()))
}

/// Jitter need not be secret, only different on every start.
fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos() as u64);
    nanos ^ u64::from(std::process::id())
}

/// Both directories made and locked. A state directory that cannot be written is no reason not to
/// run: what operators want is then not durable, and they are told.
fn lock_both(runtime_dir: &Path, state_dir: &Path, handover: &Handover) -> Result<Locks, String> {
    let take = |dir: &Path, held: Option<RawFd>| {
        let inherited = held.and_then(reexec::claim);
        match inherited.and_then(|fd| Lock::inherit(dir, fd)) {
            Some(lock) => Ok(lock),
            None => Lock::take(dir),
        }
    };
    for note in lock::prepare(runtime_dir, lock::RUNTIME_MODE).map_err(|f| f.to_string())? {
        log::warn!("{note}");
    }
    let runtime = take(runtime_dir, handover.runtime_lock).map_err(|error| error.to_string())?;
    let state = match lock::prepare(state_dir, lock::STATE_MODE) {
        Ok(notes) => {
            for note in notes {
                log::warn!("{note}");
            }
            match take(state_dir, handover.state_lock) {
                Ok(lock) => Some(lock),
                Err(error @ LockError::Held { .. }) => return Err(error.to_string()),
                Err(LockError::ReadOnly(fault) | LockError::Fault(fault)) => {
                    log::warn!("{fault}: what operators want will not outlive the boot");
                    None
                }
            }
        }
        Err(fault) => {
            log::warn!("{fault}: what operators want will not outlive the boot");
            None
        }
    };
    Ok(Locks { runtime, state })
}
