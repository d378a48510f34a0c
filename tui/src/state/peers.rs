//! Who is there, how they are reached, what was refused, and their reputation.

use std::collections::{BTreeMap, BTreeSet};

use swarm_core::event::{Event, Record, ScoreRow, Stage};
use swarm_core::ids::{Address, PeerId};

use crate::text;

use super::series::Series;
use super::{LABEL_BYTES, LINE_BYTES};

/// Peers kept; past a few dozen nobody reads the list, and whoever invents
/// identities must not cost memory. The longest silent remote one goes first.
pub const PEERS_KEPT: usize = 512;
/// Reasons counted apart; the rest are counted under [`OTHER_REASON`].
pub const REASONS_KEPT: usize = 16;
/// The reason that stands for all further ones.
pub const OTHER_REASON: &str = "other reasons";
/// Local peers whose links to one peer are kept: more than run in a process.
const LINKS_KEPT: usize = 16;

/// Ways to find a peer that are kept: more than there are.
const WAYS_KEPT: usize = 16;

/// How a peer is reached.
#[derive(Debug, Clone)]
pub struct Link {
    /// `direct`, `relay` or `loopback`.
    pub path: String,
    /// Round-trip time in microseconds, where known.
    pub rtt_us: Option<u64>,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// What was refused, counted by reason.
#[derive(Debug, Clone, Default)]
pub struct Rejects {
    /// Counts by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// All of them.
    pub total: u64,
    /// The newest: its reason and what exactly.
    pub last: Option<(String, String)>,
}

impl Rejects {
    fn count(&mut self, reason: &str, detail: &str) {
        let label = text::clip(reason, LABEL_BYTES);
        self.last = Some((label, text::clip(detail, LINE_BYTES)));
        self.more(reason, 1);
    }

    fn more(&mut self, reason: &str, count: u64) {
        let reason = text::clip(reason, LABEL_BYTES);
        self.total = self.total.saturating_add(count);
        let known = self.by_reason.contains_key(&reason);
        let key = if known || self.by_reason.len() < REASONS_KEPT {
            reason
        } else {
            OTHER_REASON.to_owned()
        };
        let counted = self.by_reason.entry(key).or_default();
        *counted = counted.saturating_add(count);
    }
}

/// A score as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The score in ppm.
    pub score_ppm: u32,
    /// Settled rounds it was scored in.
    pub rounds: u64,
    /// The round this follows.
    pub round: u64,
}

/// One peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its key.
    pub id: PeerId,
    /// The name it announced.
    pub name: Option<String>,
    /// Who owns its reputation.
    pub address: Option<Address>,
    /// Whether it runs in this process.
    pub local: bool,
    /// When anything was last heard of it.
    pub last_ms: u64,
    /// The last batch that arrived from it.
    pub last_stage: Option<(u64, Stage)>,
    /// Batches that passed every check.
    pub batches: u64,
    /// Stages that others waited for and it missed.
    pub absences: u64,
    /// The last of them.
    pub last_absence: Option<(u64, Stage)>,
    /// The ways in which it was found, over local peers.
    pub found_by: BTreeSet<String>,
    /// How each local peer reaches it.
    pub links: BTreeMap<Option<PeerId>, Link>,
    /// What of its messages was refused.
    pub rejects: Rejects,
    /// Its score on the ledger.
    pub standing: Option<Standing>,
    /// The ledger's score over rounds, 0 to 1.
    pub reputation: Series,
    /// What it contributed, round by round, 0 to 1.
    pub contribution: Series,
    /// Its row on the newest scoreboard, and that round.
    pub row: Option<(u64, ScoreRow)>,
}

impl Peer {
    fn new(id: PeerId) -> Self {
        Self {
            id,
            name: None,
            address: None,
            local: false,
            last_ms: 0,
            last_stage: None,
            batches: 0,
            absences: 0,
            last_absence: None,
            found_by: BTreeSet::new(),
            links: BTreeMap::new(),
            rejects: Rejects::default(),
            standing: None,
            reputation: Series::default(),
            contribution: Series::default(),
            row: None,
        }
    }

    /// The quickest path to it that is known, over local peers.
    pub fn best_link(&self) -> Option<&Link> {
        self.links
            .values()
            .min_by_key(|link| link.rtt_us.unwrap_or(u64::MAX))
    }

    /// Bytes sent to it and received from it, over local peers.
    pub fn traffic(&self) -> (u64, u64) {
        self.links.values().fold((0, 0), |(sent, received), link| {
            (
                u64::saturating_add(sent, link.sent_bytes),
                u64::saturating_add(received, link.received_bytes),
            )
        })
    }
}

/// All peers.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// By key.
    pub rows: BTreeMap<PeerId, Peer>,
    /// Refused messages whose sender is not known.
    pub unknown: Rejects,
}

impl Peers {
    /// A peer's row, made when there is none.
    fn row(&mut self, id: PeerId, at_ms: u64) -> &mut Peer {
        if !self.rows.contains_key(&id) && self.rows.len() >= PEERS_KEPT {
            let silent = self
                .rows
                .values()
                .filter(|peer| !peer.local)
                .min_by_key(|peer| peer.last_ms)
                .or_else(|| self.rows.values().min_by_key(|peer| peer.last_ms))
                .map(|peer| peer.id);
            if let Some(silent) = silent {
                self.rows.remove(&silent);
            }
        }
        let peer = self.rows.entry(id).or_insert_with(|| Peer::new(id));
        peer.last_ms = peer.last_ms.max(at_ms);
        peer
    }

    pub(super) fn fold(&mut self, record: &Record) {
        let at_ms = record.at_ms;
        match &record.event {
            Event::PeerSeen {
                who,
                name,
                address,
                local,
            } => {
                let peer = self.row(*who, at_ms);
                peer.name = Some(text::clip(name, LABEL_BYTES));
                peer.address = Some(*address);
                // Two local peers see each other: one that runs here stays local.
                peer.local |= *local;
            }
            Event::PeerAbsent { who, round, stage } => {
                let peer = self.row(*who, at_ms);
                if peer.last_absence != Some((*round, *stage)) {
                    peer.absences += 1;
                }
                peer.last_absence = Some((*round, *stage));
            }
            Event::PeerFound { who, by } => {
                let found_by = &mut self.row(*who, at_ms).found_by;
                if found_by.len() < WAYS_KEPT {
                    found_by.insert(text::clip(by, LABEL_BYTES));
                }
            }
            Event::PeerLink {
                who,
                path,
                rtt_us,
                sent_bytes,
                received_bytes,
            } => {
                let links = &mut self.row(*who, at_ms).links;
                if links.len() < LINKS_KEPT || links.contains_key(&record.peer) {
                    let link = Link {
                        path: text::clip(path, LABEL_BYTES),
                        rtt_us: *rtt_us,
                        sent_bytes: *sent_bytes,
                        received_bytes: *received_bytes,
                    };
                    links.insert(record.peer, link);
                }
            }
            Event::BatchReceived {
                round, stage, from, ..
            } => {
                let peer = self.row(*from, at_ms);
                peer.batches += 1;
                peer.last_stage = peer.last_stage.max(Some((*round, *stage)));
            }
            Event::Rejected {
                from,
                reason,
                detail,
            } => match from {
                Some(from) => self.row(*from, at_ms).rejects.count(reason, detail),
                None => self.unknown.count(reason, detail),
            },
            Event::RefusedMore {
                from,
                reason,
                count,
            } => match from {
                Some(from) => self.row(*from, at_ms).rejects.more(reason, *count),
                None => self.unknown.more(reason, *count),
            },
            Event::Judged { round, rows, .. } => {
                for row in rows.iter().take(PEERS_KEPT) {
                    let peer = self.row(row.peer, at_ms);
                    let score = text::fraction(row.score_ppm);
                    peer.contribution.set(*round, score);
                    if peer.row.as_ref().is_none_or(|(newest, _)| newest <= round) {
                        let row = ScoreRow {
                            why: text::clip(&row.why, LINE_BYTES),
                            ..row.clone()
                        };
                        peer.row = Some((*round, row));
                    }
                }
            }
            Event::Reputation {
                who,
                score_ppm,
                rounds,
                round,
            } => {
                let peer = self.row(*who, at_ms);
                peer.reputation.set(*round, text::fraction(*score_ppm));
                if peer
                    .standing
                    .is_none_or(|standing| standing.round <= *round)
                {
                    peer.standing = Some(Standing {
                        score_ppm: *score_ppm,
                        rounds: *rounds,
                        round: *round,
                    });
                }
            }
            _ => {}
        }
    }

    /// What to call a peer; see [`super::State::name`].
    pub(super) fn name(&self, id: PeerId) -> String {
        let Some(name) = self.rows.get(&id).and_then(|peer| peer.name.as_ref()) else {
            return id.to_string();
        };
        let shared = self
            .rows
            .values()
            .any(|peer| peer.id != id && peer.name.as_ref() == Some(name));
        if shared || name.trim().is_empty() {
            format!("{name}·{}", &id.to_hex()[..4])
        } else {
            name.clone()
        }
    }

    /// Peers from the highest reputation to the lowest; those the ledger does
    /// not know come last.
    pub fn ranked(&self) -> Vec<&Peer> {
        let mut all: Vec<&Peer> = self.rows.values().collect();
        all.sort_by_key(|peer| {
            let score = peer.standing.map(|standing| standing.score_ppm);
            (std::cmp::Reverse(score), peer.id)
        });
        all
    }

    /// Refused messages of all peers.
    pub fn rejected(&self) -> u64 {
        let known: u64 = self.rows.values().map(|peer| peer.rejects.total).sum();
        known + self.unknown.total
    }
}
