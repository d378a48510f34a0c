//! The node: drives the protocol ([`swarm_core`]) with the network (iroh), the
//! policy, the chain and the disk.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`create`], [`join`], [`reach`] | a swarm for others; finding one; how peers are reached |
//! | [`process`] | `murmur run`: a process's peers, their chain and home |
//! | [`doctor`], [`metrics`] | what works from here; numbers for machines |
//! | [`peer`] | one peer: the shell around the round machine |
//! | [`net`] | iroh: gossip for announcements, bodies by hash |
//! | [`curriculum`] | `murmur curriculum`: what is asked, changed while it runs |
//! | [`packages`], [`task`] | environments of strangers; `murmur task` |
//! | [`ticket`] | what a third process needs to join |
//! | [`chain`] | one peer's side of the ledger |
//! | [`worker`], [`play`] | the policy's own thread; items of several turns, played |
//! | [`evaluate`] | held-out accuracy |
//! | [`home`], [`identity`] | files and keys |
//! | [`wallet`] | `murmur wallet`: where the keys are, back-up, restore, rotation |
//! | [`hub`], [`journal`] | where events go: the bounded file, log lines, screen |
//! | [`transcripts`] | what settled rounds can be checked by |
//! | [`onchain`] | `murmur chain`: its profile, its fees, peers as ERC-8004 agents |
//! | [`own`] | `murmur own`: shares, the vault, votes |
//! | [`rep`] | `murmur rep`: look at reputation, recompute it |
//! | [`explore`] | `murmur explore`: the same as a web page |
//! | [`inspect`], [`report`] | `eval`, `report.json` |
//! | [`sim`] | `murmur sim`: whether cheating pays |
//! | [`experiment`] | `murmur experiment`: what sharing is worth, seed by seed |
//! | [`base`], [`model`] | the embedded base model; any other, from the hub or the disk |
//!
//! Invariants: decisions are the machine's; the screen is never waited for;
//! every task has an owner and ends with it; no secret is logged.

pub mod base;
pub mod chain;
pub mod cli;
pub mod create;
pub mod curriculum;
pub mod doctor;
pub mod evaluate;
pub mod experiment;
pub mod explore;
pub mod home;
pub mod hub;
pub mod identity;
pub mod inspect;
pub mod join;
pub mod journal;
pub mod method;
pub mod metrics;
pub mod model;
pub mod net;
pub mod onchain;
pub mod own;
pub mod packages;
pub mod peer;
pub mod play;
pub mod process;
pub mod reach;
pub mod rep;
pub mod report;
pub mod sim;
pub mod task;
pub mod ticket;
pub mod transcripts;
pub mod wallet;
pub mod worker;
