//! Where a redirect leads, if it stays on the same host (RFC 9110 §10.2.2, RFC 3986 §5.2).

/// The path to ask next, or None when `location` leads to another scheme, host or port, or is no
/// reference at all. `authorities` are the names under which the service is known to be this one,
/// `base` the path that was asked.
pub fn same_host_path(
    location: &[u8],
    scheme: &str,
    authorities: &[&str],
    base: &str,
) -> Option<String> {
    let location = location.split(|b| *b == b'#').next()?.trim_ascii();
    let location = escaped(location);
    let rest = if let Some((named, rest)) = location.split_once("://") {
        if !named.contains(['/', '?']) {
            if !named.eq_ignore_ascii_case(scheme) {
                return None;
            }
            return at_authority(rest, scheme, authorities);
        }
        &*location
    } else {
        &*location
    };
    if let Some(rest) = rest.strip_prefix("//") {
        return at_authority(rest, scheme, authorities);
    }
    let first = rest.split(['/', '?']).next().unwrap_or("");
    if first.contains(':') {
        return None; // some other scheme: `mailto:x`
    }
    let base = base.split('?').next().unwrap_or("/");
    Some(match rest.as_bytes().first() {
        None => base.to_string(),
        Some(b'/') => without_dots(rest),
        Some(b'?') => format!("{base}{rest}"),
        Some(_) => {
            let directory = &base[..base.rfind('/').map_or(0, |at| at + 1)];
            without_dots(&format!("{directory}{rest}"))
        }
    })
}

fn at_authority(rest: &str, scheme: &str, authorities: &[&str]) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |a: &str| a.strip_suffix(default).unwrap_or(a).to_ascii_lowercase();
    let ours = authorities
        .iter()
        .any(|known| bare(known) == bare(authority));
    ours.then(|| {
        if path.starts_with('/') {
            without_dots(path)
        } else {
            format!("/{path}")
        }
    })
}

/// `.` and `..` taken out of the path; the query stays as it is.
fn without_dots(reference: &str) -> String {
    let (path, query) = match reference.find('?') {
        Some(at) => reference.split_at(at),
        None => (reference, ""),
    };
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            other => parts.push(other),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// What may not stand in a request line, written as %XX.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for b in bytes {
        if matches!(b, b'!'..=b'~') {
            out.push(*b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(location: &str) -> Option<String> {
        same_host_path(
            location.as_bytes(),
            "http",
            &["127.0.0.1:8080", "web.test"],
            "/a/b?x=1",
        )
    }

    #[test]
    fn the_same_host_is_followed() {
        for (location, path) in [
            ("/new", "/new"),
            ("new", "/a/new"),
            ("../new?y=2", "/new?y=2"),
            ("./", "/a/"),
            ("..", "/"),
            ("?z=3", "/a/b?z=3"),
            ("", "/a/b"),
            ("/p#part", "/p"),
            ("http://127.0.0.1:8080/x", "/x"),
            ("HTTP://WEB.test:80/x", "/x"),
            ("http://web.test", "/"),
            ("http://web.test?q", "/?q"),
            ("//web.test/y", "/y"),
            ("/to?u=http://other/", "/to?u=http://other/"),
            ("/a b\u{e9}", "/a%20b%C3%A9"),
        ] {
            assert_eq!(led(location).as_deref(), Some(path), "{location}");
        }
    }

    #[test]
    fn another_place_is_not() {
        for location in [
            "https://127.0.0.1:8080/x",
            "http://127.0.0.1/x",
            "http://127.0.0.1:8081/x",
            "http://other/x",
            "//other/x",
            "mailto:root",
            "http://web.test@other/",
        ] {
            assert_eq!(led(location), None, "{location}");
        }
    }

    #[test]
    fn a_redirect_cannot_smuggle_a_line_into_the_request() {
        assert_eq!(
            led("/x\r\nHost: other").as_deref(),
            Some("/x%0D%0AHost:%20other")
        );
    }
}
