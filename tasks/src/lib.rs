//! Environments: an item from a seed, a score for a completion.
//!
//! An [`Environment`] is a family of questions with an exact answer. From a
//! [`Seed`] and a level it makes an [`Item`]; given the item and the text that
//! a policy wrote, it makes a [`Score`]. Two machines that hold the same seed
//! make the same item and give the same text the same score, so an answer key
//! never has to travel.
//!
//! ```
//! use tasks::{Registry, Seed, Style};
//!
//! let registry = Registry::builtin();
//! let add = registry.by_name("add").expect("add is built in");
//! let item = add.generate(&Seed::derive(&[b"example"]), 2);
//! let text = add.demonstrate(&item, Style::Think);
//! assert_eq!(add.score(&item, &text).reward, tasks::Ppm::ONE);
//! ```
//!
//! # Map
//! - [`Seed`], [`Draw`]: named seeds and integer draws that depend on BLAKE3 alone.
//! - [`Manifest`], [`EnvId`]: what an environment is, and the hash that names it.
//! - [`Environment`], [`Registry`]: the interface, and the built-in environments.
//! - [`Episode`], [`Game`]: items of several turns, played and replayed.
//! - [`Score`]: integers with named parts and a reason; format is a gate.
//! - [`library`]: tasks in prose, after reasoning-gym, for models that read.
//! - [`package`]: environments of strangers, by hash, in a sandbox.
//! - [`dialogue`]: the words of the three stages (answer, critique, resolve).
//! - [`practice`]: simulated peers, for teaching the critique and resolve formats.
//!
//! # Invariants
//! - No clock, no randomness, no I/O: everything comes in as an argument.
//! - No text makes anything here panic, and none is evaluated but a package's
//!   own code, inside the sandbox.
//! - What is compared between machines is an integer or a string, never a float.
//! - Training items and held-out items never share a question ([`held_out`]).

mod builtin;
mod bytes;
mod contents;
pub mod dialogue;
mod environment;
mod episode;
pub mod fields;
mod format;
mod item;
pub mod library;
mod manifest;
#[cfg(feature = "packages")]
pub mod package;
mod ppm;
pub mod practice;
mod registry;
mod score;
mod seed;

pub use bytes::ParseBytesError;
pub use contents::{Budget, FileRef, Form, Judge, Kind, Package, Scorer};
pub use environment::{Environment, HELD_OUT_SLICES, Step, Style, held_out};
pub use episode::{Episode, Game, TURN_BREAK, Turn};
pub use format::{CHAT_TOKENS, SPECIAL_TOKENS, TOKEN_PATTERN};
pub use item::{Facts, Item};
pub use manifest::{EnvId, Level, Limits, Manifest, PartWeight, Reading};
pub use ppm::Ppm;
pub use registry::{Registry, RegistryError};
pub use score::{Part, Score, Status, exact};
pub use seed::{Draw, Seed};
