//! Peer text is data: whatever it holds, the terminal gets plain characters.

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};
use swarm_core::event::{Event, LogLevel, Record};
use tui::view;

use crate::fixture;
use crate::support::{app, draw, fold, press, scene, text};

const EVIL: [&str; 7] = [
    "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{1b}[31mred\u{1b}[0m",
    "\u{9b}31m\u{90}device\u{9c}",
    "\u{202e}desserts\u{202c}\u{2066}a\u{2069}",
    "日本語のテキスト、全角ＡＢＣ",
    "a\u{200b}b\u{feff}c\u{ad}d\u{e000}\u{e0041}",
    "z\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}a\u{489}l\u{489}go",
    "\r\n\t\0\u{8}\u{7f}👩‍👩‍👧‍👦🏳️‍🌈",
];

/// The fixture with every text of a peer or a node replaced.
fn evil_run() -> Vec<Record> {
    let mut next = EVIL.iter().cycle();
    let mut evil = || (*next.next().expect("a cycle has no end")).to_owned();
    let mut records = fixture::run();
    for record in &mut records {
        match &mut record.event {
            Event::SwarmStarted { name, ticket, .. } => (*name, *ticket) = (evil(), evil()),
            Event::PeerSeen { name, .. } => *name = evil(),
            Event::PeerLink { path, .. } => *path = evil(),
            Event::Rejected { reason, detail, .. } => (*reason, *detail) = (evil(), evil()),
            Event::Unsettled { why, .. } => *why = evil(),
            Event::Log {
                target, message, ..
            } => (*target, *message) = (evil(), evil()),
            Event::Judged { rows, .. } => rows.iter_mut().for_each(|row| row.why = evil()),
            Event::Evaluated { report, .. } => {
                let tasks = std::mem::take(&mut report.tasks);
                report.tasks = tasks.into_values().map(|task| (evil(), task)).collect();
            }
            Event::GroupJudged(view) => {
                (view.slot, view.env) = (evil(), evil());
                (view.prompt, view.reference) = (evil(), evil());
                for completion in &mut view.completions {
                    (completion.text, completion.why) = (evil(), evil());
                    completion
                        .parts
                        .iter_mut()
                        .for_each(|part| part.name = evil());
                    completion
                        .critiques
                        .iter_mut()
                        .for_each(|critique| critique.text = evil());
                }
            }
            _ => {}
        }
    }
    let newest = records.last().map_or(0, |record| record.at_ms);
    for message in EVIL {
        records.push(Record {
            at_ms: newest,
            peer: None,
            event: Event::Log {
                level: LogLevel::Error,
                target: message.to_owned(),
                message: message.to_owned(),
            },
        });
    }
    records
}

const SCREENS: [&str; 8] = ["1", "2", "2\n", "2\nG", "3", "4jjj", "5", "6"];

#[test]
fn no_unsafe_character_is_in_any_cell() {
    let state = fold(&evil_run());
    for keys in SCREENS {
        for (width, height) in [(60, 18), (80, 24), (120, 40), (131, 57)] {
            let mut app = app();
            press(&mut app, &state, keys);
            let buffer = draw(&mut app, &scene(&state), width, height);
            for cell in buffer.content() {
                let bad = cell.symbol().chars().find(|c| text::is_unsafe(*c));
                assert_eq!(bad, None, "screen {keys} at {width}x{height}");
            }
        }
    }
    use tui::text;
}

#[test]
fn an_escape_sequence_shows_as_text() {
    let state = fold(&evil_run());
    let mut app = app();
    press(&mut app, &state, "6");
    let shown = text(&draw(&mut app, &scene(&state), 120, 40));
    assert!(shown.contains("␛]0;pwned␇␛[2J␛[31mred␛[0m"), "{shown}");
    assert!(shown.contains("\u{FFFD}dessert"), "{shown}");
}

/// What goes over the wire to the terminal: no sequence but those that set
/// colours and move the cursor.
#[test]
fn the_terminal_gets_no_sequence_of_a_peer() {
    let state = fold(&evil_run());
    for keys in SCREENS {
        let area = Rect::new(0, 0, 120, 40);
        let mut sent = Vec::new();
        {
            let options = TerminalOptions {
                viewport: Viewport::Fixed(area),
            };
            let backend = CrosstermBackend::new(&mut sent);
            let mut terminal = Terminal::with_options(backend, options).unwrap();
            let mut app = app();
            press(&mut app, &state, keys);
            let scene = scene(&state);
            terminal
                .draw(|frame| view::draw(&mut app, &scene, frame.area(), frame.buffer_mut()))
                .unwrap();
        }
        let sent = String::from_utf8(sent).unwrap();
        let mut characters = sent.chars().peekable();
        while let Some(character) = characters.next() {
            if character != '\u{1b}' {
                assert!(!character.is_control(), "{character:?} on screen {keys}");
                continue;
            }
            assert_eq!(characters.next(), Some('['), "only CSI on screen {keys}");
            let end = characters.find(|c| !matches!(c, '0'..='9' | ';' | '?'));
            assert!(
                matches!(end, Some('m' | 'H' | 'l' | 'h')),
                "CSI {end:?} on {keys}"
            );
        }
    }
}

#[test]
fn wide_text_keeps_columns_where_they_are() {
    // The separator between list and group stands in one column on every row.
    for records in [fixture::run(), evil_run()] {
        let state = fold(&records);
        let mut app = app();
        press(&mut app, &state, "2");
        let buffer = draw(&mut app, &scene(&state), 120, 40);
        for y in 2..39 {
            assert_eq!(buffer[(60, y)].symbol(), "│", "row {y}");
        }
    }
}
