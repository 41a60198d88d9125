//! `vitald demo` by the real binary: it closes the loop, says so, and leaves nothing behind, in
//! whatever way it ends. With `VITALD_BIN` another binary is asked, such as the static one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

fn vitald() -> Command {
    let binary = std::env::var_os("VITALD_BIN");
    let mut command = Command::new(binary.unwrap_or(env!("CARGO_BIN_EXE_vitald").into()));
    command.env("LC_ALL", "C.UTF-8").env_remove("VITALD_SOCKET");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A demonstration under way, of which the first line was read: where it plays.
struct Play {
    child: Child,
    out: BufReader<ChildStdout>,
    dir: String,
    told: String,
}

impl Play {
    fn begin() -> Play {
        let mut child = vitald().arg("demo").spawn().expect("the demonstration");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let mut play = Play {
            child,
            out,
            dir: String::new(),
            told: String::new(),
        };
        play.until("All happens in ");
        let first = play.told.lines().next().expect("a line");
        let (_, dir) = first.rsplit_once(' ').expect("a directory");
        play.dir = dir.trim_end_matches('.').to_owned();
        assert!(Path::new(&play.dir).is_dir(), "{first}");
        play
    }

    /// Reads until a line with these words.
    fn until(&mut self, words: &str) {
        loop {
            let mut line = String::new();
            let length = self.out.read_line(&mut line).expect("a line");
            assert!(length > 0, "it ended before `{words}`:\n{}", self.told);
            self.told.push_str(&line);
            if line.contains(words) {
                return;
            }
        }
    }

    /// Exit code, and all it said on stdout and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        self.out
            .read_to_string(&mut self.told)
            .expect("the rest of it");
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().expect("its stderr");
        stderr.read_to_string(&mut errors).expect("UTF-8");
        let status = self.child.wait().expect("its end");
        (status.code(), self.told, errors)
    }

    /// The service's port, once the definition was shown.
    fn port(&self) -> u16 {
        let (_, rest) = self.told.split_once("http://127.0.0.1:").expect("a target");
        let port = rest.split('/').next().expect("a port");
        port.parse().expect("a number")
    }
}

/// Processes whose command line holds these words.
fn processes(words: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(words)
    })
    .collect()
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: two numbers; the process is one that this test started. It may be gone already.
    unsafe { libc::kill(pid, signal) };
}

fn nothing_is_left(dir: &str, port: u16) {
    assert!(!Path::new(dir).exists(), "{dir} is left");
    assert_eq!(processes(dir), [0; 0], "the daemon is left");
    let server = format!("demo --serve {port}");
    assert_eq!(processes(&server), [0; 0], "the service is left");
}

#[test]
fn the_loop_closes_and_nothing_is_left() {
    let began = Instant::now();
    let mut play = Play::begin();
    play.until("target = ");
    let (dir, port) = (play.dir.clone(), play.port());
    let (code, told, errors) = play.end();
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{told}");
    let mut rest = told.as_str();
    for words in [
        "1. A service is a file",
        "max_attempts = 3",
        "2. The daemon starts it",
        "●  web   running",
        "3. Now it hangs",
        "connected, and no answer in 500 ms",
        "4. The probe notices",
        "healthy → unhealthy",
        "allowed",
        "running → stopping",
        "backoff → starting",
        "unknown → healthy",
        "5. It is another process",
        "HTTP/1.1 200 OK",
        "1/3",
        "6. And why",
        "● web: running",
        "timeout, 3 in a row",
        "what comes next",
        "7. The same by hand",
        "Cleaned up",
        "The loop closed: seen to hang after ",
    ] {
        let at = rest.find(words);
        let at = at.unwrap_or_else(|| panic!("no `{words}` in its place:\n{told}"));
        rest = &rest[at + words.len()..];
    }
    assert!(!told.contains('\x1b'), "no colours into a pipe");
    assert!(began.elapsed() < Duration::from_secs(15), "{told}");
    nothing_is_left(&dir, port);
}

#[test]
fn an_interrupted_demonstration_clears_up() {
    let mut play = Play::begin();
    play.until("4. The probe notices");
    let (dir, port) = (play.dir.clone(), play.port());
    kill(play.child.id() as i32, libc::SIGINT);
    let (code, _, errors) = play.end();
    assert_eq!(code, Some(1));
    assert!(errors.contains("ended by SIGINT"), "{errors}");
    nothing_is_left(&dir, port);
}

#[test]
fn without_its_daemon_it_fails_and_ends_the_service_too() {
    let mut play = Play::begin();
    play.until("4. The probe notices");
    let (dir, port) = (play.dir.clone(), play.port());
    for daemon in processes(&format!("run --config-dir {dir}")) {
        kill(daemon, libc::SIGKILL);
    }
    let (code, told, errors) = play.end();
    assert_eq!(code, Some(1), "{told}");
    assert!(
        errors.contains("the daemon") && !told.contains("The loop closed"),
        "{told}{errors}"
    );
    nothing_is_left(&dir, port);
}

/// One request, and what comes back in half a second.
fn ask(place: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(place).expect("its port is bound");
    let patience = Some(Duration::from_millis(500));
    stream.set_read_timeout(patience).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let mut answer = String::new();
    // A timeout is what a hang looks like.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_server_answers_until_it_is_asked_to_hang() {
    let mut server = vitald();
    let mut server = server.args(["demo", "--serve", "0"]).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(server.stdout.take().expect("its output"));
    out.read_line(&mut line).expect("a line");
    let place = line.trim().strip_prefix("listening on ").expect("a place");
    assert!(ask(place, "/").starts_with("HTTP/1.1 200 OK\r\n"));
    // Half a request, then nothing: the next one is served all the same.
    let mut half = TcpStream::connect(place).expect("its port is bound");
    half.write_all(b"GET / HT").expect("written");
    drop(half);
    assert!(ask(place, "/hangar").ends_with("\r\n\r\nwell\n"));
    assert!(ask(place, "/hang").ends_with("\r\n\r\nhanging\n"));
    assert_eq!(ask(place, "/"), "");
    assert!(matches!(server.try_wait(), Ok(None)), "it lives");
    server.kill().expect("killed");
    server.wait().expect("reaped");
}
