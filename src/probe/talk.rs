//! `tcp` and `unix`: connect, and speak if the definition says so.
//!
//! With neither `send` nor `expect` an accepted connection is the pass (and proves only that the
//! kernel accepts). With `send` alone any answer passes; with `expect` the answer must contain it,
//! within the first [`PROBE_READ_BYTES`]. What was searched once is not searched again.

use crate::limits::PROBE_READ_BYTES;
use crate::probe::dialogue::{Step, contains_from};
use crate::probe::{Outcome, Reason};

#[derive(Clone, Debug, Default)]
pub struct Talk {
    pub(super) seen: Vec<u8>,
}

impl Talk {
    pub fn on_bytes(&mut self, expect: Option<&str>, bytes: &[u8]) -> Step {
        let expect = expect.unwrap_or("").as_bytes();
        let from = self.seen.len().saturating_sub(expect.len());
        let room = PROBE_READ_BYTES - self.seen.len();
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if !self.seen.is_empty() && contains_from(&self.seen, from, expect) {
            Step::Done(Outcome::Pass)
        } else if self.seen.len() >= PROBE_READ_BYTES {
            Step::Done(Outcome::Fail(Reason::Mismatch))
        } else {
            Step::More
        }
    }

    /// The other side will send no more.
    pub fn on_eof(&self) -> Outcome {
        Outcome::Fail(if self.seen.is_empty() {
            Reason::EmptyReply
        } else {
            Reason::Mismatch
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_at_whatever_byte_it_is_cut() {
        let answer = b"* hello\r\n+PONG\r\n";
        for cut in 0..=answer.len() {
            let mut talk = Talk::default();
            let (a, b) = answer.split_at(cut);
            let first = talk.on_bytes(Some("PONG\r\n"), a);
            if first == Step::More {
                assert_eq!(
                    talk.on_bytes(Some("PONG\r\n"), b),
                    Step::Done(Outcome::Pass),
                    "cut at {cut}"
                );
            } else {
                assert_eq!((first, cut), (Step::Done(Outcome::Pass), answer.len()));
            }
        }
    }

    #[test]
    fn send_alone_wants_any_answer() {
        assert_eq!(
            Talk::default().on_bytes(None, b"?"),
            Step::Done(Outcome::Pass)
        );
        assert_eq!(Talk::default().on_bytes(None, b""), Step::More);
        assert_eq!(Talk::default().on_eof(), Outcome::Fail(Reason::EmptyReply));
    }

    #[test]
    fn another_answer_is_a_mismatch_at_its_end_or_at_the_bound() {
        let mut talk = Talk::default();
        assert_eq!(talk.on_bytes(Some("OK"), b"-ERR\r\n"), Step::More);
        assert_eq!(talk.on_eof(), Outcome::Fail(Reason::Mismatch));
        let mut talk = Talk::default();
        let mut fed = 0;
        while talk.on_bytes(Some("OK"), &[b'x'; 1000]) == Step::More {
            fed += 1000;
            assert!(fed <= PROBE_READ_BYTES, "an endless answer is cut");
        }
        assert_eq!(talk.seen.len(), PROBE_READ_BYTES);
    }
}
