//! Hearing the critics: which critiques count, how well each critic is
//! calibrated, and what its word weighs on each completion.

use std::collections::BTreeMap;

use tasks::{
    Ppm, Score,
    dialogue::{Verdict, parse_verdict, score_critique},
};

use crate::{
    Calibration, CompletionScore, CritiqueGroup, CritiqueScore, CritiqueView, Ignored,
    JudgeSettings,
    arithmetic::ratio,
    calibration::weight_limit,
    has_advantage,
    truth::{Marked, part},
    vote::Vote,
};

/// A completion, by the place of its group among the answers, then its own.
pub(crate) type Place = (usize, usize);

/// Everything the critics said, and what it weighs.
pub(crate) struct Hearing<K> {
    pub(crate) scores: Vec<CritiqueScore<K>>,
    pub(crate) calibrations: BTreeMap<K, Calibration>,
    /// Weights after the cap, from all of a critic's observations.
    pub(crate) weights: BTreeMap<K, Ppm>,
    /// The votes on each completion, by critic.
    pub(crate) votes: BTreeMap<Place, Vec<(Vote, CritiqueView<K>)>>,
    /// The votes on each answer to an item, by critic: whoever gave it, and
    /// however often. An item goes by the place of its first group.
    pub(crate) on_answers: BTreeMap<(usize, String), BTreeMap<K, Vote>>,
    /// Sampled verdicts against known truths.
    pub(crate) sampled: Balanced,
}

/// One group of critiques, read.
struct Reading {
    verdicts: Vec<Verdict>,
    right: u32,
    wrong: u32,
}

impl Reading {
    fn of(completions: &[String]) -> Reading {
        let verdicts: Vec<Verdict> = completions.iter().map(|text| parse_verdict(text)).collect();
        let count = |wanted: Verdict| {
            let count = verdicts
                .iter()
                .filter(|verdict| **verdict == wanted)
                .count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        Reading {
            right: count(Verdict::Right),
            wrong: count(Verdict::Wrong),
            verdicts,
        }
    }

    fn count(&self) -> u32 {
        self.right.saturating_add(self.wrong)
    }

    fn share_right(&self) -> Option<Ppm> {
        (self.count() > 0).then(|| ratio(u128::from(self.right), u128::from(self.count())))
    }

    /// The first sample on the side of the majority.
    fn spokesman(&self) -> u32 {
        let side = Verdict::of(self.right >= self.wrong);
        let index = self.verdicts.iter().position(|verdict| *verdict == side);
        index.map_or(0, |index| u32::try_from(index).unwrap_or(u32::MAX))
    }
}

/// The groups of answers that critics may have read.
pub(crate) struct Shelf<'a, K> {
    /// Finds a group by owner and slot.
    pub(crate) places: &'a BTreeMap<(K, u32), usize>,
    /// The groups, re-scored.
    pub(crate) answers: &'a [Marked],
    /// For each group the first that is of the same item.
    pub(crate) items: &'a [usize],
}

/// Hears all critiques, which are in canonical order, each place once.
/// `history` is what earlier rounds showed of the critics.
pub(crate) fn hear<K: Ord + Copy>(
    critiques: &[&CritiqueGroup<K>],
    shelf: &Shelf<'_, K>,
    history: &BTreeMap<K, Calibration>,
    settings: &JudgeSettings,
) -> Hearing<K> {
    let answers = shelf.answers;
    let item = |place: Place| shelf.items.get(place.0).copied().unwrap_or(place.0);
    let mut calibrations: BTreeMap<K, Calibration> = BTreeMap::new();
    let mut on_item: BTreeMap<(K, usize), Calibration> = BTreeMap::new();
    let mut sampled = Balanced::default();
    let mut scores = Vec::with_capacity(critiques.len());
    let mut heard: Vec<(Place, K, Reading)> = Vec::new();
    for critique in critiques {
        let reading = Reading::of(&critique.completions);
        let target = find(critique, shelf);
        let truth = target
            .ok()
            .and_then(|(group, completion)| answers.get(group)?.marks.get(completion)?.truth);
        scores.push(score(critique, &reading, target.err(), truth));
        let Ok(place) = target else { continue };
        calibrations.entry(critique.critic).or_default();
        if let Some(truth) = truth {
            for calibration in [
                calibrations.entry(critique.critic).or_default(),
                on_item.entry((critique.critic, item(place))).or_default(),
            ] {
                calibration.observe(truth, reading.right, reading.count(), settings);
            }
            let hits = if truth { reading.right } else { reading.wrong };
            sampled.add(truth, 2 * u64::from(hits), u64::from(reading.count()));
        }
        heard.push((place, critique.critic, reading));
    }
    let weigh = |calibration: &Calibration| calibration.weight(settings);
    let whole = |critic: &K| {
        let earlier = history.get(critic).copied().unwrap_or_default();
        earlier.with(calibrations.get(critic).copied().unwrap_or_default())
    };
    let known: BTreeMap<K, Calibration> = calibrations
        .keys()
        .map(|critic| (*critic, whole(critic)))
        .collect();
    let limit = weight_limit(known.values().map(weigh), settings.weight_cap);
    let weights = known
        .iter()
        .map(|(critic, calibration)| (*critic, weigh(calibration).min(limit)))
        .collect();
    let mut votes: BTreeMap<Place, Vec<(Vote, CritiqueView<K>)>> = BTreeMap::new();
    let mut counts: BTreeMap<(usize, String, K), (Ppm, u64, u64)> = BTreeMap::new();
    for (place, critic, reading) in heard {
        let Some(right) = reading.share_right() else {
            continue;
        };
        // What a critic said of this item must not vouch for what it says of it.
        let here = on_item.get(&(critic, item(place)));
        let all = known.get(&critic).copied().unwrap_or_default();
        let weight = weigh(&all.without(here.copied().unwrap_or_default())).min(limit);
        if let Some(answer) = answered(answers, place) {
            let key = (item(place), answer.to_owned(), critic);
            let (_, right, all) = counts.entry(key).or_insert((weight, 0, 0));
            *right += u64::from(reading.right);
            *all += u64::from(reading.count());
        }
        let view = CritiqueView {
            critic,
            right_ppm: right,
            weight_ppm: weight,
            sample_index: reading.spokesman(),
        };
        let vote = Vote { right, weight };
        votes.entry(place).or_default().push((vote, view));
    }
    let mut on_answers: BTreeMap<(usize, String), BTreeMap<K, Vote>> = BTreeMap::new();
    for ((item, answer, critic), (weight, right, all)) in counts {
        let right = ratio(right.into(), all.into());
        let said = on_answers.entry((item, answer)).or_default();
        said.insert(critic, Vote { right, weight });
    }
    Hearing {
        scores,
        calibrations,
        weights,
        votes,
        on_answers,
        sampled,
    }
}

fn answered(answers: &[Marked], place: Place) -> Option<&str> {
    answers.get(place.0)?.marks.get(place.1)?.answer()
}

/// The completion that a critique is about, or why it does not count.
fn find<K: Ord + Copy>(
    critique: &CritiqueGroup<K>,
    shelf: &Shelf<'_, K>,
) -> Result<Place, Ignored> {
    if critique.critic == critique.target_owner {
        return Err(Ignored::OwnCompletion);
    }
    let group = *shelf
        .places
        .get(&(critique.target_owner, critique.target_slot))
        .ok_or(Ignored::UnknownTarget)?;
    let completion = usize::from(critique.target_completion);
    let mark = shelf
        .answers
        .get(group)
        .and_then(|marked| marked.marks.get(completion))
        .ok_or(Ignored::UnknownTarget)?;
    if mark.answer().is_none() {
        return Err(Ignored::NothingToJudge);
    }
    Ok((group, completion))
}

/// Each sample against the truth; without one, or without account, no reward.
fn score<K: Copy>(
    critique: &CritiqueGroup<K>,
    reading: &Reading,
    ignored: Option<Ignored>,
    truth: Option<bool>,
) -> CritiqueScore<K> {
    let unpaid = ignored.map_or_else(
        || "nobody knows whether the answer is right".to_owned(),
        |reason| format!("ignored: {reason}"),
    );
    let samples: Vec<CompletionScore<K>> = critique
        .completions
        .iter()
        .zip(&reading.verdicts)
        .map(|(text, verdict)| match truth {
            Some(truth) => paid(&score_critique(truth, text), *verdict, truth),
            None => {
                let well_formed = *verdict != Verdict::None;
                CompletionScore {
                    reward: Ppm::ZERO,
                    correct: false,
                    well_formed,
                    answer: None,
                    truth: None,
                    parts: vec![part("format", well_formed.into())],
                    why: unpaid.clone(),
                    critiques: Vec::new(),
                }
            }
        })
        .collect();
    CritiqueScore {
        critic: critique.critic,
        target_owner: critique.target_owner,
        target_slot: critique.target_slot,
        target_completion: critique.target_completion,
        truth,
        right_ppm: reading.share_right(),
        trainable: has_advantage(samples.iter().map(|sample| sample.reward)),
        samples,
        ignored,
    }
}

/// A sample, paid for the truth.
fn paid<K>(score: &Score, verdict: Verdict, truth: bool) -> CompletionScore<K> {
    let correct = verdict == Verdict::of(truth);
    CompletionScore {
        reward: score.reward.min(Ppm::ONE),
        correct,
        well_formed: verdict != Verdict::None,
        answer: None,
        truth: Some(truth),
        parts: score.parts.clone(),
        why: match verdict {
            Verdict::None => score.why.clone().into_owned(),
            _ => {
                let is = Verdict::of(truth).as_str();
                format!("says {}, the answer is {is}", verdict.as_str())
            }
        },
        critiques: Vec::new(),
    }
}

/// Hits on right and on wrong answers, apart, in halves of a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balanced {
    right: (u64, u64),
    wrong: (u64, u64),
}

impl Balanced {
    /// Adds `halves` of hits in `count` tries on answers with this truth.
    pub(crate) fn add(&mut self, truth: bool, halves: u64, count: u64) {
        let side = if truth {
            &mut self.right
        } else {
            &mut self.wrong
        };
        side.0 = side.0.saturating_add(halves);
        side.1 = side.1.saturating_add(count);
    }

    /// Adds a vote: above one half says "right", one half and none are a coin.
    pub(crate) fn add_vote(&mut self, truth: bool, right: Option<Ppm>) {
        const HALF: Ppm = Ppm(500_000);
        let halves = match right.unwrap_or(HALF).cmp(&HALF) {
            std::cmp::Ordering::Equal => 1,
            std::cmp::Ordering::Greater => 2 * u64::from(truth),
            std::cmp::Ordering::Less => 2 * u64::from(!truth),
        };
        self.add(truth, halves, 1);
    }

    /// The mean accuracy of both sides; a side without tries counts as chance.
    pub(crate) fn accuracy(&self) -> Ppm {
        if self.right.1 == 0 && self.wrong.1 == 0 {
            return Ppm::ZERO;
        }
        let side = |(halves, count): (u64, u64)| match count {
            0 => Ppm(500_000),
            _ => ratio(u128::from(halves), 2 * u128::from(count)),
        };
        let both = u128::from(side(self.right).0) + u128::from(side(self.wrong).0);
        ratio(both, 2_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_is_the_mean_of_both_sides() {
        let mut balanced = Balanced::default();
        assert_eq!(balanced.accuracy(), Ppm::ZERO);
        balanced.add(false, 2 * 90, 90);
        // All said "wrong", and nothing was right: no better than chance is shown.
        assert_eq!(balanced.accuracy(), Ppm(750_000));
        balanced.add(true, 0, 10);
        assert_eq!(balanced.accuracy(), Ppm(500_000));
    }

    #[test]
    fn a_tied_vote_is_a_coin() {
        let mut balanced = Balanced::default();
        balanced.add_vote(true, Some(Ppm(500_000)));
        balanced.add_vote(true, None);
        balanced.add_vote(false, Some(Ppm(499_999)));
        balanced.add_vote(false, Some(Ppm(500_001)));
        assert_eq!(balanced.accuracy(), Ppm(500_000));
    }

    #[test]
    fn the_spokesman_is_of_the_majority() {
        let texts = ["x", "<verdict>right</verdict>", "<verdict>wrong</verdict>"];
        let mut texts: Vec<String> = texts.map(str::to_owned).to_vec();
        assert_eq!(Reading::of(&texts).spokesman(), 1);
        texts.push("<verdict>wrong</verdict>".to_owned());
        let reading = Reading::of(&texts);
        assert_eq!(reading.spokesman(), 2);
        assert_eq!(reading.share_right(), Some(Ppm(333_333)));
        assert_eq!(Reading::of(&[]).spokesman(), 0);
        assert_eq!(Reading::of(&[]).share_right(), None);
    }
}
