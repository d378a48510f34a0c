//! What a completion is worth, in integers, with the reasons.

use std::borrow::Cow;

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
    pub name: Cow<'static, str>,
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
    pub why: Cow<'static, str>,
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
            why: format!("could not be scored: {why}").into(),
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
#[must_use]
pub fn exact(manifest: &Manifest, item: &Item, completion: &str) -> Score {
    judged(manifest, completion, |body| body == item.reference)
}

/// Scores an answer by what makes it right.
pub(crate) fn judged(
    manifest: &Manifest,
    completion: &str,
    is_right: impl Fn(&str) -> bool,
) -> Score {
    Rules::of(manifest).score(completion, is_right)
}

/// How one kind of completion is scored.
pub(crate) struct Rules {
    pub(crate) tag: Tag,
    pub(crate) limits: Limits,
    pub(crate) correct: Ppm,
    pub(crate) brevity: Ppm,
}

impl Rules {
    /// How an environment's completions are scored.
    pub(crate) fn of(manifest: &Manifest) -> Rules {
        Rules {
            tag: Tag::Answer,
            limits: manifest.limits,
            correct: manifest.weight("correct"),
            brevity: manifest.weight("brevity"),
        }
    }

    /// What stands in the tags of a completion that passes the gate; else its
    /// score.
    pub(crate) fn gate<'a>(&self, completion: &'a str) -> Result<&'a str, Score> {
        self.fits(completion)?;
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
                return Err(shut(status, candidate, why));
            }
        };
        let characters = body.chars().count();
        let limit = self.limits.answer_chars;
        if characters > limit as usize {
            let why = format!(
                "the {} has {characters} characters, at most {limit} are read",
                self.tag.name()
            );
            return Err(shut(Status::Invalid, None, why.into()));
        }
        Ok(body)
    }

    /// Refuses a completion that is too long to be read at all.
    pub(crate) fn fits(&self, completion: &str) -> Result<(), Score> {
        let bytes = completion.len();
        let limit = self.limits.completion_bytes;
        if bytes > limit as usize {
            let why = format!("{bytes} bytes, at most {limit} are read");
            return Err(shut(Status::Invalid, None, why.into()));
        }
        Ok(())
    }

    /// What is left of brevity after so many bytes, and how many are too many.
    pub(crate) fn brief(&self, bytes: usize) -> (Ppm, usize) {
        let over = bytes.saturating_sub(self.limits.free_bytes as usize);
        let lost = Ppm::ratio(over as u64, u64::from(self.limits.penalty_bytes));
        (lost.complement(), over)
    }

    /// The score of a completion, given what makes its body right.
    pub(crate) fn score(&self, completion: &str, is_right: impl Fn(&str) -> bool) -> Score {
        let body = match self.gate(completion) {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        let answer = Some(printable(body));
        if !is_right(body) {
            return open(Ppm::ZERO, Ppm::ZERO, Ppm::ZERO, answer, "wrong".into());
        }
        let (brevity, over) = self.brief(completion.len());
        let reward = self.correct.saturating_add(self.brevity.of(brevity));
        open(reward, Ppm::ONE, brevity, answer, right(over))
    }
}

/// Why a right answer earned what it did.
pub(crate) fn right(over: usize) -> Cow<'static, str> {
    if over == 0 {
        "right".into()
    } else {
        format!("right, {over} bytes longer than is free").into()
    }
}

/// The score of an episode that is none: it goes on after its end.
pub(crate) fn out_of_form(why: String) -> Score {
    shut(Status::Invalid, None, why.into())
}

/// The score of an episode that its policy left before the end.
pub(crate) fn left(why: String) -> Score {
    shut(Status::NoAnswer, None, why.into())
}

/// The score of an episode whose turns ran out.
pub(crate) fn not_done(why: String) -> Score {
    open(Ppm::ZERO, Ppm::ZERO, Ppm::ZERO, None, why.into())
}

/// The score of a completion that did not pass the gate.
fn shut(status: Status, answer: Option<String>, why: Cow<'static, str>) -> Score {
    Score {
        status,
        reward: Ppm::ZERO,
        parts: parts(Ppm::ZERO, Ppm::ZERO, Ppm::ZERO),
        answer,
        why,
    }
}

/// The score of a completion that did.
fn open(
    reward: Ppm,
    correct: Ppm,
    brevity: Ppm,
    answer: Option<String>,
    why: Cow<'static, str>,
) -> Score {
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
    .map(|(name, value)| Part {
        name: name.into(),
        value,
    })
    .to_vec()
}
