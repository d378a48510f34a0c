//! From the hub into its cache, in the layout that Python's tools share.
//!
//! What decides whether a model can be used at all (its configuration) comes
//! first and is checked before gigabytes follow. A download that was cut off
//! goes on where it stopped; weights are compared with the hash the hub names.
//!
//! `HF_ENDPOINT` names another hub, `HF_HOME` another cache, `HF_TOKEN` an
//! account's token.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo};
use policy::{Config, DType, Pretrained};
use sha2::{Digest, Sha256};

use crate::method::TrainingArgs;

/// Set to 1, nothing is asked of the hub.
pub const OFFLINE_VARIABLE: &str = "HF_HUB_OFFLINE";
const TOKEN_VARIABLE: &str = "HF_TOKEN";
const HUB: &str = "https://huggingface.co";
/// How often a broken connection is taken up again at once.
const RETRIES: usize = 3;

const CONFIG: &str = "config.json";
/// Small files: the first two must be there.
const TEXTS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",
];
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Whether a text could be a name on the hub: `owner/name`.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |part: &str| super::is_plain(part);
    text.split_once('/')
        .is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// The folder of a model: from the cache if it is whole there, else from the
/// hub.
///
/// # Errors
/// It is neither in the cache nor to be had; says why, and what to do.
pub(super) fn get(name: &str, offline: bool) -> Result<PathBuf> {
    let cache = Cache::from_env();
    if let Some(folder) = cached(&cache, name)
        && Pretrained::open(&folder).is_ok()
    {
        return Ok(folder);
    }
    if offline || is_offline() {
        bail!(
            "{name} is not whole in the cache {}, and the hub is not asked (--offline, \
             {OFFLINE_VARIABLE} or a home that began with it): run `murmur model pull {name}` \
             with a network, or give a folder or a .gguf file",
            cache.path().display()
        );
    }
    pull(name)
}

fn is_offline() -> bool {
    std::env::var_os(OFFLINE_VARIABLE).is_some_and(|value| value != "0")
}

/// Every model of the cache, by name.
pub(super) fn all_cached() -> Vec<(String, PathBuf)> {
    let cache = Cache::from_env();
    let entries = std::fs::read_dir(cache.path()).into_iter().flatten();
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let folder = entry.file_name().into_string().ok()?;
            let name = folder.strip_prefix("models--")?.replacen("--", "/", 1);
            let path = cached(&cache, &name)?;
            Some((name, path))
        })
        .collect();
    found.sort();
    found
}

fn cached(cache: &Cache, name: &str) -> Option<PathBuf> {
    let config = cache.repo(Repo::model(name.to_owned())).get(CONFIG)?;
    Some(config.parent()?.to_owned())
}

/// Downloads what is not yet in the cache, with a progress bar on a terminal.
///
/// # Errors
/// The hub can't be reached, has no such model or does not give it; or the
/// model is none that can be used here.
pub(super) fn pull(name: &str) -> Result<PathBuf> {
    if is_offline() {
        bail!("{OFFLINE_VARIABLE} is set, so the hub is not asked for {name}: unset it to pull");
    }
    let hub = Hub::open(name)?;
    let listed = hub.list()?;
    let has = |file: &str| listed.iter().any(|listed| listed == file);
    if !has(CONFIG) {
        let gguf: Vec<&String> = listed
            .iter()
            .filter(|file| file.ends_with(".gguf"))
            .collect();
        match gguf.first() {
            None => bail!("{name} has no {CONFIG}: it is no model that can be used here"),
            Some(file) => bail!(
                "{name} has GGUF files and no {CONFIG}: download one of them, {} for one, and \
                 give its path with --model",
                hub.repo.url(file)
            ),
        }
    }
    let config = hub.file(CONFIG)?;
    let json = std::fs::read(&config).with_context(|| format!("reading {}", config.display()))?;
    let parsed = Config::from_json(&json).with_context(|| format!("{name} can't be used"))?;
    let training = TrainingArgs::default();
    // As nearly all of them are published: the least it can take.
    let fits = training.check(&parsed, DType::BF16, 1);
    fits.with_context(|| format!("{name} is not downloaded"))?;
    for file in TEXTS.into_iter().filter(|file| has(file)) {
        hub.file(file)?;
    }
    for file in weights(&hub, &listed)? {
        let path = hub.file(&file)?;
        verify(&path)?;
    }
    let folder = config.parent().context("a file is in a folder")?.to_owned();
    Pretrained::open(&folder).with_context(|| format!("{name} can't be used"))?;
    Ok(folder)
}

/// The files that hold the weights.
fn weights(hub: &Hub, listed: &[String]) -> Result<Vec<String>> {
    let has = |file: &str| listed.iter().any(|listed| listed == file);
    if has(WHOLE) {
        return Ok(vec![WHOLE.to_owned()]);
    }
    if !has(INDEX) {
        bail!(
            "{} has no safetensors: weights in other formats can run code when read and are not \
             supported",
            hub.name
        );
    }
    let index = hub.file(INDEX)?;
    let json = std::fs::read(&index).with_context(|| format!("reading {}", index.display()))?;
    let json: serde_json::Value =
        serde_json::from_slice(&json).with_context(|| format!("reading {}", index.display()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let mut files: Vec<String> = map
        .into_iter()
        .flatten()
        .filter_map(|(_, file)| file.as_str().map(str::to_owned))
        .collect();
    files.sort();
    files.dedup();
    match files
        .iter()
        .find(|file| !has(file) || !super::is_plain(file))
    {
        None => Ok(files),
        Some(file) => bail!("{}: {INDEX} names {file:?}, which is not there", hub.name),
    }
}

/// Large files are stored under their SHA-256: one that has another hash is
/// torn or not what the hub says it is, and is removed.
fn verify(path: &Path) -> Result<()> {
    let blob = path
        .canonicalize()
        .with_context(|| format!("finding {}", path.display()))?;
    let expected = blob
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut hasher = Sha256::new();
    let mut file = File::open(&blob).with_context(|| format!("opening {}", blob.display()))?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut chunk)
            .with_context(|| format!("reading {}", blob.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
    }
    if hex::encode(hasher.finalize()) == expected.to_lowercase() {
        return Ok(());
    }
    std::fs::remove_file(&blob).with_context(|| format!("removing {}", blob.display()))?;
    bail!(
        "{} does not have the hash that the hub names and is removed; pull it again",
        path.display()
    )
}

/// One model on the hub.
struct Hub {
    name: String,
    endpoint: String,
    repo: ApiRepo,
    cache: Cache,
}

impl Hub {
    fn open(name: &str) -> Result<Self> {
        let cache = Cache::from_env();
        let token = std::env::var(TOKEN_VARIABLE)
            .ok()
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let api: Api = ApiBuilder::from_env()
            .with_token(token.or_else(|| cache.token()))
            .with_retries(RETRIES)
            .build()
            .context("preparing to ask the hub")?;
        Ok(Self {
            repo: api.model(name.to_owned()),
            endpoint: std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.to_owned()),
            name: name.to_owned(),
            cache,
        })
    }

    /// The names of all its files.
    fn list(&self) -> Result<Vec<String>> {
        let info = self.repo.info().map_err(|error| self.explain(error))?;
        Ok(info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect())
    }

    /// A file, from the cache if it is there.
    fn file(&self, file: &str) -> Result<PathBuf> {
        if let Some(path) = self.cache.repo(Repo::model(self.name.clone())).get(file) {
            return Ok(path);
        }
        let path = self.repo.download(file);
        path.map_err(|error| self.explain(error).context(format!("getting {file}")))
    }

    /// What went wrong, and what to do about it.
    fn explain(&self, error: ApiError) -> anyhow::Error {
        let Self { name, endpoint, .. } = self;
        let elsewhere = "or give a folder or a .gguf file with --model";
        let said = error.to_string();
        let advice = if said.contains("404") {
            format!("{endpoint} has no model {name}")
        } else if said.contains("401") || said.contains("403") {
            format!(
                "{endpoint} does not give {name} to this account: it does not exist, or its \
                 licence is to be accepted on its page; then put a token into {TOKEN_VARIABLE}"
            )
        } else if matches!(error, ApiError::TooManyRetries(_)) {
            format!(
                "the connection to {endpoint} broke {RETRIES} times; what came is kept, the same \
                 command goes on from there"
            )
        } else {
            format!(
                "{endpoint} can't be asked; check the network, name another hub with HF_ENDPOINT, \
                 {elsewhere}"
            )
        };
        anyhow!(error).context(advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_the_hub_is_two_words() {
        assert!(is_name("Qwen/Qwen2.5-0.5B-Instruct"));
        for text in ["base", "a/b/c", "../x", "a/..", "a b/c", "/x", "x/"] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_its_hash_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join(hex::encode(Sha256::digest(b"weights")));
        std::fs::write(&good, b"weights").unwrap();
        verify(&good).unwrap();
        std::fs::write(&good, b"weighs").unwrap();
        assert!(
            verify(&good)
                .unwrap_err()
                .to_string()
                .contains("pull it again")
        );
        assert!(!good.exists());
    }
}
