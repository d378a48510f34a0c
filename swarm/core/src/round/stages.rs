//! The way through a round: which phase follows which, and when.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Opened, Round};
use super::{Effect, Machine, pace};
use crate::draw;
use crate::event::{BeaconSource, EndedBy, Event, Stage};
use crate::ids::{Hash, PeerId};
use crate::message::{BodyKind, Payload, Phase, Position};

/// Rounds whose bodies are kept: the present one and the one before.
const KEPT: u64 = 2;
/// The most witnesses.
const COMMITTEE: usize = 16;

/// Who is in, of those waited for.
struct Gathered {
    expected: BTreeSet<PeerId>,
    missing: BTreeSet<PeerId>,
}

impl Machine {
    /// Goes through as many phases as are ready to end.
    pub(super) fn advance(&mut self) {
        self.catch_up();
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        match self.at.phase {
            Phase::Join => self.step_join(),
            Phase::Rest => self.now >= self.deadline && self.open(self.at.round.saturating_add(1)),
            Phase::Open => self.step_open(),
            Phase::Train => {
                let over = self.round().is_none_or(|round| round.over);
                (over || self.now >= self.deadline) && self.end_round()
            }
            Phase::Answer | Phase::Commit | Phase::Reveal | Phase::Resolve | Phase::Judge => {
                let gathered = self.gathered();
                let all_in = gathered.missing.is_empty() && self.own_part_done();
                if !all_in && self.now < self.deadline {
                    return false;
                }
                self.leave_phase(&gathered, all_in)
            }
        }
    }

    /// Begins a round: asks for its beacon.
    pub(super) fn open(&mut self, number: u64) -> bool {
        let number = pace::round_at(&self.config.manifest, number, self.now);
        if self.last_round.is_some_and(|last| number > last) {
            self.rest(self.at.round, u64::MAX);
            return false;
        }
        if let Some(start) = pace::start_of(&self.config.manifest, number)
            && self.now < start
        {
            self.rest(number.saturating_sub(1), start);
            return false;
        }
        for (from, reason, count) in self.roster.renew_budgets() {
            let reason = reason.to_owned();
            self.emit(Event::RefusedMore {
                from,
                reason,
                count,
            });
        }
        self.forget(number);
        self.at = Position {
            round: number,
            phase: Phase::Open,
        };
        self.began = self.now;
        self.deadline = pace::deadline(&self.config.manifest, number, Phase::Open, self.now);
        // Every round begins with a sign of life, which says where we are.
        self.say_hello();
        let known = self.round_mut(number).opened.is_some();
        if !known && self.config.manifest.chain.is_some() {
            self.effects.push(Effect::OpenRound { round: number });
        }
        true
    }

    fn rest(&mut self, round: u64, until_ms: u64) {
        self.at = Position {
            round,
            phase: Phase::Rest,
        };
        self.deadline = until_ms;
    }

    fn step_open(&mut self) -> bool {
        let number = self.at.round;
        let chained = self.config.manifest.chain.is_some();
        if self.round_mut(number).opened.is_none() {
            if chained && self.now < self.deadline {
                return false;
            }
            let opened = self.offline(number);
            self.round_mut(number).opened = Some(opened);
        }
        if !self.agree_on_plan(number) {
            return false;
        }
        let Some(opened) = self.round().and_then(|round| round.opened.clone()) else {
            return false;
        };
        self.round_mut(number).began_ms = self.now;
        self.emit(Event::RoundOpened {
            round: number,
            beacon: opened.beacon,
            source: opened.source,
            committee: opened.committee.keys().copied().collect(),
        });
        self.enter(Phase::Answer);
        true
    }

    /// The beacon and the witnesses of a round that no chain opens.
    fn offline(&self, number: u64) -> Opened {
        let beacon = draw::offline_beacon(self.id, number);
        let mut addresses: BTreeMap<_, _> = self
            .roster
            .present()
            .filter_map(|(id, peer)| Some((id, peer.address?)))
            .collect();
        addresses.insert(self.config.me, self.config.address);
        let order = draw::ranked(b"committee", beacon, None, addresses.keys().copied());
        let drawn = order.into_iter().take(COMMITTEE);
        let committee: BTreeMap<_, _> = drawn.map(|peer| (peer, addresses[&peer])).collect();
        Opened {
            beacon,
            source: BeaconSource::Offline,
            seats: committee.len(),
            committee,
            settled: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        let number = self.at.round;
        self.at.phase = phase;
        self.hello.begin(self.now);
        self.deadline = pace::deadline(&self.config.manifest, number, phase, self.now);
        let stage = match phase {
            Phase::Answer => Some(Stage::Answer),
            Phase::Commit => Some(Stage::Critique),
            Phase::Resolve => Some(Stage::Resolve),
            Phase::Judge => Some(Stage::Judge),
            Phase::Train => Some(Stage::Train),
            _ => None,
        };
        if let Some(stage) = stage {
            self.began = self.now;
            let last = if phase == Phase::Commit {
                let manifest = &self.config.manifest;
                pace::deadline(manifest, number, Phase::Reveal, self.deadline)
            } else {
                self.deadline
            };
            self.emit(Event::StageStarted {
                round: number,
                stage,
                deadline_ms: last,
            });
        }
        match phase {
            Phase::Answer => self.ask(BodyKind::Answer),
            Phase::Commit => self.ask(BodyKind::Critique),
            Phase::Reveal => self.reveal(),
            Phase::Resolve => self.ask(BodyKind::Resolve),
            Phase::Judge => self.list(),
            Phase::Train => self.train(),
            Phase::Join | Phase::Open | Phase::Rest => {}
        }
    }

    /// Who is in and who is missing in the present phase, others only.
    fn gathered(&self) -> Gathered {
        let mut expected = self.participants();
        let mut missing = BTreeSet::new();
        let Some(round) = self.round() else {
            return Gathered { expected, missing };
        };
        if let Some(opened) = &round.opened
            && self.at.phase == Phase::Judge
        {
            expected.retain(|peer| opened.committee.contains_key(peer));
        }
        if self.at.phase == Phase::Reveal {
            expected.retain(|peer| round.commits.get(peer).is_some_and(|c| c.in_time));
        }
        for peer in &expected {
            let is_in = match self.at.phase {
                Phase::Answer => round.is_in(*peer, BodyKind::Answer),
                Phase::Commit => round.commits.contains_key(peer),
                Phase::Reveal => round.is_in(*peer, BodyKind::Critique),
                Phase::Resolve => round.is_in(*peer, BodyKind::Resolve),
                Phase::Judge => round.lists.contains_key(peer),
                _ => true,
            };
            // Whose answers came from another beacon is in another round.
            let elsewhere = round
                .claims
                .get(&(*peer, BodyKind::Answer))
                .is_some_and(|claim| round.foreign.contains(&claim.body.hash));
            if !is_in && !elsewhere {
                missing.insert(*peer);
            }
        }
        Gathered { expected, missing }
    }

    /// Whether this peer has done what the present phase asks of it.
    fn own_part_done(&self) -> bool {
        let Some(round) = self.round() else {
            return true;
        };
        match self.at.phase {
            Phase::Answer | Phase::Commit | Phase::Resolve => round.asked.is_none(),
            Phase::Judge => self.lacking(round).is_empty(),
            _ => true,
        }
    }

    fn leave_phase(&mut self, gathered: &Gathered, all_in: bool) -> bool {
        let (here, number) = (self.at, self.at.round);
        self.round_mut(number).asked = None;
        for peer in &gathered.missing {
            let Some(known) = self.roster.get_mut(peer) else {
                continue;
            };
            known.miss();
            // Whoever is ahead is not away: only our link to it is bad.
            if known.at > here {
                continue;
            }
            known.present = false;
            self.emit(Event::PeerAbsent {
                who: *peer,
                round: number,
                stage: stage_of(here.phase),
            });
        }
        let next = match here.phase {
            Phase::Answer => Phase::Commit,
            Phase::Commit => Phase::Reveal,
            Phase::Reveal => Phase::Resolve,
            Phase::Resolve => Phase::Judge,
            _ => Phase::Train,
        };
        if here.phase != Phase::Commit {
            let expected = gathered.expected.len() + 1;
            self.emit(Event::StageEnded {
                round: number,
                stage: stage_of(here.phase),
                seen: count(expected - gathered.missing.len()),
                expected: count(expected),
                ended_by: if all_in {
                    EndedBy::AllIn
                } else {
                    EndedBy::Deadline
                },
                took_ms: self.now - self.began,
            });
        }
        if here.phase == Phase::Judge {
            self.judge_round();
        }
        self.enter(next);
        true
    }

    /// Training is over, or has taken too long to wait for.
    pub(super) fn trained(&mut self, number: u64, checkpoint: Option<(Hash, u64)>) {
        if let Some((hash, step)) = checkpoint {
            self.publish(number, Payload::Checkpoint { hash, step });
        }
        let training = Position {
            round: number,
            phase: Phase::Train,
        };
        if self.at == training {
            self.round_mut(number).over = true;
        }
    }

    fn end_round(&mut self) -> bool {
        let number = self.at.round;
        let over = std::mem::replace(&mut self.round_mut(number).over, true);
        self.emit(Event::StageEnded {
            round: number,
            stage: Stage::Train,
            seen: u32::from(over),
            expected: 1,
            ended_by: if over {
                EndedBy::AllIn
            } else {
                EndedBy::Deadline
            },
            took_ms: self.now - self.began,
        });
        let wall_ms = self.now - self.round_mut(number).began_ms;
        if let Some(summary) = &mut self.round_mut(number).summary {
            summary.wall_s = wall_ms as f64 / 1000.0;
        }
        self.open(number.saturating_add(1))
    }

    /// Lets go of what no later round needs.
    fn forget(&mut self, number: u64) {
        let old = number.saturating_sub(KEPT);
        for round in self.rounds.range_mut(..=old).map(|(_, round)| round) {
            round.bodies.clear();
            round.fetching.clear();
        }
        // One that was skipped was only heard of: nothing of it will end.
        let closing = |round: &Round| round.closing.until_ms.is_some() && !round.ended;
        self.rounds.retain(|at, round| *at > old || closing(round));
        if number > KEPT {
            self.effects.push(Effect::Retire { round: old });
        }
    }
}

pub(super) fn stage_of(phase: Phase) -> Stage {
    match phase {
        Phase::Join | Phase::Open | Phase::Answer => Stage::Answer,
        Phase::Commit | Phase::Reveal => Stage::Critique,
        Phase::Resolve => Stage::Resolve,
        Phase::Judge => Stage::Judge,
        Phase::Train | Phase::Rest => Stage::Train,
    }
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
