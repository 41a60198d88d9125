//! How a process ended, the signals by name, and errnos in words.
//!
//! Signal numbers are Linux's for every architecture but MIPS, SPARC and Alpha (signal(7)).

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a process ended (waitid(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(u8),
    Signal(Signal),
    /// An adopted process that was not our child and whose kernel does not tell.
    Unknown,
}

/// `Permission denied (13)`: an errno as messages show it.
pub fn errno_words(errno: i32) -> String {
    let words = std::io::Error::from_raw_os_error(errno).to_string();
    let cause = words.split(" (os error").next().unwrap_or_default();
    format!("{cause} ({errno})")
}

impl Exit {
    /// What `restart = "on-failure"` calls clean: exit 0, or death by a signal with which
    /// people end things (systemd.service(5), SuccessExitStatus).
    pub fn is_clean(self) -> bool {
        match self {
            Exit::Code(code) => code == 0,
            Exit::Signal(s) => {
                matches!(s, Signal::TERM | Signal::INT | Signal::HUP | Signal::PIPE)
            }
            Exit::Unknown => false,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Unknown => f.write_str("end unknown"),
        }
    }
}

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub u8);

const NAMES: [&str; 32] = [
    "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    pub const HUP: Signal = Signal(1);
    pub const INT: Signal = Signal(2);
    pub const QUIT: Signal = Signal(3);
    pub const KILL: Signal = Signal(9);
    pub const STOP: Signal = Signal(19);
    pub const USR1: Signal = Signal(10);
    pub const USR2: Signal = Signal(12);
    pub const PIPE: Signal = Signal(13);
    pub const TERM: Signal = Signal(15);
    pub const CHLD: Signal = Signal(17);
    pub const CONT: Signal = Signal(18);
    pub const PWR: Signal = Signal(30);

    /// `SIGTERM`, `TERM`, `sigterm`, `15`, `SIGRTMIN+3`; None for anything else.
    pub fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse::<u8>() {
            return (1..=64).contains(&number).then_some(Signal(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(n) = name.strip_prefix("RTMIN+") {
            return n
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= 30)
                .map(|n| Signal(34 + n));
        }
        let number = NAMES.iter().skip(1).position(|known| *known == name)? + 1;
        Some(Signal(number as u8))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "SIGRTMIN+{}", self.0.saturating_sub(34)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back_as_it_is_shown() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(
                Signal::parse(&Signal(number).to_string()),
                Some(Signal(number))
            );
        }
    }

    #[test]
    fn words_that_are_no_signal_are_refused() {
        for word in ["", "0", "65", "SIG", "SIGNOPE", "RTMIN+31", "-9"] {
            assert_eq!(Signal::parse(word), None, "{word}");
        }
    }
}
