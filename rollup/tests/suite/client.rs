//! The ledger client, end to end on the devnet.

use rollup::devnet::Devnet;
use rollup::{
    Addresses, Admission, ChainProfile, Delivery, Finality, Ledger, LedgerError, Outbox,
    RoundStatus, SignedRound, Swarm, Terms, U256,
};

use crate::support::{cards, config, key, node_key, node_signature, profile, swarm_of};

/// The whole life of a swarm on a chain; also run against anvil.
pub(crate) async fn whole_life(profile: &ChainProfile) {
    let swarms = swarm_of(profile, 4).await;
    let swarm = &swarms[0];
    let info = swarm.info().await.unwrap();
    assert_eq!(
        (info.manifest, info.next_round, info.settled_rounds),
        ([42; 32], 0, 0)
    );

    // Opened by all at once, it is opened once, and everybody is told the same.
    assert_eq!(swarm.round_opened(1).await.unwrap(), None);
    let (a, b, c, d) = tokio::join!(
        swarms[0].open_round(1),
        swarms[1].open_round(1),
        swarms[2].open_round(1),
        swarms[3].open_round(1),
    );
    let opened = a.unwrap();
    assert!([b, c, d].into_iter().all(|other| other.unwrap() == opened));
    assert_eq!(
        (opened.committee.len(), opened.status),
        (4, RoundStatus::Opened)
    );
    assert_ne!(opened.beacon, [0; 32]);

    // Too few signatures, then a quorum, then the same again by everybody.
    let signed = cards(&swarms, 1, [9; 32]);
    let error = swarm.settle(1, [9; 32], &signed[..2]).await.unwrap_err();
    assert_eq!(error.refusal(), Some("NoQuorum"), "{error}");
    let settled = swarm.settle(1, [9; 32], &signed).await.unwrap();
    assert!(!settled.already && settled.gas > 100_000 && settled.tx.is_some());
    let again = swarms[1].settle(1, [9; 32], &signed).await.unwrap();
    assert!(again.already && again.tx.is_none());
    let status = swarm.round_opened(1).await.unwrap().unwrap().status;
    assert_eq!(status, RoundStatus::Settled);

    // A round nobody settles, and one after it.
    swarm.open_round(2).await.unwrap();
    let voided = swarm
        .void_round(2, &cards(&swarms, 2, [8; 32])[..2])
        .await
        .unwrap();
    assert!(!voided.already);
    assert!(swarms[1].void_round(2, &[]).await.unwrap().already);
    swarm.open_round(3).await.unwrap();
    let error = swarm.open_round(0).await.unwrap_err();
    assert_eq!(error.refusal(), Some("RoundPassed"), "{error}");
    swarm
        .settle(3, [7; 32], &cards(&swarms, 3, [7; 32]))
        .await
        .unwrap();

    // What came of it.
    let history = swarm.history(0).await.unwrap();
    assert_eq!(
        history
            .iter()
            .map(|settled| settled.round)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(swarm.history(2).await.unwrap(), history[1..]);
    let first = &history[0];
    assert_eq!((first.included, Some(first.tx)), ([9; 32], settled.tx));
    assert_eq!(
        (first.relayer, first.witnesses.len()),
        (swarm.ledger().address(), 4)
    );
    for (place, swarm) in (1..).zip(&swarms) {
        let own = swarm.ledger().address();
        let scored = first
            .scores
            .iter()
            .find(|scored| scored.peer == own)
            .unwrap();
        let expected = (Some(place * 100_000), 3, place * 100_000 / 16);
        assert_eq!((scored.score, scored.judges, scored.reputation), expected);
    }
    let reputations = swarm.reputations().await.unwrap();
    let names: Vec<_> = reputations
        .iter()
        .map(|reputation| reputation.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["starling-3", "starling-2", "starling-1", "starling-0"]
    );
    let best = &reputations[0];
    assert_eq!(best.iroh_key, Some(node_key(3).verifying_key().to_bytes()));
    assert_eq!((best.rounds, best.score), (2, (25_000 * 15 + 400_000) / 16));
    assert!(best.active && best.missed == 0);
    assert_eq!(swarm.info().await.unwrap().settled_rounds, 2);
    assert_eq!(swarm.info().await.unwrap().root, history[1].root);

    // An account without funds comes in through a relayer.
    let poor = Ledger::connect(profile, key(200)).await.unwrap();
    assert_eq!(poor.balance(poor.address()).await.unwrap(), U256::ZERO);
    let node = node_key(77);
    let (node_id, signature) = (
        node.verifying_key().to_bytes(),
        node_signature(&poor, &node),
    );
    let error = poor.register(node_id, signature, "poor").await.unwrap_err();
    assert!(matches!(error, LedgerError::Unfunded { .. }), "{error}");
    let request = poor
        .authorize_registration(node_id, signature, "poor", u64::MAX)
        .await
        .unwrap();
    swarm.ledger().relay_registration(&request).await.unwrap();
    let theirs = poor.swarm(swarm.id());
    swarm.relay(&theirs.authorize_join()).await.unwrap();
    swarm.relay(&theirs.authorize_check_in(3)).await.unwrap();
    let standing = theirs.standing(poor.address()).await.unwrap().unwrap();
    assert_eq!(
        (standing.iroh_key, standing.name.as_str()),
        (Some(node_id), "poor")
    );
    assert!(standing.active);
}

async fn start(accounts: u8) -> (tempfile::TempDir, Devnet) {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, accounts)).await.unwrap();
    (home, devnet)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarms_whole_life_on_the_devnet() {
    let (_home, devnet) = start(4).await;
    whole_life(&profile(&devnet)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_than_the_profile_names_is_refused() {
    let (_home, devnet) = start(1).await;
    let wrong = ChainProfile {
        chain_id: 10,
        ..profile(&devnet)
    };
    let error = Ledger::connect(&wrong, key(0)).await.unwrap_err();
    let LedgerError::ChainMismatch {
        expected: 10,
        found: 7700,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(error.to_string().contains("7700") && error.to_string().contains("10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_foreign_contracts_are_refused() {
    let (_home, devnet) = start(1).await;
    let profile = profile(&devnet);
    let error = Ledger::connect(&profile, key(0)).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoContract { .. }), "{error}");
    let ledger = Ledger::deploy(&profile, key(0)).await.unwrap();
    assert_eq!(ledger.addresses(), Addresses::deterministic());
    // Deploying again finds what is there, and costs nothing.
    let height = devnet.height();
    Ledger::deploy(&profile, key(0)).await.unwrap();
    Ledger::connect(&profile, key(0)).await.unwrap();
    assert_eq!(devnet.height(), height);
    // The ledger's address where the registry's should be.
    let crossed = ChainProfile {
        registry: Some(ledger.addresses().ledger),
        ..profile
    };
    let error = Ledger::connect(&crossed, key(0)).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::OtherContract { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_leads_nowhere_is_a_clear_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let profile = ChainProfile::new(format!("http://{closed}"), 1);
    let error = Ledger::connect(&profile, key(0)).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::Transport { .. }) && error.is_transient(),
        "{error}"
    );
    // Over TLS too: a missing provider of cryptography would panic here.
    let profile = ChainProfile::new(format!("https://{closed}"), 1);
    let error = Ledger::connect(&profile, key(0)).await.unwrap_err();
    assert!(
        matches!(
            error,
            LedgerError::Transport { .. } | LedgerError::Profile(_)
        ),
        "{error}"
    );
    for rpc in ["", "nonsense", "ftp://host", "ws://host"] {
        let error = Ledger::connect(&ChainProfile::new(rpc, 1), key(0))
            .await
            .unwrap_err();
        assert!(matches!(error, LedgerError::Profile(_)), "{rpc}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_node_never_signed_shows_no_node() {
    let (_home, devnet) = start(2).await;
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    // The other's node key, with the other's own signature: it is for another owner.
    let other = Ledger::connect(&profile(&devnet), key(1)).await.unwrap();
    let node = node_key(1);
    let signature = node_signature(&other, &node);
    let node_id = node.verifying_key().to_bytes();
    ledger
        .register(node_id, signature, "squatter \u{1b}[31m")
        .await
        .unwrap();
    other.register(node_id, signature, "owner").await.unwrap();
    let squatter = ledger.peer(ledger.address()).await.unwrap().unwrap();
    assert_eq!(squatter.iroh_key, None);
    assert_eq!(squatter.name, "squatter \u{fffd}[31m");
    let owner = ledger.peer(other.address()).await.unwrap().unwrap();
    assert_eq!(owner.iroh_key, Some(node_id));
    assert_eq!(ledger.peer([1; 20]).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_do_not_belong_together_never_reach_the_chain() {
    let (_home, devnet) = start(3).await;
    let swarms = swarm_of(&profile(&devnet), 3).await;
    let swarm = &swarms[0];
    swarm.open_round(1).await.unwrap();
    let good = cards(&swarms, 1, [1; 32]);
    let height = devnet.height();
    let mut mixed = good.clone();
    mixed[2] = cards(&swarms, 1, [2; 32])[2].clone();
    let mut late = good.clone();
    late[2] = cards(&swarms, 2, [1; 32])[2].clone();
    let mut forged = good.clone();
    forged[1].card.scores[0].1 = 1;
    let mut shorter = good.clone();
    shorter[1] = cards(&swarms[..2], 1, [1; 32])[1].clone();
    for cards in [mixed, late, forged, shorter] {
        let error = swarm.settle(1, [1; 32], &cards).await.unwrap_err();
        assert!(matches!(error, LedgerError::Cards(_)), "{error}");
    }
    assert_eq!(devnet.height(), height);
    swarm.settle(1, [1; 32], &good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_transactions_of_one_account_all_arrive() {
    let (_home, devnet) = start(2).await;
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    // Two senders of one account, each with clones: they get in each other's way, and
    // nothing may be lost.
    let second = Ledger::connect(&profile(&devnet), key(0)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..24u8 {
        let ledger = if number % 2 == 0 {
            ledger.clone()
        } else {
            second.clone()
        };
        tasks.spawn(async move {
            ledger
                .register([number + 1; 32], [0; 64], &number.to_string())
                .await
                .map(|s| s.tx)
        });
    }
    let sent: Result<std::collections::BTreeSet<_>, _> =
        tasks.join_all().await.into_iter().collect();
    assert_eq!(sent.unwrap().len(), 24);
}

pub(crate) fn signed_round(swarms: &[Swarm], round: u64) -> SignedRound {
    let included = [round as u8; 32];
    SignedRound {
        swarm: swarms[0].id(),
        round,
        included,
        cards: cards(swarms, round, included),
        seals: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_keeps_rounds_until_the_chain_has_them() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    let port = devnet.port();
    let swarms = swarm_of(&profile(&devnet), 3).await;
    for round in 1..=3 {
        swarms[0].open_round(round).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    for round in [3, 1, 2] {
        outbox.put(&signed_round(&swarms, round)).unwrap();
    }
    outbox.put(&signed_round(&swarms, 1)).unwrap();

    // The chain is gone: everything stays, and is there after a restart.
    devnet.shutdown().await;
    let report = outbox.flush(swarms[0].ledger()).await.unwrap();
    assert!(matches!(
        report[0].1,
        Delivery::Waiting(LedgerError::Transport { .. })
    ));
    let outbox = Outbox::open(folder.path().join("outbox")).unwrap();
    let rounds: Vec<_> = outbox
        .waiting()
        .unwrap()
        .iter()
        .map(|signed| signed.round)
        .collect();
    assert_eq!(rounds, [1, 2, 3]);

    // It is back: one is settled by another peer, the rest from here, each once.
    let devnet = Devnet::start(rollup::devnet::DevnetConfig {
        port,
        ..config(&home, 3)
    });
    let _devnet = devnet.await.unwrap();
    let other = signed_round(&swarms, 2);
    swarms[1]
        .settle(2, other.included, &other.cards)
        .await
        .unwrap();
    let report = outbox.flush(swarms[0].ledger()).await.unwrap();
    let already: Vec<_> = report
        .iter()
        .map(|(signed, delivery)| match delivery {
            Delivery::Settled {
                settled,
                finalized: true,
            } => (signed.round, settled.already),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(already, [(1, false), (2, true), (3, false)]);
    assert!(outbox.waiting().unwrap().is_empty());
    assert_eq!(swarms[0].history(0).await.unwrap().len(), 3);
    let block = swarms[0].history(3).await.unwrap()[0].block;
    let finality = swarms[0].ledger().finality(block).await.unwrap();
    assert_eq!(finality, Some(Finality::Finalized));
    assert_eq!(
        swarms[0].ledger().finality(block + 1_000).await.unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_sets_aside_what_can_never_be_settled() {
    let (_home, devnet) = start(3).await;
    let swarms = swarm_of(&profile(&devnet), 3).await;
    swarms[0].open_round(1).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    let mut forged = signed_round(&swarms, 1);
    forged.cards[0].signature[5] ^= 1;
    outbox.put(&forged).unwrap();
    std::fs::write(folder.path().join("zz.json"), b"{ torn").unwrap();
    // Round 2 is not open yet, so it waits.
    outbox.put(&signed_round(&swarms, 2)).unwrap();
    let report = outbox.flush(swarms[0].ledger()).await.unwrap();
    assert!(matches!(
        report[0].1,
        Delivery::Refused(LedgerError::Cards(_))
    ));
    assert!(matches!(report[1].1, Delivery::Waiting(_)));
    assert_eq!(report.len(), 2);
    assert_eq!(outbox.waiting().unwrap().len(), 1);
    for kept in ["refused", "unreadable"] {
        assert_eq!(
            std::fs::read_dir(folder.path().join(kept)).unwrap().count(),
            1
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_process_asks_the_devnet_for_funds() {
    let (_home, devnet) = start(1).await;
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    let joiner = Ledger::connect(&profile(&devnet), key(9)).await.unwrap();
    rollup::devnet::request_funds(&devnet.url(), joiner.address())
        .await
        .unwrap();
    let height = devnet.height();
    rollup::devnet::request_funds(&devnet.url(), joiner.address())
        .await
        .unwrap();
    assert_eq!(devnet.height(), height, "it has funds already");
    assert!(rollup::devnet::answers(&devnet.url(), devnet.chain_id()).await);
    assert!(!rollup::devnet::answers(&devnet.url(), 1).await);
    joiner.register([1; 32], [0; 64], "joiner").await.unwrap();
    assert!(ledger.peer(joiner.address()).await.unwrap().is_some());
    // Elsewhere one account of the user's pays for the others.
    let poor = Ledger::connect(&profile(&devnet), key(10)).await.unwrap();
    assert!(ledger.top_up(poor.address()).await.unwrap());
    assert!(!ledger.top_up(poor.address()).await.unwrap());
    poor.register([2; 32], [0; 64], "poor").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_with_other_terms_is_another_swarm() {
    let (_home, devnet) = start(1).await;
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    let one = ledger.create_swarm([1; 32], Terms::LOCAL).await.unwrap();
    let same = ledger.create_swarm([1; 32], Terms::LOCAL).await.unwrap();
    let terms = Terms {
        min_interval: 5,
        ..Terms::LOCAL
    };
    let other = ledger.create_swarm([1; 32], terms).await.unwrap();
    assert_eq!(one.id(), same.id());
    assert_ne!(one.id(), other.id());
    assert_eq!(one.reputations().await.unwrap(), []);
    assert_eq!(one.history(0).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_admits_and_pauses_and_a_witness_that_signs_twice_is_reported() {
    let (_home, devnet) = start(4).await;
    let profile = profile(&devnet);
    let author = Ledger::deploy(&profile, key(0)).await.unwrap();
    let terms = Terms {
        admission: Admission::Allowlist,
        author: author.address(),
        ..Terms::LOCAL
    };
    let mut swarms = Vec::new();
    for number in 0..4 {
        let ledger = Ledger::connect(&profile, key(number)).await.unwrap();
        ledger
            .register([number + 1; 32], [0; 64], "peer")
            .await
            .unwrap();
        swarms.push(ledger.create_swarm([1; 32], terms).await.unwrap());
    }
    let error = swarms[1].join().await.unwrap_err();
    assert_eq!(error.refusal(), Some("NotAdmitted"), "{error}");
    let error = swarms[1].pause(true).await.unwrap_err();
    assert_eq!(error.refusal(), Some("NotAuthor"), "{error}");
    let all: Vec<_> = swarms
        .iter()
        .map(|swarm| swarm.ledger().address())
        .collect();
    swarms[0].admit(&all, true).await.unwrap();
    for swarm in &swarms {
        swarm.join().await.unwrap();
    }
    swarms[0].pause(true).await.unwrap();
    assert!(swarms[1].info().await.unwrap().paused);
    let error = swarms[1].open_round(1).await.unwrap_err();
    assert_eq!(error.refusal(), Some("Paused"), "{error}");
    swarms[0].pause(false).await.unwrap();

    swarms[1].open_round(1).await.unwrap();
    let honest = cards(&swarms, 1, [1; 32]);
    swarms[2].settle(1, [1; 32], &honest).await.unwrap();
    let before = swarms[0].standing(all[3]).await.unwrap().unwrap();
    assert!(before.weight > 0 && before.score > 0);
    let other = cards(&swarms, 1, [2; 32]);
    swarms[0].dispute(1, &honest[3], &other[3]).await.unwrap();
    let after = swarms[0].standing(all[3]).await.unwrap().unwrap();
    assert_eq!(
        (after.weight, after.score, after.faults, after.active),
        (0, before.score / 2, 1, false)
    );
    let error = swarms[0]
        .dispute(1, &honest[3], &other[3])
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some("AlreadyDisputed"), "{error}");

    // Keys change, bonds count, and a peer can retire.
    let ledger = swarms[3].ledger();
    ledger.rotate([9; 32], [0; 64]).await.unwrap();
    let bonded = Terms {
        admission: Admission::Bond(1_000),
        ..Terms::LOCAL
    };
    let swarm = ledger.create_swarm([2; 32], bonded).await.unwrap();
    let error = swarm.join().await.unwrap_err();
    assert_eq!(error.refusal(), Some("NotAdmitted"), "{error}");
    ledger.post_bond(1_000).await.unwrap();
    swarm.join().await.unwrap();
    ledger.retire().await.unwrap();
    assert_eq!(ledger.peer(all[3]).await.unwrap(), None);
}
