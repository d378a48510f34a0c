//! What the tests share: keys, peers, and a swarm that is ready for rounds.

use ed25519_dalek::{Signer, SigningKey};
use rollup::devnet::{DEFAULT_CHAIN_ID, Devnet, DevnetConfig};
use rollup::{
    ChainProfile, Ledger, PrivateKeySigner, Scorecard, SignedScorecard, Swarm, Terms,
    registration_message,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The n-th test account's key.
pub(crate) fn key(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&[number + 1; 32].into()).unwrap()
}

/// The n-th test peer's iroh key.
pub(crate) fn node_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number + 101; 32])
}

/// That key's word that it stands for the ledger's account.
pub(crate) fn node_signature(ledger: &Ledger, node: &SigningKey) -> [u8; 64] {
    let registry = ledger.addresses().registry.into_array();
    node.sign(&registration_message(
        ledger.chain_id(),
        registry,
        ledger.address(),
    ))
    .to_bytes()
}

/// How to start a devnet in `home` with the first `accounts` keys funded.
pub(crate) fn config(home: &TempDir, accounts: u8) -> DevnetConfig {
    DevnetConfig {
        home: home.path().to_owned(),
        port: 0,
        chain_id: DEFAULT_CHAIN_ID,
        prefund: (0..accounts).map(|number| key(number).address()).collect(),
        seed: None,
    }
}

pub(crate) fn profile(devnet: &Devnet) -> ChainProfile {
    ChainProfile::new(devnet.url(), devnet.chain_id())
}

/// Deploys the contracts, registers `count` peers and has them join one swarm; the
/// first is the caller's own view of it.
pub(crate) async fn swarm_of(profile: &ChainProfile, count: u8) -> Vec<Swarm> {
    swarm_with(profile, count, Terms::LOCAL).await
}

/// The same on other terms.
pub(crate) async fn swarm_with(profile: &ChainProfile, count: u8, terms: Terms) -> Vec<Swarm> {
    let mut swarms = Vec::new();
    for number in 0..count {
        let ledger = Ledger::deploy(profile, key(number)).await.unwrap();
        let node = node_key(number);
        let signature = node_signature(&ledger, &node);
        let name = format!("starling-{number}");
        ledger
            .register(node.verifying_key().to_bytes(), signature, &name)
            .await
            .unwrap();
        let swarm = ledger.create_swarm([42; 32], terms).await.unwrap();
        swarm.join().await.unwrap();
        swarms.push(swarm);
    }
    swarms
}

/// Each witness's card: every peer gets its place's share of a million.
pub(crate) fn cards(swarms: &[Swarm], round: u64, included: [u8; 32]) -> Vec<SignedScorecard> {
    let peers: Vec<_> = swarms
        .iter()
        .map(|swarm| swarm.ledger().address())
        .collect();
    swarms
        .iter()
        .map(|swarm| {
            let ledger = swarm.ledger();
            let scores = peers
                .iter()
                .zip(1..)
                .map(|(&peer, place)| (peer, place * 100_000));
            let card = Scorecard::new(ledger.address(), swarm.id(), round, included, scores);
            SignedScorecard::sign(ledger.signer(), &ledger.domain(), card)
        })
        .collect()
}

/// Opens rounds and settles them, one after another.
pub(crate) async fn settle(swarms: &[Swarm], rounds: std::ops::RangeInclusive<u64>) {
    for round in rounds {
        swarms[0].open_round(round).await.unwrap();
        let signed = cards(swarms, round, [1; 32]);
        swarms[0].settle(round, [1; 32], &signed).await.unwrap();
    }
}

/// An HTTP client that needs no TLS, and is no worse for having some.
pub(crate) fn http() -> reqwest::Client {
    // Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .build()
        .unwrap()
}

/// Posts a body as it is; the status and the answer.
pub(crate) async fn post(url: &str, body: impl Into<String>) -> (u16, String) {
    let request = http()
        .post(url)
        .header("content-type", "application/json")
        .body(body.into());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Asks a chain something in its own words; the whole answer.
pub(crate) async fn ask(url: &str, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let (_, answer) = post(url, body.to_string()).await;
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{method}: {answer}"))
}
