//! The command line: `vitald run` is the daemon, every other verb asks one or works alone.
//!
//! It speaks JSON-RPC over the control socket and draws the answers with the daemon's own
//! [`render`](crate::control::render). Arguments of verbs are read by the parser of the words
//! tongue, so what is typed here and what is typed into `nc -U` is one language.
//!
//! Invariants: nothing is said on stdout but what was asked for; every exit code is one of
//! [`exits::EXITS`].

mod again;
mod arguments;
mod check;
mod client;
mod completions;
mod dangers;
mod demo;
mod dirs;
mod due;
mod exits;
mod help;
mod host;
mod local;
mod man;
mod measured;
mod plot;
mod remote;
mod replay;
mod simulate;
mod terminal;
#[cfg(test)]
mod tests;

pub use exits::Exit;

use crate::daemon::Options;
use arguments::{Command, Globals};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Reads the arguments, does what they say, tells how it went.
pub fn main() -> ExitCode {
    let code = obey();
    crate::daemon::never_ends();
    code
}

fn obey() -> ExitCode {
    let arguments = by_name(std::env::args_os().collect(), std::process::id() == 1);
    let env = |name: &str| std::env::var_os(name);
    match arguments::read(&arguments) {
        Ok((globals, command)) => perform(&globals, command, &env),
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            Exit::Usage.into()
        }
    }
}

/// What the arguments mean: who is called as an init or as its tools is told so by its name. What
/// a kernel passes on of its own command line is nothing to us.
fn by_name(mut arguments: Vec<OsString>, first: bool) -> Vec<OsString> {
    let name = arguments.first().map(std::path::Path::new);
    let name = name
        .and_then(std::path::Path::file_name)
        .map(OsString::from);
    let rest = arguments.split_off(arguments.len().min(1));
    match name.as_ref().and_then(|name| name.to_str()) {
        Some("init") if first => vec!["run".into()],
        _ if first && rest.is_empty() => vec!["run".into()],
        Some(verb @ ("poweroff" | "reboot" | "halt")) => {
            std::iter::once(verb.into()).chain(rest).collect()
        }
        _ => rest,
    }
}

fn perform(
    globals: &Globals,
    command: Command,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> ExitCode {
    let told = match command {
        Command::Run(given) => return run(given, env, crate::daemon::run),
        Command::Rehearse(given) => return run(given, env, crate::daemon::rehearse),
        Command::Nothing => {
            eprint!("{}", help::short());
            return Exit::Usage.into();
        }
        Command::Ask(mut values) => {
            if let Err(complaint) = remote::read_definition(&mut values) {
                eprintln!("vitald: {complaint}");
                return Exit::Usage.into();
            }
            return remote::ask(globals, &values, env).into();
        }
        Command::Check(what) => return check::check(globals, &what, env).into(),
        Command::Replay(what) => return replay::run(globals, &what, env).into(),
        Command::Demo(serve) => return demo::demo(serve, env).into(),
        Command::Simulate(what) => return simulate::simulate(globals, &what, env).into(),
        Command::Help(about) => help::about(&about),
        Command::Version => Ok(format!("vitald {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions(shell) => completions::of(&shell),
        Command::Man => Ok(man::page()),
    };
    match told {
        Ok(text) => said(&text).into(),
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            Exit::Usage.into()
        }
    }
}

/// A daemon, or what is asked of one beforehand.
fn run(given: dirs::Given, env: dirs::Env<'_>, how: fn(&Options) -> ExitCode) -> ExitCode {
    match dirs::options(given, dirs::is_root(), env) {
        Ok(options) => how(&options),
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            Exit::Usage.into()
        }
    }
}

/// Writes to stdout. Who reads only the beginning (`head`) is no error.
fn said(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            eprintln!("vitald: cannot write to stdout: {}", client::cause(&error));
            Exit::Failed
        }
    }
}
