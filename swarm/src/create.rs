//! `murmur create`: a swarm that others can join, before its first peer runs.
//!
//! The manifest, the first peer's key and its port are fixed here, so that a
//! ticket given away today is true tomorrow.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use qrcode::QrCode;
use qrcode::types::{Color, EcLevel};
use rollup::ChainProfile;
use serde_json::json;
use swarm_core::manifest::Manifest;
use tasks::Registry;

use crate::home::Home;
use crate::identity::Identity;
use crate::net::{Guest, Reach, RelayChoice};
use crate::onchain::read_profile;
use crate::packages::Store;
use crate::process::{DEVNET_CHAIN, holds_no_secret, made_here, manifest_from};
use crate::reach::{NetArgs, Network};
use crate::ticket::{Invite, Ticket};
use crate::wallet;

/// How long to look for the relay that a ticket would name. Without one the
/// ticket still names this machine's addresses, and finders find the rest.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// `murmur create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// A name for people [default: the manifest's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The manifest to begin with [default: the local profile]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The folder for the swarm's manifest, ticket and first key
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Settle on the chain behind this JSON-RPC URL instead of the first
    /// process's embedded devnet
    #[arg(long, value_name = "URL", requires = "chain_id")]
    pub rpc: Option<String>,
    /// That chain's id
    #[arg(long, value_name = "N", requires = "rpc")]
    pub chain_id: Option<u64>,
    /// The same with more said of it: a chain's profile, as `murmur chain show` prints it
    #[arg(long, value_name = "FILE", conflicts_with = "rpc")]
    pub chain: Option<PathBuf>,
    /// Witnesses commit to their scorecards on the chain before anybody shows one, so that
    /// none can be copied: one transaction more a round
    #[arg(long)]
    pub sealed: bool,
    /// How peers are reached and found.
    #[command(flatten)]
    pub net: NetArgs,
    /// No QR code
    #[arg(long)]
    pub no_qr: bool,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Makes the swarm, and says how to run it and how to join it.
///
/// # Errors
/// The home has a swarm already, the manifest is none, or the port is taken.
pub async fn run(args: &CreateArgs) -> Result<String> {
    let home = Home::open(args.home.as_deref())?;
    if home.manifest()?.is_some() {
        bail!(
            "{} has a swarm already (others join it with the ticket in {}); choose another \
             folder with --home",
            home.path().display(),
            home.path().join("ticket.txt").display()
        );
    }
    let (registry, _) = Store::of(home.path()).registry()?;
    let mut manifest = manifest_from(args.manifest.as_deref(), &registry)?;
    if let Some(name) = &args.name {
        manifest.name.clone_from(name);
    }
    let profile = match (&args.chain, &args.rpc, args.chain_id) {
        (Some(file), ..) => Some(read_profile(file)?),
        (None, Some(rpc), Some(chain_id)) => Some(ChainProfile::new(rpc, chain_id)),
        _ => None,
    };
    let on = profile.clone();
    let on = on.unwrap_or_else(|| ChainProfile::new("", DEVNET_CHAIN));
    made_here(&mut manifest, &on, &home, None)?;
    if let Some(chain) = &mut manifest.chain {
        chain.sealed |= args.sealed;
    }
    manifest.validate(&registry)?;
    let mut network = Network::of(Reach::Any).with(&args.net);
    network.port = Some(network.port.map_or_else(free_port, Ok)?);

    let folder = home.peer(0)?;
    let access = wallet::access(0, 1)?;
    let opened =
        tokio::task::spawn_blocking(move || Identity::open(&folder, &access, Identity::random));
    let identity = opened.await.context("opening the first peer's keys")??;
    let swarm = manifest.id();
    let guest = Guest::bind(&network.config(identity.iroh_secret(), swarm.0, 0)).await;
    let guest = guest.context("opening the first peer's port")?;
    let patience = match network.relays {
        RelayChoice::Disabled => Duration::ZERO,
        _ => RELAY_PATIENCE,
    };
    let address = guest.address(patience).await;
    guest.close().await;

    let ticket = Ticket {
        manifest: manifest.canonical(),
        peers: vec![address.clone()],
        rpc: profile
            .map(|profile| profile.rpc)
            .filter(|rpc| holds_no_secret(rpc)),
    };
    let invite = Invite {
        swarm: swarm.0,
        peers: vec![address],
    };
    let (ticket, invite) = (ticket.encode()?, invite.encode()?);
    let toml = to_toml(&manifest, &registry)?;
    network.keep(&home)?;
    home.write("swarm.toml", toml.as_bytes())?;
    home.write("ticket.txt", ticket.as_bytes())?;
    home.write("invite.txt", invite.as_bytes())?;
    // Last: a home with a manifest is a whole one.
    home.keep_manifest(&manifest.canonical())?;

    let start = start_line(args, home.path());
    if args.json {
        let document = json!({
            "swarm": hex::encode(swarm.0),
            "name": manifest.name,
            "manifest": home.path().join("swarm.toml"),
            "ticket": ticket,
            "invite": invite,
            "run": start,
        });
        return Ok(format!("{document:#}\n"));
    }
    let mut text = String::new();
    let path = home.path().display();
    writeln!(text, "created swarm {} ({swarm})", manifest.name)?;
    writeln!(text, "manifest  {path}/swarm.toml")?;
    writeln!(
        text,
        "ticket    {path}/ticket.txt (all a stranger needs; long)"
    )?;
    writeln!(text, "\nstart it here:\n  {start}")?;
    writeln!(
        text,
        "join it from elsewhere, while it runs:\n  murmur join {invite}"
    )?;
    if !args.no_qr {
        writeln!(text, "\n{}", qr(&invite)?)?;
    }
    Ok(text)
}

fn start_line(args: &CreateArgs, home: &Path) -> String {
    let mut line = format!("murmur run --home {}", home.display());
    if let Some(file) = &args.chain {
        let _ = write!(line, " --chain {}", file.display());
    } else if let (Some(rpc), Some(id)) = (&args.rpc, args.chain_id) {
        let _ = write!(line, " --rpc {rpc} --chain-id {id}");
    }
    line
}

/// The manifest as a file for people: exact, so environments by hash.
fn to_toml(manifest: &Manifest, registry: &Registry) -> Result<String> {
    let mut text = format!(
        "# A swarm: `murmur join` takes this file. Its id is {}.\n# Changing anything makes \
         another swarm.\n#\n# Environments by hash:\n",
        manifest.id().to_hex()
    );
    let mut named = std::collections::BTreeSet::new();
    for course in &manifest.curriculum {
        if let Some(environment) = registry.get(&course.env)
            && named.insert(course.env)
        {
            writeln!(
                text,
                "#   {} {}",
                course.env.to_hex(),
                environment.manifest().name
            )?;
        }
    }
    text.push('\n');
    let mut table = toml::Table::try_from(manifest).context("writing the manifest")?;
    let courses = table
        .get_mut("curriculum")
        .and_then(toml::Value::as_array_mut);
    for (value, course) in courses.into_iter().flatten().zip(&manifest.curriculum) {
        if let Some(value) = value.as_table_mut() {
            value.insert("env".to_owned(), course.env.to_hex().into());
        }
    }
    text.push_str(&toml::to_string(&table).context("writing the manifest")?);
    Ok(text)
}

/// A port that nobody has now. It may be taken later; the start then says so.
fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("looking for a free UDP port")?;
    Ok(socket.local_addr().context("reading the port")?.port())
}

/// A QR code of half blocks, two modules a character, dark on light by
/// reversing: readable by a camera with or without colour.
fn qr(text: &str) -> Result<String> {
    // Upper case: letters and digits alone make a smaller code.
    let upper = text.to_ascii_uppercase();
    let code = QrCode::with_error_correction_level(upper.as_bytes(), EcLevel::L)
        .context("the invite does not fit a QR code")?;
    let width = code.width() as isize;
    let is_light = |x: isize, y: isize| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        !inside || code[(x as usize, y as usize)] == Color::Light
    };
    const QUIET: isize = 2;
    let mut lines = String::new();
    let mut y = -QUIET;
    while y < width + QUIET {
        for x in -QUIET..width + QUIET {
            // Most terminals are dark: a light module is a printed one.
            lines.push(match (is_light(x, y), is_light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push('\n');
        y += 2;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::LOCAL_PROFILE;
    use swarm_core::ids::Address;
    use swarm_core::manifest::Chain;

    #[test]
    fn the_manifest_file_reads_back_to_the_same_swarm() {
        let registry = Registry::all();
        let mut manifest = Manifest::from_toml(LOCAL_PROFILE, &registry).unwrap();
        manifest.name = "reeds".into();
        manifest.chain = Some(Chain {
            chain_id: 7700,
            registry: Address([1; 20]),
            ledger: Address([2; 20]),
            author: Some(Address([3; 20])),
            sealed: true,
        });
        let text = to_toml(&manifest, &registry).unwrap();
        assert_eq!(Manifest::from_toml(&text, &registry).unwrap(), manifest);
        assert!(text.contains(&manifest.id().to_hex()));
    }

    /// The picture is read back module by module: what a camera would see.
    #[test]
    fn the_qr_code_is_the_invite_and_fits_a_terminal() {
        let text = format!("murmur2{}", "abcdefgh234567".repeat(16));
        let picture = qr(&text).unwrap();
        let width = picture.lines().next().unwrap().chars().count();
        assert!(width <= 80, "{width}");
        let code =
            QrCode::with_error_correction_level(text.to_ascii_uppercase(), EcLevel::L).unwrap();
        for (row, line) in picture.lines().enumerate() {
            for (x, cell) in line.chars().enumerate() {
                for (half, light) in [(0, "█▀"), (1, "█▄")] {
                    let (x, y) = (x as isize - 2, (2 * row + half) as isize - 2);
                    let inside = 0..code.width() as isize;
                    let expected = !(inside.contains(&x) && inside.contains(&y))
                        || code[(x as usize, y as usize)] == Color::Light;
                    assert_eq!(light.contains(cell), expected, "{x},{y}");
                }
            }
        }
    }
}
