//! `[[alert]]` in `vitald.toml`: whom to tell of what. Plain data, and how it is read.
//!
//! A [`Rule`] is what is decided by and holds no secret; a [`Target`] is where it goes, and does.
//!
//! Invariants of what is returned without an error: names are unique; a target is of one kind.

use crate::config::hints;
use crate::config::keys::{alert as keys, daemon};
use crate::config::names;
use crate::config::probe;
use crate::config::problem::Problems;
use crate::config::reader::{Table, no_nul, wrong};
use crate::config::target;
use crate::config::tree::{Entry, Span, Value};
use crate::limits::{MAX_ALERT_SERVICES, MAX_ALERTS};
use std::fmt;
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alert {
    pub rule: Rule,
    pub target: Target,
}

/// What is told, of whom, how often.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    pub name: Box<str>,
    /// By [`What::bit`].
    pub on: u16,
    /// Patterns; empty: all.
    pub services: Box<[Box<str>]>,
    pub timeout: Duration,
    pub repeat_after: Duration,
}

/// A kind of alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Unhealthy,
    Restarted,
    Uncured,
    Exhausted,
    Failed,
    Storm,
    Held,
    Host,
    Recovered,
}

impl What {
    pub const ALL: [What; 9] = [
        What::Unhealthy,
        What::Restarted,
        What::Uncured,
        What::Exhausted,
        What::Failed,
        What::Storm,
        What::Held,
        What::Host,
        What::Recovered,
    ];
    /// What does not mend by itself, and the all-clear.
    const DEFAULT: u16 = 0b1_1111_1100;

    pub fn word(self) -> &'static str {
        keys::KINDS.get(self.index()).copied().unwrap_or("")
    }
    pub fn parse(word: &str) -> Option<What> {
        What::ALL.into_iter().find(|what| what.word() == word)
    }
    pub const fn index(self) -> usize {
        self as usize
    }
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl Rule {
    pub fn tells(&self, what: What) -> bool {
        self.on & what.bit() != 0
    }

    pub fn is_for(&self, service: &str) -> bool {
        let mut patterns = self.services.iter();
        self.services.is_empty() || patterns.any(|pattern| matches(pattern, service))
    }
}

/// `db-*`
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Where it goes.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    Exec(Box<[Box<str>]>),
    Webhook(Webhook),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub to: Place,
    pub headers: Box<[(Box<str>, Box<str>)]>,
    pub headers_file: Option<Box<str>>,
    /// One line of text in place of JSON.
    pub text: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    Url(Url),
    /// A file that holds it.
    File(Box<str>),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    pub host: Box<str>,
    pub port: u16,
    /// With the query.
    pub path: Box<str>,
}

impl Url {
    /// What is wrong begins with a verb: its subject is the key or the file.
    pub fn parse(text: &str) -> Result<Url, String> {
        let scheme = text.split("://").next().unwrap_or_default();
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => {
                return Err("must be a URL such as \"https://alerts.example.org/hook\"".to_owned());
            }
        };
        if tls && !cfg!(feature = "tls") {
            return Err(
                "is an https URL, and this vitald was built without TLS: use the build with it \
                 (cargo feature `tls`), an http URL, or `exec` with curl"
                    .to_owned(),
            );
        }
        match target::http(text, tls)? {
            (super::Address::Tcp { host, port }, path) => Ok(Url {
                tls,
                host,
                port,
                path,
            }),
            (super::Address::Unix { .. }, _) => Err("must be a URL, no Unix socket".to_owned()),
        }
    }
}

impl Target {
    /// Where it goes, without what may be secret: an address's path is.
    pub fn shown(&self) -> String {
        match self {
            Target::Exec(argv) => format!("exec {}", argv.first().map_or("", |word| word)),
            Target::Webhook(hook) => match &hook.to {
                Place::Url(url) => {
                    let scheme = if url.tls { "https" } else { "http" };
                    format!("{scheme}://{}:{}", url.host, url.port)
                }
                Place::File(path) => format!("webhook in {path}"),
            },
        }
    }
}

/// It may be printed where nobody thought of secrets.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// All of them, in the order of the file.
pub fn build_all(t: &Table<'_>, p: &mut Problems) -> Box<[Alert]> {
    let Some(entry) = t.entry(&daemon::ALERT) else {
        return Box::default();
    };
    let Value::Array(tables) = &entry.value.value else {
        let how = "an array of tables: write [[alert]]";
        wrong::<()>(entry, how, &entry.value.value, p);
        return Box::default();
    };
    if tables.len() > MAX_ALERTS {
        let words = format!(
            "{} alerts; at most {MAX_ALERTS} are taken: one command can tell many",
            tables.len()
        );
        p.error(entry.key_at, words);
        return Box::default();
    }
    let mut alerts: Vec<Alert> = Vec::new();
    for node in tables {
        match &node.value {
            Value::Table(members) => alerts.extend(build(node.at, members, &alerts, p)),
            other => {
                let what = other.what();
                let words = format!("`{}` must hold tables, not {what}", entry.key);
                p.error(node.at, words);
            }
        }
    }
    name_the_nameless(&mut alerts);
    alerts.into()
}

fn name_the_nameless(alerts: &mut [Alert]) {
    for at in 0..alerts.len() {
        if !alerts[at].rule.name.is_empty() {
            continue;
        }
        let kind = match alerts[at].target {
            Target::Exec(_) => "exec",
            Target::Webhook(_) => "webhook",
        };
        let name = (1..).map(|n| match n {
            1 => kind.to_owned(),
            n => format!("{kind}-{n}"),
        });
        let free = |name: &String| !alerts.iter().any(|alert| *alert.rule.name == **name);
        let name = name.take(2 * MAX_ALERTS).find(free);
        alerts[at].rule.name = name.unwrap_or_default().into();
    }
}

fn build(at: Span, members: &[Entry<'_>], others: &[Alert], p: &mut Problems) -> Option<Alert> {
    let before = p.error_count();
    let t = Table::open(at, members, keys::ALL, p);
    let name = t.text(&keys::NAME, p);
    if let Some(name) = name {
        let place = t.place(&keys::NAME);
        if let Err(problem) = names::check(name) {
            p.error(place, problem);
        } else if others.iter().any(|other| *other.rule.name == *name) {
            let words = format!("there is already an alert `{name}`: give each its own name");
            p.error(place, words);
        }
    }
    let rule = Rule {
        name: name.unwrap_or_default().into(),
        on: on(&t, p),
        services: services(&t, p),
        timeout: t.millis(&keys::TIMEOUT, p),
        repeat_after: t.millis(&keys::REPEAT_AFTER, p),
    };
    let target = target(&t, p);
    let target = target.filter(|_| p.error_count() == before)?;
    Some(Alert { rule, target })
}

fn on(t: &Table<'_>, p: &mut Problems) -> u16 {
    let Some(entry) = t.entry(&keys::ON) else {
        return What::DEFAULT;
    };
    let Value::Array(items) = &entry.value.value else {
        let words = "an array, as in [\"exhausted\", \"recovered\"]";
        wrong::<()>(entry, words, &entry.value.value, p);
        return 0;
    };
    let mut on = 0;
    for item in items {
        let Value::String(word) = &item.value else {
            let words = format!("`{}` must hold words in quotes", entry.key);
            p.error(item.at, words);
            continue;
        };
        match What::parse(word) {
            Some(what) => on |= what.bit(),
            None => {
                let known = keys::KINDS;
                let advice = match hints::nearest(word, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                let shown = hints::shorten(word);
                let words = format!("`on`: nothing is called `{shown}`: {advice}");
                p.error(item.at, words);
            }
        }
    }
    if items.is_empty() {
        let words = "`on` is empty, and nothing is told: name a kind, or remove the alert";
        p.error(entry.value.at, words);
    } else if on == What::Recovered.bit() {
        let words = "`on` holds `recovered` alone, which is told only after trouble was: name the \
                     trouble, too, as in [\"exhausted\", \"recovered\"]";
        p.error(entry.value.at, words);
    }
    on
}

fn services(t: &Table<'_>, p: &mut Problems) -> Box<[Box<str>]> {
    let Some(entry) = t.entry(&keys::SERVICES) else {
        return Box::default();
    };
    let Value::Array(items) = &entry.value.value else {
        let words = "an array, as in [\"web\", \"db-*\"]";
        wrong::<()>(entry, words, &entry.value.value, p);
        return Box::default();
    };
    if items.len() > MAX_ALERT_SERVICES || items.is_empty() {
        let words = format!(
            "`{}` has {} names; write 1 to {MAX_ALERT_SERVICES}, or leave it out for all services",
            entry.key,
            items.len()
        );
        p.error(entry.value.at, words);
    }
    let mut found = Vec::new();
    for item in items {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._@-*".contains(c);
        match &item.value {
            Value::String(name) if !name.is_empty() && name.chars().all(fits) => {
                found.push(name.as_ref().into());
            }
            other => {
                let what = match other {
                    Value::String(name) => format!("`{}`", hints::shorten(name)),
                    other => other.what().to_owned(),
                };
                let words = format!(
                    "`{}`: {what} is no service's name; write letters, digits and `.`, `_`, `@`, \
                     `-`, and `*` for any of them",
                    entry.key
                );
                p.error(item.at, words);
            }
        }
    }
    found.into()
}

fn target(t: &Table<'_>, p: &mut Problems) -> Option<Target> {
    let hooks = [&keys::WEBHOOK, &keys::WEBHOOK_FILE];
    let given: Vec<&'static str> = [&keys::EXEC, hooks[0], hooks[1]]
        .into_iter()
        .filter(|key| t.has(key))
        .map(|key| key.name)
        .collect();
    if given.len() != 1 {
        let words = match given.as_slice() {
            [] => format!(
                "this alert goes nowhere: write {} or {}",
                p.assign("exec", "[\"/usr/local/bin/page\"]"),
                p.assign("webhook", "\"https://alerts.example.org/hook\"")
            ),
            both => format!(
                "`{}` and `{}` exclude each other: make two alerts of it",
                both[0], both[1]
            ),
        };
        p.error(t.at, words);
        return None;
    }
    if t.has(&keys::EXEC) {
        for key in [&keys::HEADERS, &keys::HEADERS_FILE, &keys::BODY] {
            if let Some(entry) = t.entry(key) {
                let words = format!(
                    "`{}` is for a webhook, and this is `exec`: remove it",
                    entry.key
                );
                p.error(entry.key_at, words);
            }
        }
        return t.command(&keys::EXEC, p).map(Target::Exec);
    }
    let to = match t.has(&keys::WEBHOOK) {
        true => match Url::parse(t.text(&keys::WEBHOOK, p)?) {
            Ok(url) => Place::Url(url),
            Err(problem) => {
                p.error(t.place(&keys::WEBHOOK), format!("`webhook` {problem}"));
                return None;
            }
        },
        false => Place::File(file(t, &keys::WEBHOOK_FILE, p)?),
    };
    Some(Target::Webhook(Webhook {
        to,
        headers: probe::headers(t, &keys::HEADERS, p),
        headers_file: file(t, &keys::HEADERS_FILE, p),
        text: t.choice(&keys::BODY, &[false, true], false, p),
    }))
}

fn file(t: &Table<'_>, key: &'static super::keys::Key, p: &mut Problems) -> Option<Box<str>> {
    let entry = t.entry(key)?;
    let path = t.text(key, p)?;
    no_nul(&entry.key, path, entry.value.at, p)?;
    if !path.starts_with('/') {
        let shown = hints::shorten(path);
        let words = format!("`{}` is `{shown}`; it must be absolute", entry.key);
        p.error(entry.value.at, words);
        return None;
    }
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, so) in [
            ("web", "web", true),
            ("web", "web2", false),
            ("db-*", "db-1", true),
            ("db-*", "db", false),
            ("*", "x", true),
            ("*b*", "abc", true),
            ("a*b*c", "a-b-c", true),
            ("a*a", "a", false),
            ("*-1", "db-1", true),
            ("*-1", "db-11", false),
        ] {
            assert_eq!(matches(pattern, name), so, "{pattern} {name}");
        }
    }

    #[test]
    fn the_default_is_what_does_not_mend_by_itself() {
        let text = b"[[alert]]\nexec = 'page'\n[[alert]]\nexec = 'mail'\nservices = ['a*']\n";
        let (settings, problems) = settings::read("vitald.toml", text);
        assert_eq!(problems, []);
        let [one, two] = &*settings.alerts else {
            panic!("two alerts");
        };
        assert_eq!((&*one.rule.name, &*two.rule.name), ("exec", "exec-2"));
        let told = What::ALL.map(|what| one.rule.tells(what));
        assert_eq!(
            told,
            [false, false, true, true, true, true, true, true, true]
        );
        assert!(one.rule.is_for("web") && !two.rule.is_for("web") && two.rule.is_for("api"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_the_others_are_used() {
        let text = "[[alert]]\nname = 'a b'\nexec = ''\n[[alert]]\non = ['recoverd']\n\
                    [[alert]]\nwebhook = 'ftp://x'\nservices = ['we b']\non = []\n\
                    [[alert]]\nexec = 'x'\nwebhook = 'http://h/'\n\
                    [[alert]]\nexec = 'x'\nheaders = { a = 'b' }\non = ['recovered']\n\
                    [[alert]]\nwebhook_file = 'url'\ncooldown = 3\n\
                    [[alert]]\nname = 'good'\nwebhook = 'http://user:pw@h/'\n\
                    [[alert]]\nname = 'good'\nexec = 'x'\ntimeout_ms = '10s'\n\
                    [[alert]]\nname = 'good'\nexec = 'x'\n";
        let (settings, problems) = settings::read("vitald.toml", text.as_bytes());
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = [
            "vitald.toml:2:8: the name `a b` has ` `: write ",
            "vitald.toml:3:8: `exec` names no program: write ",
            "vitald.toml:4:1: this alert goes nowhere: write `exec = [\"/usr/local/bin/page\"]` or",
            "vitald.toml:5:7: `on`: nothing is called `recoverd`: did you mean `recovered`?",
            "vitald.toml:7:11: `webhook` must be a URL such as",
            "vitald.toml:8:13: `services`: `we b` is no service's name; write letters,",
            "vitald.toml:9:6: `on` is empty, and nothing is told: name a kind, or remove the alert",
            "vitald.toml:10:1: `exec` and `webhook` exclude each other: make two alerts of it",
            "vitald.toml:15:1: `headers` is for a webhook, and this is `exec`: remove it",
            "vitald.toml:16:6: `on` holds `recovered` alone, which is told only after trouble was",
            "vitald.toml:18:16: `webhook_file` is `url`; it must be absolute",
            "vitald.toml:19:1: unknown key `cooldown`: write `repeat_after_ms`",
            "vitald.toml:22:11: `webhook` has a user name: send it as headers = { Authorization =",
            "vitald.toml:26:14: `timeout_ms` must be a whole number of milliseconds, not a string",
        ];
        for (line, beginning) in told.iter().zip(expected) {
            assert!(line.starts_with(beginning), "{line}\nis not\n{beginning}");
        }
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        assert_eq!(settings.alerts.len(), 1);
        assert_eq!(&*settings.alerts[0].rule.name, "good");
    }

    /// A webhook's address is as good as a password.
    #[test]
    fn nothing_secret_is_shown() {
        let text = b"[[alert]]\nwebhook = 'http://hooks.test/T0/SECRET?key=SECRET'\n\
                     headers = { Authorization = 'SECRET' }\n";
        let (settings, problems) = settings::read("vitald.toml", text);
        assert_eq!(problems, []);
        assert_eq!(settings.alerts[0].target.shown(), "http://hooks.test:80");
        assert!(!format!("{settings:?}").contains("SECRET"));
    }
}
