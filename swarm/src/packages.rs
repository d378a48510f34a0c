//! Environments that are not part of the program, on this machine: a folder
//! in the home, named by hash, filled by `murmur task publish` and from peers.
//!
//! ```text
//! HOME/packages/<hash>/manifest.bin     its hash is the folder's name
//!                      items.jsonl | task.star | task.wasm, golden.jsonl
//! ```
//!
//! Whatever comes from a peer is checked against the hash that was asked for,
//! is never larger than a package may be, and repeats its golden vectors here
//! before anything is scored with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tasks::package::{Bundle, GOLDEN, MAX_FILE, MAX_MANIFEST, Packaged, golden};
use tasks::{EnvId, Environment, Registry};

use crate::home::write_atomic;
use crate::net::{Net, NetConfig, PeerAddr};
use crate::reach::Network;

const MANIFEST: &str = "manifest.bin";

/// The packages of a home.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The packages in a home's folder.
    pub fn of(home: &Path) -> Self {
        Self {
            folder: home.join("packages"),
        }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn place(&self, id: EnvId) -> PathBuf {
        self.folder.join(id.to_hex())
    }

    /// Keeps a package.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn put(&self, bundle: &Bundle) -> Result<()> {
        let place = self.place(bundle.id());
        let named = || format!("keeping the package in {}", place.display());
        std::fs::create_dir_all(&place).with_context(named)?;
        for (name, bytes) in &bundle.files {
            write_atomic(&place.join(name), bytes).with_context(named)?;
        }
        // Last: a folder with a manifest is whole.
        write_atomic(&place.join(MANIFEST), &bundle.manifest.package_bytes()).with_context(named)
    }

    /// A package, checked against its name; `None` if it is not here.
    ///
    /// # Errors
    /// It is here and damaged.
    pub fn get(&self, id: EnvId) -> Result<Option<Bundle>> {
        let place = self.place(id);
        let bytes = match std::fs::read(place.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", place.display()));
            }
        };
        let read = || -> Result<Bundle> {
            let manifest = Bundle::receive_manifest(id, &bytes)?;
            let mut files = BTreeMap::new();
            for file in manifest.package.iter().flat_map(|package| &package.files) {
                files.insert(file.name.clone(), std::fs::read(place.join(&file.name))?);
            }
            Ok(Bundle::receive(manifest, files)?)
        };
        read().map(Some).with_context(|| {
            format!(
                "the package in {} is damaged; remove the folder",
                place.display()
            )
        })
    }

    /// The names of all packages.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> Result<Vec<EnvId>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", self.folder.display()));
            }
        };
        let mut ids: Vec<EnvId> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The environments of the program and every package here. One that cannot be
    /// used is left out, and named with the reason.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn registry(&self) -> Result<(Registry, Vec<String>)> {
        let mut registry = Registry::all();
        let mut left_out = Vec::new();
        for id in self.list()? {
            match self.open(id) {
                Ok(Some(package)) => registry.add(Arc::new(package)),
                Ok(None) => {}
                Err(error) => left_out.push(format!("{id}: {error:#}")),
            }
        }
        Ok((registry, left_out))
    }

    /// A package of this store, ready to use.
    ///
    /// # Errors
    /// It is damaged, made for another engine, or does not do here what it
    /// did on its author's machine.
    pub fn open(&self, id: EnvId) -> Result<Option<Packaged>> {
        self.get(id)?.map(|bundle| trusted(&bundle)).transpose()
    }

    /// The bytes to serve for an environment: manifest first, then files.
    ///
    /// # Errors
    /// It is here and damaged.
    pub fn bodies(&self, id: EnvId) -> Result<Vec<Vec<u8>>> {
        let Some(bundle) = self.get(id)? else {
            return Ok(Vec::new());
        };
        let manifest = bundle.manifest.package_bytes();
        Ok(std::iter::once(manifest)
            .chain(bundle.files.into_values())
            .collect())
    }
}

/// Opens a package and repeats its golden vectors.
///
/// # Errors
/// As [`Store::open`].
pub fn trusted(bundle: &Bundle) -> Result<Packaged> {
    let package = Packaged::open(bundle)?;
    let vectors = bundle
        .files
        .get(GOLDEN)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = std::str::from_utf8(vectors).context("golden.jsonl is not UTF-8")?;
    golden::check(&package, text).with_context(|| {
        format!(
            "environment {} cannot be used here",
            package.manifest().name
        )
    })?;
    Ok(package)
}

/// Fetches a package by its name: the manifest, whose size is proved and
/// bounded before a byte of it moves, then the files it names.
///
/// # Errors
/// Nobody has it, or what was sent is not a package that may be used.
pub async fn fetch(net: &Net, id: EnvId, from: &[PeerAddr]) -> Result<Bundle> {
    let bytes = net
        .fetch_within(id.0, MAX_MANIFEST.into(), from)
        .await
        .with_context(|| format!("asking peers for environment {}", id.to_hex()))?;
    let manifest = Bundle::receive_manifest(id, &bytes)?;
    let mut files = BTreeMap::new();
    for file in manifest.package.iter().flat_map(|package| &package.files) {
        if file.bytes > MAX_FILE {
            bail!("{} is larger than a package's file may be", file.name);
        }
        let bytes = net
            .fetch(file.hash, file.bytes.into(), from)
            .await
            .with_context(|| format!("asking peers for {} of environment {id}", file.name))?;
        files.insert(file.name.clone(), bytes);
    }
    Ok(Bundle::receive(manifest, files)?)
}

/// Gets a package from peers, checks it and keeps it.
///
/// # Errors
/// As [`fetch`]; or it cannot be used here, or the disk refuses.
pub async fn obtain(
    net: &Net,
    store: &Store,
    id: EnvId,
    from: &[PeerAddr],
) -> Result<Arc<dyn Environment>> {
    let bundle = fetch(net, id, from).await?;
    let store = store.clone();
    // Golden vectors take their time, and may be a stranger's.
    let checked = tokio::task::spawn_blocking(move || -> Result<Packaged> {
        let package = trusted(&bundle)?;
        store.put(&bundle)?;
        Ok(package)
    });
    Ok(Arc::new(checked.await.context("checking a package")??))
}

/// A package of this home, or from peers.
///
/// # Errors
/// As [`obtain`]; or it is here and damaged.
pub async fn here_or_obtain(
    net: &Net,
    store: &Store,
    id: EnvId,
    from: &[PeerAddr],
) -> Result<Arc<dyn Environment>> {
    let kept = store.clone();
    let here = tokio::task::spawn_blocking(move || kept.open(id));
    match here.await.context("opening a package")?? {
        Some(package) => Ok(Arc::new(package)),
        None => obtain(net, store, id, from).await,
    }
}

/// Gets the packages of a curriculum that this home lacks from peers, over a
/// connection of its own: a node needs them before it can take part.
///
/// # Errors
/// One of them cannot be had or used.
pub async fn fetch_missing(
    store: &Store,
    wanted: &BTreeSet<EnvId>,
    network: &Network,
    topic: [u8; 32],
    from: &[PeerAddr],
) -> Result<Vec<EnvId>> {
    let builtin = Registry::all();
    let mut missing = Vec::new();
    for id in wanted {
        if builtin.get(id).is_none() && store.get(*id)?.is_none() {
            missing.push(*id);
        }
    }
    if missing.is_empty() {
        return Ok(missing);
    }
    let net = start(network.guest(topic), from).await?;
    let result = async {
        for id in &missing {
            obtain(&net, store, *id, from).await?;
        }
        Ok(missing)
    }
    .await;
    net.shutdown().await;
    result
}

/// A network handle with a key of its own, to fetch and serve with.
///
/// # Errors
/// The network can't be opened.
pub async fn visitor(topic: [u8; 32], peers: &[PeerAddr]) -> Result<Net> {
    start(NetConfig::local(rand::random(), topic), peers).await
}

async fn start(mut config: NetConfig, peers: &[PeerAddr]) -> Result<Net> {
    config.bootstrap = peers.to_vec();
    // What is said on the topic is for others: nobody listens here.
    let (net, _) = Net::start(config).await.context("opening the network")?;
    Ok(net)
}
