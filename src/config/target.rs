//! What a probe asks, from its text: URLs, addresses, socket paths, status ranges.
//!
//! Stricter than RFC 3986: only what the probes can use. Each error says what to write.

use crate::config::definition::Address;
use crate::config::hints;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

/// The longest path a Unix socket can be bound to: sun_path without its NUL (unix(7)).
const SUN_PATH: usize = 107;

/// `http://host:port/path`, or `unix:/run/web.sock:/path`; with `tls`, `https://…` only.
pub fn http(text: &str, tls: bool) -> Result<(Address, Box<str>), String> {
    let scheme = if tls { "https" } else { "http" };
    if let Some(rest) = text.strip_prefix("unix:") {
        if tls {
            return Err("is a Unix socket: `https` goes over TCP; use type \"http\"".to_owned());
        }
        let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
        let address = Address::Unix {
            path: socket_path(socket, "unix:/run/web.sock:/healthz")?,
        };
        return Ok((address, request_path(path)?));
    }
    let example = format!("{scheme}://127.0.0.1:8080/healthz");
    let Some((given, rest)) = text.split_once("://") else {
        return Err(format!("must be a URL such as \"{example}\""));
    };
    if !given.eq_ignore_ascii_case(scheme) {
        return Err(match given.to_ascii_lowercase().as_str() {
            "https" => "is an https URL: write type = \"https\"".to_owned(),
            "http" => "is an http URL: write type = \"http\"".to_owned(),
            _ => format!("must begin with `{scheme}://`, as in \"{example}\""),
        });
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(
            "has a user name: send it as headers = { Authorization = \"Basic …\" }".to_owned(),
        );
    }
    let default_port = if tls { 443 } else { 80 };
    let (host, port) = host_and_port(authority, Some(default_port), &example)?;
    Ok((Address::Tcp { host, port }, request_path(path)?))
}

/// `host:port` or `[::1]:port`.
pub fn tcp(text: &str) -> Result<Address, String> {
    let example = "127.0.0.1:6379";
    if text.contains('/') {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or(bare);
        let bare = if bare.contains(':') { bare } else { example };
        return Err(format!("must be host and port alone: write \"{bare}\""));
    }
    let (host, port) = host_and_port(text, None, example)?;
    Ok(Address::Tcp { host, port })
}

/// A Unix socket's path.
pub fn unix(text: &str) -> Result<Box<str>, String> {
    let example = "/run/web.sock";
    if let Some(path) = text.strip_prefix("unix:") {
        return Err(format!("must be the path alone: write \"{path}\""));
    }
    socket_path(text, example)
}

pub(super) fn socket_path(path: &str, example: &str) -> Result<Box<str>, String> {
    if !path.starts_with('/') {
        return Err(format!(
            "must name the socket by its absolute path, as in \"{example}\""
        ));
    }
    if path.len() > SUN_PATH {
        return Err(format!(
            "has a socket path of {} bytes; the kernel takes {SUN_PATH}: use a shorter one",
            path.len()
        ));
    }
    Ok(path.into())
}

pub(super) fn host_and_port(
    text: &str,
    default_port: Option<u16>,
    example: &str,
) -> Result<(Box<str>, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, rest)) = rest.split_once(']') else {
                return Err("has a `[` without its `]`: write \"[::1]:8080\"".to_owned());
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("has no IPv6 address in brackets: `{host}`"));
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => {
                    return Err(format!(
                        "has `{rest}` after the address: write \"{example}\""
                    ));
                }
            }
        }
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(format!(
                    "has an IPv6 address without brackets: write \"[{text}]:PORT\""
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_host_char) {
        return Err(format!(
            "has no usable host name: `{host}`; write \"{example}\""
        ));
    }
    let port = match (port, default_port) {
        (Some(digits), _) => parse_port(digits)?,
        (None, Some(port)) => port,
        (None, None) => return Err(format!("has no port: write \"{example}\"")),
    };
    Ok((host.into(), port))
}

pub(super) fn parse_port(digits: &str) -> Result<u16, String> {
    let port = match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().ok().filter(|port| *port > 0),
        false => None,
    };
    port.ok_or_else(|| {
        let shown = hints::shorten(digits);
        format!("has no usable port: `{shown}`; ports are 1 to 65535")
    })
}

/// Path and query as they go into the request line.
fn request_path(path: &str) -> Result<Box<str>, String> {
    let path = path.split('#').next().unwrap_or(path);
    if let Some(c) = path.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!(
            "has `{}` in its path: write it percent-encoded",
            c.escape_default()
        ));
    }
    Ok(match path.chars().next() {
        None => "/".into(),
        Some('/') => path.into(),
        Some(_) => format!("/{path}").into(),
    })
}

/// `200-399`, `200,204,301-308`.
pub fn status(text: &str) -> Result<Box<[RangeInclusive<u16>]>, String> {
    text.split(',')
        .map(|part| status_range(part.trim()))
        .collect()
}

fn status_range(part: &str) -> Result<RangeInclusive<u16>, String> {
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let code = |digits: &str| {
        let digits = digits.trim();
        (digits.len() == 3)
            .then(|| digits.parse::<u16>().ok())
            .flatten()
            .filter(|code| (100..=599).contains(code))
    };
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        (Some(low), Some(high)) => Err(format!("has `{part}`: write \"{high}-{low}\"")),
        _ => Err(format!(
            "has `{part}`, which is no status: codes are 100 to 599, as in \"200-399\" or \"200,204,301-308\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, tls: bool) -> String {
        match http(text, tls) {
            Ok((Address::Tcp { host, port }, path)) => format!("{host} {port} {path}"),
            Ok((Address::Unix { path: socket }, path)) => format!("{socket} {path}"),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn http_targets_of_every_form() {
        assert_eq!(
            shown("http://127.0.0.1:8080/healthz", false),
            "127.0.0.1 8080 /healthz"
        );
        assert_eq!(shown("HTTP://localhost", false), "localhost 80 /");
        assert_eq!(shown("http://[::1]:81/a?b=c#d", false), "::1 81 /a?b=c");
        assert_eq!(shown("http://[::1]", false), "::1 80 /");
        assert_eq!(shown("http://h?q", false), "h 80 /?q");
        assert_eq!(shown("https://h/", true), "h 443 /");
        assert_eq!(
            shown("unix:/run/web.sock:/healthz", false),
            "/run/web.sock /healthz"
        );
        assert_eq!(shown("unix:/run/web.sock", false), "/run/web.sock /");
    }

    #[test]
    fn bad_targets_say_what_to_write() {
        for (text, tls, part) in [
            ("127.0.0.1:8080", false, "must be a URL"),
            ("https://h/", false, "write type = \"https\""),
            ("http://h/", true, "write type = \"http\""),
            ("ftp://h/", false, "must begin with `http://`"),
            ("http://a:b@h/", false, "headers"),
            ("http://:80/", false, "no usable host name"),
            ("http://h h/", false, "no usable host name"),
            ("http://h:0/", false, "no usable port: `0`"),
            ("http://h:65536/", false, "no usable port"),
            ("http://h:/", false, "no usable port: ``"),
            ("http://h:+80/", false, "no usable port"),
            ("http://::1:80/", false, "write \"[::1:80]:PORT\""),
            ("http://[::1/", false, "without its `]`"),
            ("http://[zz]/", false, "no IPv6 address"),
            ("http://[::1]x/", false, "after the address"),
            ("http://h/a b", false, "percent-encoded"),
            ("unix:run/web.sock:/", false, "absolute path"),
            ("unix:/run/web.sock:/", true, "use type \"http\""),
        ] {
            let said = shown(text, tls);
            assert!(
                said.starts_with("error: ") && said.contains(part),
                "{text}: {said}"
            );
        }
        let long = format!("unix:/{}:/", "x".repeat(SUN_PATH));
        assert!(shown(&long, false).contains("108 bytes"));
    }

    #[test]
    fn tcp_and_unix_targets() {
        let ok = |text| tcp(text).is_ok();
        assert!(ok("localhost:1") && ok("[::1]:6379") && ok("10.0.0.1:65535"));
        assert_eq!(
            tcp("tcp://127.0.0.1:6379").expect_err("scheme"),
            "must be host and port alone: write \"127.0.0.1:6379\""
        );
        assert!(
            tcp("localhost")
                .expect_err("no port")
                .contains("has no port")
        );
        assert!(tcp("").is_err() && tcp(":80").is_err() && tcp("::1:80").is_err());
        assert!(unix("/run/a.sock").is_ok());
        assert!(
            unix("unix:/run/a.sock")
                .expect_err("prefix")
                .contains("write \"/run/a.sock\"")
        );
        assert!(unix("a.sock").is_err() && unix("@abstract").is_err());
    }

    #[test]
    fn status_ranges() {
        assert_eq!(*status("200-399").expect("range"), [200..=399]);
        assert_eq!(
            *status("200, 204,301-308").expect("list"),
            [200..=200, 204..=204, 301..=308]
        );
        assert_eq!(
            status("399-200").expect_err("order"),
            "has `399-200`: write \"200-399\""
        );
        for bad in ["", "99", "600", "2xx", "200-", "-200", "200,,204", "+20"] {
            assert!(status(bad).is_err(), "{bad}");
        }
    }
}
