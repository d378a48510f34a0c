//! The judge: from what a round included to rewards, in integers.
//!
//! [`judge`] is a pure function. It regenerates no item and reads no clock: it
//! is given items, completions, critiques and resolutions, and returns a
//! [`Scoreboard`] that any machine with the same input computes to the last
//! digit. Nobody's own word about their own work is in it.
//!
//! ```
//! use rewards::{AnswerGroup, Included, JudgeSettings, judge};
//! use tasks::{Ppm, Registry, Seed, Style};
//!
//! let registry = Registry::builtin();
//! let add = registry.by_name("add").expect("add is built in");
//! let item = add.generate(&Seed::derive(&[b"example"]), 1);
//! let right = add.demonstrate(&item, Style::Direct);
//! let mut included = Included::default();
//! included.answers.push(AnswerGroup {
//!     owner: "alice",
//!     slot: 0,
//!     item,
//!     completions: vec![right, "no idea".to_owned()],
//! });
//! let board = judge(&registry, &included, &JudgeSettings::default());
//! assert_eq!(board.answer_accuracy, Ppm(500_000));
//! assert!(board.answers[0].useful);
//! ```
//!
//! # What decides a reward
//! - **Exact environments**: the environment's verifier, alone. Critics change
//!   nothing there; they are paid for having been right.
//! - **Judged environments** ([`JudgeSettings::judged`]): the critics, each
//!   weighed by how well calibrated they were on answers whose truth is known
//!   ([`Calibration`]), in this round and, faded, in those before, with
//!   verdicts clipped around their weighted median and a weak quorum pulled to
//!   the group's mean. A verdict is on an answer, whoever gave it: it counts
//!   for all completions that answer the item alike, but for the critic's own.
//!   Items in [`JudgeSettings::known`] look the same to a critic and are
//!   decided by the verifier: they are where calibration comes from, and where
//!   [`Twins`] says whether critics and verifier part.
//! - **Critiques**: the truth of the answer they are about, one sample at a
//!   time. Where the truth is not known, a critique earns nothing and is not
//!   trained on.
//! - **Resolutions**: the verifier.
//!
//! # Map
//! - [`Included`]: what goes in; order and duplicates do not matter.
//! - [`Calibration`]: Brier score of a critic, balanced, shrunk, and the weight.
//! - [`vote`]: plain, weighted and robust votes over one completion.
//! - [`favour`]: who holds whose answers right more often than others do.
//! - [`originality`]: whose long text is a copy of an earlier one.
//! - [`Scoreboard`]: what comes out, with a reason for each number.
//! - [`contribution`]: the one attested number of a peer, and its formula.
//! - [`uncounted`]: what earned nothing, and why.
//! - [`select_groups`]: which groups a node trains on.
//!
//! # Invariants
//! - Integers only, and no result depends on the order of the input.
//! - No text, number or combination of them makes anything here panic.
//! - Every [`Ppm`](tasks::Ppm) that comes out is at most one million.
//! - A verdict on one's own answer is ignored, and counted as ignored.

mod arithmetic;
mod calibration;
pub mod contribution;
pub mod favour;
mod hearing;
mod included;
mod judge;
pub mod originality;
mod scoreboard;
mod selection;
mod settings;
mod truth;
mod uncounted;
pub mod vote;

pub use calibration::Calibration;
pub use included::{AnswerGroup, CritiqueGroup, Included, ResolveGroup};
pub use judge::judge;
pub use scoreboard::{
    CompletionScore, CritiqueScore, CritiqueView, GroupScore, Ignored, PeerScore, Scoreboard, Twins,
};
pub use selection::{Candidate, Selection, SelectionPlan, has_advantage, promise, select_groups};
pub use settings::{JudgeSettings, Shares};
pub use uncounted::{Kind, Uncounted, uncounted};
