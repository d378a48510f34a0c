//! Drawing: state and app into a buffer.
//!
//! ```text
//! ┌ header ──────────────────────────────────────────────┐
//! │ murmuration   1 Swarm  2 Rollouts  …                 │
//! │ ───────────────━━━━━━━─────────────────────────────── │
//! ├ body: one screen ────────────────────────────────────┤
//! │                                                      │
//! ├ transport, when a recording plays ───────────────────┤
//! ├ footer: keys that work here ─────────────────────────┤
//! └──────────────────────────────────────────────────────┘
//! ```

mod chrome;
mod help;
mod logs;
pub(crate) mod parts;
mod peers;
mod reputation;
mod rollouts;
mod stages;
mod swarm;
mod training;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};

use crate::app::{App, Screen};
use crate::source::Transport;
use crate::state::State;
use crate::text;

/// The smallest terminal that is drawn on; below, a notice says so.
pub const SMALLEST: (u16, u16) = (60, 18);

/// What is drawn.
#[derive(Debug)]
pub struct Scene<'a> {
    /// What is known.
    pub state: &'a State,
    /// The moment shown, in milliseconds since the epoch.
    pub now_ms: u64,
    /// Where a recording stands; `None` live.
    pub transport: Option<Transport>,
    /// Records that never reached the screen.
    pub skipped: u64,
    /// Whether the node is gone or has said it stops.
    pub over: bool,
}

/// Draws everything into `area`.
pub fn draw(app: &mut App, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        chrome::too_small(app.theme, area, buffer);
    } else {
        let transport = u16::from(scene.transport.is_some());
        let [header, body, player, footer] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Min(0),
            Constraint::Length(transport),
            Constraint::Length(1),
        ])
        .areas(area);
        chrome::header(app, scene, header, buffer);
        match app.screen {
            Screen::Swarm => swarm::draw(app, scene, body, buffer),
            Screen::Rollouts => rollouts::draw(app, scene, body, buffer),
            Screen::Training => training::draw(app, scene, body, buffer),
            Screen::Peers => peers::draw(app, scene, body, buffer),
            Screen::Reputation => reputation::draw(app, scene, body, buffer),
            Screen::Logs => logs::draw(app, scene, body, buffer),
        }
        chrome::transport(app.theme, scene, player, buffer);
        chrome::footer(app, scene, footer, buffer);
        if app.help.is_some() {
            help::draw(app, scene, area, buffer);
        }
        if app.leaving() {
            chrome::saving(app.theme, area, buffer);
        }
    }
    scrub(area, buffer);
}

/// The last line of defence: nothing unsafe leaves in a finished frame, even
/// if a screen forgot to clean what it shows.
fn scrub(area: Rect, buffer: &mut Buffer) {
    for position in area.intersection(buffer.area).positions() {
        let cell = &mut buffer[position];
        if let Some(bad) = cell
            .symbol()
            .chars()
            .find(|character| text::is_unsafe(*character))
        {
            cell.set_char(text::stand_in(bad));
        }
    }
}
