//! Where events go: every peer of this process emits into one hub, which
//! writes the file, the log lines and the screen's queue.
//!
//! The file is the record, so its queue waits; the screen only watches, so its
//! queue drops and counts what it can't take.

use std::io::{BufWriter, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use swarm_core::event::{Event, LogLevel, Record};
use swarm_core::ids::PeerId;

/// Milliseconds since the Unix epoch. The only clock of the node: everything
/// below is told the time.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

/// A handle that emits; cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    records: Sender<Record>,
    peer: Option<PeerId>,
}

/// Who listens, beside the file.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The screen's queue.
    pub screen: Option<tui::Feed>,
    /// Plain lines to stderr.
    pub stderr: bool,
}

/// The thread behind the hub; joined to be sure that the file is complete.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// Wait until all [`Hub`] handles are gone and everything is written.
    pub fn finish(self) -> Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the event writer panicked"))
    }
}

impl Hub {
    /// Start the hub: `file` gets one JSON object a line.
    pub fn start(file: std::fs::File, listeners: Listeners) -> (Self, Writer) {
        let (records, queue) = channel();
        let thread = std::thread::spawn(move || write_all(&queue, file, &listeners));
        (
            Self {
                records,
                peer: None,
            },
            Writer { thread },
        )
    }

    /// The same hub, speaking for one local peer.
    pub fn for_peer(&self, peer: PeerId) -> Self {
        Self {
            records: self.records.clone(),
            peer: Some(peer),
        }
    }

    /// Tell everyone who listens.
    pub fn emit(&self, event: Event) {
        // The writer outlives every handle; after a failed disk it is gone and
        // the process is already ending with that error.
        let _ = self.records.send(Record {
            at_ms: now_ms(),
            peer: self.peer,
            event,
        });
    }

    /// A line for the Logs screen.
    pub fn log(&self, level: LogLevel, target: &str, message: impl Into<String>) {
        self.emit(Event::Log {
            level,
            target: target.to_owned(),
            message: message.into(),
        });
    }
}

fn write_all(queue: &Receiver<Record>, file: std::fs::File, listeners: &Listeners) -> Result<()> {
    let mut file = BufWriter::new(file);
    while let Ok(record) = queue.recv() {
        let mut next = Some(record);
        // Everything that is waiting goes out in one flush.
        while let Some(record) = next {
            serde_json::to_writer(&mut file, &record).context("writing events.jsonl")?;
            file.write_all(b"\n").context("writing events.jsonl")?;
            if listeners.stderr
                && let Some(line) = line(&record)
            {
                eprintln!("{line}");
            }
            if let Some(screen) = &listeners.screen {
                screen.send(record);
            }
            next = queue.try_recv().ok();
        }
        file.flush()
            .context("writing events.jsonl (is the disk full?)")?;
    }
    file.into_inner()
        .context("writing events.jsonl")?
        .sync_all()
        .context("syncing events.jsonl")
}

/// Who speaks, for a log line.
fn speaker(record: &Record) -> String {
    record
        .peer
        .map_or_else(|| "swarm".to_owned(), |peer| peer.nickname())
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// A plain line for stderr, or nothing for events that only screens need.
pub fn line(record: &Record) -> Option<String> {
    let who = speaker(record);
    let text = match &record.event {
        Event::SwarmStarted {
            name,
            swarm,
            chain,
            ticket,
            resumed,
            ..
        } => {
            let chain = chain.as_ref().map_or_else(
                || "offline, rounds will not settle".to_owned(),
                |chain| {
                    let kind = if chain.devnet {
                        "embedded devnet"
                    } else {
                        "chain"
                    };
                    format!("{kind} {} at {}", chain.chain_id, chain.rpc)
                },
            );
            let how = if *resumed { "resumed" } else { "started" };
            format!(
                "{how} swarm {name} ({swarm}), {chain}\njoin with: murmur run --peers 1 --join {ticket}"
            )
        }
        Event::PeerSeen {
            who: seen,
            name,
            local: false,
            ..
        } => format!("sees {name} ({seen})"),
        Event::PeerAbsent {
            who: absent,
            round,
            stage,
        } => {
            format!(
                "round {round}: {} missed {}",
                absent.nickname(),
                stage.name()
            )
        }
        Event::Rejected {
            from,
            reason,
            detail,
        } => {
            let from = from.map_or_else(|| "unknown".to_owned(), |peer| peer.nickname());
            format!("refused from {from}: {reason} ({detail})")
        }
        Event::Trained {
            round,
            step,
            loss,
            entropy,
            reward,
            local_groups,
            external_groups,
            ..
        } => {
            let external: u32 = external_groups.values().sum();
            format!(
                "round {round}: step {step}, {local_groups} own + {external} external groups, \
                 reward {reward:.3}, loss {loss:.4}, entropy {entropy:.3}"
            )
        }
        Event::Evaluated { round, report } => format!(
            "round {round}: held-out accuracy greedy {}, sampled {}, well formed {}",
            percent(report.greedy),
            percent(report.sampled),
            percent(report.format_rate)
        ),
        Event::Settled {
            round,
            tx,
            block,
            gas,
            ..
        } => {
            format!("round {round}: settled in block {block}, tx {tx}, gas {gas}")
        }
        Event::Unsettled { round, why } => format!("round {round}: not settled: {why}"),
        Event::RoundEnded(summary) => format!(
            "round {}: accuracy {}, reward {:.3}, verdicts {}, resolutions {}, {:.1} s",
            summary.round,
            percent(summary.accuracy),
            summary.reward,
            percent(summary.judge_accuracy),
            percent(summary.resolve_accuracy),
            summary.wall_s
        ),
        Event::Log {
            level,
            target,
            message,
        } => {
            let level = match level {
                LogLevel::Error => "error: ",
                LogLevel::Warn => "warning: ",
                LogLevel::Info => "",
            };
            format!("{target}: {level}{message}")
        }
        Event::Stopped => "stopped; state is saved".to_owned(),
        _ => return None,
    };
    Some(format!("[{who}] {text}"))
}
