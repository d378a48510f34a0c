//! The library: reasoning tasks for models that read prose, after
//! [reasoning-gym](https://github.com/open-thought/reasoning-gym) 0.1.25
//! (Apache-2.0; see `data/NOTICE`), in native Rust.
//!
//! Each task comes in two settings. The **default** asks short questions at
//! three levels and pays only for a right answer; upstream's documented defects
//! are repaired. **Compat** ([`Upstream`]) reproduces upstream to the letter:
//! its seeds, its default configuration, its words, its scorer with its partial
//! credit. One function makes the puzzles of both, so what is compared with
//! upstream by golden files (`tests/parity.rs`) is what a swarm trains on; only
//! the words that the draws are made of come from another stream.
//!
//! # Map
//! - `random`: CPython's generator and its methods; `knights_knaves::pcg`: NumPy's.
//! - `read`: readers of answers, and the scorers that tasks share.
//! - `words`: the word lists and the text that upstream draws from.
//! - one file for each task or small family of tasks.

mod environment;
mod random;
mod read;
mod words;

mod arc_1d;
mod bases;
mod basic_arithmetic;
mod bf;
mod calendar_arithmetic;
mod countdown;
mod decimal_arithmetic;
mod divisors;
mod fraction_simplification;
mod game_of_life;
mod grids;
mod gsm_symbolic;
mod knights_knaves;
mod leg_counting;
mod lists;
mod matrices;
mod mini_sudoku;
mod propositional_logic;
mod strings;
mod sums;
mod text;

use std::borrow::Cow;

use crate::{Facts, Item, Ppm};
use random::Random;

pub use environment::Upstream;
pub(crate) use environment::{compat, repaired};

/// Every task, in the order of the registry.
const TASKS: [&Task; 38] = [
    &arc_1d::ARC_1D,
    &basic_arithmetic::BASIC_ARITHMETIC,
    &bases::BASE_CONVERSION,
    &bf::BF,
    &matrices::BINARY_MATRIX,
    &calendar_arithmetic::CALENDAR_ARITHMETIC,
    &decimal_arithmetic::DECIMAL_ARITHMETIC,
    &fraction_simplification::FRACTION_SIMPLIFICATION,
    &propositional_logic::PROPOSITIONAL_LOGIC,
    &sums::CHAIN_SUM,
    &sums::PRODUCTS,
    &divisors::GCD,
    &divisors::LCM,
    &divisors::PRIME_FACTORIZATION,
    &divisors::COUNT_PRIMES,
    &bases::COUNT_BITS,
    &bases::BITWISE_ARITHMETIC,
    &leg_counting::LEG_COUNTING,
    &gsm_symbolic::GSM_SYMBOLIC,
    &lists::NUMBER_SORTING,
    &lists::NUMBER_FILTERING,
    &text::SPELL_BACKWARD,
    &text::LETTER_COUNTING,
    &text::CAESAR_CIPHER,
    &text::WORD_SORTING,
    &text::WORD_SEQUENCE_REVERSAL,
    &strings::BINARY_ALTERNATION,
    &strings::STRING_INSERTION,
    &strings::STRING_SPLITTING,
    &matrices::ROTATE_MATRIX,
    &matrices::SPIRAL_MATRIX,
    &grids::LARGEST_ISLAND,
    &grids::ROTTEN_ORANGES,
    &grids::SHORTEST_PATH,
    &game_of_life::GAME_OF_LIFE,
    &mini_sudoku::MINI_SUDOKU,
    &countdown::COUNTDOWN,
    &knights_knaves::KNIGHTS_KNAVES,
];

/// What is asked for: a level, and in whose words.
struct Ask {
    /// 0 for upstream's default configuration, else the level.
    step: usize,
    /// Whether upstream is to be reproduced, defects and all.
    upstream: bool,
    /// Upstream's seed of the data set, and the place of the item in it.
    place: (u64, u64),
}

impl Ask {
    /// The configuration of this step: upstream's default, then a level each.
    fn pick<'a, T>(&self, configurations: &'a [T; 4]) -> &'a T {
        &configurations[self.step.min(3)]
    }

    /// Upstream's words, or ours.
    fn say(&self, upstream: impl FnOnce() -> String, ours: impl FnOnce() -> String) -> String {
        if self.upstream { upstream() } else { ours() }
    }
}

/// A text of an item, from what stands for it.
trait Said {
    fn said(self) -> Cow<'static, str>;
}

impl Said for String {
    fn said(self) -> Cow<'static, str> {
        Cow::Owned(self)
    }
}

impl Said for &'static str {
    fn said(self) -> Cow<'static, str> {
        Cow::Borrowed(self)
    }
}

macro_rules! said {
    ($($kind:ty),+) => {
        $(impl Said for $kind {
            fn said(self) -> Cow<'static, str> {
                Cow::Owned(self.to_string())
            }
        })+
    };
}

said!(&String, char, i32, i64, i128, u32, u64, usize);

/// How many facts an item has at most without growing their list.
const FACTS: usize = 4;

/// One question with all that is known of it.
struct Puzzle {
    question: String,
    answer: String,
    /// What a scorer needs, all of which the question says too.
    facts: Facts,
    working: String,
    decoys: Vec<String>,
    /// More of them, made when they are asked for.
    slips: Option<fn(&Item) -> Vec<String>>,
    /// What somebody answers who copies from the question. Where that is right,
    /// ours is another item: copying never pays.
    copies: Vec<String>,
}

impl Puzzle {
    fn new(question: String, answer: impl Said) -> Puzzle {
        Puzzle {
            question,
            answer: answer.said().into_owned(),
            facts: Facts::with_room(FACTS),
            working: String::new(),
            decoys: Vec::new(),
            slips: None,
            copies: Vec::new(),
        }
    }

    fn fact(mut self, name: &'static str, value: impl Said) -> Puzzle {
        self.facts.insert(name, value.said());
        self
    }

    fn working(mut self, working: String) -> Puzzle {
        self.working = working;
        self
    }

    fn decoys(mut self, decoys: Vec<String>) -> Puzzle {
        self.decoys = decoys;
        self
    }

    fn slips(mut self, slips: fn(&Item) -> Vec<String>) -> Puzzle {
        self.slips = Some(slips);
        self
    }

    /// Numbers near the answer are such answers too.
    fn near(self) -> Puzzle {
        self.slips(crate::item::near)
    }

    fn copy(mut self, copy: String) -> Puzzle {
        self.copies.push(copy);
        self
    }
}

/// A task in both its settings.
struct Task {
    /// Upstream's name for it.
    name: &'static str,
    summary: &'static str,
    /// Meaning and least number of questions, level 1 first.
    levels: [(&'static str, u64); 3],
    /// The characters that a right answer is made of.
    alphabet: &'static str,
    /// No right answer is longer.
    answer_chars: u32,
    /// A puzzle, or none where these draws make no good one. Upstream fails on
    /// some draws; there, none means that it does.
    make: fn(&Ask, &mut Random) -> Option<Puzzle>,
    /// Whether an answer, trimmed, is right.
    accepts: fn(&Item, &str) -> bool,
    /// Upstream's score of an answer as it extracts it.
    upstream: fn(&Item, &str) -> Ppm,
}

/// What the scorers know of an item; empty where it is not of this task.
fn fact<'a>(item: &'a Item, name: &str) -> &'a str {
    item.metadata.get(name).unwrap_or("")
}
