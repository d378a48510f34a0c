//! Where each local peer stands in its round.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use swarm_core::event::{EndedBy, Stage};
use swarm_core::ids::PeerId;

use crate::state::rounds::{Local, StageCell};
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{Column, below, heading, left, nothing, put, row, say};

const STAGES: [Column; 6] = [
    left("", 15),
    left("answer", 10),
    left("critique", 10),
    left("resolve", 10),
    left("judge", 10),
    left("train", 10),
];

pub(super) fn draw(
    theme: Theme,
    scene: &Scene<'_>,
    locals: &[Option<PeerId>],
    most: usize,
    area: Rect,
    buffer: &mut Buffer,
) {
    let extra = usize::from(area.width).saturating_sub(79);
    let mut columns = STAGES;
    columns[0].title = "peers here";
    for (index, column) in columns.iter_mut().enumerate() {
        column.width += if index == 0 {
            extra.min(8)
        } else {
            (extra.saturating_sub(8) / 5).min(6)
        };
    }
    put(buffer, area, 0, &heading(theme, &columns));
    if locals.is_empty() {
        nothing(theme, "no local peer yet", below(area, 1), buffer);
    }
    for (index, peer) in locals.iter().take(most).enumerate() {
        let mut cells = vec![say(scene.state.local_name(*peer), theme.plain())];
        let local = scene.state.locals.peers.get(peer);
        for (stage, column) in Stage::ALL.into_iter().zip(&columns[1..]) {
            let cell = stage_cell(theme, scene.now_ms, local, stage, column.width);
            cells.push(cell);
        }
        let line = row(false, theme, &columns, cells);
        put(buffer, area, 1 + index as u16, &line);
    }
    if locals.len() > most {
        let words = format!("  and {} more", locals.len() - most);
        put(
            buffer,
            area,
            1 + most as u16,
            &Line::styled(words, theme.dim()),
        );
    }
}

/// `✓ 8.1 s` when all were in, `◔ 3/4 in` when the deadline ended it,
/// `▸ 14 s` while it runs (with a meter where it fits), `·` before it begins.
fn stage_cell(
    theme: Theme,
    now_ms: u64,
    local: Option<&Local>,
    stage: Stage,
    width: usize,
) -> Span<'static> {
    let waiting = Span::styled("·", theme.faint());
    let cell = local.and_then(|local| Some((local.round, local.stages.get(&stage)?)));
    let Some((newest, cell)) = cell else {
        return waiting;
    };
    match cell.end {
        None => say(running(cell, newest, now_ms, width), theme.accent_strong()),
        Some(_) if cell.round != newest => waiting,
        Some(end) => match end.ended_by {
            EndedBy::AllIn => say(format!("✓ {}", text::span(end.took_ms)), theme.good()),
            EndedBy::Deadline if end.expected == 0 => {
                say(format!("◔ {}", text::span(end.took_ms)), theme.warn())
            }
            EndedBy::Deadline => say(format!("◔ {}/{} in", end.seen, end.expected), theme.warn()),
        },
    }
}

fn running(cell: &StageCell, newest: u64, now_ms: u64, width: usize) -> String {
    const METER: usize = 6;
    let since_ms = now_ms.saturating_sub(cell.started_ms);
    let since = text::seconds(since_ms);
    // Training may still belong to the round before.
    if cell.round != newest {
        return format!("▸ r{} {since}", cell.round);
    }
    let mut words = format!("▸ {since}");
    if width >= 10 + METER {
        let whole_ms = cell.deadline_ms.saturating_sub(cell.started_ms).max(1);
        let share = since_ms as f64 / whole_ms as f64;
        let filled = ((share * METER as f64) as usize).min(METER);
        let pad = " ".repeat(9_usize.saturating_sub(text::width(&words)));
        words.push_str(&format!(
            "{pad}{}{}",
            "━".repeat(filled),
            "─".repeat(METER - filled)
        ));
    }
    words
}
