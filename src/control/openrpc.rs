//! The JSON-RPC interface as an OpenRPC document (<https://spec.open-rpc.org>), made from the
//! table of verbs.
//!
//! The schemas of results are read off sample values, so that they cannot fall behind the types:
//! by a test, into `results.json`, which costs a sixth of what reading them off here would.

use super::dossier::{
    DescriptorsSeen, Dossier, Dossiers, Evidence, FileSystemSeen, Head, PressureSeen, ProcessSeen,
    SocketSeen, ThreadSeen,
};
use super::forecast::{
    Actual, AttemptsAt, DecisionAt, Down, Forecast, Lanes, Moment, Restarts, StateAt, Stretch,
    Summary,
};
use super::reply::{Done, LogEntry, LogLines, Overview, Pong, ProbeAnswer};
use super::rpc::code;
use super::ties::{Blame, Branch, Drawing, Took, Tree};
use super::values::quoted;
use super::verbs::{Arg, Kind, Shape, VERBS, Verb};
use crate::config::show::KeyChange;
use crate::engine::plan::{Plan, SettingsPlan, Step};
use crate::engine::status::{
    ChainLink, DaemonStatus, DossierStatus, DoubtCount, DoubtStatus, GateStatus, HoldStatus,
    LastEnd, LogStatus, ProbeStatus, ReloadStatus, ScheduleStatus, SocketStatus, Started, Status,
    StormStatus, StoryLine, Tie, Tied, Usage, WatchdogStatus, Why,
};
use serde::Serialize;
use serde_json::Value;

/// Appends the whole document, in one line.
pub fn put_document(out: &mut Vec<u8>) {
    put_with_results(include_str!("openrpc/results.json"), out);
}

/// The schemas of all results, a line each: what `results.json` must be.
pub fn results() -> String {
    let schemas = schemas().into_iter();
    let lines = schemas.map(|(name, schema)| format!("{}:{schema}", quoted(name)));
    format!("{{\n{}\n}}\n", lines.collect::<Vec<_>>().join(",\n"))
}

/// For the test that makes that file anew.
pub fn put_with_results(results: &str, out: &mut Vec<u8>) {
    let methods: Vec<String> = VERBS.iter().map(method).collect();
    let schemas: String = results.lines().collect();
    let errors: Vec<String> = own_errors()
        .map(|(code, name)| {
            let name = quoted(name);
            format!("\"{}\":{{\"code\":{code},\"message\":{name}}}", -code)
        })
        .collect();
    let document = format!(
        "{{\"openrpc\":\"1.3.2\",\"info\":{{\"title\":\"vitald\",\"version\":{},\"description\":{}}},\
         \"methods\":[{}],\"components\":{{\"schemas\":{schemas},\"errors\":{{{}}}}}}}",
        quoted(env!("CARGO_PKG_VERSION")),
        quoted(
            "JSON-RPC 2.0 over the Unix stream socket control.sock in the runtime directory: one \
             message a line, batches and notifications as the specification has them. Times are \
             RFC 3339 in UTC; names end in the unit, _ms or _us."
        ),
        methods.join(","),
        errors.join(",")
    );
    out.extend_from_slice(document.as_bytes());
}

/// The errors that JSON-RPC itself does not define.
fn own_errors() -> impl Iterator<Item = &'static (i32, &'static str)> {
    code::ALL
        .iter()
        .filter(|(code, _)| !(-32700..=-32600).contains(code))
}

fn method(verb: &Verb) -> String {
    let params: Vec<String> = verb.args.iter().map(param).collect();
    let errors: Vec<String> = own_errors()
        .map(|(code, _)| format!("{{\"$ref\":\"#/components/errors/{}\"}}", -code))
        .collect();
    let (name, schema) = result(verb.shape);
    format!(
        "{{\"name\":{},\"summary\":{},\"description\":{},\"paramStructure\":\"either\",\
         \"params\":[{}],\"result\":{{\"name\":{},\"schema\":{schema}}},\"errors\":[{}],\
         \"x-right\":{},\"x-words\":{}}}",
        quoted(verb.method),
        quoted(verb.summary),
        quoted(verb.help),
        params.join(","),
        quoted(name),
        errors.join(","),
        quoted(verb.access.word()),
        quoted(verb.words)
    )
}

fn param(arg: &Arg) -> String {
    let schema = match arg.kind {
        Kind::Service | Kind::NewService | Kind::Probe | Kind::Path | Kind::Text => {
            "{\"type\":\"string\"}".to_owned()
        }
        Kind::Definition => "{\"type\":[\"object\",\"string\"]}".to_owned(),
        Kind::Signal => "{\"type\":[\"string\",\"integer\"]}".to_owned(),
        Kind::Count => "{\"type\":\"integer\",\"minimum\":0}".to_owned(),
        Kind::Duration => "{\"type\":[\"integer\",\"string\"]}".to_owned(),
        Kind::Flag => "{\"type\":\"boolean\"}".to_owned(),
        Kind::Services => "{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":\
                           {\"type\":\"string\"}}]}"
            .to_owned(),
        Kind::Texts => "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}".to_owned(),
        Kind::OneOf(known) => {
            let known: Vec<String> = known.iter().map(|word| quoted(word)).collect();
            let known = known.join(",");
            format!("{{\"type\":\"array\",\"items\":{{\"enum\":[{known}]}}}}")
        }
    };
    format!(
        "{{\"name\":{},\"description\":{},\"required\":{},\"schema\":{schema}}}",
        quoted(arg.name),
        quoted(arg.doc),
        arg.required
    )
}

/// A result's name and schema.
fn result(shape: Shape) -> (&'static str, String) {
    let of = reference;
    let list = |name: &str| format!("{{\"type\":\"array\",\"items\":{}}}", of(name));
    match shape {
        Shape::List => ("services", list("Status")),
        Shape::Status => {
            let either = [of("Status"), of("Overview"), of("Tree")].join(",");
            ("status", format!("{{\"oneOf\":[{either}]}}"))
        }
        Shape::Daemon => ("daemon", of("DaemonStatus")),
        Shape::Why => ("why", of("Why")),
        Shape::Story => ("story", list("StoryLine")),
        Shape::Done => ("done", of("Done")),
        Shape::Logs => ("logs", of("LogLines")),
        Shape::Events => {
            let schema = "{\"type\":\"object\",\"properties\":{\"subscribed\":{\"const\":true}}}";
            ("subscribed", schema.to_owned())
        }
        Shape::Pong => ("pong", of("Pong")),
        Shape::Forecast => ("forecast", of("Forecast")),
        Shape::Dossiers => ("dossiers", of("Dossiers")),
        Shape::Dossier => ("dossier", of("Dossier")),
        Shape::Graph => ("graph", of("Drawing")),
        Shape::Blame => ("blame", of("Blame")),
        Shape::Discover => ("document", "{\"type\":\"object\"}".to_owned()),
    }
}

/// One type of results: its name, a sample with something in every field, and one with nothing.
struct Sample {
    name: &'static str,
    full: Value,
    empty: Value,
}

fn sample<T: Serialize + Default>(name: &'static str, full: &T) -> Sample {
    Sample {
        name,
        full: serde_json::to_value(full).unwrap_or_default(),
        empty: serde_json::to_value(T::default()).unwrap_or_default(),
    }
}

/// Parts before what they are part of.
fn samples() -> Vec<Sample> {
    let text = || Some(String::new());
    let probe = ProbeStatus {
        up: Some(true),
        outcome: text(),
        reason: text(),
        latency_us: Some(0),
        output: text(),
        ..ProbeStatus::default()
    };
    let dossier = DossierStatus::default();
    let link = ChainLink {
        health: text(),
        stuck_on: text(),
        dossier: text(),
        ..ChainLink::default()
    };
    let last_end = LastEnd {
        code: Some(0),
        signal: text(),
        ..LastEnd::default()
    };
    let gate = GateStatus {
        next_in_ms: Some(0),
        ..GateStatus::default()
    };
    let watchdog = WatchdogStatus {
        due_in_ms: Some(0),
        reason: text(),
        ..WatchdogStatus::default()
    };
    let schedule = ScheduleStatus {
        due: text(),
        due_in_ms: Some(0),
        ..ScheduleStatus::default()
    };
    let usage = Usage {
        memory_bytes: Some(0),
        cpu_ms: Some(0),
        ..Usage::default()
    };
    let log = LogStatus {
        logger: text(),
        logger_pid: Some(0),
        ..LogStatus::default()
    };
    let status = Status {
        usage: Some(usage.clone()),
        status_text: text(),
        says: text(),
        watchdog: Some(watchdog.clone()),
        description: text(),
        wanted_by: text(),
        phase: text(),
        at_boot: text(),
        wanted_at: text(),
        health: text(),
        detail: text(),
        pid: Some(0),
        max_attempts: Some(0),
        uptime_ms: Some(0),
        ready_after_ms: Some(0),
        last_end: Some(last_end.clone()),
        dossier: Some(dossier.clone()),
        probes: vec![probe.clone()],
        sockets: vec![SocketStatus::default()],
        schedule: Some(schedule.clone()),
        gate: Some(gate.clone()),
        next: text(),
        next_in_ms: Some(0),
        log: Some(log.clone()),
        definition: text(),
        problem: text(),
        ..Status::default()
    };
    let story = StoryLine {
        cured: Some(true),
        ..StoryLine::default()
    };
    let hold = HoldStatus {
        ends_in_ms: Some(0),
        why: text(),
        ..HoldStatus::default()
    };
    let storm = StormStatus {
        since: text(),
        canary: text(),
        next: text(),
        held: text(),
        ..StormStatus::default()
    };
    let reload = ReloadStatus {
        goes_back_in_ms: Some(0),
        went_back_at: text(),
        why: text(),
        ..ReloadStatus::default()
    };
    let doubt = DoubtStatus {
        counts: vec![DoubtCount::default()],
        ..DoubtStatus::default()
    };
    let daemon = DaemonStatus {
        doubt: Some(doubt.clone()),
        hold: Some(hold.clone()),
        storm: Some(storm.clone()),
        cgroups: text(),
        reload: Some(reload.clone()),
        settings_problem: text(),
        settings_waiting: vec![String::new()],
        ..DaemonStatus::default()
    };
    let answer = ProbeAnswer {
        reason: text(),
        ..ProbeAnswer::default()
    };
    let change = KeyChange {
        from: text(),
        to: text(),
        ..KeyChange::default()
    };
    let step = Step {
        changes: vec![change.clone()],
        problem: text(),
        ..Step::default()
    };
    let settings = SettingsPlan {
        live: vec![String::new()],
        at_start: vec![String::new()],
        problem: text(),
    };
    let plan = Plan {
        steps: vec![step.clone()],
        settings: Some(settings.clone()),
        ..Plan::default()
    };
    let done = Done {
        note: String::new(),
        durable: Some(true),
        durable_error: text(),
        probes: Some(vec![answer.clone()]),
        plan: Some(plan.clone()),
    };
    let why = Why {
        status: status.clone(),
        chain: vec![link.clone()],
        story: vec![story.clone()],
        next: vec![String::new()],
        last_words: vec![String::new()],
    };
    let overview = Overview {
        daemon: daemon.clone(),
        services: vec![status.clone()],
    };
    let entry = LogEntry {
        time: Some(String::new()),
        stream: Some(String::new()),
        ..LogEntry::default()
    };
    let logs = LogLines {
        service: String::new(),
        lines: vec![String::new()],
        entries: vec![entry.clone()],
    };
    let mut all = vec![
        sample("LastEnd", &last_end),
        sample("DossierStatus", &dossier),
        sample("ChainLink", &link),
        sample("ProbeStatus", &probe),
        sample("WatchdogStatus", &watchdog),
        sample("ScheduleStatus", &schedule),
        sample("SocketStatus", &SocketStatus::default()),
        sample("GateStatus", &gate),
        sample("Usage", &usage),
        sample("LogStatus", &log),
        sample("Status", &status),
        sample("StoryLine", &story),
        sample("Why", &why),
        sample("HoldStatus", &hold),
        sample("StormStatus", &storm),
        sample("ReloadStatus", &reload),
        sample("DoubtCount", &DoubtCount::default()),
        sample("DoubtStatus", &doubt),
        sample("KeyChange", &change),
        sample("Step", &step),
        sample("SettingsPlan", &settings),
        sample("Plan", &plan),
        sample("DaemonStatus", &daemon),
        sample("Overview", &overview),
        sample("ProbeAnswer", &answer),
        sample("Done", &done),
        sample("LogEntry", &entry),
        sample("LogLines", &logs),
        sample("Pong", &Pong::default()),
    ];
    all.extend(ties());
    all.extend(forecasts(&story));
    all.extend(dossiers(&probe));
    all
}

/// How services are tied, and how they started.
fn ties() -> Vec<Sample> {
    let text = || Some(String::new());
    let started = Started {
        ready_ms: Some(0),
        ..Started::default()
    };
    let tied = Tied {
        health: text(),
        waits_for: text(),
        ties: vec![Tie::default()],
        started: Some(started.clone()),
        ..Tied::default()
    };
    let branch = Branch {
        key: text(),
        health: text(),
        waits_for: text(),
        ..Branch::default()
    };
    let took = Took {
        ready_ms: Some(0),
        took_ms: Some(0),
        ..Took::default()
    };
    let blame = Blame {
        since: text(),
        services: vec![took.clone()],
        path: vec![String::new()],
    };
    let tree = Tree {
        tree: vec![branch.clone()],
    };
    let drawing = Drawing {
        services: vec![tied.clone()],
    };
    vec![
        sample("Tie", &Tie::default()),
        sample("Started", &started),
        sample("Tied", &tied),
        sample("Drawing", &drawing),
        sample("Branch", &branch),
        sample("Tree", &tree),
        sample("Took", &took),
        sample("Blame", &blame),
    ]
}

/// The parts of a dossier, and the list of them.
fn dossiers(probe: &ProbeStatus) -> Vec<Sample> {
    let text = || Some(String::new());
    let head = Head::default();
    let thread = ThreadSeen {
        cpu_percent: Some(0),
        starved_percent: Some(0),
        wchan: text(),
        syscall: text(),
        stack: vec![String::new()],
        ..ThreadSeen::default()
    };
    let descriptors = DescriptorsSeen {
        limit: Some(0),
        ..DescriptorsSeen::default()
    };
    let process = ProcessSeen {
        cpu_percent: Some(0),
        rss_kb: Some(0),
        swap_kb: Some(0),
        threads: vec![thread.clone()],
        descriptors: Some(descriptors.clone()),
        limits: vec![String::new()],
        ..ProcessSeen::default()
    };
    let socket = SocketSeen {
        receive_queue: Some(0),
        send_queue: Some(0),
        receive_queue_then: Some(0),
        connections: Some(0),
        path: text(),
        ..SocketSeen::default()
    };
    let file_system = FileSystemSeen {
        free_inodes: Some(0),
        ..FileSystemSeen::default()
    };
    let pressure = PressureSeen::default();
    let evidence = Evidence {
        processes: vec![process.clone()],
        sockets: vec![socket.clone()],
        file_systems: vec![file_system.clone()],
        pressure: vec![pressure.clone()],
        unseen: vec![String::new()],
        ..Evidence::default()
    };
    let dossier = Dossier {
        uptime_ms: Some(0),
        cut: text(),
        probes: vec![probe.clone()],
        evidence: evidence.clone(),
        diagnose: text(),
        told: vec![String::new()],
        log: vec![String::new()],
        ..Dossier::default()
    };
    let list = Dossiers {
        dossiers: vec![head.clone()],
    };
    vec![
        sample("Head", &head),
        sample("Dossiers", &list),
        sample("ThreadSeen", &thread),
        sample("DescriptorsSeen", &descriptors),
        sample("ProcessSeen", &process),
        sample("SocketSeen", &socket),
        sample("FileSystemSeen", &file_system),
        sample("PressureSeen", &pressure),
        sample("Evidence", &evidence),
        sample("Dossier", &dossier),
    ]
}

/// The parts of a simulation's answer, and the whole.
fn forecasts(story: &StoryLine) -> Vec<Sample> {
    let text = || Some(String::new());
    let moment = Moment {
        event: Some(story.clone()),
        ..Moment::default()
    };
    let summary = Summary {
        max_attempts: Some(0),
        spent_ms: Some(0),
        last_refund_ms: Some(0),
        gave_up_ms: Some(0),
        gave_up_reason: text(),
        first_answer_ms: Some(0),
        up_ppm: Some(0),
        health: text(),
        ..Summary::default()
    };
    let actual = Actual {
        gave_up_ms: Some(0),
        ..Actual::default()
    };
    let lanes = Lanes {
        down: vec![Stretch::default()],
        states: vec![StateAt::default()],
        attempts: vec![AttemptsAt::default()],
        decisions: vec![DecisionAt::default()],
        thinned: false,
    };
    let forecast = Forecast {
        set: vec![String::new()],
        scenario: vec![String::new()],
        origin: text(),
        cut: text(),
        assumed: vec![String::new()],
        summary: summary.clone(),
        actual: Some(actual.clone()),
        timeline: vec![moment.clone()],
        lanes: lanes.clone(),
        report: vec![String::new()],
        ..Forecast::default()
    };
    vec![
        sample("Moment", &moment),
        sample("Restarts", &Restarts::default()),
        sample("Down", &Down::default()),
        sample("Summary", &summary),
        sample("Actual", &actual),
        sample("Stretch", &Stretch::default()),
        sample("StateAt", &StateAt::default()),
        sample("AttemptsAt", &AttemptsAt::default()),
        sample("DecisionAt", &DecisionAt::default()),
        sample("Lanes", &lanes),
        sample("Forecast", &forecast),
    ]
}

fn schemas() -> Vec<(&'static str, String)> {
    let samples = samples();
    let one = |n: usize| (samples[n].name, object(&samples[n], &samples[..n]));
    (0..samples.len()).map(one).collect()
}

fn object(sample: &Sample, known: &[Sample]) -> String {
    let mut members = Vec::new();
    for (name, value) in sample.full.as_object().into_iter().flatten() {
        // What is not there when empty may be missing, what is null may be null.
        let nullable = sample.empty.get(name).is_none_or(Value::is_null);
        members.push(format!(
            "{}:{}",
            quoted(name),
            schema(value, nullable, known)
        ));
    }
    format!(
        "{{\"type\":\"object\",\"properties\":{{{}}}}}",
        members.join(",")
    )
}

/// What kind of value a sample is. Numbers of ours are whole.
fn schema(sample: &Value, nullable: bool, known: &[Sample]) -> String {
    let word = match sample {
        Value::Null => return "{}".to_owned(),
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(items) => {
            let item = items.first().unwrap_or(&Value::Null);
            let item = schema(item, false, known);
            return format!("{{\"type\":\"array\",\"items\":{item}}}");
        }
        Value::Object(_) => {
            let part = known.iter().find(|part| part.full == *sample);
            let of = reference(part.map_or("", |part| part.name));
            return if nullable {
                format!("{{\"oneOf\":[{of},{{\"type\":\"null\"}}]}}")
            } else {
                of
            };
        }
    };
    if nullable {
        format!("{{\"type\":[\"{word}\",\"null\"]}}")
    } else {
        format!("{{\"type\":\"{word}\"}}")
    }
}

fn reference(name: &str) -> String {
    format!("{{\"$ref\":\"#/components/schemas/{name}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json_and_holds_every_method_with_its_params() {
        let mut out = Vec::new();
        put_document(&mut out);
        let document: Value = serde_json::from_slice(&out).unwrap();
        let methods = document["methods"].as_array().unwrap();
        assert_eq!(methods.len(), VERBS.len());
        for (verb, method) in VERBS.iter().zip(methods) {
            assert_eq!(method["name"], verb.method);
            let params = method["params"].as_array().unwrap();
            let names: Vec<&str> = params.iter().map(|p| p["name"].as_str().unwrap()).collect();
            assert_eq!(
                names,
                verb.args.iter().map(|arg| arg.name).collect::<Vec<_>>()
            );
        }
        let schemas = &document["components"]["schemas"];
        let text = String::from_utf8(out.clone()).unwrap();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas[name].is_object(), "{name}");
        }
        // No field of a status is left without a type.
        let fields = schemas["Status"]["properties"].as_object().unwrap();
        for (name, field) in fields {
            assert!(
                field.as_object().is_some_and(|f| !f.is_empty()),
                "{name}: {field}"
            );
        }
        assert_eq!(fields["name"]["type"], "string");
        assert_eq!(
            fields["pid"]["type"],
            serde_json::json!(["integer", "null"])
        );
        assert_eq!(
            fields["probes"]["items"]["$ref"],
            "#/components/schemas/ProbeStatus"
        );
    }
}
