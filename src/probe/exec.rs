//! `exec`: a command's exit status is the answer, its last lines are the evidence.
//!
//! Not here: starting the command, its timeout, ending its process group. Invariant: whatever the
//! command writes, no more than twice the output bound is held.

use crate::exit::Exit;
use crate::limits::PROBE_OUTPUT_BYTES;
use crate::probe::{Outcome, Reason, Trouble, visible};

/// The end of what a command has written so far, stdout and stderr as they came.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(PROBE_OUTPUT_BYTES)..];
        // Cut only when twice full: moving the rest down for each byte would be quadratic.
        if self.bytes.len() + bytes.len() > 2 * PROBE_OUTPUT_BYTES {
            let keep = PROBE_OUTPUT_BYTES - bytes.len();
            self.bytes.drain(..self.bytes.len() - keep);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The last lines, within the bounds, fit to be shown.
    pub fn output(&self) -> Box<str> {
        visible::last_lines(&self.bytes)
    }
}

/// What the command's end says of the service.
pub fn outcome(exit: Exit) -> Outcome {
    match exit {
        Exit::Code(0) => Outcome::Pass,
        Exit::Code(code) => Outcome::Fail(Reason::ExitCode(code)),
        Exit::Signal(signal) => Outcome::Fail(Reason::Signal(signal)),
        Exit::Unknown => {
            Outcome::Inconclusive(Trouble::Internal("the command's end is not known".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Signal;

    /// Conformance 7, the part that is judged here.
    #[test]
    fn a_failing_command_is_told_by_its_end_and_its_last_lines() {
        let mut tail = Tail::default();
        tail.push(b"a\nb\nc\nd\ne\nf\nno database\n");
        assert_eq!(&*tail.output(), "c\nd\ne\nf\nno database");
        assert_eq!(outcome(Exit::Code(3)), Outcome::Fail(Reason::ExitCode(3)));
        assert_eq!(
            outcome(Exit::Signal(Signal::KILL)),
            Outcome::Fail(Reason::Signal(Signal::KILL))
        );
        assert_eq!(outcome(Exit::Code(0)), Outcome::Pass);
        assert!(matches!(outcome(Exit::Unknown), Outcome::Inconclusive(_)));
    }

    #[test]
    fn the_tail_is_the_same_however_it_was_cut_and_stays_bounded() {
        let text: Vec<u8> = (0..9000u32)
            .flat_map(|n| format!("{n:x}\n").into_bytes())
            .collect();
        let mut whole = Tail::default();
        whole.push(&text);
        for size in [1, 7, 511, 512, 513, 4096] {
            let mut tail = Tail::default();
            for chunk in text.chunks(size) {
                tail.push(chunk);
                assert!(tail.bytes.len() <= 2 * PROBE_OUTPUT_BYTES);
            }
            assert_eq!(tail.output(), whole.output(), "chunks of {size}");
        }
        assert!(whole.output().ends_with("2327"));
    }
}
