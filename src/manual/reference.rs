//! The reference of all keys, in Markdown.

use super::{CHAPTERS, EXAMPLE, INTRO, default, notes, takes};
use std::fmt::Write;

/// `contrib/reference.md`.
pub fn definitions() -> String {
    let mut out = String::from(
        "<!-- Generated from src/config/keys.rs by tests/manual.rs: UPDATE=1 cargo test --test manual -->\n\
         # Definitions\n",
    );
    for paragraph in INTRO {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{paragraph}\n");
    }
    let _ = write!(out, "\n```toml\n{EXAMPLE}```\n");
    for chapter in CHAPTERS {
        let _ = write!(out, "\n## {}\n\n{}\n", chapter.title, chapter.intro);
        let _ = write!(
            out,
            "\n| key | takes | default | reload | meaning |\n|---|---|---|---|---|\n"
        );
        for key in chapter.keys {
            let meaning = std::iter::once(key.doc().to_owned()).chain(notes(key));
            let meaning = meaning.collect::<Vec<_>>().join(" ");
            let mark = key.reload.mark();
            let name = format!("`{}`", key.name);
            let row = [name, takes(key), default(key), mark.to_owned(), meaning];
            let _ = writeln!(
                out,
                "| {} |",
                row.map(|cell| cell.replace('|', "\\|")).join(" | ")
            );
        }
    }
    out
}
