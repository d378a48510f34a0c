//! Whether cheating pays: the real draws, bodies, judge and ledger rules, with
//! synthetic policies in place of models, for thousands of rounds.
//!
//! Unlike [`crate::sim`] there is no network and no time here: every body that
//! a peer makes is included, and what is tried out is what the swarm *rewards*.
//! A [`Scenario`] says how many machines take part, how good they are and how
//! some of them cheat ([`Behaviour`]); a [`Report`] says what honest machines
//! and cheats earned, and what the cheats did to everybody's rewards.
//!
//! | module | story |
//! | --- | --- |
//! | `scenario` | what is tried, as a TOML file says it |
//! | `behaviour` | the ways to cheat, and what each does differently |
//! | `recorded` | policies as they were seen in settled rounds |
//! | `round` | one round: bodies from behaviours, then the judge |
//! | `report` | what is measured |
//!
//! ```
//! use swarm_core::trial::{Behaviour, Scenario, run};
//!
//! let scenario = Scenario { rounds: 20, ..Scenario::of(Behaviour::Lazy, 25) };
//! let report = run(&scenario).unwrap();
//! assert!(report.ratio < 0.5, "laziness earned {} of honest work", report.ratio);
//! ```

mod behaviour;
mod recorded;
mod report;
mod round;
mod scenario;

pub use behaviour::Behaviour;
pub use recorded::Recorded;
pub use report::{Report, Row, run};
pub use scenario::{Scenario, ScenarioError};
