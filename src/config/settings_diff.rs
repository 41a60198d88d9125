//! What differs between the daemon's settings that are in force and those that were read anew, key by
//! key: what a reload takes over, and what only a start of the daemon reads. Which is which stands in
//! the key table.

use crate::config::alerts::Alert;
use crate::config::diff::log_keys;
use crate::config::keys::{Key, Reload, daemon};
use crate::config::settings::Settings;

/// The keys that differ, one of several `[[alert]]` as `alert.NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Differs {
    pub live: Vec<Box<str>>,
    pub at_start: Vec<Box<str>>,
}

/// `begun`: those by which the daemon started; `now`: those that are in force.
pub fn differ(begun: &Settings, now: &Settings, new: &Settings) -> Differs {
    let mut found = Differs::default();
    for (key, differs) in at_start(begun, new) {
        found.note(key, differs);
    }
    let Settings {
        access,
        log,
        max_concurrent_probes,
        shutdown_timeout,
        storm,
        alerts,
        // Compared above.
        syslog_socket: _,
        dossier_keep: _,
        dossier_max_bytes: _,
        record: _,
        record_bytes: _,
        main: _,
        early_setup: _,
        cgroup: _,
        rescue_shell: _,
        boot_guard: _,
        boot_attempts: _,
        boot_ok_after: _,
        watchdog: _,
    } = now;
    found.note(&daemon::ACCESS, *access != new.access);
    let limit = (storm.count, storm.per) != (new.storm.count, new.storm.per);
    found.note(&daemon::HEALTH_RESTART_LIMIT, limit);
    let mut others = new.storm;
    (others.count, others.per) = (storm.count, storm.per);
    found.note(&daemon::STORM, others != *storm);
    let probes = *max_concurrent_probes != new.max_concurrent_probes;
    found.note(&daemon::MAX_CONCURRENT_PROBES, probes);
    let shutdown = *shutdown_timeout != new.shutdown_timeout;
    found.note(&daemon::SHUTDOWN_TIMEOUT, shutdown);
    let keys = log_keys(log, &new.log);
    found.live.extend(keys.into_iter().map(Box::from));
    found.alerts(alerts, &new.alerts);
    found
}

fn at_start(begun: &Settings, new: &Settings) -> [(&'static Key, bool); 13] {
    let (a, b) = (begun, new);
    [
        (&daemon::SYSLOG_SOCKET, a.syslog_socket != b.syslog_socket),
        (&daemon::DOSSIER_KEEP, a.dossier_keep != b.dossier_keep),
        (
            &daemon::DOSSIER_MAX_BYTES,
            a.dossier_max_bytes != b.dossier_max_bytes,
        ),
        (&daemon::RECORD, a.record != b.record),
        (&daemon::RECORD_BYTES, a.record_bytes != b.record_bytes),
        (&daemon::MAIN, a.main != b.main),
        (&daemon::EARLY_SETUP, a.early_setup != b.early_setup),
        (&daemon::CGROUP, a.cgroup != b.cgroup),
        (&daemon::RESCUE_SHELL, a.rescue_shell != b.rescue_shell),
        (&daemon::BOOT_GUARD, a.boot_guard != b.boot_guard),
        (&daemon::BOOT_ATTEMPTS, a.boot_attempts != b.boot_attempts),
        (&daemon::BOOT_OK_AFTER, a.boot_ok_after != b.boot_ok_after),
        (&daemon::WATCHDOG, a.watchdog != b.watchdog),
    ]
}

impl Differs {
    fn note(&mut self, key: &Key, differs: bool) {
        match (differs, key.reload) {
            (false, _) => {}
            (true, Reload::AtStart) => self.at_start.push(key.name.into()),
            (true, Reload::Live | Reload::Restart) => self.live.push(key.name.into()),
        }
    }

    fn alerts(&mut self, old: &[Alert], new: &[Alert]) {
        let name = |alert: &Alert| format!("alert.{}", alert.rule.name).into();
        let before = self.live.len();
        let gone = |alert: &&Alert| !new.iter().any(|n| n.rule.name == alert.rule.name);
        self.live.extend(old.iter().filter(gone).map(name));
        let other = |alert: &&Alert| !old.contains(alert);
        self.live.extend(new.iter().filter(other).map(name));
        if self.live.len() == before && old != new {
            // Nothing but their order.
            self.live.push("alert".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::read;

    fn settings(text: &str) -> Settings {
        let (settings, problems) = read("vitald.toml", text.as_bytes());
        assert_eq!(problems, [], "{text}");
        settings
    }

    fn differs(old: &str, new: &str) -> Differs {
        let old = settings(old);
        differ(&old, &old, &settings(new))
    }

    /// Every key of the table, by another value: as its mark says.
    #[test]
    fn each_key_is_noticed_as_it_is_marked() {
        let other = |name: &str| match name {
            "access" => "{ 7 = 'read' }",
            "alert" => "[{ exec = 'page' }]",
            "cgroup" => "'off'",
            "dossier_keep" | "boot_attempts" | "log_files" => "7",
            "early_setup" | "boot_guard" => "'never'",
            "health_restart_limit" => "{ count = 7 }",
            "storm" => "{ services = 7 }",
            "watchdog" => "{}",
            "main" | "log_tag" | "logger" | "rescue_shell" => "'x'",
            "record" => "true",
            "syslog_socket" => "'/x'",
            "log_to" => "'memory'",
            "log_time" | "log_prefix" => "'none'",
            "log_stderr" => "'apart'",
            "log_priority" => "'err'",
            "log_facility" => "'local3'",
            "log_long_lines" => "'truncate'",
            "log_rate_limit" => "{ count = 7 }",
            "log_line_bytes" => "100",
            _ => "70000",
        };
        for key in daemon::ALL {
            let text = match key.name {
                // The default, where nothing is said.
                "log_prefix" => "log_prefix = 'name'".to_owned(),
                name => format!("{name} = {}", other(name)),
            };
            let name = if key.name == "alert" {
                "alert.exec"
            } else {
                key.name
            };
            let expected = match key.reload {
                Reload::AtStart => (vec![], vec![name.into()]),
                Reload::Live | Reload::Restart => (vec![name.into()], vec![]),
            };
            let got = differs("", &text);
            assert_eq!((got.live, got.at_start), expected, "{text}");
        }
    }

    #[test]
    fn what_only_a_start_reads_is_compared_with_what_it_has_read() {
        let begun = settings("record = true\nstorm = { services = 2 }\n");
        let now = settings("storm = { services = 3 }\n");
        let found = differ(&begun, &now, &settings("storm = { services = 2 }\n"));
        assert_eq!(found.live, ["storm".into()]);
        assert_eq!(found.at_start, ["record".into()]);
        assert_eq!(differ(&begun, &now, &begun).at_start, []);
    }

    #[test]
    fn alerts_are_told_apart_by_their_names() {
        let two =
            "[[alert]]\nname = 'a'\nexec = 'x'\n[[alert]]\nname = 'b'\nwebhook = 'http://h/1'\n";
        let live = |new: &str| differs(two, new).live;
        assert_eq!(live(two), []);
        assert_eq!(live(&two.replace("h/1", "h/2")), ["alert.b".into()]);
        let b = "[[alert]]\nname = 'b'\nwebhook = 'http://h/1'\n";
        let other_a = "[[alert]]\nname = 'a'\nexec = 'y'\n";
        assert_eq!(live(b), ["alert.a".into()]);
        assert_eq!(live(&format!("{b}{other_a}")), ["alert.a".into()]);
        let a = "[[alert]]\nname = 'a'\nexec = 'x'\n";
        assert_eq!(live(&format!("{b}{a}")), ["alert".into()]);
    }
}
