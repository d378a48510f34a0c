//! Whose groups each peer trains on: who taught whom.
//!
//! Nobody chooses what to train on, the beacon draws it from what was included.
//! So whoever has the transcripts knows whose rollouts moved whose weights,
//! without asking anybody: this is the draw done again. It says what follows
//! from the rules for a peer that held what the quorum listed, and proves
//! nothing about one that trained on something else.

use std::collections::{BTreeMap, BTreeSet};

use rewards::{Scoreboard, favour::Favours};
use tasks::Registry;

use crate::ids::{Beacon, PeerId};
use crate::manifest::Manifest;
use crate::refusal::RejectReason;
use crate::round::{Gallery, GroupKey, Rates, draw, groups, judge_bodies, quotas};
use crate::transcript::{Bodies, Transcript};

/// Groups that a peer was given to train on, by whose they are; its own among them.
pub type Taught = BTreeMap<PeerId, BTreeMap<PeerId, u32>>;

/// Follows settled rounds in order. What came too late to be used in one round
/// may be drawn in the next, so a round that is left out costs what was drawn
/// from it in the next.
pub struct Lessons<'a> {
    manifest: &'a Manifest,
    registry: &'a Registry,
    before: Option<Before>,
    favours: Favours<PeerId>,
}

/// The round before.
struct Before {
    round: u64,
    beacon: Beacon,
    bodies: Bodies,
    board: Scoreboard<PeerId>,
    /// What of it each peer used.
    used: BTreeMap<PeerId, BTreeSet<GroupKey>>,
}

impl<'a> Lessons<'a> {
    /// Nothing was seen yet.
    pub fn new(manifest: &'a Manifest, registry: &'a Registry) -> Self {
        Self {
            manifest,
            registry,
            before: None,
            favours: Favours::default(),
        }
    }

    /// How peers judged each other in the rounds that were followed.
    pub fn favours(&self) -> &Favours<PeerId> {
        &self.favours
    }

    /// What was drawn for each peer that took part in the next round.
    ///
    /// # Errors
    /// The transcript is none that honest witnesses signed for.
    pub fn follow(&mut self, transcript: &Transcript) -> Result<Taught, RejectReason> {
        let (round, beacon) = (transcript.round, transcript.beacon);
        let bodies = transcript.bodies(self.manifest)?;
        let all = bodies.bodies.values();
        let critics = &transcript.plan.critics;
        let board = judge_bodies(&bodies.rules, self.registry, beacon, critics, all.clone()).board;
        let gallery = Gallery::new(&bodies.rules, self.registry, beacon, all.clone());
        let before = self.before.take();
        let before = before.filter(|before| before.round + 1 == round);
        let earlier = before.as_ref().map(|before| {
            let all = before.bodies.bodies.values();
            let rules = &before.bodies.rules;
            (
                before,
                Gallery::new(rules, self.registry, before.beacon, all),
            )
        });
        let learners: BTreeSet<PeerId> = all.map(|body| body.header().peer).collect();
        let plan = &self.manifest.training;
        let mut taught = Taught::new();
        let mut used: BTreeMap<PeerId, BTreeSet<GroupKey>> = BTreeMap::new();
        for (kind, quota) in quotas(plan) {
            let now = groups(round, &gallery, &board, kind);
            let late = earlier.as_ref().map_or_else(Vec::new, |(before, gallery)| {
                groups(before.round, gallery, &before.board, kind)
            });
            for learner in &learners {
                let unused = |key: &GroupKey| {
                    let used = earlier
                        .as_ref()
                        .and_then(|(before, _)| before.used.get(learner));
                    !used.is_some_and(|used| used.contains(key))
                };
                let boards = earlier.iter().map(|(before, _)| &before.board);
                let rates = Rates::of(*learner, [&board].into_iter().chain(boards));
                let who = (*learner, &rates);
                let drawn = draw(plan, who, beacon, (kind, quota), (&now, &late), unused);
                for index in &drawn.selection.external {
                    let group = drawn.from[*index];
                    if group.round == round {
                        used.entry(*learner).or_default().insert(group.key());
                    }
                }
                let selected = drawn.selection.local.iter();
                for index in selected.chain(&drawn.selection.external) {
                    let owner = drawn.from[*index].owner;
                    *taught
                        .entry(*learner)
                        .or_default()
                        .entry(owner)
                        .or_default() += 1;
                }
            }
        }
        drop((gallery, earlier));
        self.favours.learn(&board);
        self.before = Some(Before {
            round,
            beacon,
            bodies,
            board,
            used,
        });
        Ok(taught)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Choice;
    use crate::sim::{Scenario, run};

    #[test]
    fn what_the_transcripts_say_is_what_was_trained_on() {
        for choice in [Choice::Uniform, Choice::Expected] {
            let mut scenario = Scenario::new(11, 5, 6);
            scenario.manifest.training.choice = choice;
            all_is_told(&scenario);
        }
    }

    fn all_is_told(scenario: &Scenario) {
        let report = run(scenario);
        let registry = Registry::builtin();
        let mut lessons = Lessons::new(&scenario.manifest, &registry);
        let mut external = 0;
        for (round, transcript) in &report.transcripts {
            let taught = lessons.follow(transcript).unwrap();
            for (peer, trained) in report.ids.iter().zip(&report.trained) {
                let (_, groups) = trained.iter().find(|(number, _)| number == round).unwrap();
                let mut owners: BTreeMap<PeerId, u32> = BTreeMap::new();
                for group in groups {
                    *owners.entry(group.owner).or_default() += 1;
                    external += usize::from(group.owner != *peer);
                }
                assert_eq!(taught.get(peer), Some(&owners), "round {round}");
            }
        }
        assert_eq!(report.transcripts.len(), 6);
        assert!(external > 60, "{external}");
    }
}
