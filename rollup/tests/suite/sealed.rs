//! Rounds of sealed cards, and rounds that settle by a root, end to end on the devnet.

use rollup::devnet::Devnet;
use rollup::{RootOfScores, RoundStatus, ScoreTree, ScoredPeer, Terms};

use crate::support::{cards, config, profile, swarm_of, swarm_with};

#[tokio::test(flavor = "multi_thread")]
async fn sealed_cards_settle_and_another_card_than_the_sealed_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 4)).await.unwrap();
    let terms = Terms {
        seal_cards: true,
        ..Terms::LOCAL
    };
    let swarms = swarm_with(&profile(&devnet), 4, terms).await;
    let committee = swarms[0].open_round(1).await.unwrap().committee;
    let signed = cards(&swarms, 1, [1; 32]);
    // Open cards are not taken, nor sealed ones before their seals.
    let error = swarms[0].settle(1, [1; 32], &signed).await.unwrap_err();
    assert_eq!(error.refusal(), Some("CardsNotSealed"), "{error}");
    let seals: Vec<_> = swarms
        .iter()
        .zip(&signed)
        .map(|(swarm, card)| swarm.seal(card))
        .collect();
    assert!(
        !swarms[0]
            .commit_seals(1, &seals[..3])
            .await
            .unwrap()
            .already
    );
    assert!(swarms[1].commit_seals(1, &seals).await.unwrap().already);
    // The fourth's card was not sealed in time; a card made after the others are seen is
    // not the sealed one.
    let sealed = &seals[..3];
    let late = swarms[0].settle_sealed(1, [1; 32], &signed, &committee, sealed);
    assert_eq!(late.await.unwrap_err().refusal(), Some("OtherCard"));
    let mut changed = cards(&swarms, 1, [2; 32]);
    let other = swarms[0].settle_sealed(1, [2; 32], &changed, &committee, sealed);
    assert_eq!(other.await.unwrap_err().refusal(), Some("OtherCard"));
    changed.clear();
    let settle = async |place: usize| {
        swarms[place]
            .settle_sealed(1, [1; 32], &signed[..3], &committee, sealed)
            .await
            .unwrap()
    };
    assert!(!settle(0).await.already);
    assert!(settle(1).await.already);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_round_settles_by_its_root_and_any_line_can_be_brought_later() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 4)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 4).await;
    swarms[0].open_round(1).await.unwrap();
    let own = swarms[2].ledger().address();
    let mut scores: Vec<_> = (0..300u32)
        .map(|peer| ScoredPeer {
            peer: [(peer % 251) as u8; 20],
            score: Some(peer * 1000),
            judges: 3,
            reputation: peer * 100,
            uncertainty: 900_000,
        })
        .collect();
    scores[137].peer = own;
    let tree = ScoreTree::new(&scores);
    let root = RootOfScores {
        included: [9; 32],
        peers: 300,
        root: tree.root(),
    };
    let signed: Vec<_> = swarms
        .iter()
        .map(|swarm| swarm.sign_root(1, &root))
        .collect();
    let short = swarms[0].settle_root(1, &root, &signed[..2]).await;
    assert_eq!(short.unwrap_err().refusal(), Some("NoQuorum"));
    assert!(
        !swarms[0]
            .settle_root(1, &root, &signed[..3])
            .await
            .unwrap()
            .already
    );
    assert!(
        swarms[1]
            .settle_root(1, &root, &signed)
            .await
            .unwrap()
            .already
    );
    let opened = swarms[0].round_opened(1).await.unwrap().unwrap();
    assert_eq!(opened.status, RoundStatus::Settled);

    let line = tree.line(own).unwrap();
    assert!(!swarms[3].apply_score(1, &line).await.unwrap().already);
    assert!(swarms[0].apply_score(1, &line).await.unwrap().already);
    let standing = swarms[0].standing(own).await.unwrap().unwrap();
    assert_eq!((standing.score, standing.rounds), (13_700, 1));
    // A line that the round does not hold leads nowhere.
    scores[137].reputation += 1;
    let forged = ScoreTree::new(&scores).line(own).unwrap();
    let error = swarms[0].apply_score(1, &forged).await.unwrap_err();
    assert_eq!(error.refusal(), Some("NotInRound"), "{error}");
}
