//! What the probes ask that speak a server's own protocol, or look at the service from outside.
//!
//! `http`, `tcp`, `unix` and `exec` are in `definition` and `probe`. Invariants of what is read
//! without an error: `params` and `expect_result` are JSON; a `window` is shorter than the timeout.

use crate::config::definition::{Address, Ask, Http};
use crate::config::hints;
use crate::config::keys::{Key, probe as keys};
use crate::config::problem::Problems;
use crate::config::reader::Table;
use crate::config::target;
use std::time::Duration;

/// A protocol of its own, over a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    pub address: Address,
    pub speaks: Speaks,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Speaks {
    Redis {
        user: Option<Box<str>>,
        /// Read for each check, in a helper.
        password_file: Option<Box<str>>,
    },
    Postgres {
        user: Option<Box<str>>,
        database: Option<Box<str>>,
    },
    JsonRpc(JsonRpc),
    Grpc {
        /// Empty: the server as a whole.
        service: Box<str>,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub struct JsonRpc {
    pub call: Box<str>,
    /// JSON.
    pub params: Option<Box<str>>,
    /// JSON.
    pub expect_result: Option<Box<str>>,
    /// Posted so; None: a line.
    pub http: Option<Box<Http>>,
}

/// What is found out from outside, in a helper: whatever it takes, the loop does not wait.
#[derive(Clone, PartialEq, Debug)]
pub enum Look {
    File {
        path: Box<str>,
        max_age: Option<Duration>,
        expect: Option<Box<str>>,
    },
    Memory {
        max: u64,
        measure: Measure,
    },
    Cpu {
        /// 100: one processor.
        max_percent: u32,
        window: Duration,
    },
    Fds {
        max: Option<u32>,
        /// Of the limit.
        max_percent: Option<u32>,
    },
    Dns(Dns),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Of all processes, shared pages once for each.
    Rss,
    /// Shared pages in shares.
    Pss,
    /// As the service's cgroup counts it, without what can be dropped at once.
    Cgroup,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Dns {
    pub server: Address,
    pub query: Box<str>,
    /// Its number, as 1 for A.
    pub record: u16,
    pub expect_rcode: u8,
    pub expect: Option<Box<str>>,
}

/// Types of records by name.
pub const RECORDS: [(&str, u16); 9] = [
    ("A", 1),
    ("AAAA", 28),
    ("CNAME", 5),
    ("MX", 15),
    ("NS", 2),
    ("PTR", 12),
    ("SOA", 6),
    ("SRV", 33),
    ("TXT", 16),
];

/// Response codes by number (RFC 1035 §4.1.1).
pub const RCODES: [&str; 6] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
];

impl Server {
    pub fn password_file(&self) -> Option<&str> {
        match &self.speaks {
            Speaks::Redis { password_file, .. } => password_file.as_deref(),
            Speaks::Postgres { .. } | Speaks::JsonRpc(_) | Speaks::Grpc { .. } => None,
        }
    }
}

impl Speaks {
    pub const fn type_name(&self) -> &'static str {
        match self {
            Speaks::Redis { .. } => "redis",
            Speaks::Postgres { .. } => "postgres",
            Speaks::JsonRpc(_) => "jsonrpc",
            Speaks::Grpc { .. } => "grpc",
        }
    }
}

impl Look {
    pub const fn type_name(&self) -> &'static str {
        match self {
            Look::File { .. } => "file",
            Look::Memory { .. } => "memory",
            Look::Cpu { .. } => "cpu",
            Look::Fds { .. } => "fds",
            Look::Dns(_) => "dns",
        }
    }
}

/// What a probe has for a target, as an example; None: it has none.
pub(super) fn example(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "http" => "\"http://127.0.0.1:8080/healthz\"",
        "https" => "\"https://127.0.0.1:8443/healthz\"",
        "tcp" | "redis" => "\"127.0.0.1:6379\"",
        "unix" => "\"/run/web.sock\"",
        "exec" => "[\"/usr/bin/web\", \"--self-test\"]",
        "postgres" => "\"/run/postgresql/.s.PGSQL.5432\"",
        "jsonrpc" => "\"/run/web.sock\"",
        "grpc" => "\"127.0.0.1:50051\"",
        "dns" => "\"127.0.0.1:53\"",
        "file" => "\"/run/web/heartbeat\"",
        _ => return None,
    })
}

/// A type of this file; None when it cannot be used.
pub(super) fn read(kind: &str, timeout: Duration, t: &Table<'_>, p: &mut Problems) -> Option<Ask> {
    let server = |address, speaks| Some(Ask::Server(Box::new(Server { address, speaks })));
    let look = |look| Some(Ask::Look(Box::new(look)));
    match kind {
        "redis" => {
            let address = address(t, p);
            let user = t.text(&keys::USER, p).map(Into::into);
            let password_file = absolute(&keys::PASSWORD_FILE, t, p);
            if user.is_some() && !t.has(&keys::PASSWORD_FILE) {
                let words = "`user` is of use only with `password_file`: add it, or remove `user`";
                p.error(t.place(&keys::USER), words);
            }
            server(
                address?,
                Speaks::Redis {
                    user,
                    password_file,
                },
            )
        }
        "postgres" => {
            let address = address(t, p);
            let mut word = |key| t.text(key, p).map(Box::from);
            let (user, database) = (word(&keys::USER), word(&keys::DATABASE));
            server(address?, Speaks::Postgres { user, database })
        }
        "grpc" => {
            let address = address(t, p);
            let service = t.text(&keys::SERVICE, p).unwrap_or_default().into();
            server(address?, Speaks::Grpc { service })
        }
        "jsonrpc" => jsonrpc(t, p),
        "file" => {
            let path = absolute(&keys::TARGET, t, p);
            let max_age = t.millis_given(&keys::MAX_AGE, p);
            let expect = t.text(&keys::EXPECT, p).map(Into::into);
            look(Look::File {
                path: path?,
                max_age,
                expect,
            })
        }
        "memory" => {
            let of = [
                ("rss", Measure::Rss),
                ("pss", Measure::Pss),
                ("cgroup", Measure::Cgroup),
            ];
            let measure = of[t.choice(&keys::MEASURE, &[0, 1, 2], 0, p)].1;
            let advice = p.assign("max_memory", "\"512M\"");
            let max = needed(&keys::MAX_MEMORY, &advice, t, p)
                .then(|| t.size(&keys::MAX_MEMORY, p))
                .flatten();
            look(Look::Memory { max: max?, measure })
        }
        "cpu" => {
            let advice = p.assign("max_cpu", "\"95%\"");
            let max = needed(&keys::MAX_CPU, &advice, t, p)
                .then(|| t.percent(&keys::MAX_CPU, p))
                .flatten();
            let given = t.millis_given(&keys::WINDOW, p);
            let window = given.unwrap_or(Duration::from_secs(1).min(timeout / 2));
            if window >= timeout {
                let words = format!(
                    "`window_ms` is {}, not shorter than `timeout_ms` ({}): it could never be \
                     measured in time",
                    window.as_millis(),
                    timeout.as_millis()
                );
                p.error(t.place(&keys::WINDOW), words);
            }
            look(Look::Cpu {
                max_percent: max?,
                window,
            })
        }
        "fds" => {
            let max = t.number_given(&keys::MAX_FDS, p);
            let max = max.and_then(|n| u32::try_from(n).ok());
            let max_percent = t.number_given(&keys::MAX_FDS_PERCENT, p);
            let max_percent = max_percent.and_then(|n| u32::try_from(n).ok());
            if !t.has(&keys::MAX_FDS) && !t.has(&keys::MAX_FDS_PERCENT) {
                let advice = p.assign("max_fds_percent", "90");
                let words = format!(
                    "`max_fds` and `max_fds_percent` are missing in this probe: write how many \
                     are too many, as in {advice}"
                );
                p.error(t.at, words);
                return None;
            }
            look(Look::Fds { max, max_percent })
        }
        _ => look(Look::Dns(dns(t, p)?)),
    }
}

/// `host:port`, or a Unix socket's path.
fn address(t: &Table<'_>, p: &mut Problems) -> Option<Address> {
    let text = t.text(&keys::TARGET, p)?;
    let result = match text.strip_prefix("unix:").unwrap_or(text) {
        path if path.starts_with('/') => {
            target::socket_path(path, "/run/web.sock").map(|path| Address::Unix { path })
        }
        _ => target::tcp(text),
    };
    usable(result, t, p)
}

fn usable<T>(result: Result<T, String>, t: &Table<'_>, p: &mut Problems) -> Option<T> {
    result
        .map_err(|problem| p.error(t.place(&keys::TARGET), format!("`target` {problem}")))
        .ok()
}

fn absolute(key: &'static Key, t: &Table<'_>, p: &mut Problems) -> Option<Box<str>> {
    let path = t.text(key, p)?;
    if !path.starts_with('/') {
        let words = format!(
            "`{}` must be an absolute path, not `{}`",
            key.name,
            hints::shorten(path)
        );
        p.error(t.place(key), words);
        return None;
    }
    Some(path.into())
}

/// Whether a key is there without which the probe says nothing.
fn needed(key: &'static Key, advice: &str, t: &Table<'_>, p: &mut Problems) -> bool {
    let there = t.has(key);
    if !there {
        let words = format!(
            "`{}` is missing in this probe: write how much is too much, as in {advice}",
            key.name
        );
        p.error(t.at, words);
    }
    there
}

fn jsonrpc(t: &Table<'_>, p: &mut Problems) -> Option<Ask> {
    let text = t.text(&keys::TARGET, p).unwrap_or_default();
    let over_http = text.contains("://") || text.strip_prefix("unix:").is_some_and(has_path);
    let (address, http) = match over_http {
        true => {
            let found = usable(target::http(text, false), t, p);
            let http = found.map(|(address, path)| Http {
                address,
                path,
                method: "POST".into(),
                headers: Box::new([("Content-Type".into(), "application/json".into())]),
                expect_status: Box::new([200..=299]),
                expect_body: None,
                follow_redirects: 0,
                keep_alive: false,
                verify: false,
            });
            let address = http.as_ref().map(|http| http.address.clone());
            (address, http.map(Box::new))
        }
        false => (address(t, p), None),
    };
    if !t.has(&keys::CALL) {
        let advice = p.assign("call", "\"system.ping\"");
        let words = format!("`call` is missing in this probe: write the method, as in {advice}");
        p.error(t.at, words);
    }
    let call = t.text(&keys::CALL, p).map(Box::from);
    let params = json(&keys::PARAMS, t, p);
    if let Some(text) = params.as_deref()
        && !text.trim_start().starts_with(['{', '['])
    {
        let words = "`params` must be a JSON object or array: write \"[1, 2]\" or '{\"a\": 1}'";
        p.error(t.place(&keys::PARAMS), words);
    }
    let expect_result = json(&keys::EXPECT_RESULT, t, p);
    let rpc = JsonRpc {
        call: call?,
        params,
        expect_result,
        http,
    };
    Some(Ask::Server(Box::new(Server {
        address: address?,
        speaks: Speaks::JsonRpc(rpc),
    })))
}

/// `/run/web.sock:/rpc`
fn has_path(rest: &str) -> bool {
    rest.contains(":/")
}

fn json(key: &'static Key, t: &Table<'_>, p: &mut Problems) -> Option<Box<str>> {
    let text = t.text(key, p)?;
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let words = format!(
            "`{}` is no JSON: {error}; a string needs quotes of its own: '\"ok\"'",
            key.name
        );
        p.error(t.place(key), words);
        return None;
    }
    Some(text.into())
}

fn dns(t: &Table<'_>, p: &mut Problems) -> Option<Dns> {
    let text = t.text(&keys::TARGET, p);
    let server =
        text.and_then(|text| usable(target::host_and_port(text, Some(53), "127.0.0.1:53"), t, p));
    let server = server.map(|(host, port)| Address::Tcp { host, port });
    if !t.has(&keys::QUERY) {
        let advice = p.assign("query", "\"example.org\"");
        let words = format!("`query` is missing in this probe: write a name, as in {advice}");
        p.error(t.at, words);
    }
    let mut query = t.text(&keys::QUERY, p);
    if let Some(name) = query.filter(|name| !is_domain(name)) {
        query = None;
        let words = format!(
            "`query` is no name of a domain: `{}`; labels have 1 to 63 bytes, all together 253",
            hints::shorten(name)
        );
        p.error(t.place(&keys::QUERY), words);
    }
    let numbers: Vec<&str> = RECORDS.iter().map(|(name, _)| *name).collect();
    let record = t.choice(&keys::RECORD, &numbers, "A", p);
    let record = RECORDS.iter().find(|(name, _)| *name == record)?.1;
    let rcode = t.choice(&keys::EXPECT_RCODE, &RCODES, "NOERROR", p);
    let rcode = RCODES.iter().position(|name| *name == rcode)?;
    let expect = t.text(&keys::EXPECT, p).map(Into::into);
    Some(Dns {
        server: server?,
        query: query?.into(),
        record,
        expect_rcode: rcode as u8,
        expect,
    })
}

fn is_domain(name: &str) -> bool {
    let bare = name.strip_suffix('.').unwrap_or(name);
    name == "."
        || (bare.len() <= 253
            && bare
                .split('.')
                .all(|label| (1..=63).contains(&label.len()) && label.is_ascii()))
}
