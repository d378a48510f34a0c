//! The event loop: records and keys in, frames out.
//!
//! Generic over the backend, the input, the source and the clock, so that
//! tests drive it without a terminal and without waiting.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossterm::event::Event;
use ratatui::Terminal;
use ratatui::backend::Backend;
use swarm_core::event::Record;

use crate::app::{App, Command};
use crate::replay::Player;
use crate::source::{Live, Records, Source};
use crate::terminal::{Guard, Input, TerminalInput};
use crate::theme::Theme;
use crate::view::{self, Scene};

/// The time between two frames: twenty a second look alive and cost little.
const FRAME: Duration = Duration::from_millis(50);
/// Key presses taken for one frame: a paste or a held key must not starve it.
const KEYS_PER_FRAME: usize = 64;

/// Why the screens ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The terminal could not be set up or read.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] io::Error),
    /// A frame could not be written.
    #[error("cannot draw to the terminal: {0}")]
    Draw(String),
    /// The recording holds nothing to show.
    #[error("no events to replay{}", problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default())]
    Empty {
        /// The first thing that was wrong with it, if anything.
        problem: Option<String>,
    },
}

/// Milliseconds since the Unix epoch.
pub fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Shows a running node on this terminal until the user leaves. `stop` is
/// called once, when they want to; the screen says so and stays until the node
/// emits [`Stopped`](swarm_core::event::Event::Stopped) or drops its feed.
pub fn live(records: impl Into<Records>, stop: impl FnOnce()) -> Result<(), Error> {
    on_terminal(&mut Live::new(records.into(), stop))
}

/// Like [`live`], beginning with the records of an earlier run.
pub fn resume(
    history: Vec<Record>,
    records: impl Into<Records>,
    stop: impl FnOnce(),
) -> Result<(), Error> {
    on_terminal(&mut Live::new(records.into(), stop).after(history))
}

/// Replays a recording on this terminal until the user leaves. `problems` are
/// those of [`read_events`](crate::replay::read_events).
pub fn replay(records: Vec<Record>, problems: Vec<String>) -> Result<(), Error> {
    if records.is_empty() {
        let problem = problems.into_iter().next();
        return Err(Error::Empty { problem });
    }
    on_terminal(&mut Player::new(records, problems))
}

fn on_terminal(source: &mut impl Source) -> Result<(), Error> {
    let (guard, mut terminal) = Guard::take()?;
    let mut app = App::new(Theme::from_environment());
    let result = run(
        &mut terminal,
        &mut TerminalInput,
        source,
        &mut app,
        wall_clock,
    );
    drop(guard);
    result
}

/// Runs the loop until the user has left. `clock` gives the time of day in
/// milliseconds since the epoch.
pub fn run<B, I, S>(
    terminal: &mut Terminal<B>,
    input: &mut I,
    source: &mut S,
    app: &mut App,
    mut clock: impl FnMut() -> u64,
) -> Result<(), Error>
where
    B: Backend,
    I: Input,
    S: Source,
{
    let mut stale = true;
    let mut drawn_second = None;
    loop {
        let wall_ms = clock();
        stale |= source.advance(wall_ms);
        let shown_ms = source.shown_ms(wall_ms);
        // Countdowns move by whole seconds.
        stale |= drawn_second != Some(shown_ms / 1000);
        if stale {
            let scene = Scene {
                state: source.state(),
                now_ms: shown_ms,
                transport: source.transport(),
                skipped: source.skipped(),
                over: source.over(),
            };
            terminal
                .draw(|frame| view::draw(app, &scene, frame.area(), frame.buffer_mut()))
                .map_err(|error| Error::Draw(error.to_string()))?;
            stale = false;
            drawn_second = Some(shown_ms / 1000);
        }
        if app.leaving() && source.left() {
            return Ok(());
        }
        let mut wait = FRAME;
        for _ in 0..KEYS_PER_FRAME {
            let Some(event) = input.next(wait)? else {
                break;
            };
            wait = Duration::ZERO;
            stale = true;
            let Event::Key(key) = event else {
                // Resizes need no more than the next frame.
                continue;
            };
            match app.key(key, source.state(), source.transport().is_some()) {
                None => {}
                Some(Command::Leave) => source.leave(),
                Some(Command::LeaveNow) => {
                    source.leave();
                    return Ok(());
                }
                Some(Command::Control(control)) => source.control(control, clock()),
                Some(Command::Redraw) => terminal
                    .clear()
                    .map_err(|error| Error::Draw(error.to_string()))?,
            }
        }
    }
}
