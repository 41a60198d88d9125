//! Sockets and their queues, by sock_diag(7); where that is not to be had, or the process is in
//! another network namespace, by `/proc/PID/net/tcp`, which does not tell the backlog.
//!
//! A listening socket's receive queue is what waits to be accepted, its send queue the backlog:
//! the kernel takes one more than that (measured: 129 of 128).

use super::{Probed, Subject};
use crate::control::dossier::{Evidence, SocketSeen};
use crate::limits;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// One of a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    unix: bool,
    state: u8,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    /// Of a Unix socket: what it was bound to, and the inode that this made.
    path: String,
    bound: Option<u32>,
    queues: Option<(u64, u64)>,
    inode: u64,
}

/// Those that may matter: the processes' own, and who listens where a probe asks.
pub struct Found {
    /// A probe asks it.
    rows: Vec<(bool, Row)>,
    own: BTreeMap<u64, i32>,
    /// Accepted connections where a probe asks, by port and by path.
    by_port: BTreeMap<u16, u64>,
    by_path: BTreeMap<String, u64>,
}

pub fn all(subject: &Subject, own: BTreeMap<u64, i32>) -> Found {
    let mut found = Found {
        rows: Vec::new(),
        own,
        by_port: BTreeMap::new(),
        by_path: BTreeMap::new(),
    };
    let asked: Vec<(&Probed, Option<u32>)> =
        subject.probed.iter().map(|at| (at, file(at))).collect();
    // Of a host's hundred thousand connections those that may matter.
    each_row(subject, false, &mut |row| {
        let at = asked.iter().any(|(at, inode)| row.is_at(at, *inode));
        // One that waits to be accepted is nobody's file yet.
        if at && row.inode != 0 && matches!(row.state, ESTABLISHED | CLOSE_WAIT) {
            found.count(&row);
        }
        let probed = at && row.state == LISTEN;
        if probed || found.own.contains_key(&row.inode) {
            found.rows.push((probed, row));
        }
    });
    found
}

/// The inode of a socket's file; None: there is none.
fn file(at: &Probed) -> Option<u32> {
    match at {
        Probed::Port { .. } => None,
        Probed::Path(path) => inode_at(path),
    }
}

/// As the kernel tells it of sockets: its lower half.
fn inode_at(path: &str) -> Option<u32> {
    fs::metadata(path).ok().map(|file| file.ino() as u32)
}

/// The same place by another name, as /run and /var/run are.
fn is_same_place(a: &str, b: &str) -> bool {
    let (a, b) = (Path::new(a), Path::new(b));
    let real = |path: &Path| fs::canonicalize(path.parent()?).ok();
    a == b || (a.file_name() == b.file_name() && real(a).is_some() && real(a) == real(b))
}

/// The receive queues a moment later.
pub fn again(subject: &Subject, evidence: &mut Evidence) {
    let mut rows = Vec::new();
    each_row(subject, true, &mut |row| {
        if row.state == LISTEN {
            rows.push(row);
        }
    });
    for socket in &mut evidence.sockets {
        let same = |row: &&Row| row.shown().0 == socket.local;
        if socket.state == "listen"
            && let Some((receive, _)) = rows.iter().find(same).and_then(|row| row.queues)
        {
            socket.receive_queue_then = Some(receive);
        }
    }
}

fn each_row(subject: &Subject, listening: bool, each: &mut dyn FnMut(Row)) {
    let states = if listening { 1 << LISTEN } else { u32::MAX };
    let pid = subject.main;
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    let foreign = namespace(&pid.to_string()) != namespace("self");
    for (family, file) in [(libc::AF_INET, "tcp"), (libc::AF_INET6, "tcp6")] {
        let told = match foreign {
            true => None,
            false => ask(&inet_request(family as u8, states), &mut |body| {
                inet_row(body).map(&mut *each);
            }),
        };
        if told.is_none() {
            let mut text = String::new();
            let table = fs::File::open(format!("/proc/{pid}/net/{file}"));
            // A host's connections, of which the first megabyte holds those that listen.
            let _ = table.map(|file| file.take(1 << 20).read_to_string(&mut text));
            text.lines()
                .skip(1)
                .filter_map(table_row)
                .for_each(&mut *each);
        }
    }
    let told = match foreign {
        true => None,
        false => ask(&unix_request(states), &mut |body| {
            unix_row(body).map(&mut *each);
        }),
    };
    if told.is_none() {
        let mut text = String::new();
        let table = fs::File::open(format!("/proc/{pid}/net/unix"));
        let _ = table.map(|file| file.take(1 << 20).read_to_string(&mut text));
        let rows = text.lines().skip(1).filter_map(unix_table_row);
        rows.filter(|row| states & (1 << row.state) != 0)
            .for_each(&mut *each);
    }
}

impl Found {
    fn count(&mut self, row: &Row) {
        match (row.unix, row.local) {
            (true, _) => *self.by_path.entry(row.path.clone()).or_default() += 1,
            (false, Some(at)) => *self.by_port.entry(at.port()).or_default() += 1,
            (false, None) => {}
        }
    }

    fn connections(&self, row: &Row) -> Option<u64> {
        let count = match row.unix {
            true => self.by_path.get(&row.path),
            false => self.by_port.get(&row.local?.port()),
        };
        Some(count.copied().unwrap_or(0))
    }

    pub fn put(&self, evidence: &mut Evidence) {
        let mut seen: Vec<(bool, SocketSeen)> = Vec::new();
        for (probed, row) in &self.rows {
            let own = self.own.contains_key(&row.inode);
            let (local, peer) = row.shown();
            let listens = row.state == LISTEN;
            seen.push((
                row.state != LISTEN,
                SocketSeen {
                    kind: if row.unix { "unix" } else { "tcp" }.to_owned(),
                    state: state_word(row.state).to_owned(),
                    local,
                    peer,
                    receive_queue: row.queues.map(|(receive, _)| receive),
                    // What is not known there is 0.
                    send_queue: row.queues.map(|(_, send)| send).filter(|n| *n != u64::MAX),
                    receive_queue_then: None,
                    connections: self.connections(row).filter(|_| listens && *probed),
                    path: row.lost().filter(|_| listens).map(str::to_owned),
                    probed: *probed,
                    own,
                },
            ));
        }
        // Those that probes ask, those that listen, those with something in their queues.
        seen.sort_by_key(|(others, socket)| {
            let waits = socket.receive_queue.unwrap_or(0) + socket.send_queue.unwrap_or(0);
            (!socket.probed, *others, waits == 0)
        });
        evidence.more_sockets = seen.len().saturating_sub(limits::DOSSIER_SOCKETS) as u64;
        seen.truncate(limits::DOSSIER_SOCKETS);
        evidence.sockets = seen.into_iter().map(|(_, socket)| socket).collect();
    }

    /// `tcp to 10.0.0.5:5432`
    pub fn words(&self, inode: u64) -> Option<String> {
        let (_, row) = self.rows.iter().find(|(_, row)| row.inode == inode)?;
        let (local, peer) = row.shown();
        let kind = if row.unix { "unix" } else { "tcp" };
        Some(match (row.state, peer.is_empty(), local.is_empty()) {
            (LISTEN, _, _) => format!("{kind} {local}"),
            (_, false, _) => format!("{kind} to {peer}"),
            (_, true, false) => format!("{kind} {local}"),
            (_, true, true) => format!("{kind} socket"),
        })
    }
}

impl Row {
    fn shown(&self) -> (String, String) {
        let word = |at: Option<SocketAddr>| at.map_or(String::new(), |at| at.to_string());
        match self.unix {
            true => (self.path.clone(), String::new()),
            false => (word(self.local), word(self.peer)),
        }
    }

    /// `inode`: what is at that path.
    fn is_at(&self, probed: &Probed, inode: Option<u32>) -> bool {
        match probed {
            Probed::Port { port, .. } => self.local.is_some_and(|at| at.port() == *port),
            Probed::Path(path) if self.unix && !self.path.is_empty() => {
                let same = self.bound.is_some() && self.bound == inode;
                same || is_same_place(&self.path, path)
            }
            Probed::Path(_) => false,
        }
    }

    /// What became of the path that it was bound to, if anything did.
    fn lost(&self) -> Option<&'static str> {
        if !self.unix || !self.path.starts_with('/') {
            return None;
        }
        match (inode_at(&self.path), self.bound) {
            (None, _) => Some("gone"),
            (Some(there), Some(bound)) if there != bound => Some("taken"),
            (Some(_), _) => None,
        }
    }
}

/// As the kernel numbers them (include/net/tcp_states.h).
fn state_word(state: u8) -> &'static str {
    match state {
        1 => "established",
        2 => "syn-sent",
        3 => "syn-received",
        4 => "fin-wait-1",
        5 => "fin-wait-2",
        6 => "time-wait",
        7 => "closed",
        8 => "close-wait",
        9 => "last-ack",
        10 => "listen",
        11 => "closing",
        _ => "other",
    }
}

// --- sock_diag(7)

/// Asks for a dump; each answer's body. None: it is not to be had.
fn ask(request: &[u8], each: &mut dyn FnMut(&[u8])) -> Option<()> {
    const DONE: u16 = 3;
    const ERROR: u16 = 2;
    // SAFETY: numbers only; the descriptor is ours.
    let socket = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))?
    };
    let mut message = Vec::new();
    message.extend_from_slice(&(16 + request.len() as u32).to_ne_bytes());
    message.extend_from_slice(&20u16.to_ne_bytes()); // SOCK_DIAG_BY_FAMILY
    message.extend_from_slice(&0x301u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_DUMP
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(request);
    // SAFETY: the bytes live as long as the call.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        )
    };
    if sent != message.len() as isize {
        return None;
    }
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        // SAFETY: it writes into the buffer, not past its end.
        let got = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        let mut rest = buffer.get(..usize::try_from(got).ok()?)?;
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            match u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?) {
                DONE => return Some(()),
                ERROR => return None,
                _ => each(rest.get(16..length)?),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if got == 0 {
            return None;
        }
    }
}

/// `struct inet_diag_req_v2`
fn inet_request(family: u8, states: u32) -> [u8; 56] {
    let mut request = [0; 56];
    request[0] = family;
    request[1] = libc::IPPROTO_TCP as u8;
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    request
}

/// `struct inet_diag_msg`
fn inet_row(body: &[u8]) -> Option<Row> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let number = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let address = |at: usize, port: u16| {
        if i32::from(family) == libc::AF_INET {
            let four: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
            return Some(SocketAddr::from((Ipv4Addr::from(four), port)));
        }
        let sixteen: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(SocketAddr::from((Ipv6Addr::from(sixteen), port)))
    };
    let peer = address(24, port(6)?)?;
    Some(Row {
        state,
        local: address(8, port(4)?),
        peer: (state != LISTEN).then_some(peer),
        queues: Some((number(56)?.into(), number(60)?.into())),
        inode: number(68)?.into(),
        ..Row::default()
    })
}

/// `struct unix_diag_req`: name, the file that this is, and queue lengths.
fn unix_request(states: u32) -> [u8; 24] {
    let mut request = [0; 24];
    request[0] = libc::AF_UNIX as u8;
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    request[12..16].copy_from_slice(&0x13u32.to_ne_bytes());
    request
}

/// `struct unix_diag_msg`, and its attributes.
fn unix_row(body: &[u8]) -> Option<Row> {
    let number = |from: &[u8]| Some(u32::from_ne_bytes(from.get(..4)?.try_into().ok()?));
    let mut row = Row {
        unix: true,
        state: *body.get(2)?,
        inode: number(body.get(4..)?)?.into(),
        ..Row::default()
    };
    let mut rest = body.get(16..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        match kind {
            0 => {
                let text = String::from_utf8_lossy(value);
                let text = text.trim_end_matches('\0');
                row.path = match text.strip_prefix('\0') {
                    Some(abstracted) => format!("@{abstracted}"),
                    None => text.to_owned(),
                };
            }
            1 => row.bound = Some(number(value)?),
            4 => row.queues = Some((number(value)?.into(), number(value.get(4..)?)?.into())),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(row)
}

// --- /proc/PID/net/tcp, tcp6, unix

/// `0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/web.sock`
fn unix_table_row(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    // SS_CONNECTED is 3 (include/uapi/linux/net.h), __SO_ACCEPTCON 1 << 16.
    let connected = fields.nth(1)? == "03";
    Some(Row {
        unix: true,
        state: match (flags & (1 << 16) != 0, connected) {
            (true, _) => LISTEN,
            (false, true) => ESTABLISHED,
            (false, false) => 7,
        },
        inode: fields.next()?.parse().ok()?,
        path: fields.collect::<Vec<_>>().join(" "),
        ..Row::default()
    })
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000081 00:00000000 00000000 0 0 4711 …`
fn table_row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |field: &str| {
        let (at, port) = field.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let mut bytes = Vec::new();
        for word in 0..at.len() / 8 {
            // Words in the host's order, of an address in the network's.
            let word = u32::from_str_radix(at.get(word * 8..word * 8 + 8)?, 16).ok()?;
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        if let Ok(four) = <[u8; 4]>::try_from(&bytes[..]) {
            return Some(SocketAddr::from((Ipv4Addr::from(four), port)));
        }
        let sixteen = <[u8; 16]>::try_from(&bytes[..]).ok()?;
        Some(SocketAddr::from((Ipv6Addr::from(sixteen), port)))
    };
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let (send, receive) = fields.get(4)?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let send = match state {
        LISTEN => u64::MAX,
        _ => hex(send)?,
    };
    Some(Row {
        state,
        local: address(fields.get(1)?),
        peer: address(fields.get(2)?).filter(|_| state != LISTEN),
        queues: Some((hex(receive)?, send)),
        inode: fields.get(9)?.parse().ok()?,
        ..Row::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Pid;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000081 00:00000000 00000000 \
                    0        0 4711 1 0";
        let row = table_row(line).unwrap();
        assert_eq!(row.local, Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
        assert_eq!((row.state, row.inode), (LISTEN, 4711));
        assert_eq!(row.queues, Some((0x81, u64::MAX)));
        for cut in 0..60 {
            let _ = table_row(&line[..cut]);
        }
    }

    #[test]
    fn a_line_of_the_unix_table_is_read() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/a b.sock";
        let row = unix_table_row(line).unwrap();
        assert_eq!(
            (row.state, row.inode, &*row.path),
            (LISTEN, 4711, "/run/a b.sock")
        );
        let accepted = line.replace("00010000 0001 01", "00000000 0001 03");
        assert_eq!(unix_table_row(&accepted).unwrap().state, ESTABLISHED);
        for cut in 0..60 {
            let _ = unix_table_row(&line[..cut]);
        }
    }

    /// The kernel knows the name that a socket was bound to, also when nothing is there any more.
    #[test]
    fn a_path_that_is_gone_or_anothers_is_told() {
        let dir = std::env::temp_dir().join(format!("vitald-gone-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, alias) = (dir.join("a.sock"), dir.join("alias"));
        std::os::unix::fs::symlink(&dir, &alias).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let _accepted = listener.accept().unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        let seen = |probed: &Path| {
            let subject = Subject {
                main: Pid(std::process::id() as i32),
                leaf: None,
                probed: vec![Probed::Path(probed.to_string_lossy().into_owned())],
                timeout: Duration::ZERO,
            };
            let mut evidence = Evidence::default();
            all(&subject, BTreeMap::new()).put(&mut evidence);
            let socket = evidence.sockets.pop().expect("the listener");
            assert!(evidence.sockets.is_empty(), "{:?}", evidence.sockets);
            assert_eq!(
                (socket.connections, socket.receive_queue),
                (Some(1), Some(1))
            );
            socket.path
        };
        assert_eq!(seen(&path), None);
        assert_eq!(seen(&alias.join("a.sock")), None, "by another name");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(seen(&path).as_deref(), Some("gone"));
        assert_eq!(seen(&alias.join("a.sock")).as_deref(), Some("gone"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(seen(&path).as_deref(), Some("taken"));
        let _ = std::fs::remove_dir_all(&dir);
    }

    /// Two that nobody accepts, over both kinds of sockets.
    #[test]
    fn who_waits_to_be_accepted_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _waiting = [
            TcpStream::connect(at).unwrap(),
            TcpStream::connect(at).unwrap(),
        ];
        let path = std::env::temp_dir().join(format!("vitald-diag-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _bound = UnixListener::bind(&path).unwrap();
        let _knocks = UnixStream::connect(&path).unwrap();
        let shown = path.to_string_lossy().into_owned();
        let subject = Subject {
            main: Pid(std::process::id() as i32),
            leaf: None,
            probed: vec![
                Probed::Port {
                    shown: at.to_string(),
                    port: at.port(),
                },
                Probed::Path(shown.clone()),
            ],
            timeout: Duration::ZERO,
        };
        let mut evidence = Evidence::default();
        all(&subject, BTreeMap::new()).put(&mut evidence);
        again(&subject, &mut evidence);
        let _ = std::fs::remove_file(&path);
        let of = |local: &str| {
            let socket = evidence.sockets.iter().find(|socket| socket.local == local);
            let socket = socket.unwrap_or_else(|| panic!("{local} in {:?}", evidence.sockets));
            assert!(socket.probed && !socket.own && socket.state == "listen");
            (socket.receive_queue, socket.receive_queue_then)
        };
        assert_eq!(of(&at.to_string()), (Some(2), Some(2)));
        assert_eq!(of(&shown), (Some(1), Some(1)));
    }
}
