//! What the judge gives back, with a reason for each number.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tasks::{EnvId, Part, Ppm};

use crate::Calibration;
use crate::contribution::{Shared, Work};

/// Everything that follows from what a round included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>", serialize = "K: Serialize"))]
pub struct Scoreboard<K> {
    /// First answers, by owner and slot.
    pub answers: Vec<GroupScore<K>>,
    /// Critiques, by target, then critic; ignored ones too, with their reason.
    pub critiques: Vec<CritiqueScore<K>>,
    /// Second answers, by owner and slot.
    pub resolutions: Vec<GroupScore<K>>,
    /// Everyone of whom anything was included. Whoever is not here scores zero.
    pub peers: BTreeMap<K, PeerScore>,
    /// Share of sampled verdicts that are right, the mean over right and over
    /// wrong answers; a side without verdicts counts as chance, no verdicts at
    /// all are zero.
    pub judge_accuracy: Ppm,
    /// The same of one unweighted vote of all critics for each completion.
    pub plain_judge_accuracy: Ppm,
    /// The same of the weighted vote. No critic's weight is taken from the
    /// group that is voted on, and a vote without any weight is a coin.
    pub weighted_judge_accuracy: Ppm,
    /// Share of first answers that are right, of those whose truth is known.
    pub answer_accuracy: Ppm,
    /// Share of first answers that are well-formed.
    pub format_rate: Ppm,
    /// Share of critiques that are well-formed, of those that count.
    pub critique_format_rate: Ppm,
    /// Share of second answers that are right, of those whose truth is known.
    pub resolve_accuracy: Ppm,
    /// Mean reward of first answers.
    pub reward: Ppm,
    /// What critics and verifier say of the same answers, apart.
    pub twins: Twins,
    /// What was left out of account, and how often.
    pub ignored: BTreeMap<Ignored, u32>,
}

impl<K: Ord> Scoreboard<K> {
    /// The number that is attested for a peer: zero for whoever did nothing.
    #[must_use]
    pub fn contribution(&self, peer: &K) -> Ppm {
        self.peers
            .get(peer)
            .map_or(Ppm::ZERO, |score| score.contribution)
    }
}

/// Answers to items of judged environments whose truth is known and whose
/// critics did not know it to be: what critics and the verifier say of them.
/// Where the two part, critics reward what is not right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twins {
    /// How many of them enough critics judged.
    pub answers: u64,
    /// The mean of what critics say: the reward it would have been.
    pub critics: Ppm,
    /// Share of them that are right.
    pub verifier: Ppm,
}

/// A group of first or second answers, scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupScore<K> {
    /// Who sampled it.
    pub owner: K,
    /// Where in the owner's batch.
    pub slot: u32,
    /// The environment.
    pub env: EnvId,
    /// The level.
    pub level: u8,
    /// The completions, in the order they came in.
    pub completions: Vec<CompletionScore<K>>,
    /// Whether right answers stand among wrong ones.
    pub useful: bool,
    /// Whether rewards differ, so that there is an advantage to learn from.
    /// Every useful group is trainable; one that differs only in form or
    /// length is trainable and not useful.
    pub trainable: bool,
}

/// A completion, scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionScore<K> {
    /// The reward.
    pub reward: Ppm,
    /// Whether it is well-formed and right: by the verifier, or, in a judged
    /// environment, by the critics.
    pub correct: bool,
    /// Whether it passed the gate.
    pub well_formed: bool,
    /// What it answers, if it answers anything; of a critique, nothing.
    pub answer: Option<String>,
    /// Whether what it answered is right, in whatever form: what verdicts are
    /// held against. `None` where nobody knows.
    pub truth: Option<bool>,
    /// The parts of the reward.
    pub parts: Vec<Part>,
    /// The reason, for people.
    pub why: String,
    /// What critics said of it; empty for critiques and resolutions.
    pub critiques: Vec<CritiqueView<K>>,
}

impl<K> CompletionScore<K> {
    /// The reward explained in one line: who decided it and why, and what the
    /// critics said. `1.00 verified: right; critics 4 for, 1 against, weight 0.83`
    #[must_use]
    pub fn told(&self) -> String {
        let decided = match self.truth {
            Some(_) => "verified",
            None if self.parts.iter().any(|part| part.name == "critics") => "judged",
            None => "undecided",
        };
        let hundredths = (u64::from(self.reward.0) + 5_000) / 10_000;
        let mut line = format!(
            "{}.{:02} {decided}: {}",
            hundredths / 100,
            hundredths % 100,
            self.why
        );
        if !self.critiques.is_empty() {
            let half = Ppm(500_000);
            let count = |side: fn(&Ppm, &Ppm) -> bool| {
                let sided = self.critiques.iter();
                sided.filter(|view| side(&view.right_ppm, &half)).count()
            };
            let weight: u64 = self
                .critiques
                .iter()
                .map(|view| u64::from(view.weight_ppm.0))
                .sum();
            let weight = (weight + 5_000) / 10_000;
            line.push_str(&format!(
                "; critics {} for, {} against, weight {}.{:02}",
                count(Ppm::gt),
                count(Ppm::lt),
                weight / 100,
                weight % 100
            ));
        }
        line
    }
}

/// What one critic said of one completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CritiqueView<K> {
    /// The critic.
    pub critic: K,
    /// Share of its well-formed verdicts that say "right".
    pub right_ppm: Ppm,
    /// What its word weighed here, calibrated elsewhere.
    pub weight_ppm: Ppm,
    /// The sample that speaks for it: the first whose verdict is its majority's.
    pub sample_index: u32,
}

/// A group of critiques of one completion, scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CritiqueScore<K> {
    /// Who sampled it.
    pub critic: K,
    /// Whose completion it is about.
    pub target_owner: K,
    /// In which group.
    pub target_slot: u32,
    /// Which completion.
    pub target_completion: u16,
    /// Whether that completion's answer is right, where that is known.
    pub truth: Option<bool>,
    /// Share of well-formed verdicts that say "right"; `None` without any.
    pub right_ppm: Option<Ppm>,
    /// The samples, in the order they came in.
    pub samples: Vec<CompletionScore<K>>,
    /// Whether rewards differ, so that there is an advantage to learn from.
    pub trainable: bool,
    /// Why it was left out of account, if it was.
    pub ignored: Option<Ignored>,
}

/// Why something is left out of account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ignored {
    /// A critique of the critic's own completion.
    OwnCompletion,
    /// A critique of something that is not included.
    UnknownTarget,
    /// A critique of a completion without an answer.
    NothingToJudge,
    /// An environment that this program does not have.
    UnknownEnvironment,
    /// A second group in the same place.
    Duplicate,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ignored::OwnCompletion => "a verdict on one's own answer",
            Ignored::UnknownTarget => "a verdict on something that is not included",
            Ignored::NothingToJudge => "a verdict on a completion without an answer",
            Ignored::UnknownEnvironment => "an environment that is not known here",
            Ignored::Duplicate => "a second group in the same place",
        })
    }
}

/// A peer's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerScore {
    /// What it contributed: the number that is attested.
    pub contribution: Ppm,
    /// What the contribution is made of.
    pub parts: Shared,
    /// Mean reward of its first answers.
    pub reward: Ppm,
    /// Share of its first answers that are right, of those whose truth is known.
    pub accuracy: Ppm,
    /// Share of its first answers that are well-formed.
    pub format_rate: Ppm,
    /// Its Brier score as a critic, lower is better; `None` where it judged
    /// nothing whose truth is known.
    pub critique_brier: Option<Ppm>,
    /// What its word weighs after calibration and cap.
    pub critique_weight: Ppm,
    /// What this round showed of it as a critic.
    pub calibration: Calibration,
    /// How much more often its second answers are right than what it had read, in ppm.
    pub resolve_gain: i64,
    /// The counts behind the contribution.
    pub work: Work,
    /// Where the contribution comes from, in one line.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reward_is_told_in_one_line() {
        let view = |right: u32, weight: u32| CritiqueView {
            critic: 1u8,
            right_ppm: Ppm(right),
            weight_ppm: Ppm(weight),
            sample_index: 0,
        };
        let mut score = CompletionScore {
            reward: Ppm(995_000),
            correct: true,
            well_formed: true,
            answer: Some("132".to_owned()),
            truth: Some(true),
            parts: Vec::new(),
            why: "right".to_owned(),
            critiques: vec![
                view(900_000, 500_000),
                view(250_000, 326_000),
                view(500_000, 0),
            ],
        };
        assert_eq!(
            score.told(),
            "1.00 verified: right; critics 1 for, 1 against, weight 0.83"
        );
        score.truth = None;
        score.critiques.clear();
        assert_eq!(score.told(), "1.00 undecided: right");
        score.parts = vec![Part {
            name: "critics".into(),
            value: Ppm(700_000),
        }];
        assert_eq!(score.told(), "1.00 judged: right");
    }
}
