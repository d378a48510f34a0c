//! The protocol of a swarm, without a network, a clock, a model or a chain.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`ids`] | peers, rounds, hashes, addresses, swarms: newtypes with a short `Display` |
//! | [`event`] | the one event type that feeds the screen, the log, the file and the replay |
//!
//! Invariants: nothing here reads a clock, draws randomness or does I/O; time,
//! seeds and inputs are passed in. What two machines must agree on is integers,
//! ordered maps and canonical encodings.

pub mod event;
pub mod ids;
