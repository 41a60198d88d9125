//! The services of these tests that a shell cannot play: HTTP servers that misbehave on request.
//!
//! The test program runs itself: as a test, [`act`] does nothing; with ACT in its environment it
//! is a server. How it answers is asked anew for each connection: it is what stands in the file
//! `NAME.N` beside the others in ACT_MODES, for run N of service NAME, and `ok` where there is no
//! such file. So a new run is well again, as a restarted server is. A [`speaker`](super::speaker)
//! says of itself what it is told to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

/// Not a test: what [`Server::exec`](super::host::Server) starts.
#[test]
fn act() {
    let Ok(role) = std::env::var("ACT") else {
        return;
    };
    let modes = PathBuf::from(std::env::var_os("ACT_MODES").expect("ACT_MODES"));
    let run = std::env::var("VITALD_RUN").expect("VITALD_RUN");
    let mode = modes.join(run.replace('/', "."));
    // Bound here and not by whoever started it: so there is a moment in which nobody listens.
    match role.split_once(' ') {
        Some(("tcp", address)) => {
            let listener = TcpListener::bind(address).expect("bind");
            serve(&mode, || listener.accept().expect("accept").0);
        }
        Some(("unix", path)) => {
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path).expect("bind");
            serve(&mode, || listener.accept().expect("accept").0);
        }
        Some(("listen", how)) => super::acceptor::listen(how, &run),
        Some(("speak", who)) => super::speaker::speak(&modes.join(run.replace('/', ".")), who),
        _ => panic!("no such role: {role}"),
    }
}

trait Stream: Read + Write {
    fn bound(&self);
}

impl Stream for std::net::TcpStream {
    fn bound(&self) {
        let _ = self.set_read_timeout(Some(Duration::from_secs(5)));
    }
}

impl Stream for std::os::unix::net::UnixStream {
    fn bound(&self) {
        let _ = self.set_read_timeout(Some(Duration::from_secs(5)));
    }
}

fn serve<S: Stream>(mode: &std::path::Path, mut accept: impl FnMut() -> S) -> ! {
    // Those who are never answered are not hung up on either.
    let mut mute = Vec::new();
    loop {
        let mut stream = accept();
        let words = std::fs::read_to_string(mode).unwrap_or_default();
        let (word, argument) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
        if word == "mute" {
            mute.push(stream);
            continue;
        }
        stream.bound();
        // The request is read to its end: who closes with bytes unread resets the connection.
        let request = read_request(&mut stream);
        let (status, body) = match word {
            "" | "ok" => ("200 OK", "well\n".to_owned()),
            "empty" => continue,
            "stuck" => stuck(),
            "burn" => loop {
                std::hint::spin_loop();
            },
            "full" => {
                let mut held = Vec::new();
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    held.push(file);
                }
                stuck()
            }
            "status" => (argument, "not well\n".to_owned()),
            "echo" => ("200 OK", request),
            other => panic!("no such mode: {other}"),
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
}

fn stuck() -> ! {
    loop {
        std::thread::park();
    }
}

fn read_request(stream: &mut impl Stream) -> String {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}
