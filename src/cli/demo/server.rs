//! The demonstration's service: a small HTTP server on the loopback address that answers every
//! request with 200, until it is asked for `/hang`. From then on it answers nothing, while its
//! process lives and its port stays bound: the kernel goes on accepting connections for it.
//!
//! No more of HTTP than a probe and `curl` need (RFC 9112).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// A client that connects and says nothing holds up the others no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves until it is ended by a signal; returns only when it cannot begin.
pub fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    say(&format!("listening on {}", listener.local_addr()?));
    for connection in listener.incoming() {
        // A client that went away is no trouble of ours.
        if connection.and_then(answer).is_ok_and(|hang| hang) {
            say("asked to hang: no answers from now on, the port stays bound");
            loop {
                std::thread::park();
            }
        }
    }
    Ok(())
}

/// Answers one request; true when it was the one to hang.
fn answer(mut client: TcpStream) -> io::Result<bool> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut head = [0; 1024];
    let mut length = 0;
    while length < head.len() && !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut head[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let hang = head.starts_with(b"GET /hang ");
    let body = if hang { "hanging\n" } else { "well\n" };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Who reads only the beginning and goes has asked all the same.
    let _ = client.write_all(answer.as_bytes());
    Ok(hang)
}

/// A line for the log. Nobody reading it is no reason to end.
fn say(words: &str) {
    let _ = writeln!(io::stdout(), "{words}");
}
