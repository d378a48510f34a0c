//! `murmur chain`: the chain that a swarm settles on, as a profile for others; what
//! everything costs there now; and peers as ERC-8004 agents.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rollup::{Agents, ChainProfile, EPOCH_ROUNDS, Ledger, Prices, Quote, U256, checksummed};
use serde_json::json;

use crate::home::{self, Home};
use crate::identity::{self, Identity};
use crate::rep::args::{Output, Place};
use crate::rep::find;
use crate::rep::render::Table;
use crate::rep::source::Source;
use crate::wallet;

/// A profile is a handful of lines.
const PROFILE_LIMIT: u64 = 64 * 1024;

/// `murmur chain`.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// The chain as a profile: contracts and the hashes of their code, fees, registries.
    /// Whoever has it connects with --chain FILE, and is refused where anything differs
    Show(ShowArgs),
    /// What registering, joining, opening and settling cost now, with what their data costs
    /// on the layer below. Nothing is sent
    Fees(FeesArgs),
    /// A peer of this home as an agent in the chain's ERC-8004 registries
    Agent(AgentArgs),
    /// Bring what the ledger says of every peer that is an agent into the reputation
    /// registry, once an epoch
    Mirror(MirrorArgs),
}

/// `murmur chain show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

/// `murmur chain fees`.
#[derive(Debug, Args)]
pub struct FeesArgs {
    /// Peers that a round scores [default: the swarm's members]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub peers: Option<u16>,
    /// Witnesses that sign [default: as many as would be drawn]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub witnesses: Option<u16>,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `murmur chain agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Which of the home's peers
    #[arg(long, default_value_t = 0)]
    pub peer: u16,
    /// Register it and link it to its account, unless that has been done
    #[arg(long)]
    pub enroll: bool,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
}

/// `murmur chain mirror`.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// Which of the home's peers pays
    #[arg(long, default_value_t = 0)]
    pub peer: u16,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
}

/// A chain's profile, from a file.
///
/// # Errors
/// It can't be read, or is none; names the file and the key.
pub fn read_profile(path: &Path) -> Result<ChainProfile> {
    let text = home::read_small(path, PROFILE_LIMIT)
        .with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8(text).ok();
    let text = text.with_context(|| format!("{} is not text", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no chain profile", path.display()))
}

/// Runs one of the commands; what it prints.
///
/// # Errors
/// The chain can't be reached or refuses, or there are no keys to send with.
pub async fn run(command: &ChainCommand) -> Result<String> {
    let place = match command {
        ChainCommand::Show(args) => &args.place,
        ChainCommand::Fees(args) => &args.place,
        ChainCommand::Agent(args) => &args.place,
        ChainCommand::Mirror(args) => &args.place,
    };
    let source = Source::open(place).await?;
    let ran = match command {
        ChainCommand::Show(args) => show(args, &source).await,
        ChainCommand::Fees(args) => fees(args, &source).await,
        ChainCommand::Agent(args) => agent(args, &source).await,
        ChainCommand::Mirror(args) => mirror(args, &source).await,
    };
    source.close().await;
    ran
}

async fn show(args: &ShowArgs, source: &Source) -> Result<String> {
    let ledger = source.swarm.ledger();
    let mut profile = ledger.found_profile().await.context("asking the chain")?;
    profile.rpc = crate::process::without_secrets(&profile.rpc);
    if profile.deploy_block == 0 {
        // No event that matters is older than the first swarm.
        let swarms = ledger.swarms(args.place.from_block).await;
        let swarms = swarms.context("looking for swarms")?;
        let first = swarms.iter().map(|swarm| swarm.block).min();
        profile.deploy_block = first.unwrap_or(0);
    }
    Ok(match args.json {
        true => serde_json::to_string_pretty(&profile).context("encoding")? + "\n",
        false => toml::to_string(&profile).context("encoding")?,
    })
}

/// Wei as ether, exactly.
pub(crate) fn ether(wei: U256) -> String {
    let unit = U256::from(10).pow(U256::from(18));
    format!("{}.{:018}", wei / unit, (wei % unit).to::<u64>())
}

async fn fees(args: &FeesArgs, source: &Source) -> Result<String> {
    let members = source.standings().await?.len();
    let peers = args
        .peers
        .unwrap_or(u16::try_from(members).unwrap_or(u16::MAX).clamp(1, 1024));
    let witnesses = args.witnesses.unwrap_or(peers.min(16));
    let prices = source.swarm.prices(peers, witnesses).await;
    let prices = prices.context("asking the chain for its prices")?;
    let Prices {
        model,
        register,
        join,
        open,
        settle,
    } = prices;
    let rows = [
        ("register a peer".to_owned(), register),
        ("join the swarm".to_owned(), join),
        (format!("open a round of {witnesses} witnesses"), open),
        (
            format!("settle {peers} peers, {witnesses} witnesses"),
            settle,
        ),
    ];
    if args.output.json {
        let line = |(what, quote): &(String, Quote)| {
            json!({
                "what": what,
                "gas": quote.gas,
                "gas_price_wei": quote.gas_price.to_string(),
                "bytes": quote.bytes,
                "execution_wei": quote.execution_fee().to_string(),
                "data_wei": quote.data_fee.to_string(),
                "total_wei": quote.total().to_string(),
            })
        };
        let rows: Vec<_> = rows.iter().map(line).collect();
        let document = json!({ "fees": model.name(), "at_most": rows });
        return Ok(serde_json::to_string_pretty(&document).context("encoding")? + "\n");
    }
    let mut table = Table::new(&[
        "at most",
        ">gas",
        ">bytes",
        ">for gas",
        ">for data",
        ">ether in all",
    ]);
    for (what, quote) in &rows {
        table.row(vec![
            what.clone(),
            quote.gas.to_string(),
            quote.bytes.to_string(),
            ether(quote.execution_fee()),
            ether(quote.data_fee),
            ether(quote.total()),
        ]);
    }
    if args.output.csv {
        return Ok(table.csv());
    }
    let round = open.total() + settle.total();
    Ok(format!(
        "{}\nfees as {} asks for them, with room for the price to double; a round costs at most {} \
         ether, paid by whoever relays it; sealed cards are one transaction more\n",
        table.text(),
        model.name(),
        ether(round)
    ))
}

/// The chain's ledger as a peer of the home sees it, to send with; and the peer.
///
/// # Errors
/// The home holds no keys of this peer, or they can't be opened.
pub(crate) async fn as_peer(
    place: &Place,
    peer: u16,
    source: &Source,
) -> Result<(Ledger, Identity)> {
    let home = Home::existing(place.home.as_deref())?;
    let home = home.context("no swarm has run here yet, so there are no keys to send with")?;
    let folder = home.path().join("peers").join(peer.to_string());
    if identity::known(&folder)?.is_none() {
        bail!("peer {peer} of {} has no keys", home.path().display());
    }
    let keys = Identity::open(&folder, &wallet::access(peer, 1)?, Identity::random)?;
    let profile = source.swarm.ledger().profile().clone();
    let ledger = Ledger::connect(&profile, keys.signer().clone())
        .await
        .context("reaching the ledger")?;
    Ok((ledger, keys))
}

/// The chain's agents, with a peer of the home as who sends; and the peer.
async fn agents(place: &Place, peer: u16, source: &Source) -> Result<(Agents, Identity)> {
    let (ledger, keys) = as_peer(place, peer, source).await?;
    let agents = ledger.agents().await.context("looking for ERC-8004")?;
    let none = "this chain has no ERC-8004 registries that are known; if it has, name them as \
                [agents] in a profile, and that with --chain FILE";
    Ok((agents.context(none)?, keys))
}

async fn agent(args: &AgentArgs, source: &Source) -> Result<String> {
    let (agents, keys) = agents(&args.place, args.peer, source).await?;
    let account = keys.address();
    let at = agents.registries();
    let mut id = agents.agent_of(account.0).await?;
    if id.is_none() && args.enroll {
        let name = keys.peer_id().nickname();
        let enrolled = agents.enroll(&name, keys.peer_id().0).await;
        id = Some(enrolled.context("registering the agent")?);
    }
    let Some(id) = id else {
        return Ok(format!(
            "peer {}, {}, is no agent yet; `murmur chain agent --enroll` registers it at {}\n",
            args.peer,
            checksummed(account.0),
            at.identities
        ));
    };
    let mut text = format!(
        "peer {}, {}, is agent {id} of {}\nits reputation goes to {}, given by {}\n",
        args.peer,
        checksummed(account.0),
        at.identities,
        at.reputations,
        agents.mirror_address()
    );
    for given in agents.feedback(&source.swarm, id).await? {
        text.push_str(&format!(
            "  epoch {:>4}  {:.6}\n",
            given.index,
            f64::from(given.reputation) / 1e6
        ));
    }
    Ok(text)
}

async fn mirror(args: &MirrorArgs, source: &Source) -> Result<String> {
    let (agents, _) = agents(&args.place, args.peer, source).await?;
    let mut text = String::new();
    for member in source.standings().await? {
        let Some(id) = agents.agent_of(member.address).await? else {
            continue;
        };
        let done = match agents.mirror(&source.swarm, member.address).await? {
            Some(sent) => format!("mirrored in block {}", sent.block),
            None => format!("an epoch of {EPOCH_ROUNDS} settled rounds is not over"),
        };
        text.push_str(&format!(
            "{} (agent {id}): {done}\n",
            find::shown(&member.name)
        ));
    }
    if text.is_empty() {
        text =
            "no member of this swarm is an agent; `murmur chain agent --enroll` makes one\n".into();
    }
    Ok(text)
}

/// `--chain`: fills in what a command line says of its chain from a profile.
///
/// # Errors
/// The file can't be read, or says something else than the command line.
pub fn take_profile(
    file: Option<&PathBuf>,
    rpc: &mut Option<String>,
    chain_id: &mut Option<u64>,
) -> Result<Option<ChainProfile>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let profile = read_profile(file)?;
    *rpc = Some(profile.rpc.clone());
    *chain_id = Some(profile.chain_id);
    Ok(Some(profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_whole_and_what_it_does_not_know_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chain.toml");
        let text = "rpc = \"https://rpc.example\"\nchain_id = 10\ndeploy_block = 7\n\
                    explorer = \"https://look.example/\"\nfees = \"op-stack\"\n\
                    [agents]\nidentities = \"0x0101010101010101010101010101010101010101\"\n\
                    reputations = \"0x0202020202020202020202020202020202020202\"\n";
        std::fs::write(&file, text).unwrap();
        let profile = read_profile(&file).unwrap();
        assert_eq!((profile.chain_id, profile.deploy_block), (10, 7));
        let page = profile.page_of([0x11; 32]).unwrap();
        assert_eq!(
            page,
            format!("https://look.example/tx/0x{}", "11".repeat(32))
        );
        let back: ChainProfile = toml::from_str(&toml::to_string(&profile).unwrap()).unwrap();
        assert_eq!(back, profile);
        std::fs::write(&file, format!("{text}colour = 1\n")).unwrap();
        let error = format!("{:#}", read_profile(&file).unwrap_err());
        assert!(
            error.contains("chain.toml") && error.contains("colour"),
            "{error}"
        );
    }

    #[test]
    fn wei_are_told_to_the_last() {
        assert_eq!(ether(U256::from(1)), "0.000000000000000001");
        assert_eq!(
            ether(U256::from(2_500_000_000_000_000_000_u64)),
            "2.500000000000000000"
        );
    }
}
