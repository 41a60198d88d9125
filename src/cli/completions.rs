//! Completions for bash, zsh and fish: loops over the tables of verbs and options. Names of
//! services are asked of the running daemon.

use super::local::{self, GLOBAL, LOCALS};
use crate::control::verbs::{Arg, Form, Kind, VERBS, Verb};
use std::collections::BTreeMap;

/// Prints the second column of `vitald list`, asked of the daemon that the line names.
const NAMES: &str = "vitald \"${socket[@]}\" list 2>/dev/null | awk 'NR > 1 { print $2 }'";

const SIGNALS: &str = "HUP INT QUIT USR1 USR2 TERM KILL STOP CONT";

/// What may stand in one place of a line.
#[derive(Clone, PartialEq, Eq)]
enum Offer {
    /// Names of services.
    Names,
    Words(String),
    Files,
    Directories,
    Nothing,
}

/// A verb, and what may follow it.
struct Row {
    words: &'static str,
    summary: &'static str,
    options: Vec<Opt>,
    /// In the order of the words after the verb.
    places: Vec<Offer>,
    /// The last place takes any number of words.
    many: bool,
}

struct Opt {
    long: &'static str,
    short: Option<char>,
    /// None: it takes no value.
    value: Option<Offer>,
}

fn rows() -> Vec<Row> {
    let local = LOCALS.iter().map(|local| Row {
        words: local.words,
        summary: local.summary,
        options: local.options.iter().map(local_option).collect(),
        places: match local.words {
            "completions" => vec![Offer::Words("bash zsh fish".to_owned())],
            "check" | "replay" => vec![Offer::Files],
            "simulate" => vec![Offer::Files, Offer::Files],
            "help" => vec![Offer::Words(first_words())],
            _ => Vec::new(),
        },
        many: matches!(local.words, "check" | "replay"),
    });
    let remote = VERBS.iter().map(|verb| Row {
        words: verb.words,
        summary: verb.summary,
        options: verb.args.iter().filter_map(option).collect(),
        places: positions(verb).map(|arg| offer(arg.kind)).collect(),
        many: positions(verb).any(|arg| arg.kind.is_list()),
    });
    local.chain(remote).collect()
}

fn positions(verb: &Verb) -> impl Iterator<Item = &Arg> {
    let is_position = |arg: &&Arg| arg.form == Form::Position;
    verb.args.iter().filter(is_position)
}

fn offer(kind: Kind) -> Offer {
    match kind {
        Kind::Service | Kind::NewService | Kind::Services => Offer::Names,
        Kind::Signal => Offer::Words(SIGNALS.to_owned()),
        Kind::OneOf(known) => Offer::Words(known.join(" ")),
        Kind::Path => Offer::Files,
        Kind::Definition
        | Kind::Text
        | Kind::Texts
        | Kind::Probe
        | Kind::Count
        | Kind::Duration
        | Kind::Flag => Offer::Nothing,
    }
}

fn option(arg: &Arg) -> Option<Opt> {
    match arg.form {
        Form::Position => None,
        Form::Option { long, short } => Some(Opt {
            long,
            short,
            value: (arg.kind != Kind::Flag).then(|| offer(arg.kind)),
        }),
    }
}

fn local_option(opt: &local::Opt) -> Opt {
    Opt {
        long: opt.long,
        short: opt.short,
        value: match opt.value {
            "" => None,
            "DIR" => Some(Offer::Directories),
            "PATH" | "FROM" | "FILE" => Some(Offer::Files),
            _ => Some(Offer::Nothing),
        },
    }
}

/// The completions for a shell.
pub fn of(shell: &str) -> Result<String, String> {
    match shell {
        "bash" => Ok(bash()),
        "zsh" => Ok(zsh()),
        "fish" => Ok(fish()),
        _ => Err(format!(
            "no completions for `{shell}`; there are bash, zsh and fish"
        )),
    }
}

fn first_words() -> String {
    let all = LOCALS.iter().map(|local| local.words);
    let all = all.chain(VERBS.iter().map(|verb| verb.words));
    let mut words: Vec<&str> = all.filter_map(|words| words.split(' ').next()).collect();
    words.dedup();
    words.join(" ")
}

/// First words of verbs of two, each with the words that may follow.
fn halves() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut halves: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (first, second) in VERBS.iter().filter_map(|verb| verb.words.split_once(' ')) {
        halves.entry(first).or_default().push(second);
    }
    halves
}

/// How a shell offers things.
struct Shell {
    words: fn(&str) -> String,
    names: String,
    files: &'static str,
    directories: &'static str,
}

impl Shell {
    fn say(&self, offer: &Offer) -> String {
        match offer {
            Offer::Names => self.names.clone(),
            Offer::Words(words) => (self.words)(words),
            Offer::Files => self.files.to_owned(),
            Offer::Directories => self.directories.to_owned(),
            Offer::Nothing => ":".to_owned(),
        }
    }

    /// The part that bash and zsh have in common: reads the line up to the cursor, and offers
    /// the value of an option, or what may stand in this place after the verb.
    fn body(&self) -> String {
        let rows = rows();
        let globals: Vec<Opt> = GLOBAL.iter().map(local_option).collect();
        let mut values: Vec<(String, Offer)> = Vec::new();
        for opt in globals
            .iter()
            .chain(rows.iter().flat_map(|row| &row.options))
        {
            let Some(value) = &opt.value else { continue };
            let flags = opt.flags().join("|");
            if values.iter().all(|(known, _)| *known != flags) {
                values.push((flags, value.clone()));
            }
        }
        let takers: Vec<&str> = values.iter().map(|(flags, _)| flags.as_str()).collect();
        let halves = halves();
        let mut out = format!(
            "  for word in \"${{before[@]}}\"; do
    case $skip in
      --socket) socket=(--socket \"$word\") ;;
    esac
    if [ -n \"$skip\" ]; then skip=; continue; fi
    case $word in
      {}) skip=$word; continue ;;
      -*) continue ;;
    esac
    case $verb in
      '') verb=$word ;;
      {}) verb=\"$verb $word\" ;;
      *) place=$((place + 1)) ;;
    esac
  done
  case $skip in
",
            takers.join("|"),
            halves.keys().copied().collect::<Vec<_>>().join("|"),
        );
        for (flags, offer) in &values {
            out.push_str(&format!("    {flags}) {} ;;\n", self.say(offer)));
        }
        out.push_str("  esac\n  if [ -n \"$skip\" ]; then return; fi\n");
        out.push_str("  case $cur in\n    -*)\n");
        let offered = |options: &[Opt]| {
            let long: Vec<String> = options
                .iter()
                .map(|opt| format!("--{}", opt.long))
                .collect();
            (self.words)(&long.join(" "))
        };
        out.push_str(&format!(
            "      {}\n      case $verb in\n",
            offered(&globals)
        ));
        for row in rows.iter().filter(|row| !row.options.is_empty()) {
            let verb = row.words.replace(' ', "\\ ");
            out.push_str(&format!("        {verb}) {} ;;\n", offered(&row.options)));
        }
        out.push_str("      esac\n      return\n      ;;\n  esac\n  case $verb:$place in\n");
        for (first, seconds) in &halves {
            let words = (self.words)(&seconds.join(" "));
            out.push_str(&format!("    {first}:0) {words} ;;\n"));
        }
        for row in &rows {
            let verb = row.words.replace(' ', "\\ ");
            for (at, offer) in row.places.iter().enumerate() {
                let last = at + 1 == row.places.len();
                let place = match row.many && last {
                    true => "*".to_owned(),
                    false => at.to_string(),
                };
                if *offer != Offer::Nothing {
                    out.push_str(&format!("    {verb}:{place}) {} ;;\n", self.say(offer)));
                }
            }
        }
        out.push_str("  esac\n");
        out
    }
}

impl Opt {
    /// `--kind`, `-k`
    fn flags(&self) -> Vec<String> {
        let short = self.short.map(|short| format!("-{short}"));
        let mut flags = vec![format!("--{}", self.long)];
        flags.extend(short);
        flags
    }
}

fn bash() -> String {
    let shell = Shell {
        words: |words| format!("_vitald_words \"{words}\""),
        names: format!("_vitald_words \"$({NAMES})\""),
        files: "compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- \"$cur\"))",
        directories: "compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- \"$cur\"))",
    };
    let (verbs, body) = (first_words(), shell.body());
    format!(
        "# Generated by `vitald completions bash`; do not edit.
_vitald_words() {{
  COMPREPLY+=($(compgen -W \"$1\" -- \"$cur\"))
}}
_vitald() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} verb= place=0 skip= word
  local before=(\"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\") socket=()
  COMPREPLY=()
{body}  if [ -z \"$verb\" ]; then _vitald_words \"{verbs}\"; fi
}}
complete -F _vitald vitald
"
    )
}

fn zsh() -> String {
    let shell = Shell {
        words: |words| format!("compadd -- {words}"),
        names: format!("compadd -- ${{(f)\"$({NAMES})\"}}"),
        files: "_files",
        directories: "_files -/",
    };
    let body = shell.body();
    let mut verbs = String::new();
    let mut last = "";
    for row in rows() {
        let first = row.words.split(' ').next().unwrap_or_default();
        if first != last {
            let summary = row.summary.replace('\'', "'\\''").replace(':', "\\:");
            verbs.push_str(&format!("      '{first}:{summary}'\n"));
        }
        last = first;
    }
    format!(
        "#compdef vitald
# Generated by `vitald completions zsh`; do not edit.
_vitald() {{
  local cur=$PREFIX verb= place=0 skip= word
  local -a before verbs socket
  before=(\"${{(@)words[2,CURRENT-1]}}\")
{body}  if [ -z \"$verb\" ]; then
    verbs=(
{verbs}    )
    _describe verb verbs
  fi
}}
_vitald \"$@\"
"
    )
}

fn fish() -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let names = "(vitald list 2>/dev/null | awk \"NR > 1 { print \\$2 }\")";
    let words = |offer: &Offer| match offer {
        Offer::Names => Some(names.to_owned()),
        Offer::Words(words) => Some(words.clone()),
        Offer::Files | Offer::Directories | Offer::Nothing => None,
    };
    let opt = |opt: &Opt, seen: &str, doc: &str| {
        let mut out = format!("complete -c vitald{seen} -l {}", opt.long);
        out.extend(opt.short.map(|short| format!(" -s {short}")));
        match &opt.value {
            None => {}
            Some(Offer::Files | Offer::Directories) => out.push_str(" -r -F"),
            Some(offer) => {
                out.push_str(" -x");
                out.extend(words(offer).map(|words| format!(" -a {}", quote(&words))));
            }
        }
        out + doc + "\n"
    };
    let mut out = String::from(
        "# Generated by `vitald completions fish`; do not edit.\ncomplete -c vitald -f\n",
    );
    for global in GLOBAL {
        let doc = format!(" -d {}", quote(global.doc));
        out.push_str(&opt(&local_option(global), "", &doc));
    }
    for row in rows() {
        let (first, second) = match row.words.split_once(' ') {
            Some((first, second)) => (first, Some(second)),
            None => (row.words, None),
        };
        let seen = format!(
            " -n {}",
            quote(&format!("__fish_seen_subcommand_from {first}"))
        );
        out.push_str(&format!(
            "complete -c vitald -n __fish_use_subcommand -a {first} -d {}\n",
            quote(row.summary)
        ));
        let mut offer: Vec<String> = second.map(str::to_owned).into_iter().collect();
        offer.extend(row.places.iter().filter_map(words));
        if !offer.is_empty() {
            let offer = quote(&offer.join(" "));
            out.push_str(&format!("complete -c vitald{seen} -a {offer}\n"));
        }
        if row.places.contains(&Offer::Files) {
            out.push_str(&format!("complete -c vitald{seen} -F\n"));
        }
        for option in &row.options {
            out.push_str(&opt(option, &seen, ""));
        }
    }
    out
}
