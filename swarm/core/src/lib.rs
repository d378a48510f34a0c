//! The protocol of a swarm, without a network, a clock, a model or a chain.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`ids`] | peers, rounds, hashes, addresses, swarms: newtypes with a short `Display` |
//! | [`event`] | the one event type that feeds the screen, the log, the file and the replay |
//! | [`manifest`] | what a swarm is, and its id |
//! | [`curriculum`] | what is asked, and how its author changes it |
//! | [`plan`] | what is asked in a round, at the levels that settled rounds earned |
//! | [`critics`] | what settled rounds showed of the critics, and how much is verified all the same |
//! | [`message`] | small signed announcements, what travels by gossip |
//! | [`body`] | batches of completions, what travels by hash |
//! | [`draw`] | what the beacon draws, so that nobody chooses |
//! | [`refusal`] | what becomes of a peer's message, and why |
//! | [`roster`] | who is here, and whether it is waited for |
//! | [`round`] | the round as a state machine |
//! | [`ledger`] | the ledger's arithmetic, as the contracts have it |
//! | [`gains`] | what critique and resolve are worth, beside answers and majorities |
//! | [`score`] | from a judged round to signed rows |
//! | [`provenance`] | whose groups each peer trains on, as the beacon draws them |
//! | [`transcript`] | what a settled round can be checked by |
//! | [`words`] | what the numbers mean, for every screen and page |
//! | [`sim`] | a swarm of these machines under bad links, crashes and liars |
//! | [`trial`] | whether cheating pays: draws, judge and ledger over many rounds |
//!
//! Invariants: nothing here reads a clock, draws randomness or does I/O; time,
//! seeds and inputs are passed in. What two machines must agree on is integers,
//! ordered maps and canonical encodings.

pub mod body;
mod bounded;
pub mod critics;
pub mod curriculum;
pub mod draw;
pub mod event;
pub mod gains;
pub mod ids;
pub mod ledger;
pub mod manifest;
pub mod message;
pub mod plan;
pub mod provenance;
pub mod refusal;
pub mod roster;
pub mod round;
pub mod score;
pub mod sim;
pub mod transcript;
pub mod trial;
pub mod words;
