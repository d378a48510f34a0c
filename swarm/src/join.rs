//! `murmur join`: from whatever names a swarm to a ticket.
//!
//! | what is given | what it lacks | who is asked |
//! | --- | --- | --- |
//! | a ticket (`murmur1…`) | nothing | nobody |
//! | an invite (`murmur2…`) | the manifest | the peers it names |
//! | a manifest: a file or URL | peers | members' keys on the ledger, the LAN |
//! | `chain:SWARM-ID` | manifest and peers | members' keys on the ledger, the LAN |
//!
//! A file or URL may hold a ticket or an invite as well. A manifest must hash to
//! the id that was asked for, whoever sent it. What a stranger says of a chain's
//! address is not believed: only a devnet, which nobody but its owner vouches
//! for anyway, is reached through peers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rollup::{ChainProfile, Ledger, PrivateKeySigner, Terms};
use swarm_core::manifest::{Chain, Manifest};
use tasks::Registry;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::cli::RunArgs;
use crate::home::{self, Home};
use crate::net::{Finder, Guest, MAX_SKEW, PeerAddr};
use crate::process::{DEVNET_CHAIN, terms};
use crate::reach::Network;
use crate::ticket::{Invite, PREFIX, SHORT_PREFIX, Ticket};

/// What the home was joined by.
const FILE: &str = "joined.txt";
/// A manifest is a page of text; a ticket half as much again.
const MAX_DOCUMENT: u64 = 64 * 1024;
/// How long a server may take to send one.
const DOWNLOAD_PATIENCE: Duration = Duration::from_secs(20);
/// How long to look for somebody of the swarm.
const SEARCH_PATIENCE: Duration = Duration::from_secs(60);
/// Members of a swarm that are asked, the best known first.
const MAX_MEMBERS: usize = 32;
/// Swarms of one manifest whose members are asked, the oldest.
const MAX_NAMESAKES: usize = 4;
/// Questions under way at once.
const MAX_ASKED: usize = 8;

/// What a swarm was named by.
enum Named {
    Ticket(Ticket),
    Invite(Invite),
    /// A manifest in canonical bytes.
    Manifest(Vec<u8>),
}

/// The ticket that the home was joined by, if it was.
///
/// # Errors
/// It can't be read.
pub fn kept(home: &Home) -> Result<Option<Ticket>> {
    let Some(bytes) = home.read(FILE)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let ticket = text.parse().with_context(|| {
        let file = home.path().join(FILE);
        format!("{} is damaged; join again with a ticket", file.display())
    })?;
    Ok(Some(ticket))
}

/// Whether a home's swarm is one that it joined.
///
/// # Errors
/// It can't be read.
pub fn has_joined(home: Option<&Path>) -> Result<bool> {
    let home = Home::existing(home)?;
    Ok(home
        .map(|home| home.read(FILE))
        .transpose()?
        .flatten()
        .is_some())
}

/// Keeps the ticket that the home was joined by.
///
/// # Errors
/// The disk refuses.
pub fn keep(home: &Home, ticket: &Ticket) -> Result<()> {
    home.write(FILE, ticket.to_string().as_bytes())
}

/// A ticket to the swarm that `source` names; `tell` says what goes on.
///
/// # Errors
/// It names nothing, or nobody of the swarm can be found: the text says what
/// was tried.
pub async fn find(
    source: &str,
    args: &RunArgs,
    registry: &Registry,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Ticket> {
    let source = source.trim();
    if let Some(id) = source.strip_prefix("chain:") {
        let profile = profile(args, None).context(
            "a swarm on a chain is looked up there: name the chain with --rpc and --chain-id",
        )?;
        let (swarm, members) = on_chain(&profile, parse_id(id)?, None).await?;
        let (count, shown) = (members.len(), hex::encode(&swarm[..4]));
        tell(format!(
            "swarm {shown}… is on the chain, with {count} members"
        ));
        let network = Network::for_peers(&[]).with(&args.net);
        return seek(swarm, members, &network, tell).await;
    }
    match named(source, registry).await? {
        Named::Ticket(ticket) => Ok(ticket),
        Named::Invite(invite) => {
            let network = Network::for_peers(&invite.peers).with(&args.net);
            seek(invite.swarm, invite.peers, &network, tell).await
        }
        Named::Manifest(bytes) => {
            let manifest = Manifest::outline(&bytes).context("the manifest")?;
            let network = Network::for_peers(&[]).with(&args.net);
            let mut members = Vec::new();
            if let Some(profile) = profile(args, manifest.chain)
                && network.finds_by(Finder::Chain)
            {
                let terms = Some(terms(&manifest));
                members = on_chain(&profile, manifest.id().0, terms).await?.1;
                tell(format!("{} members on the chain", members.len()));
            }
            seek(manifest.id().0, members, &network, tell).await
        }
    }
}

/// The chain that the command line names, with a manifest's contracts.
fn profile(args: &RunArgs, chain: Option<Chain>) -> Option<ChainProfile> {
    let rpc = args.rpc.as_ref()?;
    let chain_id = args.chain_id.or(chain.map(|chain| chain.chain_id))?;
    let named = args.profile.clone();
    let mut profile = named.unwrap_or_else(|| ChainProfile::new(rpc, chain_id));
    if let Some(chain) = chain {
        profile.registry = Some(chain.registry.0.into());
        profile.ledger = Some(chain.ledger.0.into());
    }
    Some(profile)
}

fn parse_id(text: &str) -> Result<[u8; 32]> {
    let digits = text.trim().trim_start_matches("0x");
    let mut id = [0; 32];
    hex::decode_to_slice(digits, &mut id)
        .ok()
        .context("a swarm's id is 64 hex digits, after \"chain:\"")?;
    Ok(id)
}

/// A swarm's manifest hash and its members' keys. The id may be the manifest's
/// hash, as `murmur` shows it, or the ledger's own, as an explorer does; with its terms, it
/// is the hash.
async fn on_chain(
    profile: &ChainProfile,
    id: [u8; 32],
    terms: Option<Terms>,
) -> Result<([u8; 32], Vec<PeerAddr>)> {
    let unknown = || format!("no swarm {} on this chain", hex::encode(id));
    let ledger = Ledger::connect(profile, PrivateKeySigner::random())
        .await
        .context("reaching the ledger")?;
    let (manifest, swarms) = match terms {
        Some(terms) => (
            id,
            vec![ledger.find_swarm(id, terms).await.with_context(unknown)?],
        ),
        None => match ledger.swarm(id).first_manifest().await {
            Ok(manifest) => (manifest, vec![ledger.swarm(id)]),
            Err(_) => {
                let all = ledger.swarms_of(id, profile.deploy_block).await;
                let all = all.context("looking for swarms")?;
                if all.is_empty() {
                    bail!(unknown());
                }
                // Anybody can record a manifest on other terms than its own. Whoever is
                // asked must show the manifest, so members of a false one do no harm.
                let oldest = all.iter().take(MAX_NAMESAKES);
                (id, oldest.map(|swarm| ledger.swarm(swarm.id)).collect())
            }
        },
    };
    let mut keys = BTreeSet::new();
    for swarm in swarms {
        let standings = swarm.reputations().await;
        let standings = standings.context("reading the swarm's members")?;
        let active = standings.iter().filter(|member| member.active);
        keys.extend(
            active
                .filter_map(|member| member.iroh_key)
                .take(MAX_MEMBERS),
        );
    }
    Ok((manifest, keys.into_iter().map(PeerAddr::of).collect()))
}

async fn named(source: &str, registry: &Registry) -> Result<Named> {
    let lower = source.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        let bytes = download(source)
            .await
            .with_context(|| format!("getting {}", crate::process::without_secrets(source)))?;
        return document(&bytes, registry).context("what came from that URL");
    }
    let looks_like_a_ticket = lower.starts_with("murmur") && !source.contains(['.', '/']);
    if !looks_like_a_ticket {
        let path = Path::new(source);
        return match home::read_small(path, MAX_DOCUMENT) {
            Ok(bytes) => document(&bytes, registry).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{:?} is not a ticket (one begins with {PREFIX:?}), nor a file here, nor a URL, \
                 nor chain:SWARM-ID",
                source.chars().take(60).collect::<String>()
            ),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        };
    }
    document(source.as_bytes(), registry).context("reading the ticket")
}

/// What a text or file is: a ticket, an invite, a manifest of either form.
fn document(bytes: &[u8], registry: &Registry) -> Result<Named> {
    if Manifest::named_in(bytes).is_ok() {
        return Ok(Named::Manifest(bytes.to_vec()));
    }
    let text = std::str::from_utf8(bytes)
        .ok()
        .context("it is no ticket and no manifest")?
        .trim();
    let start = text.get(..PREFIX.len()).unwrap_or(text);
    if start.eq_ignore_ascii_case(SHORT_PREFIX) {
        return Ok(Named::Invite(Invite::decode(text)?));
    }
    let is_one_word = !text.contains('=');
    if is_one_word {
        return Ok(Named::Ticket(text.parse()?));
    }
    let manifest = Manifest::draft(text, registry).context("it is read as a manifest")?;
    Ok(Named::Manifest(manifest.canonical()))
}

/// At most a page or two, from a server that may be anybody's.
async fn download(url: &str) -> Result<Vec<u8>> {
    let client = http_client(url, DOWNLOAD_PATIENCE)?;
    // An error's own text repeats the URL, and a URL may hold a key.
    let response = client.get(url).send().await;
    let response = response.and_then(reqwest::Response::error_for_status);
    at_most(response.map_err(|error| error.without_url())?).await
}

/// A client for one URL, with this much patience.
pub(crate) fn http_client(url: &str, patience: Duration) -> Result<reqwest::Client> {
    // Without one, reqwest panics. Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .timeout(patience)
        .redirect(reqwest::redirect::Policy::limited(4));
    if url.starts_with("http://") {
        // A bare machine has no certificates, and needs none for this.
        client = client.tls_certs_only([]);
    }
    client.build().context("no http client")
}

/// The body, which is a page or two, or an error.
pub(crate) async fn at_most(mut response: reqwest::Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MAX_DOCUMENT {
            bail!("it is longer than {MAX_DOCUMENT} bytes: neither a manifest nor a ticket");
        }
    }
    Ok(bytes)
}

/// Asks these peers, and whoever shows up on the LAN, for a ticket.
async fn seek(
    swarm: [u8; 32],
    peers: Vec<PeerAddr>,
    network: &Network,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Ticket> {
    let guest = Guest::bind(&network.guest(swarm)).await;
    let mut guest = guest.context("opening the network")?;
    if let Some(why) = &guest.blind {
        tell(format!("nobody on the LAN can be looked for: {why}"));
    }
    let found = ask_all(&mut guest, swarm, peers, network, tell).await;
    guest.close().await;
    found
}

async fn ask_all(
    guest: &mut Guest,
    swarm: [u8; 32],
    peers: Vec<PeerAddr>,
    network: &Network,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Ticket> {
    let deadline = Instant::now() + SEARCH_PATIENCE;
    let looks_near = network.finds_by(Finder::Mdns) && guest.blind.is_none();
    let mut known: BTreeSet<[u8; 32]> = peers.iter().map(|peer| peer.id).collect();
    let mut waiting = peers;
    let mut asked = JoinSet::new();
    let mut refusals = Vec::new();
    if looks_near {
        tell("looking for somebody of this swarm on the LAN".to_owned());
    }
    loop {
        while asked.len() < MAX_ASKED
            && let Some(peer) = waiting.pop()
        {
            let asker = guest.asker();
            asked.spawn(async move { (peer.id, asker.ticket(&peer, &swarm).await) });
        }
        if asked.is_empty() && !looks_near {
            break;
        }
        let next = async {
            tokio::select! {
                Some(answer) = asked.join_next() => Some(answer),
                peer = guest.nearby(), if looks_near => {
                    if known.len() < 2 * MAX_MEMBERS && known.insert(peer.id) {
                        waiting.push(peer);
                    }
                    None
                }
            }
        };
        match timeout_at(deadline, next).await {
            Err(_) => break,
            Ok(Some(Ok((peer, answer)))) => {
                let who = hex::encode(&peer[..4]);
                let ticket = answer.map_err(anyhow::Error::from).and_then(|answer| {
                    let skew = Duration::from_millis(answer.clock_offset_ms.unsigned_abs());
                    if skew > MAX_SKEW {
                        let offset = answer.clock_offset_ms;
                        tell(format!(
                            "this machine's clock is {offset:+} ms from {who}…'s: set it, or \
                                 rounds that follow the clock will be missed"
                        ));
                    }
                    believed(&answer.ticket, swarm)
                });
                match ticket {
                    Ok(ticket) => {
                        tell(format!("{who}… gave a ticket"));
                        return Ok(ticket);
                    }
                    Err(error) => refusals.push(format!("{who}…: {error:#}")),
                }
            }
            Ok(_) => {}
        }
    }
    let tried: Vec<_> = network.find.iter().map(ToString::to_string).collect();
    let heard = match refusals.len() {
        0 => "nobody of it is known".to_owned(),
        _ => refusals.join("; "),
    };
    bail!(
        "nobody of the swarm gave a ticket (looked by: {}): {heard}. Ask somebody who is in it \
         for a ticket (ticket.txt in its home), or see what works from here: murmur doctor",
        tried.join(", ")
    )
}

/// What a stranger's ticket is worth: its manifest is the one asked for, its
/// peers are tried, and a chain's address it may only give of a devnet.
fn believed(text: &str, swarm: [u8; 32]) -> Result<Ticket> {
    let mut ticket: Ticket = text.parse()?;
    let manifest = Manifest::outline(&ticket.manifest)?;
    if manifest.id().0 != swarm {
        bail!("the ticket is to another swarm");
    }
    if manifest
        .chain
        .is_some_and(|chain| chain.chain_id != DEVNET_CHAIN)
    {
        ticket.rpc = None;
    }
    Ok(ticket)
}
