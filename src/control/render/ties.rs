//! Trees, graphs and times of starts.

use super::{Colour, Grid, Style, clean, duration};
use crate::control::ties::{Blame, Branch, Tree};
use crate::engine::status::Tied;

/// `status --tree`
pub fn tree(tree: &Tree, style: &Style, out: &mut String) {
    if tree.tree.is_empty() {
        out.push_str("no services\n");
    }
    // Whether a level has more to come under it, found from below.
    let mut more: Vec<Vec<bool>> = Vec::new();
    let mut open: Vec<bool> = Vec::new();
    for branch in tree.tree.iter().rev() {
        let depth = branch.depth as usize;
        open.resize(depth + 1, false);
        more.push(open.clone());
        open[depth] = true;
    }
    for (branch, more) in tree.tree.iter().zip(more.into_iter().rev()) {
        let (bar, tee, end) = match style.ascii {
            true => ("|  ", "|- ", "`- "),
            false => ("│  ", "├─ ", "└─ "),
        };
        let depth = branch.depth as usize;
        for more in more.iter().take(depth).skip(1) {
            out.push_str(if *more { bar } else { "   " });
        }
        if depth > 0 {
            out.push_str(if more[depth] { tee } else { end });
        }
        if let Some(key) = &branch.key {
            out.push_str(&style.paint(Colour::Faint, &format!("{} ", clean(key))));
        }
        out.push_str(&style.paint(Colour::Strong, &clean(&branch.name)));
        out.push_str(&format!("  {}\n", state(branch, style)));
    }
}

fn state(branch: &Branch, style: &Style) -> String {
    let unwell = branch.state == "running" && branch.health.as_deref() == Some("unhealthy");
    let words = match unwell {
        true => "running (unhealthy)".to_owned(),
        false => clean(&branch.state),
    };
    let mut text = style.paint(colour(&branch.state, unwell), &words);
    if branch.pinned {
        text.push_str(", pinned");
    }
    if let Some(waits_for) = &branch.waits_for {
        text.push_str(&format!(": {}", clean(waits_for)));
    }
    if branch.above {
        text.push_str(&style.paint(Colour::Faint, "  (see above)"));
    }
    text
}

fn colour(state: &str, unwell: bool) -> Colour {
    match state {
        "running" if unwell => Colour::Warn,
        "running" => Colour::Good,
        "failed" => Colour::Bad,
        "inactive" | "exited" => Colour::Faint,
        _ => Colour::Warn,
    }
}

/// `graph`: for `dot` (graphviz). An arrow leads from who needs to whom it needs.
pub fn dot(services: &[Tied], out: &mut String) {
    out.push_str(
        "digraph vitald {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\"];\n",
    );
    for service in services {
        let unwell = service.health.as_deref() == Some("unhealthy");
        let fill = match service.state.as_str() {
            "running" if unwell => "orange",
            "running" => "palegreen",
            "failed" => "salmon",
            "exited" => "lightblue",
            "inactive" => "lightgrey",
            "" => "white",
            _ => "khaki",
        };
        let mut label = quoted(&service.name);
        if !service.state.is_empty() {
            label.push_str("\\n");
            label.push_str(&quoted(&service.state));
        }
        if service.pinned {
            label.push_str(", pinned");
        }
        let name = quoted(&service.name);
        out.push_str(&format!(
            "  \"{name}\" [label=\"{label}\", fillcolor={fill}];\n"
        ));
    }
    for service in services {
        for tie in &service.ties {
            // Said by both, drawn once.
            if tie.key == "conflicts" && tie.name < service.name {
                continue;
            }
            let how = match tie.key.as_str() {
                "requires" => "style=bold",
                "milestone" => "style=bold, color=steelblue, label=\"milestone\"",
                "wants" => "style=dashed, label=\"wants\"",
                "before" => "style=dotted, label=\"before\"",
                "after_exit" => "style=dotted, arrowhead=tee, label=\"after_exit\"",
                "conflicts" => {
                    "color=red, dir=both, arrowhead=tee, arrowtail=tee, constraint=false"
                }
                _ => "style=dotted",
            };
            let (from, to) = (quoted(&service.name), quoted(&tie.name));
            out.push_str(&format!("  \"{from}\" -> \"{to}\" [{how}];\n"));
        }
    }
    out.push_str("}\n");
}

/// For the inside of a string of the dot language.
fn quoted(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}

/// `blame`
pub fn blame(blame: &Blame, style: &Style, out: &mut String) {
    if blame.services.is_empty() {
        out.push_str("nothing has started yet\n");
        return;
    }
    let faint = |text: &str| (text.to_owned(), Colour::Faint);
    let mut grid = Grid {
        rows: vec![
            ["", "NAME", "RUN", "WAITED", "STARTED", "READY", "TOOK"]
                .map(faint)
                .into(),
        ],
        right: &[2, 3, 4, 5, 6],
    };
    let after = |ms: u64| format!("+{}", duration(ms));
    for took in &blame.services {
        let on_path = blame.path.contains(&took.name);
        let waited = took.started_ms.saturating_sub(took.asked_ms);
        let plain = |text: String| (text, Colour::Plain);
        grid.rows.push(vec![
            plain(if on_path { "*" } else { "" }.to_owned()),
            (clean(&took.name), Colour::Strong),
            plain(format!("#{}", took.run)),
            plain(if waited == 0 {
                "-".to_owned()
            } else {
                duration(waited)
            }),
            plain(after(took.started_ms)),
            plain(took.ready_ms.map_or("not yet".to_owned(), after)),
            plain(took.took_ms.map_or("-".to_owned(), duration)),
        ]);
    }
    grid.draw("", style, out);
    let Some(end) = blame.path.first() else {
        return;
    };
    let took = |name: &String| blame.services.iter().find(|took| took.name == *name);
    let ready = took(end).and_then(|took| took.ready_ms);
    let when = ready.map_or("not ready yet".to_owned(), |ms| {
        format!("ready at {}", after(ms))
    });
    super::story::heading(
        &format!("critical path to {}, {when}", clean(end)),
        style,
        out,
    );
    for (n, name) in blame.path.iter().enumerate() {
        let Some(took) = took(name) else { continue };
        let indent = "  ".repeat(n.min(20) + 1);
        let how = took.took_ms.map_or("is not ready".to_owned(), |ms| {
            format!("took {}", duration(ms))
        });
        out.push_str(&format!(
            "{indent}{} at {}, {how}\n",
            clean(name),
            after(took.started_ms)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ties;
    use crate::engine::status::{Started, Tie};

    fn service(name: &str, state: &str, ties: &[(&str, &str)]) -> Tied {
        let tie = |(key, name): &(&str, &str)| Tie {
            key: (*key).to_owned(),
            name: (*name).to_owned(),
        };
        Tied {
            name: name.to_owned(),
            state: state.to_owned(),
            ties: ties.iter().map(tie).collect(),
            started: (state == "running").then(|| Started {
                run: 1,
                spawned_ms: 2,
                ready_ms: Some(1500),
                ..Started::default()
            }),
            ..Tied::default()
        }
    }

    fn house() -> Vec<Tied> {
        let mut web = service("web", "blocked", &[("requires", "db"), ("wants", "cache")]);
        web.waits_for = Some("requires db, starting".to_owned());
        let mut cache = service("cache", "running", &[("after", "db")]);
        cache.pinned = true;
        let db = service("db", "starting", &[("conflicts", "old")]);
        let old = service("old", "inactive", &[("conflicts", "db")]);
        vec![cache, db, old, web]
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let mut out = String::new();
        tree(
            &ties::tree(&house(), Some("web")),
            &Style::default(),
            &mut out,
        );
        let expected = "\
web  blocked: requires db, starting
├─ requires db  starting
│  └─ conflicts old  inactive
└─ wants cache  running, pinned
   └─ after db  starting  (see above)
";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_graph_is_dot() {
        let mut out = String::new();
        dot(&house(), &mut out);
        for line in [
            "  \"cache\" [label=\"cache\\nrunning, pinned\", fillcolor=palegreen];\n",
            "  \"web\" -> \"db\" [style=bold];\n",
            "  \"web\" -> \"cache\" [style=dashed, label=\"wants\"];\n",
            "  \"db\" -> \"old\" [color=red,",
        ] {
            assert!(out.contains(line), "{out}");
        }
        assert_eq!(out.matches("color=red").count(), 1);
        assert!(out.ends_with("}\n"));
    }

    #[test]
    fn times_are_shown_with_their_path() {
        let mut out = String::new();
        blame(&ties::blame(&house(), None), &Style::default(), &mut out);
        let expected = [
            "   NAME   RUN  WAITED  STARTED   READY   TOOK",
            "*  cache   #1    2 ms    +2 ms  +1.5 s  1.4 s",
            "critical path to cache, ready at +1.5 s",
            "  cache at +2 ms, took 1.4 s",
        ];
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines, expected);
    }
}
