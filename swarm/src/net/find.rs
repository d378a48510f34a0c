//! Ways to find peers besides being told where they are. Each can be switched
//! off, none is needed by the others, and each says whom it found.
//!
//! [`Finder::Mdns`] answers "who of this swarm is near": every swarm is a
//! service of its own on the LAN. [`Finder::Dns`] and [`Finder::Dht`] answer
//! "where is this key": a peer publishes its relay there, signed; its IP
//! addresses only where it has no relay, since anyone may read them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_lite::StreamExt;
use futures_lite::stream::Boxed;
use iroh::address_lookup::{
    AddrFilter, AddressLookup, AddressLookupBuilder, AddressLookupBuilderError, DnsAddressLookup,
    EndpointData, Error, Item, PkarrPublisher, PkarrResolver,
};
use iroh::endpoint::Builder;
use iroh::{Endpoint, EndpointAddr, EndpointId};
use iroh_mainline_address_lookup::DhtAddressLookup;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::limits::MAX_KNOWN_PEERS;

/// A way to find peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finder {
    /// Multicast DNS: peers of the same swarm on the same LAN.
    Mdns,
    /// Addresses by key from the public DNS servers that iroh's authors run.
    Dns,
    /// Addresses by key from BitTorrent's mainline DHT.
    Dht,
    /// The keys of the swarm's members on its ledger.
    Chain,
    /// Peers of the last run.
    Remembered,
}

impl Finder {
    /// Every one.
    pub const ALL: [Finder; 5] = [
        Finder::Mdns,
        Finder::Dns,
        Finder::Dht,
        Finder::Chain,
        Finder::Remembered,
    ];

    /// The name that flags, events and screens use.
    pub fn name(self) -> &'static str {
        match self {
            Finder::Mdns => "mdns",
            Finder::Dns => "dns",
            Finder::Dht => "dht",
            Finder::Chain => "chain",
            Finder::Remembered => "remembered",
        }
    }
}

impl fmt::Display for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Finder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|finder| finder.name() == text)
            .ok_or_else(|| {
                let all: Vec<_> = Self::ALL.iter().map(|finder| finder.name()).collect();
                format!("not a way to find peers; there are {}", all.join(", "))
            })
    }
}

/// Finds waiting for the driver, which looks often. What does not fit is only
/// not shown.
const FINDS: usize = 256;

/// Who was found by what: told once each.
#[derive(Debug)]
pub(super) struct Finds {
    seen: Mutex<BTreeMap<EndpointId, Vec<&'static str>>>,
    found: mpsc::Sender<(EndpointId, &'static str)>,
}

impl Finds {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<(EndpointId, &'static str)>) {
        let (found, told) = mpsc::channel(FINDS);
        let seen = Mutex::default();
        (Arc::new(Self { seen, found }), told)
    }

    pub(super) fn note(&self, peer: EndpointId, by: &'static str) {
        // Whole after every statement.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_KNOWN_PEERS && !seen.contains_key(&peer) {
            return;
        }
        let ways = seen.entry(peer).or_default();
        if !ways.contains(&by) {
            ways.push(by);
            let _ = self.found.try_send((peer, by));
        }
    }
}

/// A lookup whose answers are noted under its name.
#[derive(Debug)]
struct Noted<L> {
    lookup: L,
    by: Finder,
    finds: Arc<Finds>,
}

impl<L: AddressLookup> AddressLookup for Noted<L> {
    fn publish(&self, data: &EndpointData) {
        self.lookup.publish(data);
    }

    fn resolve(&self, peer: EndpointId) -> Option<Boxed<Result<Item, Error>>> {
        let (by, finds) = (self.by, self.finds.clone());
        let answers = self.lookup.resolve(peer)?;
        let noted = answers.inspect(move |answer| {
            if answer.is_ok() {
                finds.note(peer, by.name());
            }
        });
        Some(noted.boxed())
    }
}

/// The same, not built yet.
#[derive(Debug)]
struct NotedBuilder<B> {
    builder: B,
    by: Finder,
    finds: Arc<Finds>,
}

impl<B: AddressLookupBuilder> AddressLookupBuilder for NotedBuilder<B> {
    fn into_address_lookup(
        self,
        endpoint: &Endpoint,
    ) -> Result<impl AddressLookup, AddressLookupBuilderError> {
        Ok(Noted {
            lookup: self.builder.into_address_lookup(endpoint)?,
            by: self.by,
            finds: self.finds,
        })
    }
}

/// The builder with the finders that look keys up; `tell` where to be found as well.
pub(super) fn by_key(
    mut builder: Builder,
    finders: &[Finder],
    has_relay: bool,
    tell: bool,
    finds: &Arc<Finds>,
) -> Builder {
    let shown = || match has_relay {
        true => AddrFilter::relay_only(),
        false => AddrFilter::unfiltered(),
    };
    let finds = |by| (by, finds.clone());
    if finders.contains(&Finder::Dns) {
        if tell {
            builder = builder.address_lookup(PkarrPublisher::n0_dns().addr_filter(shown()));
        }
        let (by, of) = finds(Finder::Dns);
        builder = builder.address_lookup(NotedBuilder {
            builder: DnsAddressLookup::n0_dns(),
            by,
            finds: of.clone(),
        });
        builder = builder.address_lookup(NotedBuilder {
            builder: PkarrResolver::n0_dns(),
            by,
            finds: of,
        });
    }
    if finders.contains(&Finder::Dht) {
        let dht = DhtAddressLookup::builder().addr_filter(shown());
        let (by, finds) = finds(Finder::Dht);
        builder = builder.address_lookup(NotedBuilder {
            builder: if tell { dht } else { dht.no_publish() },
            by,
            finds,
        });
    }
    builder
}

/// A swarm's service name on the LAN: at most fifteen characters, says DNS-SD.
fn service(topic: &[u8; 32]) -> String {
    format!("murmur{}", hex::encode(&topic[..4]))
}

/// Peers of one swarm on the LAN, as they show up.
///
/// Behind a lock that is never contended: so that what holds it can be shared.
pub(super) struct Nearby(Mutex<Boxed<DiscoveryEvent>>);

impl Nearby {
    /// Begins to look, and with `tell` to be seen.
    ///
    /// # Errors
    /// The machine lets nobody multicast; the text says what it said.
    pub(super) async fn look(
        endpoint: &Endpoint,
        topic: &[u8; 32],
        tell: bool,
        finds: &Arc<Finds>,
    ) -> Result<Self, String> {
        let mdns = MdnsAddressLookup::builder()
            .service_name(service(topic))
            .advertise(tell)
            .build(endpoint.id())
            .map_err(|error| error.to_string())?;
        let events = mdns.subscribe().await.boxed();
        let services = endpoint
            .address_lookup()
            .map_err(|error| error.to_string())?;
        services.add(Noted {
            lookup: mdns,
            by: Finder::Mdns,
            finds: finds.clone(),
        });
        Ok(Self(Mutex::new(events)))
    }

    /// Nobody is looked for.
    pub(super) fn off() -> Self {
        Self(Mutex::new(futures_lite::stream::pending().boxed()))
    }

    /// The next peer that showed up.
    pub(super) async fn next(&mut self) -> EndpointAddr {
        let events = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            match events.next().await {
                Some(DiscoveryEvent::Discovered { endpoint_info, .. }) => {
                    return endpoint_info.to_endpoint_addr();
                }
                Some(_) => {}
                // The service is gone with its socket; there are other ways.
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_told_which_there_are() {
        for finder in Finder::ALL {
            assert_eq!(finder.name().parse(), Ok(finder));
        }
        let error = "smoke".parse::<Finder>().unwrap_err();
        assert!(
            error.ends_with("mdns, dns, dht, chain, remembered"),
            "{error}"
        );
    }

    #[test]
    fn a_service_name_is_short_and_each_swarms_own() {
        assert_eq!(service(&[0xab; 32]), "murmurabababab");
        assert!(service(&[0; 32]).len() <= 15);
        assert_ne!(service(&[1; 32]), service(&[2; 32]));
    }

    #[test]
    fn a_find_is_told_once_for_each_way() {
        let peer = iroh::SecretKey::from_bytes(&[1; 32]).public();
        let (finds, mut told) = Finds::new();
        for by in ["mdns", "dht", "mdns"] {
            finds.note(peer, by);
        }
        assert_eq!(told.try_recv(), Ok((peer, "mdns")));
        assert_eq!(told.try_recv(), Ok((peer, "dht")));
        assert!(told.try_recv().is_err());
    }
}
