//! Where events go: every peer of this process emits into one hub, which
//! writes the file, the log lines and the screen's queue.
//!
//! The file is the record, so its queue waits; the screen only watches, so its
//! queue drops and counts what it can't take.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use swarm_core::event::{Event, LogLevel, Record};
use swarm_core::ids::PeerId;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::metrics;

/// Milliseconds since the Unix epoch. The only clock of the node: everything
/// below is told the time. It follows the machine's clock forward and never goes
/// back: one that is set back would have every deadline wait for as long.
pub fn now_ms() -> u64 {
    static LAST: Mutex<Option<(u64, Instant)>> = Mutex::new(None);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = wall.map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    });
    // A pair of numbers: whole after every statement.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let (now, base) = onward(*last, wall, Instant::now());
    *last = Some(base);
    now
}

/// The time now, and what to count on from: the machine's clock, or, where that
/// has been set back, what has passed since.
fn onward(base: Option<(u64, Instant)>, wall: u64, now: Instant) -> (u64, (u64, Instant)) {
    let Some((then_ms, then)) = base else {
        return (wall, (wall, now));
    };
    let passed = now.saturating_duration_since(then).as_millis();
    let steady = then_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
    if wall >= steady {
        (wall, (wall, now))
    } else {
        // Counted from the same moment, so that no part of a millisecond is lost.
        (steady, (then_ms, then))
    }
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
    /// Numbers for machines, and for the report.
    pub metrics: metrics::Shared,
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
    /// Start the hub. `failed` is cancelled if the journal can't be written: a
    /// node without its record is to end, and [`Writer::finish`] says why.
    pub fn start(
        journal: Journal,
        listeners: Listeners,
        failed: CancellationToken,
    ) -> (Self, Writer) {
        let (records, queue) = channel();
        let thread = std::thread::spawn(move || {
            write_all(&queue, journal, &listeners).inspect_err(|_| failed.cancel())
        });
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
        // the process is told to end.
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

fn write_all(queue: &Receiver<Record>, mut journal: Journal, listeners: &Listeners) -> Result<()> {
    while let Ok(record) = queue.recv() {
        let mut next = Some(record);
        // Everything that is waiting goes out in one flush.
        while let Some(record) = next {
            journal.write(&record)?;
            metrics::fold(&listeners.metrics, &record);
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
        journal.flush()?;
    }
    journal.finish()
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
            format!("{how} swarm {name} ({swarm}), {chain}\njoin with: murmur join {ticket}")
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
        Event::RefusedMore {
            from,
            reason,
            count,
        } => {
            let from = from.map_or_else(|| "unknown".to_owned(), |peer| peer.nickname());
            format!("refused {count} more from {from}: {reason}")
        }
        // As the Logs screen says it.
        Event::Curriculum { .. } => tui::state::logs::line(record, |peer| peer.nickname())?.message,
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
        Event::Probed {
            round,
            before,
            after,
            items,
            ..
        } => format!(
            "round {round}: the update moved {items} held-out items from {} to {} right, greedy",
            percent(*before),
            percent(*after)
        ),
        Event::Evaluated { round, report } => {
            let later = |name: &str, share: Option<f64>| {
                share.map_or_else(String::new, |share| format!(", {name} {}", percent(share)))
            };
            format!(
                "round {round}: held-out accuracy greedy {}, sampled {}, well formed {}{}{}",
                percent(report.greedy),
                percent(report.sampled),
                percent(report.format_rate),
                later("verdicts", report.verdicts),
                later("second answers", report.resolved)
            )
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_follows_the_machines_forward_and_never_back() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (now, base) = onward(None, 1_000_000, start);
        assert_eq!(now, 1_000_000);
        let (now, base) = onward(Some(base), 1_005_000, after(5));
        assert_eq!(now, 1_005_000);
        // Set back by an hour: time goes on at its own pace.
        let (now, base) = onward(Some(base), 7_000, after(6));
        assert_eq!(now, 1_006_000);
        let (now, base) = onward(Some(base), 10_000, after(9));
        assert_eq!(now, 1_009_000);
        // Set forward, or asleep for an hour: it follows.
        let (now, _) = onward(Some(base), 4_000_000, after(10));
        assert_eq!(now, 4_000_000);
    }
}
