//! Where an Ethereum key is kept.
//!
//! With a passphrase: an encrypted JSON keystore (version 3, what other wallets read),
//! its passphrase stretched by scrypt at n = 262144. A keystore or a plain file that is
//! weaker is encrypted anew when it is opened with a passphrase. Without one: a plain
//! file that only its owner can read, good for a devnet's play money and nothing else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes::Aes128;
use alloy::primitives::{B256, keccak256};
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use serde_json::{Value, json};

/// scrypt's cost, as a power of two: 262144, a quarter of a gigabyte and most of a
/// second for each guess.
const LOG_COST: u8 = 18;
/// The highest cost a keystore may ask of us: one gigabyte.
const LOG_COST_LIMIT: u8 = 20;
const BLOCK_SIZE: u32 = 8;
const PARALLEL: u32 = 1;

const PLAIN_HEADER: &str = "# An Ethereum private key, not encrypted: for a devnet only.\n\
    # Give a passphrase to encrypt it before it owns anything.\n";

/// Why a key could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// Reading or writing failed.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is encrypted.
    #[error("key file {path} is encrypted: give its passphrase")]
    NeedsPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not fit.
    #[error("key file {path}: wrong passphrase, or the file is damaged")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase protects nothing.
    #[error("choose a passphrase of at least {MINIMUM} characters", MINIMUM = PASSPHRASE_MINIMUM)]
    WeakPassphrase,
    /// The file is neither a keystore nor a plain key.
    #[error("key file {path}: {what}; restore it from a copy, or move it away to make a new key")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Fewest characters of a new passphrase.
const PASSPHRASE_MINIMUM: usize = 8;

/// A file that holds one key.
#[derive(Clone, Debug)]
pub struct Keystore {
    path: PathBuf,
}

impl Keystore {
    /// Names the file; nothing is read or made yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the key, or makes a new one if there is no file. With a passphrase the file
    /// is strongly encrypted afterwards, whatever it was before.
    ///
    /// Takes most of a second with a passphrase: not for an async task.
    pub fn load_or_create(
        &self,
        passphrase: Option<&str>,
    ) -> Result<PrivateKeySigner, KeystoreError> {
        match self.load(passphrase)? {
            Some(signer) => Ok(signer),
            None => {
                let signer = PrivateKeySigner::random();
                self.keep(&signer, passphrase)?;
                Ok(signer)
            }
        }
    }

    /// Reads the key, or nothing if there is no file. As slow, and as strict about what
    /// is weakly encrypted, as [`Keystore::load_or_create`].
    pub fn load(
        &self,
        passphrase: Option<&str>,
    ) -> Result<Option<PrivateKeySigner>, KeystoreError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => self.decode(&text, passphrase).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    /// A key as an encrypted keystore's text, for a file of the caller's.
    pub fn encrypted(signer: &PrivateKeySigner, passphrase: &str) -> Result<String, KeystoreError> {
        match passphrase.chars().count() < PASSPHRASE_MINIMUM {
            true => Err(KeystoreError::WeakPassphrase),
            false => Ok(encrypt(signer, passphrase)),
        }
    }

    /// Writes a key, in place of what was there.
    pub fn keep(
        &self,
        signer: &PrivateKeySigner,
        passphrase: Option<&str>,
    ) -> Result<(), KeystoreError> {
        let text = match passphrase {
            Some(passphrase) => Self::encrypted(signer, passphrase)?,
            None => format!("{PLAIN_HEADER}{}\n", hex::encode(signer.to_bytes())),
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        }
        write_private(&self.path, text.as_bytes()).map_err(|error| self.io(error))
    }

    fn decode(
        &self,
        text: &str,
        passphrase: Option<&str>,
    ) -> Result<PrivateKeySigner, KeystoreError> {
        if !text.trim_start().starts_with('{') {
            let signer = self.parse_plain(text)?;
            match passphrase {
                Some(_) => self.keep(&signer, passphrase)?,
                None => self.close_to_others()?,
            }
            return Ok(signer);
        }
        let log_cost = scrypt_cost(text).map_err(|what| self.unreadable(what))?;
        let Some(passphrase) = passphrase else {
            return Err(KeystoreError::NeedsPassphrase {
                path: self.path.clone(),
            });
        };
        let signer = PrivateKeySigner::decrypt_keystore(&self.path, passphrase).map_err(|_| {
            KeystoreError::WrongPassphrase {
                path: self.path.clone(),
            }
        })?;
        if log_cost.is_none_or(|log_cost| log_cost < LOG_COST) {
            // It opened, so whatever its length, it is this keystore's passphrase.
            write_private(&self.path, encrypt(&signer, passphrase).as_bytes())
                .map_err(|error| self.io(error))?;
        }
        Ok(signer)
    }

    fn parse_plain(&self, text: &str) -> Result<PrivateKeySigner, KeystoreError> {
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(key), None) = (lines.next(), lines.next()) else {
            return Err(self.unreadable("not one key on a line of its own"));
        };
        // Neither the key nor anything of it may end up in a message.
        let key: B256 = key
            .parse()
            .map_err(|_| self.unreadable("not 64 hex digits"))?;
        PrivateKeySigner::from_bytes(&key).map_err(|_| self.unreadable("no such key"))
    }

    /// Takes others' right to read the file, if a copy or a backup gave it to them.
    fn close_to_others(&self) -> Result<(), KeystoreError> {
        let mode = fs::metadata(&self.path)
            .map_err(|error| self.io(error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %self.path.display(), "key file was readable by others");
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))
                .map_err(|error| self.io(error))?;
        }
        Ok(())
    }

    fn io(&self, source: std::io::Error) -> KeystoreError {
        KeystoreError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn unreadable(&self, what: impl Into<String>) -> KeystoreError {
        KeystoreError::Unreadable {
            path: self.path.clone(),
            what: what.into(),
        }
    }
}

/// The power of two of a keystore's scrypt cost, `None` if it uses something else. Also
/// checks what the decryption takes for granted.
fn scrypt_cost(text: &str) -> Result<Option<u8>, String> {
    let keystore: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let crypto = keystore.get("crypto").ok_or("not a version 3 keystore")?;
    let params = &crypto["kdfparams"];
    let iv = crypto["cipherparams"]["iv"].as_str().unwrap_or_default();
    if keystore["version"] != 3
        || crypto["cipher"] != "aes-128-ctr"
        || params["dklen"] != 32
        || hex::decode(iv).map_or(0, |iv| iv.len()) != 16
    {
        return Err("not a version 3 keystore with aes-128-ctr".to_owned());
    }
    if crypto["kdf"] != "scrypt" {
        return Ok(None);
    }
    let number = |name: &str| {
        params[name]
            .as_u64()
            .ok_or(format!("kdfparams.{name} is missing"))
    };
    let (n, r, p) = (number("n")?, number("r")?, number("p")?);
    if !n.is_power_of_two()
        || !(2..=1 << LOG_COST_LIMIT).contains(&n)
        || r != 8
        || !(1..=16).contains(&p)
    {
        return Err(format!(
            "scrypt parameters n = {n}, r = {r}, p = {p} are out of bounds"
        ));
    }
    Ok(Some(n.ilog2() as u8))
}

fn encrypt(signer: &PrivateKeySigner, passphrase: &str) -> String {
    let (salt, iv): ([u8; 32], [u8; 16]) = (rand::random(), rand::random());
    let mut key = [0; 32];
    let params = scrypt::Params::new(LOG_COST, BLOCK_SIZE, PARALLEL).expect("constants in range");
    scrypt::scrypt(passphrase.as_bytes(), &salt, &params, &mut key).expect("a key of 32 bytes");
    let mut ciphertext = signer.to_bytes().0;
    let mut cipher =
        Ctr128BE::<Aes128>::new_from_slices(&key[..16], &iv).expect("lengths are constants");
    cipher.apply_keystream(&mut ciphertext);
    let mac = keccak256([&key[16..32], &ciphertext].concat());
    let mut id: [u8; 16] = rand::random();
    // Version 4, variant 1: a random UUID.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let id = hex::encode(id);
    let keystore = json!({
        "address": hex::encode(signer.address()),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": hex::encode(iv) },
            "ciphertext": hex::encode(ciphertext),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32,
                "n": 1 << LOG_COST,
                "r": BLOCK_SIZE,
                "p": PARALLEL,
                "salt": hex::encode(salt),
            },
            "mac": hex::encode(mac),
        },
        "id": format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]),
        "version": 3,
    });
    format!("{keystore:#}\n")
}

/// The n-th key of a BIP-39 phrase, at Ethereum's path m/44'/60'/0'/0/n; `None` if the
/// phrase is none.
pub fn signer_of_phrase(phrase: &str, index: u32) -> Option<PrivateKeySigner> {
    MnemonicBuilder::english()
        .phrase(phrase)
        .index(index)
        .ok()?
        .build()
        .ok()
}

/// Writes a file beside, readable by its owner alone from the first byte on, and puts it
/// in place whole.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    // One left by a crash may have other permissions.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    crate::devnet::sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_devnet_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/eth.key");
        let made = Keystore::at(&path).load_or_create(None).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let read = Keystore::at(&path).load_or_create(None).unwrap();
        assert_eq!(made.address(), read.address());
        assert_eq!(mode(&path), 0o600);
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("# An Ethereum private key")
        );
    }

    #[test]
    fn a_passphrase_encrypts_a_plain_key_in_place_and_is_needed_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eth.key");
        let keystore = Keystore::at(&path);
        let made = keystore.load_or_create(None).unwrap();
        assert!(matches!(
            keystore.load_or_create(Some("short")),
            Err(KeystoreError::WeakPassphrase)
        ));
        keystore.load_or_create(Some("a long passphrase")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode(made.to_bytes())));
        assert_eq!((scrypt_cost(&text), mode(&path)), (Ok(Some(18)), 0o600));
        assert!(matches!(
            keystore.load_or_create(None),
            Err(KeystoreError::NeedsPassphrase { .. })
        ));
        let wrong = keystore.load_or_create(Some("another passphrase"));
        assert!(matches!(wrong, Err(KeystoreError::WrongPassphrase { .. })));
        let read = keystore.load_or_create(Some("a long passphrase")).unwrap();
        assert_eq!(made.address(), read.address());
    }

    // Account 0 and 1 of the phrase that anvil and hardhat fund; everyone knows it.
    #[test]
    fn a_phrase_gives_the_keys_that_other_wallets_give() {
        let phrase = "test test test test test test test test test test test junk";
        let address = |index| {
            signer_of_phrase(phrase, index)
                .unwrap()
                .address()
                .to_string()
        };
        assert_eq!(address(0), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        assert_eq!(address(1), "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
        assert!(signer_of_phrase("test test test", 0).is_none());
    }

    // The key, salt and vector of the Web3 Secret Storage Definition's test, at n = 1024;
    // made with Python's hashlib.scrypt and `openssl enc -aes-128-ctr`.
    #[test]
    fn a_weak_keystore_of_another_program_is_read_and_strengthened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eth.key");
        fs::write(&path, WEAK).unwrap();
        let keystore = Keystore::at(&path);
        let read = keystore.load_or_create(Some("testpassword")).unwrap();
        let expected = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        assert_eq!(hex::encode(read.to_bytes()), expected);
        let strengthened = fs::read_to_string(&path).unwrap();
        assert_eq!(scrypt_cost(&strengthened), Ok(Some(18)));
        let again = keystore.load_or_create(Some("testpassword")).unwrap();
        assert_eq!(again.address(), read.address());
    }

    const WEAK: &str = include_str!("../tests/data/weak-keystore.json");

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eth.key");
        for text in [
            "",
            "secret",
            "{}",
            "{\"version\":3,\"crypto\":{}}",
            &"0".repeat(64),
        ] {
            fs::write(&path, text).unwrap();
            let error = Keystore::at(&path)
                .load_or_create(Some("testpassword"))
                .unwrap_err();
            assert!(
                matches!(error, KeystoreError::Unreadable { .. }),
                "{text}: {error}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
