//! A service that listens on what it was handed, as sd_listen_fds(3) has it, and answers whoever
//! comes with the socket's name and its own run: `web web/1`.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

/// The keys that make it run. `how`: `serve`, `once` (one stranger, then it is done), `deaf`
/// (it ends at once).
pub fn exec(host: &super::host::Host, how: &str) -> String {
    let me = std::env::current_exe().expect("this program");
    let modes = host.path("modes");
    format!(
        "exec = ['{}', '--exact', 'actor::act', '--nocapture']\n\
         env = {{ ACT = 'listen {how}', ACT_MODES = '{modes}' }}\n",
        me.display()
    )
}

pub fn listen(how: &str, run: &str) -> ! {
    if how == "deaf" {
        std::process::exit(0);
    }
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let own = var("LISTEN_PID") == std::process::id().to_string();
    assert!(own, "LISTEN_PID={}", var("LISTEN_PID"));
    let count: RawFd = var("LISTEN_FDS").parse().expect("LISTEN_FDS");
    let names = var("LISTEN_FDNAMES");
    let names: Vec<&str> = names.split(':').collect();
    assert_eq!(names.len(), count as usize);
    let once = how == "once";
    let threads: Vec<_> = (3..3 + count)
        .zip(names)
        .map(|(fd, name)| {
            let words = format!("{name} {run}");
            std::thread::spawn(move || serve(fd, &words, once))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
    std::process::exit(0);
}

fn serve(fd: RawFd, words: &str, once: bool) {
    use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage};
    use nix::sys::socket::{getsockname, getsockopt, sockopt};
    // SAFETY: it was handed to this process, and to this thread alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let kind = getsockopt(&owned, sockopt::SockType).expect("a socket");
    let name: SockaddrStorage = getsockname(fd).expect("its name");
    let unix = name.family() == Some(AddressFamily::Unix);
    let done = || {
        if once {
            std::process::exit(0);
        }
    };
    match (kind, unix) {
        (SockType::Stream, true) => {
            let listener = UnixListener::from(owned);
            loop {
                answer(listener.accept().expect("accept").0, words);
                done();
            }
        }
        (SockType::Stream, false) => {
            let listener = TcpListener::from(owned);
            loop {
                answer(listener.accept().expect("accept").0, words);
                done();
            }
        }
        (_, true) => {
            let socket = UnixDatagram::from(owned);
            let mut buffer = [0; 100];
            loop {
                let (_, from) = socket.recv_from(&mut buffer).expect("a datagram");
                let _ = socket.send_to_addr(words.as_bytes(), &from);
                done();
            }
        }
        (_, false) => {
            let socket = UdpSocket::from(owned);
            let mut buffer = [0; 100];
            loop {
                let (_, from) = socket.recv_from(&mut buffer).expect("a datagram");
                let _ = socket.send_to(words.as_bytes(), from);
                done();
            }
        }
    }
}

fn answer(mut stream: impl Read + Write, words: &str) {
    let mut hello = [0; 1];
    let _ = stream.read(&mut hello);
    let _ = stream.write_all(words.as_bytes());
}

/// Comes to a socket, and takes the answer. An error: it was refused, or had no answer.
pub fn visit(listen: &str) -> std::io::Result<String> {
    let (kind, at) = listen.split_once(':').expect("an address");
    let mut text = String::new();
    let mut buffer = [0; 100];
    match kind {
        "tcp" => {
            let mut stream = std::net::TcpStream::connect(at)?;
            stream.set_read_timeout(Some(super::client::PATIENCE))?;
            hello(&mut stream, &mut text)?;
        }
        "unix" => {
            let mut stream = std::os::unix::net::UnixStream::connect(at)?;
            stream.set_read_timeout(Some(super::client::PATIENCE))?;
            hello(&mut stream, &mut text)?;
        }
        "udp" => {
            let any = if at.starts_with('[') {
                "[::1]:0"
            } else {
                "127.0.0.1:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(super::client::PATIENCE))?;
            socket.connect(at)?;
            socket.send(b"?")?;
            let length = socket.recv(&mut buffer)?;
            text.push_str(std::str::from_utf8(&buffer[..length]).expect("text"));
        }
        _ => {
            // It needs a name to be answered by.
            static VISITORS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let number = VISITORS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let own = format!("{at}.visitor-{number}");
            let socket = UnixDatagram::bind(&own)?;
            socket.set_read_timeout(Some(super::client::PATIENCE))?;
            let sent = socket.send_to(b"?", at);
            let received = sent.and_then(|_| socket.recv(&mut buffer));
            let _ = std::fs::remove_file(&own);
            text.push_str(std::str::from_utf8(&buffer[..received?]).expect("text"));
        }
    }
    Ok(text)
}

fn hello(stream: &mut (impl Read + Write), text: &mut String) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_to_string(text)?;
    Ok(())
}

/// As often as it takes: one that a run had accepted when it was ended has no answer, and is none
/// that was refused.
pub fn served(listen: &str) -> String {
    let end = std::time::Instant::now() + super::client::PATIENCE;
    loop {
        match visit(listen) {
            Ok(text) if !text.is_empty() => return text,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => panic!("{listen}: {error}"),
        }
        assert!(std::time::Instant::now() < end, "{listen}: never answered");
        std::thread::sleep(Duration::from_millis(1));
    }
}
