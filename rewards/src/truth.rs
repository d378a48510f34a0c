//! Re-scoring completions: what the verifier says, and where it may say it.

use tasks::{Environment, Item, Part, Ppm, Registry, Score};

use crate::{
    CompletionScore, JudgeSettings,
    arithmetic::{capped, ratio},
};

/// Who decides the rewards of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decider {
    /// The environment's verifier; the truth is known.
    Verifier,
    /// The critics; nobody knows the truth.
    Critics,
    /// Nobody: this program does not have the environment.
    Nobody,
}

/// A completion, re-scored.
pub(crate) struct Mark {
    /// What the environment says; its reward counts only where it decides.
    score: Option<Score>,
    /// Whether the answer is right, in whatever form. `None` where nobody
    /// knows, or where there is no answer.
    pub(crate) truth: Option<bool>,
}

/// A group, re-scored.
pub(crate) struct Marked {
    pub(crate) decider: Decider,
    /// Whether critics took it for one of those that they decide.
    pub(crate) twin: bool,
    pub(crate) marks: Vec<Mark>,
}

/// Re-scores a group.
pub(crate) fn mark(
    registry: &Registry,
    settings: &JudgeSettings,
    item: &Item,
    completions: &[String],
) -> Marked {
    let Some(environment) = registry.get(&item.env) else {
        let marks = completions.iter().map(|_| Mark {
            score: None,
            truth: None,
        });
        return Marked {
            decider: Decider::Nobody,
            twin: false,
            marks: marks.collect(),
        };
    };
    let judged = settings.judged.contains(&item.env);
    let twin = judged && settings.known.contains(&(item.env, item.question.clone()));
    let decider = if judged && !twin {
        Decider::Critics
    } else {
        Decider::Verifier
    };
    let marks = completions
        .iter()
        .map(|completion| mark_one(environment, item, completion, decider))
        .collect();
    Marked {
        decider,
        twin,
        marks,
    }
}

fn mark_one(
    environment: &dyn Environment,
    item: &Item,
    completion: &str,
    decider: Decider,
) -> Mark {
    let score = environment.score(item, completion);
    let truth = match (&score.answer, decider) {
        // Of an episode only the whole is right or wrong.
        (Some(_), Decider::Verifier) if environment.turns() > 1 => {
            Some(score.well_formed() && score.is_right())
        }
        (Some(answer), Decider::Verifier) => Some(environment.accepts(item, answer)),
        _ => None,
    };
    Mark {
        truth,
        score: Some(score),
    }
}

impl Mark {
    /// What it answers, if it answers anything.
    pub(crate) fn answer(&self) -> Option<&str> {
        self.score.as_ref()?.answer.as_deref()
    }

    /// Whether the completion passed the gate.
    pub(crate) fn well_formed(&self) -> bool {
        self.score.as_ref().is_some_and(Score::well_formed)
    }

    /// The verifier's decision.
    pub(crate) fn verified<K>(&self) -> CompletionScore<K> {
        let Some(score) = &self.score else {
            return self.undecided("the environment is not known here");
        };
        CompletionScore {
            reward: capped(score.reward),
            correct: score.well_formed() && score.is_right(),
            well_formed: score.well_formed(),
            answer: score.answer.clone(),
            truth: self.truth,
            parts: score
                .parts
                .iter()
                .map(|part| Part {
                    name: part.name.clone(),
                    value: capped(part.value),
                })
                .collect(),
            why: score.why.clone().into_owned(),
            critiques: Vec::new(),
        }
    }

    /// Nobody's decision: no reward, and why.
    pub(crate) fn undecided<K>(&self, why: &str) -> CompletionScore<K> {
        let refused = self.score.as_ref().filter(|score| !score.well_formed());
        CompletionScore {
            reward: Ppm::ZERO,
            correct: false,
            well_formed: self.well_formed(),
            answer: self.answer().map(str::to_owned),
            truth: self.truth,
            parts: vec![part("format", self.well_formed().into())],
            why: refused.map_or_else(|| why.to_owned(), |score| score.why.clone().into_owned()),
            critiques: Vec::new(),
        }
    }
}

/// A named part.
pub(crate) fn part(name: &'static str, value: Ppm) -> Part {
    Part {
        name: name.into(),
        value,
    }
}

/// Whether right completions stand among wrong ones.
pub(crate) fn mixed<K>(completions: &[CompletionScore<K>]) -> bool {
    completions.iter().any(|one| one.correct) && completions.iter().any(|one| !one.correct)
}

/// A share of completions.
pub(crate) fn share(part: usize, whole: usize) -> Ppm {
    ratio(part as u128, whole as u128)
}
