//! Binding the iroh endpoint: sockets, relays, discovery.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{
    BindError, BindOpts, Builder, PortmapperConfig, QuicTransportConfig, presets,
};
use iroh::{Endpoint, RelayMode, RelayUrl, SecretKey, Watcher};

use super::find::{self, Finds};
use super::links::{Hook, Registry};
use super::{NetConfig, NetError, PeerAddr, Reach, RelayChoice};

/// Where an endpoint can be reached.
pub(super) fn own_address(endpoint: &Endpoint, reach: Reach) -> PeerAddr {
    let mut addr = PeerAddr::from_iroh(&endpoint.addr());
    if reach == Reach::Loopback {
        addr.sockets = endpoint.bound_sockets();
    }
    addr
}

/// Binds the endpoint that `config` describes; with `tell`, others are told
/// where it is.
pub(super) async fn bind(
    config: &NetConfig,
    lookup: MemoryLookup,
    registry: Arc<Registry>,
    finds: &Arc<Finds>,
    tell: bool,
) -> Result<Endpoint, NetError> {
    let relays = match &config.relays {
        RelayChoice::Disabled => RelayMode::Disabled,
        RelayChoice::Default => RelayMode::Default,
        RelayChoice::Urls(urls) => {
            let parse = |url: &String| -> Result<RelayUrl, NetError> {
                url.parse().map_err(|_| NetError::BadRelay(url.clone()))
            };
            RelayMode::custom(urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
        }
    };
    let has_relay = config.relays != RelayChoice::Disabled;
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.secret_key))
        .relay_mode(relays)
        .address_lookup(lookup)
        .hooks(Hook(registry));
    let builder = find::by_key(builder, &config.finders, has_relay, tell, finds);
    let builder = sockets(builder, config.reach, config.port.unwrap_or(0))?;
    let endpoint = builder.bind().await.map_err(|error| match &error {
        BindError::Sockets { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            NetError::PortInUse(config.port.unwrap_or(0))
        }
        _ => NetError::Bind(format!("{error:#}")),
    })?;
    if config.reach == Reach::Any {
        // A ticket without an address is useless, and interfaces take a moment
        // to be found. Without any network there is nothing to wait for.
        let mut watcher = endpoint.watch_addr();
        let found = async {
            while watcher.get().ip_addrs().next().is_none() {
                if watcher.updated().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(INTERFACE_WAIT, found).await.ok();
    }
    Ok(endpoint)
}

/// How long to wait at the start for the first interface address.
const INTERFACE_WAIT: Duration = Duration::from_secs(3);

/// The round trip that a new loopback connection assumes. Closing an endpoint
/// waits nine of them for each peer that does not answer: three seconds with
/// the transport's own guess of a third of a second. Still far above the truth,
/// since training keeps every core busy.
const LOOPBACK_RTT: Duration = Duration::from_millis(50);

/// On loopback a peer that sends nothing for this long is dead, however busy the
/// machine: its round waits for it no longer. The transport's own half minute is
/// for networks that come back.
const LOOPBACK_IDLE: Duration = Duration::from_secs(4);

/// A sign of life this often, so that a live peer is never idle for long.
const LOOPBACK_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The builder with sockets on the network that was asked for.
pub(super) fn sockets(builder: Builder, reach: Reach, port: u16) -> Result<Builder, NetError> {
    let failed = |error: &dyn std::fmt::Display| NetError::Bind(error.to_string());
    let builder = builder.clear_ip_transports();
    let idle = LOOPBACK_IDLE.try_into().map_err(|error| failed(&error))?;
    match reach {
        Reach::Loopback => builder
            .transport_config(
                QuicTransportConfig::builder()
                    .initial_rtt(LOOPBACK_RTT)
                    .max_idle_timeout(Some(idle))
                    .default_path_max_idle_timeout(LOOPBACK_IDLE)
                    .keep_alive_interval(LOOPBACK_KEEP_ALIVE)
                    .default_path_keep_alive_interval(LOOPBACK_KEEP_ALIVE)
                    .build(),
            )
            .portmapper_config(PortmapperConfig::Disabled)
            .bind_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .map_err(|error| failed(&error)),
        Reach::Any => builder
            .bind_addr(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .map_err(|error| failed(&error))?
            .bind_addr_with_opts(
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                BindOpts::default().set_is_required(false),
            )
            .map_err(|error| failed(&error)),
    }
}
