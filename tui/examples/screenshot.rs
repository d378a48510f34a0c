//! A screen of a recording as SVG, on stdout:
//!
//! ```text
//! cargo run --release -p tui --example screenshot -- EVENTS.jsonl 120x40 1 > swarm.svg
//! cargo run --release -p tui --example screenshot -- EVENTS.jsonl 120x40 2 j j Enter > rollouts.svg
//! cargo run --release -p tui --example screenshot -- EVENTS.jsonl@95 120x40 1 > early.svg
//! ```
//!
//! After the size come the keys to press. `@SECONDS` shows that moment of the
//! recording, as a live screen would have; without it, its end.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tui::app::App;
use tui::replay::Player;
use tui::source::Source;
use tui::theme::Theme;
use tui::view::{self, Scene};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, size, keys @ ..] = &arguments[..] else {
        return Err("usage: screenshot EVENTS.jsonl[@SECONDS] WIDTHxHEIGHT [KEY …]".into());
    };
    let (file, seconds) = match file.rsplit_once('@') {
        Some((file, seconds)) => (file, Some(seconds.parse::<u64>()?)),
        None => (file.as_str(), None),
    };
    let (width, height) = size.split_once('x').ok_or("the size is WIDTHxHEIGHT")?;
    let area = Rect::new(0, 0, width.parse()?, height.parse()?);
    let (records, problems) = tui::read_events(BufReader::new(File::open(file)?));
    for problem in &problems {
        eprintln!("{file}: {problem}");
    }
    let mut player = Player::new(records, problems);
    player.seek(seconds.map_or(u64::MAX, |seconds| seconds * 1_000));

    let mut app = App::new(Theme::new(true));
    for key in keys {
        app.key(
            KeyEvent::new(code(key)?, KeyModifiers::NONE),
            player.state(),
            false,
        );
    }
    let scene = Scene {
        state: player.state(),
        now_ms: player.shown_ms(0),
        transport: None,
        skipped: 0,
        over: false,
    };
    let mut buffer = Buffer::empty(area);
    view::draw(&mut app, &scene, area, &mut buffer);
    let title = format!("Murmuration: the {} screen", app.screen.name());
    print!("{}", tui::screenshot::svg(&buffer, &title));
    Ok(())
}

fn code(key: &str) -> Result<KeyCode, Box<dyn Error>> {
    Ok(match key {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "Down" => KeyCode::Down,
        "Up" => KeyCode::Up,
        "PageDown" => KeyCode::PageDown,
        "PageUp" => KeyCode::PageUp,
        key => match key.chars().collect::<Vec<_>>()[..] {
            [character] => KeyCode::Char(character),
            _ => return Err(format!("no such key: {key}").into()),
        },
    })
}
