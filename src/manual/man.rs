//! The man page vitald.toml(5), in roff (man(7)).

use super::{CHAPTERS, EXAMPLE, INTRO, default, notes, takes};
use crate::control::words::folded;
use std::fmt::Write;

/// `contrib/man/vitald.toml.5`. Its date is that of its last revision: the same source gives the
/// same page.
pub fn vitald_toml() -> String {
    let mut out = String::from(
        ".\\\" Generated from src/config/keys.rs by tests/manual.rs\n\
         .TH VITALD.TOML 5 2026-11-24 vitald vitald\n\
         .SH NAME\nvitald.toml \\- definitions of services and settings of the supervisor vitald\n\
         .SH SYNOPSIS\n\
         .I /etc/vitald/vitald.toml\n.br\n\
         .I /etc/vitald/services/NAME.toml\n.br\n\
         .I /etc/vitald/services/NAME.json\n\
         .SH DESCRIPTION\n",
    );
    // Writing to a String cannot fail.
    for (n, paragraph) in INTRO.iter().enumerate() {
        let _ = writeln!(
            out,
            "{}{}",
            if n == 0 { "" } else { ".PP\n" },
            filled(paragraph)
        );
    }
    for chapter in CHAPTERS {
        let _ = write!(
            out,
            ".SH {}\n{}\n",
            chapter.title.to_uppercase(),
            filled(chapter.intro)
        );
        if !chapter.header.is_empty() {
            let _ = write!(out, ".PP\nIn TOML:\n.B {}\n", text(chapter.header));
        }
        for key in chapter.keys {
            let _ = writeln!(
                out,
                ".TP\n.BR {} \" (\" \"{}\" )\n{}",
                text(key.name),
                quoted(&takes(key)),
                filled(key.doc())
            );
            for note in notes(key) {
                let _ = writeln!(out, "{}", filled(&note));
            }
            let mark = match key.reload.mark() {
                "" => String::new(),
                word => format!(" ({word})"),
            };
            let _ = writeln!(out, "Default: {}.{mark}", text(&default(key)));
        }
    }
    let _ = write!(out, ".SH EXAMPLE\n.EX\n{}.EE\n", text(EXAMPLE));
    out.push_str(".SH SEE ALSO\n.BR vitald (1)\n");
    out
}

/// Text as roff shows it: backslashes, hyphens that are minus signs, and no line that begins
/// like a request. Code marks become nothing; a page shows keys in its own way.
fn text(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    for (at, part) in source.split('`').enumerate() {
        match at % 2 {
            0 => plain.extend(part.chars().filter(|c| *c != '*')),
            _ => plain.push_str(part), // what is code keeps its stars
        }
    }
    let escaped = plain.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<String> = escaped
        .split('\n')
        .map(|line| match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line.to_owned(),
        })
        .collect();
    lines.join("\n")
}

/// A paragraph in lines that an editor shows whole.
fn filled(source: &str) -> String {
    text(&folded(source, 76).join("\n"))
}

/// The same inside a quoted argument of a request.
fn quoted(source: &str) -> String {
    text(source).replace('"', "\\(dq")
}
