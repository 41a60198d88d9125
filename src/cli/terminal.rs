//! What stdout can show: colours, letters beyond ASCII, how wide.

use super::dirs::Env;
use crate::control::render::Style;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

/// The style for this stdout, now.
pub fn style(env: Env<'_>) -> Style {
    let terminal = std::io::stdout().is_terminal();
    Style {
        width: terminal.then(width).flatten(),
        now_ms: now_ms(),
        ..style_of(terminal, env)
    }
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, crate::time::millis)
}

/// What environment and terminal say, without time and width.
pub fn style_of(terminal: bool, env: Env<'_>) -> Style {
    let text = |name| env(name).and_then(|value| value.into_string().ok());
    let set = |name| text(name).filter(|value: &String| !value.is_empty());
    // <https://no-color.org>: set and not empty.
    let colour = terminal && set("NO_COLOR").is_none() && set("TERM").as_deref() != Some("dumb");
    // In the order of setlocale(3).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let utf8 = locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8")
    });
    Style {
        terminal,
        colour,
        ascii: !utf8,
        ..Style::default()
    }
}

/// Columns of the terminal (TIOCGWINSZ, ioctl_tty(2)).
fn width() -> Option<usize> {
    // SAFETY: the structure is plain numbers, and the call fills it or fails.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        match libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) {
            0 => size,
            _ => return None,
        }
    };
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
