//! The event log, `events.jsonl`: one JSON object a line, repaired when it is
//! opened and bounded while it grows.
//!
//! When the file reaches [`LIMIT`] it is rewritten beside and renamed: its
//! newest quarter stays as it is; of what is older, rounds keep their results
//! (what they came to, training, accuracy, settlement, reputation, log lines)
//! and lose their texts and stages, the oldest first once even that is too
//! much. A replay, and the screens of the next start, show all that is left,
//! and the log says what is gone. A torn last line is cut off, and said.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use swarm_core::event::{Event, LogLevel, Record};

/// The most bytes of an event log: at its fullest some 200 rounds of four peers
/// with all their texts; once rewritten, the newest 50 of them and the results of
/// about a thousand before.
pub const LIMIT: u64 = 64 * 1024 * 1024;
/// The longest line that is read when the log is rewritten.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// An open event log.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    limit: u64,
}

/// What a rewriting must know of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Names the swarm at a start. What is kept begins with the last one before
    /// it, since a replay must know what it replays.
    Head,
    /// Outlives the texts of its round.
    Result,
    Detail,
}

impl Journal {
    /// Open the log at `path`, or begin one. A torn last line, as a power cut
    /// leaves it, is cut off; the second value then says so.
    ///
    /// # Errors
    /// It can't be opened or repaired, or is some other file: that is left as it is.
    pub fn open(path: &Path) -> Result<(Self, Option<String>)> {
        Self::bounded(path, LIMIT)
    }

    fn bounded(path: &Path, limit: u64) -> Result<(Self, Option<String>)> {
        let open = || -> io::Result<(File, Option<String>)> {
            let mut file = append(path)?;
            if !begins_as_log(&mut file)? {
                return Err(io::Error::other(
                    "this is not an event log; move it away to start a new one",
                ));
            }
            let torn = torn_tail(&mut file)?;
            let notice = if torn > 0 {
                let whole = file.metadata()?.len() - torn;
                file.set_len(whole)?;
                Some(format!(
                    "the last {torn} bytes of the event log were torn and are cut off"
                ))
            } else {
                None
            };
            Ok((file, notice))
        };
        let (file, notice) = open().with_context(|| format!("opening {}", path.display()))?;
        let bytes = file
            .metadata()
            .with_context(|| format!("reading {}", path.display()))?
            .len();
        let journal = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            bytes,
            limit,
        };
        Ok((journal, notice))
    }

    /// Add a record; it is in the file after [`flush`](Self::flush).
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).context("encoding an event")?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.failed())?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Put everything into the file, and rewrite it if it has grown too large.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| self.failed())?;
        if self.bytes > self.limit {
            let last_ms = self.rewrite().with_context(|| self.failed())?;
            let before = self.limit / (1024 * 1024);
            self.write(&Record {
                at_ms: last_ms,
                peer: None,
                event: Event::Log {
                    level: LogLevel::Info,
                    target: "home".to_owned(),
                    message: format!(
                        "the event log reached {before} MiB: its older rounds keep their \
                         results and lose their texts"
                    ),
                },
            })?;
            self.file.flush().with_context(|| self.failed())?;
        }
        Ok(())
    }

    /// Close the log, on disk for good.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file
            .get_ref()
            .sync_all()
            .with_context(|| self.failed())
    }

    fn failed(&self) -> String {
        format!("writing {} (is the disk full?)", self.path.display())
    }

    /// Writes what is to be kept beside, and puts it in the log's place. What
    /// comes back is when its last record was.
    fn rewrite(&mut self) -> io::Result<u64> {
        let lines = scan(&self.path)?;
        let kept = keep(&lines, self.limit / 4);
        let beside = self.path.with_extension("jsonl.new");
        let mut from = BufReader::new(File::open(&self.path)?);
        let mut to = BufWriter::new(File::create(&beside)?);
        for (line, kept) in lines.iter().zip(kept) {
            if kept {
                from.seek(SeekFrom::Start(line.start))?;
                io::copy(&mut Read::by_ref(&mut from).take(line.bytes), &mut to)?;
            }
        }
        let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&beside, &self.path)?;
        let file = append(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = BufWriter::new(file);
        Ok(lines.last().map_or(0, |line| line.at_ms))
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    start: u64,
    bytes: u64,
    kind: Kind,
    at_ms: u64,
}

/// Where the lines of a log are and what they are; damaged ones are left out.
fn scan(path: &Path) -> io::Result<Vec<Line>> {
    #[derive(Deserialize)]
    struct Outline {
        at_ms: u64,
        #[serde(rename = "type")]
        kind: String,
    }
    let mut reader = BufReader::new(File::open(path)?);
    let mut lines = Vec::new();
    let mut start = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = Read::by_ref(&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(lines);
        }
        if let Ok(outline) = serde_json::from_slice::<Outline>(&line)
            && line.last() == Some(&b'\n')
        {
            lines.push(Line {
                start,
                bytes: read as u64,
                kind: kind(&outline.kind),
                at_ms: outline.at_ms,
            });
        }
        start += read as u64;
    }
}

/// What becomes of an event's line, by the event's name in the file.
fn kind(name: &str) -> Kind {
    match name {
        "swarm_started" => Kind::Head,
        "peer_seen" | "round_ended" | "trained" | "evaluated" | "settled" | "unsettled"
        | "curriculum" | "reputation" | "rejected" | "log" | "stopped" => Kind::Result,
        _ => Kind::Detail,
    }
}

/// Which lines stay: the newest `share` of bytes whole, and before them as many
/// bytes of results, the newest ones; and the head of the oldest.
fn keep(lines: &[Line], share: u64) -> Vec<bool> {
    let mut kept = vec![false; lines.len()];
    let (mut whole, mut results) = (share, share);
    for (line, kept) in lines.iter().zip(&mut kept).rev() {
        if line.bytes <= whole {
            whole -= line.bytes;
            *kept = true;
        } else {
            // From the first that does not fit, only results are looked at.
            whole = 0;
            if line.kind != Kind::Detail && line.bytes <= results {
                results -= line.bytes;
                *kept = true;
            } else if line.kind != Kind::Detail {
                results = 0;
            }
        }
    }
    let oldest = kept.iter().position(|kept| *kept).unwrap_or(lines.len());
    let mut before = lines[..oldest].iter();
    if let Some(head) = before.rposition(|line| line.kind == Kind::Head) {
        kept[head] = true;
    }
    kept
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)
}

/// Whether a file is empty or begins as an object does, or as the zeros that a
/// power cut leaves in a file just made.
fn begins_as_log(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    Read::by_ref(file).take(1).read_to_end(&mut first)?;
    Ok(matches!(first[..], [] | [b'{' | 0]))
}

/// How many bytes follow the last line break.
fn torn_tail(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let length = file.metadata()?.len();
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(length - (start + at as u64 + 1));
        }
        end = start;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::event::{EvalReport, Stage};
    use swarm_core::ids::SwarmId;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        (folder, path)
    }

    fn record(at_ms: u64, event: Event) -> Record {
        Record {
            at_ms,
            peer: None,
            event,
        }
    }

    fn log(at_ms: u64, message: &str) -> Record {
        record(
            at_ms,
            Event::Log {
                level: LogLevel::Info,
                target: "test".into(),
                message: message.into(),
            },
        )
    }

    #[test]
    fn a_torn_log_is_cut_at_the_last_whole_line() {
        let (_folder, path) = folder();
        fs::write(&path, b"{\"a\":1}\n{\"b\":").unwrap();
        let (mut journal, notice) = Journal::open(&path).unwrap();
        assert!(notice.unwrap().contains("5 bytes"));
        journal.write(&log(2, "c")).unwrap();
        journal.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"a\":1}\n{\"at_ms\":2"), "{text}");
        assert!(Journal::open(&path).unwrap().1.is_none());
    }

    #[test]
    fn a_log_of_one_torn_line_is_emptied() {
        let (_folder, path) = folder();
        for byte in *b"{\0" {
            fs::write(&path, vec![byte; 200_000]).unwrap();
            let notice = Journal::open(&path).unwrap().1.unwrap();
            assert!(notice.contains("200000 bytes"), "{notice}");
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_left_alone() {
        let (_folder, path) = folder();
        for text in ["dear diary", "dear diary,\n{\"a\":1}\n"] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", Journal::open(&path).unwrap_err());
            assert!(error.contains("not an event log"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_log_that_grows_too_large_keeps_results_and_the_newest_texts() {
        const LIMIT: u64 = 64 * 1024;
        let (_folder, path) = folder();
        let (mut journal, _) = Journal::bounded(&path, LIMIT).unwrap();
        journal
            .write(&record(
                0,
                Event::SwarmStarted {
                    version: 1,
                    swarm: SwarmId([1; 32]),
                    name: "test".into(),
                    chain: None,
                    group_size: 8,
                    ticket: "t".into(),
                    resumed: false,
                },
            ))
            .unwrap();
        for round in 1..=600 {
            for stage in Stage::ALL {
                let deadline_ms = round;
                journal
                    .write(&record(
                        round,
                        Event::StageStarted {
                            round,
                            stage,
                            deadline_ms,
                        },
                    ))
                    .unwrap();
            }
            let report = EvalReport {
                greedy: 0.5,
                sampled: 0.5,
                format_rate: 1.0,
                items: 3,
                ..EvalReport::default()
            };
            journal
                .write(&record(round, Event::Evaluated { round, report }))
                .unwrap();
            journal.flush().unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= LIMIT + 1_024);
        }
        journal.finish().unwrap();
        let (records, problems) = tui::read_events(BufReader::new(File::open(&path).unwrap()));
        assert!(problems.is_empty(), "{problems:?}");
        assert!(matches!(records[0].event, Event::SwarmStarted { .. }));
        let rounds = |stages: bool| {
            let number = records
                .iter()
                .filter_map(move |record| match &record.event {
                    Event::StageStarted { round, .. } if stages => Some(*round),
                    Event::Evaluated { round, .. } if !stages => Some(*round),
                    _ => None,
                });
            let number: Vec<u64> = number.collect();
            (number[0], number[number.len() - 1])
        };
        let (stages, results) = (rounds(true), rounds(false));
        assert_eq!((stages.1, results.1), (600, 600), "the newest are there");
        assert!(results.0 + 50 < stages.0, "{results:?}, {stages:?}");
        let said = |record: &Record| matches!(&record.event, Event::Log { message, .. } if message.contains("lose their texts"));
        assert!(records.iter().any(said));
        // In the order in which it happened, which is how it plays.
        assert!(records.is_sorted_by_key(|record| record.at_ms));
    }
}
