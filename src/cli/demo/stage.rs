//! Where the demonstration plays: a temporary directory, a free port, a daemon of its own, and
//! the certainty that nothing of it is left afterwards.
//!
//! Invariants: only processes that descend from this one are ended (it is their subreaper, so
//! that even those whose parent died are its own); the daemon is told to end should this process
//! die without a word; signals are blocked and read where the play waits, so it never ends
//! without clearing up.

use super::super::client::{Connection, Trouble, cause};
use crate::control::values::quoted;
use crate::engine::status::StoryLine;
use crate::reactor::child;
use crate::reactor::signals::Signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Deserialize;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest path of a Unix socket (unix(7)), less what stands behind the directory.
const LONGEST_DIR: usize = 107 - "/run/control.sock".len();
/// What the daemon has for its ordered end before it is killed.
const END: Duration = Duration::from_secs(10);

pub struct Stage {
    pub dir: PathBuf,
    pub port: u16,
    pub program: String,
    signals: Signals,
    daemon: Option<Pid>,
    /// How the daemon ended, when it did so by itself.
    ended: Option<String>,
    /// A signal told us to end.
    pub interrupted: bool,
}

impl Stage {
    /// Makes the directory with the definition in it and finds a free port; nothing runs yet.
    pub fn set() -> Result<Stage, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("cannot find this program: {}", cause(&error)))?;
        let program = program
            .into_os_string()
            .into_string()
            .map_err(|path| format!("{}: the path is not UTF-8", path.display()))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port on 127.0.0.1: {}", cause(&error)))?
            .port();
        let signals = Signals::listen()
            .map_err(|error| format!("cannot listen to signals: {}", cause(&error)))?;
        child::become_subreaper()
            .map_err(|error| format!("cannot become a subreaper: {}", cause(&error)))?;
        let dir = temporary();
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                let shown = dir.display();
                format!(
                    "cannot make {shown}: {}; name another place in TMPDIR",
                    cause(&error)
                )
            })?;
        let stage = Stage {
            dir,
            port,
            program,
            signals,
            daemon: None,
            ended: None,
            interrupted: false,
        };
        fs::create_dir(stage.dir.join("services"))
            .and_then(|()| fs::write(stage.definition_path(), stage.definition()))
            .map_err(|error| format!("cannot write the definition: {}", cause(&error)))?;
        Ok(stage)
    }

    pub fn definition_path(&self) -> PathBuf {
        self.dir.join("services/web.toml")
    }

    /// The service's definition. A JSON string is a TOML string.
    pub fn definition(&self) -> String {
        let (program, port) = (quoted(&self.program), self.port);
        format!(
            "\
exec = [{program}, \"demo\", \"--serve\", \"{port}\"]

[retry_policy]
max_attempts = 3
delay_ms = 500
stability_period_ms = 5000

[[probe]]
type = \"http\"
target = \"http://127.0.0.1:{port}/\"
interval_ms = 500
timeout_ms = 400
failure_threshold = 3
"
        )
    }

    fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run/control.sock")
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self, limit: Instant) -> Result<(), String> {
        let told = |error: std::io::Error| format!("cannot start the daemon: {}", cause(&error));
        let log = File::create(self.log()).map_err(told)?;
        let errors = log.try_clone().map_err(told)?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config-dir").arg(&self.dir);
        command.arg("--state-dir").arg(self.dir.join("state"));
        command.arg("--runtime-dir").arg(self.dir.join("run"));
        command.env_remove("VITALD_LOG").stdin(Stdio::null());
        // A group of its own: Ctrl-C is for us, and we end the daemon.
        command.stdout(log).stderr(errors).process_group(0);
        // SAFETY: between fork and exec only two system calls are made, and no memory is taken.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(told)?;
        self.daemon = Some(Pid::from_raw(child.id() as i32));
        while UnixStream::connect(self.socket()).is_err() {
            self.wait(Duration::from_millis(10), limit)?;
        }
        Ok(())
    }

    /// Waits so long; an error when a signal came, the daemon ended or the limit has passed.
    pub fn wait(&mut self, length: Duration, limit: Instant) -> Result<(), String> {
        let length = PollTimeout::try_from(length).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let waited = poll(&mut fds, length);
        self.look(waited, limit)
    }

    fn look(&mut self, waited: nix::Result<i32>, limit: Instant) -> Result<(), String> {
        match waited {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("cannot wait: {errno}")),
        }
        while let Ok(Some(caught)) = self.signals.read() {
            match i32::from(caught.signal.0) {
                libc::SIGTERM | libc::SIGINT | libc::SIGHUP => {
                    self.interrupted = true;
                    return Err(format!("ended by {}", caught.signal));
                }
                _ => self.reap(),
            }
        }
        if let Some(how) = &self.ended {
            return Err(format!("the daemon ended: {how}"));
        }
        if Instant::now() >= limit {
            return Err("it takes too long".to_owned());
        }
        Ok(())
    }

    /// Takes the status of every child that ended.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            if status.pid().is_some() && status.pid() == self.daemon {
                self.daemon = None;
                self.ended = Some(match status {
                    WaitStatus::Exited(_, code) => format!("exit code {code}"),
                    WaitStatus::Signaled(_, signal, _) => format!("signal {signal}"),
                    _ => "end unknown".to_owned(),
                });
            }
        }
    }

    /// Asks the daemon; the answer's `result`.
    pub fn ask(&self, method: &str, params: &str) -> Result<String, String> {
        let patience = Some(Duration::from_secs(5));
        let asked = Connection::open(&self.socket(), patience)
            .and_then(|mut connection| connection.call(method, params));
        asked.map_err(|trouble| match trouble {
            Trouble::NoDaemon(words) | Trouble::Other(words) => words,
            Trouble::Refused { message, .. } => message,
            Trouble::Closed => "the daemon closed the connection".to_owned(),
        })
    }

    /// Subscribes to what happens from now on.
    pub fn events(&self) -> Result<Events, String> {
        let mut stream = UnixStream::connect(self.socket())
            .map_err(|error| format!("cannot connect to the daemon: {}", cause(&error)))?;
        stream
            .write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"events.subscribe\",\"id\":1}\n")
            .and_then(|()| stream.set_nonblocking(true))
            .map_err(|error| format!("cannot subscribe: {}", cause(&error)))?;
        Ok(Events {
            stream,
            read: Vec::new(),
        })
    }

    /// One request to the service, by hand: None when there is no answer in time.
    pub fn get(&self, path: &str, patience: Duration) -> Result<Option<String>, String> {
        let place = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let told = |error: std::io::Error| format!("cannot ask {place}: {}", cause(&error));
        let mut stream = TcpStream::connect_timeout(&place, patience).map_err(told)?;
        stream.set_read_timeout(Some(patience)).map_err(told)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(told)?;
        let mut answer = [0; 1024];
        match stream.read(&mut answer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&answer[..length]).into_owned();
                Ok(text.lines().next().map(str::to_owned))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(told(error)),
        }
    }

    /// The last lines that the daemon said.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Ends the daemon and all that it started, and removes the directory.
    pub fn strike(&mut self) -> Result<(), String> {
        let limit = Instant::now() + END;
        if let Some(daemon) = self.daemon {
            let _ = kill(daemon, Signal::SIGTERM);
        }
        while self.daemon.is_some() && Instant::now() < limit {
            self.pause();
        }
        // An ordered end leaves nothing; of any other all that is left is a child of ours now.
        let limit = Instant::now() + END;
        while children_are_left() {
            if Instant::now() >= limit {
                return Err(format!("processes are left: {:?}", children()));
            }
            for pid in children() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            self.pause();
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let shown = self.dir.display();
                Err(format!("cannot remove {shown}: {}", cause(&error)))
            }
            _ => Ok(()),
        }
    }

    fn pause(&mut self) {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, 20u8);
        while let Ok(Some(_)) = self.signals.read() {}
        self.reap();
    }
}

/// Whatever the way out: nothing is left.
impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(words) = self.strike() {
            eprintln!("vitald: {words}");
        }
    }
}

/// In the daemon-to-be: it ends when we do, and hears all signals.
fn prepare() -> std::io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// A name in the temporary directory that has room for a socket's path behind it.
fn temporary() -> PathBuf {
    let name = format!("vitald-demo-{}", std::process::id());
    let dir = std::path::absolute(std::env::temp_dir()).unwrap_or_default();
    let dir = dir.join(&name);
    match dir.as_os_str().len() <= LONGEST_DIR {
        true => dir,
        false => Path::new("/tmp").join(name),
    }
}

fn children_are_left() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
    nix::sys::wait::waitid(nix::sys::wait::Id::All, flags) != Err(Errno::ECHILD)
}

/// Our children, and those that became ours (proc(5), `task/TID/children`).
fn children() -> Vec<Pid> {
    let me = std::process::id();
    let list = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    let numbers = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

/// What happens, as the daemon tells it.
pub struct Events {
    stream: UnixStream,
    read: Vec<u8>,
}

#[derive(Deserialize)]
struct Notification {
    params: Option<StoryLine>,
}

impl Events {
    /// The next event; an error for what ends [`Stage::wait`].
    pub fn next(&mut self, stage: &mut Stage, limit: Instant) -> Result<StoryLine, String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let told: Notification = serde_json::from_slice(&line)
                    .map_err(|error| format!("cannot read an event: {error}"))?;
                // The answer to the subscription has none.
                match told.params {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            let left = limit.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let waited = poll(
                &mut [
                    PollFd::new(stage.signals.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                ],
                left,
            );
            stage.look(waited, limit)?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("the daemon closed the connection".to_owned()),
                Ok(length) => self.read.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("cannot read events: {}", cause(&error))),
            }
        }
    }
}
