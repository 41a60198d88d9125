//! `dns`: one question to one server, and what its answer says (RFC 1035).
//!
//! Not here: the sockets. An answer is one datagram, or one message over TCP when that was
//! truncated; what is not an answer to our question (id, name, type) is passed over, as it may be
//! anyone's. Names are compared without regard to case and read through at most [`JUMPS`] pointers.

use crate::config::Dns;
use crate::config::ask::{RCODES, RECORDS};
use crate::probe::{Outcome, Reason};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longer chains of pointers are loops.
const JUMPS: usize = 32;
const HEADER: usize = 12;

/// What a message says.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Not to us.
    Foreign,
    /// To be asked for by TCP.
    Truncated,
    Outcome(Outcome, Box<str>),
}

/// The question, as a datagram.
pub fn query(id: u16, dns: &Dns) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in dns.query.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&dns.record.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out
}

pub fn judge(id: u16, dns: &Dns, message: &[u8]) -> Answer {
    let word = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let (Some(flags), Some(4..)) = (word(2), message.len().checked_sub(8)) else {
        return Answer::Foreign;
    };
    if word(0) != Some(id) || flags & 0x8000 == 0 {
        return Answer::Foreign;
    }
    let rcode = (flags & 0xf) as u8;
    // A server that could not read the question may leave it out.
    let mut at = HEADER;
    match word(4) {
        Some(1) => match question(dns, message, &mut at) {
            Some(true) => {}
            Some(false) => return Answer::Foreign,
            None => return bad(),
        },
        Some(0) if rcode != 0 => {}
        _ => return Answer::Foreign,
    }
    if flags & 0x0200 != 0 {
        return Answer::Truncated;
    }
    let name = RCODES.get(usize::from(rcode)).copied();
    let name = name.map_or_else(|| format!("RCODE{rcode}"), str::to_owned);
    if rcode != dns.expect_rcode {
        return said(&name);
    }
    if rcode != 0 {
        return Answer::Outcome(Outcome::Pass, name.into());
    }
    let Some(found) = records(dns.record, word(6).unwrap_or(0), message, at) else {
        return bad();
    };
    let mut output = String::new();
    for text in &found {
        let _ = writeln!(output, "{text}");
    }
    let output: Box<str> = crate::probe::visible::first_bytes(output.trim_end().as_bytes());
    let record = RECORDS.iter().find(|(_, number)| *number == dns.record);
    let record = record.map_or("", |(name, _)| name);
    match dns.expect.as_deref() {
        None if found.is_empty() => said(&format!("no {record} record")),
        Some(expect) if !found.iter().any(|text| same(text, expect)) => {
            Answer::Outcome(Outcome::Fail(Reason::Mismatch), output)
        }
        Some(_) | None => Answer::Outcome(Outcome::Pass, output),
    }
}

fn said(words: &str) -> Answer {
    Answer::Outcome(Outcome::Fail(Reason::Said(words.into())), "".into())
}

fn bad() -> Answer {
    let reason = Reason::Syntax("no DNS message".into());
    Answer::Outcome(Outcome::Fail(reason), "".into())
}

fn same(a: &str, b: &str) -> bool {
    let bare = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    bare(a) == bare(b)
}

/// Whether the question is ours. `at` is moved behind it.
fn question(dns: &Dns, message: &[u8], at: &mut usize) -> Option<bool> {
    let name = name(message, at)?;
    let tail = message.get(*at..*at + 4)?;
    *at += 4;
    let kind = u16::from_be_bytes([tail[0], tail[1]]);
    Some(same(&name, &dns.query) && kind == dns.record)
}

/// The records of a type, as text.
fn records(kind: u16, count: u16, message: &[u8], mut at: usize) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for _ in 0..count {
        name(message, &mut at)?;
        let head = message.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let data = at + 10;
        at = data + length;
        let bytes = message.get(data..at)?;
        if u16::from_be_bytes([head[0], head[1]]) == kind {
            found.push(text(kind, message, data, bytes)?);
        }
    }
    Some(found)
}

fn text(kind: u16, message: &[u8], data: usize, bytes: &[u8]) -> Option<String> {
    let named = |skip: usize| name(message, &mut (data + skip));
    Some(match kind {
        1 => Ipv4Addr::from(*bytes.first_chunk::<4>()?).to_string(),
        28 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).to_string(),
        // A preference before an exchange; priority, weight and port before a target.
        15 => named(2)?,
        33 => {
            let port = bytes.get(4..6)?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            format!("{}:{port}", named(6)?)
        }
        16 => {
            let (mut words, mut rest) = (Vec::new(), bytes);
            while let Some((length, after)) = rest.split_first() {
                let length = usize::from(*length);
                words.extend_from_slice(after.get(..length)?);
                rest = &after[length..];
            }
            String::from_utf8_lossy(&words).into_owned()
        }
        // The first field of an SOA record is the primary server's.
        _ => named(0)?,
    })
}

/// A name; `at` is moved behind where it stands. The root is `.`.
fn name(message: &[u8], at: &mut usize) -> Option<String> {
    let (mut text, mut here, mut jumps) = (String::new(), *at, 0);
    loop {
        let length = usize::from(*message.get(here)?);
        match length & 0xc0 {
            0 if length == 0 => {
                if jumps == 0 {
                    *at = here + 1;
                }
                if text.is_empty() {
                    text.push('.');
                }
                return Some(text);
            }
            0 => {
                let label = message.get(here + 1..here + 1 + length)?;
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&String::from_utf8_lossy(label));
                here += 1 + length;
            }
            0xc0 => {
                let low = usize::from(*message.get(here + 1)?);
                if jumps == 0 {
                    *at = here + 2;
                }
                jumps += 1;
                if jumps > JUMPS {
                    return None;
                }
                here = (length & 0x3f) << 8 | low;
            }
            _ => return None,
        }
        if text.len() > 1024 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    fn dns(query: &str, record: u16, expect: Option<&str>) -> Dns {
        Dns {
            server: Address::Tcp {
                host: "127.0.0.1".into(),
                port: 53,
            },
            query: query.into(),
            record,
            expect_rcode: 0,
            expect: expect.map(Into::into),
        }
    }

    /// An answer to `query`: these flags, these records of (type, data) by a pointer to the name.
    fn answer(query: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = query.to_vec();
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[7] = records.len() as u8;
        for (kind, data) in records {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn outcome(answer: Answer) -> Outcome {
        match answer {
            Answer::Outcome(outcome, _) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_judged_by_its_code_and_its_records() {
        let asked = dns("Example.org", 1, Some("10.0.0.2"));
        let q = query(7, &asked);
        let good = answer(
            &q,
            0x8180,
            &[(5, &[0xc0, 12]), (1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])],
        );
        let pass = Answer::Outcome(Outcome::Pass, "10.0.0.1\n10.0.0.2".into());
        assert_eq!(judge(7, &asked, &good), pass);
        let other = dns("example.org.", 1, Some("10.0.0.3"));
        assert_eq!(
            outcome(judge(7, &other, &good)),
            Outcome::Fail(Reason::Mismatch)
        );
        let any = dns("example.org", 1, None);
        assert_eq!(outcome(judge(7, &any, &good)), Outcome::Pass);
        let none = answer(&q, 0x8180, &[]);
        let said = |words: &str| Outcome::Fail(Reason::Said(words.into()));
        assert_eq!(outcome(judge(7, &any, &none)), said("no A record"));
        for (rcode, words) in [
            (2, "SERVFAIL"),
            (3, "NXDOMAIN"),
            (5, "REFUSED"),
            (9, "RCODE9"),
        ] {
            let failed = answer(&q, 0x8180 | rcode, &[]);
            assert_eq!(outcome(judge(7, &any, &failed)), said(words));
        }
        let mut wants = dns("example.org", 1, None);
        wants.expect_rcode = 3;
        let gone = answer(&q, 0x8183, &[]);
        assert_eq!(outcome(judge(7, &wants, &gone)), Outcome::Pass);
        assert_eq!(outcome(judge(7, &wants, &good)), said("NOERROR"));
        assert_eq!(judge(7, &any, &answer(&q, 0x8380, &[])), Answer::Truncated);
        // A server that could not read the question leaves it out.
        let mut unread = q[..HEADER].to_vec();
        unread[2..6].copy_from_slice(&[0x81, 0x81, 0, 0]);
        assert_eq!(outcome(judge(7, &any, &unread)), said("FORMERR"));
    }

    #[test]
    fn what_is_not_for_us_is_passed_over() {
        let asked = dns("example.org", 1, None);
        let q = query(7, &asked);
        let good = answer(&q, 0x8180, &[(1, &[10, 0, 0, 1])]);
        assert_eq!(judge(8, &asked, &good), Answer::Foreign, "another id");
        assert_eq!(judge(7, &asked, &q), Answer::Foreign, "a question");
        for other in [dns("example.net", 1, None), dns("example.org", 28, None)] {
            assert_eq!(judge(7, &other, &good), Answer::Foreign, "{other:?}");
        }
    }

    #[test]
    fn each_type_has_its_text() {
        let show = |record, data: &[u8]| {
            let asked = dns("a.b", record, None);
            let good = answer(&query(1, &asked), 0x8180, &[(record, data)]);
            match judge(1, &asked, &good) {
                Answer::Outcome(Outcome::Pass, text) => text.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let v6 = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(show(28, &v6), "::1");
        assert_eq!(show(15, &[0, 10, 1, b'm', 0xc0, 12]), "m.a.b");
        assert_eq!(show(33, &[0, 1, 0, 2, 0, 80, 0xc0, 12]), "a.b:80");
        assert_eq!(show(16, &[2, b'h', b'i', 1, b'!']), "hi!");
        assert_eq!(show(12, &[0]), ".");
    }

    #[test]
    fn no_message_is_too_short_or_too_odd() {
        let asked = dns("example.org", 16, None);
        let q = query(7, &asked);
        let good = answer(&q, 0x8180, &[(16, b"\x05hello"), (16, &[0xc0, 12])]);
        for cut in 0..good.len() {
            let _ = judge(7, &asked, &good[..cut]);
            for bit in 0..8 {
                let mut odd = good.clone();
                odd[cut] ^= 1 << bit;
                let _ = judge(7, &asked, &odd);
            }
        }
        // A name that points at itself.
        let mut looped = answer(&q, 0x8180, &[]);
        looped[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(judge(7, &asked, &looped), bad());
    }
}
