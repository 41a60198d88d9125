//! Builds the sockets of a definition from the tree, and reads where they listen.
//!
//! An address is one of this host's, in digits: a name would have to be asked for, and that takes
//! time and answers that change.
//!
//! Invariants of what is returned without an error: every `listen` can be parsed again
//! ([`address`]); no two listen at the same place.

use crate::config::definition::{Address, Ask, Listen, Socket};
use crate::config::keys::{service, socket as keys};
use crate::config::problem::Problems;
use crate::config::reader::{self, Table};
use crate::config::target;
use crate::config::tree::{Entry, Node, Span, Value};
use crate::limits::MAX_SOCKETS;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest name; it stands in LISTEN_FDNAMES, between colons (sd_listen_fds(3)).
const NAME_BYTES: usize = 255;
const EXAMPLE: &str = "tcp:127.0.0.1:8080";

/// All sockets of a service, each with the place of its table.
pub fn build_all(service: &str, t: &Table<'_>, p: &mut Problems) -> Vec<(Socket, Span)> {
    let Some(entry) = t.entry(&service::SOCKET) else {
        return Vec::new();
    };
    let tables: &[Node<'_>] = match &entry.value.value {
        Value::Array(tables) => tables,
        other => {
            let how = "an array of tables: write [[socket]]";
            reader::wrong::<()>(entry, how, other, p);
            return Vec::new();
        }
    };
    if tables.len() > MAX_SOCKETS {
        let words = format!("{} sockets; at most {MAX_SOCKETS} are taken", tables.len());
        p.error(entry.key_at, words);
        return Vec::new();
    }
    let mut sockets: Vec<(Socket, Span)> = Vec::new();
    for node in tables {
        let Value::Table(members) = &node.value else {
            let what = node.value.what();
            p.error(
                node.at,
                format!("`{}` must hold tables, not {what}", entry.key),
            );
            continue;
        };
        if let Some(socket) = build(service, node.at, members, &sockets, p) {
            sockets.push((socket, node.at));
        }
    }
    sockets
}

fn build(
    service: &str,
    at: Span,
    members: &[Entry<'_>],
    others: &[(Socket, Span)],
    p: &mut Problems,
) -> Option<Socket> {
    let t = Table::open(at, members, keys::ALL, p);
    let name = t.text(&keys::NAME, p);
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b':';
    if let Some(name) = name.filter(|n| n.len() > NAME_BYTES || !n.bytes().all(plain)) {
        let shown = crate::config::hints::shorten(name);
        p.error(
            t.place(&keys::NAME),
            format!("`{shown}` cannot name a descriptor: write letters and digits, no colon"),
        );
    }
    let socket = Socket {
        name: name.unwrap_or(service).into(),
        listen: "".into(),
        backlog: u32::try_from(t.number(&keys::BACKLOG, p)).unwrap_or(1),
        mode: t.umask(&keys::MODE, p).unwrap_or(0o666),
        user: t.account(&keys::USER, p),
        group: t.account(&keys::GROUP, p),
        reuse_port: t.boolean(&keys::REUSE_PORT, p),
    };
    if !t.has(&keys::LISTEN) {
        let advice = p.assign("listen", &format!("\"{EXAMPLE}\""));
        let words = format!("`listen` is missing in this socket: write where, as in {advice}");
        p.error(t.at, words);
        return None;
    }
    let listen = t.text(&keys::LISTEN, p)?;
    let place = t.place(&keys::LISTEN);
    let parsed = match address(listen) {
        Ok(parsed) => parsed,
        Err(problem) => {
            p.error(place, format!("`listen` {problem}"));
            return None;
        }
    };
    refuse_foreign(&t, &parsed, p);
    let twin = |other: &Socket| other.address().is_some_and(|a| collide(&a, &parsed));
    if others.iter().any(|(other, _)| twin(other)) {
        let words = "`listen` names the same place as another socket: remove one of the two";
        p.error(place, words);
        return None;
    }
    Some(Socket {
        listen: listen.into(),
        ..socket
    })
}

/// Keys that only other kinds have.
fn refuse_foreign(t: &Table<'_>, address: &Listen, p: &mut Problems) {
    let kind = kind(address);
    for key in keys::ALL.iter().filter(|key| !key.is_for(kind)) {
        if let Some(entry) = t.entry(key) {
            let whose = key.only.join(" and ");
            let words = format!(
                "`{}` is for sockets of type {whose}, this one is {kind}: remove it",
                entry.key
            );
            p.error(entry.key_at, words);
        }
    }
}

const fn kind(address: &Listen) -> &'static str {
    match address {
        Listen::Tcp(_) => "tcp",
        Listen::Udp(_) => "udp",
        Listen::Unix(_) => "unix",
        Listen::Datagram(_) => "unix-datagram",
    }
}

/// Both cannot be bound at once: of one service, where [::] leaves IPv4 to 0.0.0.0.
pub fn collide(one: &Listen, other: &Listen) -> bool {
    match (one.path(), other.path()) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one == other,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// A probe of this kind connects to the socket.
pub fn reaches(ask: &Ask, socket: &Socket) -> bool {
    let address = match ask {
        Ask::Http(http) | Ask::Https(http) => &http.address,
        Ask::Tcp { address, .. } => address,
        Ask::Unix { path, .. } => &Address::Unix { path: path.clone() },
        Ask::Server(server) => &server.address,
        Ask::Exec { .. } | Ask::Look(_) => return false,
    };
    match (address, socket.address()) {
        (Address::Tcp { host, port }, Some(Listen::Tcp(at))) => {
            let here = at.ip().is_unspecified() || host.parse() == Ok(at.ip());
            *port == at.port() && (here || **host == *"localhost")
        }
        (Address::Unix { path }, Some(Listen::Unix(at))) => *path == at,
        _ => false,
    }
}

/// `tcp:127.0.0.1:8080`, `udp:[::1]:53`, `tcp:8080`, `unix:/run/web.sock`, `unix-datagram:/run/log`.
pub fn address(text: &str) -> Result<Listen, String> {
    let Some((kind, rest)) = text.split_once(':') else {
        return Err(match text.bytes().all(|b| b.is_ascii_digit()) {
            true => format!("is a port alone: write \"tcp:{text}\" or \"udp:{text}\""),
            false => no_kind(text),
        });
    };
    match kind {
        "tcp" => Ok(Listen::Tcp(internet(kind, rest)?)),
        "udp" => Ok(Listen::Udp(internet(kind, rest)?)),
        "unix" => Ok(Listen::Unix(path(kind, rest)?)),
        "unix-datagram" => Ok(Listen::Datagram(path(kind, rest)?)),
        "http" | "https" => {
            let rest = rest.trim_start_matches('/').trim_end_matches('/');
            Err(format!("is no URL: write \"tcp:{rest}\""))
        }
        _ => Err(no_kind(text)),
    }
}

fn no_kind(text: &str) -> String {
    if text.starts_with('/') {
        format!("does not say of what kind it is: write \"unix:{text}\"")
    } else if text.parse::<SocketAddr>().is_ok() {
        format!("does not say of what kind it is: write \"tcp:{text}\" or \"udp:{text}\"")
    } else {
        "must begin with \"tcp:\", \"udp:\", \"unix:\" or \"unix-datagram:\", as in \
         \"tcp:127.0.0.1:8080\" or \"unix:/run/web.sock\""
            .to_owned()
    }
}

fn path(kind: &str, path: &str) -> Result<Box<str>, String> {
    target::socket_path(path, &format!("{kind}:/run/web.sock"))
}

fn internet(kind: &str, text: &str) -> Result<SocketAddr, String> {
    let example = format!("{kind}:127.0.0.1:8080");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let port = target::parse_port(text)?;
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    if let Some(port) = text.strip_prefix("*:") {
        return Err(format!(
            "is on all addresses by its port alone: write \"{kind}:{port}\""
        ));
    }
    let (host, port) = target::host_and_port(text, None, &example)?;
    match host.parse::<IpAddr>() {
        Ok(host) => Ok((host, port).into()),
        Err(_) => {
            let address = if *host == *"localhost" {
                "127.0.0.1"
            } else {
                "ADDRESS"
            };
            Err(format!(
                "names a host, `{host}`: write an address of this one, \"{kind}:{address}:{port}\", \
                 or \"{kind}:{port}\" for all of them"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definition::{Definition, Restart, StartOn};
    use crate::config::load;

    fn read(text: &str) -> Result<Definition, String> {
        let outcome = load::read("web", "web.toml", format!("exec = 'a'\n{text}").as_bytes());
        let problems: Vec<String> = outcome.problems.iter().map(|p| p.to_string()).collect();
        outcome.definition.ok_or_else(|| problems.join("\n"))
    }

    #[test]
    fn addresses_of_every_form() {
        let shown = |text: &str| match address(text) {
            Ok(Listen::Tcp(at)) => format!("tcp {at}"),
            Ok(Listen::Udp(at)) => format!("udp {at}"),
            Ok(Listen::Unix(path)) => format!("stream {path}"),
            Ok(Listen::Datagram(path)) => format!("datagram {path}"),
            Err(words) => format!("error: {words}"),
        };
        assert_eq!(shown("tcp:127.0.0.1:80"), "tcp 127.0.0.1:80");
        assert_eq!(shown("tcp:[::1]:80"), "tcp [::1]:80");
        assert_eq!(shown("udp:53"), "udp [::]:53");
        assert_eq!(shown("unix:/run/a"), "stream /run/a");
        assert_eq!(shown("unix-datagram:/run/a"), "datagram /run/a");
        for (text, part) in [
            ("80", "write \"tcp:80\""),
            ("127.0.0.1:80", "write \"tcp:127.0.0.1:80\""),
            ("/run/a", "write \"unix:/run/a\""),
            ("http://127.0.0.1:80/", "write \"tcp:127.0.0.1:80\""),
            ("stream:/run/a", "must begin with"),
            ("tcp:*:80", "write \"tcp:80\""),
            ("tcp:localhost:80", "\"tcp:127.0.0.1:80\""),
            ("udp:example.org:53", "\"udp:53\""),
            ("tcp:::1:80", "without brackets"),
            ("tcp:0", "ports are 1 to 65535"),
            ("tcp:", "no usable host"),
            ("tcp:127.0.0.1", "no port"),
            ("unix:run/a", "absolute path"),
            ("unix:@a", "absolute path"),
        ] {
            let said = shown(text);
            assert!(
                said.starts_with("error: ") && said.contains(part),
                "{text}: {said}"
            );
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(shown(&long).contains("108 bytes"));
    }

    #[test]
    fn a_socket_has_its_defaults() {
        let read = read("[[socket]]\nlisten = 'unix:/run/a'\nmode = '0660'\n").expect("good");
        let [socket] = read.sockets() else {
            panic!("one")
        };
        assert_eq!(
            (&*socket.name, socket.backlog, socket.mode),
            ("web", 4096, 0o660)
        );
        assert_eq!(
            (read.start_on(), read.restart),
            (StartOn::Boot, Restart::Always)
        );
    }

    #[test]
    fn what_a_connection_starts_is_restarted_on_failure() {
        let text = "start_on = 'connection'\nsocket = [{ listen = 'udp:53' }]\n";
        let read = read(text).expect("good");
        assert_eq!(
            (read.start_on(), read.restart),
            (StartOn::Connection, Restart::OnFailure)
        );
    }

    #[test]
    fn bad_sockets_say_what_to_write() {
        for (text, part) in [
            ("[[socket]]\n", "web.toml:2:1: `listen` is missing"),
            ("socket = 'tcp:80'", "an array of tables: write [[socket]]"),
            ("socket = ['tcp:80']", "must hold tables"),
            (
                "[[socket]]\nlisten = 'tcp:80'\nmode = '0600'",
                "web.toml:4:1: `mode` is for sockets of type unix",
            ),
            (
                "[[socket]]\nlisten = 'udp:80'\nbacklog = 5",
                "`backlog` is for",
            ),
            (
                "[[socket]]\nlisten = 'unix:/a'\nreuse_port = true",
                "`reuse_port` is for",
            ),
            ("[[socket]]\nlisten = 'tcp:80'\nname = 'a:b'", "no colon"),
            (
                "[[socket]]\nlisten = 'tcp:80'\nbacklog = 0",
                "it must be 1 to 65535",
            ),
            ("[[socket]]\nListenStream = '80'", "write `listen`"),
            (
                "[[socket]]\nlisten = 'tcp:80'\nSocketMode = '0600'",
                "write `mode`",
            ),
            (
                "socket = [{ listen = 'tcp:80' }, { listen = 'tcp:[::]:80' }]",
                "the same place",
            ),
            (
                "socket = [{ listen = 'unix:/a' }, { listen = 'unix-datagram:/a' }]",
                "the same place",
            ),
            ("start_on = 'connection'", "it has no `socket`"),
            (
                "ready = 'fd'\nsocket = [{ listen = 'tcp:80' }]",
                "those of `socket`: write `notify_fd = 4`",
            ),
            (
                "ready = 'fd'\nfd_store_max = 2\nsocket = [{ listen = 'tcp:80' }]",
                "those of `socket` and `fd_store_max`: write `notify_fd = 6`",
            ),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(part), "{text}\n{said}");
        }
        let many: String = (1..=33)
            .map(|n| format!("[[socket]]\nlisten = 'tcp:{n}'\n"))
            .collect();
        assert!(read(&many).expect_err("many").contains("at most 32"));
        assert!(read("socket = [{ listen = 'tcp:0.0.0.0:80' }, { listen = 'tcp:80' }]").is_ok());
        assert!(read("socket = [{ listen = 'tcp:80' }, { listen = 'udp:80' }]").is_ok());
    }
}
