//! Help: every key, in plain words.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;

use super::Scene;
use super::chrome::overlay;
use super::parts::{put, put_right, say};

const KEYS: [(&str, &str); 15] = [
    ("", "Everywhere"),
    ("1 … 6", "go to a screen"),
    ("Tab, Shift-Tab", "next, previous screen (live also → ←)"),
    ("j k, ↓ ↑", "down, up"),
    ("PgDn, PgUp", "a page down, up"),
    ("g, G", "first, last (live also Home, End)"),
    ("Ctrl-L", "draw everything anew"),
    ("q, Ctrl-C", "save and leave"),
    ("", "Rollouts"),
    ("Enter, Esc", "open a group, back to the list"),
    ("n, N", "next, previous group"),
    (
        "s, p, e",
        "only one stage, peer, task: press on for the next",
    ),
    ("x", "all stages, peers and tasks"),
    ("", "Logs"),
    ("l", "all lines, warnings and errors, errors only"),
];

const REPLAY_KEYS: [(&str, &str); 6] = [
    ("", "Replay"),
    ("space", "pause, go on; at the end: from the start"),
    ("+, -", "faster, slower: 0.5x to 64x"),
    ("→, ←", "10 seconds ahead, back"),
    ("[, ]", "to the start of the previous, next round"),
    ("Home, End", "to the start, the end"),
];

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let mut keys: Vec<(&str, &str)> = KEYS.to_vec();
    if scene.transport.is_some() {
        keys.splice(0..0, REPLAY_KEYS);
    }
    let mut lines = Vec::new();
    for (key, what) in keys {
        if key.is_empty() {
            if !lines.is_empty() {
                lines.push(Line::default());
            }
            lines.push(Line::from(say(what, theme.strong())));
        } else {
            lines.push(Line::from(vec![
                say(format!("  {key:<16}"), theme.accent()),
                say(what, theme.plain()),
            ]));
        }
    }
    let size = (74, lines.len() as u16 + 3);
    let inner = overlay(theme, "help", size, area, buffer);
    let page = usize::from(inner.height.saturating_sub(1));
    let Some(pick) = &mut app.help else {
        return;
    };
    // Help scrolls as a text does: the index is its first visible line.
    pick.page = page;
    pick.index = pick.index.min(lines.len().saturating_sub(page));
    let more = pick.index + page < lines.len();
    for (row, line) in lines.iter().skip(pick.index).take(page).enumerate() {
        put(buffer, inner, row as u16, line);
    }
    let close = Line::from(vec![
        Span::styled(if more { "↓ more   " } else { "" }, theme.accent()),
        Span::styled("? or Esc closes", theme.dim()),
    ]);
    put_right(buffer, inner, inner.height.saturating_sub(1), &close);
}
