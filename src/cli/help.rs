//! `vitald help`: loops over the tables of verbs, options and exit codes.

use super::exits::EXITS;
use super::local::{self, GLOBAL, LOCALS, Local};
use crate::control::verbs::VERBS;
use crate::control::words::{self, folded};

const WIDTH: usize = 78;

/// Without a verb: what there is, in a few lines.
pub fn short() -> String {
    let locals = LOCALS.iter().map(|local| local.words);
    let verbs = VERBS.iter().map(|verb| verb.words);
    let all: Vec<&str> = locals.chain(verbs).collect();
    let mut out = "usage: vitald VERB [ARGUMENTS]\n".to_owned();
    for line in folded(&format!("verbs: {}", all.join(", ")), WIDTH) {
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str("`vitald help` says what they do, `vitald help VERB` more about one\n");
    out
}

/// All verbs, or one of them in full.
pub fn about(words: &[String]) -> Result<String, String> {
    let Some(first) = words.first() else {
        return Ok(all());
    };
    if let Some(local) = local::find(first) {
        return Ok(of_local(local));
    }
    match words::find(words) {
        Some((verb, _)) => Ok(words::help_of(verb)),
        None => {
            let locals: Vec<&str> = LOCALS.iter().map(|local| local.words).collect();
            Err(words::unknown_verb(first, &locals))
        }
    }
}

fn of_local(local: &Local) -> String {
    let mut out = format!("{}\n  {}\n", local::usage(local), local.summary);
    for opt in local.options {
        entry(&local::option(opt), opt.doc, &mut out);
    }
    for line in folded(local.help, WIDTH - 2) {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

fn all() -> String {
    let mut out =
        String::from("vitald: keeps services alive and well\n\nusage: vitald VERB [ARGUMENTS]\n\n");
    out.push_str("by itself\n");
    for local in LOCALS {
        entry(&local::usage(local), local.summary, &mut out);
    }
    out.push_str("\nasking the daemon\n");
    for verb in VERBS {
        entry(&words::usage(verb), verb.summary, &mut out);
    }
    out.push_str("\noptions\n");
    for opt in GLOBAL {
        entry(&local::option(opt), opt.doc, &mut out);
    }
    out.push_str("\nexit codes\n");
    for (exit, meaning) in EXITS {
        entry(&exit.code().to_string(), meaning, &mut out);
    }
    out
}

/// A term and its explanation, side by side or below.
fn entry(term: &str, text: &str, out: &mut String) {
    const TERM: usize = 30;
    let mut lines = folded(text, WIDTH - TERM - 4).into_iter();
    if term.chars().count() <= TERM {
        let first = lines.next().unwrap_or_default();
        out.push_str(format!("  {term:<TERM$}  {first}").trim_end());
    } else {
        out.push_str(&format!("  {term}"));
    }
    out.push('\n');
    for line in lines {
        out.push_str(&format!("  {:<TERM$}  {line}\n", ""));
    }
}
