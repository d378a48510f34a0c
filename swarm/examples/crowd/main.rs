//! Many nodes on this machine, to see what the swarm itself costs and survives.
//!
//! ```sh
//! cargo run --release --features crowd --example crowd -- --nodes 16,32,64 --rounds 20
//! cargo run --release --features crowd --example crowd -- --nodes 16 --rounds 60 --churn
//! cargo run --release --features crowd --example crowd -- --nodes 8 --rounds 2000        # a soak
//! cargo run --release --features crowd --example crowd -- --nodes 8 --flood all
//! ```
//!
//! Each node is a process of its own and a whole `murmur run` of one peer: keys,
//! network, rounds, journal, transcripts, settlement on the first one's devnet. Only
//! the model is replaced, by one that works sums out ([`mind`]). A table and JSON
//! come out; the bars are those of `benches/NETWORK.md`.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`mind`] | what stands where the model does |
//! | [`node`] | one node |
//! | [`told`] | what a node tells, and when announcements were said and heard |
//! | [`keeper`] | starts, stops and watches the nodes |
//! | [`measured`] | memory, CPU and disk of a node |
//! | [`figures`] | what it all came to |
//! | [`hostile`] | who floods |

mod figures;
mod hostile;
mod keeper;
mod measured;
mod mind;
mod node;
mod told;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use hostile::{FloodArgs, Kind};
use keeper::{Keeper, Plan};

#[derive(Debug, Parser)]
#[command(about = "Many nodes on this machine: what the swarm itself costs and survives")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// How many nodes; several runs with commas between
    #[arg(long, value_delimiter = ',', default_value = "8")]
    nodes: Vec<u16>,
    /// Rounds to measure, once all nodes take part
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Seconds a round lasts by the clock [default: as long as it takes; 4 with --flood]
    #[arg(long)]
    length: Option<u64>,
    /// A quarter of the nodes leaves and returns each minute, every other by a kill
    #[arg(long)]
    churn: bool,
    /// Who attacks, one after the other after as many quiet rounds; commas between, or `all`
    #[arg(long, value_delimiter = ',', value_parser = hostile::kinds)]
    flood: Vec<hostile::Kinds>,
    /// Seconds between looks at memory, CPU and disk
    #[arg(long, default_value_t = 10)]
    every: u64,
    /// The longest stage, in seconds, where no clock decides
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Give up after so many seconds and report what there is
    #[arg(long, default_value_t = 7200)]
    limit: u64,
    /// Where the nodes' homes go, and stay [default: a folder that is removed]
    #[arg(long)]
    homes: Option<PathBuf>,
    /// Write the figures as JSON here as well
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One node, as the crowd starts it
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// One attacker, as the crowd starts it
    #[command(hide = true)]
    Hostile(FloodArgs),
}

fn main() -> Result<()> {
    policy::memory::give_back_what_is_freed();
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Node(node)) => node::run(node),
        Some(Part::Hostile(args)) => hostile::run(&args),
        None => crowd(&cli),
    }
}

fn crowd(cli: &Cli) -> Result<()> {
    let floods: Vec<Kind> = cli.flood.iter().flat_map(|kinds| kinds.0.clone()).collect();
    let mut all = Vec::new();
    for nodes in &cli.nodes {
        let temporary = tempfile::tempdir().context("making a folder for the homes")?;
        let homes = match &cli.homes {
            Some(homes) => homes.join(nodes.to_string()),
            None => temporary.path().to_owned(),
        };
        let plan = Plan {
            nodes: usize::from(*nodes),
            rounds: cli.rounds,
            length_s: cli.length.or((!floods.is_empty()).then_some(4)),
            churn: cli.churn,
            floods: floods.clone(),
            every: Duration::from_secs(cli.every),
            patience_s: cli.patience,
            limit: Duration::from_secs(cli.limit),
        };
        let run = Keeper::run(&plan, &homes).with_context(|| format!("{nodes} nodes"))?;
        all.extend(figures::of(&run)?);
        println!("{}", figures::table(&all));
        if let Some(path) = &cli.json {
            let json = serde_json::to_vec_pretty(&all).context("encoding the figures")?;
            std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}
