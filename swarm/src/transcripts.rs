//! Transcripts of a home's rounds: what a settled round can be checked by, long after
//! its bodies were forgotten.
//!
//! ```text
//! HOME/transcripts/0000000012-3f9a….bin   round 12, the set its witnesses signed
//! ```
//!
//! A file's name says which set it holds, so two peers of a home that saw two sets keep
//! both, and whoever checks takes the one that settled. Past [`KEPT_BYTES`] the oldest
//! rounds are collected.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use swarm_core::ids::Hash;
use swarm_core::manifest::Manifest;
use swarm_core::transcript::Transcript;

use crate::home::write_atomic;

/// What transcripts may take of the disk. A round of four peers takes some 40 kB: about
/// six thousand rounds.
pub const KEPT_BYTES: u64 = 256 << 20;

/// The transcripts of a home. Clones share the right to write.
#[derive(Debug, Clone)]
pub struct Transcripts {
    folder: PathBuf,
    limit: u64,
    writing: Arc<Mutex<()>>,
}

impl Transcripts {
    /// Those of a home; nothing is made yet.
    pub fn of(home: &Path) -> Self {
        Self {
            folder: home.join("transcripts"),
            limit: KEPT_BYTES,
            writing: Arc::default(),
        }
    }

    /// Keeps a transcript, unless it is there, and collects the oldest past the limit.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, manifest: &Manifest, transcript: &Transcript) -> Result<()> {
        let name = name(transcript.round, transcript.included(manifest.id()));
        let path = self.folder.join(&name);
        let keep = || -> io::Result<()> {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            if path.exists() {
                return Ok(());
            }
            std::fs::create_dir_all(&self.folder)?;
            write_atomic(&path, &transcript.encode())?;
            self.collect(&name)
        };
        keep().with_context(|| format!("keeping {}", path.display()))
    }

    /// Removes the oldest until the rest fits; what was just written stays.
    fn collect(&self, newest: &str) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, entry.metadata()?.len()));
        }
        // Round numbers are padded: names sort as rounds do.
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        for (name, bytes) in files {
            if total <= self.limit {
                break;
            }
            if name != newest && is_ours(&name) {
                std::fs::remove_file(self.folder.join(&name))?;
                total -= bytes;
            }
        }
        Ok(())
    }

    /// What is kept of the newest `rounds` rounds; what can't be read is left out.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn newest(&self, manifest: &Manifest, rounds: usize) -> Result<Vec<Transcript>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", self.folder.display()));
            }
        };
        let mut found: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(round) = name.and_then(round_of) {
                found.entry(round).or_default().push(path);
            }
        }
        let newest = found.into_values().rev().take(rounds).flatten();
        Ok(newest
            .filter_map(|path| read(&path, manifest).ok())
            .collect())
    }

    /// The transcript of the set that a round settled, if it is kept here.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn find(
        &self,
        manifest: &Manifest,
        round: u64,
        included: Hash,
    ) -> Result<Option<Transcript>> {
        let path = self.folder.join(name(round, included));
        match path.exists() {
            true => read(&path, manifest).map(Some),
            false => Ok(None),
        }
    }
}

/// The round that a file's name says, if it is one of ours.
fn round_of(name: &str) -> Option<u64> {
    if !is_ours(name) {
        return None;
    }
    name.split_once('-')?.0.parse().ok()
}

/// Reads one transcript from a file, from wherever it came.
///
/// # Errors
/// It can't be read, is larger than any transcript of the swarm, or is none.
pub fn read(path: &Path, manifest: &Manifest) -> Result<Transcript> {
    let limit = Transcript::limit(manifest);
    let found = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if found.len() > limit as u64 {
        bail!(
            "{} holds {} bytes, a transcript of this swarm at most {limit}",
            path.display(),
            found.len()
        );
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    match Transcript::decode(&bytes, limit) {
        Ok(transcript) => Ok(transcript),
        Err(reason) => bail!("{} is no transcript: {reason}", path.display()),
    }
}

fn name(round: u64, included: Hash) -> String {
    format!("{round:010}-{}.bin", &included.to_hex()[..16])
}

fn is_ours(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "bin")
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::ids::Beacon;
    use swarm_core::plan::Plan;
    use tasks::Registry;

    fn manifest() -> Manifest {
        let profile = crate::process::LOCAL_PROFILE;
        Manifest::from_toml(profile, &Registry::builtin()).unwrap()
    }

    fn transcript(round: u64, size: usize) -> Transcript {
        Transcript {
            round,
            beacon: Beacon([1; 32]),
            plan: Plan::first(&manifest()),
            bodies: vec![vec![7; size]],
        }
    }

    fn names(store: &Transcripts) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&store.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn two_sets_of_one_round_are_both_kept_and_found_by_what_they_hold() {
        let home = tempfile::tempdir().unwrap();
        let store = Transcripts::of(home.path());
        let manifest = manifest();
        let (one, other) = (transcript(3, 10), transcript(3, 20));
        for kept in [&one, &other, &one] {
            store.keep(&manifest, kept).unwrap();
        }
        assert_eq!(names(&store).len(), 2);
        for kept in [one, other] {
            let included = kept.included(manifest.id());
            let found = store.find(&manifest, 3, included).unwrap();
            assert_eq!(found, Some(kept));
        }
        assert_eq!(store.find(&manifest, 4, Hash([0; 32])).unwrap(), None);
    }

    #[test]
    fn the_oldest_rounds_are_collected_and_strangers_files_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let mut store = Transcripts::of(home.path());
        store.limit = 2_500;
        let manifest = manifest();
        for round in [9, 10, 11, 100] {
            store.keep(&manifest, &transcript(round, 1_000)).unwrap();
            std::fs::write(store.folder.join("0-note.txt"), b"mine").unwrap();
        }
        let kept = names(&store);
        let rounds: Vec<&str> = kept
            .iter()
            .map(|name| &name[..name.len().min(10)])
            .collect();
        assert_eq!(rounds, ["0-note.txt", "0000000011", "0000000100"]);
    }

    #[test]
    fn the_newest_rounds_are_found_whatever_else_lies_there() {
        let home = tempfile::tempdir().unwrap();
        let store = Transcripts::of(home.path());
        let manifest = manifest();
        assert_eq!(store.newest(&manifest, 2).unwrap(), []);
        for round in [8, 9, 100] {
            store.keep(&manifest, &transcript(round, 10)).unwrap();
        }
        std::fs::write(store.folder.join("0000000200-x.bin"), b"torn").unwrap();
        std::fs::write(store.folder.join("note.txt"), b"mine").unwrap();
        let newest = store.newest(&manifest, 3).unwrap();
        let rounds: Vec<u64> = newest.iter().map(|kept| kept.round).collect();
        assert_eq!(rounds, [100, 9]);
    }

    #[test]
    fn a_file_that_is_no_transcript_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.bin");
        std::fs::write(&path, b"\x07nonsense").unwrap();
        let error = read(&path, &manifest()).unwrap_err().to_string();
        assert!(error.contains("x.bin is no transcript"), "{error}");
    }
}
