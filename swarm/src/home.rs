//! The folder in which a node keeps what it must not lose.
//!
//! ```text
//! ~/.murmur                (or $XDG_DATA_HOME/murmur, or --home)
//! ├── lock                 held while a node runs; holds its process id
//! ├── swarm.bin            the canonical manifest of the swarm this home is in
//! ├── events.jsonl         what happened, one JSON object a line
//! ├── rpc.txt, ticket.txt  how to reach the chain and the swarm
//! └── peers/0, 1, …        keys, weights and work in progress of each peer
//! ```
//!
//! Invariants: one process writes to a home, held by a lock that dies with it;
//! a file is written beside, synced and renamed, so a reader sees the old one
//! or the new one and never half of either; secrets are readable by their owner
//! alone; a log that was cut off in the middle of a line is mended, and said so.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The lock's name in the home.
const LOCK: &str = "lock";
/// The canonical manifest.
const MANIFEST: &str = "swarm.bin";
/// The event log.
const EVENTS: &str = "events.jsonl";
/// The chain's JSON-RPC address.
const RPC: &str = "rpc.txt";
/// The seed of an experiment.
const SEED: &str = "seed.txt";
/// The folder of the peers' folders.
const PEERS: &str = "peers";

/// The most that mending a log may cut off. A torn write is some lines of the
/// writer's buffer; a file that is wrong for longer than this is no event log
/// of ours, and cutting it would destroy something.
const MAX_TORN: u64 = 4 * 1024 * 1024;

/// How much of a log is read at once when looking for its last line.
const BLOCK: u64 = 64 * 1024;

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Neither variable is set.
    #[error("no place for a home: set HOME or XDG_DATA_HOME, or name one with --home")]
    NoPlace,
    /// A lock is held.
    #[error("another murmur{} is using {path}: stop it, or choose another folder with --home", process(.pid))]
    InUse {
        /// The home.
        path: PathBuf,
        /// Whose lock it is, where it can be read.
        pid: Option<u32>,
    },
    /// The home is there and is no folder.
    #[error("{0} is not a folder: choose another with --home")]
    NotAFolder(PathBuf),
    /// The home belongs to another swarm.
    #[error(
        "{path} belongs to another swarm ({there}, not {wanted}): choose another folder with --home"
    )]
    OtherSwarm {
        /// The home.
        path: PathBuf,
        /// The id of the swarm it belongs to, in short.
        there: String,
        /// The id of the swarm that was asked for, in short.
        wanted: String,
    },
    /// The log cannot be mended.
    #[error(
        "{0} is damaged beyond its last lines, or is no event log: move it away to go on without it"
    )]
    Damaged(PathBuf),
    /// A small file holds something else.
    #[error("{path} is damaged: {why}; move it away to go on without it")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HomeError + 'a {
    move |source| HomeError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// A home: locked and written to, or only looked at.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Held for as long as it is open; `None` for a home that is looked at.
    _lock: Option<File>,
}

impl Home {
    /// Opens a home for a node: makes the folder if need be, and takes its
    /// lock. `None` is the default place.
    pub fn open(path: Option<&Path>) -> Result<Self, HomeError> {
        let path = place(path)?;
        if path.exists() && !path.is_dir() {
            return Err(HomeError::NotAFolder(path));
        }
        make_private_folder(&path).map_err(failed("create", &path))?;
        let lock = lock(&path)?;
        Ok(Self {
            path,
            _lock: Some(lock),
        })
    }

    /// A home that is there already, to look at while a node may be running.
    pub fn existing(path: Option<&Path>) -> Result<Option<Self>, HomeError> {
        let path = place(path)?;
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Some(Self { path, _lock: None })),
            Ok(_) => Err(HomeError::NotAFolder(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a local peer, made if need be.
    pub fn peer(&self, index: u16) -> Result<PathBuf, HomeError> {
        let folder = self.path.join(PEERS).join(index.to_string());
        make_private_folder(&folder).map_err(failed("create", &folder))?;
        Ok(folder)
    }

    /// The folders of the peers that were ever here, in their order.
    pub fn peers(&self) -> Result<Vec<PathBuf>, HomeError> {
        let folder = self.path.join(PEERS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", &folder))?.path();
            let index = path.file_name().and_then(|name| name.to_str());
            if let Some(index) = index.and_then(|name| name.parse::<u16>().ok()) {
                found.push((index, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The event log, to append to. If it was cut off in the middle of a line,
    /// the torn end is removed, and the text says so.
    pub fn events(&self) -> Result<(File, Option<String>), HomeError> {
        let path = self.path.join(EVENTS);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let cut = mend(&mut file).map_err(failed("mend", &path))?;
        match cut {
            Mended::Whole => Ok((file, None)),
            Mended::Cut(bytes) => {
                let notice = format!(
                    "{} ended in the middle of a line: its last {bytes} bytes were removed",
                    path.display()
                );
                Ok((file, Some(notice)))
            }
            Mended::TooMuch => Err(HomeError::Damaged(path)),
        }
    }

    /// Makes this the home of the swarm with this canonical manifest, and says
    /// whether it already was. A home is in one swarm for good: its checkpoints
    /// and its ledger mean nothing in another.
    pub fn keep_manifest(&self, canonical: &[u8]) -> Result<bool, HomeError> {
        match self.manifest()? {
            None => {
                self.write(MANIFEST, canonical)?;
                Ok(false)
            }
            Some(there) if there == canonical => Ok(true),
            Some(there) => Err(HomeError::OtherSwarm {
                path: self.path.clone(),
                there: short_hash(&there),
                wanted: short_hash(canonical),
            }),
        }
    }

    /// The canonical manifest of the swarm this home is in.
    pub fn manifest(&self) -> Result<Option<Vec<u8>>, HomeError> {
        self.read(MANIFEST)
    }

    /// The chain's JSON-RPC address, as last written.
    pub fn rpc(&self) -> Result<Option<String>, HomeError> {
        self.text(RPC)
    }

    /// Remembers the seed of an experiment, or that there is none.
    pub fn keep_seed(&self, seed: Option<u64>) -> Result<(), HomeError> {
        let path = self.path.join(SEED);
        match seed {
            Some(seed) => self.write(SEED, seed.to_string().as_bytes()),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed("remove", &path)(error))
                }
                _ => Ok(()),
            },
        }
    }

    /// The seed of the experiment this home belongs to.
    pub fn seed(&self) -> Result<Option<u64>, HomeError> {
        let Some(text) = self.text(SEED)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| HomeError::Content {
            path: self.path.join(SEED),
            why: "it should hold a number".into(),
        })
    }

    /// Writes a file of the home, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.path.join(name);
        write_atomic(&path, bytes).map_err(failed("write", &path))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, HomeError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(_) => Err(HomeError::Content {
                path: self.path.join(name),
                why: "it should hold text".into(),
            }),
        }
    }
}

/// Replaces a file: written beside, synced, renamed, and the folder synced, so
/// that after a power cut the old file is there or the new one. One writer for
/// each file: two at once would share the file beside.
///
/// # Errors
/// The system's; the old file is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, Reader::Anyone)
}

/// [`write_atomic`] for a secret: from its first byte on, only its owner can
/// read it.
///
/// # Errors
/// The system's; the old file is untouched.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, Reader::Owner)
}

#[derive(Clone, Copy)]
enum Reader {
    Anyone,
    Owner,
}

fn replace(path: &Path, bytes: &[u8], reader: Reader) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file's path"))?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    let beside = path.with_file_name(beside);
    // What an earlier crash left behind may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&beside, bytes, reader).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&beside);
    }
    written?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn write_new(path: &Path, bytes: &[u8], reader: Reader) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Reader::Owner = reader {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = reader;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

/// Elsewhere a rename is made durable by the system, and folders do not open.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

fn place(path: Option<&Path>) -> Result<PathBuf, HomeError> {
    match path {
        Some(path) => Ok(path.to_owned()),
        None => default_place(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")),
    }
}

fn default_place(data: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, HomeError> {
    // The XDG specification says to ignore a path that is not absolute.
    let data = data.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.map(PathBuf::from).filter(|path| path.is_absolute());
    match (data, home) {
        (Some(data), _) => Ok(data.join("murmur")),
        (None, Some(home)) => Ok(home.join(".murmur")),
        (None, None) => Err(HomeError::NoPlace),
    }
}

/// Takes the home's lock. The system lets go of it when the process ends, even
/// by `kill -9`, so there is no stale lock to clean up.
fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only to name it: without a number the message is still true.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(HomeError::InUse {
                path: home.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("write", &path))?;
    Ok(file)
}

/// What mending a log came to.
#[derive(Debug, PartialEq, Eq)]
enum Mended {
    /// Its last line is whole.
    Whole,
    /// So many bytes were cut off.
    Cut(u64),
    /// More than [`MAX_TORN`] would have to go, or it never was a log; nothing
    /// was changed.
    TooMuch,
}

/// Cuts a log of JSON lines back to its last whole line.
fn mend(file: &mut File) -> io::Result<Mended> {
    let length = file.metadata()?.len();
    let mut end = length;
    while end > 0 {
        let newline = last_newline(file, end)?;
        let is_whole = newline == Some(end - 1) && {
            let start = last_newline(file, end - 1)?.map_or(0, |at| at + 1);
            is_json(file, start, end - 1)?
        };
        if is_whole {
            break;
        }
        // Back to the end of the line before: past this one's own newline.
        let before = if newline == Some(end - 1) {
            end - 1
        } else {
            end
        };
        end = last_newline(file, before)?.map_or(0, |at| at + 1);
        if length - end > MAX_TORN || (end == 0 && !begins_like_a_log(file)?) {
            return Ok(Mended::TooMuch);
        }
    }
    if end == length {
        return Ok(Mended::Whole);
    }
    file.set_len(end)?;
    file.sync_all()?;
    Ok(Mended::Cut(length - end))
}

/// A log that is torn in its first line begins with an object, or with the
/// zeros that a power cut leaves in a file that had just grown.
fn begins_like_a_log(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    read_range(file, 0, 1, &mut first)?;
    Ok(matches!(first[..], [b'{' | 0]))
}

/// The position of the last newline before `end`.
fn last_newline(file: &mut File, end: u64) -> io::Result<Option<u64>> {
    let mut block = Vec::new();
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        read_range(file, start, end, &mut block)?;
        if let Some(index) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(start + index as u64));
        }
        end = start;
    }
    Ok(None)
}

fn is_json(file: &mut File, start: u64, end: u64) -> io::Result<bool> {
    if end - start > MAX_TORN {
        return Ok(false);
    }
    let mut line = Vec::new();
    read_range(file, start, end, &mut line)?;
    Ok(serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok())
}

fn read_range(file: &mut File, start: u64, end: u64, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    file.seek(SeekFrom::Start(start))?;
    file.take(end - start).read_to_end(into)?;
    Ok(())
}

fn short_hash(bytes: &[u8]) -> String {
    hex::encode(&blake3::hash(bytes).as_bytes()[..4])
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
