//! A Python environment (reasoning-gym, verifiers, one's own) on this machine
//! only: a program that answers one JSON object a line.
//!
//! ```text
//! -> {"call":"generate","seed":17,"level":1}
//! <- {"question":"…","answer":"…","hidden":any}
//! -> {"call":"score","question":"…","answer":"…","hidden":any,"completion":"…","answered":"…"}
//! <- {"correct":0.5,"why":"…"}
//! ```
//!
//! Nobody else can recompute what such a program says, so it has no hash that
//! names it, is marked *unverifiable*, and cannot be published or put into a
//! swarm: no code path leads from here to the wire.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tasks::{
    Environment, Item, Level, Limits, Manifest, Part, PartWeight, Ppm, Reading, Score, Seed, Status,
};

/// The longest line a program may answer with.
const MAX_LINE: u64 = 1 << 20;

/// A running program.
pub(super) struct Bridge {
    manifest: Manifest,
    pipe: Mutex<Pipe>,
}

struct Pipe {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Bridge {
    /// Starts a program, through the shell.
    pub(super) fn start(command: &str) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{command:?} has no pipes");
        };
        let part = |name: &str, weight| PartWeight {
            name: name.to_owned(),
            weight,
        };
        let manifest = Manifest {
            name: "python".to_owned(),
            version: 0,
            summary: format!("unverifiable, this machine only: {command}"),
            levels: (1..=9)
                .map(|level| Level {
                    meaning: format!("level {level} of the program"),
                    space: 0,
                })
                .collect(),
            parts: vec![part("format", Ppm::ZERO), part("correct", Ppm::ONE)],
            limits: Limits {
                completion_bytes: 65_536,
                answer_chars: 4_096,
                free_bytes: u32::MAX,
                penalty_bytes: 1,
            },
            alphabet: (' '..='~').collect(),
            reading: Reading::Forward,
            package: None,
        };
        let from = BufReader::new(from);
        Ok(Self {
            manifest,
            pipe: Mutex::new(Pipe { child, to, from }),
        })
    }

    fn ask(&self, request: &Value) -> Result<Value> {
        use std::io::Read;
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe.to, "{request}").context("writing to the program")?;
        let mut line = String::new();
        let read = Read::by_ref(&mut pipe.from)
            .take(MAX_LINE)
            .read_line(&mut line);
        if read.context("reading from the program")? == 0 {
            bail!("the program ended");
        }
        let value: Value = serde_json::from_str(&line).context("the program's line")?;
        match value.get("error").and_then(Value::as_str) {
            Some(why) => bail!("the program says: {why}"),
            None => Ok(value),
        }
    }

    fn make(&self, seed: &Seed, level: u8) -> Result<Item> {
        // A number that JSON and Python both hold exactly.
        let number = seed.draw().below(1 << 53);
        let request = json!({"call": "generate", "seed": number, "level": level});
        let made = self.ask(&request)?;
        let text = |key: &str| {
            let text = made.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
                .with_context(|| format!("the program's item has no {key}"))
        };
        let hidden = made.get("hidden").cloned().unwrap_or(Value::Null);
        Ok(
            Item::new(&self.manifest, level, text("question")?, text("answer")?)
                .with_hidden(hidden.to_string().into_bytes())
                .with_metadata(BTreeMap::from([(
                    "unverifiable".to_owned(),
                    "yes".to_owned(),
                )])),
        )
    }

    fn mark(&self, item: &Item, completion: &str, answered: &str) -> Result<(Ppm, String)> {
        let hidden: Value = serde_json::from_slice(item.hidden()).unwrap_or(Value::Null);
        let said = self.ask(&json!({
            "call": "score", "question": item.question, "answer": item.reference,
            "hidden": hidden, "completion": completion, "answered": answered,
        }))?;
        let correct = said
            .get("correct")
            .and_then(Value::as_f64)
            .context("no \"correct\"")?;
        let why = said.get("why").and_then(Value::as_str).unwrap_or_default();
        // A cast of a float stops at the ends of the integer's range.
        Ok((Ppm((correct * 1e6) as u32).min(Ppm::ONE), why.to_owned()))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let pipe = self.pipe.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = pipe.child.kill();
        let _ = pipe.child.wait();
    }
}

impl Environment for Bridge {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, level: u8) -> Item {
        let level = self.manifest.clamp(level);
        self.make(seed, level)
            .unwrap_or_else(|error| Item::faulty(&self.manifest, level, format!("{error:#}")))
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        if let Some(why) = item.fault() {
            return Score::unscored(why);
        }
        let mut score = tasks::exact(&self.manifest, item, completion);
        let Some(answered) = score.answer.clone().filter(|_| score.status == Status::Ok) else {
            return score;
        };
        match self.mark(item, completion, &answered) {
            Ok((correct, why)) => {
                score.reward = correct;
                score.parts = [("format", Ppm::ONE), ("correct", correct)]
                    .map(|(name, value)| Part {
                        name: name.into(),
                        value,
                    })
                    .to_vec();
                score.why = why.into();
                score
            }
            Err(error) => Score::unscored(&format!("{error:#}")),
        }
    }
}
