//! Probe dialogues over real sockets: what Linux does to them, and what is made of it.
//!
//! Everything is on 127.0.0.1, [::1] and Unix sockets in a directory of the test's own.

#[path = "probe_wire/rig.rs"]
mod rig;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType};
use rig::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;
use vitald::config::{Address, Ask};
use vitald::limits::{PROBE_OUTPUT_BYTES, PROBE_READ_BYTES};
use vitald::probe::{Outcome, Reason, Trouble};
use vitald::reactor::dial::Kept;
use vitald::reactor::resolve::Resolved;

fn fail(reason: Reason) -> Outcome {
    Outcome::Fail(reason)
}

#[test]
fn conformance_1_a_pass_takes_one_wake_and_keeps_the_body() {
    let listener = listen();
    let well = |mut s: TcpStream| {
        let asked = head(&mut s).unwrap();
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
        say(&mut s, "all is well");
        assert_eq!(head(&mut s), None, "the prober closes");
    };
    let serving = server(&listener, [well; 20]);
    let probe = definition(http(&listener));
    let mut rig = Rig::new();
    let mut woken_once = 0;
    for _ in 0..20 {
        let finished = rig.check(&probe, LONG);
        assert_eq!(finished.report.outcome, Outcome::Pass);
        assert_eq!(&*finished.report.output, "all is well");
        assert!(finished.report.latency > Duration::ZERO);
        woken_once += u32::from(rig.wakes == 1);
    }
    // On a busy machine the kernel may finish some handshakes later.
    assert!(woken_once >= 10, "{woken_once} of 20");
    serving.join().unwrap();
}

#[test]
fn conformance_2_and_6_a_mute_server_is_a_timeout() {
    let listener = listen();
    let mut rig = Rig::new();
    // Nobody accepts here: the kernel did, so connecting alone proves nothing.
    assert_eq!(rig.outcome(http(&listener), SHORT), fail(Reason::Timeout));
    let banner = tcp(&listener, None, Some("x"));
    assert_eq!(rig.outcome(banner, SHORT), fail(Reason::Timeout));
    assert_eq!(rig.outcome(tcp(&listener, None, None), LONG), Outcome::Pass);
}

#[test]
fn a_timeout_keeps_what_came_and_resets_the_connection() {
    let listener = listen();
    let serving = server(
        &listener,
        [|mut s| {
            head(&mut s);
            s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                .unwrap();
            let end = s.read(&mut [0]).unwrap_err();
            assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        }],
    );
    let finished = Rig::new().check(&definition(http(&listener)), SHORT);
    assert_eq!(finished.report.outcome, fail(Reason::Timeout));
    assert_eq!(&*finished.report.output, "half");
    assert!(finished.report.latency >= SHORT);
    serving.join().unwrap();
}

#[test]
fn conformance_3_a_redirect_is_followed_to_the_same_host_when_asked() {
    let listener = listen();
    let answer = |mut s: TcpStream| {
        let to = if head(&mut s).unwrap().starts_with("GET /healthz ") {
            "HTTP/1.1 302 Found\r\nLocation: /well\r\nContent-Length: 0\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
        };
        s.write_all(to.as_bytes()).unwrap();
    };
    let serving = server(&listener, [answer; 3]);
    let mut rig = Rig::new();
    let mut following = http_at(&listener);
    following.follow_redirects = 1;
    let finished = rig.check(&definition(Ask::Http(following)), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass);
    assert_eq!(&*finished.report.output, "well");
    let finished = rig.check(&definition(http(&listener)), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass, "302 is in 200-399");
    assert_eq!(&*finished.report.output, "HTTP/1.1 302 Found");
    serving.join().unwrap();
}

#[test]
fn conformance_5_an_endless_body_passes_and_is_closed() {
    let listener = listen();
    let serving = server(
        &listener,
        [|mut s| {
            head(&mut s);
            s.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
            // Until the prober has had enough and closes.
            while s.write_all(chunk.as_bytes()).is_ok() {}
        }],
    );
    let finished = Rig::new().check(&definition(http(&listener)), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass);
    assert_eq!(finished.report.output.len(), PROBE_OUTPUT_BYTES);
    serving.join().unwrap();
}

#[test]
fn a_body_without_a_length_is_not_waited_for() {
    let listener = listen();
    let serving = server(
        &listener,
        [|mut s| {
            head(&mut s);
            s.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
            let _ = s.read(&mut [0]); // stays open until the prober goes
        }],
    );
    let finished = Rig::new().check(&definition(http(&listener)), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass);
    assert_eq!(&*finished.report.output, "hello");
    assert!(finished.report.latency < LONG / 2, "it is not waited for");
    serving.join().unwrap();
}

#[test]
fn conformance_6_closed_without_a_byte_is_an_empty_reply() {
    let listener = listen();
    let serving = server(
        &listener,
        [
            |mut s| {
                head(&mut s);
            },
            drop,
        ],
    );
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(http(&listener), LONG), fail(Reason::EmptyReply));
    let banner = tcp(&listener, None, Some("x"));
    assert_eq!(rig.outcome(banner, LONG), fail(Reason::EmptyReply));
    serving.join().unwrap();
}

#[test]
fn conformance_6_a_reset_is_its_own_word_but_what_came_before_counts() {
    fn reset(s: TcpStream) {
        let now = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        socket::setsockopt(&s, socket::sockopt::Linger, &now).unwrap();
    }
    let listener = listen();
    let serving = server(
        &listener,
        [
            |mut s| {
                head(&mut s);
                reset(s);
            },
            |mut s| {
                head(&mut s);
                s.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
                reset(s);
            },
        ],
    );
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(http(&listener), LONG), fail(Reason::Reset));
    let before = rig.outcome(http(&listener), LONG);
    assert_eq!(before, fail(Reason::Status(503)));
    serving.join().unwrap();
}

#[test]
fn conformance_6_refused_is_its_own_word() {
    let listener = listen();
    let (a, b) = (http(&listener), tcp(&listener, None, None));
    drop(listener);
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(a, LONG), fail(Reason::Refused));
    assert_eq!(rig.outcome(b, LONG), fail(Reason::Refused));
}

#[test]
fn conformance_6_a_missing_path_also_while_its_listener_lives() {
    let dir = Dir::new();
    let path = dir.path("s");
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(unix(&path), LONG), fail(Reason::Missing));
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(rig.outcome(unix(&path), LONG), Outcome::Pass);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(rig.outcome(unix(&path), LONG), fail(Reason::Missing));
    drop(listener);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(rig.outcome(unix(&path), LONG), fail(Reason::Refused));
    let below = format!("{path}/below");
    assert_eq!(rig.outcome(unix(&below), LONG), fail(Reason::Missing));
}

#[test]
fn what_is_no_stream_socket_or_no_path_is_said() {
    let dir = Dir::new();
    let path = dir.path("datagrams");
    let _bound = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut rig = Rig::new();
    match rig.outcome(unix(&path), LONG) {
        Outcome::Fail(Reason::Syntax(what)) => assert!(what.contains("stream"), "{what}"),
        other => panic!("{other}"),
    }
    match rig.outcome(unix(&format!("/{}", "x".repeat(200))), LONG) {
        Outcome::Inconclusive(Trouble::Internal(what)) => {
            assert!(what.contains("201 bytes, Linux allows 107"), "{what}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_abstract_namespace_is_reached_by_an_at_sign() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("vitald-wire-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let ask = || unix(&format!("@{name}"));
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(ask(), LONG), fail(Reason::Refused));
    let _listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(rig.outcome(ask(), LONG), Outcome::Pass);
}

/// A socket whose accept queue has room for one.
fn narrow(family: AddressFamily, address: &dyn socket::SockaddrLike) -> OwnedFd {
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::bind(fd.as_raw_fd(), address).unwrap();
    socket::listen(&fd, Backlog::new(0).unwrap()).unwrap();
    fd
}

#[test]
fn conformance_6_a_full_unix_accept_queue_is_its_own_word() {
    let dir = Dir::new();
    let path = dir.path("s");
    let address = socket::UnixAddr::new(path.as_str()).unwrap();
    let listener = UnixListener::from(narrow(AddressFamily::Unix, &address));
    let first = UnixStream::connect(&path).unwrap();
    let mut rig = Rig::new();
    let finished = rig.check(&definition(unix(&path)), SHORT);
    assert_eq!(finished.report.outcome, fail(Reason::QueueFull));
    assert!(finished.report.latency >= SHORT, "tried until the timeout");

    // Once there is room again, a retry gets in.
    let serving = thread::spawn(move || {
        thread::sleep(3 * vitald::reactor::dial::QUEUE_RETRY);
        drop(listener.accept().unwrap()); // the one that filled the queue
        let (mut s, _) = listener.accept().unwrap();
        assert!(head(&mut s).unwrap().contains("\r\nHost: localhost\r\n"));
        say(&mut s, "at last");
        let _ = s.read(&mut [0]);
    });
    let path = path.as_str().into();
    let ask = Ask::Http(http_of(Address::Unix { path }));
    let finished = rig.check(&definition(ask), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass);
    assert_eq!(&*finished.report.output, "at last");
    drop(first);
    serving.join().unwrap();
}

#[test]
fn a_full_tcp_accept_queue_is_a_timeout() {
    let any = std::net::SocketAddrV4::new([127, 0, 0, 1].into(), 0);
    let any: socket::SockaddrIn = any.into();
    let listener = TcpListener::from(narrow(AddressFamily::Inet, &any));
    let _first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut rig = Rig::new();
    let connect = || tcp(&listener, None, None);
    assert_eq!(rig.outcome(connect(), SHORT), fail(Reason::Timeout));
    assert_eq!(rig.outcome(http(&listener), SHORT), fail(Reason::Timeout));
    let _room = listener.accept().unwrap();
    assert_eq!(rig.outcome(connect(), LONG), Outcome::Pass);
}

#[test]
fn ipv6_and_the_second_address_of_a_name() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        assert!(
            std::env::var("VITALD_TEST_REQUIRE").is_err(),
            "no IPv6 loopback"
        );
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let serving = server(
        &listener,
        [|mut s| {
            assert!(head(&mut s).unwrap().contains("\r\nHost: [::1]:"));
            say(&mut s, "six");
        }],
    );
    let mut rig = Rig::new();
    assert_eq!(rig.outcome(http(&listener), LONG), Outcome::Pass);
    serving.join().unwrap();

    let port = listener.local_addr().unwrap().port();
    let probe = definition(tcp(&listener, None, None));
    let localhost = Resolved::Localhost(port);
    let finished = rig.check_at(&probe, localhost.clone(), LONG);
    assert_eq!(
        finished.report.outcome,
        Outcome::Pass,
        "127.0.0.1 refuses, ::1 accepts"
    );
    assert!(!finished.forget_name);
    drop(listener);
    let finished = rig.check_at(&probe, localhost, LONG);
    assert_eq!(finished.report.outcome, fail(Reason::Refused));
    assert!(finished.forget_name, "no address of it is any good");
}

#[test]
fn bytes_that_come_one_by_one_make_the_same_answer() {
    let listener = listen();
    let serving = server(
        &listener,
        [|mut s| {
            head(&mut s);
            s.set_nodelay(true).unwrap();
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" {
                s.write_all(&[*byte]).unwrap();
                thread::yield_now();
            }
            let _ = s.read(&mut [0]);
        }],
    );
    let finished = Rig::new().check(&definition(http(&listener)), LONG);
    assert_eq!(finished.report.outcome, Outcome::Pass);
    assert_eq!(&*finished.report.output, "hello");
    serving.join().unwrap();
}

#[test]
fn talk_sends_and_finds_what_it_expects() {
    let listener = listen();
    let answer = |mut s: TcpStream| {
        let mut ping = [0; 6];
        s.read_exact(&mut ping).unwrap();
        assert_eq!(&ping, b"PING\r\n");
        s.write_all(b"+PONG\r\n").unwrap();
        assert_eq!(s.read(&mut [0]).unwrap(), 0, "closed by FIN, not reset");
    };
    let serving = server(
        &listener,
        [answer, answer, |mut s| s.write_all(b"-ERR\r\n").unwrap()],
    );
    let mut rig = Rig::new();
    let send = Some("PING\r\n");
    let expect = Some("+PONG");
    let both = tcp(&listener, send, expect);
    assert_eq!(rig.outcome(both, LONG), Outcome::Pass);
    assert_eq!(rig.outcome(tcp(&listener, send, None), LONG), Outcome::Pass);
    let other = rig.outcome(tcp(&listener, None, expect), LONG);
    assert_eq!(other, fail(Reason::Mismatch));
    serving.join().unwrap();
}

#[test]
fn a_request_larger_than_the_buffers_is_written_as_it_drains() {
    const SIZE: usize = 8 * 1024 * 1024;
    let listener = listen();
    let serving = server(
        &listener,
        [|mut s| {
            let mut all = vec![0; SIZE];
            s.read_exact(&mut all).unwrap();
            assert!(all.iter().all(|b| *b == b'x'));
            s.write_all(b"ok").unwrap();
        }],
    );
    let ask = tcp(&listener, Some(&"x".repeat(SIZE)), Some("ok"));
    assert_eq!(Rig::new().outcome(ask, LONG), Outcome::Pass);
    serving.join().unwrap();
}

#[test]
fn an_answer_longer_than_the_bound_is_searched_up_to_it() {
    fn needle_after(mut s: TcpStream, filler: usize) {
        head(&mut s);
        say(&mut s, &format!("{}needle", "x".repeat(filler)));
        let _ = s.read(&mut [0]);
    }
    let listener = listen();
    let serving = server(
        &listener,
        [
            |s| needle_after(s, PROBE_READ_BYTES - 6),
            |s| needle_after(s, PROBE_READ_BYTES - 5),
        ],
    );
    let mut wanting = http_at(&listener);
    wanting.expect_body = Some("needle".into());
    let mut rig = Rig::new();
    let within = rig.outcome(Ask::Http(wanting.clone()), LONG);
    assert_eq!(within, Outcome::Pass);
    let beyond = rig.outcome(Ask::Http(wanting), LONG);
    assert_eq!(beyond, fail(Reason::Mismatch));
    serving.join().unwrap();
}

#[test]
fn a_kept_connection_is_used_again_and_replaced_when_the_server_gave_it_up() {
    let listener = listen();
    let serving = server(
        &listener,
        [
            |mut s| {
                for _ in 0..3 {
                    assert!(!head(&mut s).unwrap().contains("Connection: close"));
                    say(&mut s, "first");
                }
            },
            // Closes as soon as it is asked again, without a word.
            |mut s| {
                head(&mut s);
                say(&mut s, "second");
                head(&mut s);
            },
            // Says that it tired of waiting.
            |mut s| {
                head(&mut s);
                say(&mut s, "third");
                head(&mut s);
                s.write_all(b"HTTP/1.1 408 Idle\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
            },
            |mut s| {
                head(&mut s);
                say(&mut s, "fourth");
                assert_eq!(head(&mut s), None);
            },
        ],
    );
    let probe = definition(Ask::Http(keeping(&listener)));
    let mut rig = Rig::new();
    for expected in ["first", "first", "first", "second", "third", "fourth"] {
        let finished = rig.check(&probe, LONG);
        assert_eq!(finished.report.outcome, Outcome::Pass, "{expected}");
        assert_eq!(&*finished.report.output, expected);
        assert!(rig.kept.is_some());
    }
    assert!(rig.kept.as_ref().is_some_and(Kept::is_usable));
    rig.kept = None;
    serving.join().unwrap();
}

#[test]
fn a_kept_connection_is_kept_for_its_own_question_and_knows_when_it_is_dead() {
    let listener = listen();
    let serving = server(
        &listener,
        [
            |mut s| {
                head(&mut s);
                say(&mut s, "one");
                assert_eq!(head(&mut s), None);
            },
            |mut s| {
                head(&mut s);
                say(&mut s, "two");
            },
        ],
    );
    let mut ask = keeping(&listener);
    let mut rig = Rig::new();
    rig.check(&definition(Ask::Http(ask.clone())), LONG);
    assert!(rig.kept.as_ref().is_some_and(Kept::is_usable));
    ask.path = "/other".into();
    let finished = rig.check(&definition(Ask::Http(ask)), LONG);
    assert_eq!(&*finished.report.output, "two");
    serving.join().unwrap();
    let kept = rig.kept.take().expect("it ended cleanly");
    assert!(!kept.is_usable(), "the server closed it");
}

#[test]
fn only_a_kept_connection_is_given_a_second_try() {
    let listener = listen();
    let serving = server(
        &listener,
        [
            |mut s| {
                head(&mut s);
                say(&mut s, "one");
                head(&mut s);
            },
            |mut s| {
                head(&mut s);
            },
        ],
    );
    let probe = definition(Ask::Http(keeping(&listener)));
    let mut rig = Rig::new();
    assert_eq!(rig.check(&probe, LONG).report.outcome, Outcome::Pass);
    let second = rig.check(&probe, LONG).report.outcome;
    assert_eq!(second, fail(Reason::EmptyReply));
    serving.join().unwrap();
}
