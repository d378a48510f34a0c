//! Peers as agents of ERC-8004: in the identity registry, and with each epoch's reputation
//! in the reputation registry, where a chain has them.
//!
//! What brings the ledger's word there is a contract, `AgentMirror`, so that nobody has to
//! be believed: whoever asks the reputation registry for the mirror's feedback alone reads
//! what the ledger says. A peer registers an agent and links it; then anybody may mirror it.

use alloy::primitives::{Address, B256, Bytes, U256, address};
use alloy::sol_types::{SolEvent, SolValue};
use serde_json::json;

use crate::connection::{AgentRegistries, Sent};
use crate::contracts::{CREATE2_FACTORY, MIRROR, deployed_at, deployment};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::swarm::Swarm;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod abi {
    alloy::sol! {
        /// What is used of ERC-8004's identity registry.
        interface IdentityRegistry {
            event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
            function register(string memory agentURI) external returns (uint256 agentId);
            function tokenURI(uint256 agentId) external view returns (string memory);
        }

        /// What is used of ERC-8004's reputation registry.
        interface ReputationRegistry {
            function getIdentityRegistry() external view returns (address);
            function readAllFeedback(
                uint256 agentId,
                address[] calldata clientAddresses,
                string calldata tag1,
                string calldata tag2,
                bool includeRevoked
            ) external view returns (
                address[] memory clients,
                uint64[] memory feedbackIndexes,
                int128[] memory values,
                uint8[] memory valueDecimals,
                string[] memory tag1s,
                string[] memory tag2s,
                bool[] memory revokedStatuses
            );
        }

        interface AgentMirror {
            function link(uint256 agentId) external;
            function agentOf(address peer) external view returns (bool found, uint256 agentId);
            function mirror(bytes32 swarm, address peer) external;
            function mirrored(bytes32 swarm, address peer) external view returns (uint32);
            function tagOf(bytes32 swarm) external pure returns (string memory);
        }
    }
}
use abi::{AgentMirror, IdentityRegistry, ReputationRegistry};

/// Where the registries stand on every chain that has them: one pair on those that count,
/// one on those to try things on.
const KNOWN: [AgentRegistries; 2] = [
    AgentRegistries {
        identities: address!("8004A169FB4a3325136EB29fA0ceB6D2e539a432"),
        reputations: address!("8004BAa17C55a88189AE136b182e5fdA19dE9b63"),
    },
    AgentRegistries {
        identities: address!("8004A818BFB912233c491871b3d84c89A494BD9e"),
        reputations: address!("8004B663056A597Dffe9eCcC1965A193B7388713"),
    },
];

/// Settled rounds in an epoch, as the mirror counts them.
pub const EPOCH_ROUNDS: u32 = 32;
/// The first tag of everything the mirror gives.
const TAG: &str = "murmuration";
/// Characters of an agent's name that are written into its record.
const NAME_LIMIT: usize = 48;

/// A chain's agents, and the mirror of its ledger.
#[derive(Clone, Debug)]
pub struct Agents {
    ledger: Ledger,
    at: AgentRegistries,
    mirror: Address,
}

/// One feedback that the mirror gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Its number among those that the mirror gave this agent, from 1.
    pub index: u64,
    /// The reputation, in parts per million.
    pub reputation: u32,
}

impl Ledger {
    /// The chain's ERC-8004 registries: those the profile names, or those known to stand
    /// on many chains.
    pub(crate) async fn agent_registries(&self) -> Result<Option<AgentRegistries>, LedgerError> {
        let reader = self.reader();
        if let Some(named) = self.profile().agents {
            let call = ReputationRegistry::getIdentityRegistryCall {};
            let bound = match reader.code(named.reputations).await?.is_empty() {
                true => None,
                false => Some(reader.call(named.reputations, &call).await?),
            };
            return match bound {
                Some(bound) if bound == named.identities => Ok(Some(named)),
                _ => Err(LedgerError::Profile(format!(
                    "agents: at {} there is no ERC-8004 reputation registry that belongs to the \
                     identity registry at {}",
                    named.reputations, named.identities
                ))),
            };
        }
        for known in KNOWN {
            if !reader.code(known.reputations).await?.is_empty() {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// The chain's agents, or `None` where it has no ERC-8004 registries.
    pub async fn agents(&self) -> Result<Option<Agents>, LedgerError> {
        Ok(self.agent_registries().await?.map(|at| Agents {
            mirror: deployed_at(&mirror_code(self.addresses().ledger, at)),
            ledger: self.clone(),
            at,
        }))
    }
}

fn mirror_code(ledger: Address, at: AgentRegistries) -> Bytes {
    MIRROR.with_arguments(&(ledger, at.reputations).abi_encode_params())
}

impl Agents {
    /// Where the registries are.
    pub fn registries(&self) -> AgentRegistries {
        self.at
    }

    /// Where the mirror is, or will be.
    pub fn mirror_address(&self) -> Address {
        self.mirror
    }

    /// Deploys the mirror, unless it is there.
    pub async fn deploy(&self) -> Result<(), LedgerError> {
        if self.is_deployed().await? {
            return Ok(());
        }
        let code = mirror_code(self.ledger.addresses().ledger, self.at);
        let sent = self
            .ledger
            .connection()
            .send_raw(CREATE2_FACTORY, deployment(&code))
            .await;
        match self.is_deployed().await? {
            true => Ok(()),
            false => Err(sent.err().unwrap_or(LedgerError::NoContract {
                contract: "AgentMirror",
                address: self.mirror,
                chain_id: self.ledger.chain_id(),
            })),
        }
    }

    /// Whether the mirror is there, and is this version's.
    async fn is_deployed(&self) -> Result<bool, LedgerError> {
        let code = self.ledger.reader().code(self.mirror).await?;
        Ok(MIRROR.matches(&code))
    }

    /// The agent of a peer, if it has linked one and owns it still.
    pub async fn agent_of(&self, peer: [u8; 20]) -> Result<Option<U256>, LedgerError> {
        if !self.is_deployed().await? {
            return Ok(None);
        }
        let call = AgentMirror::agentOfCall { peer: peer.into() };
        let found = self.ledger.reader().call(self.mirror, &call).await?;
        Ok(found.found.then_some(found.agentId))
    }

    /// Registers this account as an agent, under its name and iroh key, and links it to its
    /// ledger; finds it if that has been done.
    pub async fn enroll(&self, name: &str, iroh_key: [u8; 32]) -> Result<U256, LedgerError> {
        let account = self.ledger.address();
        if let Some(known) = self.agent_of(account).await? {
            return Ok(known);
        }
        self.deploy().await?;
        let uri = self.record(name, iroh_key);
        let call = IdentityRegistry::registerCall { agentURI: uri };
        let connection = self.ledger.connection();
        let sent = connection.send(self.at.identities, &call).await?;
        let agent = self.registered_by(&sent).await?;
        let call = AgentMirror::linkCall { agentId: agent };
        connection.send(self.mirror, &call).await?;
        Ok(agent)
    }

    /// Which agent a transaction registered.
    async fn registered_by(&self, sent: &Sent) -> Result<U256, LedgerError> {
        let reader = self.ledger.reader();
        let filter = alloy::rpc::types::Filter::new()
            .address(self.at.identities)
            .event_signature(IdentityRegistry::Registered::SIGNATURE_HASH)
            .from_block(sent.block)
            .to_block(sent.block);
        let logs = reader.logs(&filter).await?;
        let own = logs
            .iter()
            .filter(|log| log.transaction_hash == Some(B256::from(sent.tx)));
        own.filter_map(|log| IdentityRegistry::Registered::decode_log(&log.inner).ok())
            .map(|event| event.agentId)
            .next()
            .ok_or_else(|| reader.unreadable("the registry tells of no agent that was registered"))
    }

    /// An agent's registration file, in the URI itself: nothing has to be hosted.
    fn record(&self, name: &str, iroh_key: [u8; 32]) -> String {
        let name: String = name.chars().take(NAME_LIMIT).collect();
        let file = json!({
            "type": "https://eips.ethereum.org/EIPS/eip-8004#registration-v1",
            "name": name,
            "description": "A peer of Murmuration: it trains a language model with others, and \
                            its ledger says how much it has contributed.",
            "services": [{ "name": "iroh", "endpoint": hex::encode(iroh_key) }],
            "active": true,
            "supportedTrust": ["reputation"],
        });
        format!(
            "data:application/json,{}",
            percent_encoded(&file.to_string())
        )
    }

    /// Brings what the ledger says of a peer into the reputation registry; `None` if no
    /// epoch is over since the last time.
    pub async fn mirror(&self, swarm: &Swarm, peer: [u8; 20]) -> Result<Option<Sent>, LedgerError> {
        let call = AgentMirror::mirrorCall {
            swarm: swarm.id,
            peer: peer.into(),
        };
        match self.ledger.connection().send(self.mirror, &call).await {
            Ok(sent) => Ok(Some(sent)),
            Err(error) if error.refusal() == Some("EpochNotOver") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the mirror has given an agent for its work in a swarm, in order.
    pub async fn feedback(&self, swarm: &Swarm, agent: U256) -> Result<Vec<Mirrored>, LedgerError> {
        let reader = self.ledger.reader();
        let call = AgentMirror::tagOfCall { swarm: swarm.id };
        let tag = reader.call(self.mirror, &call).await?;
        let call = ReputationRegistry::readAllFeedbackCall {
            agentId: agent,
            clientAddresses: vec![self.mirror],
            tag1: TAG.to_owned(),
            tag2: tag,
            includeRevoked: false,
        };
        let found = reader.call(self.at.reputations, &call).await?;
        let all = found.feedbackIndexes.into_iter().zip(found.values);
        Ok(all
            .map(|(index, value)| Mirrored {
                index,
                reputation: u32::try_from(value).unwrap_or(0),
            })
            .collect())
    }
}

/// A text as the path of a data URI.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + text.len() / 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b':'
            | b','
            | b'/' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
