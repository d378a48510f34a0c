//! The interface of an environment, and the line between training and evaluation.

use crate::{Item, Manifest, Score, Seed, builtin::distract, dialogue::Message, seed::Context};

/// How a reference completion is written. The styles are mixed in pre-training
/// so that reinforcement has something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// The answer in its tags.
    Direct,
    /// The steps, then the answer, both in tags.
    Think,
    /// The bare answer: right, ill-formed, and worth nothing.
    Untagged,
}

/// One question in this many is kept for evaluation.
pub const HELD_OUT_SLICES: u8 = 8;

/// Whether a question belongs to the slice that training never sees. A
/// property of the text alone, so it holds over seeds, levels and machines.
#[must_use]
pub fn held_out(question: &str) -> bool {
    static CONTEXT: Context = Context::new("murmuration held-out questions v1");
    let mut hasher = CONTEXT.hasher();
    hasher.update(question.as_bytes());
    // 256 is a multiple of the number of slices: no slice is favoured.
    hasher.finalize().as_bytes()[0].is_multiple_of(HELD_OUT_SLICES)
}

/// Draws tried before a level is said to have nothing on the wanted side. Where
/// it has its eighth, they miss it once in 10^15.
const ATTEMPTS: u64 = 256;

/// What one turn of an episode leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The environment answers, and the policy speaks again.
    Continue {
        /// All that the environment needs to go on; nothing is kept elsewhere.
        state: Vec<u8>,
        /// What it says, in addition to what was said before.
        messages: Vec<Message>,
    },
    /// The episode is over.
    Done(Score),
}

/// A family of questions with an exact answer.
///
/// Implementations are pure: the same arguments give the same result on every
/// machine, and no text makes them panic.
pub trait Environment: Send + Sync {
    /// What this environment is.
    fn manifest(&self) -> &Manifest;

    /// The item at a seed, held out or not. Callers want
    /// [`generate`](Environment::generate) or
    /// [`generate_held_out`](Environment::generate_held_out).
    fn draw(&self, seed: &Seed, level: u8) -> Item;

    /// What a completion is worth; of several turns, what the whole
    /// [episode](crate::Episode) is.
    fn score(&self, item: &Item, completion: &str) -> Score;

    /// A reference completion.
    fn demonstrate(&self, item: &Item, style: Style) -> String {
        let answer = &item.reference;
        match style {
            Style::Direct => format!("<answer>{answer}</answer>"),
            Style::Think => format!("<think>{}</think><answer>{answer}</answer>", item.working()),
            Style::Untagged => answer.clone(),
        }
    }

    /// A wrong answer of the same kind as the right one, never equal to it.
    fn distractor(&self, item: &Item, seed: &Seed) -> String {
        let named = Seed::derive(&[b"distractor", &item.env.0, &seed.0]);
        distract(item, &mut named.draw())
    }

    /// The most turns of an episode. What has more than one is a game: its
    /// completions are [episodes](crate::Episode).
    fn turns(&self) -> u16 {
        1
    }

    /// One turn of an episode: what the policy wrote, and the state that the
    /// turn before left (empty at first). An environment of one turn scores it.
    fn step(&self, item: &Item, state: &[u8], completion: &str) -> Step {
        let _ = state;
        Step::Done(self.score(item, completion))
    }

    /// Whether an extracted answer is right, whatever it was wrapped in. This
    /// is the truth that a verdict on the answer is held against.
    fn accepts(&self, item: &Item, answer: &str) -> bool {
        answer.trim() == item.reference
    }

    /// The training item at a seed: never a held-out question. A level out of
    /// range is the nearest level.
    fn generate(&self, seed: &Seed, level: u8) -> Item {
        self.draw_where(seed, level, false)
    }

    /// The evaluation item at a seed: always a held-out question.
    fn generate_held_out(&self, seed: &Seed, level: u8) -> Item {
        self.draw_where(seed, level, true)
    }

    /// How many different questions a level has.
    fn space(&self, level: u8) -> u64 {
        let manifest = self.manifest();
        manifest
            .levels
            .get(usize::from(manifest.clamp(level)) - 1)
            .map_or(0, |level| level.space)
    }

    /// The first item on the chain of seeds that begins here and whose question
    /// is on the wanted side; a [faulty](Item::faulty) one where there is none.
    #[doc(hidden)]
    fn draw_where(&self, seed: &Seed, level: u8, wanted: bool) -> Item {
        for attempt in 0..ATTEMPTS {
            let here = Seed::derive(&[b"attempt", &seed.0, &attempt.to_le_bytes()]);
            let item = self.draw(&here, level);
            if item.fault().is_some() || held_out(&item.question) == wanted {
                return item;
            }
        }
        let side = if wanted { "held out" } else { "to train on" };
        let manifest = self.manifest();
        let level = manifest.clamp(level);
        Item::faulty(
            manifest,
            level,
            format!("{ATTEMPTS} draws at level {level} gave no question {side}"),
        )
    }
}
