//! What the node says, the newest at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use swarm_core::event::LogLevel;

use crate::app::App;
use crate::state::logs::LogLine;
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{below, inset, nothing, put, put_right, say};

/// Cells before the message: time, level, target.
const PREFIX: usize = 10 + 7 + 8;

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let logs = &scene.state.logs;
    let level = match app.logs.least {
        LogLevel::Info => "all lines",
        LogLevel::Warn => "warnings and errors",
        LogLevel::Error => "errors only",
    };
    let head = Line::from(vec![
        Span::styled(level, theme.strong()),
        Span::styled("   errors ", theme.dim()),
        counted(logs.errors, theme.bad(), theme),
        Span::styled("  warnings ", theme.dim()),
        counted(logs.warnings, theme.warn(), theme),
        Span::styled("   times are UTC", theme.dim()),
    ]);
    put(buffer, area, 0, &head);
    // Levels are ordered from the gravest.
    let listed: Vec<&LogLine> = logs
        .lines()
        .filter(|line| line.level <= app.logs.least)
        .collect();
    let text_area = below(area, 1);
    let height = usize::from(text_area.height);
    app.logs.page = height;
    // Scrolled to the top, the page is still full.
    let width = usize::from(area.width);
    let mut room = height;
    let topmost = listed
        .iter()
        .take_while(|entry| {
            let lines = entry_lines(theme, scene, entry, width).len();
            let fits = lines <= room;
            room = room.saturating_sub(lines);
            fits
        })
        .count();
    app.logs.back = app.logs.back.min(listed.len() - topmost);
    if listed.is_empty() {
        nothing(theme, "nothing to read", text_area, buffer);
        return;
    }
    let mut lines: Vec<Line<'static>> = Vec::new();
    for entry in listed.iter().rev().skip(app.logs.back) {
        let mut entry = entry_lines(theme, scene, entry, width);
        entry.reverse();
        lines.extend(entry);
        if lines.len() >= height {
            lines.truncate(height);
            break;
        }
    }
    for (offset, line) in lines.iter().rev().enumerate() {
        put(buffer, text_area, offset as u16, line);
    }
    if app.logs.back > 0 {
        let words = format!(
            "{} newer below  G: newest",
            text::count(app.logs.back as u64)
        );
        put_right(buffer, area, 0, &Line::styled(words, theme.accent()));
    }
}

fn counted(count: u64, style: ratatui::style::Style, theme: Theme) -> Span<'static> {
    let style = if count > 0 { style } else { theme.dim() };
    say(text::count(count), style)
}

fn entry_lines(
    theme: Theme,
    scene: &Scene<'_>,
    entry: &LogLine,
    width: usize,
) -> Vec<Line<'static>> {
    let (level, style) = match entry.level {
        LogLevel::Error => ("ERROR", theme.bad()),
        LogLevel::Warn => ("warn", theme.warn()),
        LogLevel::Info => ("info", theme.dim()),
    };
    let mut message = match entry.peer {
        Some(peer) => format!(
            "{}: {}",
            text::fit(&scene.state.name(peer), 24),
            entry.message
        ),
        None => entry.message.clone(),
    };
    if entry.repeated > 1 {
        message.push_str(&format!(" ×{}", text::count(u64::from(entry.repeated))));
    }
    let wrapped = text::wrap(&message, width.saturating_sub(PREFIX));
    wrapped
        .into_iter()
        .enumerate()
        .map(|(index, message)| {
            let body = if entry.level == LogLevel::Error {
                theme.strong()
            } else {
                theme.plain()
            };
            let mut spans = if index == 0 {
                let target = text::fit(&entry.target, 7);
                vec![
                    say(format!("{}  ", text::clock(entry.at_ms)), theme.dim()),
                    say(format!("{level:<7}"), style),
                    say(format!("{target:<8}"), theme.second()),
                ]
            } else {
                vec![Span::raw(" ".repeat(PREFIX))]
            };
            spans.push(say(message, body));
            Line::from(spans)
        })
        .collect()
}
