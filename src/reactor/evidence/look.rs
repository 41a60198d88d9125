//! Processes as `/proc` shows them (proc(5)): state, threads, where each sleeps, memory, limits,
//! descriptors by kind.
//!
//! Invariant: nothing is read that may hold a secret (environ, cmdline, memory); every list has a
//! bound, and what is left out is counted.

use super::Subject;
use super::sockets::Found;
use crate::control::dossier::{DescriptorsSeen, Evidence, ProcessSeen, ThreadSeen};
use crate::id::Pid;
use crate::limits;
use crate::reactor::procfs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::time::Instant;

/// What of any file in `/proc` is read.
const MOST: u64 = 16 * 1024;

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(MOST)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The main process first, then what it begot, then who else is in the service's cgroup.
pub fn tree(subject: &Subject, evidence: &mut Evidence) -> Vec<Pid> {
    let mut all = vec![subject.main];
    let mut known: BTreeSet<i32> = [subject.main.0].into();
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        for tid in threads_of(pid) {
            let children = read(&format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
            for child in children
                .split_ascii_whitespace()
                .filter_map(|n| n.parse().ok())
            {
                if known.insert(child) && all.len() < 4 * limits::DOSSIER_PROCESSES {
                    all.push(Pid(child));
                }
            }
        }
    }
    let inside = subject.leaf.iter().flat_map(|leaf| leaf.processes());
    all.extend(inside.filter(|pid| known.insert(pid.0)));
    evidence.more_processes = all.len().saturating_sub(limits::DOSSIER_PROCESSES) as u64;
    all.truncate(limits::DOSSIER_PROCESSES);
    all
}

/// The main one first.
fn threads_of(pid: Pid) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    // Of a server with ten thousand threads some are as good as all.
    let mut all: Vec<i32> = entries.flatten().take(4096).filter_map(number).collect();
    all.sort_unstable();
    all.sort_by_key(|tid| *tid != pid.0);
    all
}

pub fn processes(pids: &[Pid], evidence: &mut Evidence) {
    for pid in pids {
        // Of the main one more than of all others.
        let most = match evidence.processes.is_empty() {
            true => limits::DOSSIER_THREADS,
            false => limits::DOSSIER_THREADS_OTHERS,
        };
        match process(*pid, most, &mut evidence.unseen) {
            Some(seen) => evidence.processes.push(seen),
            None => evidence.unseen.push(format!("process {pid}: it was gone")),
        }
    }
}

/// `most`: threads that are told of.
fn process(pid: Pid, most: usize, unseen: &mut Vec<String>) -> Option<ProcessSeen> {
    let (name, state, _) = stat(&format!("/proc/{pid}/stat"))?;
    let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let size = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    };
    let tids = threads_of(pid);
    let more_threads = tids.len().saturating_sub(most) as u64;
    let few = tids.into_iter().take(most);
    let threads: Vec<ThreadSeen> = few.filter_map(|tid| thread(pid, tid)).collect();
    if threads
        .iter()
        .any(|t| t.syscall.is_none() && t.state != "Z")
    {
        let words = "system calls and kernel stacks: not permitted (CAP_SYS_PTRACE, CAP_SYS_ADMIN)";
        if !unseen.iter().any(|known| known == words) {
            unseen.push(words.to_owned());
        }
    }
    Some(ProcessSeen {
        pid: pid.0,
        name,
        state,
        rss_kb: size("VmRSS:"),
        swap_kb: size("VmSwap:"),
        threads,
        more_threads,
        limits: limits_of(pid),
        ..ProcessSeen::default()
    })
}

/// Name, state, and processor time in clock ticks (fields 14 and 15).
fn stat(path: &str) -> Option<(String, String, u64)> {
    let line = read(path)?;
    let (open, close) = (line.find('(')?, line.rfind(')')?);
    let name = line.get(open + 1..close)?.to_owned();
    let mut fields = line.get(close + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    let mut times = fields.skip(10).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some((name, state, ticks))
}

fn thread(pid: Pid, tid: i32) -> Option<ThreadSeen> {
    let at = format!("/proc/{pid}/task/{tid}");
    let (name, state, _) = stat(&format!("{at}/stat"))?;
    let wchan = read(&format!("{at}/wchan")).filter(|name| !name.is_empty() && name != "0");
    let call = read(&format!("{at}/syscall"));
    let syscall = call.and_then(|line| syscall(pid, &line));
    let stack = read(&format!("{at}/stack")).unwrap_or_default();
    let frames = stack.lines().filter_map(|line| {
        let frame = line.rsplit(' ').next()?;
        Some(frame.split('+').next()?.to_owned())
    });
    Some(ThreadSeen {
        tid,
        name,
        state,
        cpu_percent: None,
        starved_percent: None,
        wchan,
        syscall,
        stack: frames.take(limits::DOSSIER_FRAMES).collect(),
    })
}

/// `202 0x55… …` is `futex`; of those on a descriptor it says which: `read of 5`.
fn syscall(pid: Pid, line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    let Ok(number) = first.parse::<i64>() else {
        return Some(first.to_owned());
    };
    if number < 0 {
        return Some("running".to_owned());
    }
    let known = CALLS.iter().find(|(known, ..)| *known == number);
    let Some((_, name, on_descriptor)) = known else {
        return Some(format!("system call {number}"));
    };
    let argument = words.next().and_then(|word| word.strip_prefix("0x"));
    let descriptor = argument.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    match (on_descriptor, descriptor) {
        (true, Some(fd)) => {
            let what = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
            let what = what.map(|to| format!(" ({})", to.to_string_lossy()));
            Some(format!("{name} of {fd}{}", what.unwrap_or_default()))
        }
        _ => Some((*name).to_owned()),
    }
}

/// In what a program is found that waits. True: its first argument is a descriptor.
const CALLS: &[(i64, &str, bool)] = &[
    (libc::SYS_futex, "futex", false),
    (libc::SYS_epoll_pwait, "epoll", false),
    (libc::SYS_epoll_pwait2, "epoll", false),
    (libc::SYS_ppoll, "poll", false),
    (libc::SYS_pselect6, "select", false),
    (libc::SYS_read, "read", true),
    (libc::SYS_readv, "read", true),
    (libc::SYS_pread64, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_writev, "write", true),
    (libc::SYS_pwrite64, "write", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept", true),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_recvfrom, "receive", true),
    (libc::SYS_recvmsg, "receive", true),
    (libc::SYS_sendto, "send", true),
    (libc::SYS_sendmsg, "send", true),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fcntl, "fcntl", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_fdatasync, "fdatasync", true),
    (libc::SYS_ioctl, "ioctl", true),
    (libc::SYS_openat, "open", false),
    (libc::SYS_nanosleep, "sleep", false),
    (libc::SYS_clock_nanosleep, "sleep", false),
    (libc::SYS_restart_syscall, "sleep or poll", false),
    (libc::SYS_wait4, "wait for a child", false),
    (libc::SYS_waitid, "wait for a child", false),
    (libc::SYS_rt_sigtimedwait, "wait for a signal", false),
    (libc::SYS_rt_sigsuspend, "wait for a signal", false),
    (libc::SYS_semtimedop, "semaphore", false),
    (libc::SYS_msgrcv, "message queue", false),
    (libc::SYS_io_uring_enter, "io_uring", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "wait for a signal", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", false),
];

/// `open files 1024/4096`, of those that are set.
fn limits_of(pid: Pid) -> Vec<String> {
    let table = read(&format!("/proc/{pid}/limits")).unwrap_or_default();
    let told = [
        "open files",
        "processes",
        "address space",
        "data size",
        "cpu time",
        "file size",
        "core file size",
    ];
    let mut all = Vec::new();
    for name in told {
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix("Max ")?.strip_prefix(name));
        let mut words = line.unwrap_or_default().split_ascii_whitespace();
        if let (Some(soft), Some(hard)) = (words.next(), words.next())
            && soft != "unlimited"
        {
            all.push(format!("{name} {soft}/{hard}"));
        }
    }
    all
}

/// Which sockets are theirs, and whose each is; false: those of some were too many, or not to be
/// seen.
pub fn sockets_of(pids: &[Pid]) -> (BTreeMap<u64, i32>, bool) {
    let (mut inodes, mut whole) = (BTreeMap::new(), true);
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            whole = false;
            continue;
        };
        for (at, entry) in entries.flatten().enumerate() {
            if at >= limits::DOSSIER_FDS {
                whole = false;
                break;
            }
            let to = fs::read_link(entry.path()).unwrap_or_default();
            let inode = to.to_str().and_then(inode_of);
            inodes.extend(inode.map(|inode| (inode, pid.0)));
        }
    }
    (inodes, whole)
}

/// `socket:[4711]`
fn inode_of(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Counts them by kind.
pub fn descriptors(pids: &[Pid], evidence: &mut Evidence) {
    for pid in pids {
        let process = evidence.processes.iter_mut().find(|p| p.pid == pid.0);
        let (Some(process), Ok(entries)) = (process, fs::read_dir(format!("/proc/{pid}/fd")))
        else {
            continue;
        };
        let soft = |limit: &String| {
            limit
                .strip_prefix("open files ")?
                .split('/')
                .next()?
                .parse()
                .ok()
        };
        let mut seen = DescriptorsSeen {
            limit: process.limits.iter().find_map(soft),
            ..DescriptorsSeen::default()
        };
        for entry in entries.flatten() {
            seen.open += 1;
            if seen.open > limits::DOSSIER_FDS as u64 {
                continue;
            }
            let Ok(to) = fs::read_link(entry.path()) else {
                continue;
            };
            let to = to.to_string_lossy();
            match &*to {
                name if name.starts_with("socket:") => seen.sockets += 1,
                name if name.starts_with("pipe:") => seen.pipes += 1,
                name if name.starts_with("/dev/") => seen.devices += 1,
                name if name.starts_with('/') => seen.files += 1,
                _ => seen.others += 1,
            }
        }
        process.descriptors = Some(seen);
    }
}

/// `receive of 7 (socket:[4711])` says nobody anything: to whom it leads does.
pub fn name_descriptors(evidence: &mut Evidence, found: &Found) {
    let threads = evidence.processes.iter_mut().flat_map(|p| &mut p.threads);
    for call in threads.filter_map(|thread| thread.syscall.as_mut()) {
        let Some((before, rest)) = call.split_once("(socket:[") else {
            continue;
        };
        let inode = rest.strip_suffix("])").and_then(|n| n.parse().ok());
        if let Some(words) = inode.and_then(|inode| found.words(inode)) {
            *call = format!("{before}({words})");
        }
    }
}

/// Processor time of all, at one moment.
pub struct Sample {
    pub at: Instant,
    /// By process, in clock ticks.
    ticks: BTreeMap<i32, u64>,
    /// By thread, in nanoseconds: on a processor, and waiting for one.
    threads: BTreeMap<i32, (u64, u64)>,
}

pub fn sample(pids: &[Pid]) -> Sample {
    let (mut ticks, mut threads) = (BTreeMap::new(), BTreeMap::new());
    let at = Instant::now();
    for pid in pids {
        let all = stat(&format!("/proc/{pid}/stat")).map(|(_, _, ticks)| (pid.0, ticks));
        ticks.extend(all);
        for tid in threads_of(*pid).into_iter().take(limits::DOSSIER_THREADS) {
            let line = read(&format!("/proc/{pid}/task/{tid}/schedstat"));
            threads.extend(line.and_then(|line| Some((tid, schedstat(&line)?))));
        }
    }
    Sample { at, ticks, threads }
}

/// `1234567 89 10`: nanoseconds on a processor, and waiting for one
/// (Documentation/scheduler/sched-stats.rst).
fn schedstat(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.split_ascii_whitespace().map(|n| n.parse::<u64>().ok());
    Some((numbers.next()??, numbers.next()??))
}

impl Sample {
    fn over_ms(&self, before: &Sample) -> u64 {
        let over = self.at.saturating_duration_since(before.at);
        (over.as_millis() as u64).max(1)
    }

    /// Of a process, since the sample before.
    pub fn percent(&self, before: &Sample, pid: i32) -> Option<u32> {
        let used = self
            .ticks
            .get(&pid)?
            .saturating_sub(*before.ticks.get(&pid)?);
        let ms = used * 1000 / procfs::ticks_per_second();
        u32::try_from(ms * 100 / self.over_ms(before)).ok()
    }

    /// Of a thread: on a processor, and waiting for one.
    pub fn of_thread(&self, before: &Sample, tid: i32) -> Option<(u32, u32)> {
        let ((ran, waited), (ran_before, waited_before)) =
            (self.threads.get(&tid)?, before.threads.get(&tid)?);
        let share = |now: u64, then: u64| {
            let ms = now.saturating_sub(then) / 1_000_000;
            u32::try_from(ms * 100 / self.over_ms(before)).ok()
        };
        Some((share(*ran, *ran_before)?, share(*waited, *waited_before)?))
    }
}
