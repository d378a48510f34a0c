//! What can be asked of the ledger on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `murmur rep`.
#[derive(Debug, Subcommand)]
pub enum RepCommand {
    /// Peers by reputation, highest first
    Top(TopArgs),
    /// One peer: its standing, its rounds, and what of its work was not counted
    Peer(PeerArgs),
    /// One round: committee, scores, evidence, transaction
    Round(RoundArgs),
    /// The swarm as the ledger has it: chain, contracts, members, rounds
    Swarm(ReadArgs),
    /// Recompute settled rounds from the chain and their transcripts, and say
    /// which line differs (exit code 3 if one does)
    Verify(VerifyArgs),
    /// Everything the events say, as JSON, or as CSV with a line for each peer
    /// and round
    Export(ReadArgs),
    /// What every number means: unit, what raises it, what lowers it, how long
    /// it remembers
    Words(WordsArgs),
}

/// Which ledger, and which swarm on it.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The home whose swarm to read: a running one's chain, or its saved devnet
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Read the chain behind this JSON-RPC URL
    #[arg(long, value_name = "URL", requires = "chain_id")]
    pub rpc: Option<String>,
    /// The chain id that URL must answer with
    #[arg(long, value_name = "N", requires = "rpc")]
    pub chain_id: Option<u64>,
    /// Read the chain that this profile names, as `murmur chain show` prints one
    #[arg(long, value_name = "FILE", conflicts_with = "rpc")]
    pub chain: Option<PathBuf>,
    /// The ReputationLedger [default: where this version deploys it]
    #[arg(long, value_name = "ADDRESS", requires = "rpc")]
    pub ledger: Option<String>,
    /// The swarm, by its id on chain, its manifest's hash or a beginning of either
    /// [default: the home's, or the only one there is]
    #[arg(long, value_name = "ID")]
    pub swarm: Option<String>,
    /// The first block to look for swarms in: saves requests on a long chain
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub from_block: u64,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Output {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Print CSV instead of a table
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// `murmur rep swarm` and `murmur rep export`.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `murmur rep top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Show at most this many
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `murmur rep peer`.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Its name, its address, its iroh id, or a beginning of one of them
    pub peer: String,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Show at most this many rounds, the newest
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `murmur rep round`.
#[derive(Debug, Args)]
pub struct RoundArgs {
    /// Its number [default: the newest that settled]
    pub round: Option<u64>,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `murmur rep verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The round to recompute [default: the newest that settled]
    #[arg(conflicts_with = "all")]
    pub round: Option<u64>,
    /// Recompute every settled round
    #[arg(long)]
    pub all: bool,
    /// The round's transcript, from wherever it came [default: the home's]
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub transcript: Option<PathBuf>,
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `murmur rep words`.
#[derive(Debug, Args)]
pub struct WordsArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
