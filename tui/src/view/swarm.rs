//! The first screen: where the round stands, whether the swarm learns, and
//! what is settled.
//!
//! ```text
//! round, beacon, witnesses, what is asked where that moves
//! stages of each local peer
//! accuracy over rounds    │ held-out before → now, rounds first → last
//! (charts where there is room)
//! chain and settlement
//! ```

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use swarm_core::event::{BeaconSource, CourseView};

use crate::app::App;
use crate::state::Asked;
use crate::state::series::Series;
use crate::text;
use crate::theme::Theme;

use super::parts::{
    Column, Curve, Scale, below, chart, heading, inset, left, put, put_right, right, row, say,
    section, small_chart, spark,
};
use super::{Scene, stages};

/// From this height on, there is room for more than the essentials.
const ROOMY: u16 = 30;

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let roomy = area.height >= ROOMY;
    let locals = scene.state.local_peers();
    let most = if roomy { 10 } else { 4 };
    let rows = (locals.len().clamp(1, most) + usize::from(locals.len() > most)) as u16;
    let gap = u16::from(roomy);
    let settlement = if roomy { 7 } else { 2 };
    let asked = scene.state.asked.as_ref().filter(|asked| asked.moves());
    let [round, _, stages, _, learning, _, chain] = Layout::vertical([
        Constraint::Length(2 + u16::from(asked.is_some())),
        Constraint::Length(gap),
        Constraint::Length(1 + rows),
        Constraint::Length(gap),
        Constraint::Min(0),
        Constraint::Length(gap),
        Constraint::Length(settlement),
    ])
    .areas(area);
    draw_round(theme, scene, round, buffer);
    if let Some(asked) = asked {
        draw_asked(theme, asked, round, buffer);
    }
    stages::draw(theme, scene, &locals, most, stages, buffer);
    draw_learning(theme, scene, roomy, learning, buffer);
    draw_chain(theme, scene, roomy, chain, buffer);
}

fn draw_round(theme: Theme, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let Some(current) = &state.round else {
        let words = if state.started.is_some() {
            "the first round has not opened yet"
        } else {
            "waiting for the node"
        };
        put(buffer, area, 0, &Line::styled(words, theme.dim()));
        return;
    };
    let mut line = vec![
        say(format!("Round {}", current.round), theme.strong()),
        Span::raw("   "),
    ];
    if let Some((stage, deadline_ms)) = state.locals.stage() {
        line.push(say(format!("▸ {}", stage.name()), theme.accent_strong()));
        let left_ms = deadline_ms.saturating_sub(scene.now_ms);
        if left_ms >= 1_000 {
            let left = text::seconds(left_ms);
            line.push(say(format!("  at most {left} left"), theme.dim()));
        }
    }
    put(buffer, area, 0, &Line::from(line));
    let source = match current.source {
        BeaconSource::Chain => "beacon from the chain ",
        BeaconSource::Offline => "offline beacon, settles nothing ",
    };
    let beacon = Line::from(vec![
        Span::styled(source, theme.dim()),
        say(current.beacon.to_string(), theme.plain()),
    ]);
    put_right(buffer, area, 0, &beacon);

    let mut line = vec![Span::styled("witnesses  ", theme.dim())];
    for (witness, agrees) in &current.witnesses {
        let (mark, style) = match agrees {
            Some(true) => ("✓ ", theme.good()),
            Some(false) => ("✗ ", theme.bad()),
            None => ("· ", theme.dim()),
        };
        line.push(Span::styled(mark, style));
        line.push(say(text::fit(&state.name(*witness), 16), theme.plain()));
        line.push(Span::raw("  "));
    }
    if current.witnesses.is_empty() {
        line.push(Span::styled("none elected", theme.dim()));
    }
    if current.needed > 0 {
        let (signed, needed) = (current.signatures, current.needed);
        let style = if signed >= needed {
            theme.good()
        } else {
            theme.dim()
        };
        let words = format!("{signed} signed, {needed} settle it");
        let room = usize::from(area.width).saturating_sub(words.len());
        let mut used = 0;
        line.retain(|span| {
            used += span.width();
            used < room
        });
        put_right(buffer, area, 1, &Line::from(say(words, style)));
    }
    put(buffer, area, 1, &Line::from(line));
}

/// Levels as they stand, and the share of right answers that each follows:
/// what moved comes first.
fn draw_asked(theme: Theme, asked: &Asked, area: Rect, buffer: &mut Buffer) {
    let mut line = vec![Span::styled("asked  ", theme.dim())];
    if asked.amendment > 0 {
        let words = format!("amendment {}  ", asked.amendment);
        line.push(say(words, theme.accent_strong()));
    }
    let mut courses: Vec<&CourseView> = asked.courses.iter().collect();
    courses.sort_by_key(|course| (course.from.is_none(), course.here));
    let used: usize = line.iter().map(Span::width).sum();
    let mut room = usize::from(area.width).saturating_sub(used);
    for (shown, course) in courses.iter().enumerate() {
        let mark = match course.from {
            Some(from) if from < course.level => "↑",
            Some(_) => "↓",
            None => "",
        };
        let rate = course.rate_ppm.map_or_else(String::new, |rate| {
            format!(" {}", text::share(text::fraction(rate)))
        });
        let lacking = if course.here { "" } else { " (not here)" };
        let name = text::fit(&course.env, 20);
        let level = course.level;
        let words = format!("{name} {level}{mark}{rate}{lacking}   ");
        let more = format!("{} more", courses.len() - shown);
        let width = text::width(&words);
        if width + more.len() > room {
            line.push(Span::styled(more, theme.dim()));
            break;
        }
        room -= width;
        let style = match course.from {
            Some(_) => theme.accent_strong(),
            None => theme.plain(),
        };
        line.push(say(words, style));
    }
    put(buffer, area, 2, &Line::from(line));
}

fn draw_learning(theme: Theme, scene: &Scene<'_>, roomy: bool, area: Rect, buffer: &mut Buffer) {
    let area = section(theme, "Is it learning?", area, buffer);
    let side = if area.width >= 100 { 50 } else { 39 };
    let [charts, _, numbers] = Layout::horizontal([
        Constraint::Min(0),
        Constraint::Length(2),
        Constraint::Length(side),
    ])
    .areas(area);
    let small = if roomy { charts.height / 3 } else { 0 };
    let [main, _, minis] = Layout::vertical([
        Constraint::Min(0),
        Constraint::Length(u16::from(roomy)),
        Constraint::Length(small),
    ])
    .areas(charts);
    draw_accuracy(theme, scene, main, buffer);
    if small > 0 {
        let learning = &scene.state.learning;
        let panels: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3])
            .spacing(2)
            .areas(minis);
        let curves = [
            ("reward", &learning.reward),
            ("well formed", &learning.format_rate),
            ("verdicts", &learning.judge_accuracy),
        ];
        for ((title, series), panel) in curves.into_iter().zip(panels) {
            small_chart(theme, title, series, Scale::Share, panel, buffer);
        }
    }
    draw_numbers(theme, scene, numbers, buffer);
}

fn draw_accuracy(theme: Theme, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let title = Line::from(vec![
        Span::styled("⠒⠒", theme.accent()),
        Span::styled(" answers right  ", theme.dim()),
        Span::styled("••", theme.second()),
        Span::styled(" held out", theme.dim()),
    ]);
    put(buffer, area, 0, &title);
    let curves = [
        Curve {
            series: &state.learning.accuracy,
            style: theme.accent(),
            points: false,
        },
        Curve {
            series: &state.evaluations.sampled,
            style: theme.second(),
            points: true,
        },
    ];
    chart(
        theme,
        &curves,
        Scale::Share,
        "round",
        below(area, 1),
        buffer,
    );
}

fn draw_numbers(theme: Theme, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let wide = area.width >= 50;
    let columns = [
        left("held out", if wide { 22 } else { 11 }),
        right("before", 6),
        right("now", 6),
        left("change", 8),
    ];
    let before = state.evaluations.before();
    let now = state.evaluations.now();
    let mut lines = vec![heading(theme, &columns)];
    let get = |of: fn(&swarm_core::event::EvalReport) -> Option<f64>| {
        let before = before.as_ref().and_then(|(_, report)| of(report));
        (before, now.as_ref().and_then(|(_, report)| of(report)))
    };
    for (label, (before, now)) in [
        ("greedy", get(|report| Some(report.greedy))),
        ("sampled", get(|report| Some(report.sampled))),
        ("well formed", get(|report| Some(report.format_rate))),
        ("verdicts", get(|report| report.verdicts)),
        ("resolved", get(|report| report.resolved)),
    ] {
        lines.push(change_row(theme, &columns, label, before, now));
    }
    if area.height >= 16 {
        lines.push(Line::default());
    }
    let columns = [
        left("each round", if wide { 22 } else { 11 }),
        right("first", 6),
        right("last", 6),
        left("trend", if wide { 12 } else { 8 }),
    ];
    lines.push(heading(theme, &columns));
    let learning = &state.learning;
    for (label, series) in [
        ("right", &learning.accuracy),
        ("reward", &learning.reward),
        ("well formed", &learning.format_rate),
        ("verdicts", &learning.judge_accuracy),
        ("resolved", &learning.resolve_accuracy),
    ] {
        lines.push(trend_row(theme, &columns, label, series));
    }
    if !learning.critics_say.is_empty() {
        lines.push(trend_row(
            theme,
            &columns,
            "critics say",
            &learning.critics_say,
        ));
        lines.push(trend_row(
            theme,
            &columns,
            "of it right",
            &learning.critics_verified,
        ));
    }
    // Two environments a line, where there is room for at least a few.
    let room = usize::from(area.height).saturating_sub(lines.len() + 2);
    if let Some((_, before)) = &before
        && wide
        && room >= 3
        && !before.tasks.is_empty()
    {
        let words = "  by task, sampled: % before → now";
        lines.push(Line::default());
        lines.push(Line::styled(words, theme.dim()));
        let tasks: Vec<_> = before.tasks.iter().take(2 * room).collect();
        let rows = tasks.len().div_ceil(2);
        for row in 0..rows {
            let mut spans = Vec::new();
            for (name, task) in [row, row + rows].into_iter().filter_map(|at| tasks.get(at)) {
                let now = now.as_ref().and_then(|(_, now)| now.tasks.get(*name));
                spans.extend(task_spans(
                    theme,
                    name,
                    task.sampled,
                    now.map(|task| task.sampled),
                ));
            }
            lines.push(Line::from(spans));
        }
    }
    for (index, line) in lines.iter().enumerate() {
        put(buffer, area, index as u16, line);
    }
}

/// `  add        52.1 → 76.2`
fn task_spans(theme: Theme, name: &str, before: f64, now: Option<f64>) -> [Span<'static>; 5] {
    let percent = |share: f64| text::number(100.0 * share, 1);
    let name = text::fit(name, 8);
    let pad = 8_usize.saturating_sub(text::width(&name));
    let (now, style) = match now {
        Some(now) if now > before => (percent(now), theme.good()),
        Some(now) => (percent(now), theme.plain()),
        None => ("–".to_owned(), theme.dim()),
    };
    [
        say(format!("  {name}"), theme.plain()),
        say(
            format!("{}{:>5}", " ".repeat(pad), percent(before)),
            theme.dim(),
        ),
        Span::styled(" → ", theme.dim()),
        say(format!("{now:<5}"), style),
        Span::raw(" "),
    ]
}

fn change_row(
    theme: Theme,
    columns: &[Column],
    label: &str,
    before: Option<f64>,
    now: Option<f64>,
) -> Line<'static> {
    let change = match (before, now) {
        (Some(before), Some(now)) => {
            let style = match now - before {
                gain if gain >= 0.0005 => theme.good(),
                gain if gain <= -0.0005 => theme.bad(),
                _ => theme.dim(),
            };
            say(text::change(before, now), style)
        }
        _ => Span::styled("", theme.dim()),
    };
    let show = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), text::share);
    let cells = vec![
        say(label, theme.plain()),
        say(show(before), theme.plain()),
        say(show(now), theme.strong()),
        change,
    ];
    row(false, theme, columns, cells)
}

fn trend_row(theme: Theme, columns: &[Column], label: &str, series: &Series) -> Line<'static> {
    let show = |point: Option<(u64, f64)>| {
        point.map_or_else(|| "–".to_owned(), |(_, value)| text::share(value))
    };
    let cells = vec![
        say(label, theme.plain()),
        say(show(series.first()), theme.plain()),
        say(show(series.last()), theme.strong()),
        say(spark(series, columns[3].width), theme.accent()),
    ];
    row(false, theme, columns, cells)
}

fn draw_chain(theme: Theme, scene: &Scene<'_>, roomy: bool, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let settlements = &state.settlements;
    let area = section(theme, "Settled", area, buffer);
    let mut spans = match state.started.as_ref().map(|started| &started.chain) {
        None => vec![Span::styled("waiting for the node", theme.dim())],
        Some(None) => vec![Span::styled("offline: nothing settles", theme.warn())],
        Some(Some(chain)) => {
            let kind = if chain.devnet { "devnet" } else { "chain" };
            vec![
                Span::styled(format!("{kind} "), theme.dim()),
                Span::raw(chain.chain_id.to_string()),
                Span::styled("  rounds ", theme.dim()),
                say(format!("{}", settlements.settled), theme.strong()),
                Span::styled(" of ", theme.dim()),
                Span::raw(settlements.ended.max(settlements.settled).to_string()),
            ]
        }
    };
    if let Some((round, last)) = &settlements.last {
        spans.extend([
            Span::styled("  newest ", theme.dim()),
            say(format!("r{round}"), theme.plain()),
            Span::styled("  block ", theme.dim()),
            Span::raw(text::count(last.block)),
            Span::styled("  gas ", theme.dim()),
            Span::raw(text::count(last.gas)),
            Span::styled("  tx ", theme.dim()),
            Span::raw(last.tx.to_string()),
        ]);
    }
    put(buffer, area, 0, &Line::from(spans));
    if !roomy {
        return;
    }
    let columns = [
        right("round", 5),
        left("state", 24),
        right("signed", 6),
        right("block", 9),
        right("gas", 10),
        left("transaction", 11),
        left("relayed by", 11),
        right("took", 8),
    ];
    put(buffer, area, 1, &heading(theme, &columns));
    let rows = settlements.rows.iter().rev();
    for (index, (round, settlement)) in rows
        .take(usize::from(area.height.saturating_sub(2)))
        .enumerate()
    {
        let word = match (&settlement.settled, &settlement.why_not) {
            (Some(_), _) => say("✓ settled", theme.good()),
            (None, Some(why)) => say(format!("✗ {why}"), theme.warn()),
            (None, None) => say("… under way", theme.dim()),
        };
        let settled = settlement.settled;
        let show = |of: fn(&crate::state::rounds::Settlement) -> String| {
            say(settled.as_ref().map(of).unwrap_or_default(), theme.plain())
        };
        let signed = format!("{}/{}", settlement.signatures, settlement.needed);
        let took = settlement
            .summary
            .as_ref()
            .map(|summary| format!("{} s", text::number(summary.wall_s, 1)));
        let cells = vec![
            say(round.to_string(), theme.plain()),
            word,
            say(signed, theme.plain()),
            show(|settled| text::count(settled.block)),
            show(|settled| text::count(settled.gas)),
            show(|settled| settled.tx.to_string()),
            show(|settled| settled.relayer.to_string()),
            say(took.unwrap_or_default(), theme.plain()),
        ];
        put(
            buffer,
            area,
            2 + index as u16,
            &row(false, theme, &columns, cells),
        );
    }
}
