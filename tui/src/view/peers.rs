//! Who is there, how they are reached, and what of theirs was refused.

use std::collections::BTreeSet;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use swarm_core::ids::PeerId;

use crate::app::App;
use crate::state::peers::{Peer, Rejects};
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{below, heading, inset, left, nothing, put, right, row, say, section};

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let mut peers: Vec<&Peer> = scene.state.peers.rows.values().collect();
    // Those of this process first, then by key: rows do not jump about.
    peers.sort_by_key(|peer| (!peer.local, peer.id));
    if peers.is_empty() {
        nothing(theme, "no peer has been seen yet", area, buffer);
        return;
    }
    let rows = (peers.len() as u16).min(area.height / 2).max(1);
    let [table, _, detail] = Layout::vertical([
        Constraint::Length(1 + rows),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(area);
    draw_table(app, scene, &peers, table, buffer);
    let chosen = peers[app.peers.index];
    let observers = observers(&peers);
    // Round trips are a second thought: only where both fit.
    let trips = match observers.len() as u16 {
        rows if rows > 1 && area.height >= 30 => 2 + rows.min(10),
        _ => 0,
    };
    let [detail, trips] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(trips)]).areas(detail);
    draw_detail(theme, scene, chosen, detail, buffer);
    if trips.height > 0 {
        draw_trips(theme, scene, &peers, &observers, trips, buffer);
    }
}

fn draw_table(app: &mut App, scene: &Scene<'_>, peers: &[&Peer], area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let wide = area.width >= 110;
    let mut columns = vec![left("name", 15)];
    if wide {
        columns.push(left("key", 8));
    }
    columns.extend([
        left("runs", 6),
        left("path", 8),
        right("rtt", 7),
        right("received", 8),
        left("last seen", 12),
    ]);
    if wide {
        columns.extend([right("sent", 8), right("batches", 7), right("missed", 6)]);
    }
    columns.push(right("refused", 7));
    put(buffer, area, 0, &heading(theme, &columns));
    let area = below(area, 1);
    let page = usize::from(area.height);
    let top = app.peers.settle(peers.len(), page);
    for (offset, peer) in peers.iter().skip(top).take(page).enumerate() {
        let link = peer.best_link();
        let (sent, received) = peer.traffic();
        let rtt = link.and_then(|link| link.rtt_us).map(text::round_trip);
        let (place, style) = if peer.local {
            ("here", theme.accent())
        } else {
            ("remote", theme.second())
        };
        let missing = peer.last_absence > peer.last_stage;
        let seen = match (peer.last_stage, peer.last_absence) {
            (_, Some((round, stage))) if missing => {
                say(format!("✗ r{round} {}", stage.name()), theme.warn())
            }
            (Some((round, stage)), _) => say(format!("r{round} {}", stage.name()), theme.plain()),
            _ => Span::styled("–", theme.dim()),
        };
        let mut cells = vec![say(scene.state.name(peer.id), theme.plain())];
        if wide {
            cells.push(say(peer.id.to_string(), theme.dim()));
        }
        cells.extend([
            say(place, style),
            say(link.map_or("–", |link| &link.path), theme.plain()),
            say(rtt.unwrap_or_else(|| "–".to_owned()), theme.plain()),
            say(text::bytes(received), theme.plain()),
            seen,
        ]);
        if wide {
            cells.extend([
                say(text::bytes(sent), theme.plain()),
                say(text::count(peer.batches), theme.plain()),
                say(text::count(peer.absences), theme.plain()),
            ]);
        }
        cells.push(match peer.rejects.total {
            0 => Span::styled("0", theme.dim()),
            total => say(text::count(total), theme.bad()),
        });
        let chosen = top + offset == app.peers.index;
        let line = row(chosen, theme, &columns, cells);
        put(buffer, area, offset as u16, &line);
    }
}

fn draw_detail(theme: Theme, scene: &Scene<'_>, peer: &Peer, area: Rect, buffer: &mut Buffer) {
    let state = scene.state;
    let area = section(theme, &text::fit(&state.name(peer.id), 30), area, buffer);
    let width = usize::from(area.width);
    let mut lines = vec![field(theme, "key", &peer.id.to_hex())];
    if let Some(address) = peer.address {
        lines.push(field(theme, "address", &format!("0x{}", address.to_hex())));
    }
    let ago = scene.now_ms.saturating_sub(peer.last_ms);
    let mut heard = format!(
        "{} ago, {} batches",
        text::seconds(ago),
        text::count(peer.batches)
    );
    if let Some((round, stage)) = peer.last_absence {
        let times = text::count(peer.absences);
        let stage = stage.name();
        heard.push_str(&format!(
            ", missed {times} stages, last {stage} of round {round}"
        ));
    }
    lines.push(field(theme, "heard", &heard));
    if !peer.found_by.is_empty() {
        let ways: Vec<&str> = peer.found_by.iter().map(String::as_str).collect();
        lines.push(field(theme, "found by", &ways.join(", ")));
    }
    for (observer, link) in &peer.links {
        let rtt = link
            .rtt_us
            .map_or_else(String::new, |us| format!(" {}", text::round_trip(us)));
        let words = format!(
            "from {}: {}{rtt}, sent {}, received {}",
            text::fit(&state.local_name(*observer), 16),
            link.path,
            text::bytes(link.sent_bytes),
            text::bytes(link.received_bytes),
        );
        lines.push(field(theme, "reached", &words));
    }
    if let Some(standing) = peer.standing {
        let words = format!(
            "{} after {} settled rounds",
            text::ppm(standing.score_ppm),
            text::count(standing.rounds)
        );
        lines.push(field(theme, "reputation", &words));
    }
    if let Some(words) = taught(scene, peer) {
        lines.push(field(theme, "taught", &words));
    }
    rejects(&mut lines, theme, "refused", &peer.rejects);
    if state.peers.unknown.total > 0 {
        rejects(&mut lines, theme, "of unknown", &state.peers.unknown);
    }
    if let Some(started) = &state.started
        && !started.ticket.is_empty()
    {
        lines.push(Line::default());
        lines.push(Line::styled(
            "To join from another terminal: murmur run --peers 1 --join with this ticket",
            theme.dim(),
        ));
        for line in text::wrap(&started.ticket, width) {
            lines.push(Line::from(say(line, theme.plain())));
        }
    }
    for (offset, line) in lines.iter().enumerate() {
        put(buffer, area, offset as u16, line);
    }
}

/// Local peers that measure how they reach others.
fn observers(peers: &[&Peer]) -> BTreeSet<PeerId> {
    let links = peers.iter().flat_map(|peer| peer.links.keys());
    links.filter_map(|observer| *observer).collect()
}

fn draw_trips(
    theme: Theme,
    scene: &Scene<'_>,
    peers: &[&Peer],
    observers: &BTreeSet<PeerId>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let area = section(theme, "Round trips, from rows to columns", area, buffer);
    let room = usize::from(area.width).saturating_sub(19) / 14;
    let shown = &peers[..peers.len().min(room)];
    let mut columns = vec![left("", 15)];
    columns.extend(shown.iter().map(|_| right("", 12)));
    let mut cells = vec![Span::raw("")];
    cells.extend(
        shown
            .iter()
            .map(|peer| say(scene.state.name(peer.id), theme.dim())),
    );
    put(buffer, area, 0, &row(false, theme, &columns, cells));
    for (index, observer) in observers.iter().enumerate() {
        let mut cells = vec![say(scene.state.name(*observer), theme.plain())];
        for peer in shown {
            let link = peer.links.get(&Some(*observer));
            cells.push(match link.map(|link| link.rtt_us) {
                Some(Some(us)) => say(text::round_trip(us), theme.plain()),
                Some(None) => Span::styled("?", theme.dim()),
                None => Span::styled("·", theme.faint()),
            });
        }
        let line = row(false, theme, &columns, cells);
        put(buffer, area, 1 + index as u16, &line);
    }
}

/// Who here trained on this peer's rollouts.
fn taught(scene: &Scene<'_>, peer: &Peer) -> Option<String> {
    let learners: Vec<String> = scene
        .state
        .training
        .peers
        .iter()
        .filter_map(|(learner, trainer)| {
            let groups = trainer.taught_by.get(&peer.id)?;
            let learner = text::fit(&scene.state.local_name(*learner), 16);
            Some(format!("{learner} {}", text::count(*groups)))
        })
        .collect();
    (!learners.is_empty()).then(|| format!("{} groups", learners.join(", ")))
}

fn rejects(lines: &mut Vec<Line<'static>>, theme: Theme, label: &str, rejects: &Rejects) {
    if rejects.total == 0 {
        lines.push(field(theme, label, "nothing"));
        return;
    }
    let mut reasons: Vec<(&String, &u64)> = rejects.by_reason.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{reason} {}", text::count(*count)))
        .collect();
    lines.push(Line::from(vec![
        label_span(theme, label),
        say(words.join(", "), theme.bad()),
    ]));
    if let Some((reason, detail)) = &rejects.last {
        lines.push(field(theme, "newest", &format!("{reason}: {detail}")));
    }
}

fn label_span(theme: Theme, label: &str) -> Span<'static> {
    say(format!("{label:<11} "), theme.dim())
}

fn field(theme: Theme, label: &str, value: &str) -> Line<'static> {
    Line::from(vec![label_span(theme, label), say(value, theme.plain())])
}
