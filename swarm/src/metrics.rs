//! Numbers for machines: the event stream, folded into what Prometheus reads
//! (`--metrics ADDR`) and into the network part of the report.
//!
//! Nothing here is measured twice: what is not an event is no metric, but for
//! the process's own memory and CPU. [`METRICS`] is the whole list; `METRICS.md`
//! is the same for people, and a test holds the two equal.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use swarm_core::event::{EndedBy, Event, LogLevel, Record};
use swarm_core::ids::PeerId;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Every metric: its name, its kind, what it counts.
pub const METRICS: [(&str, &str, &str); 24] = [
    (
        "murmur_info",
        "gauge",
        "1, with the program's version, the swarm's id and name as labels",
    ),
    (
        "murmur_peers_seen",
        "gauge",
        "other peers that have announced themselves",
    ),
    (
        "murmur_peers_found_total",
        "counter",
        "peers found, by the way they were found",
    ),
    ("murmur_round", "gauge", "the round a local peer is in"),
    (
        "murmur_stage_ended_total",
        "counter",
        "stages that ended, by stage and by what ended them: all_in or deadline",
    ),
    (
        "murmur_stage_milliseconds_total",
        "counter",
        "milliseconds spent in a stage",
    ),
    (
        "murmur_rounds_ended_total",
        "counter",
        "rounds that a local peer saw end",
    ),
    (
        "murmur_rounds_settled_total",
        "counter",
        "settlements seen on chain, or sent",
    ),
    (
        "murmur_rounds_unsettled_total",
        "counter",
        "rounds that gathered no quorum, or not yet",
    ),
    (
        "murmur_batches_received_total",
        "counter",
        "batches that passed every check, by stage",
    ),
    (
        "murmur_batch_bytes_total",
        "counter",
        "bytes of those batches",
    ),
    (
        "murmur_stages_missed_total",
        "counter",
        "stages in which another peer was waited for in vain",
    ),
    (
        "murmur_refused_total",
        "counter",
        "messages refused, by reason",
    ),
    (
        "murmur_train_steps",
        "gauge",
        "optimizer steps since the base model",
    ),
    (
        "murmur_train_reward",
        "gauge",
        "mean reward of the groups last trained on",
    ),
    (
        "murmur_round_accuracy",
        "gauge",
        "share of right answers in the last round, 0 to 1",
    ),
    (
        "murmur_heldout_accuracy",
        "gauge",
        "held-out accuracy, by mode: greedy or sampled",
    ),
    ("murmur_log_lines_total", "counter", "log lines, by level"),
    (
        "murmur_link_rtt_seconds",
        "gauge",
        "round-trip time to a peer, by peer and path: direct, relay or loopback",
    ),
    (
        "murmur_link_sent_bytes_total",
        "counter",
        "UDP bytes sent to a peer",
    ),
    (
        "murmur_link_received_bytes_total",
        "counter",
        "UDP bytes received from a peer",
    ),
    (
        "murmur_link_refused_total",
        "counter",
        "messages of a peer that were refused, by reason",
    ),
    (
        "process_resident_memory_bytes",
        "gauge",
        "memory this process holds",
    ),
    (
        "process_cpu_seconds_total",
        "counter",
        "CPU time this process has used",
    ),
];

/// Label sets kept of one metric, and peers of which numbers are kept: whoever
/// invents identities must not cost memory.
const MOST: usize = 512;
/// Scrapers at once.
const CONNECTIONS: usize = 16;

/// What passed between a local peer and another.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LinkNumbers {
    /// `direct`, `relay`, `loopback`, or `none` now.
    pub path: String,
    /// Round-trip time in microseconds, where known.
    pub rtt_us: Option<u64>,
    /// UDP bytes sent to it.
    pub sent_bytes: u64,
    /// UDP bytes received from it.
    pub received_bytes: u64,
    /// The ways in which it was found.
    pub found_by: Vec<String>,
    /// What was refused of it, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// One line of the report's network part.
#[derive(Debug, Clone, Serialize)]
pub struct LinkRow {
    /// The local peer.
    pub from: PeerId,
    /// The other.
    pub to: PeerId,
    /// What passed.
    #[serde(flatten)]
    pub numbers: LinkNumbers,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<&'static str, BTreeMap<String, f64>>,
    links: BTreeMap<(PeerId, PeerId), LinkNumbers>,
    seen: std::collections::BTreeSet<PeerId>,
    /// What was refused of nobody in particular.
    refused_of_unknown: BTreeMap<String, u64>,
}

/// Labels in Prometheus's writing. Values may be a stranger's text.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"");
        for letter in value.chars().take(128) {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

impl Metrics {
    fn slot(&mut self, name: &'static str, pairs: &[(&str, &str)]) -> Option<&mut f64> {
        debug_assert!(METRICS.iter().any(|(known, ..)| *known == name), "{name}");
        let sets = self.samples.entry(name).or_default();
        let labels = labels(pairs);
        if sets.len() >= MOST && !sets.contains_key(&labels) {
            return None;
        }
        Some(sets.entry(labels).or_default())
    }

    fn add(&mut self, name: &'static str, pairs: &[(&str, &str)], amount: f64) {
        if let Some(slot) = self.slot(name, pairs) {
            *slot += amount;
        }
    }

    fn set(&mut self, name: &'static str, pairs: &[(&str, &str)], value: f64) {
        if let Some(slot) = self.slot(name, pairs) {
            *slot = value;
        }
    }

    fn link(&mut self, from: PeerId, to: PeerId) -> Option<&mut LinkNumbers> {
        if self.links.len() >= MOST && !self.links.contains_key(&(from, to)) {
            return None;
        }
        Some(self.links.entry((from, to)).or_default())
    }

    /// Takes an event in.
    pub fn fold(&mut self, record: &Record) {
        let node = record.peer.map(|peer| peer.nickname()).unwrap_or_default();
        let node = ("node", node.as_str());
        match &record.event {
            Event::SwarmStarted { swarm, name, .. } => {
                let version = env!("CARGO_PKG_VERSION");
                let swarm = swarm.to_hex();
                let pairs = [("version", version), ("swarm", &swarm), ("name", name)];
                self.set("murmur_info", &pairs, 1.0);
            }
            Event::PeerSeen {
                who, local: false, ..
            } if self.seen.len() < MOST => {
                self.seen.insert(*who);
                self.set("murmur_peers_seen", &[], self.seen.len() as f64);
            }
            Event::PeerFound { who, by } => {
                self.add("murmur_peers_found_total", &[node, ("by", by)], 1.0);
                if let Some(from) = record.peer
                    && let Some(link) = self.link(from, *who)
                    && link.found_by.len() < 16
                {
                    link.found_by.push(by.clone());
                }
            }
            Event::PeerAbsent { stage, .. } => {
                let pairs = [node, ("stage", stage.name())];
                self.add("murmur_stages_missed_total", &pairs, 1.0);
            }
            Event::PeerLink {
                who,
                path,
                rtt_us,
                sent_bytes,
                received_bytes,
            } => {
                if let Some(from) = record.peer
                    && let Some(link) = self.link(from, *who)
                {
                    link.path.clone_from(path);
                    link.rtt_us = *rtt_us;
                    link.sent_bytes = *sent_bytes;
                    link.received_bytes = *received_bytes;
                }
            }
            Event::RoundOpened { round, .. } => self.set("murmur_round", &[node], *round as f64),
            Event::StageEnded {
                stage,
                ended_by,
                took_ms,
                ..
            } => {
                let stage = ("stage", stage.name());
                let by = match ended_by {
                    EndedBy::AllIn => "all_in",
                    EndedBy::Deadline => "deadline",
                };
                self.add("murmur_stage_ended_total", &[node, stage, ("by", by)], 1.0);
                let took = *took_ms as f64;
                self.add("murmur_stage_milliseconds_total", &[node, stage], took);
            }
            Event::BatchReceived { stage, bytes, .. } => {
                let pairs = [node, ("stage", stage.name())];
                self.add("murmur_batches_received_total", &pairs, 1.0);
                self.add("murmur_batch_bytes_total", &pairs, f64::from(*bytes));
            }
            Event::Rejected { from, reason, .. } => self.refused(record.peer, *from, reason, 1),
            Event::RefusedMore {
                from,
                reason,
                count,
            } => self.refused(record.peer, *from, reason, *count),
            Event::Trained { step, reward, .. } => {
                self.set("murmur_train_steps", &[node], *step as f64);
                self.set("murmur_train_reward", &[node], *reward);
            }
            Event::Evaluated { report, .. } => {
                let name = "murmur_heldout_accuracy";
                self.set(name, &[node, ("mode", "greedy")], report.greedy);
                self.set(name, &[node, ("mode", "sampled")], report.sampled);
            }
            Event::Settled { .. } => self.add("murmur_rounds_settled_total", &[], 1.0),
            Event::Unsettled { .. } => self.add("murmur_rounds_unsettled_total", &[node], 1.0),
            Event::RoundEnded(summary) => {
                self.add("murmur_rounds_ended_total", &[node], 1.0);
                self.set("murmur_round_accuracy", &[node], summary.accuracy);
            }
            Event::Log { level, .. } => {
                let level = match level {
                    LogLevel::Error => "error",
                    LogLevel::Warn => "warn",
                    LogLevel::Info => "info",
                };
                self.add("murmur_log_lines_total", &[("level", level)], 1.0);
            }
            _ => {}
        }
    }

    fn refused(&mut self, by: Option<PeerId>, of: Option<PeerId>, reason: &str, count: u64) {
        let node = by.map(|peer| peer.nickname()).unwrap_or_default();
        let pairs = [("node", node.as_str()), ("reason", reason)];
        self.add("murmur_refused_total", &pairs, count as f64);
        let counts = match (by, of) {
            (Some(by), Some(of)) => match self.link(by, of) {
                Some(link) => &mut link.refused,
                None => return,
            },
            _ => &mut self.refused_of_unknown,
        };
        if counts.len() < 32 || counts.contains_key(reason) {
            *counts.entry(reason.to_owned()).or_default() += count;
        }
    }

    /// The report's network part, by local peer and other.
    pub fn links(&self) -> Vec<LinkRow> {
        let rows = self.links.iter().map(|((from, to), numbers)| LinkRow {
            from: *from,
            to: *to,
            numbers: numbers.clone(),
        });
        rows.collect()
    }

    /// What was refused of senders that are not known, by reason.
    pub fn refused_of_unknown(&self) -> BTreeMap<String, u64> {
        self.refused_of_unknown.clone()
    }

    /// Everything, in Prometheus's text format.
    pub fn prometheus(&self) -> String {
        let mut all = self.samples.clone();
        let mut put = |name: &'static str, pairs: &[(&str, &str)], value: f64| {
            all.entry(name).or_default().insert(labels(pairs), value);
        };
        for ((from, to), link) in &self.links {
            let (node, peer) = (from.nickname(), to.to_hex());
            let (node, peer) = (("node", node.as_str()), ("peer", peer.as_str()));
            if let Some(rtt) = link.rtt_us {
                let pairs = [node, peer, ("path", link.path.as_str())];
                put("murmur_link_rtt_seconds", &pairs, rtt as f64 / 1e6);
            }
            let pairs = [node, peer];
            put(
                "murmur_link_sent_bytes_total",
                &pairs,
                link.sent_bytes as f64,
            );
            let received = link.received_bytes as f64;
            put("murmur_link_received_bytes_total", &pairs, received);
            for (reason, count) in &link.refused {
                let pairs = [node, peer, ("reason", reason.as_str())];
                put("murmur_link_refused_total", &pairs, *count as f64);
            }
        }
        if let Some((resident, cpu)) = process_numbers() {
            put("process_resident_memory_bytes", &[], resident);
            put("process_cpu_seconds_total", &[], cpu);
        }
        let mut text = String::new();
        for (name, kind, help) in METRICS {
            let Some(sets) = all.get(name) else { continue };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in sets {
                let _ = match labels.as_str() {
                    "" => writeln!(text, "{name} {value}"),
                    labels => writeln!(text, "{name}{{{labels}}} {value}"),
                };
            }
        }
        text
    }
}

/// Resident bytes and CPU seconds of this process, where the system tells.
fn process_numbers() -> Option<(f64, f64)> {
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), false);
    let process = system.process(pid)?;
    let cpu = process.accumulated_cpu_time() as f64 / 1000.0;
    Some((process.memory() as f64, cpu))
}

/// The fold, shared by the hub that feeds it and whoever reads it.
pub type Shared = Arc<Mutex<Metrics>>;

/// Takes an event in.
pub fn fold(metrics: &Shared, record: &Record) {
    let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.fold(record);
}

/// The fold, for one look.
pub fn read<T>(metrics: &Shared, look: impl FnOnce(&Metrics) -> T) -> T {
    // Counters: whole after every statement.
    look(&metrics.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Serves `GET /metrics` until `stop` is cancelled. Returns once the port is
/// open.
///
/// # Errors
/// The port can't be opened.
pub async fn serve(
    at: SocketAddr,
    metrics: Shared,
    stop: CancellationToken,
) -> Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind(at).await;
    let listener = listener
        .with_context(|| format!("--metrics {at}: can't listen there; choose another address"))?;
    let at = listener.local_addr().context("reading the metrics' port")?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = open.join_next() => {}
                accepted = listener.accept(), if open.len() < CONNECTIONS => {
                    // Gone already, or out of descriptors: the next may be well.
                    let Ok((stream, _)) = accepted else { continue };
                    let metrics = metrics.clone();
                    open.spawn(async move {
                        let service = service_fn(move |request| {
                            let answer = answer(&request, &metrics);
                            async move { Ok::<_, Infallible>(answer) }
                        });
                        // The scraper went away: nobody is left to tell.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            }
        }
        open.shutdown().await;
    });
    Ok((at, task))
}

fn answer(request: &Request<Incoming>, metrics: &Shared) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, text) = match request.uri().path() {
        "/metrics" if is_read => (StatusCode::OK, read(metrics, Metrics::prometheus)),
        _ => (StatusCode::NOT_FOUND, "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: Event) -> Record {
        Record {
            at_ms: 1,
            peer: Some(PeerId([1; 32])),
            event,
        }
    }

    #[test]
    fn the_list_for_people_is_the_list_for_machines() {
        let page = include_str!("../METRICS.md");
        let listed: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let known: Vec<&str> = METRICS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(listed, known);
        for (name, kind, help) in METRICS {
            let row = format!("| `{name}` | {kind} | {help} |");
            assert!(page.contains(&row), "METRICS.md lacks: {row}");
        }
    }

    #[test]
    fn refusals_are_counted_whether_or_not_they_were_shown() {
        let mut metrics = Metrics::default();
        let (from, reason) = (Some(PeerId([2; 32])), "oversize".to_owned());
        metrics.fold(&record(Event::Rejected {
            from,
            reason: reason.clone(),
            detail: String::new(),
        }));
        let count = 41;
        metrics.fold(&record(Event::RefusedMore {
            from,
            reason,
            count,
        }));
        assert_eq!(metrics.links()[0].numbers.refused["oversize"], 42);
        let text = metrics.prometheus();
        assert!(text.contains("reason=\"oversize\"} 42\n"), "{text}");
    }

    #[test]
    fn a_strangers_text_stays_inside_its_quotes() {
        assert_eq!(labels(&[("by", "a\"} 1\n\\")]), r#"by="a\"} 1\n\\""#);
    }

    #[test]
    fn invented_names_do_not_cost_memory() {
        let mut metrics = Metrics::default();
        for n in 0..3 * MOST as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            let who = PeerId(id);
            let by = format!("way {n}");
            metrics.fold(&record(Event::PeerFound { who, by }));
        }
        assert_eq!(metrics.links.len(), MOST);
        assert_eq!(metrics.samples["murmur_peers_found_total"].len(), MOST);
    }
}
