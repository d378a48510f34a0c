//! Optimizer steps of the peers in this process, and who taught whom.

use std::collections::BTreeSet;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Span;
use swarm_core::ids::PeerId;

use crate::app::App;
use crate::state::training::Trainer;
use crate::text;
use crate::theme::Theme;

use super::Scene;
use super::parts::{
    Scale, below, heading, inset, left, nothing, put, right, row, say, section, small_chart,
};

pub(super) fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = app.theme;
    let area = inset(area, 1);
    let trainers: Vec<(Option<PeerId>, &Trainer)> = scene
        .state
        .training
        .peers
        .iter()
        .map(|(peer, trainer)| (*peer, trainer))
        .collect();
    if trainers.is_empty() {
        nothing(theme, "no peer here has trained yet", area, buffer);
        return;
    }
    let most = usize::from(area.height / 4).max(4);
    let rows = trainers.len().min(most) as u16;
    let gap = u16::from(area.height >= 30);
    let [table, _, charts, _, matrix] = Layout::vertical([
        Constraint::Length(1 + rows),
        Constraint::Length(gap),
        Constraint::Min(0),
        Constraint::Length(gap),
        Constraint::Length(2 + rows),
    ])
    .areas(area);
    draw_table(app, scene, &trainers, table, buffer);
    let (peer, trainer) = trainers[app.training.index];
    let title = scene.state.local_name(peer);
    draw_charts(theme, &title, trainer, charts, buffer);
    draw_matrix(app, scene, &trainers, matrix, buffer);
}

fn draw_table(
    app: &mut App,
    scene: &Scene<'_>,
    trainers: &[(Option<PeerId>, &Trainer)],
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = app.theme;
    let wide = area.width >= 110;
    let mut columns = vec![
        left("peer", 15),
        right("step", 5),
        right("loss", 7),
        right("entropy", 7),
        right("grad", 6),
        right("clipped", 7),
        left("groups", 7),
        right("held out", 8),
        right("took", 7),
    ];
    if wide {
        columns.extend([
            right("unused", 6),
            right("tokens", 7),
            right("KL", 6),
            left("saved as", 8),
        ]);
    }
    put(buffer, area, 0, &heading(theme, &columns));
    let area = below(area, 1);
    let page = usize::from(area.height);
    let top = app.training.settle(trainers.len(), page);
    for (offset, (peer, trainer)) in trainers.iter().skip(top).take(page).enumerate() {
        let last = &trainer.last;
        let groups = format!("{} + {}", last.local_groups, last.external_groups);
        let mut cells = vec![
            say(scene.state.local_name(*peer), theme.plain()),
            say(last.step.to_string(), theme.plain()),
            say(text::number(last.loss, 4), theme.plain()),
            say(text::number(last.entropy, 3), theme.plain()),
            say(text::number(last.grad_norm, 2), theme.plain()),
            say(text::share(last.clip_fraction), theme.plain()),
            say(groups, theme.plain()),
            match trainer.held_out_change {
                None => Span::styled("–", theme.faint()),
                Some(change) => say(format!("{:+.1}", 100.0 * change), theme.plain()),
            },
            say(text::span(last.took_ms), theme.plain()),
        ];
        if wide {
            let kl = last
                .kl
                .map_or_else(|| "off".to_owned(), |kl| text::number(kl, 4));
            let checkpoint = trainer
                .checkpoint
                .map_or_else(|| "–".to_owned(), |(_, _, hash)| hash.to_string());
            cells.extend([
                say(last.dropped_groups.to_string(), theme.plain()),
                say(text::count(u64::from(last.tokens)), theme.plain()),
                say(kl, theme.plain()),
                say(checkpoint, theme.plain()),
            ]);
        }
        let chosen = top + offset == app.training.index;
        let line = row(chosen, theme, &columns, cells);
        put(buffer, area, offset as u16, &line);
    }
}

fn draw_charts(theme: Theme, name: &str, trainer: &Trainer, area: Rect, buffer: &mut Buffer) {
    let title = format!("{} over its steps", text::fit(name, 24));
    let area = section(theme, &title, area, buffer);
    let fitted = Scale::Fitted;
    let charts = [
        ("loss", &trainer.loss, fitted),
        ("entropy", &trainer.entropy, fitted),
        ("reward", &trainer.reward, Scale::Share),
        ("gradient", &trainer.grad_norm, fitted),
        ("held out", &trainer.held_out, Scale::FittedShare),
        ("tokens", &trainer.tokens, fitted),
    ];
    // Three side by side; the rest below them where there is room.
    let rows = if area.height >= 14 { 2 } else { 1 };
    let bands = Layout::vertical(vec![Constraint::Fill(1); rows])
        .spacing(1)
        .split(area);
    for (index, (title, series, scale)) in charts.into_iter().take(rows * 3).enumerate() {
        let panels = Layout::horizontal([Constraint::Fill(1); 3])
            .spacing(3)
            .split(bands[index / 3]);
        small_chart(theme, title, series, scale, panels[index % 3], buffer);
    }
}

fn draw_matrix(
    app: &App,
    scene: &Scene<'_>,
    trainers: &[(Option<PeerId>, &Trainer)],
    area: Rect,
    buffer: &mut Buffer,
) {
    let theme = app.theme;
    let title = "Who taught whom: groups trained on, rows learn from columns";
    let area = section(theme, title, area, buffer);
    let mut teachers: BTreeSet<PeerId> = trainers.iter().filter_map(|(peer, _)| *peer).collect();
    for (_, trainer) in trainers {
        teachers.extend(trainer.taught_by.keys());
    }
    let room = usize::from(area.width).saturating_sub(19) / 14;
    let names: Vec<(PeerId, String)> = teachers
        .iter()
        .take(room)
        .map(|teacher| (*teacher, text::fit(&scene.state.name(*teacher), 12)))
        .collect();
    let mut columns = vec![left("", 15)];
    columns.extend(names.iter().map(|_| right("", 12)));
    let mut cells = vec![Span::raw("")];
    cells.extend(names.iter().map(|(_, name)| say(name, theme.dim())));
    put(buffer, area, 0, &row(false, theme, &columns, cells));
    let most = trainers
        .iter()
        .flat_map(|(_, trainer)| trainer.taught_by.values())
        .max()
        .copied()
        .unwrap_or(1)
        .max(1);
    let area = below(area, 1);
    let page = usize::from(area.height);
    let top = app
        .training
        .index
        .saturating_sub(page / 2)
        .min(trainers.len().saturating_sub(page));
    for (offset, (peer, trainer)) in trainers.iter().skip(top).take(page).enumerate() {
        let mut cells = vec![say(scene.state.local_name(*peer), theme.plain())];
        for (teacher, _) in &names {
            cells.push(if Some(*teacher) == *peer {
                say(
                    format!("own {}", text::count(trainer.own_groups)),
                    theme.dim(),
                )
            } else {
                match trainer.taught_by.get(teacher) {
                    None | Some(0) => Span::styled("·", theme.faint()),
                    Some(groups) if *groups * 2 >= most => {
                        say(text::count(*groups), theme.accent_strong())
                    }
                    Some(groups) => say(text::count(*groups), theme.plain()),
                }
            });
        }
        let chosen = top + offset == app.training.index;
        let line = row(chosen, theme, &columns, cells);
        put(buffer, area, offset as u16, &line);
    }
}
