//! Who a peer is: an iroh key that signs every message, and an Ethereum key
//! that owns the reputation.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use swarm_core::ids::PeerId;

use crate::home;

/// The two secrets of a peer, as `identity.json` holds them (mode 0600).
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// ed25519 secret key, hex.
    iroh: String,
    /// secp256k1 secret key, hex.
    ethereum: String,
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
            iroh: hex::encode(rand::random::<[u8; 32]>()),
            ethereum: ethereum_from(rand::random),
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
        let mut attempt = 0;
        Self {
            iroh: hex::encode(derive("iroh", 0)),
            ethereum: ethereum_from(|| {
                attempt += 1;
                derive("ethereum", attempt)
            }),
        }
    }

    /// Read the keys in `folder`, or make and keep new ones.
    ///
    /// # Errors
    /// The file can't be read, written or parsed; the error names it. A
    /// damaged file is never replaced: the keys in it own a reputation.
    pub fn open(folder: &Path, make: impl FnOnce() -> Self) -> Result<Self> {
        let path = folder.join("identity.json");
        match home::read_small(&path, home::SMALL) {
            Ok(bytes) => {
                let identity: Self = serde_json::from_slice(&bytes).with_context(|| {
                    format!("{} is damaged; restore it from a backup, or move it away to start as a new peer", path.display())
                })?;
                identity
                    .iroh_secret()
                    .and_then(|_| identity.ethereum_secret())
                    .with_context(|| {
                        format!("{} does not hold two 32-byte hex keys", path.display())
                    })?;
                Ok(identity)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = make();
                let json = serde_json::to_vec_pretty(&identity).context("encoding keys")?;
                home::write_secret(&path, &json)
                    .with_context(|| format!("writing {}", path.display()))?;
                Ok(identity)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The ed25519 secret.
    ///
    /// # Errors
    /// It is not 32 bytes of hex.
    pub fn iroh_secret(&self) -> Result<[u8; 32]> {
        secret(&self.iroh).context("the iroh key")
    }

    /// The secp256k1 secret.
    ///
    /// # Errors
    /// It is not 32 bytes of hex.
    pub fn ethereum_secret(&self) -> Result<[u8; 32]> {
        secret(&self.ethereum).context("the Ethereum key")
    }

    /// The public name.
    ///
    /// # Errors
    /// The secret is not 32 bytes of hex.
    pub fn peer_id(&self) -> Result<PeerId> {
        let secret = iroh::SecretKey::from_bytes(&self.iroh_secret()?);
        Ok(PeerId(*secret.public().as_bytes()))
    }
}

fn secret(text: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).context("must be 64 hex digits")?;
    Ok(bytes)
}

/// A number below the order of secp256k1 and above zero; nearly every draw is.
fn ethereum_from(mut draw: impl FnMut() -> [u8; 32]) -> String {
    loop {
        let bytes = draw();
        // The order begins with 32 one bits; anything below that is safe.
        if bytes[..4] != [0xff; 4] && bytes != [0; 32] {
            return hex::encode(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_keys_and_an_index_another() {
        let id = |seed, index| Identity::from_seed(seed, index).peer_id().unwrap();
        assert_eq!(id(7, 0), id(7, 0));
        assert_ne!(id(7, 0), id(7, 1));
        assert_ne!(id(7, 0), id(8, 0));
    }

    #[test]
    fn keys_are_kept_and_a_damaged_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::open(folder.path(), Identity::random).unwrap();
        let again = Identity::open(folder.path(), Identity::random).unwrap();
        assert_eq!(first.peer_id().unwrap(), again.peer_id().unwrap());
        let path = folder.path().join("identity.json");
        std::fs::write(&path, b"{").unwrap();
        let error = Identity::open(folder.path(), Identity::random).unwrap_err();
        assert!(
            error.to_string().contains("identity.json is damaged"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let identity = Identity::random();
        assert!(!format!("{identity:?}").contains(&identity.iroh));
    }
}
