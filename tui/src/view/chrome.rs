//! Around the screens: header, footer, transport, notices.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use crate::app::{App, Screen};
use crate::text;
use crate::theme::Theme;

use super::parts::{inset, meter, put, put_right, say};
use super::{SMALLEST, Scene};

/// The name, the tabs, and a rule that is heavy under the open one.
pub(super) fn header(app: &App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let mut spans = vec![Span::styled(" murmuration ", theme.accent_strong())];
    let mut used = 13;
    let mut open = 0..0;
    let gap = if area.width >= 90 { 3 } else { 1 };
    for (index, screen) in Screen::ALL.into_iter().enumerate() {
        let label = format!("{} {}", index + 1, screen.name());
        spans.push(Span::raw(" ".repeat(gap)));
        used += gap;
        let width = label.len();
        let style = if screen == app.screen {
            open = used..used + width;
            theme.accent_strong()
        } else {
            theme.dim()
        };
        spans.push(Span::styled(label, style));
        used += width;
    }
    put(buffer, area, 0, &Line::from(spans));
    // The swarm's name, where there is room for all of it.
    if let Some(started) = &scene.state.started {
        let room = usize::from(area.width).saturating_sub(used + 3);
        let name = format!("swarm {}", text::clean(&started.name));
        if text::width(&name) <= room {
            let line = Line::from(vec![say(name, theme.dim()), Span::raw(" ")]);
            put_right(buffer, area, 0, &line);
        }
    }
    let rule = |cells: usize| Span::styled("─".repeat(cells), theme.faint());
    let line = Line::from(vec![
        rule(open.start),
        Span::styled("━".repeat(open.len()), theme.accent()),
        rule(usize::from(area.width).saturating_sub(open.end)),
    ]);
    put(buffer, area, 1, &line);
}

/// The keys that work here, and what is amiss.
pub(super) fn footer(app: &App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let mut notices = Vec::new();
    if scene.skipped > 0 {
        let skipped = text::count(scene.skipped);
        notices.push(say(format!("! {skipped} events missed  "), theme.warn()));
    }
    if scene.over && !app.leaving() {
        notices.push(say("■ the node has stopped  ", theme.warn()));
    }
    let notices = Line::from(notices);
    let mut keys: Vec<(&str, &str)> = match app.screen {
        Screen::Swarm => vec![],
        Screen::Rollouts if app.rollouts.open => {
            vec![
                ("j/k", "scroll"),
                ("n/N", "next, previous"),
                ("Esc", "list"),
            ]
        }
        Screen::Rollouts => vec![
            ("j/k", "choose"),
            ("Enter", "open"),
            ("s", "stage"),
            ("p", "peer"),
            ("e", "task"),
            ("x", "all"),
        ],
        Screen::Training | Screen::Peers | Screen::Reputation => vec![("j/k", "choose")],
        Screen::Logs => vec![("j/k", "scroll"), ("G", "newest"), ("l", "level")],
    };
    let everywhere: &[(&str, &str)] = if scene.transport.is_some() {
        &[
            ("?", "help"),
            ("q", "quit"),
            ("space", "pause"),
            ("+/-", "speed"),
            ("←/→", "10 s"),
            ("[/]", "round"),
        ]
    } else {
        &[("?", "help"), ("q", "quit"), ("Tab", "next screen")]
    };
    keys.splice(0..0, everywhere.iter().copied());
    let mut spans = vec![Span::raw(" ")];
    let room = usize::from(area.width).saturating_sub(notices.width());
    let mut used = 1;
    for (key, what) in keys {
        used += text::width(key) + text::width(what) + 3;
        if used > room {
            break;
        }
        spans.push(Span::styled(key, theme.accent()));
        spans.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    put(buffer, area, 0, &Line::from(spans));
    put_right(buffer, area, 0, &notices);
}

/// How a recording plays: `▶ play 4x  03:21 ━━━━━───── 12:40`.
pub(super) fn transport(theme: Theme, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let Some(transport) = &scene.transport else {
        return;
    };
    let how = match transport {
        transport if transport.at_end => "■ end  ",
        transport if transport.paused => "‖ pause",
        _ => "▶ play ",
    };
    let speed = match transport.half_speeds {
        1 => "0.5x".to_owned(),
        halves => format!("{}x", halves / 2),
    };
    let mut spans = vec![
        Span::styled(format!(" {how} "), theme.accent_strong()),
        Span::styled(format!("{speed:<5}"), theme.plain()),
        Span::raw(text::position(transport.position_ms)),
        Span::raw(" "),
    ];
    let mut tail = vec![Span::raw(format!(
        " {}",
        text::position(transport.length_ms)
    ))];
    if transport.problems > 0 {
        let many = transport.problems;
        tail.push(say(format!("  ! {many} bad lines"), theme.warn()));
    }
    tail.push(Span::raw(" "));
    let tail = Line::from(tail);
    let head: usize = spans.iter().map(Span::width).sum();
    let room = usize::from(area.width).saturating_sub(head + tail.width());
    let share = transport.position_ms as f64 / transport.length_ms.max(1) as f64;
    spans.extend(meter(theme, share, room.max(8), theme.accent()));
    spans.extend(tail.spans);
    put(buffer, area, 0, &Line::from(spans));
}

/// A box in the middle of the screen; returns its inside.
pub(super) fn overlay(
    theme: Theme,
    title: &str,
    (width, height): (u16, u16),
    area: Rect,
    buffer: &mut Buffer,
) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    let area = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(area, buffer);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.accent())
        .title(say(format!(" {title} "), theme.accent_strong()));
    let inner = block.inner(area);
    block.render(area, buffer);
    inset(inner, 1)
}

/// The user wants to leave, and the node has not finished yet.
pub(super) fn saving(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let inner = overlay(theme, "saving…", (52, 5), area, buffer);
    let lines = [
        say(
            "The node finishes its step and writes its state.",
            theme.plain(),
        ),
        Span::raw(""),
        say("Ctrl-C again leaves this screen at once.", theme.dim()),
    ];
    for (row, line) in lines.into_iter().enumerate() {
        put(buffer, inner, row as u16, &Line::from(line));
    }
}

/// The terminal is too small to draw on.
pub(super) fn too_small(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let (width, height) = SMALLEST;
    let lines = [
        format!("{}x{} is too small", area.width, area.height),
        format!("make it {width}x{height} or larger"),
        "q quits".to_owned(),
    ];
    let top = area.height.saturating_sub(lines.len() as u16) / 2;
    for (row, line) in lines.into_iter().enumerate() {
        let line = text::fit(&line, usize::from(area.width));
        let indent = (usize::from(area.width) - text::width(&line)) / 2;
        let style = if row == 0 {
            theme.strong()
        } else {
            theme.dim()
        };
        let line = Line::from(vec![Span::raw(" ".repeat(indent)), say(line, style)]);
        put(buffer, area, top + row as u16, &line);
    }
}
