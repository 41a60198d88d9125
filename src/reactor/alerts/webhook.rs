//! A webhook, called: one POST, one status. It blocks, and runs only in a helper child.
//!
//! Plain http is spoken here; https is `ureq`'s, where it is built in. No redirect is followed: it
//! would carry headers, which are secrets, to whom they are not meant for.
//!
//! Invariant: no error holds a header's value or the path of the URL.

use crate::config::alerts::{Place, Url, Webhook};
use crate::limits::{ALERT_FILE, MAX_HEADERS, PROBE_OUTPUT_BYTES};
use crate::probe::http::USER_AGENT;
use crate::probe::visible;
use crate::reactor::resolve;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

type Headers = Vec<(Box<str>, Box<str>)>;

/// What of an answer is looked at.
const MOST: usize = 16 * 1024;

/// Sends it. An error says what was wrong, in words; `stage` what it is about to wait for.
pub fn call(
    hook: &Webhook,
    body: &[u8],
    kind: &str,
    timeout: Duration,
    stage: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let ends = Instant::now() + timeout;
    let read;
    let url = match &hook.to {
        Place::Url(url) => url,
        Place::File(path) => {
            stage("reading webhook_file");
            let text = file("webhook_file", path)?;
            read = Url::parse(text.trim()).map_err(|why| format!("webhook_file {path}: {why}"))?;
            &read
        }
    };
    let mut headers: Headers = hook.headers.to_vec();
    if let Some(path) = &hook.headers_file {
        stage("reading headers_file");
        headers.extend(lines(path, &file("headers_file", path)?)?);
    }
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let ours = [
        ("Host", authority(url)),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Content-Type", kind.to_owned()),
    ];
    let missing = ours.into_iter().filter(|(name, _)| !has(name));
    let missing: Headers = missing.map(|(n, v)| (n.into(), v.into())).collect();
    headers.extend(missing);
    let (host, port) = (&url.host, url.port);
    stage(&format!("looking up {host}"));
    let addresses = match resolve::literal(host, port) {
        Some(_) | None => resolve::resolve_blocking(host, port)
            .map_err(|why| format!("cannot look up {host}: {why}"))?,
    };
    stage(&format!("connecting to {host}, port {port}"));
    let (status, said) = match url.tls {
        true => {
            stage(&format!("talking TLS to {host}, port {port}"));
            tls(url, &addresses, &headers, body, ends)?
        }
        false => plain(url, &addresses, &headers, body, ends, stage)?,
    };
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(format!(
            "HTTP {status}: a redirect, which is not followed: write where it leads"
        )),
        _ => match &*visible::first_bytes(&said) {
            "" => Err(format!("HTTP {status}")),
            said => Err(format!("HTTP {status}: {}", said.replace('\n', " | "))),
        },
    }
}

/// A file that an operator named, without its being larger than it should.
fn file(key: &str, path: &str) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(ALERT_FILE + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: io::Error| format!("cannot read {key} {path}: {error}"))?;
    match text.len() as u64 > ALERT_FILE {
        true => Err(format!("{key} {path} is larger than {ALERT_FILE} bytes")),
        false => Ok(text),
    }
}

/// `Name: value`, a line each.
fn lines(path: &str, text: &str) -> Result<Headers, String> {
    let mut headers = Headers::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let header = line.split_once(':').map(|(n, v)| (n.trim_end(), v.trim()));
        let header = header.filter(|(name, value)| {
            let plain = !value.chars().any(|c| c.is_control() && c != '\t');
            !name.is_empty() && name.chars().all(is_token) && plain
        });
        let Some((name, value)) = header else {
            let number = number + 1;
            return Err(format!(
                "headers_file {path}, line {number}: write a header as `Name: value`"
            ));
        };
        headers.push((name.into(), value.into()));
    }
    match headers.len() > MAX_HEADERS {
        true => Err(format!(
            "headers_file {path} has more than {MAX_HEADERS} headers"
        )),
        false => Ok(headers),
    }
}

fn authority(url: &Url) -> String {
    let host = match url.host.contains(':') {
        true => format!("[{}]", url.host),
        false => url.host.to_string(),
    };
    match (url.tls, url.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

fn left(ends: Instant) -> Duration {
    let left = ends.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

fn connect(addresses: &[SocketAddr], ends: Instant) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, left(ends)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status, and the beginning of what was answered.
fn plain(
    url: &Url,
    addresses: &[SocketAddr],
    headers: &Headers,
    body: &[u8],
    ends: Instant,
    stage: &mut dyn FnMut(&str),
) -> Result<(u16, Vec<u8>), String> {
    let (host, port) = (&url.host, url.port);
    let mut stream = connect(addresses, ends)
        .map_err(|error| format!("cannot connect to {host}, port {port}: {error}"))?;
    let mut request = format!("POST {} HTTP/1.1\r\n", url.path);
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    request.push_str(&format!(
        "Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ));
    stage("waiting for the answer");
    let mut talk = || {
        stream.set_write_timeout(Some(left(ends)))?;
        stream.write_all(request.as_bytes())?;
        stream.write_all(body)?;
        answer(&mut stream, ends)
    };
    talk().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => format!("no answer: {error}"),
    })
}

fn answer(stream: &mut TcpStream, ends: Instant) -> io::Result<(u16, Vec<u8>)> {
    let (mut bytes, mut head) = (Vec::new(), None);
    let mut chunk = [0; 4096];
    loop {
        if head.is_none() {
            head = self::head(&bytes)?;
        }
        if let Some((status, length)) = head {
            let said = bytes.len() - length;
            if (200..400).contains(&status) || said >= PROBE_OUTPUT_BYTES {
                return Ok((status, bytes.split_off(length)));
            }
        }
        if bytes.len() >= MOST {
            return Err(io::Error::other("its head does not end"));
        }
        stream.set_read_timeout(Some(left(ends)))?;
        let read = match (stream.read(&mut chunk), head) {
            (Ok(read), _) => read,
            // The status is known, and the rest not worth an error.
            (Err(_), Some(_)) => 0,
            (Err(error), None) => return Err(error),
        };
        if read == 0 {
            return match head {
                Some((status, length)) => Ok((status, bytes.split_off(length))),
                None => Err(io::Error::other("the connection was closed")),
            };
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Status and length of a head; None: it is not whole yet.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(response.code.map(|status| (status, length))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::other(format!("it is not HTTP: {error}"))),
    }
}

#[cfg(feature = "tls")]
fn tls(
    url: &Url,
    addresses: &[SocketAddr],
    headers: &Headers,
    body: &[u8],
    ends: Instant,
) -> Result<(u16, Vec<u8>), String> {
    let uri = format!("https://{}{}", authority(url), url.path);
    let done = crate::reactor::https::post(&uri, addresses, headers, body, left(ends));
    // Some of its errors name what they were asked for.
    done.map_err(|error| error.replace(&*url.path, "/…"))
}

#[cfg(not(feature = "tls"))]
fn tls(
    _url: &Url,
    _addresses: &[SocketAddr],
    _headers: &Headers,
    _body: &[u8],
    _ends: Instant,
) -> Result<(u16, Vec<u8>), String> {
    // The URL cannot be read.
    Err("this vitald was built without TLS".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_and_a_bad_one_is_named_by_its_number_alone() {
        let text = "# ours\nAuthorization: Bearer a:b\n\nX-Id:1\n";
        let headers = lines("/h", text).expect("headers");
        let shown: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(shown, [("Authorization", "Bearer a:b"), ("X-Id", "1")]);
        let wrong = lines("/h", "A: b\nSECRET\n").expect_err("no header");
        assert_eq!(
            wrong,
            "headers_file /h, line 2: write a header as `Name: value`"
        );
    }

    #[test]
    fn heads_are_read_when_they_are_whole() {
        let whole = b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\nrest";
        for cut in 0..whole.len() - 4 {
            assert_eq!(head(&whole[..cut]).expect("a part"), None);
        }
        assert_eq!(head(whole).expect("whole"), Some((204, whole.len() - 4)));
        assert!(head(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
