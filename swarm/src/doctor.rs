//! `murmur doctor`: what works from here, and what to do about what does not.
//!
//! Every check says what it found. A check that could not be made says so: what
//! was not looked at is neither well nor ill.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use swarm_core::manifest::Manifest;
use sysinfo::{Disks, System};

use crate::home::{self, Home};
use crate::hub::now_ms;
use crate::join;
use crate::net::{Finder, Guest, MAX_SKEW, PeerAddr, Reach, RelayChoice};
use crate::process::without_secrets;
use crate::reach::{NetArgs, Network};
use crate::ticket::Ticket;

/// Disk that a home grows to: 64 MiB of events, 256 MiB of transcripts, a few
/// checkpoints and the devnet's log.
const DISK: u64 = 1 << 30;
/// Memory that a peer of the embedded model needs at the least.
const MEMORY: u64 = 256 << 20;
/// How long to look for a relay.
const RELAY_PATIENCE: Duration = Duration::from_secs(8);
/// How long a chain may take to answer.
const CHAIN_PATIENCE: Duration = Duration::from_secs(8);

/// `murmur doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Try the peers of this ticket as well [default: those of the home]
    #[arg(value_name = "TICKET")]
    pub ticket: Option<String>,
    /// The home to look at
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The chain to try [default: the home's]
    #[arg(long, value_name = "URL")]
    pub rpc: Option<String>,
    /// The chain id it must answer with
    #[arg(long, value_name = "N", requires = "rpc")]
    pub chain_id: Option<u64>,
    /// How peers are to be reached and found.
    #[command(flatten)]
    pub net: NetArgs,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It works.
    Ok,
    /// It works in part; the advice says what is lost.
    Warn,
    /// It does not work, and a node needs it.
    Fail,
    /// Not looked at, and why.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self {
            state: State::Skipped,
            ..Self::ok(name, why)
        }
    }

    fn ill(
        state: State,
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..Self::ok(name, found)
        }
    }
}

/// Looks at everything; the exit code is a failure if a check failed.
///
/// # Errors
/// The ticket or the home can't be read.
pub async fn run(args: &DoctorArgs) -> Result<(String, ExitCode)> {
    let home = Home::existing(args.home.as_deref())?;
    let kept = home.as_ref().map(Network::kept).transpose()?.flatten();
    let ticket = match (&args.ticket, &home) {
        (Some(text), _) => Some(text.parse::<Ticket>().context("reading the ticket")?),
        (None, Some(home)) => join::kept(home)?,
        (None, None) => None,
    };
    let network = match (&kept, &ticket) {
        (Some(kept), _) => kept.clone(),
        (None, Some(ticket)) => Network::for_peers(&ticket.peers),
        // What works from here is asked by who wants to be reached.
        (None, None) => Network::of(Reach::Any),
    };
    let network = network.with(&args.net);
    let folder = home::resolve(args.home.as_deref())?;
    let mut checks = vec![disk(&folder), memory(), cores(), gpu(), udp(&network)];
    checks.extend(reachable(&network, ticket.as_ref()).await);
    let kept_rpc = home.as_ref().map(Home::rpc).transpose()?.flatten();
    let ticket_rpc = ticket.as_ref().and_then(|ticket| ticket.rpc.clone());
    let rpc = args.rpc.clone().or(ticket_rpc).or(kept_rpc);
    checks.extend(chain(rpc.as_deref(), args.chain_id).await);
    let failed = checks.iter().any(|check| check.state == State::Fail);
    let code = if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    let text = match args.json {
        true => format!(
            "{:#}\n",
            serde_json::json!({ "checks": checks, "ok": !failed })
        ),
        false => table(&checks),
    };
    Ok((text, code))
}

fn table(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
            State::Skipped => "-",
        };
        let _ = writeln!(text, "{state:<5} {:<10} {}", check.name, check.found);
        if let Some(advice) = &check.advice {
            let _ = writeln!(text, "{:17}do: {advice}", "");
        }
    }
    text
}

fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib >= 10 * 1024 => format!("{} GiB", mib >> 10),
        mib => format!("{mib} MiB"),
    }
}

fn disk(folder: &Path) -> Check {
    let unknown = || Check::skipped("disk", "this system does not say what is free");
    let Ok(disks) = Disks::new_with_refreshed_list() else {
        return unknown();
    };
    // The home may not be there yet: its nearest ancestor is.
    let there = folder.ancestors().find(|path| path.exists());
    let there = there.and_then(|path| path.canonicalize().ok());
    let holds = |disk: &&sysinfo::Disk| {
        there
            .as_ref()
            .is_some_and(|path| path.starts_with(disk.mount_point()))
    };
    let best = disks.iter().filter(holds);
    let Some(disk) = best.max_by_key(|disk| disk.mount_point().as_os_str().len()) else {
        return unknown();
    };
    let found = format!(
        "{} free for {}",
        mib(disk.available_space()),
        folder.display()
    );
    if disk.is_read_only() {
        return Check::ill(
            State::Fail,
            "disk",
            "read-only",
            "choose a folder with --home",
        );
    }
    match disk.available_space() {
        free if free < DISK / 8 => Check::ill(
            State::Fail,
            "disk",
            found,
            format!("free {}, or choose another folder with --home", mib(DISK)),
        ),
        free if free < DISK => Check::ill(
            State::Warn,
            "disk",
            found,
            format!("a home grows to about {}", mib(DISK)),
        ),
        _ => Check::ok("disk", found),
    }
}

fn memory() -> Check {
    let Ok(mut system) = System::new() else {
        return Check::skipped("memory", "this system does not say what is free");
    };
    system.refresh_memory();
    let free = match system.cgroup_limits() {
        Some(limits) => limits.free_memory.min(system.available_memory()),
        None => system.available_memory(),
    };
    let found = format!("{} available", mib(free));
    if free < MEMORY {
        let advice = "one peer of the embedded model needs this much: run fewer (--peers 1)";
        return Check::ill(State::Warn, "memory", found, advice);
    }
    Check::ok("memory", found)
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Check::ok("cores", format!("{cores}"))
}

fn gpu() -> Check {
    match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
        (true, _) => Check::ok("gpu", "this build trains large models with CUDA"),
        (_, true) => Check::ok("gpu", "this build trains large models with Metal"),
        _ => Check::skipped(
            "gpu",
            "this build trains on the CPU; others: cargo build --release --features cuda (or metal)",
        ),
    }
}

fn udp(network: &Network) -> Check {
    let here = match network.listen {
        Reach::Loopback => Ipv4Addr::LOCALHOST,
        Reach::Any => Ipv4Addr::UNSPECIFIED,
    };
    let port = network.port.unwrap_or(0);
    match UdpSocket::bind((here, port)) {
        Ok(socket) => {
            let port = socket.local_addr().map_or(port, |at| at.port());
            Check::ok("udp", format!("{here}:{port} can be opened"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Check::ill(
            State::Warn,
            "udp",
            format!("{here}:{port} is in use, perhaps by this swarm's own peers"),
            "nothing, if they run; else another --udp-port",
        ),
        Err(error) => Check::ill(
            State::Fail,
            "udp",
            format!("{here}:{port} can't be opened: {error}"),
            "let this program open UDP sockets (sandbox, container or firewall settings)",
        ),
    }
}

/// Interfaces, relay, NAT, LAN, and the peers that are known.
async fn reachable(network: &Network, ticket: Option<&Ticket>) -> Vec<Check> {
    let topic = ticket
        .and_then(|ticket| Manifest::outline(&ticket.manifest).ok())
        .map_or([0; 32], |manifest| manifest.id().0);
    let guest = match Guest::bind(&network.guest(topic)).await {
        Ok(guest) => guest,
        Err(error) => {
            let advice = "see what udp says above";
            return vec![Check::ill(
                State::Fail,
                "endpoint",
                error.to_string(),
                advice,
            )];
        }
    };
    let has_relays = network.relays != RelayChoice::Disabled;
    let patience = if has_relays {
        RELAY_PATIENCE
    } else {
        Duration::ZERO
    };
    let own = guest.address(patience).await;
    let mut checks = vec![
        interfaces(network, &own),
        relay(has_relays, &own),
        nat(network, &own),
    ];
    checks.push(match &guest.blind {
        _ if !network.finds_by(Finder::Mdns) => Check::skipped("lan", "mdns is switched off"),
        None => Check::ok("lan", "peers on this LAN can be looked for (mdns)"),
        Some(why) => Check::ill(
            State::Warn,
            "lan",
            format!("nobody can be looked for: {why}"),
            "allow multicast, or leave it out (--find dns,dht); tickets work without",
        ),
    });
    if let Some(ticket) = ticket {
        checks.extend(peers(&guest, &ticket.peers, &topic).await);
    } else {
        checks.push(Check::skipped(
            "peers",
            "no swarm was joined here; try murmur doctor TICKET",
        ));
    }
    guest.close().await;
    checks
}

fn interfaces(network: &Network, own: &PeerAddr) -> Check {
    let list: Vec<String> = own.sockets.iter().map(|at| at.ip().to_string()).collect();
    match (network.listen, list.is_empty()) {
        (Reach::Loopback, _) => Check::ok("addresses", "loopback only, as is asked"),
        (Reach::Any, false) => Check::ok("addresses", list.join(", ")),
        (Reach::Any, true) => Check::ill(
            State::Warn,
            "addresses",
            "no interface but loopback",
            "connect to a network; a swarm on this machine works without (--listen local)",
        ),
    }
}

fn relay(has_relays: bool, own: &PeerAddr) -> Check {
    match (&own.relay, has_relays) {
        (Some(relay), _) => Check::ok("relay", relay.clone()),
        (None, false) => Check::skipped("relay", "none is to be used"),
        (None, true) => Check::ill(
            State::Warn,
            "relay",
            "none answered",
            "peers behind NATs will not reach this one: allow outgoing HTTPS and UDP, or run a \
             relay of your own (iroh-relay) and name it with --relay URL; direct paths and the \
             LAN work without",
        ),
    }
}

fn is_global(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// The address this machine sends from, if it has a way out at all.
fn own_ip() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: it only asks for the route.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn nat(network: &Network, own: &PeerAddr) -> Check {
    if network.listen == Reach::Loopback {
        return Check::skipped("nat", "loopback only");
    }
    let Some(local) = own_ip() else {
        let advice = "connect to a network; a swarm on this machine works without";
        return Check::ill(State::Warn, "nat", "no route to anywhere", advice);
    };
    if is_global(&local) {
        return Check::ok("nat", format!("none: {local} is a public address"));
    }
    let seen = own
        .sockets
        .iter()
        .find(|at| at.is_ipv4() && is_global(&at.ip()));
    match (seen, &own.relay) {
        (Some(seen), _) => Check::ok(
            "nat",
            format!("behind one: {local} is seen as {seen}; direct paths are tried first"),
        ),
        (None, Some(_)) => Check::ill(
            State::Warn,
            "nat",
            format!("behind one that lets no UDP out ({local}); the relay carries everything"),
            "allow outgoing UDP, or forward a port and name it with --udp-port",
        ),
        (None, None) => Check::skipped(
            "nat",
            format!("{local} is private, and nobody outside could be asked how it is seen"),
        ),
    }
}

async fn peers(guest: &Guest, peers: &[PeerAddr], swarm: &[u8; 32]) -> Vec<Check> {
    let mut checks = Vec::new();
    let (mut reached, mut offsets, mut refusals) = (0, Vec::new(), Vec::new());
    for peer in peers {
        match guest.asker().ticket(peer, swarm).await {
            Ok(answer) => {
                reached += 1;
                offsets.push(answer.clock_offset_ms);
            }
            Err(error) => refusals.push(format!("{}…: {error}", hex::encode(&peer.id[..4]))),
        }
    }
    let found = format!("{reached} of {} answer", peers.len());
    checks.push(match refusals.is_empty() && reached > 0 {
        true => Check::ok("peers", found),
        false => Check::ill(
            if reached > 0 {
                State::Warn
            } else {
                State::Fail
            },
            "peers",
            format!("{found} ({})", refusals.join("; ")),
            "see that they run; a newer ticket names where they are now (ticket.txt in a home)",
        ),
    });
    offsets.sort_unstable();
    if let Some(offset) = offsets.get(offsets.len() / 2) {
        checks.push(clock(*offset, "peers"));
    }
    checks
}

/// An offset is others' time less ours.
fn clock(offset_ms: i64, against: &str) -> Check {
    let found = format!("{offset_ms:+} ms against {against}");
    if offset_ms.unsigned_abs() <= MAX_SKEW.as_millis() as u64 {
        return Check::ok("clock", found);
    }
    Check::ill(
        State::Fail,
        "clock",
        found,
        format!(
            "set this machine's clock (systemd-timesyncd, chrony): rounds follow wall time, and \
             {} s are tolerated",
            MAX_SKEW.as_secs()
        ),
    )
}

async fn chain(rpc: Option<&str>, chain_id: Option<u64>) -> Vec<Check> {
    let Some(rpc) = rpc else {
        let why = "none is named: the embedded devnet needs nothing; try --rpc URL";
        return vec![Check::skipped("chain", why)];
    };
    let shown = without_secrets(rpc);
    match ask_chain(rpc).await {
        Ok((found, _)) if chain_id.is_some_and(|wanted| wanted != found) => vec![Check::ill(
            State::Fail,
            "chain",
            format!("{shown} is chain {found}"),
            "name the right URL or --chain-id",
        )],
        Ok((found, date)) => {
            let mut checks = vec![Check::ok("chain", format!("{shown} is chain {found}"))];
            if let Some(date) = date {
                // The header has whole seconds: half of one is rounding.
                let offset = date as i64 + 500 - now_ms() as i64;
                checks.push(clock(offset, "the chain's server"));
            }
            checks
        }
        Err(error) => vec![Check::ill(
            State::Warn,
            "chain",
            format!("{shown} does not answer: {error:#}"),
            "rounds wait in the outbox until it does; a devnet answers only while its murmur runs",
        )],
    }
}

/// The chain's id and its server's time.
async fn ask_chain(rpc: &str) -> Result<(u64, Option<u64>)> {
    let client = join::http_client(rpc, CHAIN_PATIENCE)?;
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let response = client
        .post(rpc)
        .header("content-type", "application/json")
        .body(request)
        .send()
        .await
        // Its own text repeats the URL, and a URL may hold a key.
        .map_err(|error| error.without_url())?;
    let date = response.headers().get("date");
    let date = date
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok())
        .and_then(|date: SystemTime| date.duration_since(UNIX_EPOCH).ok())
        .map(|since| since.as_millis() as u64);
    let answer: serde_json::Value =
        serde_json::from_slice(&join::at_most(response).await?).context("it is no JSON-RPC")?;
    let id = answer["result"].as_str().context("it gives no chain id")?;
    let id = u64::from_str_radix(id.trim_start_matches("0x"), 16);
    Ok((id.context("it gives no chain id")?, date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_fails_and_a_tolerated_one_does_not() {
        assert_eq!(clock(-300, "peers").state, State::Ok);
        let wrong = clock(90_000, "peers");
        assert_eq!(wrong.state, State::Fail);
        assert!(wrong.advice.unwrap().contains("clock"));
    }

    #[test]
    fn a_nat_is_told_from_a_public_address() {
        for private in [
            "10.1.2.3",
            "192.168.0.2",
            "100.64.1.1",
            "127.0.0.1",
            "fd00::1",
        ] {
            assert!(!is_global(&private.parse().unwrap()), "{private}");
        }
        assert!(is_global(&"1.1.1.1".parse().unwrap()));
        assert!(is_global(&"2001:db9::1".parse().unwrap()));
    }

    #[test]
    fn every_ill_says_what_to_do_and_the_state_is_a_word() {
        let ill = Check::ill(State::Fail, "udp", "no", "do this");
        let text = table(&[Check::ok("disk", "much"), ill]);
        assert!(
            text.contains("FAIL  udp") && text.contains("do: do this"),
            "{text}"
        );
    }
}
