//! What is in force where nothing was said.

use super::*;

#[test]
fn all_defaults() {
    let d = clean("web.toml", "exec = 'a'");
    let expected = Definition {
        hooks: Box::default(),
        description: None,
        exec: Box::new(["a".into()]),
        kind: Kind::Process,
        pid_file: None,
        after: Box::new([]),
        requires: Box::new([]),
        wants: Box::new([]),
        ties: None,
        process: Process::default(),
        stop_signal: Signal::TERM,
        stop_timeout: ms(10_000),
        health_stop_timeout: None,
        start_timeout: Some(ms(30_000)),
        restart: Restart::Always,
        autostart: true,
        schedule: None,
        critical: false,
        observe: false,
        safe: false,
        kill_mode: KillMode::Tree,
        retry_policy: RetryPolicy {
            max_attempts: Some(10),
            delay: ms(1_000),
            backoff: Backoff::Exponential,
            max_delay: ms(300_000),
            jitter: 0.1,
            stability_period: ms(30_000),
            on_exhausted: OnExhausted::Keep,
            on_exhausted_exec: None,
            escalate: None,
        },
        notify: None,
        held: None,
        log: None,
        probes: Box::new([]),
        probes_required: None,
    };
    assert_eq!(d, expected);
    let once = clean("web.toml", "exec = 'a'\nkind = 'oneshot'");
    assert_eq!(
        (once.restart, once.start_timeout),
        (Restart::OnFailure, None)
    );
}

#[test]
fn all_defaults_of_a_probe() {
    let d = clean(
        "web.toml",
        "exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://h/'",
    );
    let expected = Probe {
        name: "http".into(),
        ask: Ask::Http(Http {
            address: Address::Tcp {
                host: "h".into(),
                port: 80,
            },
            path: "/".into(),
            method: "GET".into(),
            headers: Box::new([]),
            expect_status: Box::new([200..=399]),
            expect_body: None,
            follow_redirects: 0,
            keep_alive: false,
            verify: true,
        }),
        interval: ms(10_000),
        timeout: ms(5_000),
        failure_threshold: 3,
        success_threshold: 1,
        start_period: ms(0),
        start_interval: ms(250),
        on_unhealthy: OnUnhealthy::Restart,
        window: None,
        confirm_interval: None,
    };
    assert_eq!(*d.probes, [expected]);
}

#[test]
fn defaults_that_give_way() {
    let probe = |keys: &str| {
        let text = format!("exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://h/'\n{keys}");
        let d = clean("web.toml", &text);
        (
            d.probes[0].timeout,
            d.probes[0].start_interval,
            d.start_timeout,
        )
    };
    assert_eq!(
        probe("interval_ms = 100"),
        (ms(100), ms(100), Some(ms(30_000)))
    );
    assert_eq!(
        probe("interval_ms = 1000"),
        (ms(1000), ms(250), Some(ms(30_000)))
    );
    assert_eq!(
        probe("start_period_ms = 60000"),
        (ms(5000), ms(250), Some(ms(60_000)))
    );
    let d = clean(
        "web.toml",
        "exec = 'a'\nretry_policy = { delay_ms = 400000 }",
    );
    assert_eq!(d.retry_policy.max_delay, ms(400_000));
}

#[test]
fn defaults_in_the_key_tables_are_valid_values() {
    let tables = [
        (keys::service::ALL, "exec = 'a'\n"),
        (keys::retry_policy::ALL, "exec = 'a'\n[retry_policy]\n"),
        (
            keys::probe::ALL,
            "exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://h/'\n",
        ),
    ];
    for (table, head) in tables {
        // What a service says of its output beats vitald.toml, also where it says the default.
        let of_log = |key: &&&keys::Key| keys::log::ALL.iter().any(|log| log.name == key.name);
        for key in table
            .iter()
            .filter(|key| key.is_for("http") && !of_log(key))
        {
            let value = match key.default {
                keys::Preset::Integer(n) => n.to_string(),
                keys::Preset::Fraction(n) => n.to_string(),
                keys::Preset::Bool(b) => b.to_string(),
                keys::Preset::Text(t) => format!("'{t}'"),
                keys::Preset::Required | keys::Preset::Words(_) => continue,
            };
            let written = clean("web.toml", &format!("{head}{} = {value}\n", key.name));
            assert_eq!(written, clean("web.toml", head), "{}", key.name);
        }
    }
}

#[test]
fn defaults_of_output_are_what_nothing_said_means() {
    let nothing = Log::default();
    let style = |log: &Log| {
        let choices = (log.to.unwrap_or_default(), log.time.unwrap_or_default());
        let more = (
            log.prefix.unwrap_or_default(),
            log.is_apart(),
            log.priority(),
        );
        let numbers = (
            log.file_bytes(),
            log.files(),
            log.line_bytes(),
            log.facility(),
        );
        (choices, more, numbers, log.long_lines.unwrap_or_default())
    };
    for key in keys::log::ALL {
        let value = match key.default {
            keys::Preset::Integer(n) => n.to_string(),
            keys::Preset::Text(t) => format!("'{t}'"),
            _ => continue,
        };
        let given = clean("web.toml", &format!("exec = 'a'\n{} = {value}\n", key.name));
        let given = given.log.expect("something is said");
        assert_ne!(*given, nothing, "{}", key.name);
        assert_eq!(style(&given), style(&nothing), "{}", key.name);
    }
}

#[test]
fn settings_have_defaults_and_keep_them_when_broken() {
    let (none, problems) = settings::read("vitald.toml", b"");
    assert_eq!((none, problems.len()), (settings::Settings::default(), 0));
    let text = b"log_files = 9\nrecord = true\nrecord_bytes = 70000\n[access]\nwheel = 'act'\nadm = 'read'\n4 = ['view', 'all', 'logs:web', 1]\nops = 'restart:a b'\n";
    let (some, problems) = settings::read("vitald.toml", text);
    assert_eq!(some.log.files(), 9);
    assert_eq!((some.record, some.record_bytes), (true, 70_000));
    let right = |group: &str, access, service: Option<&str>| {
        let service = service.map(Box::from);
        (group.into(), settings::Right { access, service })
    };
    let access = [
        right("wheel", settings::Access::Act, None),
        right("adm", settings::Access::Read, None),
        right("4", settings::Access::View, None),
        right("4", settings::Access::Read, Some("web")),
    ];
    assert_eq!(*some.access, access);
    assert_eq!(
        problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
        [
            "vitald.toml:7:14: `4` is given \"all\": a right is one of view, read, logs, act, \
             restart, admin, for one service as in \"restart:web\"",
            "vitald.toml:7:33: `4` has an integer: write a right in quotes, as \"read\", or an \
             array of them",
            "vitald.toml:8:7: `ops` is given \"restart:a b\": the name `a b` has ` `: write \
             letters, digits, `.`, `_`, `@`, `-`"
        ]
    );
    let cgroup = |value: &str| {
        let text = format!("cgroup = '{value}'");
        let (settings, problems) = settings::read("vitald.toml", text.as_bytes());
        (settings.cgroup, problems.len())
    };
    assert_eq!(cgroup("auto"), (settings::Cgroup::Auto, 0));
    assert_eq!(cgroup("off"), (settings::Cgroup::Off, 0));
    assert_eq!(cgroup("/a/b/"), (settings::Cgroup::At("/a/b".into()), 0));
    for bad in ["/", "on", "a/b", "/a/../b"] {
        assert_eq!(cgroup(bad), (settings::Cgroup::Auto, 1), "{bad}");
    }
    let (broken, problems) = settings::read("vitald.toml", b"log_files = 9\n[access]\nwheel = ");
    assert_eq!((broken, problems.len()), (settings::Settings::default(), 1));
}
