//! The home: where a node keeps everything that must survive it.
//!
//! ```text
//! HOME/
//!   lock            held while a process runs here
//!   identity.json   the account that deploys and funds (0600; see [`crate::identity`])
//!   model.json      the model its peers began with, unless it is the embedded one
//!   author/         the key that may change the curriculum, where the swarm was made
//!   curriculum/     its changes, signed (see [`crate::curriculum`])
//!   swarm.bin       the canonical manifest of the swarm this home belongs to
//!   network.json    how its peers are reached and found, unless it is the local profile
//!   joined.txt      the ticket it was joined by, if the swarm is somebody else's
//!   ticket.txt      what others need to join, as of the last start
//!   rpc.txt         where the chain's JSON-RPC was at the last start
//!   events.jsonl    everything that happened, one JSON object a line
//!   transcripts/    what settled rounds can be checked by, the newest 256 MiB
//!   devnet/         the embedded devnet's log
//!   peers/0/        identity.json, ethereum.json (0600), checkpoint/, outbox/, progress.json
//! ```
//!
//! Files are written beside, synced and renamed. The event log is
//! [`journal`](crate::journal)'s.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The most bytes of a small file of the home: a manifest, keys, addresses.
pub const SMALL: u64 = 1024 * 1024;

/// A home of this process alone, for as long as the value lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Dropping it lets the next process in.
    _lock: Option<File>,
}

impl Home {
    /// Make or enter a home and lock it.
    ///
    /// # Errors
    /// It can't be made or read, or another process holds it.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let path = resolve(path)?;
        fs::create_dir_all(path.join("peers")).with_context(|| {
            format!(
                "making the home {} (choose another with --home)",
                path.display()
            )
        })?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("opening {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another murmur is running in {}; stop it, or choose another folder with --home",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", lock_path.display()));
            }
        }
        Ok(Self {
            path,
            _lock: Some(lock),
        })
    }

    /// A home to look into; `None` if there is none yet. It is not locked.
    ///
    /// # Errors
    /// It can't be read.
    pub fn existing(path: Option<&Path>) -> Result<Option<Self>> {
        let path = resolve(path)?;
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Some(Self { path, _lock: None })),
            Ok(_) => bail!(
                "{} is not a folder; choose another with --home",
                path.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a local peer, made if missing.
    ///
    /// # Errors
    /// It can't be made.
    pub fn peer(&self, index: u16) -> Result<PathBuf> {
        let folder = self.path.join("peers").join(index.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// The folders of all local peers, in order.
    ///
    /// # Errors
    /// The home can't be read.
    pub fn peers(&self) -> Result<Vec<PathBuf>> {
        let root = self.path.join("peers");
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", root.display())),
        };
        let mut found: Vec<(u16, PathBuf)> = Vec::new();
        for entry in entries {
            let path = entry
                .with_context(|| format!("reading {}", root.display()))?
                .path();
            let index = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            found.extend(index.map(|index| (index, path)));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Write a small file of the home.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        write_atomic(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Read a small file of the home; `None` if there is none.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match read_small(&path, SMALL) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Bind the home to a swarm; true if it was bound to it before.
    ///
    /// # Errors
    /// It belongs to another swarm: its peers' rounds and reputation are not
    /// to be mixed with this one's.
    pub fn keep_manifest(&self, canonical: &[u8]) -> Result<bool> {
        match self.manifest()? {
            Some(kept) if kept == canonical => Ok(true),
            Some(_) => bail!(
                "{} belongs to another swarm (other manifest or chain), or its swarm.bin is \
                 damaged; choose another folder with --home",
                self.path.display()
            ),
            None => {
                self.write("swarm.bin", canonical)?;
                Ok(false)
            }
        }
    }

    /// The canonical manifest of the home's swarm, once it has one.
    ///
    /// # Errors
    /// It can't be read.
    pub fn manifest(&self) -> Result<Option<Vec<u8>>> {
        self.read("swarm.bin")
    }

    /// Where the chain's JSON-RPC was at the last start.
    ///
    /// # Errors
    /// It can't be read.
    pub fn rpc(&self) -> Result<Option<String>> {
        let bytes = self.read("rpc.txt")?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// Where the event log is.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }
}

/// Where imported models are kept: every home of this user finds them there.
///
/// # Errors
/// The user has no home directory.
pub fn models_folder() -> Result<PathBuf> {
    Ok(resolve(None)?.join("models"))
}

/// The home that is meant: the one named, else the user's.
pub(crate) fn resolve(path: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = path {
        return Ok(path.to_owned());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME").filter(|data| !data.is_empty()) {
        return Ok(PathBuf::from(data).join("murmur"));
    }
    let user = std::env::home_dir().context("no home directory; say where with --home")?;
    Ok(user.join(".murmur"))
}

/// Read a file of ours that is small, unless something else has taken its place.
///
/// # Errors
/// It can't be read, or is larger than `limit`.
pub fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// Replace a file in one step: a reader, or a power cut, sees the old bytes or
/// the new ones.
///
/// # Errors
/// The disk refuses.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o644)
}

/// The same for what only the owner may read.
///
/// # Errors
/// The disk refuses.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("not the name of a file"))?;
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = folder.join(beside);
    // A file left behind by a crash may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        (folder, path)
    }

    #[test]
    fn one_process_at_a_time() {
        let (_folder, path) = home();
        let first = Home::open(Some(&path)).unwrap();
        let error = Home::open(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("another murmur is running"), "{error}");
        drop(first);
        Home::open(Some(&path)).unwrap();
    }

    #[test]
    fn a_home_belongs_to_one_swarm() {
        let (_folder, path) = home();
        let home = Home::open(Some(&path)).unwrap();
        assert!(!home.keep_manifest(b"one").unwrap());
        assert!(home.keep_manifest(b"one").unwrap());
        assert!(
            home.keep_manifest(b"two")
                .unwrap_err()
                .to_string()
                .contains("another swarm")
        );
    }

    #[test]
    fn a_small_file_that_has_become_large_is_not_read() {
        let (folder, _) = home();
        let path = folder.path().join("small");
        fs::write(&path, b"1234").unwrap();
        assert_eq!(read_small(&path, 4).unwrap(), b"1234");
        let error = read_small(&path, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_secret_is_the_owners_alone_whatever_was_left_behind() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, _) = home();
        let path = folder.path().join("key");
        fs::write(folder.path().join("key.new"), b"left behind").unwrap();
        write_secret(&path, b"secret").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn peers_are_listed_in_order_and_strangers_left_alone() {
        let (_folder, path) = home();
        let home = Home::open(Some(&path)).unwrap();
        for index in [10, 2, 0] {
            home.peer(index).unwrap();
        }
        fs::create_dir(path.join("peers/backup")).unwrap();
        let names: Vec<_> = home
            .peers()
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["0", "2", "10"]);
    }
}
