//! The mirror against ERC-8004's reference contracts, compiled here and deployed on the
//! devnet as they are elsewhere: behind proxies that were upgraded once.

use std::collections::BTreeMap;

use alloy::primitives::keccak256;
use alloy::sol_types::SolCall;

use super::*;
use crate::devnet::Devnet;
use crate::support::{config, key, profile, settle, swarm_of};

alloy::sol! {
    interface FirstVersion {
        function initialize(address identityRegistry, address owner) external;
        function upgradeToAndCall(address newImplementation, bytes memory data) external payable;
    }
    interface Identities {
        function initialize() external;
    }
    interface Reputations {
        function initialize(address identityRegistry) external;
    }
}

/// Their code, as `contracts/check.sh` compiles it.
fn reference(name: &str) -> Bytes {
    let text = include_str!("../../contracts/artifacts/reference.json");
    let all: BTreeMap<String, Bytes> = serde_json::from_str(text).unwrap();
    all[name].clone()
}

async fn put(ledger: &Ledger, code: Bytes) -> Address {
    let sent = ledger
        .connection()
        .send_raw(CREATE2_FACTORY, deployment(&code))
        .await;
    sent.unwrap();
    deployed_at(&code)
}

async fn registries(ledger: &Ledger) -> AgentRegistries {
    let owner = Address::from(ledger.address());
    let first = put(ledger, reference("FirstVersion")).await;
    let proxy = async |identities: Address| {
        let call = FirstVersion::initializeCall {
            identityRegistry: identities,
            owner,
        };
        let arguments = (first, Bytes::from(call.abi_encode())).abi_encode_params();
        let code = [reference("ERC1967Proxy").as_ref(), &arguments].concat();
        put(ledger, code.into()).await
    };
    let upgrade = async |proxy: Address, name: &str, call: Vec<u8>| {
        let call = FirstVersion::upgradeToAndCallCall {
            newImplementation: put(ledger, reference(name)).await,
            data: call.into(),
        };
        ledger.connection().send(proxy, &call).await.unwrap();
    };
    let identities = proxy(Address::ZERO).await;
    let begin = Identities::initializeCall {}.abi_encode();
    upgrade(identities, "IdentityRegistryUpgradeable", begin).await;
    let reputations = proxy(identities).await;
    let begin = Reputations::initializeCall {
        identityRegistry: identities,
    };
    let name = "ReputationRegistryUpgradeable";
    upgrade(reputations, name, begin.abi_encode()).await;
    AgentRegistries {
        identities,
        reputations,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_an_agent_and_each_epochs_reputation_is_its_feedback() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    let mut profile = profile(&devnet);
    let bare = Ledger::deploy(&profile, key(0)).await.unwrap();
    // A chain without registries has no agents, and that is no error.
    assert!(bare.agents().await.unwrap().is_none());
    let at = registries(&bare).await;
    profile.agents = Some(at);

    let swarms = swarm_of(&profile, 3).await;
    let (swarm, ledger) = (&swarms[1], swarms[1].ledger());
    let agents = ledger.agents().await.unwrap().unwrap();
    assert_eq!(agents.registries(), at);
    assert_eq!(agents.agent_of(ledger.address()).await.unwrap(), None);
    let agent = agents.enroll("calm \"wren\"", [7; 32]).await.unwrap();
    assert_eq!(
        agents.agent_of(ledger.address()).await.unwrap(),
        Some(agent)
    );
    // Enrolled once, however often it is asked for.
    assert_eq!(agents.enroll("other", [8; 32]).await.unwrap(), agent);
    let uri = ledger
        .reader()
        .call(
            at.identities,
            &IdentityRegistry::tokenURICall { agentId: agent },
        )
        .await
        .unwrap();
    assert!(uri.starts_with("data:application/json,%7B"), "{uri}");
    assert!(uri.contains(&"07".repeat(32)), "{uri}");

    assert!(
        agents
            .mirror(swarm, ledger.address())
            .await
            .unwrap()
            .is_none()
    );
    settle(&swarms, 1..=32).await;
    // Anybody may mirror it.
    let other = swarms[2].ledger().agents().await.unwrap().unwrap();
    let sent = other.mirror(swarm, ledger.address()).await.unwrap();
    assert!(sent.is_some());
    assert!(
        other
            .mirror(swarm, ledger.address())
            .await
            .unwrap()
            .is_none()
    );
    let standing = swarm.standing(ledger.address()).await.unwrap().unwrap();
    let feedback = agents.feedback(swarm, agent).await.unwrap();
    let expected = Mirrored {
        index: 1,
        reputation: standing.score,
    };
    assert_eq!(feedback, [expected]);
    // Whoever has no agent cannot be mirrored, and is told what to do.
    let error = other.mirror(swarm, key(2).address().into_array()).await;
    let error = error.unwrap_err();
    assert_eq!(error.refusal(), Some("NoAgent"), "{error}");

    // A profile that names registries which do not belong together is refused.
    profile.agents = Some(AgentRegistries {
        identities: at.reputations,
        ..at
    });
    let crossed = Ledger::connect(&profile, key(0)).await.unwrap();
    assert!(matches!(
        crossed.agents().await,
        Err(LedgerError::Profile(_))
    ));
}

#[test]
fn the_mirrors_errors_are_the_contracts_own() {
    let data = [&keccak256("NoAgent(address)")[..4], &[0; 32]].concat();
    let refusal = crate::Refusal::decode(&data);
    assert_eq!(refusal.name, "NoAgent");
    assert!(refusal.advice.contains("link"), "{refusal}");
}
