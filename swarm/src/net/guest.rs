//! An endpoint that only asks: before a node knows a swarm it has to find
//! somebody of it, get a ticket, and reach the chain.

use std::sync::Arc;
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::{Endpoint, EndpointId};

use super::address::{AddressBook, PeerAddr};
use super::endpoint::{bind, own_address};
use super::find::{Finder, Finds, Nearby};
use super::links::Registry;
use super::meet::{self, Answer, MeetError};
use super::tunnel::Tunnel;
use super::{NetConfig, NetError, Reach};

/// Asks peers, from a [`Guest`]'s endpoint; cheap to clone.
#[derive(Clone)]
pub struct Asker {
    endpoint: Endpoint,
    book: Arc<AddressBook>,
}

/// An endpoint that nobody is told of.
pub struct Guest {
    asker: Asker,
    nearby: Nearby,
    /// Why nobody on the LAN is seen, if somebody was to be.
    pub blind: Option<String>,
    reach: Reach,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guest({})", self.asker.endpoint.id().fmt_short())
    }
}

impl Guest {
    /// Binds it. Of `config`, the gossip's part is of no concern.
    ///
    /// # Errors
    /// The endpoint can't be bound.
    pub async fn bind(config: &NetConfig) -> Result<Self, NetError> {
        let lookup = MemoryLookup::new();
        // Nobody watches its connections: it is dialled by none.
        let (registry, _) = Registry::new();
        let (finds, _) = Finds::new();
        let endpoint = bind(config, lookup.clone(), Arc::new(registry), &finds, false).await?;
        let book = Arc::new(AddressBook::new(endpoint.id(), lookup));
        let (mut nearby, mut blind) = (Nearby::off(), None);
        if config.finders.contains(&Finder::Mdns) {
            match Nearby::look(&endpoint, &config.topic, false, &finds).await {
                Ok(looking) => nearby = looking,
                Err(why) => blind = Some(why),
            }
        }
        Ok(Self {
            asker: Asker { endpoint, book },
            nearby,
            blind,
            reach: config.reach,
        })
    }

    /// Where this endpoint can be reached, once it has looked for its relay for
    /// so long at the most.
    pub async fn address(&self, patience: Duration) -> PeerAddr {
        // Without relays, or without a network, there is nothing to wait for.
        let _ = tokio::time::timeout(patience, self.asker.endpoint.online()).await;
        own_address(&self.asker.endpoint, self.reach)
    }

    /// The next peer of the swarm that shows up on the LAN; waits for ever.
    pub async fn nearby(&mut self) -> PeerAddr {
        let found = self.nearby.next().await;
        PeerAddr::from_iroh(&found)
    }

    /// What asks, apart from the guest.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// A port on loopback behind which is the devnet of one of these peers.
    ///
    /// # Errors
    /// No port is free, or a peer's address makes no sense.
    pub async fn tunnel(&self, peers: &[PeerAddr]) -> Result<Tunnel, NetError> {
        let ids = peers.iter().map(|peer| self.asker.learn(peer));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Tunnel::open(self.asker.endpoint.clone(), ids)
            .await
            .map_err(|error| NetError::Bind(error.to_string()))
    }

    /// Closes it; what it had opened ends.
    pub async fn close(self) {
        self.asker.endpoint.close().await;
    }
}

impl Asker {
    /// Asks a peer for a ticket to a swarm. What it says is unchecked.
    ///
    /// # Errors
    /// It can't be reached, or gives none.
    pub async fn ticket(&self, peer: &PeerAddr, swarm: &[u8; 32]) -> Result<Answer, MeetError> {
        let peer = self.learn(peer);
        let peer = peer.map_err(|error| MeetError::Unreachable(error.to_string()))?;
        meet::ask(&self.endpoint, peer, swarm).await
    }

    fn learn(&self, peer: &PeerAddr) -> Result<EndpointId, NetError> {
        let addr = peer.to_iroh()?;
        let id = addr.id;
        self.book.learn(addr);
        Ok(id)
    }

    /// Opens a connection and keeps it, saying nothing: what a crowd does.
    #[cfg(test)]
    pub(super) async fn hold(&self, peer: &PeerAddr) {
        let peer = self.learn(peer).expect("a peer that is there");
        let open = self.endpoint.connect(peer, iroh_blobs::ALPN).await;
        if let Ok(connection) = open {
            connection.closed().await;
        }
    }
}
