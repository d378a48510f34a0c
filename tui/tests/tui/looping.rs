//! The event loop, driven by scripts: no terminal, no waiting.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crossterm::event::{Event as InputEvent, KeyCode};
use ratatui::Terminal;
use ratatui::backend::{Backend, ClearType, TestBackend, WindowSize};
use ratatui::buffer::Cell as BufferCell;
use ratatui::layout::{Position, Size};
use swarm_core::event::{Event, Record};
use tui::driver::run;
use tui::source::{FEED_CAPACITY, Live, RECORDS_PER_FRAME, Source, feed};
use tui::terminal::Input;

use crate::fixture;
use crate::support::{app, ctrl, key, text};

/// A step of a script: a key, a resize, or something that happens meanwhile.
enum Step {
    Input(InputEvent),
    Do(Box<dyn FnOnce()>),
    Idle,
}

struct Script(VecDeque<Step>);

impl Input for Script {
    fn next(&mut self, wait: Duration) -> io::Result<Option<InputEvent>> {
        // One step a frame, so that each frame is drawn.
        if wait.is_zero() {
            return Ok(None);
        }
        match self.0.pop_front() {
            Some(Step::Input(event)) => Ok(Some(event)),
            Some(Step::Do(action)) => {
                action();
                Ok(None)
            }
            Some(Step::Idle) => Ok(None),
            None => Err(io::Error::other("the script is over and the loop goes on")),
        }
    }
}

fn press(code: KeyCode) -> Step {
    Step::Input(InputEvent::Key(key(code)))
}

fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Script(steps.into_iter().collect())
}

/// A backend that counts frames.
struct Counting {
    inner: TestBackend,
    frames: Rc<Cell<usize>>,
}

impl Backend for Counting {
    type Error = <TestBackend as Backend>::Error;

    fn draw<'a, I>(&mut self, content: I) -> Result<(), Self::Error>
    where
        I: Iterator<Item = (u16, u16, &'a BufferCell)>,
    {
        self.frames.set(self.frames.get() + 1);
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> Result<(), Self::Error> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> Result<(), Self::Error> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> Result<Position, Self::Error> {
        self.inner.get_cursor_position()
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), Self::Error> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> Result<(), Self::Error> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> Result<(), Self::Error> {
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> Result<Size, Self::Error> {
        self.inner.size()
    }

    fn window_size(&mut self) -> Result<WindowSize, Self::Error> {
        self.inner.window_size()
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.inner.flush()
    }
}

fn stopped() -> Record {
    Record {
        at_ms: fixture::GENESIS_MS,
        peer: None,
        event: Event::Stopped,
    }
}

#[test]
fn leaving_asks_the_node_once_and_waits_until_it_has_saved() {
    let (feed, records) = feed();
    let asked = Cell::new(0);
    let mut live = Live::new(records, || asked.set(asked.get() + 1));
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let screen = RefCell::new(String::new());
    let saved = feed.clone();
    let mut input = script([
        press(KeyCode::Char('q')),
        Step::Idle,
        press(KeyCode::Char('q')),
        Step::Idle,
        Step::Do(Box::new(move || saved.send(stopped()))),
    ]);
    run(&mut terminal, &mut input, &mut live, &mut app, || 0).unwrap();
    screen.replace(text(terminal.backend().buffer()));
    assert_eq!(asked.get(), 1);
    assert!(screen.borrow().contains("saving…"));
    assert!(
        input.0.is_empty(),
        "the loop left before the node had saved"
    );
    drop(feed);
}

#[test]
fn a_resumed_node_goes_on_where_its_history_ends() {
    let (feed, records) = feed();
    let mut history = fixture::run();
    let start = history[0].clone();
    history.push(stopped());
    let mut live = Live::new(records, || {}).after(history);
    live.leave();
    assert!(!live.left(), "an earlier run's end is not this one's");
    feed.send(start);
    live.advance(0);
    assert_eq!(live.state().settlements.settled, 10);
    feed.send(stopped());
    live.advance(0);
    assert!(live.left());
}

#[test]
fn a_node_that_is_gone_is_not_waited_for() {
    let (feed, records) = feed();
    drop(feed);
    let mut live = Live::new(records, || {});
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let mut input = script([Step::Idle, press(KeyCode::Char('q'))]);
    run(&mut terminal, &mut input, &mut live, &mut app, || 0).unwrap();
    assert!(input.0.is_empty());
}

#[test]
fn a_node_that_stops_by_itself_leaves_its_screens_open() {
    let (feed, records) = feed();
    feed.send(stopped());
    let mut live = Live::new(records, || {});
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let mut input = script([Step::Idle, Step::Idle]);
    // The script runs out because nobody has left.
    let error = run(&mut terminal, &mut input, &mut live, &mut app, || 0).unwrap_err();
    assert!(error.to_string().contains("the script is over"));
    let shown = text(terminal.backend().buffer());
    assert!(shown.contains("the node has stopped"), "{shown}");
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let (_feed, records) = feed();
    let mut live = Live::new(records, || {});
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let press = || Step::Input(InputEvent::Key(ctrl('c')));
    let mut input = script([press(), press()]);
    run(&mut terminal, &mut input, &mut live, &mut app, || 0).unwrap();
    assert!(input.0.is_empty());
}

#[test]
fn a_frame_is_drawn_only_when_something_changed() {
    let (feed, records) = feed();
    let mut live = Live::new(records, || {});
    let mut app = app();
    let frames = Rc::new(Cell::new(0));
    let backend = Counting {
        inner: TestBackend::new(80, 24),
        frames: frames.clone(),
    };
    let mut terminal = Terminal::new(backend).unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = || {
        let (seen, frames) = (seen.clone(), frames.clone());
        Step::Do(Box::new(move || seen.borrow_mut().push(frames.get())))
    };
    let sender = feed.clone();
    let record = fixture::run().remove(0);
    let mut input = script([
        note(),
        Step::Idle,
        Step::Idle,
        note(),
        Step::Do(Box::new(move || sender.send(record))),
        note(),
        press(KeyCode::Char('2')),
        note(),
        Step::Input(InputEvent::Resize(80, 24)),
        note(),
        Step::Input(InputEvent::Key(ctrl('c'))),
        Step::Input(InputEvent::Key(ctrl('c'))),
    ]);
    run(&mut terminal, &mut input, &mut live, &mut app, || 0).unwrap();
    assert_eq!(*seen.borrow(), [1, 1, 2, 3, 4]);
}

#[test]
fn the_clock_moves_countdowns_once_a_second() {
    let (_feed, records) = feed();
    let mut live = Live::new(records, || {});
    let mut app = app();
    let frames = Rc::new(Cell::new(0));
    let backend = Counting {
        inner: TestBackend::new(80, 24),
        frames: frames.clone(),
    };
    let mut terminal = Terminal::new(backend).unwrap();
    let mut input = script((0..40).map(|_| Step::Idle));
    let mut now = 0;
    // Forty frames of 50 ms are two seconds.
    let clock = || {
        now += 50;
        now
    };
    run(&mut terminal, &mut input, &mut live, &mut app, clock).unwrap_err();
    assert_eq!(frames.get(), 3);
}

#[test]
fn a_terminal_that_grows_is_drawn_on_in_full() {
    let (feed, records) = feed();
    for record in fixture::run() {
        feed.send(record);
    }
    let mut live = Live::new(records, || {});
    let mut app = app();
    let mut terminal = Terminal::new(TestBackend::new(40, 10)).unwrap();
    run(
        &mut terminal,
        &mut script([Step::Idle]),
        &mut live,
        &mut app,
        || 0,
    )
    .unwrap_err();
    assert!(text(terminal.backend().buffer()).contains("too small"));
    terminal.backend_mut().resize(120, 40);
    let resized = Step::Input(InputEvent::Resize(120, 40));
    run(
        &mut terminal,
        &mut script([resized]),
        &mut live,
        &mut app,
        || 0,
    )
    .unwrap_err();
    let shown = text(terminal.backend().buffer());
    assert!(shown.contains("Round 12"), "{shown}");
}

#[test]
fn the_node_never_waits_for_the_screen() {
    let (feed, records) = feed();
    let line = |number: u64| Record {
        at_ms: number,
        peer: None,
        event: Event::Log {
            level: swarm_core::event::LogLevel::Info,
            target: "test".to_owned(),
            message: number.to_string(),
        },
    };
    let extra = 1_000;
    for number in 0..(FEED_CAPACITY + extra) as u64 {
        feed.send(line(number));
    }
    let mut live = Live::new(records, || {});
    assert_eq!(live.skipped(), extra as u64);
    // One frame takes a bounded share of the backlog.
    assert!(live.advance(0));
    assert_eq!(live.state().records, RECORDS_PER_FRAME as u64);
    while live.advance(0) {}
    assert_eq!(live.state().records, FEED_CAPACITY as u64);
    drop(live);
    // Nor when the screen is gone.
    feed.send(line(0));
}
