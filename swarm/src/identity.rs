//! Who a peer is: an iroh key that signs every message, and an Ethereum key
//! that owns the reputation.
//!
//! | where the Ethereum key is | what the folder holds |
//! | --- | --- |
//! | in the clear (a devnet) | `identity.json`: both keys, readable by their owner alone |
//! | encrypted, with a passphrase | `ethereum.json`, a version 3 keystore that any wallet reads; `identity.json`: the iroh key, sealed by the Ethereum key |
//! | given: a key, a mnemonic, a keystore elsewhere | `identity.json`: the iroh key, sealed |
//!
//! On the devnet a key needs no ceremony: it owns play money and a reputation that only
//! this machine vouches for, and who can read it can as well rewrite the devnet's log
//! beside it. The file's mode protects both. On any other chain keys are encrypted, or
//! not on the disk at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rollup::{Keystore, PrivateKeySigner, checksummed};
use serde::{Deserialize, Serialize};
use swarm_core::ids::{Address, PeerId};

use crate::home;

/// The two secrets of a peer.
#[derive(Clone)]
pub struct Identity {
    iroh: [u8; 32],
    ethereum: PrivateKeySigner,
}

/// How a peer's Ethereum key comes into the process.
#[derive(Clone, Default)]
pub enum Access {
    /// From the folder, in the clear.
    #[default]
    Plain,
    /// From the folder's keystore. What is in the clear is encrypted.
    Passphrase(String),
    /// From outside: it is not written to the disk.
    Given(PrivateKeySigner),
}

/// `identity.json`: both keys in the clear, or one sealed by the other.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Plain(Plain),
    Sealed(Sealed),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    /// ed25519 secret key, hex.
    iroh: String,
    /// secp256k1 secret key, hex.
    ethereum: String,
}

/// An iroh key that only the owner of the Ethereum key can open.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Whose.
    pub address: Address,
    /// Its public half.
    pub iroh_id: PeerId,
    /// Its secret half, hidden.
    pub iroh_sealed: String,
}

/// What a folder tells without any secret.
pub struct Known {
    /// The account.
    pub address: Address,
    /// The iroh id.
    pub iroh_id: PeerId,
    /// Where the Ethereum key is.
    pub kept: &'static str,
    /// The file that holds it, if one does.
    pub file: Option<PathBuf>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(secret)")
    }
}

impl Identity {
    /// Fresh keys from the operating system.
    pub fn random() -> Self {
        Self {
            iroh: rand::random(),
            ethereum: PrivateKeySigner::random(),
        }
    }

    /// The keys of an experiment: whoever knows the seed knows them.
    pub fn from_seed(seed: u64, index: u16) -> Self {
        let derive = |kind: &str, attempt: u64| -> [u8; 32] {
            let mut hasher = blake3::Hasher::new_derive_key("murmuration experiment identity v1");
            hasher.update(&seed.to_le_bytes());
            hasher.update(&index.to_le_bytes());
            hasher.update(&attempt.to_le_bytes());
            hasher.update(kind.as_bytes());
            *hasher.finalize().as_bytes()
        };
        // All but one in 2^128 numbers are a key.
        let ethereum = (1..)
            .find_map(|attempt| {
                let secret = derive("ethereum", attempt);
                PrivateKeySigner::from_slice(&secret).ok()
            })
            .expect("some number is a key");
        Self {
            iroh: derive("iroh", 0),
            ethereum,
        }
    }

    /// Read the keys in `folder`, or make and keep new ones. With a passphrase they are
    /// encrypted afterwards, whatever they were before. Takes most of a second then.
    ///
    /// # Errors
    /// A file can't be read, written or parsed, or the passphrase or key does not fit;
    /// the error names it. A damaged file is never replaced: the keys in it own a
    /// reputation.
    pub fn open(folder: &Path, access: &Access, make: impl FnOnce() -> Self) -> Result<Self> {
        let path = folder.join("identity.json");
        let keystore = Keystore::at(keystore_path(folder));
        match (read(&path)?, access) {
            (None, Access::Plain) => {
                let made = make();
                write(&path, &Kept::Plain(made.plain()))?;
                Ok(made)
            }
            (None, Access::Passphrase(_)) => {
                let made = make();
                made.keep(folder, access)?;
                Ok(made)
            }
            (None, Access::Given(ethereum)) => {
                let made = Self {
                    iroh: make().iroh,
                    ethereum: ethereum.clone(),
                };
                made.keep(folder, access)?;
                Ok(made)
            }
            (Some(Kept::Plain(plain)), access) => {
                let kept = Self::from_plain(&plain).with_context(|| {
                    format!("{} does not hold two 32-byte hex keys", path.display())
                })?;
                match access {
                    Access::Plain => {}
                    Access::Passphrase(_) => kept.keep(folder, access)?,
                    Access::Given(given) => same(&path, &kept.ethereum, given)?,
                }
                Ok(kept)
            }
            (Some(Kept::Sealed(sealed)), access) => {
                let ethereum = match access {
                    Access::Given(given) => given.clone(),
                    Access::Passphrase(passphrase) => keystore
                        .load(Some(passphrase))?
                        .with_context(|| given_elsewhere(folder))?,
                    Access::Plain => {
                        let kept = keystore.load(None);
                        kept.context(NEEDS_PASSPHRASE)?
                            .with_context(|| given_elsewhere(folder))?
                    }
                };
                sealed
                    .open(ethereum)
                    .with_context(|| format!("{}", path.display()))
            }
        }
    }

    /// Writes the keys so that the disk alone does not tell them.
    fn keep(&self, folder: &Path, access: &Access) -> Result<()> {
        // The keystore first: without it what it seals is lost.
        if let Access::Passphrase(passphrase) = access {
            Keystore::at(keystore_path(folder)).keep(&self.ethereum, Some(passphrase))?;
        }
        let path = folder.join("identity.json");
        write(&path, &Kept::Sealed(self.sealed()))
    }

    /// Puts a fresh iroh key in the place of the folder's; the Ethereum key, and with it
    /// the reputation, stays. The next start registers it.
    ///
    /// # Errors
    /// As [`Identity::open`]; and there must be keys to rotate.
    pub fn rotate(folder: &Path, access: &Access) -> Result<Self> {
        if read(&folder.join("identity.json"))?.is_none() {
            bail!("{} holds no keys yet", folder.display());
        }
        let rotated = Self {
            iroh: rand::random(),
            ..Self::open(folder, access, Self::random)?
        };
        match access {
            Access::Plain => write(&folder.join("identity.json"), &Kept::Plain(rotated.plain()))?,
            _ => rotated.keep(folder, &Access::Given(rotated.ethereum.clone()))?,
        }
        Ok(rotated)
    }

    /// The keys, sealed: what a backup holds beside the keystore.
    pub fn sealed(&self) -> Sealed {
        let iroh_id = self.peer_id();
        Sealed {
            address: self.address(),
            iroh_id,
            iroh_sealed: hex::encode(mask(&self.ethereum, iroh_id, self.iroh)),
        }
    }

    fn plain(&self) -> Plain {
        Plain {
            iroh: hex::encode(self.iroh),
            ethereum: hex::encode(self.ethereum.to_bytes()),
        }
    }

    fn from_plain(plain: &Plain) -> Result<Self> {
        let ethereum = secret(&plain.ethereum).context("the Ethereum key")?;
        Ok(Self {
            iroh: secret(&plain.iroh).context("the iroh key")?,
            ethereum: PrivateKeySigner::from_slice(&ethereum)
                .context("the Ethereum key is not a secp256k1 key")?,
        })
    }

    /// The ed25519 secret.
    pub fn iroh_secret(&self) -> [u8; 32] {
        self.iroh
    }

    /// The secp256k1 key.
    pub fn signer(&self) -> &PrivateKeySigner {
        &self.ethereum
    }

    /// The account that owns the reputation.
    pub fn address(&self) -> Address {
        Address(self.ethereum.address().into_array())
    }

    /// The public name.
    pub fn peer_id(&self) -> PeerId {
        let secret = iroh::SecretKey::from_bytes(&self.iroh);
        PeerId(*secret.public().as_bytes())
    }
}

const NEEDS_PASSPHRASE: &str = "these keys are encrypted; put their passphrase into the \
    environment as MURMUR_PASSPHRASE, or name a file that holds it as MURMUR_PASSPHRASE_FILE";

fn given_elsewhere(folder: &Path) -> String {
    format!(
        "the Ethereum key of {} is not on this disk: give it again as MURMUR_KEY, \
         MURMUR_MNEMONIC or MURMUR_KEYSTORE, or restore {} from a backup",
        folder.display(),
        keystore_path(folder).display()
    )
}

/// Where a folder's encrypted Ethereum key is.
pub fn keystore_path(folder: &Path) -> PathBuf {
    folder.join("ethereum.json")
}

/// What a folder tells of its keys without any secret; `None` if it has none.
///
/// # Errors
/// A file can't be read or is damaged.
pub fn known(folder: &Path) -> Result<Option<Known>> {
    let path = folder.join("identity.json");
    let keystore = keystore_path(folder);
    Ok(match read(&path)? {
        None => None,
        Some(Kept::Plain(plain)) => {
            let identity = Identity::from_plain(&plain)
                .with_context(|| format!("{} does not hold two keys", path.display()))?;
            Some(Known {
                address: identity.address(),
                iroh_id: identity.peer_id(),
                kept: "in the clear, for a devnet",
                file: Some(path),
            })
        }
        Some(Kept::Sealed(sealed)) => {
            let (kept, file) = match keystore.exists() {
                true => ("encrypted (JSON v3, scrypt)", Some(keystore)),
                false => ("not on this disk: given at each start", None),
            };
            Some(Known {
                address: sealed.address,
                iroh_id: sealed.iroh_id,
                kept,
                file,
            })
        }
    })
}

/// A folder's keys as they are sealed.
///
/// # Errors
/// They are in the clear, missing or damaged.
pub fn sealed(folder: &Path) -> Result<Sealed> {
    match read(&folder.join("identity.json"))? {
        Some(Kept::Sealed(sealed)) => Ok(sealed),
        _ => bail!("the keys in {} are not sealed", folder.display()),
    }
}

impl Sealed {
    /// Opens it with the key that sealed it.
    fn open(&self, ethereum: PrivateKeySigner) -> Result<Identity> {
        let address = ethereum.address().into_array();
        if address != self.address.0 {
            bail!(
                "it belongs to {}, and the key given is that of {}; give the other key, or \
                 choose another home",
                checksummed(self.address.0),
                checksummed(address)
            );
        }
        let sealed = secret(&self.iroh_sealed).context("the sealed iroh key")?;
        let iroh = mask(&ethereum, self.iroh_id, sealed);
        let identity = Identity { iroh, ethereum };
        if identity.peer_id() != self.iroh_id {
            bail!("the sealed iroh key is damaged; restore it from a backup");
        }
        Ok(identity)
    }

    /// Writes it into a folder that has no keys.
    ///
    /// # Errors
    /// There are keys already, or the disk refuses.
    pub fn restore(&self, folder: &Path) -> Result<()> {
        let path = folder.join("identity.json");
        if read(&path)?.is_some() {
            bail!("{} holds keys already; choose another home", path.display());
        }
        write(&path, &Kept::Sealed(self.clone()))
    }
}

/// Hides or shows an iroh secret. Each pair of keys has a pad of its own, a hash that only
/// the Ethereum key's owner can compute, and the public half tells whether it fitted.
fn mask(ethereum: &PrivateKeySigner, iroh_id: PeerId, mut bytes: [u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("murmuration sealed iroh key v1");
    hasher.update(ethereum.to_bytes().as_slice());
    hasher.update(&iroh_id.0);
    for (byte, pad) in bytes.iter_mut().zip(hasher.finalize().as_bytes()) {
        *byte ^= pad;
    }
    bytes
}

fn same(path: &Path, kept: &PrivateKeySigner, given: &PrivateKeySigner) -> Result<()> {
    if kept.address() != given.address() {
        bail!(
            "{} holds the key of {}, and the key given is that of {}; choose another home",
            path.display(),
            kept.address(),
            given.address()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Kept>> {
    match home::read_small(path, home::SMALL) {
        // What does not parse may hold a key: the message must not repeat it.
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(kept) => Ok(Some(kept)),
            Err(_) => bail!(
                "{} is damaged; restore it from a backup, or move it away to start as a new peer",
                path.display()
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn write(path: &Path, kept: &Kept) -> Result<()> {
    let json = serde_json::to_vec_pretty(kept).context("encoding keys")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    home::write_secret(path, &json).with_context(|| format!("writing {}", path.display()))
}

fn secret(text: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).context("must be 64 hex digits")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, access: &Access) -> Result<Identity> {
        Identity::open(folder, access, Identity::random)
    }

    fn passphrase() -> Access {
        Access::Passphrase("a long passphrase".to_owned())
    }

    #[test]
    fn a_seed_gives_the_same_keys_and_an_index_another() {
        let id = |seed, index| Identity::from_seed(seed, index).peer_id();
        assert_eq!(id(7, 0), id(7, 0));
        assert_ne!(id(7, 0), id(7, 1));
        assert_ne!(id(7, 0), id(8, 0));
    }

    #[test]
    fn keys_are_kept_and_a_damaged_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), &Access::Plain).unwrap();
        let again = open(folder.path(), &Access::Plain).unwrap();
        assert_eq!(first.peer_id(), again.peer_id());
        let path = folder.path().join("identity.json");
        for damaged in ["{", "{\"iroh\":\"00ff\"}"] {
            std::fs::write(&path, damaged).unwrap();
            let error = format!("{:#}", open(folder.path(), &Access::Plain).unwrap_err());
            assert!(error.contains("identity.json is damaged"), "{error}");
            assert!(!error.contains("00ff"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_passphrase_leaves_no_secret_on_the_disk_and_is_needed_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let plain = open(folder.path(), &Access::Plain).unwrap();
        let encrypted = open(folder.path(), &passphrase()).unwrap();
        assert_eq!(plain.sealed().iroh_id, encrypted.sealed().iroh_id);
        for name in ["identity.json", "ethereum.json"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            for secret in [
                hex::encode(plain.iroh),
                hex::encode(plain.ethereum.to_bytes()),
            ] {
                assert!(!text.contains(&secret), "{name}");
            }
        }
        let error = format!("{:#}", open(folder.path(), &Access::Plain).unwrap_err());
        assert!(error.contains("MURMUR_PASSPHRASE"), "{error}");
        let wrong = Access::Passphrase("another passphrase".to_owned());
        let error = format!("{:#}", open(folder.path(), &wrong).unwrap_err());
        assert!(error.contains("wrong passphrase"), "{error}");
        let known = known(folder.path()).unwrap().unwrap();
        assert_eq!(
            (known.address, known.iroh_id),
            (plain.address(), plain.peer_id())
        );
        // The same keys again, and after a rotation the same account with another id.
        let again = open(folder.path(), &passphrase()).unwrap();
        assert_eq!(again.iroh, plain.iroh);
        let rotated = Identity::rotate(folder.path(), &passphrase()).unwrap();
        assert_eq!(rotated.address(), plain.address());
        assert_ne!(rotated.peer_id(), plain.peer_id());
        let again = open(folder.path(), &passphrase()).unwrap();
        assert_eq!(again.peer_id(), rotated.peer_id());
    }

    #[test]
    fn a_given_key_is_not_written_and_another_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (PrivateKeySigner::random(), PrivateKeySigner::random());
        let first = open(folder.path(), &Access::Given(one.clone())).unwrap();
        assert_eq!(first.address().0, one.address().into_array());
        assert!(!keystore_path(folder.path()).exists());
        let again = open(folder.path(), &Access::Given(one)).unwrap();
        assert_eq!(again.peer_id(), first.peer_id());
        let refused = open(folder.path(), &Access::Given(other)).unwrap_err();
        assert!(
            format!("{refused:#}").contains("it belongs to 0x"),
            "{refused:#}"
        );
        let missing = open(folder.path(), &Access::Plain).unwrap_err();
        assert!(
            format!("{missing:#}").contains("MURMUR_MNEMONIC"),
            "{missing:#}"
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let identity = Identity::random();
        assert!(!format!("{identity:?}").contains(&hex::encode(identity.iroh)));
    }
}
