//! Lines for the Logs screen: what the node logged, and the events a person
//! would want to find there.

use std::collections::VecDeque;

use swarm_core::event::{BeaconSource, Event, LogLevel, Record};
use swarm_core::ids::PeerId;

use crate::text;

use super::{LABEL_BYTES, LINE_BYTES};

/// Lines kept: an hour of a calm node; the file has them all.
pub const LOG_LINES_KEPT: usize = 2_000;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at_ms: u64,
    /// The local peer it happened to.
    pub peer: Option<PeerId>,
    /// How grave.
    pub level: LogLevel,
    /// Which part of the node.
    pub target: String,
    /// What.
    pub message: String,
    /// How many times in a row.
    pub repeated: u32,
}

/// The newest lines.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    lines: VecDeque<LogLine>,
    /// Errors since the log begins.
    pub errors: u64,
    /// Warnings since the log begins.
    pub warnings: u64,
}

impl Logs {
    pub(super) fn push(&mut self, line: LogLine) {
        match line.level {
            LogLevel::Error => self.errors += 1,
            LogLevel::Warn => self.warnings += 1,
            LogLevel::Info => {}
        }
        // A flood of one line, by one peer or by all local ones, stays one line.
        if let Some(last) = self.lines.back_mut()
            && last.level == line.level
            && last.target == line.target
            && last.message == line.message
        {
            last.repeated = last.repeated.saturating_add(1);
            if last.peer != line.peer {
                last.peer = None;
            }
            return;
        }
        self.lines.push_back(line);
        if self.lines.len() > LOG_LINES_KEPT {
            self.lines.pop_front();
        }
    }

    /// Oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.lines.iter()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// The log line of an event, where it has one. `name` says what to call a
/// peer. A program that logs without a screen can print the same lines.
pub fn line(record: &Record, name: impl Fn(PeerId) -> String) -> Option<LogLine> {
    use LogLevel::{Info, Warn};
    let (level, target, message) = match &record.event {
        Event::Log {
            level,
            target,
            message,
        } => (*level, target.as_str(), message.clone()),
        Event::SwarmStarted {
            name,
            chain,
            resumed,
            ..
        } => {
            let how = if *resumed { "resumed" } else { "started" };
            let chain = match chain {
                Some(chain) if chain.devnet => format!("devnet {}", chain.chain_id),
                Some(chain) => format!("chain {}", chain.chain_id),
                None => "no chain".to_owned(),
            };
            (Info, "node", format!("swarm {name} {how}, {chain}"))
        }
        Event::PeerSeen { who, name, .. } => (Info, "peers", format!("{name} ({who}) is here")),
        Event::PeerAbsent { who, round, stage } => {
            let stage = stage.name();
            let who = name(*who);
            (
                Warn,
                "peers",
                format!("{who} missed {stage} of round {round}"),
            )
        }
        Event::Rejected {
            from,
            reason,
            detail,
        } => {
            let from = from.map_or_else(|| "an unknown peer".to_owned(), &name);
            let message = format!("refused from {from}: {reason} ({detail})");
            (Warn, "net", message)
        }
        Event::RefusedMore {
            from,
            reason,
            count,
        } => {
            let from = from.map_or_else(|| "unknown peers".to_owned(), &name);
            let message = format!("refused {count} more from {from}: {reason}");
            (Warn, "net", message)
        }
        Event::RoundOpened { round, source, .. } => {
            let source = match source {
                BeaconSource::Chain => "beacon from the chain",
                BeaconSource::Offline => "offline beacon: it will not settle",
            };
            (Info, "round", format!("round {round} opened, {source}"))
        }
        Event::Curriculum {
            round,
            amendment,
            amended,
            courses,
        } => {
            let moved: Vec<String> = courses
                .iter()
                .filter_map(|course| {
                    let from = course.from?;
                    let to = course.level;
                    Some(format!("{} from level {from} to {to}", course.env))
                })
                .collect();
            let message = match (amended, moved.as_slice()) {
                (true, _) => format!(
                    "from round {round} on amendment {amendment} holds: {} courses",
                    courses.len()
                ),
                (false, []) => return None,
                (false, moved) => format!("round {round}: {}", moved.join(", ")),
            };
            (Info, "curriculum", message)
        }
        Event::Attested {
            round,
            witness,
            agrees: false,
            ..
        } => {
            let witness = name(*witness);
            let message = format!("{witness} signed another scoreboard for round {round}");
            (Warn, "judge", message)
        }
        Event::Settled {
            round, block, gas, ..
        } => {
            let gas = text::count(*gas);
            let message = format!("round {round} settled in block {block}, {gas} gas");
            (Info, "chain", message)
        }
        Event::Unsettled { round, why } => (
            Warn,
            "chain",
            format!("round {round} is not settled: {why}"),
        ),
        Event::Evaluated { round, report } => {
            let message = format!(
                "after round {round}: held-out {} greedy, {} sampled",
                text::share(report.greedy),
                text::share(report.sampled)
            );
            (Info, "eval", message)
        }
        Event::CheckpointSaved { round, step, hash } => {
            let message = format!("checkpoint {hash} after round {round}, step {step}");
            (Info, "train", message)
        }
        Event::RoundEnded(summary) => {
            let message = format!(
                "round {} ended: {} right, reward {}, {}",
                summary.round,
                text::share(summary.accuracy),
                text::number(summary.reward, 3),
                text::span((summary.wall_s.max(0.0) * 1000.0) as u64)
            );
            (Info, "round", message)
        }
        Event::Stopped => (Info, "node", "stopped; state is saved".to_owned()),
        _ => return None,
    };
    Some(LogLine {
        at_ms: record.at_ms,
        peer: record.peer,
        level,
        target: text::clip(target, LABEL_BYTES),
        message: text::clip(&message, LINE_BYTES),
        repeated: 1,
    })
}
