//! What a network needs to know before it starts.

use super::authors::AuthorOf;
use super::bodies::BodyStore;
use super::budget::Budget;
use super::find::Finder;
use super::watchdog::Watch;
use super::{PeerAddr, limits};
use serde::{Deserialize, Serialize};

/// Which relays help peers that cannot reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayChoice {
    /// None: peers must reach each other directly.
    Disabled,
    /// The public ones that iroh's authors run.
    Default,
    /// These.
    Urls(Vec<String>),
}

/// Which network the endpoint is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// This machine only.
    Loopback,
    /// Every interface.
    Any,
}

/// Everything a network needs to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetConfig {
    /// The peer's ed25519 secret key.
    pub secret_key: [u8; 32],
    /// The gossip topic: the swarm's id.
    pub topic: [u8; 32],
    /// Which relays to use.
    pub relays: RelayChoice,
    /// How to find peers besides being told where they are.
    pub finders: Vec<Finder>,
    /// Which network to bind to.
    pub reach: Reach,
    /// The UDP port; any free one if `None`.
    pub port: Option<u16>,
    /// Where bodies are kept.
    pub bodies: BodyStore,
    /// Largest announcement in bytes. All peers of a swarm must agree on it.
    pub max_message: usize,
    /// Largest body in bytes.
    pub max_body: u64,
    /// Peers to join through.
    pub bootstrap: Vec<PeerAddr>,
    /// Peers of an earlier run, to join through as well.
    pub remembered: Vec<PeerAddr>,
    /// Intervals of the watchdog.
    pub watch: Watch,
    /// What one neighbour may send.
    pub budget: Budget,
    /// Tells authors apart, each of whom has a budget of its own; without it only
    /// neighbours have.
    pub author: Option<AuthorOf>,
}

impl NetConfig {
    /// The local profile: loopback, no relay, nobody looked for, bodies in
    /// memory, nobody to join yet.
    pub fn local(secret_key: [u8; 32], topic: [u8; 32]) -> Self {
        Self {
            secret_key,
            topic,
            relays: RelayChoice::Disabled,
            finders: Vec::new(),
            reach: Reach::Loopback,
            port: None,
            bodies: BodyStore::Memory,
            max_message: limits::MAX_MESSAGE,
            max_body: limits::MAX_BODY,
            bootstrap: Vec::new(),
            remembered: Vec::new(),
            watch: Watch::default(),
            budget: Budget::default(),
            author: None,
        }
    }
}
