//! Checkpoints on disk: a few named files that appear together or not at all.
//!
//! ```text
//! DIR/checkpoint-0000000041/   the one before, kept
//! DIR/checkpoint-0000000042/   the newest
//!     config.json  optimizer.safetensors  state.json  tokenizer.json
//!     weights.safetensors
//!     b3sums                   BLAKE3 of each, as `b3sum --check` reads it
//! DIR/.partial-0000000043/     a save that was cut off; the next one sweeps it
//! ```
//!
//! Files are written and verified as they stream: none is in memory whole
//! unless whoever writes it has it so.
//!
//! Invariants:
//! - A folder gets its name `checkpoint-N` by one rename, after all that is in
//!   it has reached the disk: whatever instant a process or a machine dies at,
//!   the newest checkpoint is either the old one or the new one, whole.
//! - A checkpoint is believed only if every file has the hash that `b3sums`
//!   says. One that does not is named, with the reason, and the one before is
//!   taken; nothing is deleted when reading.
//! - One process writes at a time (its owner holds the folder's lock).

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";
const PARTIAL: &str = ".partial-";
const SUMS: &str = "b3sums";

/// Writes what a file holds, the same each time it is asked.
pub(crate) type Content<'a> = Box<dyn Fn(&mut dyn Write) -> std::io::Result<()> + 'a>;

/// Named files of one checkpoint.
pub(crate) type Files<'a> = BTreeMap<String, Content<'a>>;

/// A file that holds these bytes.
pub(crate) fn content<'a>(bytes: impl Into<Vec<u8>>) -> Content<'a> {
    let bytes = bytes.into();
    Box::new(move |file| file.write_all(&bytes))
}

/// A checkpoint that was verified.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its files, without `b3sums`.
    names: BTreeSet<String>,
    /// Newer ones that could not be believed.
    pub(crate) rejected: Vec<Rejected>,
}

impl Found {
    /// Where a file is, if there is one of that name.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        self.names.contains(name).then(|| self.path.join(name))
    }

    /// A file's bytes.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = |path: PathBuf| fs::read(&path).map_err(at(&path));
        self.file(name).map(read).transpose()
    }
}

/// A checkpoint that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.why)
    }
}

/// BLAKE3 of files by their names.
pub(crate) type Hashes = BTreeMap<String, blake3::Hash>;

/// Whether `dir` holds a checkpoint, good or bad.
pub(crate) fn exists(dir: &Path) -> bool {
    numbered(dir).is_ok_and(|checkpoints| !checkpoints.is_empty())
}

/// Saves `files` as the newest checkpoint of `dir` and returns their hashes.
/// Of the older ones the newest that is whole is kept.
pub(crate) fn save(dir: &Path, files: &Files<'_>) -> Result<Hashes> {
    save_in_steps(dir, files, &mut |_| Ok(()))
}

/// Writes `files` as a new folder that appears whole or not at all.
pub(crate) fn write_folder(folder: &Path, files: &Files<'_>) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let partial = parent.join(format!("{PARTIAL}{}", name_of(folder)));
    fs::create_dir_all(parent).map_err(at(parent))?;
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(at(&partial))?;
    }
    fs::create_dir(&partial).map_err(at(&partial))?;
    for (name, content) in files {
        let path = partial.join(name);
        write_synced(&path, content).map_err(at(&path))?;
    }
    sync_dir(&partial).map_err(at(&partial))?;
    fs::rename(&partial, folder).map_err(at(folder))?;
    sync_dir(parent).map_err(at(parent))
}

/// Reads the newest checkpoint of `dir` that is whole.
pub(crate) fn load(dir: &Path) -> Result<Found> {
    let mut rejected = Vec::new();
    for (_, path) in numbered(dir)?.into_iter().rev() {
        match verify(&path) {
            Ok(names) => {
                return Ok(Found {
                    path,
                    names,
                    rejected,
                });
            }
            Err(why) => rejected.push(Rejected { path, why }),
        }
    }
    if rejected.is_empty() {
        return Err(Error::Checkpoint(format!(
            "there is none in {}",
            dir.display()
        )));
    }
    let reasons: Vec<String> = rejected.iter().map(Rejected::to_string).collect();
    Err(Error::Checkpoint(format!(
        "none is whole: {}",
        reasons.join("; ")
    )))
}

/// [`save`], asking `before` ahead of every change to the disk, which is where
/// a test cuts it off.
fn save_in_steps(
    dir: &Path,
    files: &Files<'_>,
    before: &mut dyn FnMut(&Path) -> std::io::Result<()>,
) -> Result<Hashes> {
    let mut step = |path: &Path, act: &mut dyn FnMut(&Path) -> std::io::Result<()>| -> Result<()> {
        before(path).and_then(|()| act(path)).map_err(at(path))
    };
    step(dir, &mut |path| fs::create_dir_all(path))?;
    for leftover in entries(dir)?
        .into_iter()
        .filter(|path| name_of(path).starts_with(PARTIAL))
    {
        step(&leftover, &mut |path| fs::remove_dir_all(path))?;
    }
    let older = numbered(dir)?;
    let number = older.last().map_or(1, |(number, _)| number + 1);
    let partial = dir.join(format!("{PARTIAL}{number:010}"));
    let path = dir.join(format!("{PREFIX}{number:010}"));

    step(&partial, &mut |path| fs::create_dir(path))?;
    let mut hashes = Hashes::new();
    for (name, content) in files {
        step(&partial.join(name), &mut |path| {
            hashes.insert(name.clone(), write_synced(path, content)?);
            Ok(())
        })?;
    }
    step(&partial.join(SUMS), &mut |path| {
        write_synced(path, &content(sums(&hashes))).map(|_| ())
    })?;
    step(&partial, &mut |path| sync_dir(path))?;
    step(&path, &mut |path| fs::rename(&partial, path))?;
    step(dir, &mut |path| sync_dir(path))?;

    let mut spare_is_kept = false;
    for (number, old) in older.into_iter().rev() {
        if !spare_is_kept && verify(&old).is_ok() {
            spare_is_kept = true;
            continue;
        }
        // Out of its name first, so that a removal that is cut off does not
        // look like a torn checkpoint.
        let doomed = dir.join(format!("{PARTIAL}{number:010}"));
        step(&old, &mut |old| fs::rename(old, &doomed))?;
        step(&doomed, &mut |path| fs::remove_dir_all(path))?;
    }
    Ok(hashes)
}

/// The checkpoints of `dir` by rising number; none if there is no such folder.
fn numbered(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<(u64, PathBuf)> = entries(dir)?
        .into_iter()
        .filter_map(|path| Some((name_of(&path).strip_prefix(PREFIX)?.parse().ok()?, path)))
        .collect();
    found.sort();
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(at(dir))?,
    };
    listing
        .map(|entry| Ok(entry.map_err(at(dir))?.path()))
        .collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn sums(hashes: &Hashes) -> String {
    hashes
        .iter()
        .map(|(name, hash)| format!("{}  {name}\n", hash.to_hex()))
        .collect()
}

/// The names of a checkpoint's files, each of which is as it was written.
fn verify(path: &Path) -> std::result::Result<BTreeSet<String>, String> {
    let unreadable = |name: &str, error| format!("{name} cannot be read: {error}");
    let listed = fs::read(path.join(SUMS)).map_err(|error| unreadable(SUMS, error))?;
    let listed = String::from_utf8(listed).map_err(|_| format!("{SUMS} is not text"))?;
    let mut names = BTreeSet::new();
    for line in listed.lines() {
        let (hash, name) = line
            .split_once("  ")
            .ok_or_else(|| format!("{SUMS} has a line that is torn"))?;
        // A name is one of ours, never a way out of the folder.
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(format!("{SUMS} names {name:?}"));
        }
        let mut hasher = blake3::Hasher::new();
        File::open(path.join(name))
            .and_then(|file| hasher.update_reader(file).map(|_| ()))
            .map_err(|error| unreadable(name, error))?;
        if hasher.finalize().to_hex().as_str() != hash {
            return Err(format!("{name} does not have the hash that {SUMS} says"));
        }
        names.insert(name.to_owned());
    }
    // A list cut off at the end of a line still verifies what it names.
    for entry in entries(path).map_err(|error| error.to_string())? {
        let name = name_of(&entry);
        if name != SUMS && !names.contains(name) {
            return Err(format!("{SUMS} does not name {name}"));
        }
    }
    Ok(names)
}

fn write_synced(path: &Path, content: &Content<'_>) -> std::io::Result<blake3::Hash> {
    let mut file = Hashing {
        file: File::create(path)?,
        hasher: blake3::Hasher::new(),
    };
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut file);
    content(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.file.sync_all()?;
    Ok(file.hasher.finalize())
}

/// A file whose hash is known when it is written.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Makes names durable; only Unix opens a folder as a file.
fn sync_dir(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

/// Names the file in an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn texts(version: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (
                "state.json".to_owned(),
                format!("{{\"version\":{version:?}}}"),
            ),
            ("weights.safetensors".to_owned(), version.repeat(1_000)),
        ])
    }

    fn files(version: &str) -> Files<'static> {
        let texts = texts(version).into_iter();
        texts.map(|(name, text)| (name, content(text))).collect()
    }

    /// Saves, and says where.
    fn saved(dir: &Path, version: &str) -> PathBuf {
        save(dir, &files(version)).unwrap();
        load(dir).unwrap().path
    }

    impl Found {
        fn texts(&self) -> BTreeMap<String, String> {
            let read = |name: &String| {
                let bytes = self.read(name).unwrap().unwrap();
                (name.clone(), String::from_utf8(bytes).unwrap())
            };
            self.names.iter().map(read).collect()
        }
    }

    #[test]
    fn the_newest_checkpoint_comes_back_and_one_spare_is_kept() {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("not/there/yet");
        assert!(!exists(&home));
        assert!(
            load(&home)
                .unwrap_err()
                .to_string()
                .contains("there is none")
        );
        for name in ["one", "two", "three"] {
            save(&home, &files(name)).unwrap();
            let found = load(&home).unwrap();
            assert_eq!(found.texts(), texts(name));
            assert!(found.rejected.is_empty());
        }
        let names: Vec<PathBuf> = numbered(&home)
            .unwrap()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        assert_eq!(
            names,
            [
                home.join("checkpoint-0000000002"),
                home.join("checkpoint-0000000003")
            ]
        );
        assert!(exists(&home));
    }

    #[test]
    fn a_save_cut_off_at_any_step_leaves_the_old_or_the_new_one_whole() {
        let mut step_count = 0;
        for cut in 0.. {
            let dir = TempDir::new().unwrap();
            save(dir.path(), &files("one")).unwrap();
            save(dir.path(), &files("two")).unwrap();
            let mut steps = 0;
            let result = save_in_steps(dir.path(), &files("three"), &mut |path| {
                steps += 1;
                if steps <= cut {
                    return Ok(());
                }
                // What dies while writing a file leaves part of it.
                if path.extension().is_some() {
                    fs::write(path, b"torn")?;
                }
                Err(std::io::Error::other("killed"))
            });
            let found = load(dir.path()).unwrap();
            assert!(
                found.rejected.is_empty(),
                "cut at {cut}: {:?}",
                found.rejected
            );
            let is_new = found.texts() == texts("three");
            assert!(is_new || found.texts() == texts("two"), "cut at {cut}");
            // The next start saves as if nothing had happened, and sweeps.
            save(dir.path(), &files("four")).unwrap();
            assert_eq!(load(dir.path()).unwrap().texts(), texts("four"));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "cut at {cut}");
            if result.is_ok() {
                step_count = steps;
                assert!(is_new);
                break;
            }
        }
        assert_eq!(step_count, 10);
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_the_one_before_is_taken() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 6] = [
            ("weights.safetensors does not have the hash", |path| {
                let path = path.join("weights.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                bytes[100] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            ("state.json does not have the hash", |path| {
                File::options()
                    .write(true)
                    .open(path.join("state.json"))
                    .unwrap()
                    .set_len(5)
                    .unwrap();
            }),
            ("weights.safetensors cannot be read", |path| {
                fs::remove_file(path.join("weights.safetensors")).unwrap();
            }),
            ("b3sums cannot be read", |path| {
                fs::remove_file(path.join(SUMS)).unwrap()
            }),
            ("b3sums does not name weights.safetensors", |path| {
                let listed = fs::read_to_string(path.join(SUMS)).unwrap();
                let first = listed.lines().next().unwrap();
                fs::write(path.join(SUMS), format!("{first}\n")).unwrap();
            }),
            ("b3sums names", |path| {
                fs::write(path.join(SUMS), format!("{}  ../x\n", "0".repeat(64))).unwrap();
            }),
        ];
        for (why, damage) in damages {
            let dir = TempDir::new().unwrap();
            save(dir.path(), &files("one")).unwrap();
            let newest = saved(dir.path(), "two");
            damage(&newest);
            let found = load(dir.path()).unwrap();
            assert_eq!(found.texts(), texts("one"));
            assert_eq!(found.rejected.len(), 1);
            assert!(
                found.rejected[0].to_string().contains(why),
                "{}",
                found.rejected[0]
            );
            assert!(found.path.ends_with("checkpoint-0000000001"));
        }
    }

    #[test]
    fn a_damaged_one_is_not_what_is_kept_as_the_spare() {
        let dir = TempDir::new().unwrap();
        save(dir.path(), &files("one")).unwrap();
        let bad = saved(dir.path(), "two");
        fs::write(bad.join("state.json"), "x").unwrap();
        let newest = saved(dir.path(), "three");
        fs::write(newest.join("state.json"), "x").unwrap();
        assert_eq!(load(dir.path()).unwrap().texts(), texts("one"));
    }

    #[test]
    fn when_none_is_whole_every_reason_is_given() {
        let dir = TempDir::new().unwrap();
        let saved = ["one", "two"].map(|name| saved(dir.path(), name));
        for path in saved {
            fs::write(path.join("weights.safetensors"), "x").unwrap();
        }
        let message = load(dir.path()).unwrap_err().to_string();
        assert_eq!(
            message
                .matches("weights.safetensors does not have the hash")
                .count(),
            2
        );
    }
}
