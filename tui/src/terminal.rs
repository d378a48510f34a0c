//! The real terminal: taken over, and given back whatever happens.

use std::io::{self, Stdout, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossterm::event::{self, Event};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// Key presses and resizes, from a terminal or from a test.
pub trait Input {
    /// The next one, waiting at most `wait`.
    fn next(&mut self, wait: Duration) -> io::Result<Option<Event>>;
}

/// Events of the real terminal.
#[derive(Debug, Default)]
pub struct TerminalInput;

impl Input for TerminalInput {
    fn next(&mut self, wait: Duration) -> io::Result<Option<Event>> {
        if event::poll(wait)? {
            event::read().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Whether the terminal is ours; giving it back twice would leave raw mode of
/// someone else's.
static TAKEN: AtomicBool = AtomicBool::new(false);

type Hook = Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// The terminal in raw mode on the alternate screen. Dropping it gives the
/// terminal back, and so does a panic, before its message is printed; the
/// message of a panic on another thread waits until then.
pub struct Guard {
    hook: Hook,
    held_back: Arc<Mutex<Vec<String>>>,
}

impl Guard {
    /// Takes the terminal over.
    pub fn take() -> io::Result<(Self, Terminal<CrosstermBackend<Stdout>>)> {
        let hook: Hook = Arc::from(std::panic::take_hook());
        let held_back = Arc::new(Mutex::new(Vec::new()));
        let (before, messages, screen) = (hook.clone(), held_back.clone(), thread::current().id());
        std::panic::set_hook(Box::new(move |info| {
            let here = thread::current();
            if here.id() == screen || !TAKEN.load(Ordering::SeqCst) {
                restore();
                before(info);
            } else {
                let name = here.name().unwrap_or("unnamed").to_owned();
                messages
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(format!("thread '{name}' {info}"));
            }
        }));
        let guard = Self { hook, held_back };
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok((guard, terminal))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
        if !thread::panicking() {
            let hook = self.hook.clone();
            std::panic::set_hook(Box::new(move |info| hook(info)));
        }
        let held_back = self
            .held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for message in held_back.iter() {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(io::stderr(), "{message}");
        }
    }
}

/// Gives the terminal back if it is taken. Errors have nowhere to go.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}
