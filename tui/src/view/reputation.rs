//! Who contributed what, as the ledger has it, and what the words mean.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::state::peers::Peer;
use crate::text;
use crate::theme::Theme;
use swarm_core::words::word;

use super::Scene;
use super::parts::{
    Curve, Scale, bars, below, chart, heading, inset, left, meter, nothing, put, right, row, say,
    section,
};

/// Newest rounds over which `±` is the standard error of the mean score.
const SPREAD_ROUNDS: usize = 16;

/// The words that this screen uses, of those that are defined for all.
const LEGEND: [&str; 5] = ["reputation", "score", "reward", "right", "verdict"];

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let width = usize::from(area.width);
    let legend = legend_lines(theme, width);
    let peers = scene.state.peers.ranked();
    let settled = settlement_lines(theme, scene);
    // The chosen peer's why takes two lines, its curves the rest.
    let rows = (peers.len() as u16).clamp(1, (area.height / 3).max(4));
    let gap = u16::from(area.height >= 30);
    let [table, _, chosen, _, settlement, _, words] = Layout::vertical([
        Constraint::Length(1 + rows),
        Constraint::Length(gap),
        Constraint::Min(0),
        Constraint::Length(gap),
        Constraint::Length(1 + settled.len() as u16),
        Constraint::Length(gap),
        Constraint::Length(1 + legend.len() as u16),
    ])
    .areas(area);
    if peers.is_empty() {
        nothing(theme, "nobody has been scored yet", table, buffer);
    } else {
        draw_table(app, scene, &peers, table, buffer);
        let peer = peers[app.reputation.index];
        let title = text::fit(&scene.state.name(peer.id), 30);
        let chosen = section(theme, &title, chosen, buffer);
        draw_chosen(theme, peer, chosen, buffer);
    }
    let settlement = section(theme, "Newest settlement", settlement, buffer);
    for (offset, line) in settled.iter().enumerate() {
        put(buffer, settlement, offset as u16, line);
    }
    let words = section(theme, "What the words mean", words, buffer);
    for (offset, line) in legend.iter().enumerate() {
        put(buffer, words, offset as u16, line);
    }
}

fn draw_table(app: &mut App, scene: &Scene<'_>, peers: &[&Peer], area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let wide = area.width >= 110;
    let trend = if wide { 24 } else { 12 };
    let mut columns = vec![right("#", 2), left("peer", 15), right("reputation", 10)];
    if wide {
        columns.push(left("", 12));
    }
    columns.extend([
        right("rounds", 6),
        right("score", 6),
        right("±", 5),
        left("score each round", trend.max(16)),
    ]);
    if wide {
        columns.extend([right("reward", 6), right("right", 6)]);
    }
    put(buffer, area, 0, &heading(theme, &columns));
    let area = below(area, 1);
    let page = usize::from(area.height);
    let top = app.reputation.settle(peers.len(), page);
    for (offset, peer) in peers.iter().skip(top).take(page).enumerate() {
        let rank = (top + offset + 1).to_string();
        let standing = peer.standing;
        let dash = || "–".to_owned();
        let score = standing.map_or_else(dash, |standing| text::ppm(standing.score_ppm));
        let rounds = standing.map_or_else(dash, |standing| text::count(standing.rounds));
        let newest = peer.row.as_ref().map(|(_, row)| row);
        let mut cells = vec![
            say(rank, theme.dim()),
            say(scene.state.name(peer.id), theme.plain()),
            say(score, theme.accent_strong()),
        ];
        if wide {
            let share = standing.map_or(0.0, |standing| text::fraction(standing.score_ppm));
            let [filled, rest] = meter(theme, share, 12, theme.accent());
            // A table cell is one span; the meter's two parts share it.
            let cell = format!("{}{}", filled.content, rest.content);
            cells.push(Span::styled(cell, theme.accent()));
        }
        cells.extend([
            say(rounds, theme.plain()),
            say(
                newest.map_or_else(dash, |row| text::ppm(row.score_ppm)),
                theme.plain(),
            ),
            say(spread(peer).unwrap_or_else(dash), theme.dim()),
            say(bars(&peer.contribution.tail(trend)), theme.accent()),
        ]);
        if wide {
            cells.extend([
                say(
                    newest.map_or_else(dash, |row| text::ppm(row.reward_ppm)),
                    theme.plain(),
                ),
                say(
                    newest.map_or_else(dash, |row| text::ppm(row.accuracy_ppm)),
                    theme.plain(),
                ),
            ]);
        }
        let chosen = top + offset == app.reputation.index;
        let line = row(chosen, theme, &columns, cells);
        put(buffer, area, offset as u16, &line);
    }
}

/// Why the chosen peer has its score, and both curves where there is room.
fn draw_chosen(theme: Theme, peer: &Peer, area: Rect, buffer: &mut Buffer) {
    let Some((round, newest)) = &peer.row else {
        return;
    };
    let label = format!("round {round}  ");
    let indent = label.len();
    let why = text::wrap(&newest.why, usize::from(area.width).saturating_sub(indent));
    let lines = why.len() as u16;
    for (index, why) in why.into_iter().enumerate() {
        let label = if index == 0 { label.as_str() } else { "" };
        let line = Line::from(vec![
            say(format!("{label:<indent$}"), theme.dim()),
            say(why, theme.plain()),
        ]);
        put(buffer, area, index as u16, &line);
    }
    let area = below(area, lines + 1);
    if area.height < 7 {
        return;
    }
    let title = Line::from(vec![
        Span::styled("⠒⠒", theme.accent()),
        Span::styled(" score each round  ", theme.dim()),
        Span::styled("••", theme.second()),
        Span::styled(" reputation", theme.dim()),
    ]);
    put(buffer, area, 0, &title);
    let curves = [
        Curve {
            series: &peer.contribution,
            style: theme.accent(),
            points: false,
        },
        Curve {
            series: &peer.reputation,
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

/// The standard error of the newest rounds' scores, in percentage points.
fn spread(peer: &Peer) -> Option<String> {
    let scores = peer.contribution.tail(SPREAD_ROUNDS);
    if scores.len() < 3 {
        return None;
    }
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    Some(format!("{:.1}", 100.0 * error))
}

fn settlement_lines(theme: Theme, scene: &Scene<'_>) -> Vec<Line<'static>> {
    let state = scene.state;
    let mut lines = Vec::new();
    match &state.settlements.last {
        None => lines.push(Line::styled("no round has settled yet", theme.dim())),
        Some((round, last)) => {
            let ago = text::seconds(scene.now_ms.saturating_sub(last.at_ms));
            lines.push(Line::from(vec![
                Span::styled("round ", theme.dim()),
                say(round.to_string(), theme.strong()),
                Span::styled("  block ", theme.dim()),
                say(text::count(last.block), theme.plain()),
                Span::styled("  gas ", theme.dim()),
                say(text::count(last.gas), theme.plain()),
                Span::styled("  relayed by ", theme.dim()),
                say(last.relayer.to_string(), theme.plain()),
                say(format!("  {ago} ago"), theme.dim()),
            ]));
            lines.push(Line::from(vec![
                Span::styled("tx ", theme.dim()),
                say(format!("0x{}", last.tx.to_hex()), theme.plain()),
            ]));
        }
    }
    let newest = state.settlements.rows.iter().next_back();
    if let Some((round, row)) = newest
        && let Some(why) = &row.why_not
    {
        lines.push(Line::from(vec![
            say(format!("round {round} is not settled: "), theme.warn()),
            say(why, theme.plain()),
        ]));
    }
    lines
}

fn legend_lines(theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for word in LEGEND.into_iter().filter_map(word) {
        let (word, meaning) = (word.name, word.meaning);
        let wrapped = text::wrap(meaning, width.saturating_sub(12));
        for (index, meaning) in wrapped.into_iter().enumerate() {
            let word = if index == 0 { word } else { "" };
            lines.push(Line::from(vec![
                say(format!("{word:<12}"), theme.accent()),
                say(meaning, theme.dim()),
            ]));
        }
    }
    lines
}
