//! The daemon's own messages: to standard error, without ever waiting for whoever reads it.
//!
//! A terminal that was stopped (Ctrl-S), a full pipe to a logger that hangs: a plain write waits
//! for them, and the loop with it. So it is asked first whether there is room; what finds none is
//! dropped, counted, and said when there is. A regular file always has room (poll(2)): whoever
//! sends messages to a disk that stalls has chosen that.
//!
//! Invariant: at most [`PART`] bytes are written for each question, which is what a pipe that says
//! that it has room takes without waiting (pipe(7), PIPE_BUF).

use crate::control::render::clean;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;

const PART: usize = 4096;

/// One message is one line, whatever is in it: names of threads and files are a service's to choose.
pub fn line(level: log::Level, words: &str) -> String {
    let level = match level {
        log::Level::Error => "error: ",
        log::Level::Warn => "warning: ",
        log::Level::Info => "",
        log::Level::Debug => "debug: ",
        log::Level::Trace => "trace: ",
    };
    format!("vitald: {level}{}\n", clean(words))
}

/// Where messages go; made for standard error.
pub struct Messages<T> {
    to: T,
    /// Messages that found no room since the last one that did.
    dropped: u64,
}

impl<T: AsFd + Write> Messages<T> {
    pub fn new(to: T) -> Messages<T> {
        Messages { to, dropped: 0 }
    }

    fn has_room(&self) -> bool {
        let mut asked = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        // An error or a hang-up is no room: nobody reads there any more.
        poll(&mut asked, PollTimeout::ZERO).is_ok()
            && asked[0]
                .revents()
                .is_some_and(|it| it == PollFlags::POLLOUT)
    }

    /// All of it, or as much as there is room for.
    fn put(&mut self, message: &[u8]) -> bool {
        message
            .chunks(PART)
            .all(|part| self.has_room() && self.to.write_all(part).is_ok())
    }
}

impl<T: AsFd + Write> Write for Messages<T> {
    /// One whole message a call, as `env_logger` does it. Never an error: there is nobody to tell.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let words = format!(
                "vitald: warning: {} messages dropped: no room\n",
                self.dropped
            );
            if self.put(words.as_bytes()) {
                self.dropped = 0;
            }
        }
        if self.dropped > 0 || !self.put(message) {
            self.dropped += 1;
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_full_pipe_is_not_waited_for_and_what_was_dropped_is_said() {
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        let (mut reader, writer) = (File::from(reader), File::from(writer));
        let mut messages = Messages::new(writer);
        let line = [b'x'; 1000];
        // A pipe takes 64 KiB; the rest would wait for ever.
        for _ in 0..200 {
            assert_eq!(messages.write(&line).expect("never an error"), line.len());
        }
        let dropped = messages.dropped;
        assert!(dropped > 100, "{dropped}");
        let mut taken = vec![0; 32 * 1024];
        reader.read_exact(&mut taken).expect("read");
        messages.write_all(b"last\n").expect("never an error");
        drop(messages);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("read");
        let end = format!("vitald: warning: {dropped} messages dropped: no room\nlast\n");
        assert!(rest.ends_with(&end), "{}", &rest[rest.len() - 100..]);
    }

    #[test]
    fn nobody_else_writes_a_line_of_the_log() {
        assert_eq!(
            line(
                log::Level::Warn,
                "web: waits in read of 4 (/a\x1b[2J\nvitald: db: ok)"
            ),
            "vitald: warning: web: waits in read of 4 (/a\\u{1b}[2J vitald: db: ok)\n"
        );
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_no_error() {
        let (reader, writer) = nix::unistd::pipe().expect("pipe");
        drop(reader);
        let mut messages = Messages::new(File::from(writer));
        assert_eq!(messages.write(b"to nobody\n").expect("never an error"), 10);
    }
}
