//! The words tongue: a line split into words as a shell would, words matched with a verb.
//!
//! The command line's arguments go through the same [`find`] and [`Parse`], so that what is typed
//! there and what is typed into `nc` is one language.

use super::values::{Complaint, Values};
use super::verbs::{Arg, Form, Kind, VERBS, Verb};
use crate::config::hints::nearest;
use lexopt::{Arg as Given, Parser};

/// Splits a line into words: blanks separate; `'…'`, `"…"` and `\x` keep blanks together.
pub fn split(line: &str) -> Result<Vec<String>, Complaint> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(letter),
            (_, '\\') => match letters.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("the line ends after a backslash".to_owned()),
            },
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_ascii_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    match quote {
        Some(open) => Err(format!("no closing {open}")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// The verb that these words begin with, and how many of them are its name.
pub fn find(words: &[String]) -> Option<(&'static Verb, usize)> {
    let begins = |verb: &Verb| {
        let mut given = words.iter();
        verb.words
            .split(' ')
            .all(|part| given.next().is_some_and(|word| word == part))
    };
    VERBS
        .iter()
        .find(|verb| begins(verb))
        .map(|verb| (verb, verb.words.split(' ').count()))
}

/// Is this the first word of a verb of two?
pub fn is_half(word: &str) -> bool {
    let begins = |words: &str| {
        words
            .split_once(' ')
            .is_some_and(|(first, _)| first == word)
    };
    VERBS.iter().any(|verb| begins(verb.words))
}

/// What to say of a verb that does not exist.
pub fn unknown_verb(word: &str, others: &[&str]) -> Complaint {
    let known = VERBS.iter().map(|verb| verb.words);
    let shown: String = word.chars().filter(|c| !c.is_control()).take(64).collect();
    // `probe` alone is half of a verb.
    let half = format!("{shown} ");
    let whole = VERBS
        .iter()
        .map(|verb| verb.words)
        .find(|words| words.starts_with(&half));
    match whole.or_else(|| nearest(word, known.chain(others.iter().copied()))) {
        Some(near) => format!("unknown verb `{shown}`; did you mean `{near}`?"),
        None => format!("unknown verb `{shown}`; `help` lists them"),
    }
}

/// Matches the words after a verb's name with its arguments, one at a time.
pub struct Parse {
    values: Values,
    /// Values of options, or words in a list's place, after `--`.
    next: usize,
}

impl Parse {
    pub fn new(verb: &'static Verb) -> Parse {
        Parse {
            values: Values::none(verb),
            next: 0,
        }
    }

    /// Is the next word a path?
    pub fn wants_path(&self) -> bool {
        let next = self.values.verb().args.get(self.next);
        next.is_some_and(|arg| arg.kind == Kind::Path && arg.form == Form::Position)
    }

    /// Takes one argument that `parser` just gave out; an option's value is taken from it too.
    pub fn take(&mut self, given: Taken, parser: &mut Parser) -> Result<(), Complaint> {
        let verb = self.values.verb();
        match given {
            Taken::Word(word) => {
                let Some(arg) = verb
                    .args
                    .get(self.next)
                    .filter(|arg| arg.form == Form::Position)
                else {
                    let shown: String = word.chars().take(64).collect();
                    return Err(format!(
                        "{}: unexpected `{shown}`; usage: {}",
                        verb.words,
                        usage(verb)
                    ));
                };
                self.values.put_word(self.next, &word)?;
                if !arg.kind.is_list() {
                    self.next += 1;
                }
                Ok(())
            }
            Taken::Option(name) => {
                let at = verb.args.iter().position(|arg| is_named(arg, &name));
                let Some(at) = at else {
                    let dashed = if name.chars().count() == 1 { "-" } else { "--" };
                    return Err(format!(
                        "{}: unknown option `{dashed}{name}`; usage: {}",
                        verb.words,
                        usage(verb)
                    ));
                };
                if verb.args[at].kind == Kind::Flag {
                    self.values.put_flag(at);
                    return Ok(());
                }
                let value = parser.value().map_err(|_| {
                    let (shown, value) = (verb.args[at].shown(), verb.args[at].kind.placeholder());
                    format!("`{shown}` needs {value}; usage: {}", usage(verb))
                })?;
                let value = value.into_string().map_err(|_| not_utf8())?;
                self.values.put_word(at, &value)
            }
        }
    }

    pub fn finish(self) -> Result<Values, Complaint> {
        let verb = self.values.verb();
        self.values
            .complete()
            .map_err(|complaint| format!("{complaint}; usage: {}", usage(verb)))
    }
}

/// One argument, no longer borrowed from its parser.
pub enum Taken {
    Word(String),
    /// Without its dashes.
    Option(String),
}

impl Taken {
    pub fn next(parser: &mut Parser) -> Result<Option<Taken>, Complaint> {
        Ok(match parser.next().map_err(|error| error.to_string())? {
            None => None,
            Some(Given::Short(letter)) => Some(Taken::Option(letter.to_string())),
            Some(Given::Long(name)) => Some(Taken::Option(name.to_owned())),
            Some(Given::Value(word)) => {
                Some(Taken::Word(word.into_string().map_err(|_| not_utf8())?))
            }
        })
    }
}

fn not_utf8() -> Complaint {
    "an argument is not UTF-8".to_owned()
}

fn is_named(arg: &Arg, name: &str) -> bool {
    match arg.form {
        Form::Position => false,
        Form::Option { long, short } => {
            long == name || short.is_some_and(|short| name.len() == 1 && name.starts_with(short))
        }
    }
}

/// A line's words as a call.
pub fn parse(verb: &'static Verb, rest: &[String]) -> Result<Values, Complaint> {
    let mut parser = Parser::from_args(rest);
    let mut parse = Parse::new(verb);
    while let Some(given) = Taken::next(&mut parser)? {
        parse.take(given, &mut parser)?;
    }
    parse.finish()
}

/// More than these are not listed in a verb's usage.
const MANY_OPTIONS: usize = 5;

/// `start NAME [--with-requires] [--wait]`
pub fn usage(verb: &Verb) -> String {
    let mut out = verb.words.to_owned();
    let options = verb.args.iter().filter(|arg| arg.form != Form::Position);
    let many = options.count() > MANY_OPTIONS;
    for arg in verb.args {
        let value = arg.kind.placeholder();
        let shown = match arg.form {
            Form::Position => value.to_owned(),
            _ if many => continue,
            Form::Option { long, .. } if value.is_empty() => format!("--{long}"),
            Form::Option {
                short: Some(short), ..
            } => format!("-{short} {value}"),
            Form::Option { long, .. } => format!("--{long} {value}"),
        };
        out.push_str(&if arg.required {
            format!(" {shown}")
        } else {
            format!(" [{shown}]")
        });
    }
    if many {
        out.push_str(" [OPTION...]");
    }
    out
}

/// What `help` answers: all verbs, or one of them in full.
pub fn help(about: &[String]) -> Result<String, Complaint> {
    let Some(first) = about.first() else {
        let mut out = String::new();
        for verb in VERBS {
            out.push_str(&format!("{:<44} {}\n", usage(verb), verb.summary));
        }
        out.push_str(&format!(
            "{:<44} {}\n",
            "help [VERB]", "this, or more about one verb"
        ));
        return Ok(out);
    };
    match find(about) {
        Some((verb, _)) => Ok(help_of(verb)),
        None => Err(unknown_verb(first, &[])),
    }
}

/// One verb's usage, arguments and explanation.
pub fn help_of(verb: &Verb) -> String {
    let mut out = format!("{}\n  {}\n", usage(verb), verb.summary);
    for arg in verb.args {
        out.push_str(&format!("  {:<24} {}\n", argument(arg), arg.doc));
    }
    for line in folded(verb.help, 76) {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&format!(
        "  JSON-RPC: {}; right: {}\n",
        verb.method,
        verb.access.word()
    ));
    out
}

/// `NAME`, or `-n, --lines N`.
pub fn argument(arg: &Arg) -> String {
    let value = arg.kind.placeholder();
    match arg.form {
        Form::Position => value.to_owned(),
        Form::Option { long, short } => {
            let short = short.map_or(String::new(), |short| format!("-{short}, "));
            format!("{short}--{long} {value}").trim_end().to_owned()
        }
    }
}

/// Text in lines of at most `width` letters, broken at blanks.
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<String, String> {
        let words = split(line)?;
        let (verb, used) = find(&words).ok_or_else(|| unknown_verb(&words[0], &[]))?;
        let values = parse(verb, &words[used..])?;
        Ok(format!("{} {}", verb.method, values.to_json()))
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let line = r#"  a  "b c" 'd "e'\ f ""  g\'h  "#;
        assert_eq!(split(line).unwrap(), ["a", "b c", "d \"e f", "", "g'h"]);
        assert!(split("a 'b").unwrap_err().contains("no closing '"));
        assert!(split("a \\").is_err());
    }

    #[test]
    fn options_may_stand_anywhere_and_in_every_form() {
        let meant = r#"logs.tail {"name":["web"],"lines":50,"follow":true}"#;
        for line in [
            "logs web -n 50 -f",
            "logs -fn50 web",
            "logs --lines=50 --follow -- web",
            "logs -n=50 -f web",
        ] {
            assert_eq!(parsed(line).as_deref(), Ok(meant), "{line}");
        }
        assert_eq!(
            parsed("events web db -k state --kind health").unwrap(),
            r#"events.subscribe {"services":["web","db"],"kinds":["state","health"]}"#
        );
        assert_eq!(
            parsed("probe run web http").unwrap(),
            r#"probe.run {"name":"web","probe":"http"}"#
        );
        assert_eq!(
            parsed("hold --for 10m").unwrap(),
            r#"system.hold {"for_ms":600000}"#
        );
    }

    #[test]
    fn a_wrong_line_is_told_the_right_one() {
        let say = |line| parsed(line).unwrap_err();
        assert_eq!(
            say("statsu"),
            "unknown verb `statsu`; did you mean `status`?"
        );
        assert_eq!(
            say("frobnicate"),
            "unknown verb `frobnicate`; `help` lists them"
        );
        assert_eq!(
            say("probe web"),
            "unknown verb `probe`; did you mean `probe run`?"
        );
        assert_eq!(
            say("stop"),
            "stop needs `name`: the service; usage: stop NAME [--until-boot] [--wait]"
        );
        assert_eq!(
            say("stop a b"),
            "stop: unexpected `b`; usage: stop NAME [--until-boot] [--wait]"
        );
        assert_eq!(
            say("stop a --now"),
            "stop: unknown option `--now`; usage: stop NAME [--until-boot] [--wait]"
        );
        assert_eq!(
            say("logs a -n many"),
            "`--lines` must be a whole number, not `many`"
        );
        assert_eq!(
            say("logs a -n"),
            "`--lines` needs N; usage: logs [NAME...] [OPTION...]"
        );
        assert!(
            say("stop a --wait=yes").contains("unexpected"),
            "{}",
            say("stop a --wait=yes")
        );
    }

    #[test]
    fn help_holds_every_verb_and_its_arguments() {
        let all = help(&[]).unwrap();
        for verb in VERBS {
            assert!(all.contains(&usage(verb)) && all.contains(verb.summary));
            let words: Vec<String> = verb.words.split(' ').map(str::to_owned).collect();
            let one = help(&words).unwrap();
            assert!(one.contains(verb.method));
            assert!(verb.args.iter().all(|arg| one.contains(arg.doc)));
        }
        assert!(help(&["nope".to_owned()]).is_err());
    }
}
