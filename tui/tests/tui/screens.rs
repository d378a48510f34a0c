//! Snapshots of every screen, and what they must show whatever the layout.

use insta::assert_snapshot;
use tui::app::App;
use tui::state::State;
use tui::theme::Theme;
use tui::view::Scene;

use crate::fixture;
use crate::support::{app, draw, fold, paused, press, scene, text};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];
const SCREENS: [(&str, &str); 7] = [
    ("swarm", "1"),
    ("rollouts", "2"),
    ("rollouts_open", "2jj\n"),
    ("training", "3"),
    ("peers", "4j"),
    ("reputation", "5"),
    ("logs", "6"),
];

#[test]
fn every_screen_full() {
    let state = fold(&fixture::run());
    for (name, keys) in SCREENS {
        for (width, height) in SIZES {
            let mut app = app();
            press(&mut app, &state, keys);
            let shown = text(&draw(&mut app, &scene(&state), width, height));
            assert_snapshot!(format!("{name}_full_{width}x{height}"), shown);
        }
    }
}

#[test]
fn every_screen_empty() {
    let state = State::default();
    for (name, keys) in SCREENS {
        for (width, height) in SIZES {
            let mut app = app();
            press(&mut app, &state, keys);
            let shown = text(&draw(&mut app, &scene(&state), width, height));
            assert_snapshot!(format!("{name}_empty_{width}x{height}"), shown);
        }
    }
}

#[test]
fn help_over_a_screen() {
    let state = fold(&fixture::run());
    for (width, height) in SIZES {
        let mut app = app();
        press(&mut app, &state, "?");
        let shown = text(&draw(&mut app, &scene(&state), width, height));
        assert_snapshot!(format!("help_{width}x{height}"), shown);
    }
}

#[test]
fn a_recording_shows_how_it_plays() {
    let state = fold(&fixture::run());
    let scene = Scene {
        transport: Some(paused()),
        ..scene(&state)
    };
    for (width, height) in SIZES {
        let shown = text(&draw(&mut app(), &scene, width, height));
        assert_snapshot!(format!("replay_{width}x{height}"), shown);
    }
    let mut app = app();
    press(&mut app, &state, "?");
    assert_snapshot!("replay_help_80x24", text(&draw(&mut app, &scene, 80, 24)));
}

#[test]
fn leaving_shows_that_state_is_saved() {
    let state = fold(&fixture::run());
    let mut app = app();
    press(&mut app, &state, "q");
    assert_snapshot!(
        "saving_80x24",
        text(&draw(&mut app, &scene(&state), 80, 24))
    );
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    let state = fold(&fixture::run());
    assert_snapshot!(
        "too_small_59x17",
        text(&draw(&mut app(), &scene(&state), 59, 17))
    );
}

#[test]
fn no_size_panics() {
    let full = fold(&fixture::run());
    let empty = State::default();
    for state in [&full, &empty] {
        for (_, keys) in SCREENS {
            for keys in [keys.to_owned(), format!("{keys}?")] {
                let mut app = app();
                press(&mut app, state, &keys);
                for (width, height) in [
                    (0, 0),
                    (1, 1),
                    (3, 40),
                    (60, 1),
                    (60, 18),
                    (61, 19),
                    (70, 60),
                    (99, 18),
                    (109, 29),
                    (110, 30),
                    (200, 18),
                    (300, 100),
                ] {
                    draw(&mut app, &scene(state), width, height);
                }
            }
        }
    }
}

#[test]
fn without_colour_nothing_is_coloured() {
    let state = fold(&fixture::run());
    for (_, keys) in SCREENS {
        for keys in [keys.to_owned(), format!("{keys}?"), format!("{keys}q")] {
            let mut app = App::new(Theme::new(false));
            press(&mut app, &state, &keys);
            let scene = Scene {
                transport: Some(paused()),
                skipped: 3,
                over: true,
                ..scene(&state)
            };
            let buffer = draw(&mut app, &scene, 120, 40);
            for cell in buffer.content() {
                assert_eq!(cell.fg, ratatui::style::Color::Reset);
                assert_eq!(cell.bg, ratatui::style::Color::Reset);
            }
        }
    }
}

#[test]
fn colour_changes_no_character() {
    let state = fold(&fixture::run());
    for (_, keys) in SCREENS {
        let shown = [true, false].map(|colour| {
            let mut app = App::new(Theme::new(colour));
            press(&mut app, &state, keys);
            text(&draw(&mut app, &scene(&state), 120, 40))
        });
        assert_eq!(shown[0], shown[1]);
    }
}
