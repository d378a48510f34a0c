//! A devnet to look at: starts one, settles a few rounds of a swarm of four on it, prints
//! where everything is, and serves until it is interrupted.
//!
//!     cargo run --release -p rollup --example devnet -- HOME [PORT] [ROUNDS]

use std::time::Instant;

use anyhow::Context;
use rollup::devnet::{DEFAULT_CHAIN_ID, Devnet, DevnetConfig};
use rollup::{ChainProfile, Ledger, PrivateKeySigner, Scorecard, SignedScorecard, Terms};

const PEERS: u8 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let home = arguments
        .next()
        .context("which folder should the devnet live in?")?;
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let rounds: u64 = arguments.next().map_or(Ok(3), |rounds| rounds.parse())?;
    let keys: Vec<_> = (1..=PEERS)
        .map(|number| PrivateKeySigner::from_bytes(&[number; 32].into()))
        .collect::<Result<_, _>>()?;

    let started = Instant::now();
    let devnet = Devnet::start(DevnetConfig {
        home: home.into(),
        port,
        chain_id: DEFAULT_CHAIN_ID,
        prefund: keys.iter().map(PrivateKeySigner::address).collect(),
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
    let mut swarms = Vec::new();
    for (number, key) in keys.into_iter().enumerate() {
        let ledger = Ledger::deploy(&profile, key).await?;
        // These peers have no iroh key to sign with, so the client will show none.
        ledger
            .register(
                [number as u8 + 1; 32],
                [0; 64],
                &format!("starling-{number}"),
            )
            .await?;
        let swarm = ledger.create_swarm([42; 32], Terms::LOCAL).await?;
        swarm.join().await?;
        swarms.push(swarm);
    }

    let started = Instant::now();
    let first = swarms[0].info().await?.next_round;
    let mut gas = 0;
    for round in first..first + rounds {
        swarms[0].open_round(round).await?;
        let peers: Vec<_> = swarms
            .iter()
            .map(|swarm| swarm.ledger().address())
            .collect();
        let cards: Vec<_> = swarms
            .iter()
            .map(|swarm| {
                let ledger = swarm.ledger();
                let scores = peers
                    .iter()
                    .zip(1..)
                    .map(|(&peer, place)| (peer, place * 200_000));
                let card = Scorecard::new(ledger.address(), swarm.id(), round, [9; 32], scores);
                SignedScorecard::sign(ledger.signer(), &ledger.domain(), card)
            })
            .collect();
        gas = swarms[1].settle(round, [9; 32], &cards).await?.gas;
    }
    println!(
        "{rounds} rounds settled in {:?}, the last for {gas} gas",
        started.elapsed()
    );

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
