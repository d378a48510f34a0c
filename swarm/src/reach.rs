//! How a home's peers are reached and how they find others: flags, and what the
//! home keeps of them.
//!
//! Two profiles. *Local*: loopback, no relay, nobody looked for; nothing outside
//! this machine is asked anything. *Any*: every interface, public relays, every
//! [`Finder`]. `murmur run` alone is local; `murmur create` is for others, so
//! any; `murmur join` is what its ticket is. Flags change one thing each.

use std::str::FromStr;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::net::{Finder, NetConfig, PeerAddr, Reach, RelayChoice};

/// The file in the home.
const FILE: &str = "network.json";

/// How peers are reached and found. What is left out is as the home's swarm was
/// created or joined with.
#[derive(Debug, Clone, Default, Args)]
pub struct NetArgs {
    /// Open `any` network interface to peers, or this machine's loopback alone
    /// (`local`) [default: local, or as the swarm was created or joined]
    #[arg(long, value_name = "WHERE", value_parser = listen)]
    pub listen: Option<Reach>,
    /// UDP port of the first peer; the next peers take the next ports
    /// [default: any free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub udp_port: Option<u16>,
    /// Relays for peers that can't reach each other: `public` (run by iroh's
    /// authors), `none`, or URLs of your own `iroh-relay`, comma between
    /// [default: public with --listen any]
    #[arg(long, value_name = "WHICH")]
    pub relay: Option<Relays>,
    /// Ways to find peers, comma between: mdns, dns, dht, chain, remembered; `all`
    /// or `none` [default: all with --listen any, remembered with local]
    #[arg(long, value_name = "WAYS")]
    pub find: Option<Ways>,
}

fn listen(text: &str) -> Result<Reach, String> {
    match text {
        "local" => Ok(Reach::Loopback),
        "any" => Ok(Reach::Any),
        _ => Err("it is `local` or `any`".to_owned()),
    }
}

/// `--relay`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relays(RelayChoice);

impl FromStr for Relays {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "public" => RelayChoice::Default,
            "none" => RelayChoice::Disabled,
            urls => {
                let urls: Vec<String> = urls.split(',').map(|url| url.trim().to_owned()).collect();
                let is_url =
                    |url: &String| url.starts_with("https://") || url.starts_with("http://");
                if !urls.iter().all(is_url) {
                    return Err("it is `public`, `none`, or http(s) URLs".to_owned());
                }
                RelayChoice::Urls(urls)
            }
        }))
    }
}

/// `--find`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways(Vec<Finder>);

impl FromStr for Ways {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "all" => Finder::ALL.to_vec(),
            "none" => Vec::new(),
            names => names
                .split(',')
                .map(|name| name.trim().parse())
                .collect::<Result<_, _>>()?,
        }))
    }
}

/// How the peers of a process are reached and find others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Which interfaces are open.
    pub listen: Reach,
    /// UDP port of the first peer.
    pub port: Option<u16>,
    /// Who helps peers that can't reach each other.
    pub relays: RelayChoice,
    /// Ways to find peers.
    pub find: Vec<Finder>,
}

impl Network {
    /// The profile of a reach.
    pub fn of(listen: Reach) -> Self {
        let (relays, find) = match listen {
            Reach::Loopback => (RelayChoice::Disabled, vec![Finder::Remembered]),
            Reach::Any => (RelayChoice::Default, Finder::ALL.to_vec()),
        };
        Self {
            listen,
            port: None,
            relays,
            find,
        }
    }

    /// The profile for a swarm whose peers are there: a swarm on this machine's
    /// loopback can be reached from nowhere else.
    pub fn for_peers(peers: &[PeerAddr]) -> Self {
        let mut sockets = peers.iter().flat_map(|peer| &peer.sockets).peekable();
        let is_here = sockets.peek().is_some()
            && sockets.all(|socket| socket.ip().to_canonical().is_loopback())
            && peers.iter().all(|peer| peer.relay.is_none());
        Self::of(if is_here { Reach::Loopback } else { Reach::Any })
    }

    /// The same with what the command line says.
    pub fn with(self, args: &NetArgs) -> Self {
        let mut network = match args.listen {
            Some(listen) if listen != self.listen => Self::of(listen),
            _ => self,
        };
        network.port = args.udp_port.or(network.port);
        if let Some(Relays(relays)) = &args.relay {
            network.relays = relays.clone();
        }
        if let Some(Ways(find)) = &args.find {
            network.find.clone_from(find);
        }
        network
    }

    /// What the home was created or joined with.
    ///
    /// # Errors
    /// It can't be read.
    pub fn kept(home: &Home) -> Result<Option<Self>> {
        let Some(bytes) = home.read(FILE)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).with_context(|| {
            let file = home.path().join(FILE);
            format!("{} is damaged; remove it to have defaults", file.display())
        })
    }

    /// Keeps it in the home.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, home: &Home) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).context("encoding the network's settings")?;
        home.write(FILE, &bytes)
    }

    /// Whether peers are to be found in this way.
    pub fn finds_by(&self, way: Finder) -> bool {
        self.find.contains(&way)
    }

    /// What a peer's endpoint is bound with, the first having index 0.
    pub fn config(&self, secret_key: [u8; 32], topic: [u8; 32], index: u16) -> NetConfig {
        let mut config = NetConfig::local(secret_key, topic);
        config.reach = self.listen;
        config.port = self.port.and_then(|port| port.checked_add(index));
        config.relays = self.relays.clone();
        config.finders.clone_from(&self.find);
        config
    }

    /// The same for an endpoint that only asks: any port, any key.
    pub fn guest(&self, topic: [u8; 32]) -> NetConfig {
        let mut config = self.config(rand::random(), topic, 0);
        config.port = None;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(socket: &str) -> PeerAddr {
        PeerAddr {
            sockets: vec![socket.parse().unwrap()],
            ..PeerAddr::of([1; 32])
        }
    }

    #[test]
    fn alone_it_asks_nobody_outside_and_opens_no_door() {
        let local = Network::of(Reach::Loopback);
        assert_eq!(local.relays, RelayChoice::Disabled);
        assert_eq!(local.find, [Finder::Remembered]);
        let config = local.config([1; 32], [2; 32], 3);
        assert_eq!((config.reach, config.port), (Reach::Loopback, None));
    }

    #[test]
    fn a_swarm_on_loopback_is_joined_on_loopback_and_any_other_is_not() {
        let listen = |peers: &[PeerAddr]| Network::for_peers(peers).listen;
        assert_eq!(listen(&[at("127.0.0.1:1"), at("[::1]:1")]), Reach::Loopback);
        assert_eq!(listen(&[at("127.0.0.1:1"), at("10.0.0.1:1")]), Reach::Any);
        assert_eq!(listen(&[PeerAddr::of([1; 32])]), Reach::Any);
        assert_eq!(listen(&[]), Reach::Any);
    }

    #[test]
    fn flags_change_one_thing_each_and_another_reach_begins_anew() {
        let args = NetArgs {
            relay: Some("none".parse().unwrap()),
            udp_port: Some(4000),
            ..NetArgs::default()
        };
        let network = Network::of(Reach::Any).with(&args);
        assert_eq!(network.relays, RelayChoice::Disabled);
        assert_eq!(network.find, Finder::ALL);
        assert_eq!(network.config([1; 32], [2; 32], 2).port, Some(4002));
        let local = NetArgs {
            listen: Some(Reach::Loopback),
            ..NetArgs::default()
        };
        assert_eq!(network.with(&local), Network::of(Reach::Loopback));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        assert!("maybe".parse::<Relays>().unwrap_err().contains("public"));
        assert!("mdns,smoke".parse::<Ways>().unwrap_err().contains("dht"));
        assert_eq!(
            "mdns, dht".parse(),
            Ok(Ways(vec![Finder::Mdns, Finder::Dht]))
        );
        assert_eq!("none".parse(), Ok(Ways(Vec::new())));
    }
}
