//! What travels by gossip: small signed announcements.
//!
//! An [`Announcement`] says that something exists (a body, named by its hash)
//! or what a peer holds to be so (a witness's list, a scorecard). It never
//! carries a body. On the wire it is 64 bytes of ed25519 signature and the
//! canonical postcard bytes that were signed, at most [`MAX_WIRE`] together:
//! a gossip layer that takes less would fall silent, so the size is checked
//! before sending and before anything else on receipt.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::bounded::at_most;
use crate::curriculum::Amendment;
use crate::ids::{Address, Hash, PeerId, SwarmId, bytes};
use crate::refusal::RejectReason;

/// The version of the announcement format, its first byte.
pub const WIRE_VERSION: u8 = 3;
/// The most bytes an announcement may have on the wire, signature included.
pub const MAX_WIRE: usize = 16 * 1024;
/// The most peers a swarm may have, whatever a manifest says.
pub const HARD_PEERS: usize = 64;
/// The most bodies a witness may list: three of each peer.
pub const HARD_ENTRIES: usize = 3 * HARD_PEERS;
/// No round has a higher number: a round a millisecond for nine thousand years.
/// What a peer says of a later one would only overflow somebody's sum.
pub const HARD_ROUND: u64 = 1 << 48;
/// The most bytes of a peer's name.
pub const MAX_NAME: usize = 64;

const SIGNATURE: usize = 64;
/// Signatures of announcements are good for nothing else.
const CONTEXT: &[u8] = b"murmuration announcement v1\0";

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The round; while joining, the one it means to begin with.
    pub round: u64,
    /// The phase of that round.
    pub phase: Phase,
}

/// The steps of a round, finer than its stages: a critique is committed, then
/// revealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Listening for peers; takes no part in a round yet.
    Join,
    /// Waiting for the beacon.
    Open,
    /// Sampling answers, then waiting for the others'.
    Answer,
    /// Sampling critiques, then waiting for the others' commitments.
    Commit,
    /// Waiting for the others' revealed critiques.
    Reveal,
    /// Sampling resolutions, then waiting for the others'.
    Resolve,
    /// Gathering witnesses' lists.
    Judge,
    /// Training.
    Train,
    /// Between rounds: after the last one, or until the clock says.
    Rest,
}

/// What kind of body an announcement speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BodyKind {
    /// Answers.
    Answer,
    /// Critiques.
    Critique,
    /// Resolutions.
    Resolve,
}

impl BodyKind {
    /// All kinds, in the order of a round.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Critique, Self::Resolve];

    /// The stage that makes this kind.
    pub fn stage(self) -> crate::event::Stage {
        match self {
            Self::Answer => crate::event::Stage::Answer,
            Self::Critique => crate::event::Stage::Critique,
            Self::Resolve => crate::event::Stage::Resolve,
        }
    }
}

/// A body, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyRef {
    /// Its hash.
    pub hash: Hash,
    /// Its size.
    pub bytes: u32,
}

/// A recoverable secp256k1 signature: r, s, v.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvmSignature(#[serde(with = "bytes")] pub [u8; 65]);

impl std::fmt::Debug for EvmSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvmSignature({}…)", hex::encode(&self.0[..4]))
    }
}

/// What anybody needs to register a peer and have it join, and pay for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plea {
    /// The peer's ed25519 signature, that it stands for its owner.
    #[serde(with = "bytes")]
    pub by_peer: [u8; 64],
    /// Until when the registration is good, in seconds since 1970.
    pub deadline_s: u64,
    /// The owner's signature over the registration.
    pub registration: EvmSignature,
    /// The owner's signature over joining the swarm.
    pub joining: EvmSignature,
}

impl std::fmt::Debug for Plea {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plea(until {})", self.deadline_s)
    }
}

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// I am here.
    Hello {
        /// Who owns my reputation.
        address: Address,
        /// My name, a label for people.
        name: String,
        /// Said by a peer that is not on the ledger and cannot pay for it.
        plea: Option<Box<Plea>>,
        /// The newest change of the curriculum I know of; 0 for none.
        curriculum: u32,
    },
    /// This body of mine can be fetched.
    Have {
        /// What it is.
        kind: BodyKind,
        /// Which.
        body: BodyRef,
    },
    /// My critiques are these, and you will see them when all have committed.
    Commit {
        /// Which.
        body: BodyRef,
    },
    /// As a witness: these bodies reached me in time.
    Inclusion {
        /// Their hashes, sorted.
        #[serde(deserialize_with = "at_most::<_, _, HARD_ENTRIES>")]
        entries: Vec<Hash>,
    },
    /// As a witness: these scores follow from these bodies.
    Attestation(Card),
    /// My weights after a round.
    Checkpoint {
        /// Their hash.
        hash: Hash,
        /// Optimizer steps since the base model.
        step: u64,
    },
    /// I am going; do not wait for me.
    Leave,
    /// The swarm's author changes the curriculum. Anybody passes it on.
    Amendment(Box<Amendment>),
    /// I ask by this plan in this round.
    Plan {
        /// Which.
        plan: BodyRef,
    },
    /// As a witness: I have a scorecard, and will show it when the ledger holds my
    /// word that I have.
    Sealed(Seal),
}

/// A witness's word that it has a scorecard, which tells nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The hash of its signature under the card.
    pub seal: Hash,
    /// EIP-712 under that, by the witness's address.
    pub signature: EvmSignature,
}

/// A witness's signed scorecard, as the ledger verifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The hash of the included set.
    pub included: Hash,
    /// Scores in ppm by address, sorted; [`UNSCORED`](crate::score::UNSCORED)
    /// for the witness's own.
    #[serde(deserialize_with = "at_most::<_, _, HARD_PEERS>")]
    pub scores: Vec<(Address, u32)>,
    /// EIP-712, by the witness's address.
    pub signature: EvmSignature,
}

/// One signed statement of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// [`WIRE_VERSION`].
    pub version: u8,
    /// The swarm it belongs to.
    pub swarm: SwarmId,
    /// The round the payload is about.
    pub round: u64,
    /// Who says it.
    pub peer: PeerId,
    /// Grows with everything this peer says, also over restarts.
    pub sequence: u64,
    /// Where the peer is as it says so.
    pub at: Position,
    /// What it says.
    pub payload: Payload,
}

impl Announcement {
    /// The wire form, signed with the peer's key.
    ///
    /// Fails on what [`verify`] would refuse for its size.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, RejectReason> {
        let body = postcard::to_stdvec(self)
            .map_err(|error| RejectReason::Malformed(error.to_string()))?;
        let total = body.len() + SIGNATURE;
        if total > MAX_WIRE {
            return Err(RejectReason::Oversize {
                bytes: total,
                limit: MAX_WIRE,
            });
        }
        let mut wire = Vec::with_capacity(total);
        wire.extend(key.sign(&signed(&body)).to_bytes());
        wire.extend(body);
        Ok(wire)
    }
}

/// Reads and verifies the wire form of an announcement. `Ok(None)` is one of
/// another swarm, whose topic a gossip layer may share.
pub fn verify(wire: &[u8], swarm: SwarmId) -> Result<Option<Announcement>, RejectReason> {
    if wire.len() > MAX_WIRE {
        return Err(RejectReason::Oversize {
            bytes: wire.len(),
            limit: MAX_WIRE,
        });
    }
    let (signature, body) = wire
        .split_first_chunk::<SIGNATURE>()
        .ok_or_else(|| RejectReason::Malformed("shorter than a signature".into()))?;
    match body.first() {
        Some(&WIRE_VERSION) => {}
        Some(&version) => return Err(RejectReason::Version(version)),
        None => return Err(RejectReason::Malformed("empty".into())),
    }
    let announcement: Announcement =
        postcard::from_bytes(body).map_err(|error| RejectReason::Malformed(error.to_string()))?;
    if announcement.swarm != swarm {
        return Ok(None);
    }
    VerifyingKey::from_bytes(announcement.peer.as_bytes())
        .and_then(|key| key.verify_strict(&signed(body), &Signature::from_bytes(signature)))
        .map_err(|_| RejectReason::Signature)?;
    if postcard::to_stdvec(&announcement).ok().as_deref() != Some(body) {
        return Err(RejectReason::NotCanonical);
    }
    if announcement.round.max(announcement.at.round) > HARD_ROUND {
        return Err(RejectReason::Malformed("no round has this number".into()));
    }
    check_shape(&announcement.payload)?;
    Ok(Some(announcement))
}

/// What a payload must be on its own, whoever says it and whenever.
fn check_shape(payload: &Payload) -> Result<(), RejectReason> {
    match payload {
        Payload::Hello { name, .. }
            if name.len() > MAX_NAME || name.chars().any(char::is_control) =>
        {
            Err(RejectReason::Manifest(format!(
                "a name is at most {MAX_NAME} bytes without control characters"
            )))
        }
        Payload::Inclusion { entries } if !entries.is_sorted_by(|a, b| a < b) => {
            Err(RejectReason::NotCanonical)
        }
        Payload::Attestation(card) if !card.scores.is_sorted_by(|a, b| a.0 < b.0) => {
            Err(RejectReason::NotCanonical)
        }
        _ => Ok(()),
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    [CONTEXT, body].concat()
}

#[cfg(test)]
mod tests;
