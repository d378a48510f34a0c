//! What a round comes to: witnesses list what they saw, and everything after
//! that is a pure function of the set that a quorum lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rewards::{JudgeSettings, Scoreboard, judge};
use tasks::{EnvId, Registry};

use super::gallery::Gallery;
use super::sampling::slot_number;
use super::stages::count;
use super::state::{Judged, Round};
use super::{Effect, Machine, ScorecardRequest};
use crate::body::Body;
use crate::critics::{Critics, Lottery};
use crate::event::{BeaconSource, Event, LogLevel, RoundSummary};
use crate::gains::{self, Gains};
use crate::ids::{Address, Beacon, Hash, PeerId};
use crate::manifest::Manifest;
use crate::message::{BodyKind, Payload, Phase};
use crate::plan::by_critics;
use crate::score;
use crate::transcript::Transcript;

impl Machine {
    /// A witness lists the bodies it holds that came in time.
    pub(super) fn list(&mut self) {
        let (me, number) = (self.config.me, self.at.round);
        if self.witness(number, me).is_none() {
            return;
        }
        let round = self.round_mut(number);
        let entries = round.witnessed();
        round.lists.insert(me, entries.clone());
        let entries = entries.into_iter().collect();
        self.say(number, Phase::Judge, Payload::Inclusion { entries });
    }

    /// What a quorum lists and this peer does not hold.
    pub(super) fn lacking(&self, round: &Round) -> BTreeSet<Hash> {
        let mut listed = round.listed();
        listed.retain(|hash| !round.bodies.contains_key(hash));
        listed
    }

    /// Judges the present round: the quorum's set if there is one and it is
    /// here, else what this peer holds, which is good enough to train on.
    pub(super) fn judge_round(&mut self) {
        let number = self.at.round;
        let Some((round, opened)) = self
            .round()
            .and_then(|round| Some((round, round.opened.clone()?)))
        else {
            return;
        };
        let listed = round.listed();
        let lacking = self.lacking(round).len();
        let why = if listed.is_empty() {
            Some(format!(
                "{} of {} witnesses listed what they saw, and more than two thirds must agree",
                round.witnesses_in(),
                opened.seats
            ))
        } else if lacking > 0 {
            Some(format!(
                "{lacking} of {} included bodies never came",
                listed.len()
            ))
        } else {
            None
        };
        let (entries, quorum) = match &why {
            None => (listed, true),
            Some(_) => (round.witnessed(), false),
        };
        let judged = self.judge_set(number, entries, quorum);
        if let Some(judged) = judged {
            self.conclude(number, judged);
        }
        if let Some(why) = why {
            // Lists and bodies that come later may still settle it.
            self.round_mut(number).closing.why = Some(why);
        }
        if opened.source == BeaconSource::Offline {
            let why = "the chain did not open this round".to_owned();
            self.round_mut(number).closing.why = Some(why);
        }
        self.give_up_after(number);
    }

    /// The scoreboard that follows from a set of bodies, all of which are here.
    pub(super) fn judge_set(
        &self,
        number: u64,
        entries: BTreeSet<Hash>,
        quorum: bool,
    ) -> Option<Judged> {
        let round = self.rounds.get(&number)?;
        let beacon = round.opened.as_ref()?.beacon;
        let bodies = entries.iter().filter_map(|hash| round.bodies.get(hash));
        let (rules, registry) = (self.rules(number), &self.config.registry);
        let lacked = self.lacks(number);
        let answered = bodies.clone().filter_map(|body| match body.as_ref() {
            Body::Answer(batch) => Some(&batch.groups),
            _ => None,
        });
        let whole = answered.flatten().all(|group| !lacked.contains(&group.env));
        let critics = &round.plan.as_ref()?.0.critics;
        let Decision {
            board,
            addresses,
            gains,
        } = judge_bodies(rules, registry, beacon, critics, bodies);
        let rows = score::rows(&board, &addresses);
        let included = quorum.then(|| round.included_hash(self.id, &entries));
        Some(Judged {
            included,
            entries,
            whole,
            board,
            gains,
            rows,
        })
    }

    /// What the quorum's set can be checked by, for whoever keeps it.
    fn record(&mut self, number: u64, judged: &Judged) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        let (Some(_), Some(opened), Some((plan, _))) =
            (judged.included, &round.opened, &round.plan)
        else {
            return;
        };
        let bodies = judged
            .entries
            .iter()
            .filter_map(|hash| round.bodies.get(hash));
        let transcript = Transcript {
            round: number,
            beacon: opened.beacon,
            plan: plan.as_ref().clone(),
            bodies: bodies.map(|body| body.encode().1).collect(),
        };
        self.effects.push(Effect::Record {
            round: number,
            transcript,
        });
    }

    /// Holds a round to be what was judged: tells, signs and answers cards.
    pub(super) fn conclude(&mut self, number: u64, judged: Judged) {
        let swarm = self.id;
        let round = self.round_mut(number);
        let included = round.included_hash(swarm, &judged.entries);
        let wall_s = round.summary.as_ref().map_or(0.0, |before| before.wall_s);
        let summary = RoundSummary {
            wall_s,
            ..summary(round, &judged)
        };
        self.emit(Event::Judged {
            round: number,
            included,
            batches: count(judged.entries.len()),
            // Of what is known in part only, no scores are told.
            rows: if judged.whole {
                score::shown(&judged.board)
            } else {
                Vec::new()
            },
            judge_accuracy_ppm: judged.board.judge_accuracy.0,
        });
        if !judged.whole {
            let lacked = self.lacks(number).len();
            self.tell_curriculum(
                LogLevel::Warn,
                format!(
                    "round {number}: {lacked} of its environments are not here yet; their items \
                     are left to the others, and no scorecard is signed"
                ),
            );
        }
        self.record(number, &judged);
        let (me, agreed) = (self.config.me, judged.included.filter(|_| judged.whole));
        let rows = judged.rows.clone();
        let round = self.round_mut(number);
        round.judged = Some(judged);
        round.summary = Some(summary);
        round.closing.why = None;
        self.keep_finding(number);
        let round = self.round_mut(number);
        let chained = round
            .opened
            .as_ref()
            .is_some_and(|opened| opened.source == BeaconSource::Chain);
        let unsigned = !round.closing.signed;
        let witnesses: Vec<PeerId> = round.cards.keys().copied().collect();
        if let (Some(included), Some(address), true) =
            (agreed, self.witness(number, me), chained && unsigned)
        {
            self.round_mut(number).closing.signed = true;
            self.effects.push(Effect::SignScorecard(ScorecardRequest {
                round: number,
                included,
                scores: score::card(&rows, address),
            }));
        }
        for witness in witnesses {
            self.show_card(number, witness);
        }
    }
}

/// What follows from bodies.
pub(crate) struct Decision {
    pub(crate) board: Scoreboard<PeerId>,
    /// Who is scored for whose work.
    pub(crate) addresses: BTreeMap<PeerId, Address>,
    pub(crate) gains: Gains,
}

/// The scoreboard that follows from bodies and from what was known of the
/// critics: a pure function, so that whoever has them can check the witnesses.
pub(crate) fn judge_bodies<'a>(
    manifest: &'a Manifest,
    registry: &'a Registry,
    beacon: Beacon,
    critics: &Critics,
    bodies: impl Iterator<Item = &'a Arc<Body>> + Clone,
) -> Decision {
    let mut addresses: BTreeMap<PeerId, Address> = BTreeMap::new();
    for header in bodies.clone().map(|body| body.header()) {
        // One peer, one address: of several, the first in order.
        let address = addresses.entry(header.peer).or_insert(header.address);
        *address = header.address.min(*address);
    }
    let gallery = Gallery::new(manifest, registry, beacon, bodies);
    let mut included = included(&gallery);
    let mut settings = judge_settings(manifest, registry);
    if !settings.judged.is_empty() {
        included.history = critics.history();
        let lottery = Lottery::of(beacon, gallery.critiques.values().copied(), critics.twins);
        settings.known = twins(registry, &included, &settings, &lottery);
    }
    let board = judge(registry, &included, &settings);
    Decision {
        gains: gains::compare(manifest, beacon, &board),
        board,
        addresses,
    }
}

/// The judged items that are verified all the same: of those that have a right
/// answer, as many as the lottery draws.
fn twins(
    registry: &Registry,
    included: &rewards::Included<PeerId>,
    settings: &JudgeSettings,
    lottery: &Lottery,
) -> BTreeSet<(EnvId, String)> {
    let items = included.answers.iter().map(|group| &group.item);
    let judged = items.filter(|item| settings.judged.contains(&item.env) && lottery.draws(item));
    let known = judged.filter(|item| {
        let environment = registry.get(&item.env);
        environment.is_some_and(|found| found.accepts(item, &item.reference))
    });
    known
        .map(|item| (item.env, item.question.clone()))
        .collect()
}

/// The judge's settings in a swarm: the full measures are what the manifest
/// gives a peer to do, and critics decide where an environment says so.
pub(crate) fn judge_settings(manifest: &Manifest, registry: &Registry) -> JudgeSettings {
    let full = |groups: u16, size: u16| u32::from(groups) * u32::from(size);
    // Where everyone answers the same and nothing else, that has to do.
    let shared_answers = manifest.answer.own == 0;
    let own = if shared_answers {
        manifest.answer.common
    } else {
        manifest.answer.own
    };
    JudgeSettings {
        judged: registry
            .ids()
            .filter(|env| by_critics(registry, *env))
            .collect(),
        full_answers: full(own, manifest.answer.size),
        full_critiques: manifest.critique.groups.into(),
        full_resolutions: full(manifest.resolve.groups, manifest.resolve.size),
        shared_answers,
        ..JudgeSettings::default()
    }
}

/// The judge's input, from bodies alone.
pub(crate) fn included(gallery: &Gallery<'_>) -> rewards::Included<PeerId> {
    let mut included = rewards::Included::default();
    for (owner, batch) in &gallery.answers {
        for group in &batch.groups {
            if let Some((item, _)) = gallery.item(*owner, group.slot) {
                included.answers.push(rewards::AnswerGroup {
                    owner: *owner,
                    slot: slot_number(group.slot),
                    item,
                    completions: texts(&group.completions),
                });
            }
        }
    }
    for (critic, batch) in &gallery.critiques {
        for group in &batch.groups {
            if gallery.is_game(group.target.peer, group.target.slot) {
                continue;
            }
            included.critiques.push(rewards::CritiqueGroup {
                critic: *critic,
                target_owner: group.target.peer,
                target_slot: slot_number(group.target.slot),
                target_completion: group.target.completion,
                completions: texts(&group.completions),
            });
        }
    }
    for (owner, batch) in &gallery.resolutions {
        for group in &batch.groups {
            if gallery.is_game(*owner, group.slot) {
                continue;
            }
            if let Some((item, _)) = gallery.item(*owner, group.slot) {
                // What it could read follows from what is included; what it
                // says it read decides nothing.
                let reads = gallery.reads(*owner, group.slot);
                included.resolutions.push(rewards::ResolveGroup {
                    owner: *owner,
                    slot: slot_number(group.slot),
                    item,
                    read: gallery.peer_answers(group.slot, &reads),
                    completions: texts(&group.completions),
                });
            }
        }
    }
    included
}

fn texts(completions: &[crate::body::Completion]) -> Vec<String> {
    let text = |completion: &crate::body::Completion| completion.text.clone();
    completions.iter().map(text).collect()
}

fn summary(round: &Round, judged: &Judged) -> RoundSummary {
    let board = &judged.board;
    let mut counts: BTreeMap<BodyKind, usize> = BTreeMap::new();
    let mut peers = BTreeSet::new();
    for body in judged
        .entries
        .iter()
        .filter_map(|hash| round.bodies.get(hash))
    {
        peers.insert(body.header().peer);
        *counts.entry(body.kind()).or_default() += body.completions();
    }
    let counted = |kind: BodyKind| count(counts.get(&kind).copied().unwrap_or_default());
    RoundSummary {
        round: round.number,
        settled: false,
        tx: None,
        peers: count(peers.len()),
        included: count(judged.entries.len()),
        answers: counted(BodyKind::Answer),
        critiques: counted(BodyKind::Critique),
        resolutions: counted(BodyKind::Resolve),
        reward: share(board.reward),
        accuracy: share(board.answer_accuracy),
        format_rate: share(board.format_rate),
        judge_accuracy: share(board.judge_accuracy),
        resolve_accuracy: share(board.resolve_accuracy),
        gains: judged.gains,
        twins: board.twins,
        wall_s: 0.0,
    }
}

fn share(ppm: tasks::Ppm) -> f64 {
    f64::from(ppm.0) / 1e6
}
