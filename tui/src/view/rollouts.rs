//! Judged groups: a list, and one of them in full.
//!
//! The list stands alone on a narrow terminal; on a wide one the chosen group
//! is shown beside it. Enter opens the group over the whole body.

use std::cmp::Ordering;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use swarm_core::event::{CompletionView, CritiqueView};

use crate::app::App;
use crate::state::groups::Group;
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{
    below, heading, inset, left, meter, nothing, put, put_right, rewards, right, row, say,
};

/// From this width on, the chosen group is shown beside the list.
const SIDE_BY_SIDE: u16 = 110;

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let area = inset(area, 1);
    let (listed, index) = app.rollouts.listed(scene.state);
    let chosen = listed.get(index).copied();
    if app.rollouts.open
        && let Some(group) = chosen
    {
        draw_group(app, scene, group, area, buffer);
        return;
    }
    app.rollouts.open = false;
    if area.width < SIDE_BY_SIDE {
        draw_list(app, scene, (&listed, index), area, buffer);
        return;
    }
    let [list, _, side] = Layout::horizontal([
        Constraint::Length(58),
        Constraint::Length(3),
        Constraint::Min(0),
    ])
    .areas(area);
    draw_list(app, scene, (&listed, index), list, buffer);
    for y in side.y..side.bottom() {
        buffer.set_span(side.x - 2, y, &Span::styled("│", app.theme.faint()), 1);
    }
    if let Some(group) = chosen {
        draw_group(app, scene, group, side, buffer);
    }
}

fn draw_list(
    app: &mut App,
    scene: &Scene<'_>,
    (listed, index): (&[&Group], usize),
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = app.theme;
    let filter = &app.rollouts.filter;
    let mut line = vec![Span::styled("groups ", theme.dim())];
    let kept = scene.state.groups.len();
    if filter.is_open() {
        line.push(say(text::count(kept as u64), theme.plain()));
        line.push(Span::styled(
            " newest, all stages, peers, tasks",
            theme.dim(),
        ));
    } else {
        line.push(say(format!("{} of {kept}", listed.len()), theme.plain()));
        let only = [
            filter.stage.map(|stage| stage.name().to_owned()),
            filter.peer.map(|peer| scene.state.name(peer)),
            filter.env.clone(),
        ];
        for only in only.into_iter().flatten() {
            line.push(Span::styled("  only ", theme.dim()));
            line.push(say(only, theme.accent_strong()));
        }
    }
    put(buffer, area, 0, &Line::from(line));
    let wide = area.width >= 70;
    let mut columns = vec![
        right("rnd", 4),
        left("stage", 8),
        left("peer", 15),
        left("task", if wide { 15 } else { 9 }),
    ];
    if wide {
        columns.push(left("slot", 8));
    }
    columns.push(left("rewards", 10));
    put(buffer, area, 1, &heading(theme, &columns));
    let area = below(area, 2);
    let page = usize::from(area.height);
    app.rollouts.page = page;
    if listed.is_empty() {
        let words = if kept == 0 {
            "no group has been judged yet"
        } else {
            "no group passes: x shows all"
        };
        nothing(theme, words, area, buffer);
        return;
    }
    let top = index
        .saturating_sub(page / 2)
        .min(listed.len().saturating_sub(page));
    for (offset, group) in listed.iter().skip(top).take(page).enumerate() {
        let view = &group.view;
        let earned: Vec<f64> = view
            .completions
            .iter()
            .map(|completion| text::fraction(completion.reward_ppm))
            .collect();
        let mut cells = vec![
            say(view.round.to_string(), theme.plain()),
            say(view.stage.name(), theme.plain()),
            say(scene.state.name(view.owner), theme.plain()),
            say(format!("{} {}", view.env, view.level), theme.plain()),
        ];
        if wide {
            cells.push(say(&view.slot, theme.dim()));
        }
        let style = if lesson(view.completions.as_slice()) {
            theme.accent()
        } else {
            theme.dim()
        };
        cells.push(say(rewards(&earned), style));
        let line = row(top + offset == index, theme, &columns, cells);
        put(buffer, area, offset as u16, &line);
    }
}

/// Whether a group teaches anything: its completions earned different rewards.
fn lesson(completions: &[CompletionView]) -> bool {
    completions
        .windows(2)
        .any(|pair| pair[0].reward_ppm != pair[1].reward_ppm)
}

fn draw_group(app: &mut App, scene: &Scene<'_>, group: &Group, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let view = &group.view;
    let head = Line::from(vec![
        say(format!("{} level {}", view.env, view.level), theme.strong()),
        Span::styled("  by ", theme.dim()),
        say(
            text::fit(&scene.state.name(view.owner), 20),
            theme.accent_strong(),
        ),
    ]);
    put(buffer, area, 0, &head);
    let place = format!("round {} {}, {}", view.round, view.stage.name(), view.slot);
    if head.width() + text::width(&place) + 2 <= usize::from(area.width) {
        put_right(buffer, area, 0, &Line::from(say(place, theme.dim())));
    }
    let lines = group_lines(theme, scene, group, usize::from(area.width));
    let area = below(area, 1);
    let page = usize::from(area.height);
    let scroll = &mut app.rollouts.scroll;
    scroll.page = page;
    scroll.index = scroll.index.min(lines.len().saturating_sub(page));
    for (offset, line) in lines.iter().skip(scroll.index).take(page).enumerate() {
        put(buffer, area, offset as u16, line);
    }
    if scroll.index + page < lines.len() {
        let words = if app.rollouts.open {
            " ↓ more "
        } else {
            " Enter: all of it "
        };
        let last = area.height.saturating_sub(1);
        put_right(buffer, area, last, &Line::styled(words, theme.accent()));
    }
}

fn group_lines(theme: Theme, scene: &Scene<'_>, group: &Group, width: usize) -> Vec<Line<'static>> {
    let view = &group.view;
    let mut lines = vec![Line::default()];
    labelled(&mut lines, theme, "prompt", &view.prompt, width);
    labelled(&mut lines, theme, "truth", &view.reference, width);
    let mean = group.reward();
    let verdict = if lesson(&view.completions) {
        say("they differ, so it teaches", theme.accent())
    } else {
        say("all earned the same, so it teaches nothing", theme.dim())
    };
    lines.push(Line::from(vec![
        Span::styled("mean    ", theme.dim()),
        say(text::share(mean), theme.plain()),
        Span::styled("   ", theme.dim()),
        verdict,
    ]));
    for (index, completion) in view.completions.iter().enumerate() {
        lines.push(Line::default());
        let of = format!("{} of {}", index + 1, view.completions.len());
        completion_lines(&mut lines, theme, scene, (&of, mean), completion, width);
    }
    lines
}

fn completion_lines(
    lines: &mut Vec<Line<'static>>,
    theme: Theme,
    scene: &Scene<'_>,
    (of, mean): (&str, f64),
    completion: &CompletionView,
    width: usize,
) {
    let reward = text::fraction(completion.reward_ppm);
    let mut head = vec![
        say(format!("{of:<8}"), theme.strong()),
        say(format!("{:>6} ", text::share(reward)), theme.graded(reward)),
    ];
    head.extend(meter(theme, reward, 10, theme.graded(reward)));
    let above = 100.0 * (reward - mean);
    let words = match above {
        above if above >= 0.05 => format!("  ▲ {above:.1} above the group"),
        above if above <= -0.05 => format!("  ▼ {:.1} below the group", -above),
        _ => "  = as the group".to_owned(),
    };
    head.push(say(words, theme.dim()));
    lines.push(Line::from(head));
    tagged(lines, theme, "text", &completion.text, width);
    labelled(lines, theme, "why", &completion.why, width);
    if !completion.parts.is_empty() {
        let parts: Vec<String> = completion
            .parts
            .iter()
            .map(|part| format!("{} {}", text::clean(&part.name), text::ppm(part.ppm)))
            .collect();
        labelled(lines, theme, "parts", &parts.join("   "), width);
    }
    for critique in &completion.critiques {
        critique_lines(lines, theme, scene, critique, width);
    }
}

fn critique_lines(
    lines: &mut Vec<Line<'static>>,
    theme: Theme,
    scene: &Scene<'_>,
    critique: &CritiqueView,
    width: usize,
) {
    let right = text::fraction(critique.right_ppm);
    let (mark, style) = match critique.right_ppm.cmp(&500_000) {
        Ordering::Greater => ("✓", theme.good()),
        Ordering::Less => ("✗", theme.bad()),
        Ordering::Equal => ("=", theme.dim()),
    };
    lines.push(Line::from(vec![
        Span::styled("critic  ", theme.dim()),
        Span::styled(mark, style),
        say(
            format!(" {}", text::fit(&scene.state.name(critique.critic), 18)),
            theme.plain(),
        ),
        Span::styled(" says right ", theme.dim()),
        say(text::share(right), style),
        Span::styled("  weight ", theme.dim()),
        say(text::ppm(critique.weight_ppm), theme.plain()),
    ]));
    tagged(lines, theme, "", &critique.text, width);
}

/// Cells of the label before a text.
const LABEL: usize = 8;

/// A label and wrapped text beside it.
fn labelled(lines: &mut Vec<Line<'static>>, theme: Theme, label: &str, text: &str, width: usize) {
    let wrapped = text::wrap(text, width.saturating_sub(LABEL));
    for (index, line) in wrapped.into_iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        lines.push(Line::from(vec![
            Span::styled(format!("{label:<LABEL$}"), theme.dim()),
            say(line, theme.plain()),
        ]));
    }
}

/// Like [`labelled`], for what a model wrote: its answer and its verdict stand
/// out, its thoughts and the tags stand back.
fn tagged(lines: &mut Vec<Line<'static>>, theme: Theme, label: &str, text: &str, width: usize) {
    let wrapped = text::wrap(text, width.saturating_sub(LABEL));
    let whole: Vec<char> = wrapped.iter().flat_map(|line| line.chars()).collect();
    let mut styles = text_styles(theme, &whole).into_iter();
    for (index, line) in wrapped.into_iter().enumerate() {
        let label = if index == 0 { label } else { "" };
        let mut spans = vec![Span::styled(format!("{label:<LABEL$}"), theme.dim())];
        let mut run = String::new();
        let mut run_style = theme.plain();
        for character in line.chars() {
            let style = styles.next().unwrap_or_default();
            if style != run_style && !run.is_empty() {
                spans.push(say(std::mem::take(&mut run), run_style));
            }
            run_style = style;
            run.push(character);
        }
        spans.push(say(run, run_style));
        lines.push(Line::from(spans));
    }
}

/// One style a character.
fn text_styles(theme: Theme, text: &[char]) -> Vec<Style> {
    let tags = [
        ("<think>", theme.dim()),
        ("</think>", theme.plain()),
        ("<answer>", theme.accent_strong()),
        ("</answer>", theme.plain()),
        ("<verdict>", theme.accent_strong()),
        ("</verdict>", theme.plain()),
    ];
    let mut styles = Vec::with_capacity(text.len());
    let mut inside = theme.plain();
    while styles.len() < text.len() {
        let rest = &text[styles.len()..];
        let begins = |tag: &str| {
            let mut rest = rest.iter();
            tag.chars().all(|expected| rest.next() == Some(&expected))
        };
        match tags.iter().find(|(tag, _)| begins(tag)) {
            Some((tag, style)) => {
                styles.extend(tag.chars().map(|_| theme.faint()));
                inside = *style;
            }
            None => styles.push(inside),
        }
    }
    styles
}
