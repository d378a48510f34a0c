//! The environments that are part of the program.
//!
//! Each is a function from a stream of draws to a question, its answer, the
//! steps between them and a few careless answers; the rest is shared. Questions
//! are short and made of few words, digits, capitals and signs, and the steps
//! are mechanical, so that a model of half a million parameters can learn them.

mod arithmetic;
mod distract;
mod lists;

pub(crate) use distract::distract;

use std::sync::Arc;

use crate::{
    Draw, Environment, Facts, Item, Level, Limits, Manifest, PartWeight, Ppm, Reading, Score, Seed,
    item::Stamp, score,
};

/// All built-in environments, in the order of the registry.
pub(crate) fn all() -> Vec<Arc<dyn Environment>> {
    arithmetic::all()
        .into_iter()
        .chain(lists::all())
        .map(|builtin| Arc::new(builtin) as Arc<dyn Environment>)
        .collect()
}

/// What one draw of an environment gives.
pub(crate) struct Draft {
    /// The question, without the name of the task in front.
    pub(crate) question: String,
    /// The right answer.
    pub(crate) answer: String,
    /// The steps that lead to it.
    pub(crate) working: String,
    /// Wrong answers that a careless solver would give.
    pub(crate) decoys: Vec<String>,
}

/// What an environment is, before it has a name-by-hash.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Meaning and number of questions, level 1 first.
    pub(crate) levels: [(&'static str, u64); 3],
    pub(crate) alphabet: &'static str,
    pub(crate) reading: Reading,
    pub(crate) draft: fn(u8, &mut Draw) -> Draft,
}

/// A built-in environment.
struct Builtin {
    manifest: Manifest,
    stamp: Stamp,
    draft: fn(u8, &mut Draw) -> Draft,
}

impl From<Recipe> for Builtin {
    fn from(recipe: Recipe) -> Builtin {
        let part = |name: &str, weight| PartWeight {
            name: name.to_owned(),
            weight,
        };
        let manifest = Manifest {
            name: recipe.name.to_owned(),
            version: 1,
            summary: recipe.summary.to_owned(),
            levels: recipe
                .levels
                .into_iter()
                .map(|(meaning, space)| Level {
                    meaning: meaning.to_owned(),
                    space,
                })
                .collect(),
            parts: vec![
                part("format", Ppm::ZERO),
                part("correct", score::CORRECT_WEIGHT),
                part("brevity", score::CORRECT_WEIGHT.complement()),
            ],
            limits: Limits {
                completion_bytes: 4096,
                answer_chars: 32,
                // Reference completions have up to some 75 bytes.
                free_bytes: 96,
                penalty_bytes: 200,
            },
            alphabet: recipe.alphabet.to_owned(),
            reading: recipe.reading,
            package: None,
        };
        let stamp = Stamp {
            env: manifest.id(),
            task: recipe.name.into(),
            alphabet: recipe.alphabet.into(),
            shown_chars: manifest.limits.answer_chars as usize,
        };
        Builtin {
            stamp,
            manifest,
            draft: recipe.draft,
        }
    }
}

impl Environment for Builtin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, level: u8) -> Item {
        let level = self.manifest.clamp(level);
        let named = Seed::derive(&[b"item", &self.stamp.env.0, &[level], &seed.0]);
        let draft = (self.draft)(level, &mut named.draw());
        let question = format!("{} {}", self.manifest.name, draft.question);
        let facts = Facts::default();
        Item::stamped(self.stamp.clone(), level, facts, question, draft.answer)
            .with_working(draft.working)
            .with_decoys(draft.decoys)
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        score::exact(&self.manifest, item, completion)
    }
}
