//! Golden vectors: items and scores as the author's machine made them, to the
//! unit of fuel. Whoever receives a package repeats them before the first use:
//! a machine that does not get the same must not score for others.

use serde::{Deserialize, Serialize};

use super::Packaged;
use crate::{Environment, Item, Score, Seed, Status, Style};

/// Items of each level.
const ITEMS: u32 = 4;
/// The most vectors a package may have.
const MAX_VECTORS: usize = 1_024;

/// One item, one completion, and what came of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Where the item begins.
    pub seed: Seed,
    /// Its level.
    pub level: u8,
    /// The hash of all that the item is.
    pub item: String,
    /// What it asks, for people.
    pub question: String,
    /// Fuel that making it took.
    pub item_fuel: u64,
    /// What was answered.
    pub completion: String,
    /// What it is worth, and why.
    pub score: Score,
    /// Fuel that scoring took.
    pub score_fuel: u64,
}

/// Why golden vectors do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// There are none.
    #[error("there are no golden vectors; `murmur task test` writes them")]
    None,
    /// Not a vector, or too many.
    #[error("golden.jsonl:{line}: {why}")]
    Malformed {
        /// Which line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// This machine gets something else.
    #[error("golden.jsonl:{line}: {what} is {here}, the author's machine had {there}")]
    Differs {
        /// Which line.
        line: usize,
        /// What differs.
        what: &'static str,
        /// Here.
        here: String,
        /// There.
        there: String,
    },
}

/// One vector of an item and a completion.
#[must_use]
pub fn vector(environment: &Packaged, seed: Seed, level: u8, completion: &str) -> Vector {
    let (item, item_fuel) = environment.draw_metered(&seed, level);
    let (score, score_fuel) = environment.score_metered(&item, completion);
    Vector {
        seed,
        level,
        item: digest(&item),
        question: item.fault().unwrap_or(&item.question).to_owned(),
        item_fuel,
        completion: completion.to_owned(),
        score,
        score_fuel,
    }
}

/// The vectors of a package: at each level a few items, each with right,
/// wrong, ill-formed and missing answers.
#[must_use]
pub fn vectors(environment: &Packaged) -> Vec<Vector> {
    let mut all = Vec::new();
    let levels = u8::try_from(environment.manifest().levels.len()).unwrap_or(u8::MAX);
    for level in 1..=levels {
        for index in 0..ITEMS {
            let seed = Seed::derive(&[b"golden", &[level], &index.to_le_bytes()]);
            let item = environment.draw(&seed, level);
            let wrong = environment.distractor(&item, &seed);
            for completion in [
                environment.demonstrate(&item, Style::Direct),
                environment.demonstrate(&item, Style::Think),
                format!("<answer>{wrong}</answer>"),
                environment.demonstrate(&item, Style::Untagged),
                "<answer>\u{e9}\u{4e2d}\u{1f426} 1e9 -0.0 NaN</answer>".to_owned(),
                String::new(),
            ] {
                all.push(vector(environment, seed, level, &completion));
            }
        }
    }
    all
}

/// The file of vectors.
#[must_use]
pub fn write(vectors: &[Vector]) -> String {
    let line = |vector: &Vector| {
        serde_json::to_string(vector).expect("a vector is plain data with text keys") + "\n"
    };
    vectors.iter().map(line).collect()
}

/// Makes every vector of a file again and holds it against the file.
pub fn check(environment: &Packaged, text: &str) -> Result<usize, GoldenError> {
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let at = |why: String| GoldenError::Malformed {
            line: index + 1,
            why,
        };
        if index >= MAX_VECTORS {
            return Err(at(format!("more than {MAX_VECTORS} vectors")));
        }
        let there: Vector = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let here = vector(environment, there.seed, there.level, &there.completion);
        for (what, here, there) in [
            ("the item", here.item, there.item),
            (
                "the item's fuel",
                here.item_fuel.to_string(),
                there.item_fuel.to_string(),
            ),
            ("the score", shown(&here.score), shown(&there.score)),
            (
                "the score's fuel",
                here.score_fuel.to_string(),
                there.score_fuel.to_string(),
            ),
        ] {
            if here != there {
                return Err(GoldenError::Differs {
                    line: index + 1,
                    what,
                    here,
                    there,
                });
            }
        }
        if here.score.status == Status::Unscored {
            return Err(at(here.score.why.into_owned()));
        }
        count += 1;
    }
    if count == 0 {
        return Err(GoldenError::None);
    }
    Ok(count)
}

fn shown(score: &Score) -> String {
    serde_json::to_string(score).unwrap_or_default()
}

/// The hash of all that an item is, but for the environment's name.
#[must_use]
pub fn digest(item: &Item) -> String {
    let mut parts: Vec<&[u8]> = vec![
        item.question.as_bytes(),
        item.reference.as_bytes(),
        item.working().as_bytes(),
        &item.hidden,
        item.fault().unwrap_or_default().as_bytes(),
    ];
    for message in item.context.iter() {
        parts.extend([message.role.as_str().as_bytes(), message.content.as_bytes()]);
    }
    let decoys = item.decoys();
    for decoy in &decoys {
        parts.push(decoy.as_bytes());
    }
    for (key, value) in item.metadata.iter() {
        parts.extend([key.as_bytes(), value.as_bytes()]);
    }
    Seed::derive(&parts).to_hex()
}
