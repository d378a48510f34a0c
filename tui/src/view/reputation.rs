//! Who contributed what, as the ledger has it, and what the words mean.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::state::peers::Peer;
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{
    bars, below, heading, inset, left, meter, nothing, put, right, row, say, section,
};

/// Rounds whose spread says how sure a score is.
const SPREAD_ROUNDS: usize = 16;

const LEGEND: [(&str, &str); 5] = [
    (
        "reputation",
        "what the ledger says a peer has contributed, over all settled rounds",
    ),
    (
        "score",
        "one round's contribution: useful answers, honest verdicts, answers improved; witnesses sign it",
    ),
    (
        "± ",
        "how far the newest rounds' scores leave the mean uncertain; – until there are three",
    ),
    (
        "reward",
        "what one completion earned, 0 to 100%; the parts and the why are on Rollouts (2)",
    ),
    (
        "verdict",
        "a critic's right or wrong on another's answer, weighed by how often it was right before",
    ),
];

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let width = usize::from(area.width);
    let legend = legend_lines(theme, width);
    let peers = scene.state.peers.ranked();
    let settled = settlement_lines(theme, scene);
    let [table, settlement, words] = Layout::vertical([
        Constraint::Min(0),
        Constraint::Length(1 + settled.len() as u16),
        Constraint::Length(1 + legend.len() as u16),
    ])
    .areas(area);
    if peers.is_empty() {
        nothing(theme, "nobody has been scored yet", table, buffer);
    } else {
        draw_table(app, scene, &peers, table, buffer);
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
    // The last line says why the chosen one has its score.
    let page = usize::from(area.height.saturating_sub(1));
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
    if let Some((round, newest)) = peers
        .get(app.reputation.index)
        .and_then(|peer| peer.row.as_ref())
    {
        let line = Line::from(vec![
            say(format!("  in round {round}: "), theme.dim()),
            say(&newest.why, theme.plain()),
        ]);
        let offset = peers.len().min(page) as u16;
        put(buffer, area, offset, &line);
    }
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
    for (word, meaning) in LEGEND {
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
