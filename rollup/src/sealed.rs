//! Rounds that settle in other ways than by open cards: with cards that were committed
//! before anybody showed one, and, in large swarms, by the root of the scores alone.

use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::Filter;
use alloy::sol_types::{SolCall, SolEvent, SolStruct};
use serde::{Deserialize, Serialize};

use crate::connection::Sent;
use crate::contracts::abi::ledger::{IReputationLedger, ReputationLedger as L};
use crate::error::LedgerError;
use crate::history::{ScoredPeer, SettledRound};
use crate::merkle;
use crate::scorecard::{RootCard, Seal, SignedScorecard, recover_digest, sign_digest};
use crate::swarm::{Settled, Swarm, settle_call};

/// A witness's word that it has a card: the hash of its signature, which tells nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedSeal {
    /// Whose.
    #[serde(with = "alloy::hex::serde")]
    pub witness: [u8; 20],
    /// The hash of its signature under the card.
    #[serde(with = "alloy::hex::serde")]
    pub seal: [u8; 32],
    /// Its signature under that.
    #[serde(with = "alloy::hex::serde")]
    pub signature: [u8; 65],
}

/// What a large round says of every peer, by one hash: each witness signs the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootOfScores {
    /// What the round included.
    #[serde(with = "alloy::hex::serde")]
    pub included: [u8; 32],
    /// How many peers it says something of.
    pub peers: u32,
    /// The Merkle root over what it says of each.
    #[serde(with = "alloy::hex::serde")]
    pub root: [u8; 32],
}

/// A witness's signature under a [`RootOfScores`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRoot {
    /// Whose.
    #[serde(with = "alloy::hex::serde")]
    pub witness: [u8; 20],
    /// The signature.
    #[serde(with = "alloy::hex::serde")]
    pub signature: [u8; 65],
}

/// What a round says of its peers, as a tree: its root is on chain, and a proof leads from
/// each line to it.
#[derive(Clone)]
pub struct ScoreTree {
    lines: Vec<IReputationLedger::Score>,
    tree: merkle::Tree,
}

/// A line of a settled round, and what leads from it to the root on chain.
#[derive(Clone)]
pub struct ProvenLine {
    pub(crate) line: IReputationLedger::Score,
    pub(crate) proof: Vec<B256>,
}

impl ScoreTree {
    /// The tree over a round's lines, in the order in which they settle.
    pub fn new(scores: &[ScoredPeer]) -> Self {
        let line = |scored: &ScoredPeer| IReputationLedger::Score {
            peer: scored.peer.into(),
            score: scored.score.unwrap_or(0),
            reputation: scored.reputation,
            uncertainty: scored.uncertainty,
        };
        let lines: Vec<_> = scores.iter().map(line).collect();
        let tree = merkle::Tree::new(lines.iter().map(merkle::leaf).collect());
        Self { lines, tree }
    }

    /// Its root.
    pub fn root(&self) -> [u8; 32] {
        self.tree.root().0
    }

    /// A peer's line and its proof, if the round says anything of it.
    pub fn line(&self, peer: [u8; 20]) -> Option<ProvenLine> {
        let place = self
            .lines
            .iter()
            .position(|line| line.peer == Address::from(peer))?;
        Some(ProvenLine {
            line: self.lines[place].clone(),
            proof: self.tree.proof(place),
        })
    }
}

impl SettledRound {
    /// A peer's line of this round, and what leads from it to the round's root on chain.
    pub fn line(&self, peer: [u8; 20]) -> Option<ProvenLine> {
        ScoreTree::new(&self.scores).line(peer)
    }
}

fn vote(witness: [u8; 20], seal: [u8; 32], signature: &[u8; 65]) -> IReputationLedger::Vote {
    IReputationLedger::Vote {
        witness: witness.into(),
        seal: seal.into(),
        signature: signature.to_vec().into(),
    }
}

impl Swarm {
    /// Seals this account's card: shows that there is one, and nothing of it.
    pub fn seal(&self, card: &SignedScorecard) -> SignedSeal {
        let seal = card.seal();
        SignedSeal {
            witness: self.ledger.address(),
            seal,
            signature: sign_digest(
                self.ledger.signer(),
                self.seal_digest(card.card.round, seal),
            ),
        }
    }

    fn seal_digest(&self, round: u64, seal: [u8; 32]) -> B256 {
        let typed = Seal {
            swarm: self.id,
            round,
            seal: seal.into(),
        };
        typed.eip712_signing_hash(&self.ledger.domain().eip712())
    }

    /// Whether a seal is its witness's, for this round.
    pub fn seals(&self, round: u64, sealed: &SignedSeal) -> bool {
        let digest = self.seal_digest(round, sealed.seal);
        recover_digest(digest, &sealed.signature) == Ok(sealed.witness)
    }

    /// Whose cards of a round the chain holds the seals of; `None` if it holds none.
    pub async fn sealed_by(&self, round: u64) -> Result<Option<Vec<[u8; 20]>>, LedgerError> {
        let sealing = self.sealing(round).await?;
        Ok(sealing.map(|(witnesses, _)| witnesses))
    }

    /// The seals that the chain holds of a round's cards, as they were committed; `None`
    /// if it holds none. Behind a contract in between they can't be read, and are found
    /// among `known`.
    pub async fn committed_seals(
        &self,
        round: u64,
        known: &[SignedSeal],
    ) -> Result<Option<Vec<SignedSeal>>, LedgerError> {
        let Some((witnesses, tx)) = self.sealing(round).await? else {
            return Ok(None);
        };
        let called = self.ledger.reader().transaction(tx).await?;
        let call = called.and_then(|(_, input)| L::sealCardsCall::abi_decode(&input).ok());
        let seal = |vote: IReputationLedger::Vote| SignedSeal {
            witness: vote.witness.into_array(),
            seal: vote.seal.0,
            signature: vote.signature.as_ref().try_into().unwrap_or([0; 65]),
        };
        Ok(Some(match call {
            Some(call) => call.votes.into_iter().map(seal).collect(),
            None => {
                let among = |sealed: &&SignedSeal| witnesses.contains(&sealed.witness);
                known.iter().filter(among).cloned().collect()
            }
        }))
    }

    /// Who sealed a round's cards, and the transaction that committed them.
    async fn sealing(&self, round: u64) -> Result<Option<(Vec<[u8; 20]>, B256)>, LedgerError> {
        let swarm = self.id;
        let found = self.call(&L::getRoundCall { swarm, round }).await?;
        if found.seals.is_zero() {
            return Ok(None);
        }
        let height = self.ledger.height().await?;
        let from = self.first_block_at(found.openedAt, height).await?;
        let filter = Filter::new()
            .address(self.ledger.addresses().ledger)
            .event_signature(L::CardsSealed::SIGNATURE_HASH)
            .topic1(swarm)
            .topic2(B256::from(U256::from(round)));
        let reader = self.ledger.reader();
        let logs = self.ledger.logs_since(filter, from).await?;
        // Not there: the chain was asked between two of its blocks.
        let Some(log) = logs.last() else {
            return Ok(None);
        };
        let event =
            L::CardsSealed::decode_log(&log.inner).map_err(|error| reader.unreadable(error))?;
        let witnesses = event.data.witnesses.iter().map(|one| one.into_array());
        let tx = log.transaction_hash.unwrap_or_default();
        Ok(Some((witnesses.collect(), tx)))
    }

    /// Commits the seals of more than two thirds of the committee: only cards sealed here
    /// count later.
    pub async fn commit_seals(
        &self,
        round: u64,
        seals: &[SignedSeal],
    ) -> Result<Settled, LedgerError> {
        let votes = seals
            .iter()
            .map(|sealed| vote(sealed.witness, sealed.seal, &sealed.signature));
        let call = L::sealCardsCall {
            swarm: self.id,
            round,
            votes: votes.collect(),
        };
        done_once(self.send(&call).await, "CardsAlreadySealed")
    }

    /// Settles a round whose cards were sealed. `committed` are the seals as they were
    /// committed; `committee` is the round's.
    pub async fn settle_sealed(
        &self,
        round: u64,
        included: [u8; 32],
        cards: &[SignedScorecard],
        committee: &[[u8; 20]],
        committed: &[SignedSeal],
    ) -> Result<Settled, LedgerError> {
        let seal_of = |witness: &[u8; 20]| {
            let found = committed.iter().find(|sealed| sealed.witness == *witness);
            B256::from(found.map_or([0; 32], |sealed| sealed.seal))
        };
        let call = L::settleCall {
            seals: committee.iter().map(seal_of).collect(),
            ..settle_call(self.id, round, included, cards)
        };
        done_once(self.send(&call).await, "AlreadySettled")
    }

    /// Signs the root of a large round's scores.
    pub fn sign_root(&self, round: u64, scores: &RootOfScores) -> SignedRoot {
        let typed = RootCard {
            swarm: self.id,
            round,
            included: scores.included.into(),
            peers: scores.peers,
            scores: scores.root.into(),
        };
        let digest = typed.eip712_signing_hash(&self.ledger.domain().eip712());
        SignedRoot {
            witness: self.ledger.address(),
            signature: sign_digest(self.ledger.signer(), digest),
        }
    }

    /// Settles a round by the root of its scores, which more than two thirds of the
    /// committee signed.
    pub async fn settle_root(
        &self,
        round: u64,
        scores: &RootOfScores,
        signed: &[SignedRoot],
    ) -> Result<Settled, LedgerError> {
        let votes = signed
            .iter()
            .map(|signed| vote(signed.witness, [0; 32], &signed.signature));
        let call = L::settleRootCall {
            swarm: self.id,
            round,
            included: scores.included.into(),
            peers: scores.peers,
            scores: scores.root.into(),
            votes: votes.collect(),
        };
        done_once(self.send(&call).await, "AlreadySettled")
    }

    /// Brings a peer's line of a round that settled by its root on chain; `already` if its
    /// standing is as new.
    pub async fn apply_score(&self, round: u64, line: &ProvenLine) -> Result<Settled, LedgerError> {
        let call = L::applyScoreCall {
            swarm: self.id,
            round,
            score: line.line.clone(),
            proof: line.proof.clone(),
        };
        done_once(self.send(&call).await, "AlreadyApplied")
    }
}

/// What of several that do the same at once the first did, and the others find done.
fn done_once(sent: Result<Sent, LedgerError>, already: &str) -> Result<Settled, LedgerError> {
    match sent {
        Ok(sent) => Ok(Settled {
            tx: Some(sent.tx),
            gas: sent.gas,
            already: false,
        }),
        Err(error) if error.refusal() == Some(already) => Ok(Settled {
            tx: None,
            gas: 0,
            already: true,
        }),
        Err(error) => Err(error),
    }
}
