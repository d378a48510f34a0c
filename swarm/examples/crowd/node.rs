//! One node: a whole `murmur run` of one peer, but for its model.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use swarm::cli::RunArgs;
use swarm::process::{self, Minds};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::mind::Free;
use crate::told::{Teller, Timing, println};

/// The file of when announcements were said and heard.
pub(crate) const TIMES: &str = "times.bin";

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Its home.
    #[arg(long)]
    home: PathBuf,
    /// The swarm to create.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// The ticket to join by.
    #[arg(long)]
    join: Option<String>,
}

/// Takes part until standard input ends: so no node outlives its keeper.
pub(crate) fn run(node: NodeArgs) -> Result<()> {
    std::fs::create_dir_all(&node.home).context("making the home")?;
    let timing = Timing::to(&node.home.join(TIMES)).context("opening the times")?;
    let only = Targets::new().with_target(swarm::net::ANNOUNCEMENTS, Level::TRACE);
    tracing_subscriber::registry()
        .with(timing.with_filter(only))
        .init();
    let stop = CancellationToken::new();
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.cancel();
    });
    let args = RunArgs {
        headless: true,
        peers: Some(1),
        home: Some(node.home),
        manifest: node.manifest,
        join: node.join,
        eval_items: 1,
        ..RunArgs::default()
    };
    let (feed, records) = tui::feed();
    let teller = std::thread::spawn(move || {
        let mut teller = Teller::default();
        for record in records {
            if let Some(line) = teller.tell(record) {
                println(&line);
            }
        }
    });
    let minds = Minds::Other(Box::new(|| Box::new(Free::default())));
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let ran = runtime.block_on(process::run(args, minds, Some(feed), stop));
    teller.join().ok().context("the teller panicked")?;
    ran
}
