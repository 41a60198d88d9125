//! Names to addresses, never in the loop.
//!
//! Literals and `localhost` are resolved at once, here. Any other name is looked up by
//! [`resolve_blocking`] in a helper child (a resolver may block for minutes, and static glibc loads
//! libraries to do it), whose answer comes back over a pipe as one line, see [`encode`]. [`Names`]
//! remembers answers for a while; failures are never remembered, and an address that could not be
//! connected to is looked up anew.

use crate::config::{Address, Ask};
use crate::time::Time;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

/// How long an answer is believed; what a resolver's own cache would do is not known to us.
pub const MAX_AGE: Duration = Duration::from_secs(60);
/// Names remembered at most; beyond it the oldest goes.
pub const MAX_NAMES: usize = 256;
/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;
/// A helper's line is never longer.
pub const MAX_ENCODED: usize = 512;

/// Where to connect, in the order in which it is tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// The probe has no IP address: a Unix socket, a command.
    Nothing,
    One(SocketAddr),
    /// RFC 6761 §6.3; the old protocol first, because more servers bind it alone.
    Localhost(u16),
    Many(Rc<[SocketAddr]>, u16),
}

impl Resolved {
    pub fn get(&self, index: usize) -> Option<SocketAddr> {
        match (self, index) {
            (Resolved::One(address), 0) => Some(*address),
            (Resolved::Localhost(port), 0) => Some((Ipv4Addr::LOCALHOST, *port).into()),
            (Resolved::Localhost(port), 1) => Some((Ipv6Addr::LOCALHOST, *port).into()),
            (Resolved::Many(addresses, port), _) => {
                let mut address = *addresses.get(index)?;
                address.set_port(*port);
                Some(address)
            }
            (Resolved::Nothing | Resolved::One(_) | Resolved::Localhost(_), _) => None,
        }
    }
}

/// The name and port that must be known before `ask` can be asked over a socket of ours.
pub fn name_of(ask: &Ask) -> Option<(&str, u16)> {
    match ask {
        Ask::Http(http) => match &http.address {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix { .. } => None,
        },
        Ask::Tcp { address, .. } => match address {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix { .. } => None,
        },
        Ask::Server(server) => match &server.address {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix { .. } => None,
        },
        // Children resolve for themselves.
        Ask::Https(_) | Ask::Unix { .. } | Ask::Exec { .. } | Ask::Look(_) => None,
    }
}

/// What is known without asking anyone.
pub fn literal(host: &str, port: u16) -> Option<Resolved> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Resolved::One(SocketAddr::new(ip, port)));
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        .then_some(Resolved::Localhost(port))
}

/// Names that were looked up.
#[derive(Default, Debug)]
pub struct Names {
    known: BTreeMap<Box<str>, (Rc<[SocketAddr]>, Time)>,
}

impl Names {
    /// None: a helper must look the name up ([`name_of`], [`resolve_blocking`]), then [`Names::put`].
    pub fn get(&self, ask: &Ask, now: Time) -> Option<Resolved> {
        let Some((host, port)) = name_of(ask) else {
            return Some(Resolved::Nothing);
        };
        if let Some(resolved) = literal(host, port) {
            return Some(resolved);
        }
        let (addresses, since) = self.known.get(host)?;
        (now.since(*since) < MAX_AGE).then(|| Resolved::Many(addresses.clone(), port))
    }

    pub fn put(&mut self, host: &str, addresses: &[SocketAddr], now: Time) {
        if self.known.len() >= MAX_NAMES && !self.known.contains_key(host) {
            let oldest = self.known.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.known.remove(&name);
            }
        }
        if !addresses.is_empty() {
            let first = &addresses[..addresses.len().min(MAX_ADDRESSES)];
            self.known.insert(host.into(), (first.into(), now));
        }
    }

    /// No address of this name could be connected to: perhaps it moved.
    pub fn forget(&mut self, host: &str) {
        self.known.remove(host);
    }
}

/// Asks the system's resolver. Blocks, for as long as it pleases: only in a helper child, which is
/// given a time.
pub fn resolve_blocking(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|e| format!("{host}: {e}"))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("{host}: no address"));
    }
    Ok(addresses)
}

/// A look-up's answer as one line: addresses and ports, or `!` and what went wrong.
pub fn encode(answer: &Result<Vec<SocketAddr>, String>) -> Vec<u8> {
    let mut line = match answer {
        Ok(addresses) => addresses
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        Err(why) => {
            let mut why = why.replace('\n', " ");
            why.truncate(why.floor_char_boundary(MAX_ENCODED - 2));
            format!("!{why}")
        }
    };
    line.push('\n');
    line.into_bytes()
}

/// Reads what a helper wrote. A line that is cut, torn or missing is an error in words.
pub fn decode(bytes: &[u8]) -> Result<Vec<SocketAddr>, String> {
    let bad = || "the look-up ended without an answer".to_string();
    let line = bytes.strip_suffix(b"\n").ok_or_else(bad)?;
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    if let Some(why) = line.strip_prefix('!') {
        return Err(why.to_string());
    }
    let addresses: Result<Vec<SocketAddr>, _> = line.split(' ').map(str::parse).collect();
    addresses.map_err(|_| bad())
}

/// The longest password.
pub const MAX_SECRET: usize = 512;

/// A password: a file's first line. Blocks as long as its disk: only in a helper child.
pub fn read_secret(file: &str) -> Result<String, String> {
    let mut text = Vec::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(MAX_SECRET as u64).read_to_end(&mut text));
    read.map_err(|e| e.to_string())?;
    let line = text.split(|b| matches!(b, b'\n' | b'\r')).next();
    let line = line.unwrap_or_default();
    if line.is_empty() || line.len() > MAX_SECRET - 2 {
        return Err("its first line is empty, or too long".to_owned());
    }
    String::from_utf8(line.to_vec()).map_err(|_| "it is no text".to_owned())
}

/// As a line, `+` before the password, `!` before what went wrong.
pub fn encode_secret(file: &str, secret: &Result<String, String>) -> Vec<u8> {
    let mut line = match secret {
        Ok(secret) => format!("+{secret}"),
        Err(why) => format!("!cannot read the password file {file}: {why}").replace('\n', " "),
    };
    line.truncate(line.floor_char_boundary(MAX_SECRET - 1));
    line.push('\n');
    line.into_bytes()
}

pub fn decode_secret(line: &[u8]) -> Result<String, String> {
    let text = line.strip_suffix(b"\n").map(String::from_utf8_lossy);
    let text = text.ok_or("the helper that reads the password file ended early")?;
    match text.strip_prefix('+') {
        Some(secret) => Ok(secret.to_owned()),
        None => Err(text.trim_start_matches('!').to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: &str) -> Ask {
        Ask::Tcp {
            address: Address::Tcp {
                host: host.into(),
                port: 80,
            },
            send: None,
            expect: None,
        }
    }

    #[test]
    fn literals_and_localhost_need_nobody() {
        let names = Names::default();
        let first = |host: &str, n| {
            names
                .get(&ask(host), Time::ZERO)
                .and_then(|r| r.get(n))
                .map(|a| a.to_string())
        };
        assert_eq!(first("127.0.0.2", 0).as_deref(), Some("127.0.0.2:80"));
        assert_eq!(first("127.0.0.2", 1), None);
        assert_eq!(first("fd00::1", 0).as_deref(), Some("[fd00::1]:80"));
        for host in ["localhost", "LocalHost."] {
            assert_eq!(first(host, 0).as_deref(), Some("127.0.0.1:80"));
            assert_eq!(first(host, 1).as_deref(), Some("[::1]:80"));
            assert_eq!(first(host, 2), None);
        }
        assert_eq!(names.get(&ask("db.test"), Time::ZERO), None);
    }

    #[test]
    fn an_answer_is_believed_until_it_is_old_or_of_no_use() {
        let mut names = Names::default();
        let address: SocketAddr = "10.0.0.1:0".parse().unwrap();
        names.put("db.test", &[address], Time::from_millis(1000));
        let known = |names: &Names, ms| {
            names
                .get(&ask("db.test"), Time::from_millis(ms))
                .and_then(|r| r.get(0))
        };
        assert_eq!(known(&names, 60_999), Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!(known(&names, 61_000), None);
        names.forget("db.test");
        assert_eq!(known(&names, 1000), None);
        names.put("db.test", &[], Time::ZERO);
        assert_eq!(known(&names, 0), None);
    }

    #[test]
    fn the_cache_is_bounded_and_drops_the_oldest() {
        let mut names = Names::default();
        let address: SocketAddr = "10.0.0.1:0".parse().unwrap();
        for n in 0..MAX_NAMES as u64 + 10 {
            names.put(&format!("n{n}"), &[address], Time(n));
        }
        assert_eq!(names.known.len(), MAX_NAMES);
        assert!(names.known.contains_key("n10") && !names.known.contains_key("n9"));
    }

    #[test]
    fn answers_survive_the_pipe_and_torn_ones_do_not() {
        let good = Ok(vec![
            "1.2.3.4:5".parse().unwrap(),
            "[fe80::1%3]:80".parse().unwrap(),
        ]);
        let line = encode(&good);
        assert_eq!(decode(&line), good);
        for cut in 0..line.len() {
            assert!(decode(&line[..cut]).is_err(), "cut at {cut}");
        }
        let long = Err("é\n".repeat(MAX_ENCODED));
        assert!(encode(&long).len() <= MAX_ENCODED);
        assert!(decode(&encode(&long)).is_err_and(|why| why.starts_with("é é ")));
        let most = Ok(vec![
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"
                    .parse()
                    .unwrap();
                MAX_ADDRESSES
            ]);
        assert!(encode(&most).len() <= MAX_ENCODED);
    }

    #[test]
    fn the_blocking_look_up_answers_in_words() {
        assert!(resolve_blocking("localhost", 80).is_ok_and(|a| !a.is_empty()));
        let why = resolve_blocking("no such name", 80).unwrap_err();
        assert!(why.starts_with("no such name: "), "{why}");
    }
}
