//! The screens on a real (pseudo-)terminal, which must be given back as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, command};

const ALTERNATE_SCREEN: &str = "\u{1b}[?1049h";
const MAIN_SCREEN: &str = "\u{1b}[?1049l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

type Modes = [libc::tcflag_t; 3];

/// A terminal of 120 by 40 cells, and all that was ever written to it.
struct Terminal {
    keyboard: File,
    line: File,
    shown: Arc<(Mutex<String>, Condvar)>,
}

impl Terminal {
    fn open() -> Self {
        let (mut keyboard, mut line) = (-1, -1);
        let mut size = libc::winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the pointers are to locals, or null where the call allows it; the two
        // descriptors that it makes belong to nobody else.
        let (keyboard, line) = unsafe {
            let (name, modes) = (std::ptr::null_mut(), std::ptr::null_mut());
            let size = std::ptr::from_mut(&mut size);
            let opened = libc::openpty(&mut keyboard, &mut line, name, modes, size);
            assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
            (File::from_raw_fd(keyboard), File::from_raw_fd(line))
        };
        let shown = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (mut from, write) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                write.0.lock().unwrap().push_str(&text);
                write.1.notify_all();
            }
        });
        Self {
            keyboard,
            line,
            shown,
        }
    }

    fn run(&self, mut command: Command) -> Child {
        command
            .stdin(self.line.try_clone().unwrap())
            .stdout(self.line.try_clone().unwrap())
            .stderr(self.line.try_clone().unwrap())
            .spawn()
            .unwrap()
    }

    fn press(&mut self, key: &str) {
        self.keyboard.write_all(key.as_bytes()).unwrap();
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.shown.0.lock().unwrap();
        while !shown.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in:\n{shown:?}");
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Whatever a program in raw mode changes.
    fn modes(&self) -> Modes {
        // SAFETY: all zeros is a value of this plain struct, and the call fills it in.
        let set = unsafe {
            let mut set: libc::termios = std::mem::zeroed();
            let read = libc::tcgetattr(self.line.as_raw_fd(), &mut set);
            assert_eq!(read, 0, "{}", std::io::Error::last_os_error());
            set
        };
        [set.c_iflag, set.c_oflag, set.c_lflag]
    }

    /// Waits for the end, and checks that the terminal is given back.
    fn end(&self, mut child: Child, before: Modes) -> ExitStatus {
        let status = child.wait().unwrap();
        assert_eq!(self.modes(), before, "still in raw mode");
        self.wait_for(MAIN_SCREEN);
        self.wait_for(SHOW_CURSOR);
        status
    }
}

fn settled(home: &std::path::Path) -> usize {
    let events = std::fs::read_to_string(home.join("events.jsonl")).unwrap_or_default();
    events.matches("\"type\":\"settled\"").count()
}

#[test]
fn q_leaves_cleanly_and_the_next_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut before = 0;
    for _ in 0..2 {
        let mut terminal = Terminal::open();
        let modes = terminal.modes();
        let args = ["run", "--peers", "2", "--eval-items", "1", "--home"];
        let child = terminal.run(command(&[&args[..], &[home.to_str().unwrap()]].concat()));
        terminal.wait_for(ALTERNATE_SCREEN);
        terminal.wait_for("Rollouts");
        assert_ne!(terminal.modes(), modes, "raw mode");
        let deadline = Instant::now() + PATIENCE;
        while settled(&home) <= before {
            assert!(Instant::now() < deadline, "no round settled");
            std::thread::sleep(Duration::from_millis(100));
        }
        before = settled(&home);
        terminal.press("q");
        let status = terminal.end(child, modes);
        assert!(status.success(), "{status}");
    }
    // Both starts wrote one log, of one swarm and the same two peers.
    let events = std::fs::read_to_string(home.join("events.jsonl")).unwrap();
    let mut replayed = Terminal::open();
    let modes = replayed.modes();
    let log = home.join("events.jsonl");
    let child = replayed.run(command(&["replay", log.to_str().unwrap()]));
    replayed.wait_for("Rollouts");
    replayed.press("q");
    assert!(replayed.end(child, modes).success());
    assert_eq!(std::fs::read_to_string(log).unwrap(), events);
}

/// Not a test of its own: what the next one runs in a process of its own.
#[test]
#[ignore = "panics on purpose"]
fn panicking_screen() {
    let (_guard, _terminal) = tui::terminal::Guard::take().unwrap();
    let worker = std::thread::spawn(|| panic!("of the worker"));
    assert!(worker.join().is_err());
    panic!("of the screen");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_readable() {
    let terminal = Terminal::open();
    let modes = terminal.modes();
    let mut itself = Command::new(std::env::current_exe().unwrap());
    itself.args(["terminal::panicking_screen", "--exact", "--ignored"]);
    itself.arg("--nocapture");
    let status = terminal.end(terminal.run(itself), modes);
    assert!(!status.success());
    terminal.wait_for("of the worker");
    let shown = terminal.shown.0.lock().unwrap();
    let given_back = shown.rfind(MAIN_SCREEN).unwrap();
    for message in ["of the worker", "of the screen"] {
        let at = shown.rfind(message).unwrap();
        assert!(at > given_back, "{message} is lost: {shown:?}");
    }
}
