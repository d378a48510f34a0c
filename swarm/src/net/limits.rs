//! Every limit of the network shell, by name and with its reason. A peer is an
//! adversary until proved otherwise: nothing below is a matter of taste.

use std::time::Duration;

/// Largest announcement, unless the swarm says otherwise. Announcements are
/// signed hashes and lists of hashes; bodies travel on demand.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Largest body, unless the swarm says otherwise: a batch of a large group is
/// some hundred kilobytes, a checkpoint of the base model one megabyte.
pub const MAX_BODY: u64 = 64 * 1024 * 1024;

/// What the gossip protocol adds around a frame: message id (32), scope,
/// lengths and discriminators. Generous, because a message over the protocol's
/// own limit makes its sender deaf and mute without an error.
pub(super) const GOSSIP_OVERHEAD: usize = 256;

/// The gossip limit never falls below this, because membership messages carry
/// the addresses of up to seven peers and must fit as well.
pub(super) const MIN_GOSSIP_SIZE: usize = 8 * 1024;

/// Events waiting for the node: one burst of a stage's announcements from a
/// whole flock (64 peers, up to ten each) with room to spare. Beyond it events
/// are dropped and counted, never waited for.
pub(super) const EVENT_CAPACITY: usize = 1024;

/// Commands waiting for the driver. The node sends a handful a stage.
pub(super) const COMMAND_CAPACITY: usize = 64;

/// How often the driver looks at its clock: short against every interval below.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Peers whose addresses are remembered; the oldest unused goes first. A node
/// samples from one flock, so this is several flocks.
pub const MAX_KNOWN_PEERS: usize = 1024;

/// Socket addresses remembered for one peer: a machine has a few interfaces,
/// and a longer list only serves to make us dial strangers.
pub const MAX_ADDRESSES: usize = 8;

/// Remembered peers asked at once when joining again.
pub(super) const REJOIN_FANOUT: usize = 4;

/// With this many neighbours, whoever shows up on the LAN is only remembered.
pub(super) const NEARBY_NEIGHBOURS: usize = 5;

/// Peers dialled because they showed up on the LAN, in all: anyone there can
/// invent them.
pub(super) const MAX_NEARBY_DIALS: usize = 256;

/// Connections from or to one peer: gossip and bodies, each way, and the
/// leftovers of a restart. More is a mistake or an attack.
pub(super) const MAX_CONNECTIONS_PER_PEER: usize = 16;

/// Different keys with connections from one address of a network: a household, a
/// laboratory. Whoever has more keys than that behind one address is trying to
/// be everybody's neighbour. On loopback there is no limit but the others: what
/// runs on this machine could take all of it anyway.
pub(super) const MAX_KEYS_PER_ADDRESS: usize = 32;

/// All connections. Gossip needs five or so, bodies one for each provider.
pub(super) const MAX_CONNECTIONS: usize = 1024;

/// Body requests answered at once, over all peers: each holds a 16 KiB block
/// and a place in the disk's queue.
pub const MAX_SERVES: usize = 64;

/// Body requests answered at once for one peer, so that one cannot fill
/// [`MAX_SERVES`].
pub const MAX_SERVES_PER_PEER: usize = 16;

/// A body request that takes longer than this is cut off: a reader that never
/// reads would keep its place for ever.
pub(super) const SERVE_TIMEOUT: Duration = Duration::from_secs(120);

/// Fetches that run at once. The rest wait their turn.
pub(super) const MAX_FETCHES: usize = 16;

/// A provider that does not answer the handshake in this time is dead for this
/// fetch. Left to itself the transport takes about 31 s to say so. Not shorter,
/// because a live one may be training on every core it has.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a provider to prove the size of a body: one round trip and a hash.
pub const SIZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a body however small it is, on top of [`MIN_BODY_RATE`].
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes a second under which a provider is given up: a body of a round that
/// arrives slower than this arrives after its stage.
pub const MIN_BODY_RATE: u64 = 32 * 1024;

/// Connections kept to providers after use, for the next fetch.
pub(super) const MAX_KEPT_CONNECTIONS: usize = 64;

/// How long an unused provider connection is kept: about a round, so that each
/// round does not begin with as many handshakes as it has peers.
pub(super) const KEEP_CONNECTION: Duration = Duration::from_secs(60);

/// How often forgotten bodies are removed from the store.
pub(super) const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

/// Neighbours whose budgets are remembered after they left, so that leaving
/// and coming back does not refill a budget.
pub(super) const MAX_BUDGETS: usize = 256;
