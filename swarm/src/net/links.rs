//! Every connection of the endpoint, gossip's and ours, seen at its handshake:
//! limits on how many, numbers for the Peers screen, and a way to close them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::EndpointId;
use iroh::endpoint::{
    AfterHandshakeOutcome, Connection, ConnectionError, EndpointHooks, VarInt, WeakConnectionHandle,
};
use tokio::sync::mpsc;

use super::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, MAX_KNOWN_PEERS};

/// Close code for a connection over the limits.
const CLOSE_TOO_MANY: VarInt = VarInt::from_u32(0x4d01);
/// Close code for a connection given up by the watchdog or a time limit.
const CLOSE_STALE: VarInt = VarInt::from_u32(0x4d02);

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkPath {
    /// Both ends are on this machine.
    Loopback,
    /// Directly, over the network.
    Direct,
    /// Through a relay.
    Relay,
    /// No connection is open now.
    None,
}

impl LinkPath {
    /// The name events and screens use.
    pub fn name(self) -> &'static str {
        match self {
            LinkPath::Loopback => "loopback",
            LinkPath::Direct => "direct",
            LinkPath::Relay => "relay",
            LinkPath::None => "none",
        }
    }
}

/// A peer, how it is reached and what passed since the node started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The peer.
    pub peer: [u8; 32],
    /// The best path in use.
    pub path: LinkPath,
    /// Round-trip time of that path, in microseconds.
    pub rtt_us: Option<u64>,
    /// UDP bytes sent to it, over all its connections.
    pub sent: u64,
    /// UDP bytes received from it.
    pub received: u64,
}

#[derive(Debug)]
struct Open {
    alpn: Vec<u8>,
    connection_id: u64,
    handle: WeakConnectionHandle,
    sent: u64,
    received: u64,
}

#[derive(Debug, Default)]
struct Peer {
    open: Vec<Open>,
    closed_sent: u64,
    closed_received: u64,
}

/// A new connection: whose it is, and whether it ended because nothing came
/// from the other side any more, once it has ended. Does not keep it alive.
pub(super) type Watched = (EndpointId, Pin<Box<dyn Future<Output = bool> + Send>>);

/// All connections. Holds them weakly: it must not keep one alive.
#[derive(Debug)]
pub(super) struct Registry {
    peers: Mutex<BTreeMap<EndpointId, Peer>>,
    watched: mpsc::Sender<Watched>,
}

impl Registry {
    /// A registry, and every new connection for whoever watches them.
    pub(super) fn new() -> (Self, mpsc::Receiver<Watched>) {
        // Never more than there may be connections.
        let (watched, connections) = mpsc::channel(MAX_CONNECTIONS);
        let peers = Mutex::default();
        (Self { peers, watched }, connections)
    }

    /// One line a peer, by id. Also brings the byte counts up to date, so that
    /// a connection's bytes stay counted after it closed.
    pub(super) fn links(&self) -> Vec<Link> {
        let mut peers = self.lock();
        refresh(&mut peers);
        peers
            .iter()
            .map(|(id, peer)| {
                let best = peer
                    .open
                    .iter()
                    .filter_map(|open| open.handle.upgrade())
                    .filter_map(|connection| best_path(&connection))
                    .min_by_key(|(path, rtt)| (*path == LinkPath::Relay, *rtt));
                Link {
                    peer: *id.as_bytes(),
                    path: best.map_or(LinkPath::None, |(path, _)| path),
                    rtt_us: best.map(|(_, rtt)| rtt.as_micros() as u64),
                    sent: peer.closed_sent + peer.open.iter().map(|o| o.sent).sum::<u64>(),
                    received: peer.closed_received
                        + peer.open.iter().map(|o| o.received).sum::<u64>(),
                }
            })
            .collect()
    }

    /// Brings counts up to date and forgets closed connections.
    pub(super) fn refresh(&self) {
        refresh(&mut self.lock());
    }

    /// Whether a connection to `peer` is open.
    pub(super) fn connected(&self, peer: &EndpointId) -> bool {
        self.lock()
            .get(peer)
            .is_some_and(|peer| peer.open.iter().any(|open| is_open(&open.handle)))
    }

    /// Closes every connection of one protocol.
    pub(super) fn close_protocol(&self, alpn: &[u8]) {
        for peer in self.lock().values() {
            for open in peer.open.iter().filter(|open| open.alpn == alpn) {
                close(&open.handle);
            }
        }
    }

    /// Closes one connection, by the id the blobs protocol gives it.
    pub(super) fn close_connection(&self, connection_id: u64) {
        for open in self.lock().values().flat_map(|peer| &peer.open) {
            if open.connection_id == connection_id {
                close(&open.handle);
            }
        }
    }

    fn admit(&self, connection: &Connection) -> bool {
        let mut peers = self.lock();
        let id = connection.remote_id();
        if peers.get(&id).map_or(0, |peer| peer.open.len()) >= MAX_CONNECTIONS_PER_PEER
            || peers.len() >= MAX_KNOWN_PEERS
        {
            refresh(&mut peers);
        }
        if peers.len() >= MAX_KNOWN_PEERS && !peers.contains_key(&id) {
            // Nobody is served by numbers on strangers long gone.
            peers.retain(|_, peer| !peer.open.is_empty());
        }
        let all: usize = peers.values().map(|peer| peer.open.len()).sum();
        let peer = peers.entry(id).or_default();
        if peer.open.len() >= MAX_CONNECTIONS_PER_PEER || all >= MAX_CONNECTIONS {
            return false;
        }
        let closed = connection.weak_handle().closed();
        let silent = async move {
            let closed = closed.await;
            closed.is_some_and(|closed| closed.reason == ConnectionError::TimedOut)
        };
        // A connection that nobody watches is only noticed later, by deadlines.
        let _ = self.watched.try_send((id, Box::pin(silent)));
        peer.open.push(Open {
            alpn: connection.alpn().to_vec(),
            connection_id: connection.stable_id() as u64,
            handle: connection.weak_handle(),
            sent: 0,
            received: 0,
        });
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Peer>> {
        // Counters only: whole after every statement.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refresh(peers: &mut BTreeMap<EndpointId, Peer>) {
    for peer in peers.values_mut() {
        let (mut sent, mut received) = (0, 0);
        peer.open.retain_mut(|open| {
            let connection = open.handle.upgrade();
            if let Some(connection) = &connection {
                let stats = connection.stats();
                open.sent = stats.udp_tx.bytes;
                open.received = stats.udp_rx.bytes;
            }
            let alive = connection.is_some_and(|c| c.close_reason().is_none());
            if !alive {
                sent += open.sent;
                received += open.received;
            }
            alive
        });
        peer.closed_sent += sent;
        peer.closed_received += received;
    }
}

fn is_open(handle: &WeakConnectionHandle) -> bool {
    handle
        .upgrade()
        .is_some_and(|connection| connection.close_reason().is_none())
}

fn close(handle: &WeakConnectionHandle) {
    if let Some(connection) = handle.upgrade() {
        connection.close(CLOSE_STALE, b"stale");
    }
}

fn best_path(connection: &Connection) -> Option<(LinkPath, Duration)> {
    let paths = connection.paths();
    let best = paths
        .iter()
        .min_by_key(|path| (!path.is_selected(), path.is_relay(), path.rtt()))?;
    let kind = match best.remote_addr() {
        iroh::TransportAddr::Ip(socket) if socket.ip().to_canonical().is_loopback() => {
            LinkPath::Loopback
        }
        addr if addr.is_relay() => LinkPath::Relay,
        _ => LinkPath::Direct,
    };
    Some((kind, best.rtt()))
}

/// The registry as the endpoint's hook.
#[derive(Debug, Clone)]
pub(super) struct Hook(pub(super) std::sync::Arc<Registry>);

impl EndpointHooks for Hook {
    async fn after_handshake(&self, connection: &Connection) -> AfterHandshakeOutcome {
        if self.0.admit(connection) {
            AfterHandshakeOutcome::Accept
        } else {
            AfterHandshakeOutcome::Reject {
                error_code: CLOSE_TOO_MANY,
                reason: b"too many connections".to_vec(),
            }
        }
    }
}
