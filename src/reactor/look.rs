//! What probes find out from outside the service: files, what its processes use, a name server.
//!
//! [`look_blocking`] blocks: it runs only in a helper child, whatever disk or lock it waits for. It
//! says [`crate::reactor::https::FOUND`] through `found` as soon as the rest is the service's own
//! affair. Nothing is judged here, that is `probe`'s.

use crate::config::{Address, Dns, Look, Measure};
use crate::id::Pid;
use crate::limits::PROBE_READ_BYTES;
use crate::probe::usage::{self, FileFound, Open};
use crate::probe::{Outcome, Reason, Trouble, dns};
use crate::reactor::tree::{self, TreeJob};
use crate::reactor::{dial, resolve};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

type Found = (Outcome, Box<str>);

/// `tree`: the run's processes; None: nothing runs.
pub fn look_blocking(
    look: &Look,
    tree: Option<&TreeJob>,
    timeout: Duration,
    found: &mut dyn FnMut(),
) -> Found {
    if let Look::Dns(dns) = look {
        return ask_dns(dns, timeout, found);
    }
    found();
    match (look, tree) {
        (
            Look::File {
                path,
                max_age,
                expect,
            },
            _,
        ) => file(path, *max_age, expect.as_deref()),
        (_, None) => (usage::fails("it does not run".to_owned()), "".into()),
        (Look::Memory { max, measure }, Some(tree)) => match memory(tree, *measure) {
            Ok(used) => usage::memory(used, *max),
            Err(why) => (internal(&why), "".into()),
        },
        (
            Look::Cpu {
                max_percent,
                window,
            },
            Some(tree),
        ) => cpu(tree, *max_percent, *window),
        (Look::Fds { max, max_percent }, Some(tree)) => match descriptors(tree) {
            Ok(all) => usage::fds(&all, *max, *max_percent),
            Err(why) => (internal(&why), "".into()),
        },
        (Look::Dns(_), Some(_)) => (internal("asked elsewhere"), "".into()),
    }
}

fn internal(what: &str) -> Outcome {
    Outcome::Inconclusive(Trouble::Internal(what.into()))
}

fn file(path: &str, max_age: Option<Duration>, expect: Option<&str>) -> Found {
    let look = || -> io::Result<(Duration, Option<Vec<u8>>)> {
        let written = fs::metadata(path)?.modified()?;
        // One from the future is new.
        let age = SystemTime::now()
            .duration_since(written)
            .unwrap_or_default();
        let text = match expect {
            Some(_) => {
                let mut text = Vec::new();
                let most = PROBE_READ_BYTES as u64;
                File::open(path)?.take(most).read_to_end(&mut text)?;
                Some(text)
            }
            None => None,
        };
        Ok((age, text))
    };
    match look() {
        Ok((age, text)) => {
            let text = text.as_deref();
            usage::file(max_age, expect, &FileFound { age, text })
        }
        Err(error) => {
            let outcome = match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => usage::fails("no such file".to_owned()),
                Some(libc::EACCES | libc::EPERM) => Outcome::Fail(Reason::Denied),
                Some(libc::EMFILE | libc::ENFILE) => Outcome::Inconclusive(Trouble::NoDescriptor),
                _ => usage::fails(error.to_string()),
            };
            (outcome, "".into())
        }
    }
}

fn members(tree: &TreeJob) -> Vec<Pid> {
    match &tree.leaf {
        Some(leaf) => leaf.processes(),
        None => tree::members(tree).iter().map(|stat| stat.pid).collect(),
    }
}

fn memory(tree: &TreeJob, measure: Measure) -> Result<u64, String> {
    if measure == Measure::Cgroup {
        let leaf = tree.leaf.as_ref();
        return leaf
            .and_then(crate::reactor::cgroup::Leaf::working_set)
            .ok_or(
            "its cgroup does not tell (there is none, or no memory controller): write measure = \
             \"rss\""
                .to_owned(),
        );
    }
    // SAFETY: it only tells.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    let mut used = 0;
    for pid in members(tree) {
        let bytes = match measure {
            Measure::Pss => read(pid, "smaps_rollup").map(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
                let words = line.and_then(|line| line.split_whitespace().next());
                words.and_then(|n| n.parse().ok()).unwrap_or(0u64) << 10
            }),
            Measure::Rss | Measure::Cgroup => read(pid, "statm").map(|text| {
                let pages = text.split(' ').nth(1).and_then(|n| n.parse().ok());
                pages.unwrap_or(0u64) * page
            }),
        };
        used += match bytes {
            Ok(bytes) => bytes,
            Err(error) if is_gone(&error) => 0,
            Err(error) => return Err(format!("cannot look into process {pid}: {error}")),
        };
    }
    Ok(used)
}

fn cpu(tree: &TreeJob, max_percent: u32, window: Duration) -> Found {
    let begun = Instant::now();
    let before = cpu_used(tree);
    std::thread::sleep(window);
    let after = cpu_used(tree);
    usage::cpu(after.saturating_sub(before), begun.elapsed(), max_percent)
}

/// So far; without a cgroup what ended between two looks is lost.
fn cpu_used(tree: &TreeJob) -> Duration {
    if let Some(us) = tree.leaf.as_ref().and_then(|leaf| leaf.cpu_us()) {
        return Duration::from_micros(us);
    }
    // SAFETY: it only tells.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let ticks: u64 = members(tree)
        .into_iter()
        .filter_map(|pid| {
            let stat = read(pid, "stat").ok()?;
            let (_, rest) = stat.rsplit_once(')')?;
            // Fields 14 and 15, utime and stime; the rest begins with field 3.
            let mut fields = rest.split_whitespace().skip(11);
            let mut next = || fields.next()?.parse::<u64>().ok();
            Some(next()? + next()?)
        })
        .sum();
    Duration::from_millis(ticks * 1000 / hertz)
}

fn descriptors(tree: &TreeJob) -> Result<Vec<Open>, String> {
    let mut all = Vec::new();
    for pid in members(tree) {
        let listed = fs::read_dir(format!("/proc/{pid}/fd"));
        let count = match listed {
            Ok(entries) => entries.count() as u32,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(format!("cannot look into process {pid}: {error}")),
        };
        let limits = read(pid, "limits").unwrap_or_default();
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().next());
        all.push(Open {
            pid: pid.0,
            count,
            limit: soft.and_then(|n| n.parse().ok()),
        });
    }
    Ok(all)
}

fn read(pid: Pid, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
}

/// It ended while it was looked at.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// By UDP, once more when half the time is over; by TCP where the answer does not fit.
fn ask_dns(asked: &Dns, timeout: Duration, found: &mut dyn FnMut()) -> Found {
    let Address::Tcp { host, port } = &asked.server else {
        return (internal("a name server has no Unix socket"), "".into());
    };
    let server = match resolve::resolve_blocking(host, *port) {
        Ok(addresses) => addresses[0],
        Err(why) => {
            let unresolved = Trouble::Unresolved(host.clone());
            return (Outcome::Inconclusive(unresolved), why.into());
        }
    };
    found();
    let ends = Instant::now() + timeout;
    let id = number();
    match by_udp(asked, server, id, timeout / 2) {
        Ok(Some(found)) => found,
        Ok(None) => {
            by_tcp(asked, server, id, ends).unwrap_or_else(|e| failed(&e, "the answer by TCP"))
        }
        Err(error) => failed(&error, "no answer"),
    }
}

/// None: it is too long for UDP.
fn by_udp(
    asked: &Dns,
    server: SocketAddr,
    id: u16,
    patience: Duration,
) -> io::Result<Option<Found>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // Answers of others never arrive.
    socket.connect(server)?;
    let question = dns::query(id, asked);
    let mut buffer = vec![0; 65_535];
    for last in [false, true] {
        socket.send(&question)?;
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_late(&error) => break,
                Err(error) => return Err(error),
            };
            match dns::judge(id, asked, &buffer[..length]) {
                dns::Answer::Foreign => {}
                dns::Answer::Truncated => return Ok(None),
                dns::Answer::Outcome(outcome, output) => return Ok(Some((outcome, output))),
            }
        }
        if last {
            break;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn by_tcp(asked: &Dns, server: SocketAddr, id: u16, ends: Instant) -> io::Result<Found> {
    let left = || match ends.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    let question = dns::query(id, asked);
    let mut message = (question.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(&question);
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(&message)?;
    stream.set_read_timeout(Some(left()?))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.set_read_timeout(Some(left()?))?;
    stream.read_exact(&mut answer)?;
    Ok(match dns::judge(id, asked, &answer) {
        dns::Answer::Outcome(outcome, output) => (outcome, output),
        dns::Answer::Foreign | dns::Answer::Truncated => {
            let what = "no answer to the question, by TCP";
            (Outcome::Fail(Reason::Syntax(what.into())), "".into())
        }
    })
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn failed(error: &io::Error, what: &str) -> Found {
    let outcome = match error.raw_os_error() {
        _ if is_late(error) => Outcome::Fail(Reason::TimeoutAt(what.into())),
        Some(errno) => dial::fault_of(errno, "dns").outcome(),
        None => Outcome::Fail(Reason::Syntax("closed within the answer".into())),
    };
    (outcome, "".into())
}

/// One that nobody guesses.
fn number() -> u16 {
    let mut bytes = [0u8; 2];
    // By its number: the standard library's reference to the function is a weak one, and a static
    // binary that is optimised as a whole calls nothing at address 0.
    // SAFETY: it writes to these two bytes only. Should it fail the number is a poor one.
    unsafe {
        libc::syscall(
            libc::SYS_getrandom,
            bytes.as_mut_ptr(),
            bytes.len(),
            libc::GRND_NONBLOCK,
        )
    };
    u16::from_ne_bytes(bytes)
}
