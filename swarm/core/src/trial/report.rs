//! What is measured: what honest machines and cheats earn, and what the cheats
//! do to everybody's rewards.

use std::collections::{BTreeMap, BTreeSet};

use rewards::favour::Favours;
use serde::Serialize;
use tasks::{Registry, Seed};

use super::round::{Actor, play};
use super::{Behaviour, Scenario, ScenarioError};
use crate::critics::{Critics, Hearings};
use crate::draw;
use crate::ids::PeerId;
use crate::ledger::{COMMITTEE, Card, Standings};
use crate::score::UNSCORED;

/// One round. Shares and scores are of one: a million parts are 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// The round.
    pub round: u64,
    /// Settled score of an honest machine, the mean.
    pub honest_score: f64,
    /// Settled score of a cheat's machine, all its identities together.
    pub cheat_score: f64,
    /// Settled score of a slow machine.
    pub slow_score: f64,
    /// Reputation of an honest machine.
    pub honest_reputation: f64,
    /// Reputation of a cheat's machine, of the names it goes by now.
    pub cheat_reputation: f64,
    /// Reputation of a slow machine.
    pub slow_reputation: f64,
    /// Mean reward of an honest machine's answers.
    pub honest_reward: f64,
    /// Mean reward of a cheat's answers.
    pub cheat_reward: f64,
    /// Pairs of a right and a wrong answer of one honest group that are
    /// rewarded in this order; a tie is half.
    pub pairwise: f64,
    /// How often the weighted vote of the critics is right.
    pub vote_accuracy: f64,
}

/// What a trial came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was tried.
    pub scenario: Scenario,
    /// Score of a cheat's machine as a share of an honest one's, over the
    /// second half of the rounds; infinite where only cheats earn.
    pub ratio: f64,
    /// Reputation of a cheat's machine as a share of an honest one's, at the end.
    pub reputation_ratio: f64,
    /// Reward of a cheat's answers as a share of an honest machine's, over the
    /// second half.
    pub reward_ratio: f64,
    /// Of the second half, as in [`Row::pairwise`].
    pub pairwise: f64,
    /// The round from which a cheat's reputation stays below nine tenths of an
    /// honest machine's; none if it never does.
    pub contained: Option<u64>,
    /// Pairs of cheats that [stand together](rewards::favour), as a share of all
    /// pairs of cheats; and pairs with an honest machine, of all such pairs.
    pub together: (f64, f64),
    /// Every round.
    pub rounds: Vec<Row>,
}

/// Plays all rounds of a scenario.
///
/// # Errors
/// The scenario can't be.
pub fn run(scenario: &Scenario) -> Result<Report, ScenarioError> {
    scenario.check()?;
    let registry = Registry::builtin();
    let manifest = scenario.manifest();
    let mut ledger = Standings::default();
    let mut critics = Critics::default();
    let mut favours = Favours::default();
    let mut cheats = BTreeSet::new();
    let mut members = BTreeSet::new();
    let mut rows = Vec::new();
    for round in 1..=scenario.rounds {
        let actors = actors(scenario, round);
        members.extend(actors.iter().map(|actor| actor.peer));
        let cheating = actors
            .iter()
            .filter(|actor| kind(scenario, actor.machine) == Kind::Cheat);
        cheats.extend(cheating.map(|actor| actor.peer));
        let played = play(scenario, &manifest, &registry, round, &actors, &critics);
        favours.learn(&played.board);
        critics.learn(&Hearings::of(&played.board));
        let behaviours: BTreeMap<PeerId, Behaviour> = actors
            .iter()
            .map(|actor| (actor.peer, actor.behaviour))
            .collect();
        let colludes = |peer: &PeerId| {
            behaviours
                .get(peer)
                .is_some_and(|behaviour| behaviour.colludes())
        };
        for peer in &members {
            ledger.join(*peer);
        }
        let scored = played.board.peers.iter();
        let scored: BTreeMap<PeerId, u32> = scored
            .map(|(peer, score)| (*peer, score.contribution.0))
            .collect();
        let says =
            |witness: PeerId, peer: PeerId, score| match (colludes(&witness), colludes(&peer)) {
                _ if witness == peer => UNSCORED,
                (true, true) => 1_000_000,
                (true, false) => 0,
                (false, _) => score,
            };
        let drawn = draw::ranked(b"trial committee", played.beacon, None, members.clone());
        let cards: Vec<Card<PeerId>> = drawn
            .into_iter()
            .take(COMMITTEE)
            .map(|witness| {
                let said = scored.iter();
                let said = said.map(|(peer, score)| (*peer, says(witness, *peer, *score)));
                (witness, said.collect())
            })
            .collect();
        let settled = ledger.settle(scored.keys().copied(), &cards).verdicts;
        let reward = |peer: &PeerId| {
            let score = played.board.peers.get(peer);
            score.map_or(0, |score| u64::from(score.reward.0))
        };
        let of = |kind: Kind, value: &dyn Fn(&PeerId) -> u64| mean(scenario, &actors, kind, value);
        let score = |peer: &PeerId| {
            let score = settled.get(peer).and_then(|verdict| verdict.score);
            u64::from(score.unwrap_or(0))
        };
        let reputation = |peer: &PeerId| u64::from(ledger.standing(*peer).reputation);
        let (halves, pairs) = played.pairs;
        rows.push(Row {
            round,
            honest_score: of(Kind::Honest, &score),
            cheat_score: of(Kind::Cheat, &score),
            slow_score: of(Kind::Slow, &score),
            honest_reputation: of(Kind::Honest, &reputation),
            cheat_reputation: of(Kind::Cheat, &reputation),
            slow_reputation: of(Kind::Slow, &reputation),
            honest_reward: of(Kind::Honest, &reward),
            cheat_reward: of(Kind::Cheat, &reward) / f64::from(scenario.behaviour.identities()),
            pairwise: halves as f64 / (2 * pairs).max(1) as f64,
            vote_accuracy: f64::from(played.board.weighted_judge_accuracy.0) / 1e6,
        });
    }
    let together = stand_together(&favours, &members, &cheats);
    Ok(summed_up(scenario.clone(), rows, together))
}

/// Of the pairs of cheats, and of all others, which stand together.
fn stand_together(
    favours: &Favours<PeerId>,
    members: &BTreeSet<PeerId>,
    cheats: &BTreeSet<PeerId>,
) -> (f64, f64) {
    let pairs = |count: usize| count * count.saturating_sub(1) / 2;
    let ring = pairs(cheats.len());
    let found = favours.together();
    let of_ring = found
        .iter()
        .filter(|(a, b)| cheats.contains(a) && cheats.contains(b));
    let of_ring = of_ring.count();
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    (
        share(of_ring, ring),
        share(found.len() - of_ring, pairs(members.len()) - ring),
    )
}

fn summed_up(scenario: Scenario, rounds: Vec<Row>, together: (f64, f64)) -> Report {
    let later = &rounds[rounds.len() / 2..];
    let sum = |value: fn(&Row) -> f64| later.iter().map(value).sum::<f64>();
    // A swarm that cheats own pays honest machines nothing: an infinite share.
    let share = |part: f64, whole: f64| if part > 0.0 { part / whole } else { 0.0 };
    let last = rounds.last().copied().unwrap_or_default();
    let loose = |row: &Row| row.cheat_reputation >= 0.9 * row.honest_reputation;
    let contained = if scenario.cheating() == 0 || loose(&last) {
        None
    } else {
        Some(rounds.iter().rposition(loose).map_or(1, |at| at as u64 + 2))
    };
    Report {
        ratio: share(sum(|row| row.cheat_score), sum(|row| row.honest_score)),
        reputation_ratio: share(last.cheat_reputation, last.honest_reputation),
        reward_ratio: share(sum(|row| row.cheat_reward), sum(|row| row.honest_reward)),
        pairwise: share(sum(|row| row.pairwise), later.len() as f64),
        contained,
        together,
        scenario,
        rounds,
    }
}

/// What kind of machine is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    Slow,
    Cheat,
}

/// Cheats come first, then the slow, then the rest.
fn kind(scenario: &Scenario, machine: u16) -> Kind {
    let cheating = scenario.cheating();
    if machine < cheating {
        Kind::Cheat
    } else if machine < cheating + scenario.slow {
        Kind::Slow
    } else {
        Kind::Honest
    }
}

/// The mean over machines of the sum over a machine's identities, of one.
fn mean(
    scenario: &Scenario,
    actors: &[Actor<'_>],
    wanted: Kind,
    value: &dyn Fn(&PeerId) -> u64,
) -> f64 {
    let ours = || {
        actors
            .iter()
            .filter(|actor| kind(scenario, actor.machine) == wanted)
    };
    let machines: BTreeSet<u16> = ours().map(|actor| actor.machine).collect();
    let sum: u64 = ours().map(|actor| value(&actor.peer)).sum();
    sum as f64 / 1e6 / machines.len().max(1) as f64
}

/// Everyone who takes part in a round.
fn actors(scenario: &Scenario, round: u64) -> Vec<Actor<'_>> {
    let mut actors = Vec::new();
    for machine in 0..scenario.machines {
        let kind = kind(scenario, machine);
        let behaviour = match kind {
            Kind::Honest => Behaviour::Honest,
            Kind::Slow => Behaviour::Slow,
            Kind::Cheat => scenario.behaviour,
        };
        // As good as any, each kind alike: what differs is what they do.
        let first = match kind {
            Kind::Cheat => 0,
            Kind::Slow => scenario.cheating(),
            Kind::Honest => scenario.cheating() + scenario.slow,
        };
        let count = match kind {
            Kind::Cheat => scenario.cheating(),
            Kind::Slow => scenario.slow,
            Kind::Honest => scenario.machines - first,
        };
        let spread = |(low, high): (u8, u8)| {
            let steps = count.max(2) - 1;
            let place = if count == 1 {
                steps / 2
            } else {
                machine - first
            };
            let wide = u16::from(high - low) * place / steps;
            low + u8::try_from(wide).unwrap_or(0)
        };
        let parts = behaviour.identities();
        for part in 0..parts {
            let name = Seed::derive(&[
                b"trial peer",
                &machine.to_le_bytes(),
                &part.to_le_bytes(),
                &behaviour.name(round).to_le_bytes(),
            ]);
            actors.push(Actor {
                peer: PeerId(name.0),
                machine,
                behaviour: behaviour.at(round, scenario.rounds),
                part: (part, parts),
                skill: spread(scenario.skill),
                sight: spread(scenario.sight),
                recorded: (!scenario.recorded.is_empty())
                    .then(|| &scenario.recorded[usize::from(machine) % scenario.recorded.len()]),
            });
        }
    }
    actors
}
