//! Who contributed owns: shares, the vault and votes, end to end on the devnet.

use std::time::Duration;

use rollup::devnet::Devnet;
use rollup::{
    Decision, LedgerError, Ownership, OwnershipTerms, Proposal, ProposalState, Terms, U256,
};

use crate::support::{config, key, profile, settle, swarm_with};

const QUICK: OwnershipTerms = OwnershipTerms {
    epoch_rounds: 2,
    voting_delay: 1,
    voting_period: 3,
    timelock: 1,
};

/// The one proposal, once the chain's clock has taken it there.
async fn once(own: &Ownership, state: ProposalState) -> Proposal {
    for _ in 0..200 {
        let proposal = own.proposals().await.unwrap().remove(0);
        if proposal.state == state {
            return proposal;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the proposal never was {state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contributors_claim_shares_divide_revenue_and_change_the_curriculum() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 4)).await.unwrap();
    let terms = Terms {
        author: key(0).address().into_array(),
        ..Terms::LOCAL
    };
    let swarms = swarm_with(&profile(&devnet), 4, terms).await;
    let error = Ownership::found(&swarms[1], QUICK).await.unwrap_err();
    assert!(matches!(error, LedgerError::Ownership(_)), "{error}");
    let own = Ownership::found(&swarms[0], QUICK).await.unwrap();
    // Founded once; others find it by author and terms.
    let height = devnet.height();
    Ownership::found(&swarms[0], QUICK).await.unwrap();
    assert_eq!(devnet.height(), height);
    let theirs = Ownership::find(&swarms[1]).await.unwrap().unwrap();
    assert_eq!(theirs.addresses(), own.addresses());

    settle(&swarms, 1..=1).await;
    let history = swarms[0].history(1).await.unwrap();
    let peers: Vec<_> = swarms.iter().map(|one| one.ledger().address()).collect();
    let early = history[0].line(peers[0]).unwrap();
    let error = own.claim(1, &early).await.unwrap_err();
    assert_eq!(error.refusal(), Some("EpochNotOver"), "{error}");
    settle(&swarms, 2..=2).await;
    let history = swarms[0].history(2).await.unwrap();
    let claimable = own.claimable().await.unwrap();
    let whose: Vec<_> = claimable
        .iter()
        .map(|one| (one.epoch, one.round, one.peer))
        .collect();
    // The second round says more of each: reputations rise from nothing.
    let mut everybody: Vec<_> = peers.iter().map(|peer| (0, 2, *peer)).collect();
    everybody.sort_unstable();
    assert_eq!(whose, everybody);
    for peer in &peers {
        let line = history[0].line(*peer).unwrap();
        // Anybody brings the proof; it counts once.
        assert!(theirs.claim(2, &line).await.unwrap().is_some());
        assert!(own.claim(2, &line).await.unwrap().is_none());
    }
    assert!(own.claimable().await.unwrap().is_empty());
    let scored = &history[0].scores;
    let mut supply = U256::ZERO;
    for row in scored {
        let holding = own.holding(row.peer).await.unwrap();
        let minted = U256::from(row.reputation) * U256::from(10).pow(U256::from(12));
        assert_eq!((holding.shares, holding.votes), (minted, minted));
        supply += minted;
    }
    assert_eq!(own.holding(peers[0]).await.unwrap().supply, supply);

    // A second later: who claims in the second of a payment has no part in it.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let paid = U256::from(10).pow(U256::from(18));
    own.pay(paid).await.unwrap();
    assert_eq!(own.payments().await.unwrap(), 1);
    let mut divided = U256::ZERO;
    for peer in &peers {
        let (part, had) = own.part(0, *peer).await.unwrap();
        assert!(!had);
        let before = swarms[0].ledger().balance(*peer).await.unwrap();
        // An account that pays for nothing here, so that its balance says what it got.
        let payer = if *peer == peers[0] { &theirs } else { &own };
        assert!(payer.collect(0, *peer).await.unwrap().is_some());
        let after = swarms[0].ledger().balance(*peer).await.unwrap();
        assert_eq!(after - before, part);
        assert!(own.collect(0, *peer).await.unwrap().is_none());
        divided += part;
    }
    // What rounding leaves is less than a wei a holder.
    assert!(paid - divided < U256::from(4));

    let decision = Decision::Manifest([77; 32]);
    let id = own.propose(&decision, "harder sums").await.unwrap();
    let proposal = once(&own, ProposalState::Active).await;
    assert_eq!(
        (proposal.id, proposal.description.as_str()),
        (id, "harder sums")
    );
    assert_eq!(proposal.decision, Some(decision));
    for (swarm, infavour) in swarms.iter().zip([false, true, true, true]) {
        let own = Ownership::of(swarm, terms.author, QUICK);
        own.vote(id, infavour).await.unwrap();
    }
    let decided = once(&own, ProposalState::Succeeded).await;
    assert!(decided.votes[0] > decided.votes[1] && decided.votes[2].is_zero());
    theirs.advance(&decided).await.unwrap();
    let queued = once(&own, ProposalState::Queued).await;
    // The timelock holds it until its time has come.
    for _ in 0..100 {
        match theirs.advance(&queued).await {
            Ok(_) => break,
            Err(error) => assert!(error.refusal().is_some(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    once(&own, ProposalState::Executed).await;
    assert_eq!(swarms[0].info().await.unwrap().manifest, [77; 32]);
}
