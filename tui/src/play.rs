//! One environment, played by a person: an item, an answer, what it is worth
//! and why.
//!
//! ```text
//! │ name version                            level, item  │
//! │ ── what is asked ─────────────────────────────────── │
//! │ ── your answer ───────────────────────────────────── │
//! │ ── what it is worth ──────────────────────────────── │
//! │ keys                                                 │
//! ```

use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::Backend;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use crate::driver::Error;
use crate::terminal::{Guard, Input, TerminalInput};
use crate::text;
use crate::theme::Theme;
use crate::view::parts::{inset, meter, put, put_right, say, section};

/// The longest answer that can be typed, in bytes.
const MAX_ANSWER: usize = 4_096;
/// How long a key is waited for at a time; nothing moves by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// An item as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The environment.
    pub title: String,
    /// Level and item.
    pub place: String,
    /// What the level's questions are.
    pub meaning: String,
    /// Who says what.
    pub prompt: Vec<(String, String)>,
}

/// What an answer is worth, or what is said in return.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// `ok`, `noanswer`, `invalid` or `unscored`; empty while an episode goes on.
    pub status: String,
    /// The reward in ppm.
    pub reward_ppm: u32,
    /// Its parts in ppm.
    pub parts: Vec<(String, u32)>,
    /// The reason.
    pub why: String,
    /// What the environment says next.
    pub said: Vec<String>,
}

/// What is played.
pub trait Game {
    /// The item to begin with.
    fn first(&mut self) -> Shown;
    /// The item after this one.
    fn next(&mut self) -> Shown;
    /// The same item a level up or down.
    fn level(&mut self, up: bool) -> Shown;
    /// What a text is worth: an answer, or a whole completion with its tags.
    fn answer(&mut self, text: &str, whole: bool) -> Marked;
    /// The reference completion.
    fn solution(&mut self) -> String;
}

/// What the player sees.
#[derive(Debug, Default)]
pub struct Table {
    shown: Shown,
    typed: String,
    whole: bool,
    marked: Option<Marked>,
    solution: Option<String>,
}

/// Plays on the real terminal until the player leaves.
///
/// # Errors
/// The terminal can't be drawn on.
pub fn play(game: &mut dyn Game) -> Result<(), Error> {
    let (guard, mut terminal) = Guard::take()?;
    let played = run(
        game,
        &mut terminal,
        &mut TerminalInput,
        Theme::from_environment(),
    );
    drop(guard);
    played
}

/// As [`play`], over any backend and input.
///
/// # Errors
/// The backend or the input fails.
pub fn run<B: Backend>(
    game: &mut dyn Game,
    terminal: &mut Terminal<B>,
    input: &mut dyn Input,
    theme: Theme,
) -> Result<(), Error> {
    let mut table = Table {
        shown: game.first(),
        ..Table::default()
    };
    loop {
        terminal
            .draw(|frame| draw(&table, theme, frame.area(), frame.buffer_mut()))
            .map_err(|error| Error::Draw(error.to_string()))?;
        match input.next(PATIENCE)? {
            Some(Event::Key(key))
                if key.kind != KeyEventKind::Release && !table.press(key, game) =>
            {
                return Ok(());
            }
            _ => {}
        }
    }
}

impl Table {
    /// Takes a key; false to leave.
    pub fn press(&mut self, key: KeyEvent, game: &mut dyn Game) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return false,
            KeyCode::Char('c' | 'q') if control => return false,
            KeyCode::Char('n') if control => self.show(game.next()),
            KeyCode::Char('s') if control => self.solution = Some(game.solution()),
            KeyCode::Up => self.show(game.level(true)),
            KeyCode::Down => self.show(game.level(false)),
            KeyCode::Tab => self.whole = !self.whole,
            KeyCode::Enter => {
                let marked = game.answer(&self.typed, self.whole);
                if !marked.said.is_empty() {
                    self.shown
                        .prompt
                        .push(("assistant".into(), self.typed.clone()));
                    let said = marked.said.iter().map(|text| ("user".into(), text.clone()));
                    self.shown.prompt.extend(said);
                    self.typed.clear();
                }
                self.marked = Some(marked);
            }
            KeyCode::Backspace => drop(self.typed.pop()),
            KeyCode::Char(c) if !control && self.typed.len() < MAX_ANSWER => self.typed.push(c),
            _ => {}
        }
        true
    }

    fn show(&mut self, shown: Shown) {
        *self = Table {
            shown,
            whole: self.whole,
            ..Table::default()
        };
    }
}

/// Draws a table.
pub fn draw(table: &Table, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let [head, asked, typed, worth, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(4),
        Constraint::Length(4),
        Constraint::Length(9),
        Constraint::Length(1),
    ])
    .areas(inset(area, 1));
    put(
        buffer,
        head,
        0,
        &Line::from(say(&table.shown.title, theme.strong())),
    );
    put_right(
        buffer,
        head,
        0,
        &Line::from(say(&table.shown.place, theme.dim())),
    );
    put(
        buffer,
        head,
        1,
        &Line::from(say(&table.shown.meaning, theme.dim())),
    );

    let asked = section(theme, "what is asked", asked, buffer);
    let width = usize::from(asked.width.max(1));
    let mut lines = Vec::new();
    for (who, said) in &table.shown.prompt {
        if table.shown.prompt.len() > 1 || who != "user" {
            lines.push(Line::from(say(format!("{who}:"), theme.dim())));
        }
        for line in text::clean_lines(said) {
            lines.extend(
                text::wrap(&line, width)
                    .into_iter()
                    .map(|part| Line::from(say(part, theme.plain()))),
            );
        }
    }
    // The end of a long talk is what is answered.
    let skip = lines.len().saturating_sub(usize::from(asked.height));
    for (row, line) in (0..).zip(&lines[skip..]) {
        put(buffer, asked, row, line);
    }

    let title = if table.whole {
        "your completion, tags and all"
    } else {
        "your answer"
    };
    let typed = section(theme, title, typed, buffer);
    let shown = text::clean(&table.typed) + "▏";
    let wrapped = text::wrap(&shown, width);
    let skip = wrapped.len().saturating_sub(usize::from(typed.height));
    for (row, line) in (0..).zip(&wrapped[skip..]) {
        put(buffer, typed, row, &Line::from(say(line, theme.plain())));
    }

    let worth = section(theme, "what it is worth", worth, buffer);
    draw_marks(table, theme, worth, buffer);
    let help = "Enter score  Tab answer/completion  ^N next  ↑↓ level  ^S solution  Esc leave";
    put(buffer, keys, 0, &Line::from(say(help, theme.dim())));
}

fn draw_marks(table: &Table, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut row = 0;
    match &table.marked {
        Some(marked) if !marked.status.is_empty() => {
            let style = match marked.status.as_str() {
                "ok" => theme.graded(text::fraction(marked.reward_ppm)),
                "unscored" => theme.warn(),
                _ => theme.bad(),
            };
            let said = format!(
                "{} {}: {}",
                marked.status,
                text::ppm(marked.reward_ppm),
                marked.why
            );
            put(buffer, area, row, &Line::from(say(said, style)));
            row += 1;
            for (name, value) in &marked.parts {
                let mut line = vec![say(
                    format!("  {name:<12} {} ", text::ppm(*value)),
                    theme.plain(),
                )];
                line.extend(meter(theme, text::fraction(*value), 20, theme.accent()));
                put(buffer, area, row, &Line::from(line));
                row += 1;
            }
        }
        Some(_) => {
            put(
                buffer,
                area,
                row,
                &Line::from(say("the episode goes on", theme.dim())),
            );
            row += 1;
        }
        None => {
            put(
                buffer,
                area,
                row,
                &Line::from(say("nothing is answered yet", theme.dim())),
            );
            row += 1;
        }
    }
    if let Some(solution) = &table.solution {
        let said = format!("reference: {solution}");
        for part in text::wrap(&text::clean(&said), usize::from(area.width.max(1))) {
            put(buffer, area, row, &Line::from(say(part, theme.dim())));
            row += 1;
        }
    }
}
