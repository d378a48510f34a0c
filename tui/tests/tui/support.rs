//! What the tests share: folding, drawing, keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use swarm_core::event::Record;
use tui::app::App;
use tui::source::Transport;
use tui::state::State;
use tui::theme::Theme;
use tui::view::{self, Scene};

pub(crate) fn fold(records: &[Record]) -> State {
    let mut state = State::default();
    for record in records {
        state.fold(record);
    }
    state
}

pub(crate) fn app() -> App {
    App::new(Theme::new(true))
}

pub(crate) fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

pub(crate) fn ctrl(character: char) -> KeyEvent {
    KeyEvent::new(KeyCode::Char(character), KeyModifiers::CONTROL)
}

/// Everything the screens say of a state.
pub(crate) fn all_screens(state: &State) -> String {
    (1..=6)
        .map(|screen| {
            let mut app = app();
            press(&mut app, state, &screen.to_string());
            text(&draw(&mut app, &scene(state), 130, 45))
        })
        .collect()
}

/// Numbers from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// Presses keys of a text: `\n` is Enter, `\t` Tab, `\x1b` Esc.
pub(crate) fn press(app: &mut App, state: &State, keys: &str) {
    for character in keys.chars() {
        let code = match character {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            character => KeyCode::Char(character),
        };
        app.key(key(code), state, false);
    }
}

pub(crate) fn scene(state: &State) -> Scene<'_> {
    Scene {
        state,
        now_ms: state.last_ms + 2_000,
        transport: None,
        skipped: 0,
        over: false,
    }
}

pub(crate) fn draw(app: &mut App, scene: &Scene<'_>, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    view::draw(app, scene, area, &mut buffer);
    buffer
}

/// The text of a buffer, a line a row, without spaces at the end.
pub(crate) fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    (area.y..area.bottom())
        .map(|y| {
            let row: String = (area.x..area.right())
                .map(|x| buffer[(x, y)].symbol())
                .collect();
            format!("{}\n", row.trim_end())
        })
        .collect()
}

pub(crate) fn paused() -> Transport {
    Transport {
        paused: true,
        half_speeds: 8,
        position_ms: 201_000,
        length_ms: 460_000,
        at_end: false,
        problems: 2,
    }
}
