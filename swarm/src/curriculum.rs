//! `murmur curriculum`: the author's way to change what a swarm is asked while
//! it runs, and the author's word on disk.
//!
//! ```text
//! HOME/author/identity.json        the key that may change the curriculum, where
//!                                  the swarm was made
//! HOME/curriculum/0000000001.bin   amendment 1, signed: the author's own, or heard
//! ```
//!
//! Running peers look into the folder once a second, so the command needs no
//! connection to them; they pass on what they find, and keep what they hear.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use serde::Serialize;
use swarm_core::curriculum::{self, Amendment, Course, MAX_AMENDMENT};
use swarm_core::event::{CourseView, Event};
use swarm_core::ids::{Address, PeerId};
use swarm_core::manifest::Manifest;
use tasks::Registry;

use crate::home::{Home, read_small, write_atomic};
use crate::identity::Identity;
use crate::packages::Store;
use crate::wallet;

/// Rounds between now and the first that a change can hold in, so that every
/// peer has heard of it and fetched what it lacks.
const NOTICE: u64 = 3;

/// The folder of the author's key in its home.
pub const AUTHOR: &str = "author";

/// `murmur curriculum`.
#[derive(Debug, Subcommand)]
pub enum CurriculumCommand {
    /// As the swarm's author: ask something else, from a coming round on, without a restart
    Set(SetArgs),
    /// What is asked, at which levels, and which changes the author has signed
    Show(ShowArgs),
}

/// `murmur curriculum set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The curriculum: `[[curriculum]]` tables as in a manifest, and nothing else
    pub file: PathBuf,
    /// The first round in which it holds [default: three after the newest]
    #[arg(long, value_name = "ROUND")]
    pub from: Option<u64>,
    /// The home in which the swarm was made
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// `murmur curriculum show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The home to look in
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs a command; what it returns is for stdout.
///
/// # Errors
/// What is wrong, with the file and key where there is one.
pub fn run(command: &CurriculumCommand) -> Result<String> {
    match command {
        CurriculumCommand::Set(args) => set(args),
        CurriculumCommand::Show(args) => show(args),
    }
}

/// The amendments of a home.
#[derive(Debug, Clone)]
pub struct Amendments {
    folder: PathBuf,
}

/// Which files were looked at, and as of when.
pub type Seen = BTreeMap<PathBuf, Option<SystemTime>>;

impl Amendments {
    /// Those of a home; nothing is made yet.
    pub fn of(home: &Path) -> Self {
        Self {
            folder: home.join("curriculum"),
        }
    }

    /// Keeps one, in the place of another of its number.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, amendment: &Amendment) -> Result<()> {
        let path = self.folder.join(format!("{:010}.bin", amendment.number));
        let bytes = amendment.encode();
        let keep = || -> io::Result<()> {
            if read_small(&path, MAX_AMENDMENT as u64).is_ok_and(|kept| kept == bytes) {
                return Ok(());
            }
            std::fs::create_dir_all(&self.folder)?;
            write_atomic(&path, &bytes)
        };
        keep().with_context(|| format!("keeping {}", path.display()))
    }

    /// Those that were not seen before, in the order of their numbers; what
    /// cannot be read is named with the reason.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn fresh(&self, seen: &mut Seen) -> Result<(Vec<Amendment>, Vec<String>)> {
        let named = || format!("reading {}", self.folder.display());
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(error).with_context(named),
        };
        let mut paths = BTreeSet::new();
        for entry in entries {
            let path = entry.with_context(named)?.path();
            if path.extension().is_some_and(|extension| extension == "bin") {
                paths.insert(path);
            }
        }
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for path in paths {
            let changed = std::fs::metadata(&path).and_then(|about| about.modified());
            let changed = changed.ok();
            if seen.insert(path.clone(), changed) == Some(changed) {
                continue;
            }
            let amendment = read_small(&path, MAX_AMENDMENT as u64)
                .map_err(|error| error.to_string())
                .and_then(|bytes| Amendment::decode(&bytes).map_err(|why| why.to_string()));
            match amendment {
                Ok(amendment) => found.push(amendment),
                Err(why) => damaged.push(format!("{} is left out: {why}", path.display())),
            }
        }
        Ok((found, damaged))
    }
}

/// The key and the account of a swarm's author in its home, made if missing.
///
/// # Errors
/// They can't be read or made.
pub fn author(home: &Path, seed: Option<u64>) -> Result<(PeerId, Address)> {
    let folder = home.join(AUTHOR);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    // Another than any peer's, whatever the seed.
    let make = || {
        seed.map_or_else(Identity::random, |seed| {
            Identity::from_seed(seed, wallet::AUTHOR_KEY)
        })
    };
    let identity = Identity::open(&folder, &wallet::author_access()?, make)?;
    Ok((identity.peer_id(), identity.address()))
}

/// The home's swarm, and the environments that are known there.
pub(crate) fn place(path: Option<&Path>) -> Result<(Home, Manifest, Registry)> {
    let Some(home) = Home::existing(path)? else {
        bail!("no swarm has run here yet; start one with `murmur run`, or name its --home");
    };
    let (registry, _) = Store::of(home.path()).registry()?;
    let Some(bytes) = home.manifest()? else {
        bail!(
            "{} holds no swarm yet; start one with `murmur run`",
            home.path().display()
        );
    };
    let manifest = Manifest::from_canonical(&bytes, &registry).context("swarm.bin")?;
    Ok((home, manifest, registry))
}

/// The last round that a peer of this home began.
fn newest_round(home: &Home) -> Result<u64> {
    let mut newest = 0;
    for folder in home.peers()? {
        let progress = read_small(&folder.join("progress.json"), crate::home::SMALL);
        let round = progress.ok().and_then(|bytes| {
            let progress: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
            progress.get("round")?.as_u64()
        });
        newest = newest.max(round.unwrap_or(0));
    }
    Ok(newest)
}

fn set(args: &SetArgs) -> Result<String> {
    let (home, manifest, registry) = place(args.home.as_deref())?;
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("reading {}", args.file.display()))?;
    let courses = curriculum::from_toml(&text, &registry)
        .with_context(|| format!("{}", args.file.display()))?;
    amend(&home, &manifest, courses, args.from)
}

/// Signs a curriculum as the swarm's author, for this home's peers to pass on; from a round
/// on, or from three after the newest. What was done, for people.
///
/// # Errors
/// The author's key is not here, or the round has begun.
pub(crate) fn amend(
    home: &Home,
    manifest: &Manifest,
    courses: Vec<Course>,
    from: Option<u64>,
) -> Result<String> {
    let Some(named) = manifest.author else {
        bail!("this swarm's curriculum is nobody's to change: its manifest names no author");
    };
    let folder = home.path().join(AUTHOR);
    if !folder.exists() {
        bail!(
            "{} does not hold the key of the swarm's author; go where the swarm was made",
            home.path().display()
        );
    }
    let identity = Identity::open(&folder, &wallet::author_access()?, Identity::random)?;
    if identity.peer_id() != named {
        bail!(
            "the key in {} is not the one that the manifest names",
            folder.display()
        );
    }
    let amendments = Amendments::of(home.path());
    let (kept, _) = amendments.fresh(&mut Seen::new())?;
    let number = kept.iter().map(|one| one.number).max().unwrap_or(0) + 1;
    let newest = newest_round(home)?;
    let from = from.unwrap_or(newest + NOTICE);
    if from <= newest {
        bail!("round {from} has begun already, the newest is {newest}: choose a later one");
    }
    let key = SigningKey::from_bytes(&identity.iroh_secret());
    let amendment = Amendment::sign(&key, manifest.id(), number, from, courses);
    if let Err(why) = amendment.check(manifest) {
        bail!("{why}");
    }
    amendments.keep(&amendment)?;
    let mut text = format!(
        "amendment {number}: {} courses from round {from} on\n",
        amendment.courses.len()
    );
    text.push_str(
        "peers that run in this home pass it on within seconds; others at the next start\n",
    );
    Ok(text)
}

/// What `show` tells.
#[derive(Serialize)]
struct Shown {
    author: Option<PeerId>,
    amendments: Vec<ShownAmendment>,
    /// As the last round here asked it.
    asked: Option<Asked>,
}

#[derive(Serialize)]
struct ShownAmendment {
    number: u32,
    from: u64,
    courses: usize,
}

/// What was asked from a round on, as the report and `show` list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The first round that asked it.
    pub round: u64,
    /// Which amendment held; 0 for the manifest's curriculum.
    pub amendment: u32,
    /// The courses.
    pub courses: Vec<CourseView>,
}

impl Asked {
    /// Whether it asks other environments or levels.
    pub fn differs(&self, other: &Self) -> bool {
        let levels = |asked: &Self| -> Vec<(String, u8)> {
            let courses = asked.courses.iter();
            courses.map(|one| (one.env.clone(), one.level)).collect()
        };
        self.amendment != other.amendment || levels(self) != levels(other)
    }
}

fn show(args: &ShowArgs) -> Result<String> {
    let (home, manifest, _) = place(args.home.as_deref())?;
    let (amendments, _) = Amendments::of(home.path()).fresh(&mut Seen::new())?;
    let mut asked = None;
    if let Ok(file) = std::fs::File::open(home.events()) {
        for record in tui::read_events(BufReader::new(file)).0 {
            if let Event::Curriculum {
                round,
                amendment,
                courses,
                ..
            } = record.event
            {
                asked = Some(Asked {
                    round,
                    amendment,
                    courses,
                });
            }
        }
    }
    let shown = Shown {
        author: manifest.author,
        amendments: amendments
            .iter()
            .map(|amendment| ShownAmendment {
                number: amendment.number,
                from: amendment.from,
                courses: amendment.courses.len(),
            })
            .collect(),
        asked,
    };
    if args.json {
        return Ok(serde_json::to_string_pretty(&shown).context("encoding")? + "\n");
    }
    let mut text = String::new();
    match &shown.author {
        Some(author) => {
            let _ = writeln!(text, "author {}", author.to_hex());
        }
        None => text.push_str("the curriculum is nobody's to change\n"),
    }
    for ShownAmendment {
        number,
        from,
        courses,
    } in &shown.amendments
    {
        let _ = writeln!(
            text,
            "amendment {number}: {courses} courses from round {from} on"
        );
    }
    match &shown.asked {
        None => text.push_str("no round has begun here yet\n"),
        Some(asked) => {
            let _ = writeln!(
                text,
                "asked as of round {} (amendment {})\n{:<28} {:>5} {:>6} {:>6}",
                asked.round, asked.amendment, "environment", "level", "weight", "right"
            );
            for course in &asked.courses {
                let rate = course
                    .rate_ppm
                    .map_or_else(|| "fixed".to_owned(), |rate| format!("{}%", rate / 10_000));
                let _ = writeln!(
                    text,
                    "{:<28} {:>5} {:>6} {:>6}",
                    tui::text::clean(&course.env),
                    course.level,
                    course.weight,
                    rate
                );
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::ids::SwarmId;
    use tasks::EnvId;

    fn amendment(number: u32, weight: u32) -> Amendment {
        let key = SigningKey::from_bytes(&[3; 32]);
        let course = curriculum::Course {
            env: EnvId([1; 32]),
            level: 1,
            weight,
            climb: None,
        };
        Amendment::sign(&key, SwarmId([2; 32]), number, 5, vec![course])
    }

    #[test]
    fn amendments_are_kept_seen_once_and_a_torn_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let amendments = Amendments::of(home.path());
        let mut seen = Seen::new();
        assert_eq!(amendments.fresh(&mut seen).unwrap(), (vec![], vec![]));
        for number in [10, 2] {
            amendments.keep(&amendment(number, 1)).unwrap();
        }
        let (found, damaged) = amendments.fresh(&mut seen).unwrap();
        assert_eq!(found, [amendment(2, 1), amendment(10, 1)]);
        assert!(damaged.is_empty());
        amendments.keep(&amendment(2, 1)).unwrap();
        assert_eq!(amendments.fresh(&mut seen).unwrap(), (vec![], vec![]));
        let torn = amendments.folder.join("0000000011.bin");
        std::fs::write(torn, &amendment(11, 1).encode()[..40]).unwrap();
        let (found, damaged) = amendments.fresh(&mut seen).unwrap();
        assert!(found.is_empty() && damaged[0].contains("0000000011.bin"));
    }

    #[test]
    fn the_author_is_the_same_at_every_start() {
        let home = tempfile::tempdir().unwrap();
        let first = author(home.path(), Some(7)).unwrap();
        assert_eq!(author(home.path(), None).unwrap(), first);
    }
}
