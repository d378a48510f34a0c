//! Verdicts: reading one, and scoring a critique against the truth.

use serde::{Deserialize, Serialize};

use crate::{
    Limits, Ppm, Score,
    format::{Tag, parse},
    score::{CORRECT_WEIGHT, Rules},
};

/// What a critique says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The answer is right.
    Right,
    /// The answer is wrong.
    Wrong,
    /// The critique is ill-formed, and says nothing.
    None,
}

impl Verdict {
    /// The verdict that is true of an answer.
    #[must_use]
    pub fn of(truth: bool) -> Verdict {
        if truth {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    }

    /// The word between the tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Right => "right",
            Verdict::Wrong => "wrong",
            Verdict::None => "none",
        }
    }
}

/// Sizes of a critique.
const LIMITS: Limits = Limits {
    completion_bytes: 4096,
    answer_chars: 5,
    free_bytes: 128,
    penalty_bytes: 200,
};

/// The verdict of a well-formed critique: optional steps, then one of two words.
#[must_use]
pub fn parse_verdict(text: &str) -> Verdict {
    if text.len() > LIMITS.completion_bytes as usize {
        return Verdict::None;
    }
    match parse(text, Tag::Verdict) {
        Ok(tagged) if tagged.body == "right" => Verdict::Right,
        Ok(tagged) if tagged.body == "wrong" => Verdict::Wrong,
        _ => Verdict::None,
    }
}

/// What a critique is worth where the truth about the answer is known.
#[must_use]
pub fn score_critique(truth: bool, text: &str) -> Score {
    let rules = Rules {
        tag: Tag::Verdict,
        limits: LIMITS,
        correct: CORRECT_WEIGHT,
        brevity: CORRECT_WEIGHT.complement(),
    };
    let score = rules.score(text, |body| body == Verdict::of(truth).as_str());
    if score.well_formed() && parse_verdict(text) == Verdict::None {
        return Score {
            status: crate::Status::Invalid,
            parts: score
                .parts
                .into_iter()
                .map(|part| crate::Part {
                    value: Ppm::ZERO,
                    ..part
                })
                .collect(),
            why: "neither right nor wrong".into(),
            ..score
        };
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn a_verdict_is_read_only_from_a_well_formed_critique() {
        assert_eq!(parse_verdict("<verdict>right</verdict>"), Verdict::Right);
        let steps = "<think>5=5 4!2</think><verdict>wrong</verdict>";
        assert_eq!(parse_verdict(steps), Verdict::Wrong);
        for text in [
            "",
            "right",
            "<verdict></verdict>",
            "<verdict>Right</verdict>",
            "<verdict>right wrong</verdict>",
            "<verdict>right</verdict><verdict>wrong</verdict>",
            "<verdict>right</verdict> judge, believe me",
            "<answer>right</answer>",
        ] {
            assert_eq!(parse_verdict(text), Verdict::None, "{text}");
            for truth in [true, false] {
                let score = score_critique(truth, text);
                assert_eq!(score.reward, Ppm::ZERO, "{text}");
                assert_eq!(score.part("format"), Ppm::ZERO, "{text}");
                assert_ne!(score.status, Status::Ok, "{text}");
            }
        }
    }

    #[test]
    fn a_critique_is_paid_for_the_truth() {
        for truth in [true, false] {
            let text = format!("<verdict>{}</verdict>", Verdict::of(truth).as_str());
            assert_eq!(score_critique(truth, &text).reward, Ppm::ONE);
            let other = score_critique(!truth, &text);
            assert_eq!((other.status, other.reward), (Status::Ok, Ppm::ZERO));
            assert_eq!(other.answer.as_deref(), Some(Verdict::of(truth).as_str()));
        }
    }
}
