//! `murmur wallet`: which keys there are, where they are, what they hold; back-up, restore
//! and rotation, each in one command.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rollup::{Keystore, U256, checksummed, signer_of_phrase};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::curriculum::AUTHOR;
use crate::home::{self, Home};
use crate::identity::{self, Access, Identity, Sealed};
use crate::rep::args::Place;
use crate::rep::render::Table;
use crate::rep::source::Source;

/// A private key, for one peer.
const KEY: &str = "MURMUR_KEY";
/// A BIP-39 phrase: peer n has the key at m/44'/60'/0'/0/n.
const MNEMONIC: &str = "MURMUR_MNEMONIC";
/// A version 3 keystore elsewhere, for one peer.
const KEYSTORE: &str = "MURMUR_KEYSTORE";
/// What encrypts the keys of a home.
const PASSPHRASE: &str = "MURMUR_PASSPHRASE";
/// A file that holds it.
const PASSPHRASE_FILE: &str = "MURMUR_PASSPHRASE_FILE";

/// Larger than any back-up of sixteen peers.
const BACKUP_LIMIT: u64 = 256 * 1024;

/// `murmur wallet`.
#[derive(Debug, Args)]
pub struct WalletArgs {
    /// What to do; show the keys when left out.
    #[command(subcommand)]
    pub command: Option<WalletCommand>,
    /// The home whose keys they are
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum WalletCommand {
    /// Write every key of the home into one encrypted file (MURMUR_PASSPHRASE)
    Backup {
        /// The file to write
        file: PathBuf,
    },
    /// Put the keys of a back-up into a home that has none
    Restore {
        /// The file to read
        file: PathBuf,
    },
    /// Give a peer a new iroh key; its account, name and reputation stay. The next
    /// start puts it into its record
    Rotate {
        /// Which of the home's peers
        #[arg(long, default_value_t = 0)]
        peer: u16,
    },
}

/// Every key of a home, encrypted: the keystores as they are, and what they seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    murmuration_backup: u32,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The folder below the home: `.` or `peers/3`.
    place: String,
    /// The version 3 keystore; none where the key is given at each start.
    keystore: Option<Value>,
    identity: Sealed,
}

/// How the keys of a peer come in, by what the environment says.
///
/// # Errors
/// It says something that is no key, or one key for several peers.
pub fn access(index: u16, peers: u16) -> Result<Access> {
    let one = |name: &str| match peers {
        1 => Ok(()),
        _ => bail!("{name} holds one key, for --peers 1; for several give a {MNEMONIC}"),
    };
    if let Ok(text) = std::env::var(KEY) {
        one(KEY)?;
        let parsed = text.trim().parse().ok();
        let key = parsed.with_context(|| format!("{KEY} must hold 64 hex digits"))?;
        return Ok(Access::Given(key));
    }
    if let Ok(phrase) = std::env::var(MNEMONIC) {
        let signer = signer_of_phrase(phrase.trim(), u32::from(index));
        return Ok(Access::Given(signer.with_context(|| {
            format!("{MNEMONIC} must hold a BIP-39 phrase of 12 to 24 English words")
        })?));
    }
    let passphrase = passphrase()?;
    if let Some(path) = std::env::var_os(KEYSTORE) {
        one(KEYSTORE)?;
        let key = Keystore::at(PathBuf::from(&path)).load(passphrase.as_deref())?;
        let missing = || format!("{KEYSTORE} names no file: {}", Path::new(&path).display());
        return Ok(Access::Given(key.with_context(missing)?));
    }
    Ok(passphrase.map_or(Access::Plain, Access::Passphrase))
}

/// How the keys of the account that deploys come in: from the home alone.
///
/// # Errors
/// The passphrase's file can't be read.
pub fn own_access() -> Result<Access> {
    Ok(passphrase()?.map_or(Access::Plain, Access::Passphrase))
}

/// Which key of a mnemonic or a seed is the author's: far from any peer's.
pub(crate) const AUTHOR_KEY: u16 = u16::MAX - 1;

/// How the keys of a swarm's author come in: as a peer's do, so that none lies in the clear
/// where the peers' do not. A single key is also the author's.
///
/// # Errors
/// The environment says something that is no key.
pub fn author_access() -> Result<Access> {
    access(AUTHOR_KEY, 1)
}

fn passphrase() -> Result<Option<String>> {
    if let Ok(text) = std::env::var(PASSPHRASE) {
        return Ok(Some(text));
    }
    let Some(path) = std::env::var_os(PASSPHRASE_FILE) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{PASSPHRASE_FILE} names {}", Path::new(&path).display()))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Runs one of the commands; what it prints.
///
/// # Errors
/// There are no keys, or they can't be read or written.
pub async fn run(args: &WalletArgs) -> Result<String> {
    match &args.command {
        None => show(args).await,
        Some(WalletCommand::Backup { file }) => backup(args, file),
        Some(WalletCommand::Restore { file }) => restore(args, file),
        Some(WalletCommand::Rotate { peer }) => rotate(args, *peer),
    }
}

fn existing(args: &WalletArgs) -> Result<Home> {
    let home = Home::existing(args.home.as_deref())?;
    home.context("no swarm has run here yet, so there are no keys; start one with `murmur`")
}

/// The folders of a home that may hold keys: that of the account that deploys, and the
/// peers'.
fn folders(home: &Home) -> Result<Vec<(String, PathBuf)>> {
    let mut all = vec![(".".to_owned(), home.path().to_owned())];
    let author = home.path().join(AUTHOR);
    if author.exists() {
        all.push((AUTHOR.to_owned(), author));
    }
    for folder in home.peers()? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        all.push((format!("peers/{name}"), folder));
    }
    Ok(all)
}

async fn show(args: &WalletArgs) -> Result<String> {
    let home = existing(args)?;
    let place = Place {
        home: args.home.clone(),
        ..Place::default()
    };
    // Keys are shown whether or not their chain can be asked.
    let source = Source::open(&place).await;
    let mut rows = Vec::new();
    for (name, folder) in folders(&home)? {
        let Some(known) = identity::known(&folder)? else {
            continue;
        };
        let (balance, agent) = match &source {
            Ok(source) => (
                source.swarm.ledger().balance(known.address.0).await.ok(),
                agent_of(source, known.address.0).await,
            ),
            Err(_) => (None, None),
        };
        rows.push(json!({
            "place": name,
            "name": known.iroh_id.nickname(),
            "address": checksummed(known.address.0),
            "iroh_id": known.iroh_id,
            "balance_wei": balance.map(|wei| wei.to_string()),
            "balance": balance.map(ether),
            "agent": agent,
            "kept": known.kept,
            "file": known.file,
        }));
    }
    let chain = match &source {
        Ok(source) => json!({
            "id": source.swarm.ledger().chain_id(),
            "rpc": crate::process::without_secrets(&source.rpc),
            "devnet": source.swarm.ledger().chain_id() == crate::process::DEVNET_CHAIN,
        }),
        Err(error) => json!({ "unknown": format!("{error:#}") }),
    };
    if let Ok(source) = source {
        source.close().await;
    }
    if args.json {
        let document = json!({ "home": home.path(), "chain": chain, "keys": rows });
        return Ok(serde_json::to_string_pretty(&document).context("encoding")? + "\n");
    }
    let mut table = Table::new(&[
        "keys of",
        "name",
        "address",
        ">balance",
        ">agent",
        "Ethereum key",
    ]);
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    for row in &rows {
        let of = match text(&row["place"]).as_str() {
            "." => "the home (deploys, funds)".to_owned(),
            place => place.to_owned(),
        };
        let balance = text(&row["balance"]);
        let (kept, address) = (text(&row["kept"]), text(&row["address"]));
        let agent = text(&row["agent"]);
        table.row(vec![of, text(&row["name"]), address, balance, agent, kept]);
    }
    let mut shown = table.text();
    let _ = match chain["id"].as_u64() {
        Some(id) if chain["devnet"] == true => write!(
            shown,
            "\nchain {id}, the devnet: play money; keys in the clear are protected by the file's \
             mode alone\n"
        ),
        Some(id) => write!(shown, "\nchain {id} at {}\n", text(&chain["rpc"])),
        None => write!(
            shown,
            "\nbalances are not known: {}\n",
            text(&chain["unknown"])
        ),
    };
    let _ = writeln!(
        shown,
        "home {}; `murmur wallet backup FILE` keeps all of it in one encrypted file",
        home.path().display()
    );
    Ok(shown)
}

/// Which ERC-8004 agent an account is, where the chain has any.
async fn agent_of(source: &Source, account: [u8; 20]) -> Option<String> {
    let agents = source.swarm.ledger().agents().await.ok()??;
    let agent = agents.agent_of(account).await.ok()??;
    Some(agent.to_string())
}

/// Wei as ether, to six digits.
pub(crate) fn ether(wei: U256) -> String {
    let micro = wei / U256::from(1_000_000_000_000_u64);
    let million = U256::from(1_000_000);
    format!("{}.{:06}", micro / million, (micro % million).to::<u64>())
}

fn backup(args: &WalletArgs, file: &Path) -> Result<String> {
    let home = existing(args)?;
    let mut keys = Vec::new();
    for (place, folder) in folders(&home)? {
        let Some(known) = identity::known(&folder)? else {
            continue;
        };
        let (identity, keystore) = match known.file {
            // Encrypted already: nothing needs to be opened.
            Some(path) if path == identity::keystore_path(&folder) => {
                (identity::sealed(&folder)?, Some(read_json(&path)?))
            }
            Some(_) => {
                let identity = Identity::open(&folder, &Access::Plain, Identity::random)?;
                let passphrase = passphrase()?.with_context(|| {
                    format!(
                        "the keys of this home are in the clear: choose a passphrase for the \
                         back-up, and put it into the environment as {PASSPHRASE}"
                    )
                })?;
                let keystore = Keystore::encrypted(identity.signer(), &passphrase)?;
                let keystore = serde_json::from_str(&keystore).context("encoding the keystore")?;
                (identity.sealed(), Some(keystore))
            }
            None => (identity::sealed(&folder)?, None),
        };
        keys.push(Entry {
            place,
            keystore,
            identity,
        });
    }
    let count = keys.len();
    let elsewhere = keys.iter().filter(|key| key.keystore.is_none()).count();
    let backup = Backup {
        murmuration_backup: 1,
        keys,
    };
    let json = serde_json::to_vec_pretty(&backup).context("encoding the back-up")?;
    home::write_secret(file, &json).with_context(|| format!("writing {}", file.display()))?;
    let mut told = format!(
        "{count} identities are in {}, encrypted; `murmur wallet restore` puts them back\n",
        file.display()
    );
    if elsewhere > 0 {
        let _ = writeln!(
            told,
            "NOT in it: {elsewhere} Ethereum keys that are given at each start; keep their \
             mnemonic or keystore too"
        );
    }
    Ok(told)
}

fn restore(args: &WalletArgs, file: &Path) -> Result<String> {
    let found = std::fs::metadata(file).with_context(|| format!("reading {}", file.display()))?;
    if found.len() > BACKUP_LIMIT {
        bail!("{} is no back-up: it is too large", file.display());
    }
    let backup: Backup = serde_json::from_value(read_json(file)?)
        .ok()
        .with_context(|| format!("{} is no back-up of this version", file.display()))?;
    // Held to the end: no process may make keys meanwhile.
    let home = Home::open(args.home.as_deref())?;
    for entry in &backup.keys {
        let peer = entry.place.strip_prefix("peers/");
        let folder = match (entry.place.as_str(), peer.map(str::parse::<u16>)) {
            (".", _) => home.path().to_owned(),
            (AUTHOR, _) => {
                let folder = home.path().join(AUTHOR);
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("making {}", folder.display()))?;
                folder
            }
            (_, Some(Ok(index))) => home.peer(index)?,
            _ => bail!("{} names a folder that no home has", file.display()),
        };
        entry.identity.restore(&folder)?;
        if let Some(keystore) = &entry.keystore {
            let path = identity::keystore_path(&folder);
            let json = serde_json::to_vec_pretty(keystore).context("encoding the keystore")?;
            home::write_secret(&path, &json)
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(format!(
        "{} identities are in {}; they open with the back-up's passphrase ({PASSPHRASE})\n",
        backup.keys.len(),
        home.path().display()
    ))
}

fn rotate(args: &WalletArgs, peer: u16) -> Result<String> {
    existing(args)?;
    // A running peer would go on with the old key.
    let home = Home::open(args.home.as_deref())?;
    let folder = home.path().join("peers").join(peer.to_string());
    let before = identity::known(&folder)?;
    let before =
        before.with_context(|| format!("peer {peer} has no keys in {}", home.path().display()))?;
    let after = Identity::rotate(&folder, &access(peer, 1)?)?;
    Ok(format!(
        "peer {peer}, {}: iroh id {} is now {} ({}); the next start registers it\n",
        checksummed(after.address().0),
        before.iroh_id.to_hex(),
        after.peer_id().to_hex(),
        after.peer_id().nickname(),
    ))
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    // What does not parse may hold a key: the message must not repeat it.
    let parsed = serde_json::from_slice(&bytes).ok();
    parsed.with_context(|| format!("{} is not JSON", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(home: &Path) -> WalletArgs {
        WalletArgs {
            command: None,
            home: Some(home.to_owned()),
            json: false,
        }
    }

    #[test]
    fn what_was_backed_up_is_restored_into_an_empty_home_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let access = Access::Passphrase("a long passphrase".to_owned());
        let home = Home::open(Some(&from)).unwrap();
        let made = |folder: &Path| Identity::open(folder, &access, Identity::random).unwrap();
        let kept = [made(home.path()), made(&home.peer(3).unwrap())];
        drop(home);
        let file = folder.path().join("keys.json");
        backup(&args(&from), &file).unwrap();
        restore(&args(&to), &file).unwrap();
        let back = [made(&to), made(&to.join("peers/3"))];
        assert_eq!(
            kept.map(|one| (one.address(), one.peer_id())),
            back.map(|one| (one.address(), one.peer_id()))
        );
        let again = restore(&args(&to), &file).unwrap_err().to_string();
        assert!(again.contains("holds keys already"), "{again}");
        std::fs::write(&file, b"{\"secret\":1}").unwrap();
        let error = format!("{:#}", restore(&args(&to), &file).unwrap_err());
        assert!(
            error.contains("no back-up") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn wei_are_shown_as_ether() {
        assert_eq!(ether(U256::from(1_234_567_890_000_000_000_u64)), "1.234567");
        assert_eq!(ether(U256::ZERO), "0.000000");
    }
}
