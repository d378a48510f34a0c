//! What a package's manifest says beyond what every environment's says: who
//! made it, which files it consists of, and what may be spent on it.

use serde::{Deserialize, Serialize};

use crate::Ppm;

/// What an environment consists of that is not part of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Who wrote it.
    pub authors: Vec<String>,
    /// Under which terms, as an SPDX expression.
    pub licence: String,
    /// Who decides what an answer is worth.
    pub judge: Judge,
    /// What makes items and scores.
    pub kind: Kind,
    /// What a completion must look like.
    pub form: Form,
    /// The most turns of an episode.
    pub turns: u16,
    /// The share of items that a guess gets right, as its author says: a floor
    /// may reach so far.
    pub chance: Ppm,
    /// What code may spend.
    pub budget: Budget,
    /// Who interprets the files, to the version: another engine may count
    /// differently, and is another environment.
    pub engine: String,
    /// All its files, by name.
    pub files: Vec<FileRef>,
}

/// Who decides what an answer is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The environment's scorer.
    #[default]
    Verifier,
    /// Calibrated critics; the scorer is only asked for the form.
    Critics,
}

/// What makes items and scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Rows of `items.jsonl`, and one of the scorers that come with the program.
    Table(Scorer),
    /// `task.star`, interpreted inside the sandbox.
    Script,
    /// `task.wasm`, run in the sandbox.
    Module,
}

/// How the answer to a row of a table is compared with the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scorer {
    /// The same text.
    Exact {
        /// Whether `Yes` is `yes`.
        ignore_case: bool,
    },
    /// A number, near enough.
    Numeric {
        /// How far off, as a decimal or a fraction.
        tolerance: String,
        /// How far off in parts per million of the right one, in addition.
        relative_ppm: u32,
    },
    /// The letter of one of the row's choices.
    Choice,
    /// Whatever the row's answer, a regular expression, matches from end to end.
    Regex,
    /// The same things in any order, between commas.
    Set,
    /// An expression with the same value, whatever its variables are.
    Math,
}

/// What a completion must look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `<think>…</think><answer>…</answer>`; the scorer sees the answer.
    #[default]
    Tagged,
    /// Anything; the scorer sees the whole completion.
    Free,
}

/// What code may spend, a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Units of fuel for starting: about one an instruction.
    pub load_fuel: u64,
    /// Units of fuel for making an item.
    pub generate_fuel: u64,
    /// Units of fuel for scoring a completion, or for a turn.
    pub score_fuel: u64,
    /// Bytes of memory.
    pub memory_bytes: u32,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Its name; packages have no folders.
    pub name: String,
    /// The hash of its bytes.
    #[serde(with = "hex_or_bytes")]
    pub hash: [u8; 32],
    /// How many there are.
    pub bytes: u32,
}

impl Default for Budget {
    /// Enough for most; a call takes a tenth of a second at the most.
    fn default() -> Budget {
        Budget {
            load_fuel: 100_000_000,
            generate_fuel: 50_000_000,
            score_fuel: 20_000_000,
            memory_bytes: 16 << 20,
        }
    }
}

mod hex_or_bytes {
    use serde::{Deserializer, Serializer};

    use crate::EnvId;

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&EnvId(*hash), to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        <EnvId as serde::Deserialize>::deserialize(from).map(|id| id.0)
    }
}
