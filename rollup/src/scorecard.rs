//! What a witness signs about a round, and how; no network needed.
//!
//! A scorecard is EIP-712 typed data, so that a wallet can show what it signs and the
//! ledger can check it. All cards of a round list the same peers, sorted by address:
//! everyone the round included. A witness writes [`UNSCORED`] for itself, and the
//! ledger ignores whatever it writes there.

use alloy::primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue, eip712_domain};
use serde::{Deserialize, Serialize};

/// "I did not score this peer."
pub const UNSCORED: u32 = u32::MAX;

/// A whole, in parts per million: the highest score.
pub const PPM: u32 = 1_000_000;

mod typed {
    #![allow(missing_docs, reason = "generated")]
    alloy::sol! {
        struct Scorecard {
            bytes32 swarm;
            uint64 round;
            bytes32 included;
            address[] peers;
            uint32[] scores;
        }

        /// The scores of a large round by their Merkle root: every witness signs the same.
        struct RootCard {
            bytes32 swarm;
            uint64 round;
            bytes32 included;
            uint32 peers;
            bytes32 scores;
        }

        /// That there is a card, by the hash of its signature.
        struct Seal {
            bytes32 swarm;
            uint64 round;
            bytes32 seal;
        }

        struct Registration {
            address owner;
            bytes32 node;
            bytes nodeSignature;
            string name;
            uint256 nonce;
            uint256 deadline;
        }

        struct Join {
            bytes32 swarm;
            address peer;
        }

        struct CheckIn {
            bytes32 swarm;
            address peer;
            uint64 round;
        }
    }
}
pub(crate) use typed::{CheckIn, Join, Registration, RootCard, Seal};

/// The contract a signature is meant for: it is worth nothing to any other, on any
/// other chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// The chain's id.
    pub chain_id: u64,
    /// The `ReputationLedger`.
    pub ledger: [u8; 20],
}

impl Domain {
    pub(crate) fn eip712(&self) -> Eip712Domain {
        eip712_domain! {
            name: "Murmuration",
            version: "1",
            chain_id: self.chain_id,
            verifying_contract: Address::from(self.ledger),
        }
    }
}

/// As [`Domain`], for the `PeerRegistry`.
pub(crate) fn registry_domain(chain_id: u64, registry: Address) -> Eip712Domain {
    eip712_domain! {
        name: "Murmuration Registry",
        version: "1",
        chain_id: chain_id,
        verifying_contract: registry,
    }
}

/// One witness's word on one round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scorecard {
    /// The swarm's id on chain.
    #[serde(with = "alloy::hex::serde")]
    pub swarm: [u8; 32],
    /// The round's number.
    pub round: u64,
    /// Stands for the set of batches the round counted.
    #[serde(with = "alloy::hex::serde")]
    pub included: [u8; 32],
    /// Every included peer and its score in parts per million, or [`UNSCORED`]; sorted
    /// by address, each once.
    pub scores: Vec<([u8; 20], u32)>,
}

impl Scorecard {
    /// The card of `witness`: sorts the scores and leaves its own out of them.
    pub fn new(
        witness: [u8; 20],
        swarm: [u8; 32],
        round: u64,
        included: [u8; 32],
        scores: impl IntoIterator<Item = ([u8; 20], u32)>,
    ) -> Self {
        let mut scores: Vec<_> = scores
            .into_iter()
            .map(|(peer, score)| (peer, if peer == witness { UNSCORED } else { score }))
            .collect();
        scores.sort_unstable();
        scores.dedup_by_key(|(peer, _)| *peer);
        Self {
            swarm,
            round,
            included,
            scores,
        }
    }

    /// What is signed.
    pub fn digest(&self, domain: &Domain) -> [u8; 32] {
        let (peers, scores) = self.columns();
        typed::Scorecard {
            swarm: self.swarm.into(),
            round: self.round,
            included: self.included.into(),
            peers,
            scores,
        }
        .eip712_signing_hash(&domain.eip712())
        .0
    }

    pub(crate) fn columns(&self) -> (Vec<Address>, Vec<u32>) {
        self.scores
            .iter()
            .map(|(peer, score)| (Address::from(peer), *score))
            .unzip()
    }

    /// The scores as a settlement carries them: four bytes each.
    pub(crate) fn packed_scores(&self) -> Bytes {
        let words = self
            .scores
            .iter()
            .flat_map(|(_, score)| score.to_be_bytes());
        words.collect()
    }

    /// EIP-712's hashes of the two columns: all a ballot needs of them.
    pub(crate) fn column_hashes(&self) -> (B256, B256) {
        let (peers, scores) = self.columns();
        // Elements of an array are padded to words, whatever their type.
        let scores: Vec<U256> = scores.into_iter().map(U256::from).collect();
        (
            keccak256(peers.abi_encode_packed()),
            keccak256(scores.abi_encode_packed()),
        )
    }
}

/// A scorecard and its witness's signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedScorecard {
    /// What was signed.
    pub card: Scorecard,
    /// Who signed it.
    #[serde(with = "alloy::hex::serde")]
    pub witness: [u8; 20],
    /// r, s and v.
    #[serde(with = "alloy::hex::serde")]
    pub signature: [u8; 65],
}

impl SignedScorecard {
    /// Signs a card.
    pub fn sign(signer: &PrivateKeySigner, domain: &Domain, card: Scorecard) -> Self {
        let signature = sign_scorecard(signer, domain, &card);
        Self {
            card,
            witness: signer.address().into_array(),
            signature,
        }
    }

    /// What its witness commits to where cards are sealed: the signature's hash.
    pub fn seal(&self) -> [u8; 32] {
        keccak256(self.signature).0
    }

    /// Whether the signature is the witness's.
    pub fn is_valid(&self, domain: &Domain) -> bool {
        recover_scorecard(domain, &self.card, &self.signature) == Ok(self.witness)
    }
}

/// A signature that nobody can have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature: {0}")]
pub struct NotASignature(&'static str);

/// Signs a scorecard with an Ethereum key.
pub fn sign_scorecard(signer: &PrivateKeySigner, domain: &Domain, card: &Scorecard) -> [u8; 65] {
    sign_digest(signer, card.digest(domain).into())
}

/// Who signed a scorecard. Any well-formed signature was made by somebody: compare.
pub fn recover_scorecard(
    domain: &Domain,
    card: &Scorecard,
    signature: &[u8; 65],
) -> Result<[u8; 20], NotASignature> {
    recover_digest(card.digest(domain).into(), signature)
}

pub(crate) fn recover_digest(
    digest: B256,
    signature: &[u8; 65],
) -> Result<[u8; 20], NotASignature> {
    let signature =
        Signature::from_raw_array(signature).map_err(|_| NotASignature("v is not 27 or 28"))?;
    // The ledger refuses the other of each signature's two forms, and so must we.
    if signature.normalize_s().is_some() {
        return Err(NotASignature("s is in the upper half"));
    }
    signature
        .recover_address_from_prehash(&digest)
        .map(Address::into_array)
        .map_err(|_| NotASignature("no key fits"))
}

pub(crate) fn sign_digest(signer: &PrivateKeySigner, digest: B256) -> [u8; 65] {
    signer
        .sign_hash_sync(&digest)
        .expect("a key in memory signs any hash")
        .as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: Domain = Domain {
        chain_id: 7700,
        ledger: [9; 20],
    };

    fn signer(number: u8) -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::with_last_byte(number)).unwrap()
    }

    fn card() -> Scorecard {
        Scorecard::new(
            [2; 20],
            [1; 32],
            7,
            [3; 32],
            [([5; 20], 10), ([2; 20], 20), ([4; 20], 30)],
        )
    }

    #[test]
    fn a_new_card_is_sorted_and_leaves_its_own_score_out() {
        assert_eq!(
            card().scores,
            [([2; 20], UNSCORED), ([4; 20], 30), ([5; 20], 10)]
        );
    }

    #[test]
    fn the_signer_is_recovered_and_nothing_else_is() {
        let signed = SignedScorecard::sign(&signer(1), &DOMAIN, card());
        assert!(signed.is_valid(&DOMAIN));
        let other_chain = Domain {
            chain_id: 7701,
            ..DOMAIN
        };
        assert!(!signed.is_valid(&other_chain));
        let other_ledger = Domain {
            ledger: [8; 20],
            ..DOMAIN
        };
        assert!(!signed.is_valid(&other_ledger));
        let mut changed = signed.clone();
        changed.card.scores[1].1 += 1;
        assert!(!changed.is_valid(&DOMAIN));
        let mut changed = signed.clone();
        changed.card.round += 1;
        assert!(!changed.is_valid(&DOMAIN));
    }

    #[test]
    fn the_mirrored_form_of_a_signature_is_refused() {
        let signed = SignedScorecard::sign(&signer(1), &DOMAIN, card());
        let signature = Signature::from_raw_array(&signed.signature).unwrap();
        let order = U256::from_be_bytes(
            alloy::primitives::b256!(
                "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
            )
            .0,
        );
        let mirrored = Signature::new(signature.r(), order - signature.s(), !signature.v());
        assert!(recover_scorecard(&DOMAIN, &card(), &mirrored.as_bytes()).is_err());
        assert!(recover_scorecard(&DOMAIN, &card(), &[0; 65]).is_err());
        assert!(recover_scorecard(&DOMAIN, &card(), &[255; 65]).is_err());
    }

    #[test]
    fn a_ballots_hashes_are_those_of_the_typed_data() {
        let card = card();
        let (peers_hash, scores_hash) = card.column_hashes();
        let kind = keccak256(
            "Scorecard(bytes32 swarm,uint64 round,bytes32 included,address[] peers,uint32[] scores)",
        );
        let data = (
            kind,
            B256::from(card.swarm),
            card.round,
            B256::from(card.included),
            peers_hash,
            scores_hash,
        );
        let digest = keccak256(
            [
                &[0x19, 1],
                DOMAIN.eip712().separator().as_slice(),
                keccak256(data.abi_encode()).as_slice(),
            ]
            .concat(),
        );
        assert_eq!(digest.0, card.digest(&DOMAIN));
    }
}
