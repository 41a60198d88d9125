//! Rust source as words: enough of a lexer to tell code from comments and literals.
//!
//! Not a parser: it knows where a word stands (line, inside a test or not, how many `mod x {`
//! around it) and nothing of types or names.

/// An identifier, `::`, or one character of punctuation. Literals are left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
    /// Inside an item under `#[cfg(test)]` or `#[test]`.
    pub test: bool,
    /// How many inline modules are around it.
    pub depth: usize,
}

pub fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let bytes = source.as_bytes();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let length = skipped(&source[at..]);
        if length > 0 {
            line += source[at..at + length].matches('\n').count();
            at += length;
            continue;
        }
        let rest = &source[at..];
        let word = rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next().map_or(1, char::len_utf8),
            n => n,
        };
        found.push(Token {
            text: rest[..length].to_string(),
            line,
            test: false,
            depth: 0,
        });
        at += length;
    }
    mark_modules(&mut found);
    mark_tests(&mut found);
    found
}

/// The length of the space, comment or literal at the beginning of `rest`; 0 for code.
fn skipped(rest: &str) -> usize {
    let end_of = |needle: &str, from: usize| {
        rest[from..]
            .find(needle)
            .map_or(rest.len(), |n| from + n + needle.len())
    };
    if rest.starts_with(char::is_whitespace) {
        return rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
    }
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    // Literals with a prefix: b"", br#""#, c"", r#""#; an identifier r#type is none.
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    if prefix <= 2 {
        let raw = rest[..prefix].ends_with('r');
        let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
        if raw && rest[prefix + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return end_of(&end, prefix + hashes + 1);
        }
        if !raw && rest[prefix..].starts_with('"') {
            return quoted(rest, prefix, b'"');
        }
    }
    let quote = usize::from(rest.starts_with("b'"));
    if rest[quote..].starts_with('\'') {
        let mut after = rest[quote + 1..].chars();
        let (first, second) = (after.next(), after.next());
        // 'a' and '\n' are characters, 'a is a lifetime.
        if first == Some('\\') || second == Some('\'') {
            return quoted(rest, quote, b'\'');
        }
    }
    0
}

/// The length of a literal whose opening quote stands at `from`.
fn quoted(rest: &str, from: usize, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let here = &rest.as_bytes()[at..];
        if here.is_empty() {
            return at;
        } else if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
}

/// Whether the tokens from `at` on read as `texts`.
pub fn reads(tokens: &[Token], at: usize, texts: &[&str]) -> bool {
    tokens.len() >= at + texts.len()
        && texts
            .iter()
            .zip(&tokens[at..])
            .all(|(text, token)| *text == token.text)
}

fn mark_modules(tokens: &mut [Token]) {
    // For each open brace: does it belong to a module?
    let mut braces: Vec<bool> = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            _ => {}
        }
        tokens[at].depth = braces.iter().filter(|module| **module).count();
    }
}

fn mark_tests(tokens: &mut [Token]) {
    let cfg = ["#", "[", "cfg", "(", "test", ")", "]"];
    let plain = ["#", "[", "test", "]"];
    let mut at = 0;
    while at < tokens.len() {
        if !reads(tokens, at, &cfg) && !reads(tokens, at, &plain) {
            at += 1;
            continue;
        }
        let end = end_of_item(tokens, at);
        for token in &mut tokens[at..end] {
            token.test = true;
        }
        at = end;
    }
}

/// Past the item that begins at `at` with its attributes: its `;`, or its closing brace.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut open = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => open += 1,
            "}" | ")" | "]" => {
                open = open.saturating_sub(1);
                if open == 0 && token.text == "}" {
                    return at;
                }
            }
            ";" if open == 0 => return at,
            _ => {}
        }
    }
    at
}
