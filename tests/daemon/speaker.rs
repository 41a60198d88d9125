//! A service that says of itself what a test tells it to, by the protocols that services use:
//! sd_notify(3), s6's notification descriptor, stored descriptors.
//!
//! The test sends it a line on the datagram socket `NAME.N.WHO` (run N of service NAME; WHO is
//! `main`, or a process that it made); what it has to tell the test it writes to its output.

use super::host::{Host, until};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The keys that make it run.
pub fn exec(host: &Host) -> String {
    let me = std::env::current_exe().expect("this program");
    let modes = host.path("modes");
    std::fs::create_dir_all(&modes).expect("a directory");
    format!(
        "exec = ['{}', '--exact', 'actor::act', '--nocapture']\n\
         env = {{ ACT = 'speak main', ACT_MODES = '{modes}' }}\n\
         [retry_policy]\ndelay_ms = 10\njitter = 0\n",
        me.display()
    )
}

/// Tells a process of a run what to do, as soon as it listens.
pub fn tell(host: &Host, run: &str, words: &str) {
    let path = PathBuf::from(host.path("modes")).join(run);
    let socket = UnixDatagram::unbound().expect("a socket");
    until(&format!("{run} listens"), || {
        socket.send_to(words.as_bytes(), &path).is_ok()
    });
}

/// Sends a notification with these descriptors.
pub fn notify(path: &Path, text: &[u8], fds: &[RawFd]) -> nix::Result<usize> {
    let socket = UnixDatagram::unbound().expect("a socket");
    let address = UnixAddr::new(path)?;
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let (parts, flags) = ([IoSlice::new(text)], MsgFlags::empty());
    sendmsg(socket.as_raw_fd(), &parts, rights, flags, Some(&address))
}

fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// Until it is told to exit.
pub fn speak(run: &Path, who: &str) -> ! {
    let control = UnixDatagram::bind(format!("{}.{who}", run.display())).expect("bind");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let socket = PathBuf::from(var("NOTIFY_SOCKET"));
    let say = |text: &[u8], fds: &[RawFd]| match notify(&socket, text, fds) {
        Ok(_) => {}
        Err(errno) => println!("not heard: {errno}"),
    };
    let fed = Arc::new(AtomicBool::new(false));
    let mut held: Vec<File> = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let length = control.recv(&mut buffer).expect("a word");
        let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
        match verb {
            "say" => say(rest.as_bytes(), &[]),
            "say-long" => say(&vec![b'x'; rest.parse().expect("a length")], &[]),
            "feed" => {
                fed.store(true, Ordering::Relaxed);
                let (fed, socket) = (fed.clone(), socket.clone());
                std::thread::spawn(move || {
                    while fed.load(Ordering::Relaxed) {
                        let _ = notify(&socket, b"WATCHDOG=1", &[]);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
            }
            "starve" => fed.store(false, Ordering::Relaxed),
            "newline" => {
                // SAFETY: the descriptor that it was given for this; it is closed with the word.
                let mut file = unsafe { File::from_raw_fd(rest.parse().expect("a number")) };
                println!("newline: {}", file.write_all(b"\n").is_ok());
            }
            "newline-held" => {
                // SAFETY: the descriptor that it was given for this; it stays open.
                let file = unsafe { File::from_raw_fd(rest.parse().expect("a number")) };
                let mut file = std::mem::ManuallyDrop::new(file);
                println!("newline: {}", file.write_all(b"\n").is_ok());
            }
            "keep" => {
                let file = memfd_create(rest, MFdFlags::MFD_CLOEXEC).expect("a file");
                File::from(file.try_clone().expect("a copy"))
                    .write_all(format!("{rest} of {}", var("VITALD_RUN")).as_bytes())
                    .expect("write");
                let text = format!("FDSTORE=1\nFDNAME={rest}");
                say(text.as_bytes(), &[file.as_raw_fd(), file.as_raw_fd()]);
            }
            "keep-pipe" => {
                let (reader, writer) = pipe();
                let text = format!("FDSTORE=1\nFDNAME={rest}");
                say(text.as_bytes(), &[reader.as_raw_fd()]);
                held.push(writer);
            }
            "hang-up" => held.clear(),
            "flood" => {
                let (reader, _writer) = pipe();
                let fds = vec![reader.as_raw_fd(); 253];
                for _ in 0..rest.parse().expect("a number") {
                    say(b"STATUS=many", &fds);
                }
            }
            "barrier" => {
                let (mut reader, writer) = pipe();
                say(b"BARRIER=1", &[writer.as_raw_fd()]);
                drop(writer);
                let _ = reader.read(&mut [0]);
                println!("barrier: over");
            }
            "environment" => {
                for name in ["WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "FDSTORE"] {
                    println!("{name}={}", var(name));
                }
                let own = std::process::id().to_string();
                for name in ["WATCHDOG_PID", "LISTEN_PID"] {
                    println!("{name} is ours: {}", var(name) == own);
                }
                for fd in 3..3 + var("LISTEN_FDS").parse().unwrap_or(0) {
                    let mut text = [0; 64];
                    // SAFETY: given to it under that number; it is not closed here.
                    let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
                    let length = file.read_at(&mut text, 0).unwrap_or(0);
                    println!("{fd} holds: {}", String::from_utf8_lossy(&text[..length]));
                }
                println!("that is all");
            }
            "child" => {
                let me = std::env::current_exe().expect("this program");
                let child = std::process::Command::new(me)
                    .args(["--exact", "actor::act", "--nocapture"])
                    .env("ACT", format!("speak {rest}"))
                    .spawn()
                    .expect("a child");
                println!("child: {}", child.id());
                std::mem::forget(child);
            }
            // It is no more when its word is read.
            "hand-over" => {
                say(format!("MAINPID={rest}").as_bytes(), &[]);
                std::process::exit(0);
            }
            "exit" => std::process::exit(rest.parse().expect("a code")),
            other => panic!("no such word: {other}"),
        }
    }
}

/// As many descriptors as a message takes.
pub fn many() -> Vec<OwnedFd> {
    let file = File::open("/dev/null").expect("nothing");
    let copy = |_| file.try_clone().expect("a copy").into();
    (0..253).map(copy).collect()
}
