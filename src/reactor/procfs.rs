//! Processes as `/proc` tells of them (proc_pid_stat(5)): one, all, and our children.
//!
//! Not here: system calls on processes (`sys`). What is read may be old when it is used: a process
//! is known by number and start time together.

use crate::id::Pid;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What `/proc/PID/stat` tells (proc_pid_stat(5)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcStat {
    pub pid: Pid,
    /// `R` `S` `D` `T` `Z` …
    pub state: u8,
    pub parent: Pid,
    pub group: Pid,
    pub session: Pid,
    /// Clock ticks since boot (field 22): with the pid, a process's name for ever.
    pub started: u64,
}

/// Reads `/proc/PID/stat`; NotFound: there is no such process (or no /proc).
pub fn proc_stat(pid: Pid) -> io::Result<ProcStat> {
    // Field 22 ends before byte 400, also with the longest name and numbers.
    let mut line = [0u8; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut line)?;
    let line = line.get(..length).unwrap_or_default();
    parse_stat(line).ok_or_else(|| {
        // A process that goes while it is read gives an empty line or ESRCH.
        io::Error::from_raw_os_error(libc::ESRCH)
    })
}

/// The name (field 2) may hold blanks and parentheses: what counts begins behind the last `)`.
fn parse_stat(line: &[u8]) -> Option<ProcStat> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let pid = line.split(|byte| *byte == b' ').next()?;
    let text = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let mut number = || fields.next()?.parse::<i32>().ok().map(Pid);
    let (parent, group, session) = (number()?, number()?, number()?);
    Some(ProcStat {
        pid: Pid(std::str::from_utf8(pid).ok()?.parse().ok()?),
        state,
        parent,
        group,
        session,
        started: fields.nth(15)?.parse().ok()?,
    })
}

/// A process's start time (clock ticks since boot); `None` when there is no such process.
pub fn start_time(pid: Pid) -> Option<u64> {
    proc_stat(pid).ok().map(|stat| stat.started)
}

/// Now, as start times are counted: clock ticks since boot.
pub fn boot_ticks() -> u64 {
    // SAFETY: all zero is a time.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to `now` only.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    // The kernel divides as whole numbers: a tick is 10 ms wherever Linux runs nowadays.
    let ticks = ticks_per_second();
    now.tv_sec as u64 * ticks + now.tv_nsec as u64 / (1_000_000_000 / ticks)
}

pub fn ticks_per_second() -> u64 {
    // SAFETY: it only tells.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// All processes that `/proc` shows. An error: there is no /proc.
pub fn processes() -> io::Result<Vec<Pid>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid))
        .collect())
}

/// Tells of our direct children. One for the daemon's life: the file is kept open, for to open it
/// costs four times what reading it does.
#[derive(Debug, Default)]
pub struct Children {
    list: Option<fs::File>,
}

impl Children {
    /// All of them, ended ones that are not reaped among them, oldest first.
    ///
    /// Read from `/proc/thread-self/children` (CONFIG_PROC_CHILDREN), else found by asking every
    /// process for its parent. The list is exact: a child of ours goes only when we reap it.
    /// Measured with 1,000 children: 0.2 ms.
    pub fn all(&mut self) -> io::Result<Vec<Pid>> {
        let list = match &mut self.list {
            Some(list) => list,
            none => match fs::File::open("/proc/thread-self/children") {
                Ok(list) => none.insert(list),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return children_by_parent(),
                Err(e) => return Err(e),
            },
        };
        let (mut children, mut number, mut at) = (Vec::new(), 0i32, 0);
        let mut buffer = [0u8; 1024];
        loop {
            // From offset 0 the kernel makes the list anew.
            let length = list.read_at(&mut buffer, at)?;
            if length == 0 {
                return Ok(children);
            }
            at += length as u64;
            // Each number is closed by a blank.
            for byte in buffer.iter().take(length) {
                if byte.is_ascii_digit() {
                    number = number * 10 + i32::from(byte - b'0');
                } else if number > 0 {
                    children.push(Pid(std::mem::take(&mut number)));
                }
            }
        }
    }
}

/// How much of the time tasks waited for a resource: `/proc/pressure/cpu`, or a cgroup's
/// `cpu.pressure` (Documentation/accounting/psi.rst). In hundredths of a percent; totals in µs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All did. Zero where the kernel does not tell: of the host's CPU, or before Linux 5.13.
    pub full: Stall,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stall {
    pub avg10: u32,
    pub avg60: u32,
    pub avg300: u32,
    pub total_us: u64,
}

/// Reads one such file. An error: no such file, or the kernel was started with `psi=0`
/// (EOPNOTSUPP at the read).
pub fn pressure(path: &str) -> io::Result<Pressure> {
    let mut text = [0u8; 512];
    let length = fs::File::open(path)?.read(&mut text)?;
    let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).ok();
    text.and_then(parse_pressure)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let stall = match fields.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for field in fields {
            match field.split_once('=')? {
                ("avg10", value) => stall.avg10 = hundredths(value)?,
                ("avg60", value) => stall.avg60 = hundredths(value)?,
                ("avg300", value) => stall.avg300 = hundredths(value)?,
                ("total", value) => stall.total_us = value.parse().ok()?,
                _ => {}
            }
        }
    }
    text.starts_with("some").then_some(pressure)
}

/// `12.34` is 1234.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    let part: u32 = part.get(..2)?.parse().ok()?;
    whole
        .parse::<u32>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part)
}

fn children_by_parent() -> io::Result<Vec<Pid>> {
    let ourselves = Pid(std::process::id() as i32);
    let mut all = processes()?;
    all.retain(|pid| proc_stat(*pid).is_ok_and(|stat| stat.parent == ourselves));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = b"42 (a) R 1) S 7 8 9 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 9876 22 33\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.state), (Pid(42), b'S'));
        let ids = (stat.parent, stat.group, stat.session);
        assert_eq!(ids, (Pid(7), Pid(8), Pid(9)));
        assert_eq!(stat.started, 9876);
    }

    #[test]
    fn a_line_cut_short_is_no_process() {
        for line in [
            &b""[..],
            b"42",
            b"42 (x)",
            b"42 (x) S 1 2",
            b"42 (x) S 1 2 3 0 -1",
        ] {
            assert_eq!(parse_stat(line), None);
        }
    }

    #[test]
    fn pressure_is_read_whole_or_not_at_all() {
        let some = "some avg10=12.34 avg60=0.05 avg300=100.00 total=9876543\n";
        let both = format!("{some}full avg10=1.00 avg60=0.00 avg300=0.00 total=7\n");
        let told = parse_pressure(&both).unwrap();
        let averages = (told.some.avg10, told.some.avg60, told.some.avg300);
        assert_eq!(averages, (1234, 5, 10_000));
        assert_eq!((told.some.total_us, told.full.total_us), (9_876_543, 7));
        assert_eq!(told.full.avg10, 100);
        // The host's CPU has no `full` in older kernels.
        assert_eq!(parse_pressure(some).unwrap().full, Stall::default());
        for bad in [
            "",
            "some avg10=x",
            "full avg10=1.00 avg60=0.00",
            "some avg10",
        ] {
            assert_eq!(parse_pressure(bad), None, "{bad}");
        }
        if fs::File::open("/proc/pressure/cpu").is_ok_and(|mut f| f.read(&mut [0]).is_ok()) {
            pressure("/proc/pressure/cpu").unwrap();
        }
        assert!(pressure("/proc/pressure/nothing").is_err());
    }

    #[test]
    fn we_find_ourselves() {
        let own = proc_stat(Pid(std::process::id() as i32)).unwrap();
        assert_eq!(own.parent.0, std::os::unix::process::parent_id() as i32);
        assert!(own.started > 0);
        assert_eq!(start_time(Pid(i32::MAX)), None);
    }
}
