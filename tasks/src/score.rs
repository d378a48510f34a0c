//! What a completion is worth, in integers, with the reasons.

use serde::{Deserialize, Serialize};

use crate::{
    Item, Limits, Manifest, Ppm,
    format::{Malformed, Tag, parse, printable},
};

/// Whether there was anything to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Well-formed; right or wrong.
    Ok,
    /// Nothing was answered.
    NoAnswer,
    /// Something was, but not in the agreed form.
    Invalid,
    /// The environment failed: nobody knows what the answer is worth.
    Unscored,
}

/// One component of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As in the manifest: `format`, `correct`, `brevity`, or the author's own.
    pub name: String,
    /// Its value, before weighing.
    pub value: Ppm,
}

/// What one completion is worth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Whether there was anything to judge.
    pub status: Status,
    /// The reward: the weighed sum of the parts, zero where the gate is shut.
    pub reward: Ppm,
    /// The parts.
    pub parts: Vec<Part>,
    /// The extracted answer, printable. An ill-formed completion may have one.
    pub answer: Option<String>,
    /// The reason, for people.
    pub why: String,
}

impl Score {
    /// The value of one part, zero where there is none.
    #[must_use]
    pub fn part(&self, name: &str) -> Ppm {
        self.parts
            .iter()
            .find(|part| part.name == name)
            .map_or(Ppm::ZERO, |part| part.value)
    }

    /// What is said where the environment failed on a completion. It earns
    /// nothing, and nobody may take it for wrong.
    #[must_use]
    pub fn unscored(why: &str) -> Score {
        Score {
            status: Status::Unscored,
            reward: Ppm::ZERO,
            parts: Vec::new(),
            answer: None,
            why: format!("could not be scored: {why}"),
        }
    }

    /// Whether the completion passed the gate.
    #[must_use]
    pub fn well_formed(&self) -> bool {
        self.status == Status::Ok
    }

    /// Whether the completion is well-formed and right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.part("correct") == Ppm::ONE
    }
}

/// The share of `correct`; what is left is `brevity`.
pub(crate) const CORRECT_WEIGHT: Ppm = Ppm(900_000);

/// Scores an answer that is right when it equals the reference.
pub(crate) fn exact(manifest: &Manifest, item: &Item, completion: &str) -> Score {
    judged(manifest, completion, |body| body == item.reference)
}

/// Scores an answer by what makes it right.
pub(crate) fn judged(
    manifest: &Manifest,
    completion: &str,
    is_right: impl Fn(&str) -> bool,
) -> Score {
    let rules = Rules {
        tag: Tag::Answer,
        limits: manifest.limits,
        correct: manifest.weight("correct"),
        brevity: manifest.weight("brevity"),
    };
    rules.score(completion, is_right)
}

/// How one kind of completion is scored.
pub(crate) struct Rules {
    pub(crate) tag: Tag,
    pub(crate) limits: Limits,
    pub(crate) correct: Ppm,
    pub(crate) brevity: Ppm,
}

impl Rules {
    /// The score of a completion, given what makes its body right.
    pub(crate) fn score(&self, completion: &str, is_right: impl Fn(&str) -> bool) -> Score {
        let bytes = completion.len();
        let limit = self.limits.completion_bytes;
        if bytes > limit as usize {
            return shut(
                Status::Invalid,
                None,
                format!("{bytes} bytes, at most {limit} are read"),
            );
        }
        let body = match parse(completion, self.tag) {
            Ok(tagged) => tagged.body,
            Err(Malformed {
                why,
                missing,
                candidate,
            }) => {
                let status = if missing {
                    Status::NoAnswer
                } else {
                    Status::Invalid
                };
                return shut(status, candidate, why);
            }
        };
        let characters = body.chars().count();
        let limit = self.limits.answer_chars;
        if characters > limit as usize {
            let why = format!(
                "the {} has {characters} characters, at most {limit} are read",
                self.tag.name()
            );
            return shut(Status::Invalid, None, why);
        }
        let answer = Some(printable(body));
        if !is_right(body) {
            return open(Ppm::ZERO, Ppm::ZERO, Ppm::ZERO, answer, "wrong".to_owned());
        }
        let over = bytes.saturating_sub(self.limits.free_bytes as usize);
        let brevity = Ppm::ratio(over as u64, u64::from(self.limits.penalty_bytes)).complement();
        let reward = self.correct.saturating_add(self.brevity.of(brevity));
        let why = if over == 0 {
            "right".to_owned()
        } else {
            format!("right, {over} bytes longer than is free")
        };
        open(reward, Ppm::ONE, brevity, answer, why)
    }
}

/// The score of a completion that did not pass the gate.
fn shut(status: Status, answer: Option<String>, why: String) -> Score {
    Score {
        status,
        reward: Ppm::ZERO,
        parts: parts(Ppm::ZERO, Ppm::ZERO, Ppm::ZERO),
        answer,
        why,
    }
}

/// The score of a completion that did.
fn open(reward: Ppm, correct: Ppm, brevity: Ppm, answer: Option<String>, why: String) -> Score {
    Score {
        status: Status::Ok,
        reward,
        parts: parts(Ppm::ONE, correct, brevity),
        answer,
        why,
    }
}

fn parts(format: Ppm, correct: Ppm, brevity: Ppm) -> Vec<Part> {
    [
        ("format", format),
        ("correct", correct),
        ("brevity", brevity),
    ]
    .into_iter()
    .map(|(name, value)| Part {
        name: name.to_owned(),
        value,
    })
    .collect()
}
