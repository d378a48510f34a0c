//! What a node of the crowd tells its keeper: lines on its standard output, and a
//! file of when which announcement was said and heard.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use swarm_core::event::{EndedBy, Event, LogLevel, Record, Stage};
use swarm_core::ids::PeerId;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) told: Told,
}

/// What happened at a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It is up, and this is who it is.
    Up { peer: PeerId },
    /// It heard another peer for the first time.
    Met,
    /// It takes part in a round, which has these witnesses.
    Opened { round: u64, committee: Vec<PeerId> },
    /// A stage ended here.
    Stage {
        round: u64,
        stage: Stage,
        missing: u32,
        by_deadline: bool,
        took_ms: u64,
    },
    /// A round ended here; UDP bytes until then.
    Ended {
        round: u64,
        settled: bool,
        included: u32,
        peers: u32,
        wall_s: f64,
        bytes: u64,
    },
    /// A round gathered no quorum.
    Unsettled { round: u64, why: String },
    /// Messages were refused.
    Refused { reason: String, count: u64 },
    /// Something a person should know.
    Warned { target: String, text: String },
}

/// Folds a node's events into lines.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    met: bool,
    me: Option<PeerId>,
    links: BTreeMap<PeerId, u64>,
}

impl Teller {
    /// What of a record is worth a line.
    pub(crate) fn tell(&mut self, record: Record) -> Option<Line> {
        let Record {
            at_ms, peer, event, ..
        } = record;
        let line = |told| Some(Line { at_ms, told });
        if self.me.is_none()
            && let Some(peer) = peer
        {
            self.me = Some(peer);
            println(&Line {
                at_ms,
                told: Told::Up { peer },
            });
        }
        match event {
            Event::PeerSeen { local: false, .. } if !self.met => {
                self.met = true;
                line(Told::Met)
            }
            Event::PeerLink {
                who,
                sent_bytes,
                received_bytes,
                ..
            } => {
                self.links.insert(who, sent_bytes + received_bytes);
                None
            }
            Event::RoundOpened {
                round, committee, ..
            } => line(Told::Opened { round, committee }),
            Event::StageEnded {
                round,
                stage,
                seen,
                expected,
                ended_by,
                took_ms,
            } => line(Told::Stage {
                round,
                stage,
                missing: expected - seen,
                by_deadline: ended_by == EndedBy::Deadline,
                took_ms,
            }),
            Event::RoundEnded(summary) => line(Told::Ended {
                round: summary.round,
                settled: summary.settled,
                included: summary.included,
                peers: summary.peers,
                wall_s: summary.wall_s,
                bytes: self.links.values().sum(),
            }),
            Event::Unsettled { round, why } => line(Told::Unsettled { round, why }),
            Event::Rejected { reason, .. } => line(Told::Refused { reason, count: 1 }),
            Event::RefusedMore { reason, count, .. } => line(Told::Refused { reason, count }),
            Event::Log {
                level: LogLevel::Warn | LogLevel::Error,
                target,
                message: text,
            } => line(Told::Warned { target, text }),
            _ => None,
        }
    }
}

/// Writes a line. If nobody reads any more, the node is about to be told to end.
pub(crate) fn println(line: &Line) {
    if let Ok(mut json) = serde_json::to_vec(line) {
        json.push(b'\n');
        let _ = io::stdout().lock().write_all(&json);
    }
}

/// One announcement of so many is timed, so that timing costs nothing.
const SAMPLED: u64 = 4;
/// Kind, nonce, microseconds.
const ENTRY: usize = 17;

/// Microseconds since 1970: all nodes are on one machine, and share its clock.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

/// Writes down when announcements were said and heard.
pub(crate) struct Timing(Mutex<File>);

impl Timing {
    /// Appends to this file.
    pub(crate) fn to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self(Mutex::new(file)))
    }
}

impl<S: tracing::Subscriber> Layer<S> for Timing {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        if seen.nonce % SAMPLED == 0 {
            let mut entry = [0; ENTRY];
            entry[0] = u8::from(seen.heard);
            entry[1..9].copy_from_slice(&seen.nonce.to_le_bytes());
            entry[9..].copy_from_slice(&now_us().to_le_bytes());
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // A full disk shows in what is missing.
            let _ = file.write_all(&entry);
        }
    }
}

#[derive(Default)]
struct Seen {
    nonce: u64,
    heard: bool,
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "nonce" {
            self.nonce = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "what" {
            self.heard = value == "heard";
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// When announcements were said, by nonce, and every time one was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    said: BTreeMap<u64, u64>,
    heard: Vec<(u64, u64)>,
}

impl Heard {
    /// Adds a node's file. A kill may have cut off its last entry.
    pub(crate) fn read(&mut self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        for entry in bytes.chunks_exact(ENTRY) {
            let number = |at: usize| entry[at..].first_chunk().map(|n| u64::from_le_bytes(*n));
            let (Some(nonce), Some(at)) = (number(1), number(9)) else {
                continue;
            };
            match entry[0] {
                0 => drop(self.said.insert(nonce, at)),
                _ => self.heard.push((nonce, at)),
            }
        }
        Ok(())
    }

    /// Microseconds from saying to hearing, sorted, of what was said in a time
    /// (in milliseconds); and how many announcements that were.
    pub(crate) fn latencies(&self, from_ms: u64, until_ms: u64) -> (Vec<u64>, usize) {
        let within = |at: u64| (from_ms..until_ms).contains(&(at / 1000));
        let heard = self.heard.iter().filter_map(|(nonce, at)| {
            let said = *self.said.get(nonce)?;
            within(said).then(|| at.saturating_sub(said))
        });
        let mut all: Vec<u64> = heard.collect();
        all.sort_unstable();
        let said = self.said.values().filter(|at| within(**at)).count();
        (all, said)
    }
}
