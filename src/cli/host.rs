//! What definitions ask of this host, as far as `check` can see it: programs, users, directories.
//!
//! Warnings only: a package that is not installed yet, or a file made for another host, is no
//! error of the definition's. The daemon asks anew at every start.

use crate::config::problem::Problem;
use crate::config::{Ask, Definition, Escalation, Listen, OnExhausted, Rung};
use crate::reactor::identity::Accounts;
use crate::reactor::spawn::DEFAULT_PATH;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is missing here for this definition; `file` is where it stands.
pub fn missing(file: &str, definition: &Definition) -> Vec<Problem> {
    let process = &definition.process;
    let mut words = Vec::new();
    let (user, group) = (process.user.as_deref(), process.group.as_deref());
    if let Err(error) = Accounts::default().resolve(user, group, process.groups.as_deref()) {
        words.push(error.to_string());
    }
    let dir = process.working_dir.as_deref();
    if let Some(dir) = dir.filter(|dir| !Path::new(dir).is_dir()) {
        words.push(format!("`working_dir` {dir} is no directory"));
    }
    if let Some(file) = process.env_file.as_deref()
        && !file.starts_with('-')
        && !Path::new(file).exists()
    {
        words.push(format!("`env_file` {file} does not exist"));
    }
    let policy = &definition.retry_policy;
    let init = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let elsewhere = !matches!(init.trim_end(), "vitald" | "init");
    let only = "is for hosts whose first process is vitald; on this one";
    if policy.on_exhausted == OnExhausted::Reboot && elsewhere {
        words.push(format!(
            "on_exhausted = \"reboot\" {only} it is like \"keep\""
        ));
    }
    let rungs = policy.rungs();
    let reboots = |rung: &Rung| rung.action == Escalation::Reboot;
    if elsewhere && rungs.iter().any(reboots) {
        words.push(format!(
            "the rung \"reboot\" in `escalate` {only} it is passed over: a restart, as by the rung below"
        ));
    }
    let path = match process.env.get("PATH") {
        Some(path) => path,
        None => DEFAULT_PATH,
    };
    let here = dir.unwrap_or("/");
    words.extend(not_executable(&definition.exec, path, here).map(|why| format!("`exec`: {why}")));
    for probe in &definition.probes {
        if let Ask::Exec { argv } = &probe.ask {
            let why = not_executable(argv, path, here);
            words.extend(why.map(|why| format!("probe {}: {why}", probe.name)));
        }
    }
    for rung in rungs {
        if let Some((argv, _)) = rung.action.repair() {
            let why = not_executable(argv, path, here);
            words.extend(why.map(|why| format!("the rung after {}: {why}", rung.after)));
        }
    }
    for socket in definition.sockets() {
        let (user, group) = (socket.user.as_deref(), socket.group.as_deref());
        if let Err(error) = Accounts::default().resolve(user, group, None) {
            words.push(format!("socket {}: {error}", socket.listen));
        }
        let address = socket.address();
        let path = address.as_ref().and_then(Listen::path).map(Path::new);
        if let Some(dir) = path.and_then(Path::parent).filter(|dir| !dir.is_dir()) {
            let listen = &socket.listen;
            words.push(format!(
                "socket {listen}: {} is no directory",
                dir.display()
            ));
        }
    }
    words
        .into_iter()
        .map(|words| Problem::warning_of_file(file, words))
        .collect()
}

/// Why a command cannot be executed on this host; None when it can.
fn not_executable(argv: &[Box<str>], path: &str, here: &str) -> Option<String> {
    let program = argv.first()?;
    if program.contains('/') {
        // A relative path is the working directory's.
        let file = Path::new(here).join(&**program);
        let words = match file.exists() {
            true => "cannot be executed: it is no program file (chmod +x)",
            false => "does not exist",
        };
        return (!is_program(&file)).then(|| format!("{program} {words}"));
    }
    let found = path
        .split(':')
        .any(|dir| is_program(&Path::new(here).join(dir).join(&**program)));
    (!found).then(|| format!("no {program} in {path}"))
}

fn is_program(file: &Path) -> bool {
    let kind = std::fs::metadata(file);
    kind.is_ok_and(|kind| kind.is_file() && kind.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn said(text: &str) -> Vec<String> {
        let definition = load::read("web", "web.toml", text.as_bytes()).definition;
        let missing = missing("web.toml", &definition.expect("a definition"));
        assert!(missing.iter().all(|problem| !problem.is_error()));
        missing.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn what_this_host_lacks_is_a_warning() {
        assert_eq!(said("exec = 'sh -c true'\nuser = 'root'"), [""; 0]);
        assert_eq!(said("exec = 'bin/sh'\nworking_dir = '/'"), [""; 0]);
        assert_eq!(
            said("exec = '/no/such --x'\nuser = 'no-such-user'\nworking_dir = '/no/dir'"),
            [
                "web.toml: warning: user no-such-user: not in /etc/passwd; add it there or write \
                 its number",
                "web.toml: warning: `working_dir` /no/dir is no directory",
                "web.toml: warning: `exec`: /no/such does not exist",
            ]
        );
        assert_eq!(
            said("exec = 'sh'\nenv = { PATH = '/no:/x' }\nenv_file = '/no/env'"),
            [
                "web.toml: warning: `env_file` /no/env does not exist",
                "web.toml: warning: `exec`: no sh in /no:/x",
            ]
        );
        assert_eq!(
            said("exec = 'sh'\n[[socket]]\nlisten = 'unix:/no/a'\nuser = 'no-such-user'"),
            [
                "web.toml: warning: socket unix:/no/a: user no-such-user: not in /etc/passwd; add \
                 it there or write its number",
                "web.toml: warning: socket unix:/no/a: /no is no directory",
            ]
        );
        assert_eq!(
            said(
                "exec = 'sh'\n[retry_policy]\nescalate = [\n\
                 { after_uncured = 1, action = 'exec', exec = 'true' },\n\
                 { after_uncured = 2, action = 'exec', exec = '/no/such -f' },\n]"
            ),
            ["web.toml: warning: the rung after 2: /no/such does not exist"]
        );
        assert_eq!(
            said("exec = '/etc/passwd'\n[[probe]]\ntype = 'exec'\ntarget = '/no/probe'"),
            [
                "web.toml: warning: `exec`: /etc/passwd cannot be executed: it is no program \
                 file (chmod +x)",
                "web.toml: warning: probe exec: /no/probe does not exist",
            ]
        );
    }
}
