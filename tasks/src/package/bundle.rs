//! A package's manifest and files, checked against each other.

use std::collections::BTreeMap;

use super::file;
use super::table::Table;
use crate::contents::{Budget, Judge, Kind, Package};
use crate::{EnvId, Manifest};

/// What an author writes.
pub const SETTINGS: &str = "task.toml";
/// The rows of a table.
pub const ITEMS: &str = "items.jsonl";
/// A script.
pub const SCRIPT: &str = "task.star";
/// A module.
pub const MODULE: &str = "task.wasm";
/// Items and scores as the author's machine made them.
pub const GOLDEN: &str = "golden.jsonl";

/// The most bytes of a manifest that travels.
pub const MAX_MANIFEST: u32 = 64 << 10;
/// The most bytes of a file that travels.
pub const MAX_FILE: u32 = 8 << 20;
/// The most a package may ask for.
pub(super) const MAX_BUDGET: Budget = Budget {
    load_fuel: 1_000_000_000,
    generate_fuel: 500_000_000,
    score_fuel: 100_000_000,
    memory_bytes: 64 << 20,
};

/// Whether a package asks for more than any may.
pub(super) fn over_budget(budget: &Budget) -> bool {
    budget.load_fuel > MAX_BUDGET.load_fuel
        || budget.generate_fuel > MAX_BUDGET.generate_fuel
        || budget.score_fuel > MAX_BUDGET.score_fuel
        || budget.memory_bytes > MAX_BUDGET.memory_bytes
}

/// Why something is not a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// A file has a mistake.
    #[error("{file}{}: {why}", .line.checked_sub(1).map(|n| format!(":{}", n + 1)).unwrap_or_default())]
    At {
        /// Which file.
        file: String,
        /// Which line, from 1; 0 where it is none in particular.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// What was received is not what was asked for.
    #[error("{0}")]
    Received(String),
    /// This program does not run what the package is for.
    #[error("the package is made for {wanted:?}; this program has {here:?}")]
    Engine {
        /// What the manifest names.
        wanted: String,
        /// What this program has.
        here: String,
    },
}

impl PackageError {
    pub(super) fn at(file: &str, line: usize, why: impl Into<String>) -> PackageError {
        PackageError::At {
            file: file.to_owned(),
            line,
            why: why.into(),
        }
    }
}

/// A package, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What it is; its hash is the environment's name.
    pub manifest: Manifest,
    /// Its files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// The package of a folder's files, given by name. Files that do not
    /// belong to its kind are left out.
    pub fn from_folder(mut files: BTreeMap<String, Vec<u8>>) -> Result<Bundle, PackageError> {
        let settings = files
            .get(SETTINGS)
            .ok_or_else(|| PackageError::at(SETTINGS, 0, "there is no such file here"))?;
        let text = text_of(SETTINGS, settings)?.to_owned();
        let file::Read {
            mut manifest,
            answer_after,
        } = file::read(&text, &files)?;
        // Datasets are turned into plain rows here, so that what travels needs
        // no settings.
        if let Some(mark) = answer_after
            && let Some(rows) = files.get_mut(ITEMS)
        {
            *rows = split_answers(rows, &mark)?;
        }
        if let Some(Kind::Table(scorer)) = manifest.package.as_ref().map(|package| &package.kind)
            && let Some(rows) = files.get(ITEMS)
        {
            let table = Table::read(text_of(ITEMS, rows)?, scorer, levels(&manifest))
                .map_err(|(line, why)| PackageError::at(ITEMS, line, why))?;
            for (level, at) in manifest.levels.iter_mut().zip(1u8..) {
                level.space = table.space(at);
            }
        }
        let package = manifest.package.as_mut();
        let package = package.ok_or_else(|| PackageError::at(SETTINGS, 0, "no package"))?;
        for file in &mut package.files {
            if let Some(bytes) = files.get(&file.name) {
                file.hash = *blake3::hash(bytes).as_bytes();
                file.bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            }
        }
        files.retain(|name, _| package.files.iter().any(|file| file.name == *name));
        Ok(Bundle { manifest, files })
    }

    /// The manifest that a peer sent for an environment, with the files to
    /// ask for next. Nothing of it is trusted: it has the hash that was asked
    /// for, and asks for no more than a package may.
    pub fn receive_manifest(id: EnvId, bytes: &[u8]) -> Result<Manifest, PackageError> {
        let refuse = |why: &str| Err(PackageError::Received(why.to_owned()));
        if bytes.len() > MAX_MANIFEST as usize || blake3::hash(bytes) != id.0 {
            return refuse("not the manifest that was asked for");
        }
        let Some(manifest) = Manifest::from_package_bytes(bytes) else {
            return refuse("not a package's manifest");
        };
        let Some(package) = &manifest.package else {
            return refuse("not a package's manifest");
        };
        let mut names: Vec<&str> = package
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let known = [GOLDEN, ITEMS, MODULE, SCRIPT];
        if names.len() != package.files.len() || names.iter().any(|name| !known.contains(name)) {
            return refuse("files that no package has");
        }
        if package.files.iter().any(|file| file.bytes > MAX_FILE) {
            return refuse("a file larger than any package's");
        }
        if over_budget(&package.budget)
            || manifest.limits.completion_bytes > 65_536
            || manifest.limits.answer_chars > 4_096
            || !(1..=32).contains(&manifest.levels.len())
            || !(1..=16).contains(&manifest.parts.len())
            || !(1..=16).contains(&package.turns)
        {
            return refuse("a budget larger than any package's");
        }
        if package.turns > 1 && package.judge == Judge::Critics {
            return refuse("episodes that critics are to judge");
        }
        Ok(manifest)
    }

    /// The package of a received manifest and the files it asks for.
    pub fn receive(
        manifest: Manifest,
        files: BTreeMap<String, Vec<u8>>,
    ) -> Result<Bundle, PackageError> {
        let bundle = Bundle { manifest, files };
        let package = bundle.package()?;
        for file in &package.files {
            let bytes = bundle.files.get(&file.name);
            if bytes.map(|bytes| *blake3::hash(bytes).as_bytes()) != Some(file.hash) {
                let why = format!("{} is not what the manifest names", file.name);
                return Err(PackageError::Received(why));
            }
        }
        if bundle.files.len() != package.files.len() {
            return Err(PackageError::Received("more files than named".to_owned()));
        }
        Ok(bundle)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> EnvId {
        self.manifest.id()
    }

    pub(super) fn package(&self) -> Result<&Package, PackageError> {
        let package = self.manifest.package.as_ref();
        package.ok_or_else(|| PackageError::Received("not a package".to_owned()))
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, PackageError> {
        text_of(name, self.bytes(name)?)
    }

    pub(super) fn bytes(&self, name: &str) -> Result<&[u8], PackageError> {
        let bytes = self.files.get(name);
        bytes
            .map(Vec::as_slice)
            .ok_or_else(|| PackageError::at(name, 0, "there is no such file"))
    }
}

/// The highest level.
pub(super) fn levels(manifest: &Manifest) -> u8 {
    u8::try_from(manifest.levels.len()).unwrap_or(u8::MAX)
}

fn text_of<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, PackageError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        PackageError::at(name, line, "not UTF-8")
    })
}

/// Rows whose answer stands after a mark, as rows with steps and an answer.
fn split_answers(rows: &[u8], mark: &str) -> Result<Vec<u8>, PackageError> {
    use serde_json::Value;
    let text = text_of(ITEMS, rows)?;
    let mut out = String::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let at = |why: String| PackageError::at(ITEMS, index + 1, why);
        let mut row: Value = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
        let answer = row
            .get("answer")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let (working, answer) = answer
            .rsplit_once(mark)
            .ok_or_else(|| at(format!("the answer has no {mark:?}")))?;
        let (working, answer) = (working.trim().to_owned(), answer.trim().to_owned());
        row["working"] = working.into();
        row["answer"] = answer.into();
        out.push_str(&row.to_string());
        out.push('\n');
    }
    Ok(out.into_bytes())
}
