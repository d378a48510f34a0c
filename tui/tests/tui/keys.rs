//! Keys: each does what help says.

use crossterm::event::{KeyCode, KeyEventKind};
use swarm_core::event::{LogLevel, Stage};
use tui::app::{Command, Screen};
use tui::source::Control;
use tui::state::State;

use crate::fixture;
use crate::support::{app, ctrl, draw, fold, key, press, scene, text};

#[test]
fn numbers_tabs_and_arrows_go_to_screens() {
    let state = State::default();
    let mut app = app();
    for (index, screen) in Screen::ALL.into_iter().enumerate() {
        press(&mut app, &state, &(index + 1).to_string());
        assert_eq!(app.screen, screen);
    }
    press(&mut app, &state, "\t");
    assert_eq!(app.screen, Screen::Swarm);
    app.key(key(KeyCode::BackTab), &state, false);
    assert_eq!(app.screen, Screen::Logs);
    app.key(key(KeyCode::Left), &state, false);
    assert_eq!(app.screen, Screen::Reputation);
    app.key(key(KeyCode::Right), &state, false);
    assert_eq!(app.screen, Screen::Logs);
}

#[test]
fn q_asks_to_leave_once_and_a_second_ctrl_c_leaves_now() {
    let state = State::default();
    let mut app = app();
    assert_eq!(
        app.key(key(KeyCode::Char('q')), &state, false),
        Some(Command::Leave)
    );
    assert!(app.leaving());
    assert_eq!(app.key(key(KeyCode::Char('q')), &state, false), None);
    assert_eq!(app.key(ctrl('c'), &state, false), Some(Command::LeaveNow));
    let mut app = crate::support::app();
    assert_eq!(app.key(ctrl('c'), &state, false), Some(Command::Leave));
    assert_eq!(app.key(ctrl('l'), &state, false), Some(Command::Redraw));
}

#[test]
fn a_released_key_is_no_key() {
    let state = State::default();
    let mut app = app();
    let mut released = key(KeyCode::Char('q'));
    released.kind = KeyEventKind::Release;
    assert_eq!(app.key(released, &state, false), None);
    assert!(!app.leaving());
}

#[test]
fn help_opens_scrolls_and_closes() {
    let state = State::default();
    let mut app = app();
    press(&mut app, &state, "?");
    assert!(app.help.is_some());
    // It takes the keys of the screen below it.
    press(&mut app, &state, "2?");
    assert_eq!(app.screen, Screen::Rollouts);
    press(&mut app, &state, "jj");
    draw(&mut app, &scene(&state), 60, 18);
    assert_eq!(app.help.unwrap().index, 2);
    press(&mut app, &state, "GG");
    let shown = text(&draw(&mut app, &scene(&state), 60, 18));
    assert!(shown.contains("all lines, warnings"), "{shown}");
    press(&mut app, &state, "\x1b");
    assert!(app.help.is_none());
}

#[test]
fn recordings_have_keys_of_their_own() {
    let state = State::default();
    let mut app = app();
    for (code, control) in [
        (KeyCode::Char(' '), Control::TogglePause),
        (KeyCode::Char('+'), Control::Faster),
        (KeyCode::Char('='), Control::Faster),
        (KeyCode::Char('-'), Control::Slower),
        (KeyCode::Right, Control::Skip(10_000)),
        (KeyCode::Left, Control::Skip(-10_000)),
        (KeyCode::Char('['), Control::PreviousRound),
        (KeyCode::Char(']'), Control::NextRound),
        (KeyCode::Home, Control::Start),
        (KeyCode::End, Control::End),
    ] {
        assert_eq!(
            app.key(key(code), &state, true),
            Some(Command::Control(control))
        );
        assert_eq!(app.key(key(code), &state, false), None);
    }
}

#[test]
fn filters_go_round_and_x_opens_them() {
    let state = fold(&fixture::run());
    let mut app = app();
    press(&mut app, &state, "2");
    let count = |app: &tui::app::App| app.rollouts.listed(&state).0.len();
    assert_eq!(count(&app), 240);
    let mut stages = Vec::new();
    for _ in 0..4 {
        press(&mut app, &state, "s");
        stages.push(app.rollouts.filter.stage);
    }
    assert_eq!(
        stages,
        [
            Some(Stage::Answer),
            Some(Stage::Critique),
            Some(Stage::Resolve),
            None
        ]
    );
    press(&mut app, &state, "sp");
    assert_eq!(count(&app), 36);
    for group in app.rollouts.listed(&state).0 {
        assert_eq!(group.view.stage, Stage::Answer);
        assert_eq!(group.view.owner, fixture::peers()[0]);
    }
    press(&mut app, &state, "e");
    assert_eq!(app.rollouts.filter.env.as_deref(), Some("add"));
    assert!(count(&app) < 36);
    press(&mut app, &state, "x");
    assert_eq!(count(&app), 240);
}

#[test]
fn the_newest_group_is_followed_until_one_is_chosen() {
    let mut records = fixture::run();
    let last = records
        .iter()
        .rposition(|record| matches!(record.event, swarm_core::event::Event::GroupJudged(_)))
        .unwrap();
    let newest = records.remove(last);
    let mut state = fold(&records);
    let mut following = app();
    press(&mut following, &state, "2");
    let mut choosing = following.clone();
    press(&mut choosing, &state, "jj");
    let chosen = |app: &tui::app::App, state: &State| {
        let (listed, index) = app.rollouts.listed(state);
        listed[index].key()
    };
    let (followed, picked) = (chosen(&following, &state), chosen(&choosing, &state));
    state.fold(&newest);
    assert_ne!(chosen(&following, &state), followed);
    assert_eq!(chosen(&choosing, &state), picked);
    // An open group stays too, even the newest.
    press(&mut following, &state, "\n");
    let open = chosen(&following, &state);
    let mut later = newest.clone();
    if let swarm_core::event::Event::GroupJudged(view) = &mut later.event {
        view.round += 1;
    }
    state.fold(&later);
    assert_eq!(chosen(&following, &state), open);
}

#[test]
fn a_group_opens_scrolls_and_closes() {
    let state = fold(&fixture::run());
    let mut app = app();
    press(&mut app, &state, "2\n");
    assert!(app.rollouts.open);
    press(&mut app, &state, "jjjj");
    draw(&mut app, &scene(&state), 80, 24);
    assert_eq!(app.rollouts.scroll.index, 4);
    press(&mut app, &state, "G");
    let shown = text(&draw(&mut app, &scene(&state), 80, 24));
    assert!(shown.contains("8 of 8"), "{shown}");
    assert!(!shown.contains("↓ more"), "{shown}");
    press(&mut app, &state, "n");
    assert_eq!(app.rollouts.scroll.index, 0);
    press(&mut app, &state, "\x1b");
    assert!(!app.rollouts.open);
}

#[test]
fn the_end_of_a_list_is_the_end() {
    let state = fold(&fixture::run());
    for screen in ["3", "4", "5"] {
        let mut app = app();
        press(&mut app, &state, screen);
        press(&mut app, &state, "jjjjjjjjjj");
        draw(&mut app, &scene(&state), 80, 24);
        let index = app.training.index + app.peers.index + app.reputation.index;
        assert_eq!(index, 3);
        press(&mut app, &state, "kG");
        draw(&mut app, &scene(&state), 80, 24);
        press(&mut app, &state, "g");
        let index = app.training.index + app.peers.index + app.reputation.index;
        assert_eq!(index, 0);
    }
}

#[test]
fn logs_filter_by_level_and_scroll_back() {
    let state = fold(&fixture::run());
    let mut app = app();
    press(&mut app, &state, "6l");
    assert_eq!(app.logs.least, LogLevel::Warn);
    let shown = text(&draw(&mut app, &scene(&state), 80, 24));
    assert!(!shown.contains(" info "), "{shown}");
    assert!(shown.contains("stale round"), "{shown}");
    press(&mut app, &state, "l");
    assert_eq!(app.logs.least, LogLevel::Error);
    let shown = text(&draw(&mut app, &scene(&state), 80, 24));
    assert!(shown.contains("nothing to read"), "{shown}");
    press(&mut app, &state, "lkkk");
    draw(&mut app, &scene(&state), 80, 24);
    assert_eq!(app.logs.back, 3);
    press(&mut app, &state, "g");
    let shown = text(&draw(&mut app, &scene(&state), 80, 24));
    assert!(shown.contains("swarm local started"), "{shown}");
    press(&mut app, &state, "G");
    assert_eq!(app.logs.back, 0);
}
