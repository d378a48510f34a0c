//! What earned nothing, and why: every contribution is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tasks::Ppm;

use crate::{
    GroupScore, PeerScore, Scoreboard,
    arithmetic::{percent, ratio},
};

/// Different reasons told of one peer; what is left is counted together. Reasons name
/// what a peer wrote, so there can be as many as it likes.
const REASONS_LIMIT: usize = 12;

/// A kind of contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// First answers.
    Answers,
    /// Critiques.
    Critiques,
    /// Second answers.
    Resolutions,
}

impl Kind {
    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Answers => "answers",
            Kind::Critiques => "critiques",
            Kind::Resolutions => "resolutions",
        }
    }
}

/// So many contributions of one peer that earned nothing, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncounted {
    /// Of which kind.
    pub kind: Kind,
    /// How many; zero where the kind as a whole earned nothing.
    pub count: u32,
    /// Not counted because.
    pub because: String,
}

/// Of each peer, what earned nothing and why, the most frequent first.
#[must_use]
pub fn uncounted<K: Ord + Copy>(board: &Scoreboard<K>) -> BTreeMap<K, Vec<Uncounted>> {
    let mut counts: BTreeMap<K, BTreeMap<(Kind, String), u32>> = BTreeMap::new();
    let mut count = |peer: K, kind: Kind, because: String, times: usize| {
        let reasons = counts.entry(peer).or_default();
        let room = reasons.len() < REASONS_LIMIT;
        let because = match reasons.contains_key(&(kind, because.clone())) || room {
            true => because,
            false => "other reasons".to_owned(),
        };
        let entry = reasons.entry((kind, because)).or_default();
        *entry = entry.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
    };
    for group in &board.answers {
        for because in answers(group) {
            count(group.owner, Kind::Answers, because, 1);
        }
    }
    for critique in &board.critiques {
        if let Some(ignored) = critique.ignored {
            let because = ignored.to_string();
            count(
                critique.critic,
                Kind::Critiques,
                because,
                critique.samples.len(),
            );
        } else if critique.truth.is_none() {
            let because = "nobody knows whether that answer is right".to_owned();
            count(
                critique.critic,
                Kind::Critiques,
                because,
                critique.samples.len(),
            );
        } else {
            let silent = critique.samples.iter().filter(|sample| !sample.well_formed);
            for sample in silent {
                count(critique.critic, Kind::Critiques, sample.why.clone(), 1);
            }
        }
    }
    for group in &board.resolutions {
        for one in group.completions.iter().filter(|one| !one.correct) {
            let because = match one.truth {
                Some(false) if one.well_formed => "wrong".to_owned(),
                _ => one.why.clone(),
            };
            count(group.owner, Kind::Resolutions, because, 1);
        }
    }
    let mut told: BTreeMap<K, Vec<Uncounted>> = BTreeMap::new();
    for (peer, score) in &board.peers {
        let mut lines: Vec<Uncounted> = counts
            .remove(peer)
            .unwrap_or_default()
            .into_iter()
            .map(|((kind, because), count)| Uncounted {
                kind,
                count,
                because,
            })
            .collect();
        lines.sort_by_key(|line| (line.kind, std::cmp::Reverse(line.count)));
        let whole = parts(score).map(|(kind, because)| Uncounted {
            kind,
            count: 0,
            because,
        });
        told.insert(*peer, whole.chain(lines).collect());
    }
    told
}

/// Why each first answer that counts nothing does. A wrong one beside right ones
/// counts half: others can learn from the two.
fn answers<K>(group: &GroupScore<K>) -> impl Iterator<Item = String> {
    let nothing = group.completions.iter().filter(|one| {
        let by_critics = one.truth.is_none() && one.reward > Ppm::ZERO;
        !one.correct && !group.useful && !by_critics
    });
    nothing.map(|one| match one.truth {
        Some(false) if one.well_formed => "wrong, in a group without a right answer".to_owned(),
        _ => one.why.clone(),
    })
}

/// Kinds of which a peer has nothing to show as a whole.
fn parts(score: &PeerScore) -> impl Iterator<Item = (Kind, String)> {
    let work = &score.work;
    let absent = "none was included: late for the witnesses, or not sent";
    let answers = (work.answers == 0).then(|| absent.to_owned());
    let critiques = match work.brier {
        None => Some("none was about an answer whose truth is known".to_owned()),
        Some(brier) => (score.parts.critiques == Ppm::ZERO).then(|| {
            format!(
                "its verdicts tell no more than a coin's: Brier {brier} over {} answers, \
                 where always \"perhaps\" is 0.250",
                work.judged
            )
        }),
    };
    let resolutions = match work.resolutions {
        0 => Some(absent.to_owned()),
        count => (score.parts.resolutions == Ppm::ZERO).then(|| {
            let of = |part: u64, whole: u64| percent(ratio(part.into(), whole.into()));
            format!(
                "right no more often than what it had read: {} after {}",
                of(work.resolved, count),
                of(work.before, count.saturating_mul(1_000_000)),
            )
        }),
    };
    [
        (Kind::Answers, answers),
        (Kind::Critiques, critiques),
        (Kind::Resolutions, resolutions),
    ]
    .into_iter()
    .filter_map(|(kind, because)| Some((kind, because?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnswerGroup, CritiqueGroup, Included, JudgeSettings, ResolveGroup, judge};
    use tasks::{Registry, Seed, Style};

    #[test]
    fn every_contribution_that_earned_nothing_has_its_reason() {
        let registry = Registry::builtin();
        let add = registry.by_name("add").unwrap();
        let item = add.generate(&Seed::derive(&[b"uncounted"]), 1);
        let right = add.demonstrate(&item, Style::Direct);
        let wrong = "<answer>9999</answer>".to_owned();
        let mut included = Included::default();
        let mut answer = |owner, completions: &[&String]| {
            included.answers.push(AnswerGroup {
                owner,
                slot: 0,
                item: item.clone(),
                completions: completions.iter().map(|text| (*text).clone()).collect(),
            });
        };
        answer("mixed", &[&right, &wrong]);
        answer("lost", &[&wrong, &wrong, &"42".to_owned()]);
        for (target_owner, text) in [("critic", "right"), ("mixed", "no verdict")] {
            included.critiques.push(CritiqueGroup {
                critic: "critic",
                target_owner,
                target_slot: 0,
                target_completion: 0,
                completions: vec![text.to_owned()],
            });
        }
        included.resolutions.push(ResolveGroup {
            owner: "lost",
            slot: 0,
            item: item.clone(),
            read: Vec::new(),
            completions: vec![wrong.clone()],
        });
        let board = judge(&registry, &included, &JudgeSettings::default());
        let told = uncounted(&board);
        let lines = |peer| -> Vec<String> {
            told[peer]
                .iter()
                .map(|line| format!("{} {}: {}", line.count, line.kind.name(), line.because))
                .collect()
        };
        // Wrong beside right is something to learn from, and counts.
        assert!(
            !lines("mixed")
                .iter()
                .any(|line| line.contains("answers: wrong"))
        );
        let lost = lines("lost");
        for expected in [
            "2 answers: wrong, in a group without a right answer",
            "1 answers: no <answer> tag",
            "1 resolutions: wrong",
            "0 resolutions: right no more often than what it had read: 0.0% after 20.0%",
        ] {
            assert!(lost.contains(&expected.to_owned()), "{expected}: {lost:#?}");
        }
        let critic = lines("critic");
        for expected in [
            "0 answers: none was included: late for the witnesses, or not sent",
            "1 critiques: a verdict on one's own answer",
            "1 critiques: no <verdict> tag",
        ] {
            assert!(
                critic.contains(&expected.to_owned()),
                "{expected}: {critic:#?}"
            );
        }
    }

    #[test]
    fn reasons_are_bounded_whatever_a_peer_writes() {
        let registry = Registry::builtin();
        let add = registry.by_name("add").unwrap();
        let item = add.generate(&Seed::derive(&[b"uncounted"]), 1);
        let mut included = Included::default();
        let stuffed = |count: usize| "<answer>".repeat(count + 2);
        included.answers.push(AnswerGroup {
            owner: "stuffer",
            slot: 0,
            item,
            completions: (0..100).map(stuffed).collect(),
        });
        let board = judge(&registry, &included, &JudgeSettings::default());
        let told = uncounted(&board);
        assert!(told["stuffer"].len() <= REASONS_LIMIT + 4, "{told:#?}");
        let counted: u32 = told["stuffer"].iter().map(|line| line.count).sum();
        assert_eq!(counted, 100);
    }
}
