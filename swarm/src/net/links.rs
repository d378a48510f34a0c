//! Every connection of the endpoint, gossip's and ours, seen at its handshake:
//! limits on how many, numbers for the Peers screen, and a way to close them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::EndpointId;
use iroh::endpoint::{
    AfterHandshakeOutcome, Connection, ConnectionError, EndpointHooks, VarInt, WeakConnectionHandle,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::conduct::{Conduct, Fault};
use super::limits::{
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, MAX_KEYS_PER_ADDRESS, MAX_KNOWN_PEERS,
};

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
    /// The network it came from or goes to, if not by a relay.
    from: Option<IpAddr>,
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
    conduct: Mutex<Conduct>,
    /// Connections that were not let in since the last look.
    turned_away: Mutex<BTreeMap<EndpointId, u64>>,
    watched: mpsc::Sender<Watched>,
}

impl Registry {
    /// A registry, and every new connection for whoever watches them.
    pub(super) fn new() -> (Self, mpsc::Receiver<Watched>) {
        // Never more than there may be connections.
        let (watched, connections) = mpsc::channel(MAX_CONNECTIONS);
        let registry = Self {
            peers: Mutex::default(),
            conduct: Mutex::default(),
            turned_away: Mutex::default(),
            watched,
        };
        (registry, connections)
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

    /// Notes what a peer did to us. One that is cut off by it loses every
    /// connection, and gets no other for a while.
    pub(super) fn fault(&self, peer: EndpointId, fault: Fault) {
        let is_out = whole(&self.conduct).note(peer, fault, Instant::now());
        if is_out {
            tracing::info!(peer = %peer.fmt_short(), ?fault, "cut off");
            let peers = self.lock();
            for open in peers.get(&peer).into_iter().flat_map(|peer| &peer.open) {
                close(&open.handle);
            }
        }
    }

    /// What is held against a peer; nothing is asked of one that is cut off.
    pub(super) fn points(&self, peer: &EndpointId) -> u32 {
        whole(&self.conduct).points(peer, Instant::now())
    }

    /// Whether a peer is cut off.
    pub(super) fn is_out(&self, peer: &EndpointId) -> bool {
        whole(&self.conduct).is_out(peer, Instant::now())
    }

    /// Who was turned away since the last call, and how often.
    pub(super) fn take_turned_away(&self) -> BTreeMap<EndpointId, u64> {
        std::mem::take(&mut *whole(&self.turned_away))
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
        let id = connection.remote_id();
        if self.has_room_for(id, connection) {
            return true;
        }
        let mut turned_away = whole(&self.turned_away);
        if turned_away.len() < MAX_KNOWN_PEERS {
            *turned_away.entry(id).or_default() += 1;
        }
        false
    }

    fn has_room_for(&self, id: EndpointId, connection: &Connection) -> bool {
        if self.is_out(&id) {
            return false;
        }
        let mut peers = self.lock();
        let from = network_of(connection);
        if from.is_some_and(|from| keys_at(&peers, from, &id) >= MAX_KEYS_PER_ADDRESS) {
            refresh(&mut peers);
            if from.is_some_and(|from| keys_at(&peers, from, &id) >= MAX_KEYS_PER_ADDRESS) {
                return false;
            }
        }
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
        if peer.open.len() >= MAX_CONNECTIONS_PER_PEER {
            drop(peers);
            self.fault(id, Fault::Crowding);
            return false;
        }
        if all >= MAX_CONNECTIONS {
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
            from,
            alpn: connection.alpn().to_vec(),
            connection_id: connection.stable_id() as u64,
            handle: connection.weak_handle(),
            sent: 0,
            received: 0,
        });
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Peer>> {
        whole(&self.peers)
    }
}

/// The content of a lock. Counters only: whole after every statement.
fn whole<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network that a connection comes from, unless it is this machine or a
/// relay's: an IPv4 address, or the /64 that one IPv6 customer gets.
fn network_of(connection: &Connection) -> Option<IpAddr> {
    let paths = connection.paths();
    let address = paths.iter().find_map(|path| match path.remote_addr() {
        iroh::TransportAddr::Ip(socket) => Some(socket.ip().to_canonical()),
        _ => None,
    })?;
    network(address)
}

fn network(address: IpAddr) -> Option<IpAddr> {
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => {
            let [a, b, c, d, ..] = long.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    })
}

/// How many other keys have connections from there.
fn keys_at(peers: &BTreeMap<EndpointId, Peer>, from: IpAddr, but: &EndpointId) -> usize {
    let there = |peer: &Peer| peer.open.iter().any(|open| open.from == Some(from));
    let others = peers.iter().filter(|(id, _)| *id != but);
    others.filter(|(_, peer)| there(peer)).count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_customers_prefix_and_this_machine_is_none() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("127.0.0.1"), None);
        assert_eq!(at("::1"), None);
        assert_ne!(at("203.0.113.1"), at("203.0.113.2"));
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
    }
}
