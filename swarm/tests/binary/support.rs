//! Running the binary: to its end, or until it has said something.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a slow machine; only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A process of one peer, as quick as it can be; its home follows.
pub(crate) const ONE_PEER: [&str; 7] = [
    "run",
    "--headless",
    "--eval-items",
    "1",
    "--peers",
    "1",
    "--home",
];

/// A process that ended.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_murmur"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("MURMUR_HOME")
        .env_remove("RUST_LOG");
    command
}

/// Run to the end.
pub(crate) fn murmur(args: &[&str]) -> Ended {
    murmur_with(args, &[])
}

/// Run to the end, with an environment.
pub(crate) fn murmur_with(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let output = command(args)
        .envs(environment.iter().copied())
        .output()
        .expect("the binary starts");
    Ended {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The highest round that a log says is settled.
pub(crate) fn last_settled(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| {
            line.split_once(": settled in block")?
                .0
                .rsplit_once("round ")?
                .1
                .parse()
                .ok()
        })
        .max()
        .unwrap_or(0)
}

/// A running process, and what it has said so far.
pub(crate) struct Murmur {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Murmur {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    pub(crate) fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let write = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                write.0.lock().unwrap().push_str(&(line + "\n"));
                write.1.notify_all();
            }
        });
        Self { child, log }
    }

    pub(crate) fn said(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(|log| log.contains(text));
    }

    pub(crate) fn wait_until(&self, enough: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut log = self.log.0.lock().unwrap();
        while !enough(&log) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain; it said:\n{log}");
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    pub(crate) fn last_settled(&self) -> u64 {
        last_settled(&self.said())
    }

    /// SIGKILL, as a power cut.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it was started here");
    }

    /// Any signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let (signal, id) = (format!("-{name}"), self.child.id().to_string());
        let sent = Command::new("kill").args([signal, id]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(self) -> Ended {
        self.signal("TERM");
        self.end()
    }

    /// Its end, by itself.
    pub(crate) fn end(mut self) -> Ended {
        let status = self.child.wait().expect("it was started here");
        Ended {
            success: status.success(),
            code: status.code(),
            stdout: String::new(),
            stderr: self.said(),
        }
    }
}

impl Drop for Murmur {
    fn drop(&mut self) {
        // Ended already, or a test failed and nothing must be left running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A chain of somebody else's making.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) rpc: String,
}

impl Anvil {
    pub(crate) fn start(program: &std::ffi::OsStr) -> Self {
        let mut child = Command::new(program)
            .args(["--port", "0", "--chain-id", "31337"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // npm's `anvil` is a script around the binary: both must end.
            .process_group(0)
            .spawn()
            .expect("MURMUR_ANVIL runs");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                line.strip_prefix("Listening on ")
                    .map(|at| at.trim().to_owned())
            })
            .expect("anvil listens");
        // Its later output must go somewhere, or it would stop when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            rpc: format!("http://{address}"),
        }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        kill_group(&mut self.child);
    }
}

/// Ends a process that leads a group, and all that it started.
pub(crate) fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.wait();
}
