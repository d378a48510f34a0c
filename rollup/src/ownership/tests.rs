//! Whom a swarm is governed by, looked at by somebody who trusts nobody.

use alloy::primitives::{Address, keccak256};

use super::abi::Timelock;
use super::founding::{CANCELLER, OTHERS, PROPOSER, codes};
use super::{Ownership, OwnershipTerms};
use crate::contracts::abi::swarms::SwarmRegistry as S;
use crate::contracts::{CREATE2_FACTORY, deployment_by};
use crate::devnet::Devnet;
use crate::support::{config, key, profile};
use crate::{Ledger, Swarm, Terms};

const TERMS: OwnershipTerms = OwnershipTerms {
    epoch_rounds: 2,
    voting_delay: 1,
    voting_period: 3,
    timelock: 1,
};

/// All of a founding but its end, by an author who keeps the timelock.
async fn half_founded(swarm: &Swarm) -> Ownership {
    let author = swarm.ledger.address();
    let own = Ownership::of(swarm, author, TERMS);
    let connection = swarm.ledger.connection();
    for (_, code) in codes(swarm, author.into(), TERMS).1 {
        let deployed = connection.send_raw(CREATE2_FACTORY, deployment_by(swarm.id, &code));
        deployed.await.unwrap();
    }
    for role in [PROPOSER, CANCELLER] {
        grant(&own, role, own.at.governor).await;
    }
    govern(swarm, own.at.timelock).await;
    own
}

async fn grant(own: &Ownership, role: &str, account: Address) {
    let role = keccak256(role);
    let call = Timelock::grantRoleCall { role, account };
    own.send(own.at.timelock, &call).await.unwrap();
}

async fn govern(swarm: &Swarm, governance: Address) {
    let call = S::changeGovernanceCall {
        swarm: swarm.id,
        governance,
    };
    let swarms = swarm.ledger.addresses().swarms;
    swarm.ledger.connection().send(swarms, &call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_that_keeps_a_right_is_found_out() {
    let home = tempfile::tempdir().unwrap();
    let author = key(0);
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let profile = profile(&devnet);
    let ledger = Ledger::deploy(&profile, author.clone()).await.unwrap();
    let terms = Terms {
        author: ledger.address(),
        ..Terms::LOCAL
    };
    let swarm = async |number: u8| ledger.create_swarm([number; 32], terms).await.unwrap();
    let wrong = async |swarm: &Swarm| Ownership::find(swarm).await.unwrap_err().to_string();

    let honest = swarm(1).await;
    assert!(Ownership::find(&honest).await.unwrap().is_none());
    let own = Ownership::found(&honest, TERMS).await.unwrap();
    let found = Ownership::find(&honest).await.unwrap().unwrap();
    assert_eq!((found.addresses(), found.terms()), (own.addresses(), TERMS));

    // Another swarm of the same author on the same terms has contracts of its own. Whoever
    // was stopped before the end has not founded it, and goes on.
    let halfway = swarm(2).await;
    let own = half_founded(&halfway).await;
    assert_ne!(own.addresses().timelock, found.addresses().timelock);
    let said = wrong(&halfway).await;
    assert!(said.contains("stopped halfway"), "{said}");
    Ownership::found(&halfway, TERMS).await.unwrap();
    assert!(Ownership::find(&halfway).await.unwrap().is_some());

    // Who made itself a proposer before it renounced could decide alone.
    let greedy = swarm(3).await;
    let own = half_founded(&greedy).await;
    grant(&own, PROPOSER, author.address()).await;
    Ownership::found(&greedy, TERMS).await.unwrap();
    let said = wrong(&greedy).await;
    assert!(said.contains(OTHERS), "{said}");

    // So could one that governs by itself.
    let alone = swarm(4).await;
    govern(&alone, author.address()).await;
    let said = wrong(&alone).await;
    assert!(said.contains("nothing is known of how it began"), "{said}");
    let error = Ownership::found(&alone, TERMS).await.unwrap_err();
    assert!(error.to_string().contains("founded once"), "{error}");
}
