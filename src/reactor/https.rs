//! `https`: the same question as `http`, over TLS, asked by a child.
//!
//! [`https_blocking`] blocks and takes megabytes for its while, so it runs only in a helper child,
//! which writes [`encode`]d line to its pipe and exits; the loop reads it with [`decode`].
//!
//! The rules are those of `probe::http`: judged by status, then body; redirects to the same host if
//! asked; no proxy, whatever the environment says. Certificates are checked against the bundle that
//! SSL_CERT_FILE names, as OpenSSL does, else the system's, so that a company's own authority counts;
//! where there is none against Mozilla's, which is built in. Without the feature `tls` the answer is that this build has none.

use crate::config::Http;
use crate::probe::{Outcome, Trouble};
use std::time::Duration;

/// A child never writes more: the output is bounded, and so is every reason.
pub const MAX_ENCODED: usize = 4096;
/// The child's first word: the name is resolved, from here on it waits for the service.
pub const FOUND: &[u8] = b"*";

/// Asks, and waits for the answer, at most `timeout` once the name is resolved, which `found` is
/// told. A look-up takes as long as it pleases.
#[cfg(feature = "tls")]
pub fn https_blocking(
    http: &Http,
    timeout: Duration,
    found: &mut dyn FnMut(),
) -> (Outcome, Box<str>) {
    tls::ask(http, timeout, found)
}

/// Asks, and waits for the answer, at most `timeout`.
#[cfg(not(feature = "tls"))]
pub fn https_blocking(
    _http: &Http,
    _timeout: Duration,
    _found: &mut dyn FnMut(),
) -> (Outcome, Box<str>) {
    (
        internal("built without TLS; build with the feature tls"),
        "".into(),
    )
}

/// Sends `body` to an address that was looked up already; the status and the beginning of what was
/// answered, or what was wrong. It blocks.
#[cfg(feature = "tls")]
pub fn post(
    uri: &str,
    addresses: &[std::net::SocketAddr],
    headers: &[(Box<str>, Box<str>)],
    body: &[u8],
    timeout: Duration,
) -> Result<(u16, Vec<u8>), String> {
    tls::post(uri, addresses, headers, body, timeout)
}

/// One line of JSON.
pub fn encode(answer: &(Outcome, Box<str>)) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads what the child wrote; a torn or missing line is our trouble.
pub fn decode(bytes: &[u8]) -> (Outcome, Box<str>) {
    bytes
        .strip_suffix(b"\n")
        .and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_else(|| (internal("the helper ended without an answer"), "".into()))
}

fn internal(what: &str) -> Outcome {
    Outcome::Inconclusive(Trouble::Internal(what.into()))
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use crate::config::Address;
    use crate::limits::{PROBE_OUTPUT_BYTES, PROBE_READ_BYTES};
    use crate::probe::http::{USER_AGENT, expected, push_authority, redirect};
    use crate::probe::{Reason, visible};
    use crate::reactor::{dial, resolve};
    use std::io::{self, Read};
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::Instant;
    use ureq::config::Config;
    use ureq::http::{Method, Request, Response, Uri, header};
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
    use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
    use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
    use ureq::{Agent, Body, Error};

    /// Where distributions keep the bundle of all trusted authorities: Debian and Alpine, Fedora,
    /// SUSE, the BSD way.
    const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    /// Longest text of a TLS library that is passed on.
    const MAX_WORDS: usize = 256;

    pub fn ask(http: &Http, timeout: Duration, found: &mut dyn FnMut()) -> (Outcome, Box<str>) {
        let Address::Tcp { host, port } = &http.address else {
            let what = "https over a Unix socket is not supported; use type http";
            return (internal(what), "".into());
        };
        // Redirects lead to the same host, so this is the only look-up.
        let addresses = match resolve::resolve_blocking(host, *port) {
            Ok(addresses) => addresses,
            Err(why) => {
                let unresolved = Trouble::Unresolved(host.clone());
                return (Outcome::Inconclusive(unresolved), why.into());
            }
        };
        found();
        let ends = Instant::now() + timeout;
        let mut authority = String::new();
        push_authority(&mut authority, &http.address, 443);
        let mut path = redirect::escaped(http.path.as_bytes());
        let mut method = http.method.to_string();
        let mut hops = 0;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let known = Known(addresses.clone());
            let agent = agent(http.verify, left.max(Duration::from_millis(1)), known);
            let request = match request(http, &method, &format!("https://{authority}{path}")) {
                Ok(request) => request,
                Err(e) => {
                    return (
                        internal(&format!("cannot build the request: {e}")),
                        "".into(),
                    );
                }
            };
            let mut response = match agent.run(request) {
                Ok(response) => response,
                Err(e) => return (outcome(e, host, false), "".into()),
            };
            let status = response.status().as_u16();
            let moved = matches!(status, 301 | 302 | 303 | 307 | 308) && http.follow_redirects > 0;
            let next = response
                .headers()
                .get(header::LOCATION)
                .filter(|_| moved)
                .and_then(|to| {
                    redirect::same_host_path(to.as_bytes(), "https", &[&authority], &path)
                });
            let Some(next) = next else {
                return judged(http, &mut response, host);
            };
            let turns = (status == 303 && method != "HEAD")
                || (matches!(status, 301 | 302) && method == "POST");
            if hops == http.follow_redirects || (next == path && !(turns && method != "GET")) {
                let line = format!("HTTP/1.1 {}", response.status());
                return (Outcome::Fail(Reason::RedirectLoop), line.into());
            }
            if turns {
                method = "GET".into();
            }
            path = next;
            hops += 1;
        }
    }

    pub fn post(
        uri: &str,
        addresses: &[SocketAddr],
        headers: &[(Box<str>, Box<str>)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<(u16, Vec<u8>), String> {
        let agent = agent(true, timeout, Known(addresses.to_vec()));
        let mut request = Request::builder().method(Method::POST).uri(uri);
        for (name, value) in headers {
            request = request.header(&**name, &**value);
        }
        let request = request
            .header(header::CONNECTION, "close")
            .body(body)
            .map_err(|e| format!("cannot build the request: {e}"))?;
        let mut response = agent.run(request).map_err(|e| match e {
            Error::Timeout(_) => "no answer in time".to_owned(),
            e => words(&e.to_string()).into(),
        })?;
        let mut said = Vec::new();
        if !response.status().is_success() {
            // What is missing of it is not worth an error.
            let _ = read(&mut response, &mut said, PROBE_OUTPUT_BYTES, None);
        }
        Ok((response.status().as_u16(), said))
    }

    fn agent(verify: bool, timeout: Duration, known: Known) -> Agent {
        let mut tls = TlsConfig::builder().disable_verification(!verify);
        if let Some(roots) = verify.then(system_roots).flatten() {
            tls = tls.root_certs(roots);
        }
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .user_agent(USER_AGENT)
            .timeout_global(Some(timeout))
            .tls_config(tls.build())
            .build();
        Agent::with_parts(config, DefaultConnector::default(), known)
    }

    /// What was looked up already.
    #[derive(Debug)]
    struct Known(Vec<SocketAddr>);

    impl Resolver for Known {
        fn resolve(
            &self,
            _uri: &Uri,
            _config: &Config,
            _timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            let mut known = self.empty();
            // It has room for as many as a look-up of ours gives, at least.
            self.0.iter().for_each(|address| known.push(*address));
            Ok(known)
        }
    }

    fn system_roots() -> Option<RootCerts> {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let known = BUNDLES.iter().map(PathBuf::from);
        named.into_iter().chain(known).find_map(|path| {
            let pem = std::fs::read(path).ok()?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            (!certificates.is_empty()).then(|| RootCerts::from(certificates))
        })
    }

    fn request(http: &Http, method: &str, uri: &str) -> Result<Request<()>, ureq::http::Error> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes())?)
            .uri(uri);
        for (name, value) in &http.headers {
            request = request.header(&**name, &**value);
        }
        let has = |name: &str| {
            http.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !has("connection") {
            request = request.header(header::CONNECTION, "close");
        }
        request.body(())
    }

    /// The head is there: the status, then what of the body is needed.
    fn judged(http: &Http, response: &mut Response<Body>, host: &str) -> (Outcome, Box<str>) {
        let status = response.status();
        let wanted = http.expect_body.as_deref().map(str::as_bytes);
        // Only the connection's end would end such a body, and nothing of it is needed.
        let endless = !response.headers().contains_key(header::CONTENT_LENGTH)
            && !response.headers().contains_key(header::TRANSFER_ENCODING);
        let right = expected(http, status.as_u16());
        let mut body = Vec::new();
        let mut ended = Ok(());
        if !endless || (right && wanted.is_some()) {
            let bound = if right {
                PROBE_READ_BYTES
            } else {
                PROBE_OUTPUT_BYTES
            };
            ended = read(response, &mut body, bound, wanted.filter(|_| right));
        }
        let output = if body.is_empty() {
            format!("HTTP/1.1 {status}").into()
        } else {
            visible::first_bytes(&body)
        };
        let found = wanted.is_none_or(|w| w.is_empty() || body.windows(w.len()).any(|at| at == w));
        let outcome = match ended {
            _ if !right => Outcome::Fail(Reason::Status(status.as_u16())),
            _ if found && wanted.is_some() => Outcome::Pass,
            // Many servers close without TLS's own goodbye; where only the end ends it, it is one.
            Err(e) if !(endless && e.kind() == io::ErrorKind::UnexpectedEof) => {
                outcome(Error::from(e), host, true)
            }
            _ if found => Outcome::Pass,
            _ => Outcome::Fail(Reason::Mismatch),
        };
        (outcome, output)
    }

    fn read(
        response: &mut Response<Body>,
        body: &mut Vec<u8>,
        bound: usize,
        wanted: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut reader = response.body_mut().as_reader();
        let mut chunk = [0; 4096];
        while body.len() < bound {
            let room = chunk.len().min(bound - body.len());
            let n = reader.read(&mut chunk[..room])?;
            let from = body.len().saturating_sub(wanted.map_or(0, <[u8]>::len));
            body.extend_from_slice(&chunk[..n]);
            let found = |w: &[u8]| w.is_empty() || body[from..].windows(w.len()).any(|at| at == w);
            if n == 0 || wanted.is_some_and(found) {
                break;
            }
        }
        Ok(())
    }

    fn outcome(error: Error, host: &str, in_body: bool) -> Outcome {
        let reason = match error {
            Error::HostNotFound => {
                return Outcome::Inconclusive(Trouble::Unresolved(host.into()));
            }
            Error::Timeout(_) => Reason::Timeout,
            Error::Io(e) => return io_outcome(&e, in_body),
            Error::Tls(what) => Reason::Tls(words(what)),
            e @ (Error::Rustls(_) | Error::Pem(_)) => Reason::Tls(words(&e.to_string())),
            Error::Protocol(e) => Reason::Syntax(words(&e.to_string())),
            e @ Error::LargeResponseHeader(..) => Reason::Syntax(words(&e.to_string())),
            Error::ConnectionFailed => Reason::Unreachable,
            e => return internal(&words(&e.to_string())),
        };
        Outcome::Fail(reason)
    }

    fn io_outcome(e: &io::Error, in_body: bool) -> Outcome {
        if let Some(errno) = e.raw_os_error() {
            return dial::fault_of(errno, "https").outcome();
        }
        Outcome::Fail(match e.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Reason::Timeout,
            io::ErrorKind::UnexpectedEof if in_body => {
                Reason::Syntax("closed within the answer's body".into())
            }
            io::ErrorKind::UnexpectedEof => Reason::EmptyReply,
            io::ErrorKind::ConnectionRefused => Reason::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Reason::Reset,
            // So the TLS library says what it thinks of the peer's bytes or certificate.
            io::ErrorKind::InvalidData => Reason::Tls(words(&e.to_string())),
            _ => return internal(&words(&e.to_string())),
        })
    }

    fn words(text: &str) -> Box<str> {
        text[..text.floor_char_boundary(MAX_WORDS)].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PROBE_OUTPUT_BYTES;
    use crate::probe::Reason;

    #[test]
    fn answers_survive_the_pipe_and_torn_ones_are_our_trouble() {
        for outcome in [
            Outcome::Pass,
            Outcome::Fail(Reason::Status(503)),
            Outcome::Fail(Reason::Tls("certificate expired: \"x\"\n".into())),
            Outcome::Inconclusive(Trouble::Unresolved("db.test".into())),
        ] {
            let answer = (outcome, "first\nsecond\u{fffd}".into());
            let line = encode(&answer);
            assert_eq!(decode(&line), answer);
            for cut in 0..line.len() {
                assert!(matches!(decode(&line[..cut]).0, Outcome::Inconclusive(_)));
            }
        }
        let most = "\n".repeat(PROBE_OUTPUT_BYTES).into();
        let longest = Outcome::Fail(Reason::Tls("\n".repeat(256).into()));
        assert!(encode(&(longest, most)).len() <= MAX_ENCODED);
    }
}
