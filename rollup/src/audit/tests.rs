//! Rounds settled on a real devnet, checked; and then the devnet's log, rewritten by
//! whoever runs it, checksums and all: what was changed is named.

use alloy::primitives::{Bytes, LogData};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolEvent;
use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::contracts::abi::ledger::ReputationLedger as L;
use crate::devnet::{Devnet, DevnetConfig, Log, Record};
use crate::{ChainProfile, Ledger, Scorecard, SignedScorecard, Swarm, Terms, registration_message};

const ROUNDS: u64 = 5;

fn config(home: &tempfile::TempDir) -> DevnetConfig {
    DevnetConfig {
        home: home.path().to_owned(),
        port: 0,
        chain_id: 7700,
        prefund: (1..=5).map(|byte| key(byte).address()).collect(),
        seed: Some(5),
    }
}

fn key(byte: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()
}

/// Five peers, of whom the last is away from round 3 on and the fourth signs nonsense
/// about every other peer.
async fn settled(devnet: &Devnet) -> Swarm {
    let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
    let mut swarms = Vec::new();
    for byte in 1..=5 {
        let ledger = Ledger::deploy(&profile, key(byte)).await.unwrap();
        let node = SigningKey::from_bytes(&[byte; 32]);
        let registry = ledger.addresses().registry.into_array();
        let message = registration_message(7700, registry, ledger.address());
        let signature = node.sign(&message).to_bytes();
        let public = node.verifying_key().to_bytes();
        ledger.register(public, signature, "peer").await.unwrap();
        let swarm = ledger.create_swarm([4; 32], Terms::LOCAL).await.unwrap();
        swarm.join().await.unwrap();
        swarms.push(swarm);
    }
    for round in 1..=ROUNDS {
        let committee = swarms[0].open_round(round).await.unwrap().committee;
        let here = if round < 3 { 5 } else { 4 };
        let address = |swarm: &Swarm| swarm.ledger().address();
        let scored: Vec<_> = swarms[..here].iter().map(address).collect();
        let signing = swarms[..here].iter().enumerate();
        let signing = signing.filter(|(_, swarm)| committee.contains(&address(swarm)));
        let cards: Vec<_> = signing
            .map(|(index, swarm)| {
                let scores = scored.iter().zip(1u32..).map(|(&peer, place)| {
                    let off = if index == 3 && place % 2 == 1 {
                        120_000
                    } else {
                        0
                    };
                    (
                        peer,
                        100_000 * place + 1_000 * u32::try_from(round).unwrap() + off,
                    )
                });
                let ledger = swarm.ledger();
                let card = Scorecard::new(ledger.address(), swarm.id(), round, [9; 32], scores);
                SignedScorecard::sign(ledger.signer(), &ledger.domain(), card)
            })
            .collect();
        swarms[0].settle(round, [9; 32], &cards).await.unwrap();
    }
    swarms.swap_remove(0)
}

/// What differs, by round; and what the replay comes to.
async fn audited(swarm: &Swarm) -> (Vec<(u64, Line)>, Replay) {
    let chronicle = swarm.chronicle().await.unwrap();
    let domain = swarm.ledger().domain();
    let mut replay = Replay::new(swarm.id());
    let mut found = Vec::new();
    for step in &chronicle.steps {
        let Step::Settled { round: number } = step else {
            replay.follow(step, &chronicle.rounds);
            continue;
        };
        let round = &chronicle.rounds[number];
        let settled = round.settled.as_ref().unwrap();
        let cards = swarm.cards(settled).await.unwrap().unwrap();
        let differences = replay.check(round, settled, &cards, &domain);
        found.extend(differences.into_iter().map(|one| (*number, one.line)));
    }
    (found, replay)
}

/// Rewrites the first event of its kind in a round, as whoever runs a devnet can.
fn rewrite<E: SolEvent>(home: &tempfile::TempDir, round: u64, change: impl Fn(&mut Vec<u8>)) {
    let path = home.path().join("devnet.log");
    let mut records = Vec::new();
    drop(Log::open(&path, |record, _| {
        records.push(record);
        Ok(())
    }));
    std::fs::remove_file(&path).unwrap();
    let (mut log, _) = Log::open(&path, |_, _| Ok(())).unwrap();
    let mut left = 1;
    for mut record in records {
        if let Record::Block(block) = &mut record {
            for event in &mut block.logs {
                let topics = event.topics().to_vec();
                let number = topics.get(2).map(|word| word.0[31]);
                if left > 0
                    && topics.first() == Some(&E::SIGNATURE_HASH)
                    && number == Some(u8::try_from(round).unwrap())
                {
                    let mut data = event.data.data.to_vec();
                    change(&mut data);
                    event.data = LogData::new(topics, Bytes::from(data)).unwrap();
                    left -= 1;
                }
            }
        }
        log.append(&record).unwrap();
    }
    assert_eq!(left, 0, "the event was found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_ledger_follows_from_its_cards_and_a_rewritten_one_is_found_out() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home)).await.unwrap();
    let swarm = settled(&devnet).await;
    let (found, replay) = audited(&swarm).await;
    assert_eq!(found, []);
    // The fifth has been away for three rounds: the ledger's fading is ours.
    for standing in swarm.reputations().await.unwrap() {
        let ours = replay.standing(standing.address);
        let theirs = (standing.score, standing.uncertainty);
        assert_eq!(theirs, (ours.reputation, ours.uncertainty));
    }
    let id = swarm.id();
    drop(swarm);
    devnet.shutdown().await;

    // A score and a reputation, by one part in a million; and the set that was counted.
    let last_of_word = |word: usize| move |data: &mut Vec<u8>| data[32 * word + 31] ^= 1;
    rewrite::<L::PeerScored>(&home, 2, last_of_word(0));
    rewrite::<L::PeerScored>(&home, 4, last_of_word(2));
    rewrite::<L::RoundSettled>(&home, 5, last_of_word(0));
    let devnet = Devnet::start(config(&home)).await.unwrap();
    let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
    let ledger = Ledger::observe(profile).await.unwrap();
    let swarm = ledger.swarm(id);
    let chronicle = swarm.chronicle().await.unwrap();
    let scored = |round: u64| chronicle.rounds[&round].settled.as_ref().unwrap().scores[0].peer;
    let (found, _) = audited(&swarm).await;
    let peer = scored(2);
    for line in [
        (2, Line::Median { peer }),
        (2, Line::Scores),
        (4, Line::Reputation { peer: scored(4) }),
        (4, Line::Scores),
        (5, Line::Included),
        (5, Line::Root),
    ] {
        assert!(found.contains(&line), "{line:?} is not among {found:?}");
    }
    // What was not touched is not accused.
    assert!(
        found.iter().all(|(round, _)| [2, 4, 5].contains(round)),
        "{found:?}"
    );
    devnet.shutdown().await;
}
