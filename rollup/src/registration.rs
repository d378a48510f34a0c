//! Who a peer is: two keys, each signed for by the other.
//!
//! The Ethereum key's word is the transaction, or a signature that anybody relays.
//! The iroh key's word is an ed25519 signature over [`registration_message`], which the
//! contract keeps and cannot check; it is checked here, whenever a record is read.

use alloy::primitives::{Address, U256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolStruct;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::contracts::abi::registry::IPeerRegistry;
use crate::scorecard::{Registration, registry_domain, sign_digest};

/// What an iroh key signs to say that it stands for `owner`, in this registry, on this
/// chain. Equal to the contract's `registrationMessage`.
pub fn registration_message(chain_id: u64, registry: [u8; 20], owner: [u8; 20]) -> Vec<u8> {
    [
        b"murmuration/registration/1".as_slice(),
        &U256::from(chain_id).to_be_bytes::<32>(),
        &registry,
        &owner,
    ]
    .concat()
}

/// A peer's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The account that owns the record.
    pub address: [u8; 20],
    /// The iroh key it stands for, if that key has signed that it does; `None` if the
    /// record claims a key that has not.
    pub iroh_key: Option<[u8; 32]>,
    /// The name it gave itself. Not unique, and not to be trusted.
    pub name: String,
    /// When it registered, in seconds since 1970.
    pub registered_at: u64,
}

impl Peer {
    pub(crate) fn from_record(
        chain_id: u64,
        registry: Address,
        owner: Address,
        record: IPeerRegistry::Peer,
    ) -> Option<Self> {
        if record.node.is_zero() {
            return None;
        }
        let message = registration_message(chain_id, registry.into_array(), owner.into_array());
        let signature =
            Signature::from_components(record.nodeSignatureR.0, record.nodeSignatureS.0);
        let signed = VerifyingKey::from_bytes(&record.node.0)
            .is_ok_and(|key| key.verify_strict(&message, &signature).is_ok());
        Some(Self {
            address: owner.into_array(),
            iroh_key: signed.then_some(record.node.0),
            name: printable(&record.name),
            registered_at: record.registeredAt,
        })
    }
}

/// A name as it may be shown: anybody can register any bytes, and a terminal obeys some.
fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A registration signed by its owner, for anybody to relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationRequest {
    /// Who registers.
    #[serde(with = "alloy::hex::serde")]
    pub owner: [u8; 20],
    /// Its iroh key.
    #[serde(with = "alloy::hex::serde")]
    pub iroh_key: [u8; 32],
    /// That key's signature over [`registration_message`].
    #[serde(with = "alloy::hex::serde")]
    pub iroh_signature: [u8; 64],
    /// Its name.
    pub name: String,
    /// Until when it may be relayed, in seconds since 1970.
    pub deadline: u64,
    /// The owner's signature.
    #[serde(with = "alloy::hex::serde")]
    pub signature: [u8; 65],
}

pub(crate) fn authorize_registration(
    signer: &PrivateKeySigner,
    chain_id: u64,
    registry: Address,
    nonce: U256,
    (iroh_key, iroh_signature, name): ([u8; 32], [u8; 64], &str),
    deadline: u64,
) -> RegistrationRequest {
    let typed = Registration {
        owner: signer.address(),
        node: iroh_key.into(),
        nodeSignature: iroh_signature.to_vec().into(),
        name: name.to_owned(),
        nonce,
        deadline: U256::from(deadline),
    };
    let digest = typed.eip712_signing_hash(&registry_domain(chain_id, registry));
    RegistrationRequest {
        owner: signer.address().into_array(),
        iroh_key,
        iroh_signature,
        name: name.to_owned(),
        deadline,
        signature: sign_digest(signer, digest),
    }
}
