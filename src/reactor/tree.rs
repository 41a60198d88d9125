//! Ending what a run left behind: all in its cgroup, and what a search of /proc finds, which is best
//! effort where there is no cgroup.
//!
//! Blocking, so in a helper. To a run belongs
//! - what is in its service's cgroup;
//! - what is in its session or process group, whose number is the main process's (as long as any
//!   member lives the kernel gives that number to nobody else; a process that has the number and
//!   another start time proves that no member lives);
//! - what carries its VITALD_RUN and our VITALD_SOCKET in its initial environment, in whatever
//!   session (the environment is our word to it: it may clear it, then the first rule or the
//!   third must find it);
//! - what such a process begot.
//!
//! Invariants: never ourselves, the daemon, or PID 1; never what began before the main process;
//! never a process that carries the VITALD_RUN of another service or daemon. A process is named by
//! pidfd and start time, so a recycled number is never hit.

use crate::exit::{Exit, Signal};
use crate::id::Pid;
use crate::reactor::cgroup::Leaf;
use crate::reactor::child::{self, Ended};
use crate::reactor::helper;
use crate::reactor::procfs::{self, ProcStat};
use crate::reactor::sys::{self, Origin};
use crate::service::hook::Hook;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long processes may take to go after SIGKILL before they count as left. What can go goes
/// within microseconds; the rest is in an uninterruptible wait (state D).
const KILL_WAIT: Duration = Duration::from_secs(2);
/// Before a cgroup is looked into again in which nobody can be named.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What is read of a process's environment: what a spawn of ours put there stands first.
const ENVIRON_BYTES: u64 = 256 * 1024;

/// What to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeJob {
    /// The run's main process, reaped or not: the number of its session and group.
    pub main: Pid,
    /// Its start time (`Spawned::started`).
    pub started: u64,
    /// Another process of the run that is its main one: its session and group are the run's, too.
    pub also: Option<(Pid, u64)>,
    pub mark: RunMark,
    pub signal: Signal,
    /// From the first signal to SIGKILL. Zero: SIGKILL at once.
    pub grace: Duration,
    /// The service's cgroup: all in it belongs to the run.
    pub leaf: Option<Leaf>,
}

/// How a run's processes are marked in their environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunMark {
    /// VITALD_RUN: `name/number`.
    pub run: String,
    /// VITALD_SOCKET: which daemon.
    pub socket: String,
}

/// What a process's environment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    OurRun,
    /// Of another service, or of another daemon's.
    Foreign,
    Nothing,
}

impl RunMark {
    fn judge(&self, environ: &[u8]) -> Says {
        let value = |key: &[u8]| {
            let mut entries = environ.split(|byte| *byte == 0);
            entries.find_map(|entry| entry.strip_prefix(key))
        };
        let (run, socket) = (value(b"VITALD_RUN="), value(b"VITALD_SOCKET="));
        let service = |run: &[u8]| {
            run.rsplitn(2, |byte| *byte == b'/')
                .nth(1)
                .map(<[u8]>::to_vec)
        };
        match (run, socket) {
            (None, _) => Says::Nothing,
            (Some(_), socket) if socket != Some(self.socket.as_bytes()) => Says::Foreign,
            (Some(run), _) if run == self.run.as_bytes() => Says::OurRun,
            (Some(run), _) if service(run) == service(self.run.as_bytes()) => Says::Nothing,
            (Some(_), _) => Says::Foreign,
        }
    }
}

/// One search through /proc.
struct Search {
    buffer: Vec<u8>,
}

impl Search {
    /// Nothing, if it may not be read or there is none: a kernel thread, a zombie.
    fn environ(&mut self, pid: Pid) -> &[u8] {
        self.buffer.clear();
        if let Ok(file) = File::open(format!("/proc/{pid}/environ")) {
            let _ = file.take(ENVIRON_BYTES).read_to_end(&mut self.buffer);
        }
        &self.buffer
    }

    /// The processes that belong to the run, now.
    fn members(&mut self, job: &TreeJob) -> Vec<ProcStat> {
        let untouchable = [1, std::process::id(), std::os::unix::process::parent_id()];
        let mut all: Vec<(ProcStat, Says)> = Vec::new();
        let mut recycled = false;
        let mut other = job.also;
        for pid in procfs::processes().unwrap_or_default() {
            let Ok(stat) = procfs::proc_stat(pid) else {
                continue;
            };
            recycled |= pid == job.main && stat.started != job.started;
            other = other.filter(|&(also, began)| pid != also || stat.started == began);
            if stat.started < job.started || untouchable.contains(&(pid.0 as u32)) {
                continue;
            }
            let says = job.mark.judge(self.environ(pid));
            if says != Says::Foreign {
                all.push((stat, says));
            }
        }
        let mut members: Vec<ProcStat> = Vec::new();
        // Whatever its session, its parent, its environment.
        let inside = job.leaf.as_ref().map(Leaf::processes).unwrap_or_default();
        for pid in inside {
            if let Ok(stat) = procfs::proc_stat(pid)
                && !untouchable.contains(&(pid.0 as u32))
            {
                all.retain(|(known, _)| known.pid != pid);
                members.push(stat);
            }
        }
        loop {
            let before = members.len();
            all.retain(|(stat, says)| {
                let of = |leader: Pid| stat.session == leader || stat.group == leader;
                let belongs = *says == Says::OurRun
                    || (of(job.main) && !recycled)
                    || other.is_some_and(|(also, _)| of(also) || stat.pid == also)
                    || members.iter().any(|member| member.pid == stat.parent);
                if belongs {
                    members.push(*stat);
                }
                !belongs
            });
            if members.len() == before {
                return members;
            }
        }
    }
}

/// The processes that belong to the run, now. Blocking.
pub fn members(job: &TreeJob) -> Vec<ProcStat> {
    Search { buffer: Vec::new() }.members(job)
}

/// Children of the daemon that began no earlier than the run and say nothing of whose they are:
/// orphans that cleared or overwrote their environment. Not what the daemon itself has just made: a
/// helper or a child before its program, which runs the daemon's; a probe's command, which knows
/// the socket. Blocking.
pub fn unmarked_children(job: &TreeJob, daemon: Pid) -> Vec<ProcStat> {
    let mut search = Search { buffer: Vec::new() };
    let own = Pid(std::process::id() as i32);
    let own_exe = std::fs::read_link(format!("/proc/{daemon}/exe")).ok();
    let all = procfs::processes().unwrap_or_default();
    let children = all.into_iter().filter(|pid| *pid != own).filter_map(|pid| {
        let stat = procfs::proc_stat(pid).ok()?;
        if stat.parent != daemon || stat.started < job.started {
            return None;
        }
        // First: what it executes after that has an environment of its own.
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        if exe.is_some() && exe == own_exe {
            return None;
        }
        let environ = search.environ(pid);
        let mut entries = environ.split(|byte| *byte == 0);
        let marked = entries.any(|entry| entry.starts_with(b"VITALD_SOCKET="));
        (!marked || job.mark.judge(environ) == Says::OurRun).then_some(stat)
    });
    children.collect()
}

/// A process that is being ended.
struct Target {
    pid: Pid,
    started: u64,
    pidfd: OwnedFd,
    /// The last signal it got from us.
    sent: Option<Signal>,
}

/// Ends all that belongs to the run. Blocks up to `grace` and two seconds. Returns how many
/// processes could not be ended.
pub fn end_tree(job: &TreeJob) -> u32 {
    let begun = Instant::now();
    let soft = begun + job.grace;
    let hard = soft + KILL_WAIT;
    let mut search = Search { buffer: Vec::new() };
    let mut targets: Vec<Target> = Vec::new();
    if let Some(leaf) = &job.leaf {
        leaf.thaw();
    }
    loop {
        let now = Instant::now();
        let (signal, until) = if now >= soft {
            (Signal::KILL, hard)
        } else {
            (job.signal, soft)
        };
        add_new(&mut targets, search.members(job));
        targets.retain(|target| !sys::has_ended(target.pidfd.as_fd()));
        if let Some(leaf) = job.leaf.as_ref().filter(|_| signal == Signal::KILL) {
            // At once, so that nobody forks away from it.
            leaf.kill();
        }
        if targets.is_empty() {
            // Who cannot be named: of another pid namespace, or just forked.
            match job.leaf.as_ref().filter(|leaf| !leaf.is_empty_but(&[])) {
                None => return 0,
                Some(_) if now >= hard => return 1,
                Some(leaf) => drop(leaf.wait_empty(until.min(now + LOOK_AGAIN))),
            }
            continue;
        }
        if now >= hard {
            return targets.len() as u32;
        }
        for target in &mut targets {
            target.send(signal);
        }
        wait(&mut targets, until);
    }
}

impl Target {
    /// Each signal once. A stopped process must be continued, or it keeps the signal for later.
    fn send(&mut self, signal: Signal) {
        if self.sent == Some(signal) {
            return;
        }
        self.sent = Some(signal);
        // What we may not signal stays, and is counted as left.
        let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), signal);
        if signal != Signal::KILL {
            let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), Signal::CONT);
        }
    }
}

fn add_new(targets: &mut Vec<Target>, members: Vec<ProcStat>) {
    for ProcStat { pid, started, .. } in members {
        if targets
            .iter()
            .any(|known| known.pid == pid && known.started == started)
        {
            continue;
        }
        // No descriptor left: it is found again by the next search, when others are gone.
        let Ok(pidfd) = sys::pidfd_open(pid) else {
            continue;
        };
        if procfs::start_time(pid) == Some(started) {
            targets.push(Target {
                pid,
                started,
                pidfd,
                sent: None,
            });
        }
    }
}

/// Waits until all have ended or it is time.
fn wait(targets: &mut Vec<Target>, until: Instant) {
    while !targets.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut polls: Vec<libc::pollfd> = targets.iter().map(|target| target.poll()).collect();
        // Rounded up, so that the last millisecond is not spent in turning.
        let timeout = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: as many entries as are said.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };
        let mut polls = polls.iter();
        targets.retain(|_| polls.next().is_none_or(|poll| poll.revents == 0));
    }
}

impl Target {
    fn poll(&self) -> libc::pollfd {
        libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }
    }
}

/// A run's main process that the journal does not know of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    pub name: Box<str>,
    pub number: u32,
    pub pid: Pid,
    /// Start time, clock ticks since boot.
    pub started: u64,
    /// It is no main process, but this command of the run.
    pub hook: Option<Hook>,
    /// As what was spawned is; what forked itself away need not be.
    pub leads_session: bool,
}

/// Finds main processes of this daemon's services by their mark: of a run that is not older than
/// `from` says for its service (1 for a service it does not name). Of each service the latest run,
/// and of that the oldest leader of a session; where there is none, the oldest process. One walk
/// through /proc for all; blocking.
///
/// A child that had not executed its program when its daemon died is not found: it died too.
pub fn find_runs(socket: &str, from: &BTreeMap<Box<str>, u32>) -> Vec<Lost> {
    let mut search = Search { buffer: Vec::new() };
    let mut found: BTreeMap<(Box<str>, bool), Lost> = BTreeMap::new();
    for pid in procfs::processes().unwrap_or_default() {
        let Some((name, number, hook)) = run_of(search.environ(pid), socket) else {
            continue;
        };
        let Ok(ProcStat {
            session,
            started,
            state,
            ..
        }) = procfs::proc_stat(pid)
        else {
            continue;
        };
        let old = number < from.get(name).copied().unwrap_or(1);
        if old || matches!(state, b'Z' | b'X') {
            continue;
        }
        let leads_session = session == pid;
        let better = found
            .get(&(name.into(), hook.is_some()))
            .is_none_or(|known| {
                (number, leads_session, known.started)
                    > (known.number, known.leads_session, started)
            });
        if better {
            let name: Box<str> = name.into();
            let lost = Lost {
                name: name.clone(),
                number,
                pid,
                started,
                hook,
                leads_session,
            };
            found.insert((name, hook.is_some()), lost);
        }
    }
    found.into_values().collect()
}

/// What VITALD_RUN says, if VITALD_SOCKET says that it is of this daemon.
fn run_of<'a>(environ: &'a [u8], socket: &str) -> Option<(&'a str, u32, Option<Hook>)> {
    let value = |key: &[u8]| {
        let mut entries = environ.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(key))
    };
    let ours = value(b"VITALD_SOCKET=")? == socket.as_bytes();
    let run = std::str::from_utf8(value(b"VITALD_RUN=")?).ok()?;
    let (name, number) = run.rsplit_once('/')?;
    let hook = value(b"VITALD_HOOK=").map(|hook| Hook::parse(std::str::from_utf8(hook).ok()?));
    // One that this version does not know is no main process, either.
    let hook = match hook {
        Some(None) => return None,
        Some(hook) => hook,
        None => None,
    };
    ours.then_some((name, number.parse().ok()?, hook))
}

/// [`find_runs`] in a helper, for at most `patience`: what is told of a hung process can hang the
/// teller. Waits; only before the loop runs. None: it did not come to its end.
pub fn find_runs_within(
    patience: Duration,
    origin: &Origin,
    socket: &str,
    from: &BTreeMap<Box<str>, u32>,
) -> Option<Vec<Lost>> {
    let limit = 128 * (crate::limits::MAX_SERVICES + 1);
    let helper = helper::start(c"vitald-find", origin, &[], limit, |out| {
        let lines: String = find_runs(socket, from).iter().map(Lost::line).collect();
        u8::from(out.write_all(lines.as_bytes()).is_err())
    });
    let helper = helper.ok()?;
    let end = Instant::now() + patience;
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match sys::read_ready(&helper.pipe, &mut buffer) {
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(length)) => text.extend_from_slice(&buffer[..length]),
            Ok(None) => {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || !child::wait_ended(&helper.pipe, left) {
                    break;
                }
            }
        }
    }
    let left = end.saturating_duration_since(Instant::now());
    let whole = child::wait_ended(&helper.pidfd, left)
        && child::reap(helper.pidfd.as_fd()) == Ended::Yes(Exit::Code(0));
    if !whole {
        // Whoever reaps orphans reaps it.
        let _ = sys::pidfd_send_signal(helper.pidfd.as_fd(), Signal::KILL);
        return None;
    }
    let text = String::from_utf8(text).ok()?;
    text.lines().map(Lost::read).collect()
}

impl Lost {
    fn line(&self) -> String {
        let Lost {
            name,
            number,
            pid,
            started,
            hook,
            leads_session,
        } = self;
        let hook = hook.map_or("-".to_owned(), |hook| hook.to_string());
        format!("{number} {pid} {started} {hook} {leads_session} {name}\n")
    }

    fn read(line: &str) -> Option<Lost> {
        let mut words = line.splitn(6, ' ');
        Some(Lost {
            number: words.next()?.parse().ok()?,
            pid: Pid(words.next()?.parse().ok()?),
            started: words.next()?.parse().ok()?,
            hook: Hook::parse(words.next()?),
            leads_session: words.next()?.parse().ok()?,
            name: words.next()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_ours_foreign_or_mute() {
        let mark = RunMark {
            run: "web/3".into(),
            socket: "/run/a".into(),
        };
        for (environ, says) in [
            (
                &b"A=1\0VITALD_SOCKET=/run/a\0VITALD_RUN=web/3\0"[..],
                Says::OurRun,
            ),
            (b"VITALD_RUN=web/3\0VITALD_SOCKET=/run/a", Says::OurRun),
            // Another daemon has a service of the same name.
            (b"VITALD_RUN=web/3\0VITALD_SOCKET=/run/b\0", Says::Foreign),
            (b"VITALD_RUN=web/3\0", Says::Foreign),
            (b"VITALD_RUN=db/3\0VITALD_SOCKET=/run/a\0", Says::Foreign),
            (b"VITALD_RUN=web/33\0VITALD_SOCKET=/run/a\0", Says::Nothing),
            (b"XVITALD_RUN=web/3\0VITALD_SOCKET=/run/a\0", Says::Nothing),
            (b"", Says::Nothing),
        ] {
            assert_eq!(
                mark.judge(environ),
                says,
                "{}",
                String::from_utf8_lossy(environ)
            );
        }
    }
}
