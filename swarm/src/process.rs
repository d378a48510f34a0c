//! `murmur run`: a process's peers, their chain and their home, from the first
//! key to the report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ed25519_dalek::SigningKey;
use policy::{GrpoSettings, Policy, SampleLimits};
use rollup::devnet::{Devnet, DevnetConfig};
use rollup::{ChainProfile, Ledger, PrivateKeySigner, Swarm, Terms};
use swarm_core::event::{ChainInfo, EVENT_VERSION, Event, LogLevel, Record};
use swarm_core::ids::{Address, PeerId};
use swarm_core::manifest::Manifest;
use tasks::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, standings};
use crate::cli::RunArgs;
use crate::curriculum::{self, Amendments};
use crate::evaluate::EvalPlan;
use crate::home::Home;
use crate::hub::{Hub, Listeners, now_ms};
use crate::identity::{Access, Identity};
use crate::join;
use crate::journal::Journal;
use crate::metrics;
use crate::model::{self, Model};
use crate::net::{Guest, PeerAddr, Reach, Tunnel};
use crate::packages::{self, Store};
use crate::peer::{self, Outcome, Setup};
use crate::reach::Network;
use crate::report::{BeforeAfter, Report, ReputationRow, mean};
use crate::ticket::Ticket;
use crate::transcripts::Transcripts;
use crate::wallet;
use crate::worker::{Mind, Trained};

/// The local profile: four peers on one machine, a round as long as it takes.
pub const LOCAL_PROFILE: &str = include_str!("../../assets/profiles/local.toml");
/// The devnet's chain id.
pub const DEVNET_CHAIN: u64 = 7700;
/// Names the account that pays for peers on another chain.
const PAYER_VARIABLE: &str = "MURMUR_PAYER_KEY";
/// Rounds between evaluations while a screen is watching.
const SCREEN_EVAL_EVERY: u64 = 5;

/// What answers and learns in a process's peers.
pub enum Minds {
    /// A model, which each of them trains for itself.
    Model(Model),
    /// Whatever this makes for each: where the swarm itself is measured, the
    /// model's time is not to be.
    Other(Box<dyn Fn() -> Box<dyn Mind> + Send + Sync>),
}

impl Minds {
    /// The model; of others, the one that is spoken to in the same manner.
    fn model(&self) -> Model {
        match self {
            Minds::Model(model) => model.clone(),
            Minds::Other(_) => Model::base(),
        }
    }
}

/// A swarm's place in the home, made or resumed.
struct Place {
    manifest: Manifest,
    /// Environments of the program and of the home.
    registry: Arc<Registry>,
    /// The packages of the curriculum, to be served.
    packages: Arc<Vec<Vec<u8>>>,
    /// The devnet, if this process runs it.
    devnet: Option<Devnet>,
    profile: Option<ChainProfile>,
    /// The way to somebody else's devnet, if the swarm settles on one.
    tunnel: Option<(Guest, Tunnel)>,
    network: Network,
    bootstrap: Vec<PeerAddr>,
    /// Whether the swarm is somebody else's.
    joined: bool,
    resumed: bool,
}

/// How many peers a process is to run.
///
/// # Errors
/// The home can't be read.
pub fn peers(args: &RunArgs) -> Result<u16> {
    match args.peers {
        Some(peers) => Ok(peers),
        None if args.join.is_some() || join::has_joined(args.home.as_deref())? => Ok(1),
        None => Ok(4),
    }
}

/// Run peers until their rounds are done or `stop` is cancelled.
///
/// # Errors
/// Anything that keeps the swarm from starting, each with what to do about it;
/// later, a failed disk or a died thread.
pub async fn run(
    args: RunArgs,
    minds: Minds,
    screen: Option<tui::Feed>,
    stop: CancellationToken,
) -> Result<()> {
    let started = Instant::now();
    let home = Home::open(args.home.as_deref())?;
    let (journal, notice) = Journal::open(&home.events())?;
    let has_screen = screen.is_some();
    let metrics = metrics::Shared::default();
    let listeners = Listeners {
        screen,
        stderr: !has_screen,
        metrics: metrics.clone(),
    };
    let (hub, writer) = Hub::start(journal, listeners, stop.clone());
    if let Some(notice) = notice {
        hub.log(LogLevel::Warn, "home", notice);
    }
    let page = match args.metrics {
        Some(at) => Some(metrics::serve(at, metrics.clone(), stop.clone()).await?),
        None => None,
    };
    if let Some((at, _)) = &page {
        hub.log(LogLevel::Info, "metrics", format!("http://{at}/metrics"));
    }
    // What starts can be stopped: a chain may take its time to answer.
    let started = tokio::select! {
        up = bring_up(&args, &minds, &home, &hub, has_screen, started) => up.map(Some),
        () = stop.cancelled() => Ok(None),
    };
    let result = match started {
        Ok(Some(up)) => take_part(&args, up, &metrics, stop).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match &result {
        Ok(()) => hub.emit(Event::Stopped),
        Err(error) => hub.log(LogLevel::Error, "node", format!("{error:#}")),
    }
    drop(hub);
    let written = tokio::task::spawn_blocking(move || writer.finish()).await;
    result?;
    written.context("joining the event writer")?
}

/// What earlier runs in this home recorded, for the screens to begin with.
///
/// # Errors
/// The home can't be read.
pub fn history(args: &RunArgs) -> Result<Vec<Record>> {
    let Some(home) = Home::existing(args.home.as_deref())? else {
        return Ok(Vec::new());
    };
    let path = home.events();
    match std::fs::File::open(&path) {
        Ok(file) => Ok(tui::read_events(std::io::BufReader::new(file)).0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A process whose peers are up and may take part.
struct Up {
    place: Place,
    swarm: Option<Swarm>,
    ready: Vec<peer::Ready>,
    started: Instant,
}

async fn bring_up(
    args: &RunArgs,
    minds: &Minds,
    home: &Home,
    hub: &Hub,
    has_screen: bool,
    started: Instant,
) -> Result<Up> {
    let model = minds.model();
    model.keep(home)?;
    let peers = peers(args)?;
    let place = place(args, home, hub).await?;
    let registry = Arc::clone(&place.registry);
    let swarm = match &place.profile {
        Some(profile) => Some(swarm_on_chain(args, home, &place, profile).await?),
        None => None,
    };
    let identities = identities(args, peers, home, &place).await?;
    let local: BTreeSet<PeerId> = identities
        .iter()
        .map(|(_, identity)| identity.peer_id())
        .collect();
    if local.len() < identities.len() {
        bail!(
            "two peers of {} hold the same key; move one of them away",
            home.path().display()
        );
    }

    let local_addresses: BTreeSet<Address> = identities
        .iter()
        .map(|(_, identity)| identity.address())
        .collect();

    let mut shared = Shared {
        args,
        peers,
        minds,
        model: &model,
        memory: args.training.share(peers),
        place: &place,
        payer: std::env::var_os(PAYER_VARIABLE).and(swarm.as_ref().map(Swarm::ledger)),
        registry: &registry,
        local,
        local_addresses,
        bootstrap: place.bootstrap.clone(),
        has_screen,
        transcripts: Transcripts::of(home.path()),
        store: Store::of(home.path()),
        amendments: Amendments::of(home.path()),
        hub,
    };
    let mut ready = Vec::new();
    for (index, (folder, identity)) in identities.iter().enumerate() {
        let index = u16::try_from(index).context("too many peers")?;
        let peer = peer::start(setup(&shared, folder, identity, index).await?).await?;
        shared.bootstrap.push(peer.address());
        ready.push(peer);
    }
    let ticket = Ticket {
        manifest: place.manifest.canonical(),
        peers: shared.bootstrap,
        rpc: place
            .profile
            .as_ref()
            // A devnet elsewhere is reached through its peers, not by its address.
            .filter(|profile| place.is_local() || profile.chain_id != DEVNET_CHAIN)
            .map(|profile| profile.rpc.clone())
            .filter(|rpc| holds_no_secret(rpc)),
    };
    home.write("ticket.txt", ticket.to_string().as_bytes())?;
    for peer in &ready {
        peer.offer_ticket(ticket.to_string());
    }
    if let Some(profile) = &place.profile {
        home.write("rpc.txt", profile.rpc.as_bytes())?;
    }
    hub.emit(Event::SwarmStarted {
        version: EVENT_VERSION,
        swarm: place.manifest.id(),
        name: place.manifest.name.clone(),
        chain: swarm.as_ref().map(|swarm| chain_info(&place, swarm)),
        group_size: place.manifest.answer.size.into(),
        ticket: ticket.to_string(),
        resumed: place.resumed,
    });
    Ok(Up {
        place,
        swarm,
        ready,
        started,
    })
}

async fn take_part(
    args: &RunArgs,
    up: Up,
    metrics: &metrics::Shared,
    stop: CancellationToken,
) -> Result<()> {
    let Up {
        place,
        swarm,
        ready,
        started,
    } = up;
    let outcomes = run_peers(ready, stop).await?;
    if let Some(path) = &args.report {
        let rows = match &swarm {
            Some(swarm) => standings(swarm).await?,
            None => Vec::new(),
        };
        let reputation = rows
            .into_iter()
            .map(|row| ReputationRow {
                peer: row.peer,
                name: row.name,
                score: f64::from(row.score_ppm) / 1e6,
                rounds: row.rounds,
            })
            .collect();
        let mut report = report(&outcomes, reputation, started);
        metrics::read(metrics, |metrics| {
            report.network = metrics.links();
            report.refused_of_unknown = metrics.refused_of_unknown();
        });
        let json = serde_json::to_vec_pretty(&report).context("encoding the report")?;
        crate::home::write_atomic(path, &json)
            .with_context(|| format!("writing the report to {}", path.display()))?;
    }
    if let Some(devnet) = place.devnet {
        devnet.shutdown().await;
    }
    if let Some((guest, tunnel)) = place.tunnel {
        drop(tunnel);
        guest.close().await;
    }
    Ok(())
}

impl Place {
    fn is_local(&self) -> bool {
        self.network.listen == Reach::Loopback
    }

    /// Where this process's devnet listens, if peers elsewhere are to reach it.
    fn devnet_for_others(&self) -> Option<SocketAddr> {
        let devnet = self.devnet.as_ref().filter(|_| !self.is_local())?;
        Some((Ipv4Addr::LOCALHOST, devnet.port()).into())
    }
}

/// All peers side by side; they go on serving each other until the last one
/// has done its rounds.
async fn run_peers(ready: Vec<peer::Ready>, stop: CancellationToken) -> Result<Vec<Outcome>> {
    let mut left = JoinSet::new();
    let mut running = JoinSet::new();
    let all_done = stop.child_token();
    for peer in ready {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let stop = all_done.clone();
        left.spawn(told);
        // Dropping the sender tells as well.
        running.spawn(peer::run(peer, stop, move || {
            let _ = tell.send(());
        }));
    }
    let watcher = {
        let all_done = all_done.clone();
        tokio::spawn(async move {
            while left.join_next().await.is_some() {}
            all_done.cancel();
        })
    };
    let mut outcomes = Vec::new();
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        match ended
            .context("a peer's task failed")
            .and_then(|outcome| outcome)
        {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                // One peer's disk or thread is everybody's in one process.
                all_done.cancel();
                failure.get_or_insert(error);
            }
        }
    }
    watcher.abort();
    match failure {
        Some(error) => Err(error),
        None => {
            outcomes.sort_by_key(|outcome| outcome.id);
            Ok(outcomes)
        }
    }
}

/// The environments of this home; what cannot be used is said.
fn environments(store: &Store, hub: &Hub) -> Result<Arc<Registry>> {
    let (registry, left_out) = store.registry()?;
    for why in left_out {
        hub.log(LogLevel::Warn, "environments", why);
    }
    Ok(Arc::new(registry))
}

/// What a swarm's packages consist of, for whoever joins without them.
fn served(manifest: &Manifest, store: &Store) -> Result<Arc<Vec<Vec<u8>>>> {
    let named: BTreeSet<_> = manifest
        .curriculum
        .iter()
        .map(|course| course.env)
        .collect();
    let mut bodies = Vec::new();
    for env in named {
        bodies.extend(store.bodies(env)?);
    }
    Ok(Arc::new(bodies))
}

async fn place(args: &RunArgs, home: &Home, hub: &Hub) -> Result<Place> {
    let store = Store::of(home.path());
    let kept = Network::kept(home)?;
    let ticket = match &args.join {
        Some(source) => {
            let tell = |text: String| hub.log(LogLevel::Info, "join", text);
            let registry = environments(&store, hub)?;
            Some(join::find(source, args, &registry, &tell).await?)
        }
        None => join::kept(home)?,
    };
    if let Some(ticket) = ticket {
        let network = match kept {
            Some(kept) if args.join.is_none() => kept,
            _ => Network::for_peers(&ticket.peers),
        };
        let network = network.with(&args.net);
        let (swarm, named) =
            Manifest::named_in(&ticket.manifest).context("the ticket's manifest")?;
        let fetched = packages::fetch_missing(&store, &named, &network, swarm.0, &ticket.peers)
            .await
            .context("getting the swarm's environments from its peers")?;
        for id in fetched {
            let id = id.to_hex();
            let text = format!("environment {id} came from a peer; its golden vectors hold");
            hub.log(LogLevel::Info, "environments", text);
        }
        let registry = environments(&store, hub)?;
        let manifest = Manifest::from_canonical(&ticket.manifest, &registry)
            .context("the ticket's manifest")?;
        let mut tunnel = None;
        let rpc = args.rpc.as_ref().or(ticket.rpc.as_ref());
        let profile = match (&manifest.chain, rpc) {
            (Some(chain), Some(rpc)) => Some(completed(
                profile_of(chain, rpc.clone(), args.chain_id),
                args,
            )),
            (Some(chain), None) if chain.chain_id == DEVNET_CHAIN => {
                let guest = Guest::bind(&network.guest(swarm.0)).await;
                let guest = guest.context("opening the network")?;
                let way = guest.tunnel(&ticket.peers).await;
                let way = way.context("opening the way to the swarm's devnet")?;
                let profile = profile_of(chain, way.url(), args.chain_id);
                hub.log(
                    LogLevel::Info,
                    "join",
                    "the swarm settles on a peer's devnet, reached through it",
                );
                tunnel = Some((guest, way));
                Some(profile)
            }
            (Some(_), None) => {
                bail!("this swarm settles on a chain; name its JSON-RPC with --rpc and --chain-id")
            }
            (None, _) => None,
        };
        let resumed = bind(home, &manifest, &registry)?;
        let packages = served(&manifest, &store)?;
        join::keep(home, &ticket)?;
        network.keep(home)?;
        return Ok(Place {
            manifest,
            registry,
            packages,
            devnet: None,
            profile,
            tunnel,
            network,
            bootstrap: ticket.peers,
            joined: true,
            resumed,
        });
    }
    let network = kept.unwrap_or_else(|| Network::of(Reach::Loopback));
    let network = network.with(&args.net);

    let log = home.path().join("devnet/devnet.log");
    let devnet_is_new = args.rpc.is_none() && !log.metadata().is_ok_and(|log| log.len() > 0);
    let (devnet, profile) = match (&args.rpc, args.chain_id) {
        (Some(rpc), Some(chain_id)) => (None, completed(ChainProfile::new(rpc, chain_id), args)),
        _ => {
            let devnet = Devnet::start(DevnetConfig {
                home: home.path().join("devnet"),
                port: args.rpc_port.unwrap_or(0),
                chain_id: DEVNET_CHAIN,
                prefund: Vec::new(),
                seed: args.seed,
            })
            .await
            .context("starting the embedded devnet")?;
            if let Some(torn) = devnet.torn_tail() {
                hub.log(
                    LogLevel::Warn,
                    "devnet",
                    format!(
                        "{} bytes at the end of the log were torn; they are kept in {}",
                        torn.bytes,
                        torn.kept_in.display()
                    ),
                );
            }
            let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
            (Some(devnet), profile)
        }
    };
    let registry = environments(&store, hub)?;
    let kept = kept_manifest(home, &registry)?;
    if let Some(kept) = &kept {
        same_contracts(kept, &profile, home)?;
    }
    let mut manifest = match (&args.manifest, kept) {
        (None, Some(kept)) => kept,
        (path, _) => manifest_from(path.as_deref(), &registry)?,
    };
    made_here(&mut manifest, &profile, home, args.seed)?;
    let resumed = bind(home, &manifest, &registry)?;
    let packages = served(&manifest, &store)?;
    if resumed && devnet_is_new {
        hub.log(
            LogLevel::Warn,
            "devnet",
            "the devnet's log is gone from this home: the ledger and its reputations begin anew",
        );
    }
    Ok(Place {
        manifest,
        registry,
        packages,
        devnet,
        profile: Some(profile),
        tunnel: None,
        network,
        bootstrap: Vec::new(),
        joined: false,
        resumed,
    })
}

/// The manifest of a swarm to be made: of a file, or else the local profile.
///
/// # Errors
/// The file can't be read, or holds none.
pub(crate) fn manifest_from(path: Option<&Path>, registry: &Registry) -> Result<Manifest> {
    let Some(path) = path else {
        return Manifest::from_toml(LOCAL_PROFILE, registry).context("the local profile");
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Manifest::from_toml(&text, registry).with_context(|| path.display().to_string())
}

/// Says in a manifest what the file leaves to whoever makes the swarm: the chain it settles
/// on, with this version's contracts, and who its author is, by the key that may change the
/// curriculum and the account that is the author on chain. That is as the home's swarm has
/// it, whatever became of the keys since; in a new one, who made it.
///
/// # Errors
/// The home can't be read or written.
pub(crate) fn made_here(
    manifest: &mut Manifest,
    profile: &ChainProfile,
    home: &Home,
    seed: Option<u64>,
) -> Result<()> {
    let mut account = manifest.chain.and_then(|chain| chain.author);
    if manifest.author.is_none() {
        let kept = home.manifest()?;
        let kept = kept.and_then(|kept| Manifest::outline(&kept).ok());
        let known = kept.and_then(|kept| Some((kept.author?, kept.chain?.author?)));
        let (key, of_key) = match known {
            Some(known) => known,
            None => {
                keys_are_safe(&wallet::author_access()?, profile.chain_id)?;
                curriculum::author(home.path(), seed)?
            }
        };
        manifest.author = Some(key);
        account = account.or(Some(of_key));
    }
    let (registry, ledger) = contracts_of(profile);
    manifest.chain = Some(swarm_core::manifest::Chain {
        chain_id: profile.chain_id,
        registry,
        ledger,
        author: account,
        sealed: manifest.seals_cards(),
    });
    Ok(())
}

/// The contracts of a swarm that is made on a chain: registry and ledger.
fn contracts_of(profile: &ChainProfile) -> (Address, Address) {
    let own = rollup::Addresses::deterministic();
    let registry = profile.registry.unwrap_or(own.registry);
    let ledger = profile.ledger.unwrap_or(own.ledger);
    (Address(registry.into_array()), Address(ledger.into_array()))
}

/// Refuses keys in the clear where they are worth something.
fn keys_are_safe(access: &Access, chain_id: u64) -> Result<()> {
    if chain_id != DEVNET_CHAIN && matches!(access, Access::Plain) {
        bail!(
            "on a chain with fees no key may lie on the disk in the clear: put a passphrase \
             into the environment as MURMUR_PASSPHRASE, or give a MURMUR_MNEMONIC"
        );
    }
    Ok(())
}

/// Refuses a swarm whose contracts are another version's: its rounds would go on elsewhere.
fn same_contracts(kept: &Manifest, profile: &ChainProfile, home: &Home) -> Result<()> {
    let (_, ledger) = contracts_of(profile);
    match kept.chain {
        Some(chain) if chain.chain_id == profile.chain_id && chain.ledger != ledger => bail!(
            "the swarm in {} settles on the contracts of another version of murmur (ledger {}, \
             this version's is {}): go on with that version, name its contracts with --chain \
             FILE, or begin anew in another folder with --home",
            home.path().display(),
            rollup::checksummed(chain.ledger.0),
            rollup::checksummed(ledger.0)
        ),
        _ => Ok(()),
    }
}

/// Binds the home to the swarm; true if it was bound to it before.
fn bind(home: &Home, manifest: &Manifest, registry: &Registry) -> Result<bool> {
    kept_manifest(home, registry)?;
    home.keep_manifest(&manifest.canonical())
}

/// The manifest of the swarm that the home belongs to, if it does to one.
fn kept_manifest(home: &Home, registry: &Registry) -> Result<Option<Manifest>> {
    let Some(kept) = home.manifest()? else {
        return Ok(None);
    };
    let manifest = Manifest::from_canonical(&kept, registry);
    manifest.map(Some).with_context(|| {
        format!(
            "{} is damaged, or of another version; restore it, or remove it to have it written \
             anew",
            home.path().join("swarm.bin").display()
        )
    })
}

fn profile_of(
    chain: &swarm_core::manifest::Chain,
    rpc: String,
    chain_id: Option<u64>,
) -> ChainProfile {
    ChainProfile {
        registry: Some(chain.registry.0.into()),
        ledger: Some(chain.ledger.0.into()),
        ..ChainProfile::new(rpc, chain_id.unwrap_or(chain.chain_id))
    }
}

/// A profile with what a `--chain` file says beside; what the manifest says comes first.
fn completed(profile: ChainProfile, args: &RunArgs) -> ChainProfile {
    match &args.profile {
        None => profile,
        Some(named) => ChainProfile {
            rpc: profile.rpc,
            chain_id: profile.chain_id,
            registry: profile.registry.or(named.registry),
            swarms: profile.swarms.or(named.swarms),
            ledger: profile.ledger.or(named.ledger),
            ..named.clone()
        },
    }
}

/// The terms on chain: rounds are counted there, not clocked, and the author is the
/// manifest's.
pub fn terms(manifest: &Manifest) -> Terms {
    let author = manifest.chain.and_then(|chain| chain.author);
    Terms {
        author: author.unwrap_or_default().0,
        seal_cards: manifest.seals_cards(),
        ..Terms::LOCAL
    }
}

fn chain_info(place: &Place, swarm: &Swarm) -> ChainInfo {
    let ledger = swarm.ledger();
    ChainInfo {
        chain_id: ledger.chain_id(),
        rpc: place
            .profile
            .as_ref()
            .map(|profile| without_secrets(&profile.rpc))
            .unwrap_or_default(),
        devnet: ledger.chain_id() == DEVNET_CHAIN,
        ledger: Address(ledger.addresses().ledger.into_array()),
    }
}

/// A URL as it may be shown: keys hide in user names, paths and queries.
pub(crate) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// Whether a URL may go into a ticket; whoever joins names another with `--rpc`.
pub(crate) fn holds_no_secret(url: &str) -> bool {
    url.trim_end_matches('/') == without_secrets(url)
}

/// The keys of this process's peers. With a passphrase each takes most of a second.
async fn identities(
    args: &RunArgs,
    peers: u16,
    home: &Home,
    place: &Place,
) -> Result<Vec<(PathBuf, Identity)>> {
    let chain = place.profile.as_ref().map(|profile| profile.chain_id);
    let mut folders = Vec::new();
    for index in 0..peers {
        let access = wallet::access(index, peers)?;
        keys_are_safe(&access, chain.unwrap_or(DEVNET_CHAIN))?;
        folders.push((index, home.peer(index)?, access));
    }
    let seed = args.seed;
    let opened = tokio::task::spawn_blocking(move || {
        let open = |(index, folder, access): (u16, PathBuf, Access)| {
            let make =
                || seed.map_or_else(Identity::random, |seed| Identity::from_seed(seed, index));
            let identity = Identity::open(&folder, &access, make)?;
            Ok((folder, identity))
        };
        folders.into_iter().map(open).collect()
    });
    opened.await.context("opening the keys")?
}

/// The account that deploys and, on a chain with fees, funds the peers.
fn payer(args: &RunArgs, home: &Home, place: &Place) -> Result<PrivateKeySigner> {
    if let Ok(text) = std::env::var(PAYER_VARIABLE) {
        return text
            .trim()
            .parse()
            .ok()
            .with_context(|| format!("{PAYER_VARIABLE} must hold a private key of 64 hex digits"));
    }
    if place.joined {
        // The ledger is there, and only read.
        return Ok(PrivateKeySigner::random());
    }
    if args.rpc.is_some() && place.devnet.is_none() {
        bail!(
            "a chain that is not the devnet has fees: put the private key of a funded account \
             into the environment as {PAYER_VARIABLE}; it deploys the contracts where they are \
             missing and funds this process's peers"
        );
    }
    let make = || {
        args.seed
            .map_or_else(Identity::random, |seed| Identity::from_seed(seed, u16::MAX))
    };
    let identity = Identity::open(home.path(), &wallet::own_access()?, make)?;
    Ok(identity.signer().clone())
}

async fn swarm_on_chain(
    args: &RunArgs,
    home: &Home,
    place: &Place,
    profile: &ChainProfile,
) -> Result<Swarm> {
    let payer = payer(args, home, place)?;
    let unreachable = || format!("reaching the ledger at {}", without_secrets(&profile.rpc));
    let id = place.manifest.id().0;
    if place.joined {
        let ledger = Ledger::connect(profile, payer).await;
        return ledger
            .with_context(unreachable)?
            .find_swarm(id, terms(&place.manifest))
            .await
            .context("finding the swarm on chain");
    }
    fund_on_devnet(profile, payer.address().into_array()).await?;
    let ledger = Ledger::deploy(profile, payer).await;
    ledger
        .with_context(unreachable)?
        .create_swarm(id, terms(&place.manifest))
        .await
        .context("recording the swarm on chain")
}

/// A devnet gives funds to whoever asks; other chains have no such call.
pub(crate) async fn fund_on_devnet(profile: &ChainProfile, account: [u8; 20]) -> Result<()> {
    if profile.chain_id == DEVNET_CHAIN {
        rollup::devnet::request_funds(&profile.rpc, account)
            .await
            .context("asking the devnet for funds")?;
    }
    Ok(())
}

/// What the peers of a process have in common.
struct Shared<'a> {
    args: &'a RunArgs,
    /// How many there are.
    peers: u16,
    minds: &'a Minds,
    model: &'a Model,
    /// Bytes for each peer, if the machine says how many there are.
    memory: Option<u64>,
    place: &'a Place,
    /// Pays for peers on a chain with fees, where the user named an account.
    payer: Option<&'a Ledger>,
    registry: &'a Arc<Registry>,
    local: BTreeSet<PeerId>,
    local_addresses: BTreeSet<Address>,
    /// Grows with every peer that is up.
    bootstrap: Vec<PeerAddr>,
    has_screen: bool,
    transcripts: Transcripts,
    store: Store,
    amendments: Amendments,
    hub: &'a Hub,
}

async fn setup(
    shared: &Shared<'_>,
    folder: &Path,
    identity: &Identity,
    index: u16,
) -> Result<Setup> {
    let Shared {
        args, place, hub, ..
    } = shared;
    let iroh_secret = identity.iroh_secret();
    let key = SigningKey::from_bytes(&iroh_secret);
    let id = identity.peer_id();
    let name = id.nickname();
    let signer = identity.signer().clone();
    let address = identity.address();
    let (chain, plea) = match &place.profile {
        Some(profile) => {
            fund(profile, shared.payer, address).await?;
            let ledger = Ledger::connect(profile, signer)
                .await
                .context("reaching the ledger")?;
            let swarm = ledger
                .find_swarm(place.manifest.id().0, terms(&place.manifest))
                .await
                .context("finding the swarm on chain")?;
            let chain = Chain::new(swarm, place.manifest.seals_cards());
            let plea = chain.join(&key, &name, now_ms() / 1000).await?;
            if plea.is_some() {
                let text = "no funds on this chain: asking peers to register this one; it takes \
                            part, and leaves transactions to others";
                hub.for_peer(id).log(LogLevel::Warn, "chain", text);
            }
            (Some(chain), plea)
        }
        None => (None, None),
    };
    let (mind, grpo, is_small) = mind_of(shared, folder, index)?;
    Ok(Setup {
        index,
        folder: folder.to_owned(),
        name,
        iroh_secret,
        address,
        chain,
        plea,
        local: shared.local.clone(),
        local_addresses: shared.local_addresses.clone(),
        manifest: place.manifest.clone(),
        registry: Arc::clone(shared.registry),
        packages: Arc::clone(&place.packages),
        store: shared.store.clone(),
        amendments: shared.amendments.clone(),
        grpo,
        // What costs a small model a few hundredths of a round.
        probe: is_small,
        mind,
        network: place.network.clone(),
        bootstrap: shared.bootstrap.clone(),
        devnet: place.devnet_for_others(),
        // With a ticket at least one stranger, who was there first.
        expect: (shared.peers - 1).max(u16::from(place.joined)),
        rounds: args.rounds,
        eval: EvalPlan::of(&place.manifest, args.eval_items, shared.model),
        eval_every: if shared.has_screen {
            SCREEN_EVAL_EVERY
        } else {
            0
        },
        transcripts: shared.transcripts.clone(),
        hub: hub.for_peer(id),
    })
}

/// The peer's account needs gas: from the devnet, or from the payer.
async fn fund(profile: &ChainProfile, payer: Option<&Ledger>, account: Address) -> Result<()> {
    if profile.chain_id == DEVNET_CHAIN {
        return fund_on_devnet(profile, account.0).await;
    }
    if let Some(payer) = payer {
        payer
            .top_up(account.0)
            .await
            .context("funding a peer's account from the payer's")?;
    }
    Ok(())
}

/// What answers and learns in a peer, how it is trained, and whether it is quick
/// enough to be asked a few things more after every round.
fn mind_of(
    shared: &Shared<'_>,
    folder: &Path,
    index: u16,
) -> Result<(Box<dyn Mind>, GrpoSettings, bool)> {
    if let Minds::Other(make) = shared.minds {
        return Ok((make(), GrpoSettings::default(), false));
    }
    let Shared { args, hub, .. } = shared;
    let mut policy = policy_of(folder, shared.model, shared.peers, hub)?;
    let device = policy::best_device(policy.decoder().config().parameters())
        .and_then(|device| policy.move_to(&device));
    device.context("this build trains on a GPU; one without --features cuda or metal does not")?;
    let seed = args.seed.unwrap_or_default() ^ u64::from(index);
    if let Some(notice) = args.training.apply(&mut policy, shared.memory, seed)? {
        hub.log(LogLevel::Warn, "training", notice);
    }
    let grpo = args.training.settings(&mut policy)?;
    let is_small = model::is_small(&policy);
    Ok((Box::new(Trained::new(policy)), grpo, is_small))
}

/// The newest checkpoint, or the model that peers start from.
fn policy_of(folder: &Path, model: &Model, peers: u16, hub: &Hub) -> Result<Policy> {
    let mut policy = resumed(folder, model, hub)?.map_or_else(|| model.load(), Ok)?;
    if !model::is_small(&policy) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        policy.set_sample_limits(SampleLimits {
            threads: (cores / usize::from(peers)).max(1),
            ..Default::default()
        });
    }
    Ok(policy)
}

fn resumed(folder: &Path, model: &Model, hub: &Hub) -> Result<Option<Policy>> {
    let checkpoint: PathBuf = folder.join("checkpoint");
    if checkpoint.exists() {
        let resumed = model.resume(&checkpoint).with_context(|| {
            format!(
                "{} can't be read; name its model with --model if that has moved, or move the \
                 checkpoint away to start this peer anew",
                checkpoint.display()
            )
        })?;
        for rejected in &resumed.rejected {
            hub.log(
                LogLevel::Warn,
                "checkpoint",
                format!("{rejected}; an older one is used"),
            );
        }
        return Ok(Some(resumed.policy));
    }
    Ok(None)
}

fn report(outcomes: &[Outcome], reputation: Vec<ReputationRow>, started: Instant) -> Report {
    let mut by_peer = BTreeMap::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut time_s: BTreeMap<String, f64> = BTreeMap::new();
    let mut held_out: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for outcome in outcomes {
        before.extend(outcome.before.clone());
        after.extend(outcome.after.clone());
        by_peer.insert(
            outcome.name.clone(),
            BeforeAfter {
                before: outcome.before.clone(),
                after: outcome.after.clone(),
            },
        );
        for (what, seconds) in &outcome.time_s {
            *time_s.entry(what.clone()).or_default() += seconds;
        }
        for (round, share) in &outcome.held_out {
            let (sum, peers) = held_out.entry(*round).or_insert((0.0, 0.0));
            *sum += share;
            *peers += 1.0;
        }
    }
    let opened = outcomes
        .iter()
        .filter_map(|outcome| outcome.first_round)
        .min();
    Report {
        rounds: outcomes
            .first()
            .map(|outcome| outcome.rounds.clone())
            .unwrap_or_default(),
        held_out: held_out
            .into_iter()
            .map(|(round, (sum, peers))| (round, sum / peers))
            .collect(),
        curriculum: outcomes
            .first()
            .map(|outcome| outcome.asked.clone())
            .unwrap_or_default(),
        reputation,
        eval: BeforeAfter {
            before: mean(&before),
            after: mean(&after),
        },
        eval_by_peer: by_peer,
        skipped_updates: outcomes.iter().map(|outcome| outcome.skipped_updates).sum(),
        time_s,
        network: Vec::new(),
        refused_of_unknown: BTreeMap::new(),
        first_round_s: opened.map_or(0.0, |at| (at - started).as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::{holds_no_secret, without_secrets};

    #[test]
    fn a_url_is_shown_without_what_may_be_a_key() {
        let shown = without_secrets("https://me:key@rpc.example.org:8545/v2/secret?k=1");
        assert_eq!(shown, "https://rpc.example.org:8545");
        assert!(holds_no_secret("http://127.0.0.1:8545/"));
        assert!(!holds_no_secret("https://rpc.example.org/v2/key"));
        assert!(!holds_no_secret("https://key@rpc.example.org"));
    }
}
