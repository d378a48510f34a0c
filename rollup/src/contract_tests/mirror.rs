//! The contract's arithmetic, in its own machine language in places, against the same in
//! Rust (`swarm_core::ledger`), which the audit and the trials trust.

use std::collections::BTreeMap;

use swarm_core::ledger::{Card, Standings};

use super::*;

/// A number from a seed and what it is for.
fn draw(seed: u64, what: &str, index: usize, below: u32) -> u32 {
    let word = alloy::primitives::keccak256(format!("{seed} {what} {index}"));
    u32::from_be_bytes(word[..4].try_into().unwrap()) % below
}

/// What a witness says of each peer: mostly what is true, now and then something else,
/// nothing, or something of itself.
fn says(seed: u64, round: u64, witness: usize, peers: usize) -> Vec<u32> {
    let tell = |peer| {
        let of = witness * 1000 + peer + 100_000 * round as usize;
        match draw(seed, "mood", of, 16) {
            0 => UNSCORED,
            1 => draw(seed, "lie", of, 1_000_001),
            2 => draw(seed, "slip", of, 3),
            _ if draw(seed, "nobody", peer, 9) == 0 => UNSCORED,
            _ => draw(seed, "truth", peer + 1000 * round as usize, 1_000_001),
        }
    };
    (0..peers).map(tell).collect()
}

#[test]
fn whatever_witnesses_say_the_contract_makes_of_it_what_the_rust_does() {
    for seed in 0..12u64 {
        let members = 1 + draw(seed, "members", 0, 16) as usize;
        let strangers = draw(seed, "strangers", 0, 20) as usize;
        let mut world = World::new(members as u64, LOCAL);
        let mut about: Vec<_> = (0..members).map(|peer| world.address(peer)).collect();
        about.extend((0..strangers).map(|peer| key(peer as u64 + 500).address()));
        about.sort_unstable();
        let mut standings = Standings::<Address>::default();
        (0..members).for_each(|peer| standings.join(world.address(peer)));
        for round in 1..=4 {
            let committee = world.open(round).unwrap();
            let quorum = 2 * committee.len() / 3 + 1;
            let cards: Vec<SignedScorecard> = (0..quorum)
                .map(|place| {
                    let witness = committee[(place + round as usize) % committee.len()];
                    let signer = world.peers.iter().find(|peer| peer.address() == witness);
                    let said = says(seed, round, place, about.len());
                    let card = Scorecard {
                        swarm: world.swarm.0,
                        round,
                        included: INCLUDED,
                        scores: about
                            .iter()
                            .map(|peer| peer.into_array())
                            .zip(said)
                            .collect(),
                    };
                    SignedScorecard::sign(signer.unwrap(), &world.domain(), card)
                })
                .collect();
            let done = world.settle(round, &cards).unwrap();
            for event in done.events::<L::WitnessMissed>() {
                standings.miss(event.witness);
            }
            let said: Vec<Card<Address>> = cards
                .iter()
                .map(|signed| {
                    let said = signed.card.scores.iter();
                    let said = said.map(|(peer, score)| (Address::from(peer), *score));
                    (Address::from(signed.witness), said.collect())
                })
                .collect();
            let outcome = standings.settle(about.iter().copied(), &said);
            let scored = done.events::<L::PeerScored>();
            assert_eq!(scored.len(), about.len(), "seed {seed}, round {round}");
            for event in scored {
                let (verdict, now) = (
                    outcome.verdicts[&event.peer],
                    standings.standing(event.peer),
                );
                assert_eq!(
                    (
                        event.score,
                        event.judges,
                        event.reputation,
                        event.uncertainty
                    ),
                    (
                        verdict.score.unwrap_or(0),
                        verdict.judges,
                        now.reputation,
                        now.uncertainty
                    ),
                    "seed {seed}, round {round}, {}",
                    event.peer
                );
            }
            let weighed: BTreeMap<_, _> = done
                .events::<L::WitnessWeighed>()
                .iter()
                .map(|event| (event.witness, (event.deviation, event.weight)))
                .collect();
            assert_eq!(weighed, outcome.weighed, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn a_score_that_is_none_is_found_wherever_it_is_and_whoever_repeats_it() {
    for wrong in [1_000_001, 0x7fff_ffff, 0x8000_0000, UNSCORED - 1] {
        for place in [0, 6, 7, 8, 10] {
            let mut world = World::new(11, LOCAL);
            world.open(1).unwrap();
            let mut scores = [1_000_000; 11];
            (scores[1], scores[9]) = (UNSCORED, 0);
            scores[place] = wrong;
            let cards: Vec<_> = (0..8).map(|who| world.card(who, 1, &scores)).collect();
            assert_eq!(refused(world.settle(1, &cards)), "ScoreOutOfRange");
            scores[place] = 1_000_000;
            let cards: Vec<_> = (0..8).map(|who| world.card(who, 1, &scores)).collect();
            world.settle(1, &cards).unwrap();
        }
    }
}
