//! A round, as a state machine: time and what happened go in, what to do comes
//! out. The shell around it (the node, or the simulator) carries effects out
//! and reports back; it decides nothing.
//!
//! ```text
//! let effects = machine.handle(now_ms, input);   // deterministic, never blocks
//! ```
//!
//! # One round, as the shell sees it
//!
//! | what goes in | what comes out |
//! | --- | --- |
//! | `Start` | `Publish(Hello)`, `SetTimer`; the node listens for peers |
//! | `Announcement`s, then `Tick` | `OpenRound { round }`: ask the chain to open the round, or to tell its beacon if it is open |
//! | `RoundOpened` | `Emit(RoundOpened)`, `Emit(StageStarted)`, `Sample { kind: Answer }` |
//! | `Sampled { kind: Answer }` | `Serve` the batch, `Publish(Have)` |
//! | `Announcement(Have)` of a peer | `Fetch` |
//! | `Body` | `Emit(BatchReceived)`; when all are in or at the deadline: `Sample { kind: Critique }` |
//! | `Sampled { kind: Critique }` | `Publish(Commit)`; when all have committed: `Serve`, `Publish(Have)` |
//! | `Body`s of critiques | when all are in: `Sample { kind: Resolve }` |
//! | `Sampled { kind: Resolve }` | `Serve`, `Publish(Have)`; when all are in, a witness does `Publish(Inclusion)` |
//! | `Announcement(Inclusion)`s | when the witnesses have spoken: `Emit(Judged)`, `SignScorecard` (a witness), `Train` |
//! | `CardSigned` | `Publish(Attestation)` |
//! | `Announcement(Attestation)`s | with a quorum, in a drawn order: `Settle` |
//! | `Trained` | `Publish(Checkpoint)`, then the next `OpenRound` |
//! | `Settled` (may come rounds later) | `Emit(RoundEnded)`, `Retire` |
//!
//! # What the shell promises
//! - Announcements were [verified](crate::message::verify), and those that
//!   carry an attestation also against [`Machine::witness`]; what fails goes
//!   in as [`Input::Refused`], to be counted.
//! - Every `Sample` is answered by one `Sampled`, every `Train` by one
//!   `Trained`, in the order asked. Late is fine; the machine does not wait
//!   past its deadline.
//! - One timer: a `SetTimer` replaces the one before. Early or extra `Tick`s do
//!   no harm.
//! - `RoundOpened` goes in for every round the chain opens, asked for or not.
//!
//! # What the machine promises
//! - A round always ends, whatever peers and chain do.
//! - Equal inputs at equal times give equal effects.
//! - What a round comes to depends on the set of bodies that a quorum of
//!   witnesses listed, not on the order in which anything arrived.

mod api;

pub use api::{Config, Effect, Input, SampleRequest, ScorecardRequest, Settlement, TrainGroup};
