//! A devnet to look at: starts one, settles a few rounds of a swarm of four on it, prints
//! where everything is, and serves until it is interrupted.
//!
//!     cargo run --release -p rollup --example devnet -- HOME [PORT] [ROUNDS]

use std::time::Instant;

use anyhow::Context;
use rollup::ChainProfile;
use rollup::devnet::{DEFAULT_CHAIN_ID, Devnet, DevnetConfig};

#[path = "../tests/suite/support.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests use the rest, and may fail"
)]
mod support;

const PEERS: u8 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let home = arguments
        .next()
        .context("which folder should the devnet live in?")?;
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let rounds: u64 = arguments.next().map_or(Ok(3), |rounds| rounds.parse())?;
    let started = Instant::now();
    let devnet = Devnet::start(DevnetConfig {
        home: home.into(),
        port,
        chain_id: DEFAULT_CHAIN_ID,
        prefund: (0..PEERS)
            .map(|number| support::key(number).address())
            .collect(),
        seed: None,
    })
    .await?;
    let blocks = devnet.height();
    println!(
        "devnet at {} with {blocks} blocks, up in {:?}",
        devnet.url(),
        started.elapsed()
    );
    if let Some(torn) = devnet.torn_tail() {
        println!(
            "cut off {} torn bytes, kept in {}",
            torn.bytes,
            torn.kept_in.display()
        );
    }

    let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
    let swarms = support::swarm_of(&profile, PEERS).await;
    let started = Instant::now();
    let first = swarms[0].info().await?.next_round;
    if rounds > 0 {
        support::settle(&swarms, first..=first + rounds - 1).await;
    }
    println!("{rounds} rounds settled in {:?}", started.elapsed());

    let addresses = swarms[0].ledger().addresses();
    println!(
        "registry {}\nledger   {}",
        addresses.registry, addresses.ledger
    );
    println!("swarm    0x{}", hex::encode(swarms[0].id()));
    for settled in swarms[0].history(first).await?.iter().rev().take(1) {
        println!(
            "round {} settled by 0x{}",
            settled.round,
            hex::encode(settled.tx)
        );
    }
    for reputation in swarms[0].reputations().await? {
        println!(
            "{:>7} ppm after {} rounds: {}",
            reputation.score, reputation.rounds, reputation.name
        );
    }
    println!("serving; interrupt to stop");
    tokio::signal::ctrl_c().await?;
    devnet.shutdown().await;
    Ok(())
}
