//! The node: drives the protocol with the network, the policy, the chain and
//! the disk.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`home`] | the folder that outlives a run: lock, atomic writes, event log |
//! | [`net`] | the network shell: gossip, bodies by hash, addresses, limits |
//! | [`ticket`] | the line of text that lets a stranger into a swarm |

pub mod home;
pub mod net;
pub mod ticket;
