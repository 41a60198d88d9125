//! Names of services and probes, and which files are definitions.

use crate::config::hints::shorten;
use crate::limits::MAX_NAME;

/// Whether `name` can name a service or a probe; if not, why.
///
/// Names stand in paths, on command lines and in `VITALD_RUN=name/number`: no slash, no blank,
/// and a first character that makes it neither an option nor a hidden file.
pub fn check(name: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
    if name.is_empty() {
        Err("a name is empty: write letters, digits, `.`, `_`, `@`, `-`".to_owned())
    } else if name.len() > MAX_NAME {
        Err(format!(
            "the name `{}` has {} characters: at most {MAX_NAME} are taken",
            shorten(name),
            name.len()
        ))
    } else if let Some(odd) = name.chars().find(|c| !known(*c)) {
        Err(format!(
            "the name `{}` has `{}`: write letters, digits, `.`, `_`, `@`, `-`",
            shorten(name),
            odd.escape_debug()
        ))
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        Err(format!(
            "the name `{}` must begin with a letter, a digit or `_`",
            shorten(name)
        ))
    } else {
        Ok(())
    }
}

/// Whether this names a template, not a service: `worker@`.
pub fn is_template(name: &str) -> bool {
    name.ends_with('@')
}

/// Template and instance: `worker@1` is of `worker@`, the instance `1`.
pub fn instance_of(name: &str) -> Option<(&str, &str)> {
    let (template, instance) = name.split_at(name.find('@')? + 1);
    (!instance.is_empty()).then_some((template, instance))
}

/// What a file in the directory of definitions is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind<'a> {
    /// Holds the definition of the service with this name; not yet checked.
    Service(&'a str),
    /// Hidden, or what an editor or a package manager left behind: skipped in silence.
    Skipped,
    /// Something else: worth a warning, for somebody may expect it to work.
    Other,
}

/// By the name of a file, without its directory.
pub fn of_file(file_name: &str) -> FileKind<'_> {
    if file_name.starts_with('.')
        || file_name.starts_with('#')
        || [".bak", ".orig", ".rej", ".swp", ".tmp", "~"]
            .iter()
            .any(|end| file_name.ends_with(end))
        || [".dpkg-", ".rpm", ".apk-new"]
            .iter()
            .any(|part| file_name.contains(part))
    {
        return FileKind::Skipped;
    }
    match file_name.rsplit_once('.') {
        Some((stem, "toml" | "json")) => FileKind::Service(stem),
        _ => FileKind::Other,
    }
}

/// How the source of a definition that was given over the control socket begins.
const GIVEN: &str = "set/";

/// What such a definition is called in messages: `set/web.toml`, or `.json` when it is an object.
pub fn given_source(name: &str, text: &str) -> String {
    let syntax = match text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('{')
    {
        true => "json",
        false => "toml",
    };
    format!("{GIVEN}{name}.{syntax}")
}

pub fn is_given(source: &str) -> bool {
    source.starts_with(GIVEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "web",
            "a",
            "_x",
            "worker@1",
            "a.b-c_d",
            "9",
            &"x".repeat(64),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "..",
            "@a",
            "a/b",
            "a b",
            "ü",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_given_is_named_by_its_syntax() {
        assert_eq!(given_source("web", "exec = 'x'"), "set/web.toml");
        assert_eq!(
            given_source("web", "\u{feff} {\"exec\": []}"),
            "set/web.json"
        );
        assert!(is_given("set/web.toml") && !is_given("services/set/web.toml"));
    }

    #[test]
    fn instances() {
        assert_eq!(instance_of("worker@1"), Some(("worker@", "1")));
        assert_eq!(instance_of("a@b@c"), Some(("a@", "b@c")));
        assert_eq!(instance_of("worker@"), None);
        assert_eq!(instance_of("worker"), None);
        assert!(is_template("worker@") && !is_template("worker@1"));
    }

    #[test]
    fn files() {
        assert_eq!(of_file("web.toml"), FileKind::Service("web"));
        assert_eq!(of_file("a.b.json"), FileKind::Service("a.b"));
        for left in [
            ".web.toml.swp",
            "web.toml~",
            "web.toml.dpkg-dist",
            "#web.toml#",
            ".git",
        ] {
            assert_eq!(of_file(left), FileKind::Skipped, "{left}");
        }
        assert_eq!(of_file("README"), FileKind::Other);
        assert_eq!(of_file("web.yaml"), FileKind::Other);
    }
}
