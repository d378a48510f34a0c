//! What the network tells the node, and why it refuses.

use tokio::sync::mpsc;

/// Why the network refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The UDP port that was asked for is taken.
    #[error("udp port {0} is already in use: choose another, or stop what uses it")]
    PortInUse(u16),
    /// The endpoint could not be bound.
    #[error("cannot open a network endpoint: {0}")]
    Bind(String),
    /// Not a relay's URL.
    #[error("not a relay url: {0:?}")]
    BadRelay(String),
    /// Not a public key.
    #[error("not a peer id: {}", hex::encode(.0))]
    BadPeer([u8; 32]),
    /// The announcement is over the swarm's limit; nothing was sent.
    #[error("a message of {bytes} bytes, the limit is {max}")]
    MessageTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The body is over the limit; nothing was kept.
    #[error("a body of {bytes} bytes, the limit is {max}")]
    BodyTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The body store failed.
    #[error("the body store failed: {0}")]
    Store(String),
    /// The gossip topic could not be joined.
    #[error("cannot join the gossip topic: {0}")]
    Gossip(String),
    /// The network was shut down.
    #[error("the network is closed")]
    Closed,
}

/// What the network tells the node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetEvent {
    /// An announcement, within size and budget, otherwise unchecked. The same
    /// one may come again if its author repeats it.
    Message {
        /// Who handed it to us; not who wrote it.
        from_neighbour: [u8; 32],
        /// The announcement.
        bytes: Vec<u8>,
    },
    /// A peer became a direct neighbour.
    NeighbourUp([u8; 32]),
    /// A peer is no direct neighbour any more. It may well be in the swarm.
    NeighbourDown([u8; 32]),
    /// Nothing has come from a peer for seconds, on no connection. It, or the
    /// way to it, is gone.
    Lost([u8; 32]),
    /// A peer that we did not know told the swarm, signed, where it is. It can
    /// be fetched from by its id alone.
    Met([u8; 32]),
    /// A peer was found, by a way that is named: a finder's, `ticket` or `swarm`.
    Found {
        /// Who.
        peer: [u8; 32],
        /// By what.
        by: &'static str,
    },
    /// A way to find peers can't be used here; the others are not affected.
    FinderFailed {
        /// Which.
        finder: &'static str,
        /// What the machine said.
        why: String,
    },
    /// Events were lost because the node was too slow.
    Lagged {
        /// At least this many.
        missed: u64,
    },
    /// More came through a neighbour than it, or whoever it passed on, may send;
    /// the rest was dropped.
    OverBudget {
        /// Who.
        neighbour: [u8; 32],
        /// How many messages.
        dropped: u64,
    },
    /// Connections of a peer were not let in: too many, too many keys behind its
    /// address, or it is cut off.
    TurnedAway {
        /// Who.
        peer: [u8; 32],
        /// How many.
        count: u64,
    },
    /// A neighbour sent something that is no message of ours.
    Refused {
        /// Who.
        from_neighbour: [u8; 32],
        /// Why.
        reason: &'static str,
    },
    /// We heard nothing for too long and join again.
    Rejoining {
        /// Through this many peers.
        peers: usize,
    },
    /// Gossip ended by itself; nothing more will come.
    Ended(String),
}

/// The receiving end of a network's events.
#[derive(Debug)]
pub struct NetEvents(pub(super) mpsc::Receiver<NetEvent>);

impl NetEvents {
    /// The next event; `None` once the network is shut down.
    pub async fn next(&mut self) -> Option<NetEvent> {
        self.0.recv().await
    }

    /// The next event if one is waiting.
    pub fn try_next(&mut self) -> Option<NetEvent> {
        self.0.try_recv().ok()
    }
}
