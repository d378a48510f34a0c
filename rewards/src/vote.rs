//! What several critics together say of one completion.

use tasks::Ppm;

use crate::{
    JudgeSettings,
    arithmetic::{ONE, divide, ppm, ratio},
};

/// One critic's word on one completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// The share of the critic's verdicts that say "right".
    pub right: Ppm,
    /// What the critic's word weighs.
    pub weight: Ppm,
}

/// The mean of all votes, whatever they weigh; `None` without any.
#[must_use]
pub fn plain(votes: &[Vote]) -> Option<Ppm> {
    let sum: u128 = votes.iter().map(|vote| u128::from(vote.right.0)).sum();
    (!votes.is_empty()).then(|| ppm(divide(sum, votes.len() as u128)))
}

/// The weighted mean; `None` where nothing weighs anything.
#[must_use]
pub fn weighted(votes: &[Vote]) -> Option<Ppm> {
    let total = total_weight(votes);
    let sum: u128 = votes
        .iter()
        .map(|vote| u128::from(vote.right.0) * u128::from(vote.weight.0))
        .sum();
    (total > 0).then(|| ppm(divide(sum, total)))
}

/// What stands in for a verifier where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The weighted share of "right", each vote clipped around the weighted median.
    pub right: Ppm,
    /// How well it is known: one at full quorum.
    pub support: Ppm,
    /// How many critics' words weighed something.
    pub critics: u32,
}

/// The robust weighted vote; `None` where too few critics weigh anything.
#[must_use]
pub fn robust(votes: &[Vote], settings: &JudgeSettings) -> Option<Judgement> {
    let mut counted: Vec<Vote> = votes
        .iter()
        .copied()
        .filter(|vote| vote.weight > Ppm::ZERO)
        .collect();
    let critics = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    if critics < settings.quorum_critics.max(1) {
        return None;
    }
    counted.sort_unstable();
    let median = weighted_median(&counted);
    let low = median.saturating_sub(settings.clip);
    let high = median.saturating_add(settings.clip);
    for vote in &mut counted {
        vote.right = vote.right.clamp(low, high);
    }
    let total = total_weight(&counted);
    let bound = u128::from(settings.quorum_weight.0);
    Some(Judgement {
        right: weighted(&counted)?,
        support: if bound == 0 {
            Ppm::ONE
        } else {
            ratio(total, bound)
        },
        critics,
    })
}

/// A judged group's rewards: each completion's judgement, pulled toward the
/// group's mean by what it lacks in support. What nobody judged earns the
/// mean; where nothing was judged, all earn nothing. Either way without
/// support there is no advantage.
#[must_use]
pub fn pulled_to_mean(judgements: &[Option<Judgement>]) -> Vec<Ppm> {
    let supported = |judgement: &Judgement| u128::from(judgement.support.0);
    let total: u128 = judgements.iter().flatten().map(supported).sum();
    let sum: u128 = judgements
        .iter()
        .flatten()
        .map(|judgement| supported(judgement) * u128::from(judgement.right.0))
        .sum();
    let mean = ppm(divide(sum, total));
    judgements
        .iter()
        .map(|judgement| match judgement {
            None => mean,
            Some(judgement) => {
                let own = supported(judgement);
                let rest = u128::from(ONE).saturating_sub(own);
                let value = own * u128::from(judgement.right.0) + rest * u128::from(mean.0);
                ppm(divide(value, u128::from(ONE)))
            }
        })
        .collect()
}

fn total_weight(votes: &[Vote]) -> u128 {
    votes.iter().map(|vote| u128::from(vote.weight.0)).sum()
}

/// The smallest share at which half of the weight is reached. Votes are sorted.
fn weighted_median(sorted: &[Vote]) -> Ppm {
    let total = total_weight(sorted);
    let mut reached = 0u128;
    for vote in sorted {
        reached += u128::from(vote.weight.0);
        if 2 * reached >= total {
            return vote.right;
        }
    }
    Ppm::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(pairs: &[(u32, u32)]) -> Vec<Vote> {
        pairs
            .iter()
            .map(|&(right, weight)| Vote {
                right: Ppm(right),
                weight: Ppm(weight),
            })
            .collect()
    }

    #[test]
    fn weight_decides_and_no_weight_says_nothing() {
        let two = votes(&[(1_000_000, 300_000), (0, 100_000), (0, 0)]);
        assert_eq!(weighted(&two), Some(Ppm(750_000)));
        assert_eq!(plain(&two), Some(Ppm(333_333)));
        assert_eq!(weighted(&votes(&[(1_000_000, 0)])), None);
        assert_eq!(plain(&[]), None);
    }

    #[test]
    fn a_lone_extreme_is_clipped_around_the_median() {
        let settings = JudgeSettings::default();
        let honest = [(200_000, 100_000), (200_000, 100_000), (1_000_000, 100_000)];
        let judged = robust(&votes(&honest), &settings).unwrap();
        // (0.2 + 0.2 + 0.45) / 3
        assert_eq!(judged.right, Ppm(283_333));
        assert_eq!((judged.support, judged.critics), (Ppm::ONE, 3));
    }

    #[test]
    fn one_critic_is_no_quorum() {
        let settings = JudgeSettings::default();
        let lone = votes(&[(1_000_000, 900_000), (0, 0)]);
        assert_eq!(robust(&lone, &settings), None);
    }

    #[test]
    fn weak_support_pulls_to_the_mean_and_none_leaves_no_advantage() {
        let judged = |right, support| {
            Some(Judgement {
                right: Ppm(right),
                support: Ppm(support),
                critics: 2,
            })
        };
        let strong = pulled_to_mean(&[judged(1_000_000, 1_000_000), judged(0, 1_000_000), None]);
        assert_eq!(strong, [1_000_000, 0, 500_000].map(Ppm));
        let weak = pulled_to_mean(&[judged(1_000_000, 100_000), judged(0, 100_000)]);
        assert_eq!(weak, [550_000, 450_000].map(Ppm));
        assert_eq!(pulled_to_mean(&[None, None]), [0, 0].map(Ppm));
    }
}
