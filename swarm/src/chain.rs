//! One peer's side of the ledger: joining, opening rounds, settling them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rollup::{
    Delivery, Ledger, MembershipRequest, Outbox, RegistrationRequest, RoundStatus, Scorecard,
    Settled, SignedRound, SignedScorecard, SignedSeal, Swarm, registration_message,
};
use swarm_core::ids::{Address, Beacon, Hash, PeerId, TxHash};
use swarm_core::message::{Card, EvmSignature, Plea, Seal};
use swarm_core::plan::{self, SettledSet, Step};
use swarm_core::round::{ScorecardRequest, Settlement};
use tokio::sync::Mutex;

/// How long a signed registration may wait to be relayed.
const REGISTRATION_SECONDS: u64 = 24 * 3600;

/// How often a chain that can't be reached is given the seals: whoever's turn is next
/// gives them too.
const COMMIT_TRIES: u32 = 5;

/// Peers remembered that need no sponsor.
const REMEMBERED: usize = 1024;

/// A peer on the ledger of its swarm. Clones share everything.
#[derive(Debug, Clone)]
pub struct Chain {
    swarm: Swarm,
    /// Whether cards are sealed before they are shown.
    seals: bool,
    /// Who stands behind an address, once known.
    names: Arc<Mutex<BTreeMap<[u8; 20], PeerId>>>,
    /// Who asked to be sponsored and needs it no more, or will not get it.
    sponsored: Arc<Mutex<BTreeSet<PeerId>>>,
    /// Whether the account had funds when last seen.
    pays: Arc<AtomicBool>,
    /// The block of the newest settled round's opening: nothing earlier matters
    /// for what is asked. 0 while unknown.
    since: Arc<AtomicU64>,
}

/// A peer that asks to be registered by whoever can pay.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Who.
    pub peer: PeerId,
    /// Its owner.
    pub address: Address,
    /// The name both signed for.
    pub name: String,
    /// Their signatures.
    pub plea: Box<Plea>,
}

/// A round as the machine is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The round.
    pub round: u64,
    /// Its beacon.
    pub beacon: Beacon,
    /// Its witnesses.
    pub committee: Vec<(PeerId, Address)>,
    /// What had settled that its plan follows from.
    pub settled: Vec<SettledSet>,
}

/// A peer's standing, as the ledger has it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The peer; all zeros when its key never signed for the address.
    pub peer: PeerId,
    /// The name it registered.
    pub name: String,
    /// Reputation in ppm.
    pub score_ppm: u32,
    /// Settled rounds it was scored in.
    pub rounds: u64,
}

impl Chain {
    /// The swarm as the peer's own account reaches it; and whether its witnesses seal
    /// their cards before they show them.
    pub fn new(swarm: Swarm, seals: bool) -> Self {
        Self {
            swarm,
            seals,
            names: Arc::default(),
            sponsored: Arc::default(),
            pays: Arc::default(),
            since: Arc::default(),
        }
    }

    /// Who owns the peer's reputation.
    pub fn address(&self) -> Address {
        Address(self.ledger().address())
    }

    fn ledger(&self) -> &Ledger {
        self.swarm.ledger()
    }

    /// Whether the account had funds when that was last asked. One without signs,
    /// and leaves transactions to others.
    pub fn pays(&self) -> bool {
        self.pays.load(Ordering::Relaxed)
    }

    async fn look_into_purse(&self) -> Result<bool> {
        let balance = self.ledger().balance(self.ledger().address()).await;
        let pays = !balance.context("reading the account's balance")?.is_zero();
        self.pays.store(pays, Ordering::Relaxed);
        Ok(pays)
    }

    /// Register the peer and make it a member, unless it is one. What comes
    /// back is what to ask of others, if its account has nothing to pay with.
    ///
    /// # Errors
    /// The chain can't be reached or refuses.
    pub async fn join(
        &self,
        iroh: &SigningKey,
        name: &str,
        now_s: u64,
    ) -> Result<Option<Box<Plea>>> {
        let pays = self.look_into_purse().await?;
        let ledger = self.ledger();
        let owner = ledger.address();
        let registry = ledger.addresses().registry.into_array();
        let message = registration_message(ledger.chain_id(), registry, owner);
        let (key, signature) = (
            iroh.verifying_key().to_bytes(),
            iroh.sign(&message).to_bytes(),
        );
        let known = ledger
            .peer(owner)
            .await
            .context("reading the peer registry")?;
        let has_record = known.is_some();
        let unknown = known.is_none_or(|peer| peer.iroh_key != Some(key));
        if !pays {
            let standing = self.swarm.standing(owner).await;
            if !unknown && standing.context("reading the ledger")?.is_some() {
                return Ok(None);
            }
            let deadline_s = now_s + REGISTRATION_SECONDS;
            let request = ledger
                .authorize_registration(key, signature, name, deadline_s)
                .await
                .context("preparing the registration")?;
            return Ok(Some(Box::new(Plea {
                by_peer: signature,
                deadline_s,
                registration: EvmSignature(request.signature),
                joining: EvmSignature(self.swarm.authorize_join().signature),
            })));
        }
        if unknown && has_record {
            // Another key for the same account: its record keeps its name and its age.
            let rotated = ledger.rotate(key, signature).await;
            rotated.context("putting the new key into the peer's record")?;
        } else if unknown {
            let registered = ledger.register(key, signature, name).await;
            registered.context("registering the peer")?;
        }
        self.swarm
            .join()
            .await
            .context("joining the swarm on chain")?;
        Ok(None)
    }

    /// Register a peer that asks for it and have it join, unless that has been
    /// done; true if this account paid.
    ///
    /// # Errors
    /// The chain can't be reached or refuses.
    pub async fn sponsor(&self, candidate: &Candidate) -> Result<bool> {
        let Candidate {
            peer,
            address,
            name,
            plea,
        } = candidate;
        if self.sponsored.lock().await.contains(peer) {
            return Ok(false);
        }
        let ledger = self.ledger();
        let registry = ledger.addresses().registry.into_array();
        let message = registration_message(ledger.chain_id(), registry, address.0);
        let its_word = VerifyingKey::from_bytes(&peer.0).is_ok_and(|key| {
            key.verify_strict(&message, &Signature::from_bytes(&plea.by_peer))
                .is_ok()
        });
        let standing = self.swarm.standing(address.0).await;
        if !its_word || standing.context("reading the ledger")?.is_some() {
            self.ask_no_more(*peer).await;
            return Ok(false);
        }
        if self.peer_of(*address.as_bytes()).await? != Some(*peer) {
            ledger
                .relay_registration(&RegistrationRequest {
                    owner: address.0,
                    iroh_key: peer.0,
                    iroh_signature: plea.by_peer,
                    name: name.clone(),
                    deadline: plea.deadline_s,
                    signature: plea.registration.0,
                })
                .await
                .context("registering it")?;
        }
        self.swarm
            .relay(&MembershipRequest {
                swarm: self.swarm.id(),
                peer: address.0,
                round: None,
                signature: plea.joining.0,
            })
            .await
            .context("having it join")?;
        self.ask_no_more(*peer).await;
        Ok(true)
    }

    async fn ask_no_more(&self, peer: PeerId) {
        let mut sponsored = self.sponsored.lock().await;
        // Keys are free to make: forgetting them all costs a few questions.
        if sponsored.len() >= REMEMBERED {
            sponsored.clear();
        }
        sponsored.insert(peer);
    }

    /// Make the peer eligible as a witness again, if it had fallen silent.
    ///
    /// # Errors
    /// The chain can't be reached or refuses.
    pub async fn check_in(&self) -> Result<()> {
        let owner = self.ledger().address();
        let standing = self
            .swarm
            .standing(owner)
            .await
            .context("reading the ledger")?;
        if self.pays() && standing.is_some_and(|standing| !standing.active) {
            self.swarm.check_in().await.context("checking in")?;
        }
        Ok(())
    }

    /// The lowest round that can still be opened.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn next_round(&self) -> Result<u64> {
        Ok(self
            .swarm
            .info()
            .await
            .context("reading the ledger")?
            .next_round)
    }

    /// Open a round, or learn of it; `None` if it is for others to open, who can
    /// pay for it.
    ///
    /// # Errors
    /// The chain can't be reached, or the round is too old or too early.
    pub async fn open(&self, round: u64) -> Result<Option<Opened>> {
        if let Some(opened) = self.opened(round).await? {
            return Ok(Some(opened));
        }
        if !self.look_into_purse().await? {
            return Ok(None);
        }
        let opened = self
            .swarm
            .open_round(round)
            .await
            .context("opening the round")?;
        self.named(opened).await.map(Some)
    }

    /// A round that somebody opened, if anybody did.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn opened(&self, round: u64) -> Result<Option<Opened>> {
        match self
            .swarm
            .round_opened(round)
            .await
            .context("reading the ledger")?
        {
            Some(opened) => Ok(Some(self.named(opened).await?)),
            None => Ok(None),
        }
    }

    async fn named(&self, opened: rollup::RoundOpened) -> Result<Opened> {
        let mut committee = Vec::with_capacity(opened.committee.len());
        for address in opened.committee {
            // A witness whose iroh key never signed for it can't speak in the
            // swarm; it counts for the quorum as one who is silent.
            let peer = self.peer_of(address).await?.unwrap_or_default();
            committee.push((peer, Address(address)));
        }
        Ok(Opened {
            round: opened.round,
            beacon: Beacon(opened.beacon),
            committee,
            settled: self.settled_before(opened.round).await?,
        })
    }

    /// What the ledger had settled that a round's plan follows from.
    async fn settled_before(&self, round: u64) -> Result<Vec<SettledSet>> {
        let since = self.since.load(Ordering::Relaxed);
        for from in [Some(since).filter(|since| *since > 0), None] {
            let milestones = self.swarm.milestones(from).await;
            let milestones = milestones.context("reading the ledger's events")?;
            let steps: Vec<Step> = milestones
                .iter()
                .map(|at| match at.settled {
                    None => Step::Opened(at.round),
                    Some(included) => Step::Settled((at.round, Hash(included))),
                })
                .collect();
            let settled = plan::settled_before(&steps, round);
            let newest = settled.iter().map(|(round, _)| *round).max();
            let opening = |round: u64| {
                let mut openings = milestones.iter().filter(|at| at.settled.is_none());
                openings.find(|at| at.round == round).map(|at| at.block)
            };
            match newest.map(opening) {
                Some(Some(block)) if opening(round).is_some() => {
                    self.since.store(block, Ordering::Relaxed);
                    return Ok(settled);
                }
                // A part of it lies before, or the chain went another way.
                _ if from.is_some() => {}
                _ => return Ok(settled),
            }
        }
        Ok(Vec::new())
    }

    async fn peer_of(&self, address: [u8; 20]) -> Result<Option<PeerId>> {
        if let Some(peer) = self.names.lock().await.get(&address) {
            return Ok(Some(*peer));
        }
        let record = self
            .ledger()
            .peer(address)
            .await
            .context("reading the peer registry")?;
        let peer = record.and_then(|record| record.iroh_key).map(PeerId);
        if let Some(peer) = peer {
            self.names.lock().await.insert(address, peer);
        }
        Ok(peer)
    }

    fn scorecard(&self, round: u64, included: Hash, scores: &[(Address, u32)]) -> Scorecard {
        Scorecard {
            swarm: self.swarm.id(),
            round,
            included: included.0,
            scores: scores
                .iter()
                .map(|(address, score)| (address.0, *score))
                .collect(),
        }
    }

    /// The peer's signature on its scorecard; and its seal, where cards are sealed.
    pub fn sign(&self, request: &ScorecardRequest) -> (EvmSignature, Option<Seal>) {
        let card = self.scorecard(request.round, request.included, &request.scores);
        let ledger = self.ledger();
        let signed = SignedScorecard::sign(ledger.signer(), &ledger.domain(), card);
        let seal = self.seals.then(|| {
            let sealed = self.swarm.seal(&signed);
            Seal {
                seal: Hash(sealed.seal),
                signature: EvmSignature(sealed.signature),
            }
        });
        (EvmSignature(signed.signature), seal)
    }

    /// Whether `witness` made this seal.
    pub fn verifies_seal(&self, witness: Address, round: u64, seal: &Seal) -> bool {
        self.swarm.seals(round, &signed_seal(witness, seal))
    }

    /// Commit the seals of a round's cards, unless somebody has; whose cards count now.
    ///
    /// # Errors
    /// The chain can't be reached, again and again, or refuses.
    pub async fn commit_seals(
        &self,
        round: u64,
        seals: &[(Address, Seal)],
    ) -> Result<Option<BTreeSet<Address>>> {
        let seals: Vec<_> = seals
            .iter()
            .map(|(witness, seal)| signed_seal(*witness, seal))
            .collect();
        let mut tries = 0;
        while let Err(error) = self.swarm.commit_seals(round, &seals).await {
            tries += 1;
            if tries == COMMIT_TRIES || !error.is_transient() {
                return Err(error).context("committing the scorecards' seals");
            }
            tokio::time::sleep(POLL).await;
        }
        self.sealed_by(round).await
    }

    /// Whose cards of a round the chain holds the seals of, where it holds them.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn sealed_by(&self, round: u64) -> Result<Option<BTreeSet<Address>>> {
        if !self.seals {
            return Ok(None);
        }
        let sealed = self.swarm.sealed_by(round).await;
        let sealed = sealed.context("reading the scorecards' seals")?;
        Ok(sealed.map(|all| all.into_iter().map(Address).collect()))
    }

    /// Whether `witness` signed this card.
    pub fn verifies(&self, witness: Address, round: u64, card: &Card) -> bool {
        let card = self.cards(round, &[(witness, card.clone())]);
        card.iter()
            .all(|card| card.is_valid(&self.ledger().domain()))
    }

    fn cards(&self, round: u64, cards: &[(Address, Card)]) -> Vec<SignedScorecard> {
        cards
            .iter()
            .map(|(witness, card)| SignedScorecard {
                witness: witness.0,
                card: self.scorecard(round, card.included, &card.scores),
                signature: card.signature.0,
            })
            .collect()
    }

    /// A settlement as the outbox keeps it.
    pub fn signed(&self, settlement: &Settlement) -> SignedRound {
        SignedRound {
            swarm: self.swarm.id(),
            round: settlement.round,
            included: settlement.included.0,
            cards: self.cards(settlement.round, &settlement.cards),
            seals: settlement
                .seals
                .iter()
                .map(|(witness, seal)| signed_seal(*witness, seal))
                .collect(),
        }
    }

    /// Send what waits in the outbox. What comes back are the transactions
    /// that this peer's account sent.
    ///
    /// # Errors
    /// The outbox can't be read or written, or the chain has declined a round;
    /// what can be sent later stays.
    pub async fn flush(&self, outbox: &Outbox) -> Result<Vec<(SettledTx, u64)>> {
        let mut sent = Vec::new();
        let mut problem = None;
        for (signed, delivery) in outbox.flush(self.ledger()).await.context("the outbox")? {
            match delivery {
                Delivery::Settled {
                    settled:
                        Settled {
                            tx: Some(_), gas, ..
                        },
                    ..
                } => {
                    sent.extend(self.settlement_of(signed.round).await?.map(|tx| (tx, gas)));
                }
                Delivery::Settled { .. } => {}
                Delivery::Waiting(error) | Delivery::Refused(error) => {
                    problem = Some(
                        anyhow::Error::new(error)
                            .context(format!("settling round {}", signed.round)),
                    );
                }
                _ => {}
            }
        }
        match problem {
            Some(problem) if sent.is_empty() => Err(problem),
            _ => Ok(sent),
        }
    }

    /// The transaction that settled a round, if one did.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn settlement_of(&self, round: u64) -> Result<Option<SettledTx>> {
        let opened = self
            .swarm
            .round_opened(round)
            .await
            .context("reading the ledger")?;
        if opened.is_none_or(|opened| opened.status != RoundStatus::Settled) {
            return Ok(None);
        }
        let history = self
            .swarm
            .history(round)
            .await
            .context("reading the ledger's events")?;
        Ok(history
            .into_iter()
            .find(|settled| settled.round == round)
            .map(|settled| SettledTx {
                round,
                tx: TxHash(settled.tx),
                block: settled.block,
                relayer: Address(settled.relayer),
            }))
    }

    /// Give up on a round that gathered no quorum, with the cards there are,
    /// and be eligible afterwards: without this a committee whose members have
    /// left would be drawn again and again.
    ///
    /// # Errors
    /// The chain can't be reached or refuses.
    pub async fn void(&self, round: u64, cards: &[(Address, Card)]) -> Result<()> {
        if self.pays() && self.is_open(round).await? {
            let cards = self.cards(round, cards);
            let sent = self.swarm.void_round(round, &cards).await;
            // Of several peers that give up at once, one is first.
            if let Err(error) = sent
                && self.is_open(round).await?
            {
                return Err(error).context("voiding the round");
            }
        }
        self.check_in().await
    }

    async fn is_open(&self, round: u64) -> Result<bool> {
        let opened = self
            .swarm
            .round_opened(round)
            .await
            .context("reading the ledger")?;
        Ok(opened.is_some_and(|opened| opened.status == RoundStatus::Opened))
    }

    /// Every member's standing, the highest first.
    ///
    /// # Errors
    /// The chain can't be reached.
    pub async fn standings(&self) -> Result<Vec<Standing>> {
        standings(&self.swarm).await
    }
}

fn signed_seal(witness: Address, seal: &Seal) -> SignedSeal {
    SignedSeal {
        witness: witness.0,
        seal: seal.seal.0,
        signature: seal.signature.0,
    }
}

/// A settling transaction.
#[derive(Debug, Clone, Copy)]
pub struct SettledTx {
    /// The round it settled.
    pub round: u64,
    /// Its hash.
    pub tx: TxHash,
    /// Its block.
    pub block: u64,
    /// Who sent it.
    pub relayer: Address,
}

/// Every member's standing, the highest first.
///
/// # Errors
/// The chain can't be reached.
pub async fn standings(swarm: &Swarm) -> Result<Vec<Standing>> {
    let all = swarm
        .reputations()
        .await
        .context("reading reputations from the ledger")?;
    Ok(all
        .into_iter()
        .map(|entry| Standing {
            peer: PeerId(entry.iroh_key.unwrap_or_default()),
            name: entry.name,
            score_ppm: entry.score,
            rounds: u64::from(entry.rounds),
        })
        .collect())
}

/// How often the chain is asked for what others did: opened rounds, settled
/// ones. Once a second is quick beside a round and nothing beside a node.
pub const POLL: Duration = Duration::from_secs(1);
