//! An environment played by a person: what is seen at each step of an item.

use crossterm::event::KeyCode;
use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tui::play::{Game, Marked, Shown, Table, draw};
use tui::theme::Theme;

use crate::support::{ctrl, key, text};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];

/// A number from 1 to 9, to be guessed in two turns.
struct Guess {
    item: u64,
    level: u8,
    turns: u8,
}

impl Guess {
    fn shown(&mut self) -> Shown {
        self.turns = 0;
        Shown {
            title: "guess 3".to_owned(),
            place: format!("level {} of 2, item {}", self.level, self.item),
            meaning: "a number from 1 to 9".to_owned(),
            prompt: vec![
                ("system".to_owned(), "Answer with a number.\n".repeat(2)),
                (
                    "user".to_owned(),
                    "What did I think of? \u{1b}[2J".to_owned() + &"It is a number. ".repeat(12),
                ),
            ],
        }
    }
}

impl Game for Guess {
    fn first(&mut self) -> Shown {
        self.shown()
    }

    fn next(&mut self) -> Shown {
        self.item += 1;
        self.shown()
    }

    fn level(&mut self, up: bool) -> Shown {
        self.level = if up { 2 } else { 1 };
        self.shown()
    }

    fn answer(&mut self, text: &str, whole: bool) -> Marked {
        if whole {
            return Marked {
                status: "invalid".to_owned(),
                why: "no <answer> tag".to_owned(),
                parts: vec![("format".to_owned(), 0), ("correct".to_owned(), 0)],
                ..Marked::default()
            };
        }
        self.turns += 1;
        if self.turns < 2 && text != "7" {
            return Marked {
                said: vec!["higher".to_owned()],
                ..Marked::default()
            };
        }
        let right = u32::from(text == "7") * 1_000_000;
        Marked {
            status: "ok".to_owned(),
            reward_ppm: right / 10 * 9,
            parts: vec![
                ("format".to_owned(), 1_000_000),
                ("correct".to_owned(), right),
                ("brevity".to_owned(), 0),
            ],
            why: "right, 12 bytes longer than is free".to_owned(),
            said: Vec::new(),
        }
    }

    fn solution(&mut self) -> String {
        "<think>it is 7</think><answer>7</answer>".to_owned()
    }
}

/// The screen after some keys: letters are typed, `\n` is Enter, `\t` is Tab.
fn after(keys: &str, (width, height): (u16, u16)) -> String {
    let mut game = Guess {
        item: 0,
        level: 1,
        turns: 0,
    };
    let mut table = Table::default();
    table.press(ctrl('n'), &mut game);
    for typed in keys.chars() {
        let pressed = match typed {
            '\n' => key(KeyCode::Enter),
            '\t' => key(KeyCode::Tab),
            '^' => key(KeyCode::Up),
            '?' => ctrl('s'),
            letter => key(KeyCode::Char(letter)),
        };
        assert!(table.press(pressed, &mut game), "{typed:?} leaves");
    }
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(&table, Theme::new(true), area, &mut buffer);
    text(&buffer)
}

#[test]
fn an_item_is_asked_answered_and_marked() {
    for size in SIZES {
        let named = |step: &str| format!("play_{step}_{}x{}", size.0, size.1);
        assert_snapshot!(named("asked"), after("", size));
        assert_snapshot!(named("goes_on"), after("3\n", size));
        assert_snapshot!(named("marked"), after("3\n7\n", size));
        assert_snapshot!(named("refused"), after("\t7\n?", size));
    }
}

#[test]
fn a_level_up_is_another_item_with_nothing_answered() {
    let shown = after("3\n7\n^", SIZES[0]);
    assert!(shown.contains("level 2 of 2"), "{shown}");
    assert!(shown.contains("nothing is answered yet"), "{shown}");
    assert!(!shown.contains("higher"), "{shown}");
}

#[test]
fn escape_leaves_and_an_answer_is_never_longer_than_its_bound() {
    let mut game = Guess {
        item: 0,
        level: 1,
        turns: 0,
    };
    let mut table = Table::default();
    for _ in 0..10_000 {
        table.press(key(KeyCode::Char('7')), &mut game);
    }
    let area = Rect::new(0, 0, 40, 10);
    let mut buffer = Buffer::empty(area);
    draw(&table, Theme::new(false), area, &mut buffer);
    assert!(text(&buffer).matches('7').count() <= 4_096);
    assert!(!table.press(key(KeyCode::Esc), &mut game));
}
