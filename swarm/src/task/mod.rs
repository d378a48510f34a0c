//! `murmur task`: what an author of environments does, from an empty folder to
//! a hash that strangers train on.
//!
//! | module | commands |
//! | --- | --- |
//! | `author` | `new`, `test`, `bench` |
//! | `play` | `play` |
//! | `train` | `train` |
//! | `share` | `publish`, `verify`, `list` |
//! | `bridge` | a Python environment, for experiments on this machine |

mod author;
mod bridge;
mod play;
mod share;
mod train;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use tasks::package::{Bundle, MAX_FILE, Packaged};
use tasks::{Environment, Registry};
use tokio_util::sync::CancellationToken;

use crate::home;
use crate::packages::Store;

/// `murmur task`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Write a small whole environment to begin with
    New(NewArgs),
    /// Answer its items yourself, and see what each answer is worth and why
    Play(PlayArgs),
    /// Check it: golden vectors, determinism, and what answers earn that solve nothing
    Test(TestArgs),
    /// Items and scores a second
    Bench(BenchArgs),
    /// Train the base model on it for a while: does a model learn from it?
    Train(TrainArgs),
    /// Keep it under its hash and give it to whoever asks
    Publish(PublishArgs),
    /// Fetch an environment by hash, and check it as its author did
    Verify(VerifyArgs),
    /// Environments on this machine
    List(HomeArgs),
}

/// What an environment can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Rows of questions and answers, no code
    Table,
    /// A script in Starlark, a small Python
    Starlark,
    /// A game of several turns, in Starlark
    Game,
    /// A module in Rust
    Rust,
    /// A module in AssemblyScript
    Assemblyscript,
}

/// `murmur task new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Its name, and the folder to make: small letters, digits and _
    pub name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "starlark")]
    pub kind: Kind,
}

/// Which environment.
#[derive(Debug, Args)]
pub struct Which {
    /// A folder with a task.toml, the name of an environment, a hash, or
    /// `python:COMMAND` for one that a program of yours runs (see the guide)
    #[arg(default_value = ".")]
    pub task: String,
    /// The home whose packages to look in
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// `murmur task play`.
#[derive(Debug, Args)]
pub struct PlayArgs {
    /// Which environment
    #[command(flatten)]
    pub which: Which,
    /// The level
    #[arg(long, default_value_t = 1)]
    pub level: u8,
    /// Which items: the same number shows the same
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `murmur task test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Which environment
    #[command(flatten)]
    pub which: Which,
    /// Write golden.jsonl anew, after a change that was meant
    #[arg(long)]
    pub write: bool,
    /// Items of each level for the floors
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub items: u32,
}

/// `murmur task bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which environment
    #[command(flatten)]
    pub which: Which,
    /// Seconds for each number
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
}

/// `murmur task train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Which environment
    #[command(flatten)]
    pub which: Which,
    /// The level
    #[arg(long, default_value_t = 1)]
    pub level: u8,
    /// Optimizer steps
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub steps: u32,
    /// Items a step
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub items: u32,
    /// Completions of each
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub group: u32,
    /// Learning rate
    #[arg(long, default_value_t = 4e-4)]
    pub rate: f32,
    /// Longest completion, in tokens
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub tokens: u32,
    /// Which draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `murmur task publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The folder with its task.toml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The home to keep it in
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Only keep it; a node that runs it in its swarm serves it too
    #[arg(long)]
    pub no_seed: bool,
}

/// `murmur task verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Its hash
    pub hash: String,
    /// Who has it: the address that `publish` printed
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// The home to look and keep it in
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// `murmur task list`.
#[derive(Debug, Args)]
pub struct HomeArgs {
    /// The home to look in
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// How a program of the user's is named.
const PYTHON: &str = "python:";

/// A line on stdout. A reader that left has what it wanted.
fn say(line: String) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a command; what it returns is for stdout.
///
/// # Errors
/// What went wrong, with the file and line where there is one.
pub fn run(command: TaskCommand, runtime: &tokio::runtime::Runtime) -> Result<String> {
    match command {
        TaskCommand::New(args) => author::new(&args),
        TaskCommand::Play(args) => play::play(&args),
        TaskCommand::Test(args) => author::test(&args),
        TaskCommand::Bench(args) => author::bench(&args),
        TaskCommand::Train(args) => train::train(&args, say),
        TaskCommand::Publish(args) => {
            let stop = CancellationToken::new();
            let stopped = stop.clone();
            runtime.spawn(async move {
                let _ = tokio::signal::ctrl_c().await;
                stopped.cancel();
            });
            runtime.block_on(share::publish(&args, say, stop))
        }
        TaskCommand::Verify(args) => runtime.block_on(share::verify(&args)),
        TaskCommand::List(args) => share::list(&args),
    }
}

/// An environment that was asked for by folder, name or hash.
enum Found {
    /// A package, from a folder or a store.
    Package(Box<Packaged>),
    /// Part of the program.
    Builtin(Registry, String),
    /// A program of the user's.
    Bridge(Box<bridge::Bridge>),
}

impl Found {
    fn environment(&self) -> Result<&dyn Environment> {
        match self {
            Found::Package(package) => Ok(package.as_ref()),
            Found::Bridge(bridge) => Ok(bridge.as_ref()),
            Found::Builtin(registry, name) => registry
                .by_name(name)
                .with_context(|| format!("no environment {name}")),
        }
    }
}

/// Refuses a level that an environment does not have.
fn has_level(environment: &dyn Environment, level: u8) -> Result<()> {
    let manifest = environment.manifest();
    let most = manifest.levels.len();
    if level == 0 || usize::from(level) > most {
        bail!(
            "{} has no level {level}: --level must be 1 to {most}",
            manifest.name
        );
    }
    Ok(())
}

fn find(which: &Which) -> Result<Found> {
    if let Some(command) = which.task.strip_prefix(PYTHON) {
        return Ok(Found::Bridge(Box::new(bridge::Bridge::start(command)?)));
    }
    let folder = Path::new(&which.task);
    if folder.is_dir() {
        let bundle = read_folder(folder)?;
        return Ok(Found::Package(Box::new(Packaged::open(&bundle)?)));
    }
    let store = Store::of(&home::resolve(which.home.as_deref())?);
    if let Ok(id) = which.task.parse() {
        if let Some(package) = store.open(id)? {
            return Ok(Found::Package(Box::new(package)));
        }
        bail!(
            "no environment {} in {}; `murmur task verify` fetches one from who has it",
            which.task,
            store.folder().display()
        );
    }
    let registry = Registry::all();
    if registry.by_name(&which.task).is_some() {
        return Ok(Found::Builtin(registry, which.task.clone()));
    }
    for id in store.list()? {
        if let Some(package) = store.open(id)?
            && package.manifest().name == which.task
        {
            return Ok(Found::Package(Box::new(package)));
        }
    }
    bail!(
        "{:?} is no folder, and no environment has that name; `murmur task list` shows them",
        which.task
    )
}

/// The package of a folder. Files beside it that are no part of one are not read.
fn read_folder(folder: &Path) -> Result<Bundle> {
    use tasks::package::{GOLDEN, ITEMS, MODULE, SCRIPT, SETTINGS};
    let mut files = BTreeMap::new();
    for name in [SETTINGS, ITEMS, SCRIPT, MODULE, GOLDEN] {
        let path = folder.join(name);
        let bytes = match std::fs::metadata(&path) {
            Ok(about) if about.len() > u64::from(MAX_FILE) => {
                bail!(
                    "{} has {} bytes, at most {MAX_FILE} may travel",
                    path.display(),
                    about.len()
                )
            }
            Ok(_) => std::fs::read(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
        let bytes = bytes.with_context(|| format!("reading {}", path.display()))?;
        files.insert(name.to_owned(), bytes);
    }
    Bundle::from_folder(files).with_context(|| format!("in {}", folder.display()))
}
