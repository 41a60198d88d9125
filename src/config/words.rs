//! A command line to its words, as a POSIX shell splits them (POSIX.1-2024, XCU 2.2 and 2.3).
//!
//! Quotes and backslashes mean what they mean there. No shell is run: nothing is expanded, and
//! what a shell would act upon (`|`, `$HOME`, `*` …) is refused with the remedy instead of being
//! handed to the program as an odd argument. `?`, `[`, `{`, `!` are taken as they stand: URLs and
//! options have them, and a shell without a matching file name would do the same.

/// Splits `text`; the error says what is wrong and what to write.
pub fn split(text: &str) -> Result<Vec<Box<str>>, String> {
    let mut words: Vec<Box<str>> = Vec::new();
    // None: between words. An empty word is a word: `''`.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take().map(String::into_boxed_str)),
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                None => return Err("ends in a backslash: remove it, or write `\\\\`".to_owned()),
                // A backslash before the line's end continues the line.
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' => {
                return Err(no_shell(c, text));
            }
            '~' if word.is_none() => return Err(no_shell(c, text)),
            '#' if word.is_none() => {
                return Err("has a comment: no shell is run that would skip it; \
                            quote the `#`, or remove it"
                    .to_owned());
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.map(String::into_boxed_str));
    if let Some(first) = words.first().filter(|w| is_assignment(w)) {
        return Err(format!(
            "begins with `{first}`: no shell is run that would set it; put it into `env`"
        ));
    }
    Ok(words)
}

fn single(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    for c in chars {
        match c {
            '\'' => return Ok(()),
            _ => word.push(c),
        }
    }
    Err("has a `'` without its partner: close it, or write `\\'` for the character".to_owned())
}

fn double(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '$' | '`' => {
                return Err(format!(
                    "has `{c}` inside double quotes: no shell is run that would expand it; \
                     use single quotes, or [\"sh\", \"-c\", \"…\"]"
                ));
            }
            '\\' => match chars.next() {
                Some(kept @ ('$' | '`' | '"' | '\\')) => word.push(kept),
                Some('\n') => {}
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            _ => word.push(c),
        }
    }
    Err("has a `\"` without its partner: close it, or write `\\\"` for the character".to_owned())
}

/// The remedy for a character that only a shell would act upon.
fn no_shell(c: char, text: &str) -> String {
    let script = text.replace('\\', "\\\\").replace('"', "\\\"");
    let script = if script.len() > 80 || script.contains('\n') {
        "…"
    } else {
        &script
    };
    format!(
        "has `{c}` outside quotes: no shell is run; write [\"sh\", \"-c\", \"{script}\"], \
         or '{c}' for the character itself"
    )
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        match split(text) {
            Ok(words) => words.into_iter().map(String::from).collect(),
            Err(e) => panic!("{text}: {e}"),
        }
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(words("a b  c\t d"), ["a", "b", "c", "d"]);
        assert_eq!(words("a 'b c' \"d e\""), ["a", "b c", "d e"]);
        assert_eq!(words(r"a b\ c \'"), ["a", "b c", "'"]);
        assert_eq!(words(r#"a"b"'c'd"#), ["abcd"]);
        assert_eq!(words(r#"a '' """#), ["a", "", ""]);
        assert_eq!(words(r#""\$HOME \n \" \\""#), [r#"$HOME \n " \"#]);
        assert_eq!(words(r"'\n|$x'"), [r"\n|$x"]);
        assert_eq!(words("a \\\n b"), ["a", "b"]);
        assert_eq!(words("a\\\nb"), ["ab"]);
        assert_eq!(
            words("curl http://x/?a=b[1]{2}#top"),
            ["curl", "http://x/?a=b[1]{2}#top"]
        );
        assert_eq!(words("a --x=~/y a#b"), ["a", "--x=~/y", "a#b"]);
        assert_eq!(words("env A=1 b"), ["env", "A=1", "b"]);
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(words("  "), Vec::<String>::new());
    }

    #[test]
    fn what_only_a_shell_would_do_is_refused_with_the_remedy() {
        for (text, c) in [
            ("a | b", '|'),
            ("a && b", '&'),
            ("a; b", ';'),
            ("a > b", '>'),
            ("a < b", '<'),
            ("a $(b)", '$'),
            ("a `b`", '`'),
            ("a *.txt", '*'),
            ("~/bin/a", '~'),
        ] {
            let said = split(text).expect_err(text);
            assert!(
                said.starts_with(&format!("has `{c}` outside quotes")),
                "{said}"
            );
            assert!(
                said.contains(&format!("[\"sh\", \"-c\", \"{text}\"]")),
                "{said}"
            );
        }
        for text in [
            "a 'b",
            "a \"b",
            "a \\",
            "\"$HOME\"",
            "\"a\\",
            "A=1 b",
            "a # b",
        ] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
