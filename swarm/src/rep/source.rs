//! Where reputation is read from: a running swarm's chain, a stopped home's devnet, or
//! any chain by its URL.

use anyhow::{Context, Result, bail};
use rollup::devnet::{Devnet, DevnetConfig};
use rollup::{ChainProfile, Ledger, Reputation, Swarm};
use swarm_core::manifest::Manifest;
use tasks::Registry;

use super::args::Place;
use crate::home::Home;
use crate::onchain::read_profile;
use crate::packages::Store;
use crate::process::{DEVNET_CHAIN, terms};
use crate::transcripts::Transcripts;

/// A swarm's ledger, open for reading.
pub struct Source {
    /// The swarm on it.
    pub swarm: Swarm,
    /// Where its chain answers.
    pub rpc: String,
    /// What the swarm is, where a home knows it.
    pub manifest: Option<Manifest>,
    /// What its rounds can be checked by, where a home has it.
    pub transcripts: Option<Transcripts>,
    /// The environments that items come from.
    pub registry: Registry,
    devnet: Option<Devnet>,
}

impl Source {
    /// Opens what was asked for. No key is used and nothing is sent.
    ///
    /// # Errors
    /// There is no swarm there, or its chain can't be reached; says which and what to do.
    pub async fn open(place: &Place) -> Result<Self> {
        match (&place.rpc, place.chain_id, &place.chain) {
            (_, _, Some(file)) => at_rpc(place, read_profile(file)?).await,
            (Some(rpc), Some(chain_id), _) => at_rpc(place, ChainProfile::new(rpc, chain_id)).await,
            _ => of_home(place).await,
        }
    }

    /// Every member's standing, the highest first.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn standings(&self) -> Result<Vec<Reputation>> {
        let all = self.swarm.reputations().await;
        all.context("reading reputations from the ledger")
    }

    /// Stops what was started for the moment.
    pub async fn close(self) {
        if let Some(devnet) = self.devnet {
            devnet.shutdown().await;
        }
    }
}

async fn of_home(place: &Place) -> Result<Source> {
    let Some(home) = Home::existing(place.home.as_deref())? else {
        bail!("no swarm has run here yet; start one with `murmur`, or name a chain with --rpc");
    };
    let registry = registry_of(&home)?;
    let Some(manifest) = manifest_of(&home, &registry)? else {
        bail!("this home holds no swarm yet; start one with `murmur`, or name a chain with --rpc");
    };
    let Some(chain) = manifest.chain else {
        bail!("this swarm settles on no chain")
    };

    // A running devnet is asked; one that is stopped is opened for the moment.
    let mut devnet = None;
    let rpc = match home.rpc()? {
        Some(rpc) if rollup::devnet::answers(&rpc, chain.chain_id).await => rpc,
        _ if chain.chain_id == DEVNET_CHAIN && home.path().join("devnet").exists() => {
            let opened = Devnet::start(DevnetConfig {
                home: home.path().join("devnet"),
                port: 0,
                chain_id: DEVNET_CHAIN,
                prefund: Vec::new(),
                seed: None,
            })
            .await
            .context("opening the saved devnet")?;
            let url = devnet.insert(opened).url();
            // For whoever looks while it is open. A home that can't be written to is as
            // good to read; and the next swarm to start here writes its own.
            let _ = home.write("rpc.txt", url.as_bytes());
            url
        }
        Some(rpc) => bail!("chain {} does not answer at {rpc}", chain.chain_id),
        None => bail!("this home does not know its chain's JSON-RPC; start the swarm once"),
    };
    let mut profile = ChainProfile::new(&rpc, chain.chain_id);
    profile.ledger = Some(chain.ledger.0.into());
    let ledger = Ledger::observe(profile)
        .await
        .context("reaching the ledger")?;
    let swarm = match &place.swarm {
        Some(id) => choose(&ledger, id, place.from_block).await?,
        None => ledger.find_swarm(manifest.id().0, terms(&manifest)).await?,
    };
    Ok(Source {
        swarm,
        rpc,
        manifest: Some(manifest),
        transcripts: Some(Transcripts::of(home.path())),
        registry,
        devnet,
    })
}

async fn at_rpc(place: &Place, mut profile: ChainProfile) -> Result<Source> {
    let rpc = profile.rpc.clone();
    if let Some(ledger) = &place.ledger {
        let parsed = ledger.parse().ok();
        profile.ledger = Some(parsed.with_context(|| {
            format!("--ledger {ledger} is no address: it must be 0x and 40 hex digits")
        })?);
    }
    let ledger = Ledger::observe(profile)
        .await
        .context("reaching the ledger")?;
    // A home that was named may know what the swarm is; the default one need not.
    let home = match &place.home {
        Some(path) => Home::existing(Some(path))?,
        None => None,
    };
    let registry = home
        .as_ref()
        .map_or_else(|| Ok(Registry::all()), registry_of)?;
    let manifest = match &home {
        Some(home) => manifest_of(home, &registry)?,
        None => None,
    };
    let swarm = match (&place.swarm, &manifest) {
        (Some(id), _) => choose(&ledger, id, place.from_block).await?,
        (None, Some(manifest)) => ledger.find_swarm(manifest.id().0, terms(manifest)).await?,
        (None, None) => choose(&ledger, "", place.from_block).await?,
    };
    Ok(Source {
        swarm,
        rpc,
        manifest,
        transcripts: home.map(|home| Transcripts::of(home.path())),
        registry,
        devnet: None,
    })
}

/// Every environment that this home can score with: its swarm's packages too.
///
/// # Errors
/// The folder of packages can't be read.
pub fn registry_of(home: &Home) -> Result<Registry> {
    let (registry, left_out) = Store::of(home.path()).registry()?;
    for why in left_out {
        tracing::warn!("environment left out: {why}");
    }
    Ok(registry)
}

/// What the swarm of a home is; `None` where it holds none.
///
/// # Errors
/// It can't be read, or an environment of it is not here.
pub fn manifest_of(home: &Home, registry: &Registry) -> Result<Option<Manifest>> {
    let Some(bytes) = home.manifest()? else {
        return Ok(None);
    };
    let (_, named) = Manifest::named_in(&bytes).context("swarm.bin")?;
    if let Some(lacking) = named.iter().find(|id| registry.get(id).is_none()) {
        bail!(
            "nothing can be scored without environment {}, which is not in {}: get it with \
             `murmur task verify {0} --from ADDRESS --home {}` from who published it, or join \
             the swarm again with its ticket, which fetches it from a peer",
            lacking.to_hex(),
            Store::of(home.path()).folder().display(),
            home.path().display()
        );
    }
    let manifest = Manifest::from_canonical(&bytes, registry).context("swarm.bin")?;
    Ok(Some(manifest))
}

/// The one swarm on a ledger whose id or manifest begins like this.
async fn choose(ledger: &Ledger, wanted: &str, from_block: u64) -> Result<Swarm> {
    let wanted = wanted.strip_prefix("0x").unwrap_or(wanted).to_lowercase();
    let begins = |id: &[u8; 32]| hex::encode(id).starts_with(&wanted);
    let all = ledger
        .swarms(from_block)
        .await
        .context("looking for swarms")?;
    let fitting: Vec<_> = all
        .iter()
        .filter(|swarm| begins(&swarm.id) || begins(&swarm.manifest))
        .collect();
    match fitting[..] {
        [swarm] => Ok(ledger.swarm(swarm.id)),
        [] if all.is_empty() => bail!("this ledger knows no swarm"),
        [] => bail!(
            "no swarm of this ledger begins with {wanted}; {}",
            listed(&all)
        ),
        _ => bail!(
            "{} swarms fit; choose one with --swarm; {}",
            fitting.len(),
            listed(&all)
        ),
    }
}

fn listed(all: &[rollup::KnownSwarm]) -> String {
    const SHOWN: usize = 8;
    let ids = all.iter().take(SHOWN);
    let ids: Vec<String> = ids.map(|swarm| hex::encode(&swarm.id[..6])).collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("there are {}{more}", ids.join(", "))
}
