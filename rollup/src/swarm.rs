//! One swarm's rounds: opened, settled or voided, and what came of them.
//!
//! Everything that several peers may do at once is idempotent: who comes second finds
//! it done, and is told so instead of being refused.

use alloy::primitives::{Address, B256};
use alloy::sol_types::{SolCall, SolStruct};
use serde::{Deserialize, Serialize};

use crate::connection::Sent;
use crate::contracts::abi::ledger::{IReputationLedger, ReputationLedger as L};
use crate::contracts::abi::registry::PeerRegistry as R;
use crate::contracts::abi::swarms::SwarmRegistry as S;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::registration::Peer;
use crate::scorecard::{CheckIn, Join, SignedScorecard, sign_digest};

/// Members asked for at once.
const PAGE: usize = 200;

/// One swarm on a chain's ledger.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub(crate) ledger: Ledger,
    pub(crate) id: B256,
}

/// What the ledger knows of a swarm as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmInfo {
    /// Its manifest's hash.
    pub manifest: [u8; 32],
    /// The lowest round that can still be opened.
    pub next_round: u64,
    /// How many rounds have been settled.
    pub settled_rounds: u32,
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
    /// Whether its author has paused it: no rounds are opened.
    pub paused: bool,
    /// Who may admit and pause; all zeros: nobody.
    pub author: [u8; 20],
    /// Who may change manifest and parameters; all zeros: nobody.
    pub governance: [u8; 20],
    /// A hash over everything settled, in order.
    pub root: [u8; 32],
}

/// A round that has been opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundOpened {
    /// Its number.
    pub round: u64,
    /// Its randomness.
    #[serde(with = "alloy::hex::serde")]
    pub beacon: [u8; 32],
    /// Its witnesses.
    pub committee: Vec<[u8; 20]>,
    /// The block it was opened in, as the contract saw it.
    pub block: u64,
    /// The time it was opened at, in seconds since 1970.
    pub time: u64,
    /// How far it is.
    pub status: RoundStatus,
}

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundStatus {
    /// Waiting for its witnesses.
    Opened,
    /// Recorded.
    Settled,
    /// Given up; a quorum that comes after all still settles it.
    Voided,
}

/// A settled round, as the settling peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The transaction that settled it; `None` if another peer's did.
    pub tx: Option<[u8; 32]>,
    /// Gas it used; 0 if another's transaction settled it.
    pub gas: u64,
    /// Whether it had been settled already.
    pub already: bool,
}

/// A member's standing in a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reputation {
    /// Its account.
    pub address: [u8; 20],
    /// Its iroh key, if that key has signed for it.
    pub iroh_key: Option<[u8; 32]>,
    /// The name it gave itself.
    pub name: String,
    /// Reputation in parts per million.
    pub score: u32,
    /// How far its next score may well be from it, in parts per million.
    pub uncertainty: u32,
    /// What its word as a witness weighs, in parts per million.
    pub weight: u32,
    /// How many settled rounds included it.
    pub rounds: u32,
    /// Whether it can be drawn as a witness; if not, it should check in.
    pub active: bool,
    /// Rounds in a row it was a witness of and did not sign.
    pub missed: u8,
    /// How often it was proved to have signed two cards for one round.
    pub faults: u8,
}

/// A member's word that anybody can relay: "I join", or "I am here".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipRequest {
    /// The swarm's id on chain.
    #[serde(with = "alloy::hex::serde")]
    pub swarm: [u8; 32],
    /// Who says so.
    #[serde(with = "alloy::hex::serde")]
    pub peer: [u8; 20],
    /// For a check-in, the last round opened; `None` to join.
    pub round: Option<u64>,
    /// Its signature.
    #[serde(with = "alloy::hex::serde")]
    pub signature: [u8; 65],
}

impl Swarm {
    pub(crate) fn new(ledger: Ledger, id: [u8; 32]) -> Self {
        Self {
            ledger,
            id: id.into(),
        }
    }

    /// Its id on chain.
    pub fn id(&self) -> [u8; 32] {
        self.id.0
    }

    /// The ledger it is on.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the ledger knows of it as a whole.
    pub async fn info(&self) -> Result<SwarmInfo, LedgerError> {
        let swarms = self.ledger.addresses().swarms;
        let call = S::getSwarmCall { swarm: self.id };
        let known = self.ledger.reader().call(swarms, &call).await?;
        let state = self.call(&L::getStateCall { swarm: self.id }).await?;
        Ok(SwarmInfo {
            manifest: known.manifest.0,
            next_round: state.nextRound,
            settled_rounds: state.settledRounds,
            created_at: known.createdAt,
            paused: known.paused,
            author: known.terms.author.into_array(),
            governance: known.governance.into_array(),
            root: state.root.0,
        })
    }

    /// Joins, as this account; nothing changes if it is a member.
    pub async fn join(&self) -> Result<(), LedgerError> {
        if self.standing(self.ledger.address()).await?.is_some() {
            return Ok(());
        }
        self.send(&L::joinSwarmCall { swarm: self.id })
            .await
            .map(drop)
    }

    /// Signs a joining that anybody can relay.
    pub fn authorize_join(&self) -> MembershipRequest {
        let peer = Address::from(self.ledger.address());
        self.authorize(
            None,
            &Join {
                swarm: self.id,
                peer,
            },
        )
    }

    /// After missed rounds: makes this account eligible as a witness again.
    pub async fn check_in(&self) -> Result<Sent, LedgerError> {
        self.send(&L::checkInCall { swarm: self.id }).await
    }

    /// Signs a check-in that anybody can relay, while `round` is among the last opened.
    pub fn authorize_check_in(&self, round: u64) -> MembershipRequest {
        let peer = Address::from(self.ledger.address());
        self.authorize(
            Some(round),
            &CheckIn {
                swarm: self.id,
                peer,
                round,
            },
        )
    }

    fn authorize(&self, round: Option<u64>, typed: &impl SolStruct) -> MembershipRequest {
        let digest = typed.eip712_signing_hash(&self.ledger.domain().eip712());
        MembershipRequest {
            swarm: self.id.0,
            peer: self.ledger.address(),
            round,
            signature: sign_digest(self.ledger.signer(), digest),
        }
    }

    /// Pays for somebody else's joining or check-in.
    pub async fn relay(&self, request: &MembershipRequest) -> Result<Sent, LedgerError> {
        let (swarm, peer) = (B256::from(request.swarm), Address::from(request.peer));
        let signature = request.signature.to_vec().into();
        match request.round {
            None => {
                self.send(&L::joinSwarmForCall {
                    swarm,
                    peer,
                    signature,
                })
                .await
            }
            Some(round) => {
                self.send(&L::checkInForCall {
                    swarm,
                    peer,
                    round,
                    signature,
                })
                .await
            }
        }
    }

    /// As the swarm's author: admits peers to its list, or takes that back.
    pub async fn admit(&self, peers: &[[u8; 20]], admitted: bool) -> Result<Sent, LedgerError> {
        let call = S::admitCall {
            swarm: self.id,
            peers: peers.iter().map(Address::from).collect(),
            admitted,
        };
        self.administer(&call).await
    }

    /// As the swarm's author: no rounds are opened until it is taken back.
    pub async fn pause(&self, paused: bool) -> Result<Sent, LedgerError> {
        let swarm = self.id;
        self.administer(&S::pauseCall { swarm, paused }).await
    }

    async fn administer(&self, call: &impl SolCall) -> Result<Sent, LedgerError> {
        let swarms = self.ledger.addresses().swarms;
        self.ledger.connection().send(swarms, call).await
    }

    /// Proves that a witness signed two different cards for one round.
    pub async fn dispute(
        &self,
        round: u64,
        one: &SignedScorecard,
        other: &SignedScorecard,
    ) -> Result<Sent, LedgerError> {
        self.send(&L::disputeCall {
            swarm: self.id,
            round,
            one: ballot(one),
            other: ballot(other),
        })
        .await
    }

    /// Opens a round, or finds that somebody has: either way, what was opened.
    pub async fn open_round(&self, round: u64) -> Result<RoundOpened, LedgerError> {
        if let Some(opened) = self.round_opened(round).await? {
            return Ok(opened);
        }
        let sent = self
            .send(&L::openRoundCall {
                swarm: self.id,
                round,
            })
            .await;
        match (self.round_opened(round).await?, sent) {
            (Some(opened), _) => Ok(opened),
            (None, Err(error)) => Err(error),
            (None, Ok(sent)) => Err(self.ledger.reader().unreadable(format!(
                "transaction {} opened round {round}, but the round is not open",
                B256::from(sent.tx)
            ))),
        }
    }

    /// A round, if it has been opened.
    pub async fn round_opened(&self, round: u64) -> Result<Option<RoundOpened>, LedgerError> {
        let found = self
            .call(&L::getRoundCall {
                swarm: self.id,
                round,
            })
            .await?;
        // As the contract's `Status` counts them; 0 is unopened.
        let status = match found.status {
            1 => RoundStatus::Opened,
            2 => RoundStatus::Settled,
            3 => RoundStatus::Voided,
            _ => return Ok(None),
        };
        Ok(Some(RoundOpened {
            round,
            beacon: found.beacon.0,
            committee: found
                .committee
                .into_iter()
                .map(Address::into_array)
                .collect(),
            block: found.openedBlock,
            time: found.openedAt,
            status,
        }))
    }

    /// Settles a round with its witnesses' cards, which must all be of one mind about
    /// what was included. Tells if somebody else has.
    pub async fn settle(
        &self,
        round: u64,
        included: [u8; 32],
        cards: &[SignedScorecard],
    ) -> Result<Settled, LedgerError> {
        let call = self.settlement(round, included, cards)?;
        match self.send(&call).await {
            Ok(sent) => Ok(Settled {
                tx: Some(sent.tx),
                gas: sent.gas,
                already: false,
            }),
            Err(error) => match self.round_opened(round).await? {
                Some(opened) if opened.status == RoundStatus::Settled => Ok(Settled {
                    tx: None,
                    gas: 0,
                    already: true,
                }),
                _ => Err(error),
            },
        }
    }

    /// The transaction that settles a round; what need not reach the chain to be known
    /// for wrong is refused here.
    fn settlement(
        &self,
        round: u64,
        included: [u8; 32],
        cards: &[SignedScorecard],
    ) -> Result<L::settleCall, LedgerError> {
        let domain = self.ledger.domain();
        let wrong = |what: &str, card: &SignedScorecard| {
            LedgerError::Cards(format!("that of {}: {what}", Address::from(card.witness)))
        };
        let peers = cards
            .first()
            .map(|first| first.card.columns().0)
            .unwrap_or_default();
        for signed in cards {
            let card = &signed.card;
            if (card.swarm, card.round) != (self.id.0, round) {
                return Err(wrong("it is of another swarm or round", signed));
            }
            if card.included != included {
                return Err(wrong("it includes something else", signed));
            }
            let (listed, _) = card.columns();
            if listed != peers {
                return Err(wrong("it lists other peers", signed));
            }
            if !signed.is_valid(&domain) {
                return Err(wrong("its signature is not the witness's", signed));
            }
        }
        Ok(settle_call(self.id, round, included, cards))
    }

    /// Gives up on a round that gathered no quorum. The cards there are, though they
    /// disagree, show who was there; `already` if it was voided or settled before.
    pub async fn void_round(
        &self,
        round: u64,
        cards: &[SignedScorecard],
    ) -> Result<Settled, LedgerError> {
        let ballots = cards.iter().map(ballot).collect();
        match self
            .send(&L::voidRoundCall {
                swarm: self.id,
                round,
                ballots,
            })
            .await
        {
            Ok(sent) => Ok(Settled {
                tx: Some(sent.tx),
                gas: sent.gas,
                already: false,
            }),
            Err(error) => match error.refusal() {
                Some("AlreadyVoided" | "AlreadySettled") => Ok(Settled {
                    tx: None,
                    gas: 0,
                    already: true,
                }),
                _ => Err(error),
            },
        }
    }

    /// A member's standing, or `None` if it is not a member.
    pub async fn standing(&self, peer: [u8; 20]) -> Result<Option<Reputation>, LedgerError> {
        let found = self
            .call(&L::standingCall {
                swarm: self.id,
                peer: peer.into(),
            })
            .await?;
        if !found.member {
            return Ok(None);
        }
        let record = self.ledger.peer(peer).await?;
        Ok(Some(reputation(found, record)))
    }

    /// Every member's standing, the highest first.
    pub async fn reputations(&self) -> Result<Vec<Reputation>, LedgerError> {
        let mut all = Vec::new();
        loop {
            let page = self
                .call(&L::standingsCall {
                    swarm: self.id,
                    from: alloy::primitives::U256::from(all.len()),
                    count: alloy::primitives::U256::from(PAGE),
                })
                .await?;
            let owners: Vec<_> = page.iter().map(|standing| standing.peer).collect();
            let registry = self.ledger.addresses().registry;
            let call = R::peersCall {
                owners: owners.clone(),
            };
            let records = self.ledger.reader().call(registry, &call).await?;
            let (got, chain_id) = (page.len(), self.ledger.chain_id());
            for ((standing, owner), record) in page.into_iter().zip(owners).zip(records) {
                let record = Peer::from_record(chain_id, registry, owner, record);
                all.push(reputation(standing, record));
            }
            if got < PAGE {
                break;
            }
        }
        all.sort_by_key(|reputation| (std::cmp::Reverse(reputation.score), reputation.address));
        Ok(all)
    }

    pub(crate) async fn call<C: alloy::sol_types::SolCall>(
        &self,
        call: &C,
    ) -> Result<C::Return, LedgerError> {
        self.ledger
            .reader()
            .call(self.ledger.addresses().ledger, call)
            .await
    }

    pub(crate) async fn send<C: SolCall>(&self, call: &C) -> Result<Sent, LedgerError> {
        self.ledger
            .connection()
            .send(self.ledger.addresses().ledger, call)
            .await
    }
}

/// The call that brings cards, which must belong together.
pub(crate) fn settle_call(
    swarm: B256,
    round: u64,
    included: [u8; 32],
    cards: &[SignedScorecard],
) -> L::settleCall {
    let row = |signed: &SignedScorecard| IReputationLedger::Scorecard {
        witness: signed.witness.into(),
        scores: signed.card.packed_scores(),
        signature: signed.signature.to_vec().into(),
    };
    L::settleCall {
        swarm,
        round,
        included: included.into(),
        peers: cards
            .first()
            .map(|first| first.card.columns().0)
            .unwrap_or_default(),
        cards: cards.iter().map(row).collect(),
        seals: vec![],
    }
}

fn ballot(signed: &SignedScorecard) -> IReputationLedger::Ballot {
    let (peers_hash, scores_hash) = signed.card.column_hashes();
    IReputationLedger::Ballot {
        witness: signed.witness.into(),
        included: signed.card.included.into(),
        peersHash: peers_hash,
        scoresHash: scores_hash,
        signature: signed.signature.to_vec().into(),
    }
}

fn reputation(standing: IReputationLedger::Standing, record: Option<Peer>) -> Reputation {
    let (iroh_key, name) = record
        .map(|peer| (peer.iroh_key, peer.name))
        .unwrap_or_default();
    Reputation {
        address: standing.peer.into_array(),
        iroh_key,
        name,
        score: standing.reputation,
        uncertainty: standing.uncertainty,
        weight: standing.weight,
        rounds: standing.rounds,
        active: standing.active,
        missed: standing.missed,
        faults: standing.faults,
    }
}
