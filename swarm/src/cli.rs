//! The command line: what can be typed, and what each word means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::create::CreateArgs;
use crate::curriculum::CurriculumCommand;
use crate::doctor::DoctorArgs;
use crate::experiment::ExperimentCommand;
use crate::explore::ExploreArgs;
use crate::method::TrainingArgs;
use crate::model::command::ModelCommand;
use crate::onchain::ChainCommand;
use crate::own::OwnArgs;
use crate::reach::NetArgs;
use crate::rep::args::RepCommand;
use crate::sim::SimArgs;
use crate::task::TaskCommand;
use crate::wallet::WalletArgs;

/// A peer-to-peer swarm that post-trains small language models with
/// reinforcement learning.
///
/// With no command: a live swarm of four peers on this machine, in the
/// terminal UI. It needs no account, no network and no configuration; `q`
/// saves and leaves, and the next start resumes where it stopped.
#[derive(Debug, Parser)]
#[command(name = "murmur", version, max_term_width = 100)]
pub struct Cli {
    /// What to do; `run` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run peers on this machine: a swarm of their own, or joined to one
    Run(RunArgs),
    /// Make a swarm that others can join: its manifest, a ticket and a QR code
    Create(CreateArgs),
    /// Join a swarm by a ticket, a manifest, a URL or its id on a chain
    Join(JoinArgs),
    /// What works from here: disk, memory, network, peers, clock, chain; exit code 1 if
    /// something a node needs does not
    Doctor(DoctorArgs),
    /// Show a recorded run on the same screens, with pause, speed and seek
    Replay(ReplayArgs),
    /// Measure accuracy on held-out items, whose questions training never draws
    Eval(EvalArgs),
    /// Reputation, as the ledger has it: look, recompute, export
    #[command(subcommand)]
    Rep(RepCommand),
    /// Environments: write, try, test, train on and publish them
    #[command(subcommand)]
    Task(TaskCommand),
    /// What a swarm is asked: levels as they stand, and the author's changes
    #[command(subcommand)]
    Curriculum(CurriculumCommand),
    /// Reputation as a web page on this machine, read-only
    Explore(ExploreArgs),
    /// Keys: which there are, where they are, what they hold; back-up, rotation
    Wallet(WalletArgs),
    /// The chain a swarm settles on: its profile, its fees, peers as ERC-8004 agents
    #[command(subcommand)]
    Chain(ChainCommand),
    /// Who contributed owns: shares from settled reputation, a vault, votes
    Own(OwnArgs),
    /// Models to start from: on this machine, or from the hub
    #[command(subcommand)]
    Model(ModelCommand),
    /// Try whether cheating pays: adversaries against the real draws and judge
    Sim(SimArgs),
    /// Measure what a rule is worth: whole swarms with and without it, seed by seed
    #[command(subcommand)]
    Experiment(ExperimentCommand),
}

/// `murmur run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Plain log lines to stderr instead of the terminal UI
    #[arg(long)]
    pub headless: bool,
    /// Peers to run in this process, each with its own key, model and endpoint
    /// [default: 4 in a swarm of its own, 1 in one that was joined]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub peers: Option<u16>,
    /// Stop after this many rounds [default: go on until stopped]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,
    /// Make keys and the first round's draws follow from this number: for
    /// experiments, since anyone who knows the number knows the keys. Later
    /// rounds also depend on whose transactions come first
    #[arg(long)]
    pub seed: Option<u64>,
    /// The model peers start from: a name on the hub, a folder, a .gguf file or
    /// `base` [default: what the home began with, else the embedded base model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Ask nothing of the hub; the model must be on this machine
    #[arg(long)]
    pub offline: bool,
    /// How much of the model is trained
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Where keys, checkpoints, chain and events live
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Write a JSON report here at the end, with held-out accuracy before and after
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Serve numbers for Prometheus here, at /metrics (METRICS.md lists them)
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<std::net::SocketAddr>,
    /// Join the swarm that this names, as `murmur join` does
    #[arg(long, value_name = "SOURCE")]
    pub join: Option<String>,
    /// How peers are reached and found.
    #[command(flatten)]
    pub net: NetArgs,
    /// Settle on the chain behind this JSON-RPC URL instead of the embedded
    /// devnet; MURMUR_PAYER_KEY in the environment holds the key that pays. Who
    /// joins without one is registered by a peer that can pay
    #[arg(long, value_name = "URL", requires = "chain_id")]
    pub rpc: Option<String>,
    /// The chain id that URL must answer with
    #[arg(long, value_name = "N", requires = "rpc")]
    pub chain_id: Option<u64>,
    /// The same with more said of it: a chain's profile, as `murmur chain show` prints it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rpc", "rpc_port"])]
    pub chain: Option<PathBuf>,
    /// What that file says.
    #[arg(skip)]
    pub profile: Option<rollup::ChainProfile>,
    /// Port of the embedded devnet's JSON-RPC on loopback [default: any free one]
    #[arg(long, value_name = "PORT", conflicts_with = "rpc")]
    pub rpc_port: Option<u16>,
    /// Manifest of the swarm to create [default: the local profile]
    #[arg(long, value_name = "FILE", conflicts_with = "join")]
    pub manifest: Option<PathBuf>,
    /// Held-out items per environment and level for the evaluation
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub eval_items: u32,
}

/// `murmur join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// A ticket or invite, a file or an http(s) URL that holds one or a manifest,
    /// or chain:SWARM-ID with --rpc and --chain-id [default: the swarm that this
    /// home joined before]
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
    /// How to take part.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Default for RunArgs {
    /// What `murmur run` alone means.
    fn default() -> Self {
        use clap::{ArgMatches, Command, FromArgMatches};
        let command = Self::augment_args(Command::new("run"));
        let matches: ArgMatches = command.get_matches_from(["run"]);
        Self::from_arg_matches(&matches).expect("every argument of `run` has a default")
    }
}

/// `murmur replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The event log of a run (`events.jsonl` in its home)
    pub file: PathBuf,
}

/// `murmur eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The home whose peers to measure
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Measure the embedded base model, before any RL
    #[arg(long, conflicts_with = "model")]
    pub base: bool,
    /// Measure this model alone: a name on the hub, a folder or a .gguf file
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Ask nothing of the hub; the model must be on this machine
    #[arg(long)]
    pub offline: bool,
    /// Held-out items per environment and level
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub items: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_readme_line_parses() {
        let line = "murmur run --headless --peers 4 --rounds 12 --seed 7 --home d --report r.json";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Some(Command::Run(args)) = cli.command else {
            panic!("not run")
        };
        assert!(
            args.headless
                && args.peers == Some(4)
                && args.rounds == Some(12)
                && args.seed == Some(7)
        );
    }

    #[test]
    fn a_foreign_chain_needs_its_id() {
        assert!(Cli::try_parse_from(["murmur", "run", "--rpc", "http://127.0.0.1:1"]).is_err());
    }
}
