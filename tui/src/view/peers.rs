//! Who is there, how they are reached, and what of theirs was refused.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

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
    draw_detail(theme, scene, peers[app.peers.index], detail, buffer);
}

fn draw_table(app: &mut App, scene: &Scene<'_>, peers: &[&Peer], area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let wide = area.width >= 110;
    let mut columns = vec![
        left("name", 15),
        left("key", 8),
        left("runs", 6),
        left("path", 8),
        right("rtt", 7),
        right("received", 8),
        left("last seen", 12),
    ];
    if wide {
        columns.extend([
            right("sent", 8),
            right("batches", 7),
            right("missed", 6),
            left("address", 8),
        ]);
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
        let mut cells = vec![
            say(scene.state.name(peer.id), theme.plain()),
            say(peer.id.to_string(), theme.dim()),
            say(place, style),
            say(link.map_or("–", |link| &link.path), theme.plain()),
            say(rtt.unwrap_or_else(|| "–".to_owned()), theme.plain()),
            say(text::bytes(received), theme.plain()),
            seen,
        ];
        if wide {
            let address = peer.address.map(|address| address.to_string());
            cells.extend([
                say(text::bytes(sent), theme.plain()),
                say(text::count(peer.batches), theme.plain()),
                say(text::count(peer.absences), theme.plain()),
                say(address.unwrap_or_else(|| "–".to_owned()), theme.dim()),
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
    for (observer, link) in &peer.links {
        let rtt = link
            .rtt_us
            .map_or_else(String::new, |us| format!(" {}", text::round_trip(us)));
        let words = format!(
            "{}{rtt}, sent {}, received {}",
            link.path,
            text::bytes(link.sent_bytes),
            text::bytes(link.received_bytes),
        );
        let from = text::fit(&state.local_name(*observer), 16);
        lines.push(field(theme, &format!("from {from}"), &words));
    }
    rejects(&mut lines, theme, "refused", &peer.rejects);
    if state.peers.unknown.total > 0 {
        rejects(
            &mut lines,
            theme,
            "refused, sender unknown",
            &state.peers.unknown,
        );
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
    say(format!("{label:<22} "), theme.dim())
}

fn field(theme: Theme, label: &str, value: &str) -> Line<'static> {
    Line::from(vec![label_span(theme, label), say(value, theme.plain())])
}
