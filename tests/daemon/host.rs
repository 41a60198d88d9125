//! One test's host: directories, definitions, a daemon that can be killed and started again.
//!
//! Dropped, also by a failing test, it kills the daemon and then whatever carries this host's
//! socket path in its environment, by pid, and prints what the daemon said when the test failed.

use super::client::{Client, PATIENCE, Refusal};
use super::faults::Faults;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use vitald::engine::status::{DaemonStatus, Status, StoryLine, Why};
use vitald::reactor::cgroup::{self, Leaf};

/// Between two looks at something that gives no event.
const LOOK: Duration = Duration::from_millis(5);

static HOSTS: AtomicU32 = AtomicU32::new(0);

pub struct Host {
    pub dir: PathBuf,
    /// One per host.
    number: u32,
    state_dir: PathBuf,
    daemon: Option<Child>,
    env: Vec<(String, String)>,
    faults: Option<Faults>,
    /// In which namespaces of its own the daemon is, and what a shell does there before it becomes it.
    within: Option<(&'static [&'static str], String)>,
}

pub fn binary() -> PathBuf {
    match std::env::var_os("VITALD_BIN") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_vitald").into(),
    }
}

/// Makes an executable file of this text.
pub fn executable(path: &str, text: &str) {
    let words = path.to_owned() + ".text";
    fs::write(&words, text).expect("write");
    copy(Path::new(&words), path);
    fs::remove_file(words).expect("remove");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).expect("chmod");
}

/// Copies a file that is to be executed. Another process does it: a child that another test has
/// just forked would hold what this one writes to, and nobody could execute it (ETXTBSY).
pub fn copy(from: &Path, to: &str) {
    let done = Command::new("cp").arg(from).arg(to).status();
    assert!(done.expect("cp").success(), "cp {} {to}", from.display());
}

/// Whether this test may do what only root can.
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        assert!(!required, "needs root, and VITALD_TEST_REQUIRE=1");
        eprintln!("skipped: needs root");
    }
    root
}

/// Whether a server is here; without it the test is passed over, or fails where it must be.
pub fn is_here(program: &str) -> bool {
    let here = std::path::Path::new(program).exists();
    let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
    assert!(here || !required, "no {program}, and VITALD_TEST_REQUIRE=1");
    if !here {
        eprintln!("skipped: no {program}");
    }
    here
}

/// Looks until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(LOOK);
    }
}

/// The state letter and the parent of a process, from /proc/PID/stat; None: there is none.
pub fn process(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also blanks and parentheses (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// It runs, or is stopped; a zombie does not.
pub fn alive(pid: i32) -> bool {
    process(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("send a signal");
}

/// All processes whose initial environment says that they belong to the daemon of this socket.
fn belongings(socket: &Path) -> Vec<i32> {
    let mark = format!("VITALD_SOCKET={}", socket.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|e| e == mark.as_bytes()) && alive(pid) {
            found.push(pid);
        }
    }
    found
}

impl Host {
    pub fn new(test: &str) -> Host {
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("vitald-{}-{test}", std::process::id()));
        fs::create_dir_all(dir.join("config/services")).expect("mkdir");
        fs::create_dir_all(dir.join("modes")).expect("mkdir");
        Host {
            number,
            state_dir: dir.join("state"),
            daemon: None,
            env: Vec::new(),
            faults: None,
            within: None,
            dir,
        }
    }

    /// A host with these definitions and a daemon that runs.
    pub fn with(test: &str, definitions: &[(&str, &str)]) -> Host {
        let mut host = Host::new(test);
        for (name, text) in definitions {
            host.define(name, text);
        }
        host.start();
        host
    }

    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its daemons' system calls fail by these.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = Some(faults);
    }

    /// Its daemons have a network and a file system of their own, prepared by this shell script.
    pub fn set_within(&mut self, script: &str) {
        self.set_within_of(&["--mount", "--net"], script);
    }

    /// The same, with these namespaces (unshare(1)).
    pub fn set_within_of(&mut self, namespaces: &'static [&'static str], script: &str) {
        self.within = Some((namespaces, format!("{script}exec \"$@\"")));
    }

    pub fn set_state_dir(&mut self, dir: PathBuf) {
        self.state_dir = dir;
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/control.sock")
    }

    /// Writes `services/NAME.toml`.
    pub fn define(&self, name: &str, text: &str) {
        let path = self.dir.join(format!("config/services/{name}.toml"));
        fs::write(path, text).expect("write a definition");
    }

    /// Writes `vitald.toml`.
    pub fn settings(&self, text: &str) {
        fs::write(self.dir.join("config/vitald.toml"), text).expect("write settings");
    }

    /// Where its services' cgroups are; None: it has none here, and the test is passed over.
    pub fn cgroups(&self) -> Option<PathBuf> {
        let dir = cgroup::dir_for(&self.dir.join("run"));
        let made = dir.and_then(|dir| {
            let made = fs::create_dir(&dir);
            let exists = |e: &std::io::Error| e.kind() == std::io::ErrorKind::AlreadyExists;
            match made {
                Err(error) if !exists(&error) => Err(format!("{}: {error}", dir.display())),
                Ok(()) | Err(_) => Ok(dir),
            }
        });
        match made {
            Ok(dir) => Some(dir),
            Err(why) => {
                let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
                assert!(!required, "no cgroups: {why}, and VITALD_TEST_REQUIRE=1");
                eprintln!("skipped: no cgroups: {why}");
                None
            }
        }
    }

    pub fn undefine(&self, name: &str) {
        let path = self.dir.join(format!("config/services/{name}.toml"));
        fs::remove_file(path).expect("remove a definition");
    }

    /// The daemon's command, ready to be started.
    pub fn command(&self) -> Command {
        let mut command = match &self.within {
            None => Command::new(binary()),
            Some((namespaces, script)) => {
                let mut command = Command::new("unshare");
                command.args(*namespaces);
                command.args(["sh", "-c", script, "sh"]);
                command.arg(binary());
                command
            }
        };
        command.arg("run");
        command.arg("--config-dir").arg(self.dir.join("config"));
        command.arg("--state-dir").arg(&self.state_dir);
        command.arg("--runtime-dir").arg(self.dir.join("run"));
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            // What the host is short of is no test's business, unless it says so.
            .env("VITALD_TEST_PRESSURE", "/nonexistent");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts the daemon, and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "a daemon runs already");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("daemon.log"))
            .expect("open the daemon's log");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        let spawned = match &self.faults {
            Some(faults) => faults.spawn(&mut command),
            None => command.spawn(),
        };
        let mut child = spawned.expect("start the daemon");
        let pid = child.id() as i64;
        until("the daemon answers", || {
            if let Some(status) = child.try_wait().expect("wait") {
                panic!("the daemon ended: {status}: {}", self.said());
            }
            let Ok(mut client) = Client::connect(&self.socket()) else {
                return false;
            };
            // A socket that the daemon before left behind answers to nobody; this one does.
            client.ask("system.ping", &json!({}));
            client
                .answer()
                .is_some_and(|(_, answer)| answer.is_ok_and(|pong| pong["pid"] == pid))
        });
        self.daemon = Some(child);
    }

    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().expect("a daemon").id() as i32
    }

    /// kill -9, as it comes without warning.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("a daemon");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Waits until the daemon ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.daemon.take().expect("a daemon");
        let mut status = None;
        until("the daemon ends", || {
            status = child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("ended")
    }

    /// What the daemon wrote to stderr, over all its lives.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("connect")
    }

    /// Subscribed to all events of these services, from now on.
    pub fn events(&self, services: &[&str]) -> Client {
        let mut client = self.client();
        client.subscribe(services);
        client
    }

    pub fn call(&self, method: &str, params: &Value) -> Value {
        match self.client().call(method, params) {
            Ok(result) => result,
            Err((code, message)) => panic!("{method} {params}: {code} {message}"),
        }
    }

    pub fn refused(&self, method: &str, params: &Value) -> Refusal {
        match self.client().call(method, params) {
            Ok(result) => panic!("{method} {params} was not refused: {result}"),
            Err(refusal) => refusal,
        }
    }

    /// A verb on one service, waited for to its end.
    pub fn wait(&self, verb: &str, name: &str) -> Value {
        self.call(
            &format!("service.{verb}"),
            &json!({"name": name, "wait": true}),
        )
    }

    pub fn status(&self, name: &str) -> Status {
        let status = self.call("service.status", &json!({"name": name}));
        serde_json::from_value(status).expect("a status")
    }

    pub fn daemon(&self) -> DaemonStatus {
        let status = self.call("system.status", &json!({}));
        serde_json::from_value(status).expect("a status")
    }

    pub fn why(&self, name: &str) -> Why {
        let why = self.call("service.why", &json!({"name": name}));
        serde_json::from_value(why).expect("a story")
    }

    pub fn decisions(&self, name: &str) -> Vec<StoryLine> {
        let mut story = self.why(name).story;
        story.retain(|line| line.kind == "decision");
        story
    }

    /// Looks at a service until it is so.
    pub fn until(&self, name: &str, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        let mut client = self.client();
        let end = Instant::now() + PATIENCE;
        loop {
            let status = client
                .call("service.status", &json!({"name": name}))
                .unwrap_or_else(|(code, message)| panic!("{code} {message}"));
            let status: Status = serde_json::from_value(status).expect("a status");
            if so(&status) {
                return status;
            }
            if Instant::now() > end {
                panic!(
                    "{name} is never {what}: {status:#?}\n{:#?}",
                    self.why(name).story
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Running, and healthy if it has probes.
    pub fn up(&self, name: &str) -> Status {
        self.until(name, "up", is_up)
    }

    /// Up, by a run of this number or a later one.
    pub fn up_again(&self, name: &str, run: u32) -> Status {
        self.until(name, "up again", |s| s.run >= run && is_up(s))
    }

    /// The last lines that a service wrote, without the time that stands before each.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let params = json!({"name": name, "lines": 10_000});
        let mut logs = self.call("logs.tail", &params);
        let lines: Vec<String> = serde_json::from_value(logs["lines"].take()).expect("lines");
        lines.iter().map(|line| untimed(line).to_owned()).collect()
    }

    /// Waits until a service has written a line for which this is true.
    pub fn line(&self, name: &str, what: &str, so: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        until(what, || {
            found = self.lines(name).into_iter().find(|line| so(line));
            found.is_some()
        });
        found.expect("found")
    }

    /// The command line: exit code, stdout, stderr.
    pub fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("VITALD_SOCKET", self.socket())
            .args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("run a verb");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().unwrap_or(-1);
        (code, text(output.stdout), text(output.stderr))
    }

    /// Everything that runs here and is not the daemon itself.
    pub fn processes(&self) -> Vec<i32> {
        belongings(&self.socket())
    }

    /// A server of the tests' own over a Unix socket.
    pub fn server(&self, name: &str) -> Server {
        let path = self.path(&format!("{name}.sock"));
        Server {
            role: format!("unix {path}"),
            target: format!("unix:{path}:/healthz"),
            modes: self.dir.join("modes"),
            name: name.to_owned(),
        }
    }

    /// The same over TCP. Each has an address of its own in 127.0.0.0/8, so no port is ever taken.
    pub fn tcp_server(&self, name: &str) -> Server {
        let pid = std::process::id();
        let (high, low) = (1 + (pid >> 8) % 250, pid & 0xff);
        let address = format!("127.{high}.{low}.{}:8080", 1 + self.number % 250);
        Server {
            role: format!("tcp {address}"),
            target: format!("http://{address}/healthz"),
            modes: self.dir.join("modes"),
            name: name.to_owned(),
        }
    }
}

/// A log line without its time (RFC 3339, UTC, milliseconds).
pub fn untimed(line: &str) -> &str {
    let (time, text) = line.split_once(' ').unwrap_or((line, ""));
    assert!(
        time.len() == 24 && time.ends_with('Z'),
        "no time before it: {line}"
    );
    text
}

pub fn is_up(status: &Status) -> bool {
    let well = status
        .health
        .as_deref()
        .is_none_or(|health| health == "healthy");
    status.state == "running" && well
}

/// An HTTP server that does as it is told: see [`actor`](super::actor).
pub struct Server {
    role: String,
    pub target: String,
    modes: PathBuf,
    name: String,
}

impl Server {
    /// The keys that make it run.
    pub fn exec(&self) -> String {
        let me = std::env::current_exe().expect("this program");
        let (me, role, modes) = (me.display(), &self.role, self.modes.display());
        format!(
            "exec = ['{me}', '--exact', 'actor::act', '--nocapture']\n\
             env = {{ ACT = '{role}', ACT_MODES = '{modes}' }}\n"
        )
    }

    /// A probe of it, often enough for a test; `more` are further keys.
    pub fn probe(&self, more: &str) -> String {
        let target = &self.target;
        format!(
            "[[probe]]\ntype = 'http'\ntarget = '{target}'\ninterval_ms = 150\n\
             timeout_ms = 150\nfailure_threshold = 2\nstart_interval_ms = 30\n{more}\n"
        )
    }

    /// How run `run` answers from now on. Written aside first: it is read at any moment.
    pub fn tell(&self, run: u32, mode: &str) {
        let aside = self.modes.join(format!(".{}", self.name));
        fs::write(&aside, mode).expect("write a mode");
        fs::rename(&aside, self.modes.join(format!("{}.{run}", self.name))).expect("rename");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let socket = self.socket();
        let end = Instant::now() + PATIENCE;
        // One that is just being executed has the daemon's environment still, and not the mark.
        let mut nobody = 0;
        while nobody < 3 && Instant::now() < end {
            let left = belongings(&socket);
            nobody = if left.is_empty() { nobody + 1 } else { 0 };
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(LOOK);
        }
        // Whoever hid his environment is there still.
        if let Ok(dir) = cgroup::dir_for(&self.dir.join("run")) {
            let all = Leaf(dir);
            while all.exists() && all.remove().is_err() && Instant::now() < end {
                all.kill();
                std::thread::sleep(LOOK);
            }
        }
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
        // The scribe writes its last bytes when its daemon is gone.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.dir).is_ok() {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}
