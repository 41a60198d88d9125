//! A verb of the daemon's, asked and shown.

use super::again::{self, Awaited};
use super::arguments::Globals;
use super::client::{Connection, Trouble, cause};
use super::dirs::{self, Env};
use super::exits::Exit;
use super::{said, terminal};
use crate::control::render::{self, Style, is_degraded};
use crate::control::reply::{self, Done, LogLines};
use crate::control::rpc::code;
use crate::control::values::{Values, quoted};
use crate::control::verbs::Shape;
use crate::engine::status::{Status, StoryLine};
use crate::limits::MAX_GIVEN_BYTES;
use crate::reactor::definitions;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// How long an answer is waited for that should come at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, prints, and says how it went.
pub fn ask(globals: &Globals, values: &Values, env: Env<'_>) -> Exit {
    let given = globals.socket.as_deref();
    let socket = dirs::socket(given, dirs::is_root(), env, Path::exists);
    let timeout = globals.timeout.or_else(|| patience(values));
    let style = terminal::style(env);
    let mut connection = match Connection::open(&socket, timeout) {
        Ok(connection) => connection,
        Err(trouble) => return tell(globals, values, trouble),
    };
    let verb = values.verb();
    let ends = verb.method == "system.shutdown" && values.flag("wait");
    let daemon = ends.then(|| connection.daemon()).flatten();
    let result = match connection.call(verb.method, &values.to_json()) {
        Ok(result) => result,
        Err(trouble) => return go_on(globals, values, &mut connection, trouble),
    };
    let text = if globals.json && verb.shape != Shape::Events {
        format!("{result}\n")
    } else {
        match reply::draw(verb.shape, &result, &style) {
            Ok(text) => text,
            Err(error) => {
                let words = format!("cannot read the daemon's answer: {error}");
                return tell(globals, values, Trouble::Other(words));
            }
        }
    };
    match said(&text) {
        Exit::Ok => {}
        failed => return failed,
    }
    if verb.shape == Shape::Events || values.flag("follow") {
        return stream(globals, values, &mut connection, &style);
    }
    if ends && let Err(trouble) = connection.ended(daemon) {
        return tell(globals, values, trouble);
    }
    verdict(values, &result)
}

/// There is no answer. If it is because the daemon was replaced, what was waited for is waited on.
fn go_on(
    globals: &Globals,
    values: &Values,
    connection: &mut Connection,
    trouble: Trouble,
) -> Exit {
    let Some(awaited) = Awaited::by(values) else {
        return tell(globals, values, trouble);
    };
    let (note, well) = match awaited.wait_on(connection, trouble) {
        Ok(seen) => seen,
        Err(trouble) => return tell(globals, values, trouble),
    };
    if !well {
        let code = code::IS_DOWN;
        let message = note;
        return tell(globals, values, Trouble::Refused { code, message });
    }
    said(&match globals.json {
        true => format!("{{\"note\":{}}}\n", quoted(&note)),
        false => format!("{note}\n"),
    })
}

/// A definition that is given as `@FILE` or `-` is read here, where the files are.
pub fn read_definition(values: &mut Values) -> Result<(), String> {
    let most = MAX_GIVEN_BYTES as u64 + 1;
    let (shown, bytes) = match values.text("definition") {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
            ("standard input", read.map(|_| bytes))
        }
        Some(word) => match word.strip_prefix('@') {
            Some(path) => (path, definitions::read_bounded(Path::new(path))),
            None => return Ok(()),
        },
        None => return Ok(()),
    };
    let bytes = bytes.map_err(|error| format!("cannot read {shown}: {}", cause(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    values.put_text("definition", &text)
}

/// None for what may take as long as it takes.
pub fn patience(values: &Values) -> Option<Duration> {
    let endless = values.flag("wait")
        || values.flag("follow")
        || values.verb().shape == Shape::Events
        || values.verb().method == "probe.run";
    (!endless).then_some(PATIENCE)
}

/// The exit code of an answer that is no error.
pub fn verdict(values: &Values, result: &str) -> Exit {
    match values.verb().shape {
        Shape::Status if values.text("name").is_some() && !values.flag("tree") => {
            let status: Status = serde_json::from_slice(result.as_bytes()).unwrap_or_default();
            match status.state.as_str() {
                "running" if is_degraded(&status) => Exit::Degraded,
                "running" => Exit::Ok,
                "exited" if status.kind == "oneshot" => Exit::Ok,
                _ => Exit::NotRunning,
            }
        }
        Shape::Done => {
            let done: Done = serde_json::from_slice(result.as_bytes()).unwrap_or_default();
            let probes = done.probes.unwrap_or_default();
            match probes.iter().all(|probe| probe.outcome == "pass") {
                true => Exit::Ok,
                false => Exit::Failed,
            }
        }
        _ => Exit::Ok,
    }
}

/// Shows what comes, until the daemon or the reader ends it.
fn stream(globals: &Globals, values: &Values, connection: &mut Connection, style: &Style) -> Exit {
    loop {
        let (method, params) = match connection.notification() {
            Ok(notification) => notification,
            Err(Trouble::Closed) => match stream_again(values, connection) {
                Ok(()) => continue,
                Err(trouble) => return tell(globals, values, trouble),
            },
            Err(trouble) => return tell(globals, values, trouble),
        };
        let text = match method.as_str() {
            _ if globals.json => format!("{params}\n"),
            "events.event" => {
                let line: StoryLine = serde_json::from_slice(params.as_bytes()).unwrap_or_default();
                render::event_line(&line, style) + "\n"
            }
            "logs.lines" => {
                let logs: LogLines = serde_json::from_slice(params.as_bytes()).unwrap_or_default();
                let mut text = String::new();
                render::log_lines(&logs.lines, style, &mut text);
                text
            }
            _ => continue,
        };
        if !write_out(&text) {
            return Exit::Ok;
        }
    }
}

/// The daemon went away in the middle: the stream goes on with the one that is there now.
fn stream_again(values: &Values, connection: &mut Connection) -> Result<(), Trouble> {
    let rest = again::rest_of_stream(values).ok_or(Trouble::Closed)?;
    *connection = connection.again()?;
    connection.call(values.verb().method, &rest)?;
    eprintln!(
        "vitald: the daemon was replaced and this is connected again; what came in between is not \
         shown"
    );
    Ok(())
}

/// False when nobody reads any more.
fn write_out(text: &str) -> bool {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Says what went wrong, and finds its exit code.
fn tell(globals: &Globals, values: &Values, trouble: Trouble) -> Exit {
    let (exit, code, words) = match trouble {
        Trouble::NoDaemon(words) => (Exit::NotRunning, code::INTERNAL, words),
        Trouble::Refused { code, message } => {
            let exit = match code {
                code::NOT_FOUND => Exit::Unknown,
                _ => Exit::Failed,
            };
            (exit, code, message)
        }
        // The daemon's end is what a shutdown waits for.
        Trouble::Closed if values.verb().method == "system.shutdown" => return Exit::Ok,
        Trouble::Closed => {
            let words = "the daemon closed the connection".to_owned();
            (Exit::Failed, code::INTERNAL, words)
        }
        Trouble::Other(words) => (Exit::Failed, code::INTERNAL, words),
    };
    if globals.json {
        let message = quoted(&words);
        said(&format!(
            "{{\"error\":{{\"code\":{code},\"message\":{message}}}}}\n"
        ));
    } else {
        eprint!("vitald: {}", render::clean_lines(&words));
    }
    exit
}
