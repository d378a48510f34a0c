//! What the screens know: a fold of the event stream.
//!
//! [`State::fold`] takes one [`Record`] after another and nothing else: no
//! clock, no channel, no terminal. Everything it keeps is bounded, so a node
//! that runs for a month and a peer that floods it cost the same memory.
//!
//! | module | what it folds |
//! | --- | --- |
//! | [`series`] | a curve over rounds or steps that thins itself |
//! | [`peers`] | who is there, how they are reached, what was refused, reputation |
//! | [`rounds`] | the current round, stages of local peers, learning, settlement |
//! | [`training`] | optimizer steps and who taught whom |
//! | [`groups`] | judged groups for the Rollouts screen |
//! | [`logs`] | lines for the Logs screen |

pub mod groups;
pub mod logs;
pub mod peers;
pub mod rounds;
pub mod series;
pub mod training;

use std::collections::BTreeMap;

use swarm_core::event::{ChainInfo, CourseView, Event, Record};
use swarm_core::ids::{PeerId, SwarmId};

use crate::text;

use groups::Groups;
use logs::Logs;
use peers::Peers;
use rounds::{CurrentRound, Evaluations, Learning, Locals, Settlements};
use training::Training;

/// Longest name, reason or label kept, in bytes: wider than any column.
pub const LABEL_BYTES: usize = 120;
/// Courses kept: as many as a curriculum may have.
pub const COURSES_KEPT: usize = 256;
/// Longest single line kept (a `why`, a log message), in bytes.
pub const LINE_BYTES: usize = 1_024;

/// What a node said of itself when it came up.
#[derive(Debug, Clone)]
pub struct Started {
    /// The swarm's id.
    pub swarm: SwarmId,
    /// Its name.
    pub name: String,
    /// What it settles on; `None` offline.
    pub chain: Option<ChainInfo>,
    /// Completions in a group.
    pub group_size: u32,
    /// What another process needs to join.
    pub ticket: String,
    /// Whether state from an earlier run was resumed.
    pub resumed: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Since this round.
    pub round: u64,
    /// By which amendment; 0 for the manifest's curriculum.
    pub amendment: u32,
    /// The courses.
    pub courses: Vec<CourseView>,
}

impl Asked {
    /// Whether it is worth a line: something moves, or was changed.
    pub fn moves(&self) -> bool {
        self.amendment > 0 || self.courses.iter().any(|one| one.rate_ppm.is_some())
    }
}

/// Everything the screens show, folded from events.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What the node said when it came up.
    pub started: Option<Started>,
    /// The newest round that opened.
    pub round: Option<CurrentRound>,
    /// What is asked, as of the newest round that changed it.
    pub asked: Option<Asked>,
    /// Stages of the peers in this process.
    pub locals: Locals,
    /// All peers, local and remote.
    pub peers: Peers,
    /// Curves over rounds.
    pub learning: Learning,
    /// Accuracy on held-out items, before and now.
    pub evaluations: Evaluations,
    /// The rounds' way to the chain.
    pub settlements: Settlements,
    /// Optimizer steps of local peers.
    pub training: Training,
    /// Judged groups.
    pub groups: Groups,
    /// Log lines.
    pub logs: Logs,
    /// The node has said that it is leaving and that its state is saved.
    pub stopped: bool,
    /// The time of the newest record, in milliseconds since the epoch.
    pub last_ms: u64,
    /// Records folded so far.
    pub records: u64,
}

impl State {
    /// Folds one record.
    pub fn fold(&mut self, record: &Record) {
        let Record { at_ms, peer, event } = record;
        self.records += 1;
        self.last_ms = self.last_ms.max(*at_ms);
        if let Event::SwarmStarted { swarm, .. } = event {
            self.restart(*swarm);
        }
        if let Some(line) = logs::line(record, |peer| self.name(peer)) {
            self.logs.push(line);
        }
        self.peers.fold(record);
        match event {
            Event::SwarmStarted {
                version: _,
                swarm,
                name,
                chain,
                group_size,
                ticket,
                resumed,
            } => {
                self.started = Some(Started {
                    swarm: *swarm,
                    name: text::clip(name, LABEL_BYTES),
                    chain: chain.clone().map(|chain| ChainInfo {
                        rpc: text::clip(&chain.rpc, LABEL_BYTES),
                        ..chain
                    }),
                    group_size: *group_size,
                    ticket: text::clip(ticket, LINE_BYTES),
                    resumed: *resumed,
                });
            }
            Event::RoundOpened {
                round,
                beacon,
                source,
                committee,
            } => {
                self.locals.opened(*peer, *round);
                CurrentRound::open(&mut self.round, *at_ms, *round, *beacon, *source, committee);
            }
            // Every local peer says it; the newest round counts.
            Event::Curriculum {
                round,
                amendment,
                amended: _,
                courses,
            } if self
                .asked
                .as_ref()
                .is_none_or(|asked| asked.round <= *round) =>
            {
                let clipped = |course: &CourseView| CourseView {
                    env: text::clip(&course.env, LABEL_BYTES),
                    ..course.clone()
                };
                self.asked = Some(Asked {
                    round: *round,
                    amendment: *amendment,
                    courses: courses.iter().take(COURSES_KEPT).map(clipped).collect(),
                });
            }
            Event::StageStarted {
                round,
                stage,
                deadline_ms,
            } => self
                .locals
                .started(*peer, *round, *stage, *at_ms, *deadline_ms),
            Event::StageEnded {
                round,
                stage,
                seen,
                expected,
                ended_by,
                took_ms,
            } => {
                let end = rounds::StageEnd {
                    seen: *seen,
                    expected: *expected,
                    ended_by: *ended_by,
                    took_ms: *took_ms,
                };
                self.locals.ended(*peer, *round, *stage, end);
            }
            Event::GroupJudged(view) => self.groups.push(*at_ms, view),
            Event::Judged {
                round,
                batches,
                rows,
                judge_accuracy_ppm,
                ..
            } => {
                if let Some(current) = &mut self.round {
                    current.judged(*round, *batches);
                }
                let accuracy = text::fraction(*judge_accuracy_ppm);
                self.learning.judge_accuracy.set(*round, accuracy);
                self.learning.rows(*round, rows);
            }
            Event::Attested {
                round,
                witness,
                agrees,
                signatures,
                needed,
            } => {
                if let Some(current) = &mut self.round {
                    current.attested(*round, *witness, *agrees, *signatures, *needed);
                }
                self.settlements
                    .attested(*round, *agrees, *signatures, *needed);
            }
            Event::Trained { .. } => self.training.fold(*peer, event),
            Event::Probed {
                step,
                before,
                after,
                ..
            } => self.training.probed(*peer, *step, *before, *after),
            Event::CheckpointSaved { round, step, hash } => {
                self.training.checkpoint(*peer, *round, *step, *hash);
            }
            Event::Evaluated { round, report } => {
                self.evaluations.fold(*peer, *round, report);
            }
            Event::Settled {
                round,
                tx,
                block,
                gas,
                relayer,
            } => self
                .settlements
                .settled(*at_ms, *round, *tx, *block, *gas, *relayer),
            Event::Unsettled { round, why } => self.settlements.unsettled(*round, why),
            Event::RoundEnded(summary) => {
                self.learning.ended(summary);
                self.settlements.ended(summary);
            }
            Event::Stopped => self.stopped = true,
            // What concerns one peer or one log line is folded above; what a
            // later version adds is not this one's to show.
            _ => {}
        }
    }

    /// A node came up: the same swarm goes on, another one starts afresh.
    fn restart(&mut self, swarm: SwarmId) {
        let other = self
            .started
            .as_ref()
            .is_some_and(|started| started.swarm != swarm);
        if other {
            *self = Self {
                last_ms: self.last_ms,
                records: self.records,
                logs: std::mem::take(&mut self.logs),
                ..Self::default()
            };
        }
        self.stopped = false;
        self.locals = Locals::default();
    }

    /// What to call a peer. Names are chosen by their owners: where two peers
    /// claim the same one, the start of the key tells them apart.
    pub fn name(&self, peer: PeerId) -> String {
        self.peers.name(peer)
    }

    /// What to call the peer a record came from.
    pub fn local_name(&self, peer: Option<PeerId>) -> String {
        peer.map_or_else(|| "this node".to_owned(), |peer| self.name(peer))
    }

    /// Local peers that are known, in the order of their keys.
    pub fn local_peers(&self) -> Vec<Option<PeerId>> {
        let mut all: BTreeMap<Option<PeerId>, ()> = BTreeMap::new();
        all.extend(self.locals.peers.keys().map(|peer| (*peer, ())));
        all.extend(
            self.peers
                .rows
                .values()
                .filter(|row| row.local)
                .map(|row| (Some(row.id), ())),
        );
        if all.len() > 1 {
            all.remove(&None);
        }
        all.into_keys().collect()
    }
}
