//! `task.toml`: what an author writes about an environment.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::bundle::{
    GOLDEN, ITEMS, MAX_BUDGET, MAX_FILE, MODULE, PackageError, SCRIPT, SETTINGS, over_budget,
};
use super::sandbox;
use crate::contents::{Budget, FileRef, Form, Judge, Kind, Package, Scorer};
use crate::{Level, Limits, Manifest, PartWeight, Ppm, Reading};

/// The characters an answer is made of where an author does not say.
const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,-+/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    version: u32,
    summary: String,
    authors: Spanned<Vec<String>>,
    licence: Spanned<String>,
    kind: Spanned<String>,
    #[serde(default)]
    judge: Judge,
    #[serde(default)]
    form: Form,
    #[serde(default = "one")]
    turns: Spanned<u16>,
    /// The share of items that a guess gets right.
    #[serde(default)]
    chance: f64,
    alphabet: Option<Spanned<String>>,
    #[serde(default = "forward")]
    reading: Reading,
    levels: Spanned<Vec<FileLevel>>,
    #[serde(default)]
    parts: Option<Spanned<BTreeMap<String, f64>>>,
    #[serde(default)]
    limits: FileLimits,
    #[serde(default)]
    budget: Option<Spanned<Budget>>,
    table: Option<Spanned<FileTable>>,
}

fn one() -> Spanned<u16> {
    Spanned::new(0..0, 1)
}

fn forward() -> Reading {
    Reading::Forward
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLevel {
    meaning: String,
    /// How many questions there are; of a table they are counted.
    #[serde(default)]
    space: u64,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileLimits {
    completion_bytes: u32,
    answer_chars: u32,
    free_bytes: u32,
    penalty_bytes: u32,
}

impl Default for FileLimits {
    fn default() -> FileLimits {
        FileLimits {
            completion_bytes: 4_096,
            answer_chars: 64,
            free_bytes: 256,
            penalty_bytes: 512,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    scorer: Spanned<String>,
    #[serde(default)]
    ignore_case: bool,
    tolerance: Option<String>,
    #[serde(default)]
    relative: f64,
    answer_after: Option<String>,
}

/// What `task.toml` and the files beside it come to.
pub(super) struct Read {
    pub(super) manifest: Manifest,
    pub(super) answer_after: Option<String>,
}

/// Reads `task.toml`, given the files beside it.
pub(super) fn read(text: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Read, PackageError> {
    let file: File = toml::from_str(text).map_err(|error| PackageError::At {
        file: SETTINGS.to_owned(),
        line: error.span().map_or(0, |span| line(text, span.start)),
        why: error.message().to_owned(),
    })?;
    let at = |span: Range<usize>, why: String| PackageError::At {
        file: SETTINGS.to_owned(),
        line: line(text, span.start),
        why,
    };
    let name = file.name.get_ref();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        let why = "a name is up to 32 small letters, digits and _".to_owned();
        return Err(at(file.name.span(), why));
    }
    if file.authors.get_ref().is_empty() {
        return Err(at(
            file.authors.span(),
            "name at least one author".to_owned(),
        ));
    }
    if file.licence.get_ref().trim().is_empty() {
        let why = "name the licence, such as \"Apache-2.0\"".to_owned();
        return Err(at(file.licence.span(), why));
    }
    let levels = file.levels.get_ref();
    if levels.is_empty() || levels.len() > 32 {
        return Err(at(
            file.levels.span(),
            "there must be 1 to 32 levels".to_owned(),
        ));
    }
    if !(1..=16).contains(file.turns.get_ref()) {
        return Err(at(file.turns.span(), "turns must be 1 to 16".to_owned()));
    }
    if *file.turns.get_ref() > 1 && file.judge == Judge::Critics {
        let why = "critics judge answers, not episodes: turns must be 1".to_owned();
        return Err(at(file.turns.span(), why));
    }
    let (kind, runs) = kind(&file, &at)?;
    let (kind, answer_after) = kind;
    let needed = match &kind {
        Kind::Table(_) => ITEMS,
        Kind::Script => SCRIPT,
        Kind::Module => MODULE,
    };
    if !files.contains_key(needed) {
        let why = format!(
            "a {} needs a file {needed} beside this one{}",
            file.kind.get_ref(),
            if kind == Kind::Module {
                ": build it first, in any language that compiles to WebAssembly"
            } else {
                ""
            }
        );
        return Err(at(file.kind.span(), why));
    }
    let budget = match &file.budget {
        Some(budget) => {
            if over_budget(budget.get_ref()) {
                return Err(at(budget.span(), format!("at most {MAX_BUDGET:?}")));
            }
            *budget.get_ref()
        }
        None => Budget::default(),
    };
    let alphabet = match &file.alphabet {
        Some(alphabet) => {
            let mut all: Vec<char> = alphabet.get_ref().chars().collect();
            all.sort_unstable();
            all.dedup();
            let steers = |c: &char| c.is_control() || "<>=!|_".contains(*c);
            if all.is_empty() || all.len() > 256 || all.iter().any(steers) {
                let why = "1 to 256 characters, none of them a control character or < > = ! | _";
                return Err(at(alphabet.span(), why.to_owned()));
            }
            alphabet.get_ref().clone()
        }
        None => ALPHABET.to_owned(),
    };
    let parts = parts(file.parts.as_ref(), file.form, &at)?;
    let files = files
        .iter()
        .filter(|(name, _)| [needed, GOLDEN].contains(&name.as_str()))
        .map(|(name, bytes)| {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if length > MAX_FILE {
                let why = format!("{} bytes, at most {MAX_FILE} may travel", bytes.len());
                return Err(PackageError::At {
                    file: name.clone(),
                    line: 0,
                    why,
                });
            }
            Ok(FileRef {
                name: name.clone(),
                hash: *blake3::hash(bytes).as_bytes(),
                bytes: length,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let limits = &file.limits;
    let manifest = Manifest {
        name: name.clone(),
        version: file.version,
        summary: file.summary,
        levels: file
            .levels
            .into_inner()
            .into_iter()
            .map(|level| Level {
                meaning: level.meaning,
                space: level.space,
            })
            .collect(),
        parts,
        limits: Limits {
            completion_bytes: limits.completion_bytes.clamp(16, 65_536),
            answer_chars: limits.answer_chars.clamp(1, 4_096),
            free_bytes: limits.free_bytes,
            penalty_bytes: limits.penalty_bytes.max(1),
        },
        alphabet,
        reading: file.reading,
        package: Some(Package {
            authors: file.authors.into_inner(),
            licence: file.licence.into_inner(),
            judge: file.judge,
            kind,
            form: file.form,
            engine: engine(&runs, *file.turns.get_ref()),
            turns: file.turns.into_inner(),
            chance: share(file.chance),
            budget,
            files,
        }),
    };
    Ok(Read {
        manifest,
        answer_after,
    })
}

/// What has a part in the scores of a package: what runs it, and of a game, how
/// the turns of an episode are scored together.
pub(super) fn engine(runs: &str, turns: u16) -> String {
    if turns > 1 {
        format!("{runs}, episodes 1")
    } else {
        runs.to_owned()
    }
}

type Chosen = ((Kind, Option<String>), String);

fn kind(
    file: &File,
    at: &impl Fn(Range<usize>, String) -> PackageError,
) -> Result<Chosen, PackageError> {
    let refuse = |why: &str| Err(at(file.kind.span(), why.to_owned()));
    match (file.kind.get_ref().as_str(), &file.table) {
        ("table", Some(table)) => {
            let read = table.get_ref();
            let scorer = match read.scorer.get_ref().as_str() {
                "exact" => Scorer::Exact {
                    ignore_case: read.ignore_case,
                },
                "numeric" => Scorer::Numeric {
                    tolerance: read.tolerance.clone().unwrap_or_else(|| "0".to_owned()),
                    relative_ppm: share(read.relative).0,
                },
                "choice" => Scorer::Choice,
                "regex" => Scorer::Regex,
                "set" => Scorer::Set,
                "math" => Scorer::Math,
                other => {
                    let why = format!(
                        "no scorer is named {other:?}; there are exact, numeric, choice, regex, \
                         set and math"
                    );
                    return Err(at(read.scorer.span(), why));
                }
            };
            let engine = "table 1".to_owned();
            Ok(((Kind::Table(scorer), read.answer_after.clone()), engine))
        }
        ("table", None) => refuse("a table needs a section [table] that names its scorer"),
        ("script" | "module", Some(_)) => refuse("only a table has a section [table]"),
        ("script", None) => Ok(((Kind::Script, None), sandbox::script_engine().to_owned())),
        ("module", None) => Ok(((Kind::Module, None), sandbox::ENGINE.to_owned())),
        _ => refuse("kind must be \"table\", \"script\" or \"module\""),
    }
}

/// The parts of the score; `format` is the gate of tagged completions.
fn parts(
    given: Option<&Spanned<BTreeMap<String, f64>>>,
    form: Form,
    at: &impl Fn(Range<usize>, String) -> PackageError,
) -> Result<Vec<PartWeight>, PackageError> {
    let part = |name: &str, weight| PartWeight {
        name: name.to_owned(),
        weight,
    };
    let mut parts = Vec::new();
    if form == Form::Tagged {
        parts.push(part("format", Ppm::ZERO));
    }
    let Some(given) = given else {
        parts.push(part("correct", crate::score::CORRECT_WEIGHT));
        parts.push(part("brevity", crate::score::CORRECT_WEIGHT.complement()));
        return Ok(parts);
    };
    let weights = given.get_ref();
    let sum: u32 = weights.values().map(|weight| share(*weight).0).sum();
    if !weights.contains_key("correct") || sum != Ppm::ONE.0 || weights.len() > 16 {
        let why = "parts must have one named correct, and their weights must add up to 1; a part \
                   that weighs 0 is a gate";
        return Err(at(given.span(), why.to_owned()));
    }
    parts.extend(
        weights
            .iter()
            .filter(|(name, _)| *name != "format")
            .map(|(name, weight)| part(name, share(*weight))),
    );
    Ok(parts)
}

/// A share as an author writes it, in parts per million.
fn share(value: f64) -> Ppm {
    // A cast of a float stops at the ends of the integer's range.
    Ppm((value * 1e6).round() as u32).min(Ppm::ONE)
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
