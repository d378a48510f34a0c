//! Where peers are: an address as messages and tickets carry it, and the book
//! in which the node remembers them.
//!
//! The book is our own because the one inside the gossip protocol forgets an
//! address after five minutes, and a body is often fetched from a peer that
//! never was a neighbour. It is bounded; what peers say fills it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use iroh::address_lookup::memory::MemoryLookup;
use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use serde::{Deserialize, Serialize};

use super::NetError;
use super::limits::{MAX_ADDRESSES, MAX_KNOWN_PEERS};

/// A peer and where it can be reached: what tickets and greetings carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddr {
    /// The peer's ed25519 public key.
    pub id: [u8; 32],
    /// Its socket addresses, best first.
    pub sockets: Vec<SocketAddr>,
    /// Its home relay, where relays are in use.
    #[serde(default)]
    pub relay: Option<String>,
}

impl PeerAddr {
    /// A peer known by its key alone.
    pub fn of(id: [u8; 32]) -> Self {
        Self {
            id,
            sockets: Vec::new(),
            relay: None,
        }
    }

    pub(super) fn from_iroh(addr: &EndpointAddr) -> Self {
        Self {
            id: *addr.id.as_bytes(),
            sockets: addr.ip_addrs().copied().take(MAX_ADDRESSES).collect(),
            relay: addr.relay_urls().next().map(ToString::to_string),
        }
    }

    /// The transport's form, cut to [`MAX_ADDRESSES`]. Fails on 32 bytes that
    /// are no key and on a relay that is no URL.
    pub(super) fn to_iroh(&self) -> Result<EndpointAddr, NetError> {
        let id = endpoint_id(&self.id)?;
        let mut addrs: Vec<TransportAddr> = self
            .sockets
            .iter()
            .take(MAX_ADDRESSES)
            .map(|socket| TransportAddr::Ip(*socket))
            .collect();
        if let Some(relay) = &self.relay {
            let url: RelayUrl = relay
                .parse()
                .map_err(|_| NetError::BadRelay(relay.chars().take(200).collect()))?;
            addrs.push(TransportAddr::Relay(url));
        }
        Ok(EndpointAddr::from_parts(id, addrs))
    }
}

/// The transport's form of a peer id.
pub(super) fn endpoint_id(id: &[u8; 32]) -> Result<EndpointId, NetError> {
    EndpointId::from_bytes(id).map_err(|_| NetError::BadPeer(*id))
}

/// Remembered addresses, shared with the transport, which looks them up when
/// it dials.
#[derive(Debug)]
pub(super) struct AddressBook {
    me: EndpointId,
    lookup: MemoryLookup,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    known: BTreeMap<EndpointId, Entry>,
    /// Counts insertions: a clock for "oldest" that needs no time.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    addr: EndpointAddr,
    touched: u64,
}

impl AddressBook {
    pub(super) fn new(me: EndpointId, lookup: MemoryLookup) -> Self {
        Self {
            me,
            lookup,
            entries: Mutex::default(),
        }
    }

    /// Remembers `addr`: its addresses come first, older ones stay behind them
    /// while there is room. Says whether the peer is new here.
    pub(super) fn learn(&self, addr: EndpointAddr) -> bool {
        if addr.id == self.me {
            return false;
        }
        let mut entries = self.lock();
        entries.clock += 1;
        let touched = entries.clock;
        let id = addr.id;
        let mut merged: Vec<TransportAddr> = addr.addrs.into_iter().take(MAX_ADDRESSES).collect();
        if let Some(old) = entries.known.get(&id) {
            let older = old.addr.addrs.iter().filter(|a| !merged.contains(a));
            let room = MAX_ADDRESSES.saturating_sub(merged.len());
            let kept: Vec<TransportAddr> = older.take(room).cloned().collect();
            merged.extend(kept);
        }
        let addr = EndpointAddr::from_parts(id, merged);
        if !addr.is_empty() {
            self.lookup.set_endpoint_info(addr.clone());
        }
        let is_new = entries.known.insert(id, Entry { addr, touched }).is_none();
        if entries.known.len() > MAX_KNOWN_PEERS {
            let oldest = entries
                .known
                .iter()
                .min_by_key(|(_, entry)| entry.touched)
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                entries.known.remove(&oldest);
                self.lookup.remove_endpoint_info(oldest);
            }
        }
        is_new
    }

    /// Everyone remembered, by id.
    pub(super) fn all(&self) -> Vec<EndpointAddr> {
        let entries = self.lock();
        entries.known.values().map(|e| e.addr.clone()).collect()
    }

    /// The ids of everyone remembered.
    pub(super) fn ids(&self) -> Vec<EndpointId> {
        self.lock().known.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every critical section leaves the map whole, so a panic elsewhere
        // while holding it does no harm.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iroh::SecretKey;

    fn id(n: u32) -> EndpointId {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        SecretKey::from_bytes(&seed).public()
    }

    fn at(n: u32, port: u16) -> EndpointAddr {
        EndpointAddr::new(id(n)).with_ip_addr(([127, 0, 0, 1], port).into())
    }

    fn book() -> AddressBook {
        AddressBook::new(id(0), MemoryLookup::new())
    }

    #[test]
    fn an_address_survives_its_wire_form() {
        let addr = PeerAddr {
            id: *id(1).as_bytes(),
            sockets: vec!["127.0.0.1:9".parse().unwrap(), "[::1]:7".parse().unwrap()],
            relay: Some("https://relay.example./".into()),
        };
        assert_eq!(PeerAddr::from_iroh(&addr.to_iroh().unwrap()), addr);
    }

    #[test]
    fn thirty_two_bytes_that_are_no_key_are_refused() {
        let bad = (0..=255u8)
            .map(|byte| [byte; 32])
            .find(|bytes| EndpointId::from_bytes(bytes).is_err())
            .unwrap();
        assert!(matches!(
            PeerAddr::of(bad).to_iroh(),
            Err(NetError::BadPeer(_))
        ));
    }

    #[test]
    fn new_addresses_join_old_ones_up_to_the_limit() {
        let book = book();
        for port in 1..=20 {
            book.learn(at(1, port));
        }
        let all = book.all();
        assert_eq!(all[0].addrs.len(), MAX_ADDRESSES);
        assert!(all[0].ip_addrs().any(|socket| socket.port() == 20));
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_oldest() {
        let book = book();
        for n in 1..=MAX_KNOWN_PEERS as u32 + 1 {
            book.learn(at(n, 1));
        }
        assert_eq!(book.ids().len(), MAX_KNOWN_PEERS);
        assert!(!book.ids().contains(&id(1)));
        assert!(book.lookup.get_endpoint_info(id(1)).is_none());
        assert!(book.lookup.get_endpoint_info(id(2)).is_some());
    }

    #[test]
    fn a_node_does_not_remember_itself() {
        let book = book();
        book.learn(at(0, 1));
        assert_eq!(book.ids(), []);
    }
}
