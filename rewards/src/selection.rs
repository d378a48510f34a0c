//! Which groups a node trains on.

use std::collections::BTreeMap;

use tasks::{Ppm, Seed};

/// A group that could be trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<K> {
    /// Whose completions they are.
    pub owner: K,
    /// Whether they earned different rewards. [`has_advantage`] says.
    pub trainable: bool,
    /// How often it is drawn beside the others: equal weights are a uniform draw.
    pub weight: u32,
}

/// How many groups to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectionPlan {
    /// Groups of the node's own, at most.
    pub local: usize,
    /// Groups of other peers, at most.
    pub external: usize,
    /// Groups of any one other peer, at most.
    pub per_peer: usize,
}

/// The chosen groups, as indices into the candidates, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The node's own.
    pub local: Vec<usize>,
    /// Other peers'.
    pub external: Vec<usize>,
    /// How many candidates were dropped because all their completions earned the same.
    pub dropped: usize,
}

/// Whether a group's completions earned different rewards: equal ones have
/// zero advantage and teach nothing.
#[must_use]
pub fn has_advantage(rewards: impl IntoIterator<Item = Ppm>) -> bool {
    let mut rewards = rewards.into_iter();
    let Some(first) = rewards.next() else {
        return false;
    };
    rewards.any(|reward| reward != first)
}

/// What a node may expect to learn from another's group, as a weight from 1 to
/// 1,000: most where it is itself right half of the time (`rate`, its share of
/// right answers to such items) and the group is of two minds (`reward`, its
/// mean); half as much where it answered the item too (`new`).
///
/// `1 + 999 x 4p(1 - p) x 4r(1 - r)`: the variance of a success and of a
/// reward, each as a share of the most there is. At a rate of zero or one a
/// policy gradient has nothing to weigh.
#[must_use]
pub fn promise(rate: Ppm, reward: Ppm, new: bool) -> u32 {
    let spread = |share: Ppm| {
        let share = u64::from(share.min(Ppm::ONE).0);
        4 * share * (1_000_000 - share) / 1_000_000
    };
    let both = spread(rate) * spread(reward) / 1_000_000;
    let both = if new { both } else { both / 2 };
    1 + u32::try_from(both * 999 / 1_000_000).unwrap_or(999)
}

/// Draws groups among those with an advantage by their weight, the node's own
/// and other peers' apart, each other peer capped. Equal candidates
/// in equal order and an equal seed give an equal selection. Answers, critiques
/// and resolutions differ in number: to train on each, select among each.
#[must_use]
pub fn select_groups<K: Ord + Copy>(
    me: K,
    candidates: &[Candidate<K>],
    plan: &SelectionPlan,
    seed: &Seed,
) -> Selection {
    let trainable: Vec<usize> = (0..candidates.len())
        .filter(|&index| candidates[index].trainable)
        .collect();
    let dropped = candidates.len() - trainable.len();
    let (own, others): (Vec<usize>, Vec<usize>) = trainable
        .into_iter()
        .partition(|&index| candidates[index].owner == me);
    let by_weight = |index: &usize| u64::from(candidates[*index].weight);
    let mut local = drawn(own, by_weight, &Seed::derive(&[b"select local", &seed.0]));
    local.truncate(plan.local);
    let mut external = Vec::new();
    let mut taken: BTreeMap<K, usize> = BTreeMap::new();
    for index in drawn(
        others,
        by_weight,
        &Seed::derive(&[b"select external", &seed.0]),
    ) {
        if external.len() == plan.external {
            break;
        }
        let of_peer = taken.entry(candidates[index].owner).or_default();
        if *of_peer < plan.per_peer {
            *of_peer += 1;
            external.push(index);
        }
    }
    local.sort_unstable();
    external.sort_unstable();
    Selection {
        local,
        external,
        dropped,
    }
}

/// All of them in drawn order: each place goes to one of those left, by weight.
fn drawn(mut left: Vec<usize>, weight: impl Fn(&usize) -> u64, seed: &Seed) -> Vec<usize> {
    let mut draw = seed.draw();
    let mut total: u64 = left.iter().map(&weight).sum();
    let mut order = Vec::with_capacity(left.len());
    while total > 0 {
        let mut ticket = draw.below(total);
        let won = left.iter().position(|index| {
            let weight = weight(index);
            let won = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            won
        });
        let Some(won) = won else { break };
        let index = left.swap_remove(won);
        total -= weight(&index);
        order.push(index);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate<u8>> {
        // Peer p has groups at 10p..10p+10, every second without advantage.
        (0..40)
            .map(|index| Candidate {
                owner: index / 10,
                trainable: index % 2 == 0,
                weight: 1,
            })
            .collect()
    }

    const PLAN: SelectionPlan = SelectionPlan {
        local: 3,
        external: 5,
        per_peer: 2,
    };

    #[test]
    fn own_and_others_are_drawn_apart_within_their_caps() {
        for seed in 0u64..50 {
            let seed = Seed::derive(&[&seed.to_le_bytes()]);
            let candidates = candidates();
            let chosen = select_groups(1, &candidates, &PLAN, &seed);
            assert_eq!(chosen, select_groups(1, &candidates, &PLAN, &seed));
            assert_eq!((chosen.local.len(), chosen.external.len()), (3, 5));
            assert_eq!(chosen.dropped, 20);
            assert!(chosen.local.iter().all(|&i| candidates[i].owner == 1));
            let mut per_peer = BTreeMap::<u8, usize>::new();
            for &index in chosen.local.iter().chain(&chosen.external) {
                assert!(candidates[index].trainable);
            }
            for &index in &chosen.external {
                assert_ne!(candidates[index].owner, 1);
                *per_peer.entry(candidates[index].owner).or_default() += 1;
            }
            assert!(per_peer.values().all(|&count| count <= 2));
        }
    }

    #[test]
    fn every_group_has_its_chance() {
        let candidates = candidates();
        let mut times = [0u32; 40];
        for seed in 0u64..3_000 {
            let seed = Seed::derive(&[&seed.to_le_bytes()]);
            for index in select_groups(1, &candidates, &PLAN, &seed).external {
                times[index] += 1;
            }
        }
        // 15 candidates share 15,000 places: 1,000 each, give or take five sigma.
        for (index, &count) in times.iter().enumerate() {
            let expected = candidates[index].trainable && candidates[index].owner != 1;
            assert_eq!(count > 0, expected, "{index}");
            assert!(
                count == 0 || (870..1_130).contains(&count),
                "{index}: {count}"
            );
        }
    }

    #[test]
    fn weights_are_how_often_a_group_is_drawn_first() {
        let weights = [1, 3, 6];
        let candidates: Vec<Candidate<u8>> = weights
            .iter()
            .zip(1..)
            .map(|(weight, owner)| Candidate {
                owner,
                trainable: true,
                weight: *weight,
            })
            .collect();
        let one = SelectionPlan {
            external: 1,
            ..PLAN
        };
        let mut times = [0u32; 3];
        for seed in 0u64..10_000 {
            let seed = Seed::derive(&[&seed.to_le_bytes()]);
            for index in select_groups(0, &candidates, &one, &seed).external {
                times[index] += 1;
            }
        }
        // Give or take five sigma.
        assert!(times[0].abs_diff(1_000) < 150, "{times:?}");
        assert!(times[1].abs_diff(3_000) < 230, "{times:?}");
        assert!(times[2].abs_diff(6_000) < 245, "{times:?}");
    }

    #[test]
    fn most_is_promised_where_a_policy_is_right_half_of_the_time() {
        let half = Ppm(500_000);
        assert_eq!(promise(half, half, true), 1_000);
        assert_eq!(promise(half, half, false), 500);
        assert_eq!(promise(Ppm::ZERO, half, true), 1);
        assert_eq!(promise(half, Ppm::ONE, true), 1);
        assert!(promise(Ppm(250_000), half, true) < 1_000);
        assert_eq!(
            promise(Ppm(250_000), half, true),
            promise(Ppm(750_000), half, true)
        );
    }

    #[test]
    fn too_few_candidates_are_all_taken() {
        let few = [Candidate {
            owner: 2u8,
            trainable: true,
            weight: 1,
        }];
        let chosen = select_groups(1, &few, &PLAN, &Seed([0; 32]));
        assert_eq!((chosen.local.len(), chosen.external), (0, vec![0]));
        let none = select_groups(1u8, &[], &PLAN, &Seed([0; 32]));
        assert_eq!(none, Selection::default());
    }

    #[test]
    fn equal_rewards_have_no_advantage() {
        assert!(!has_advantage([]));
        assert!(!has_advantage([Ppm(5), Ppm(5)]));
        assert!(has_advantage([Ppm(5), Ppm(6)]));
    }
}
