//! The chain's three contracts, spoken to as one: who the peers are, and which swarms
//! there are. A swarm's rounds are in [`crate::swarm`].

use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use crate::connection::{ChainProfile, CodeHashes, Connection, Reader, Sent};
use crate::contracts::abi::ledger::ReputationLedger as L;
use crate::contracts::abi::registry::PeerRegistry as R;
use crate::contracts::abi::swarms::{ISwarmRegistry, SwarmRegistry as S};
use crate::contracts::{self, Addresses, CREATE2_FACTORY, LEDGER, REGISTRY, SWARMS, deployment};
use crate::error::LedgerError;
use crate::registration::{Peer, RegistrationRequest, authorize_registration};
use crate::scorecard::Domain;
use crate::swarm::Swarm;

/// What a swarm is run by, on chain. Part of its id, so that nobody can create
/// somebody else's swarm with other terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// When round 0 began, in seconds since 1970, for a clocked swarm.
    pub genesis: u64,
    /// Seconds of a round: round r cannot be opened before genesis + r * length. With 0
    /// rounds are counted, not clocked.
    pub round_length: u32,
    /// Fewest seconds between two openings.
    pub min_interval: u32,
    /// Seconds after its opening from which an unsettled round can be voided.
    pub settle_timeout: u32,
    /// Who may join.
    #[serde(default)]
    pub admission: Admission,
    /// Who may admit and pause; all zeros: nobody.
    #[serde(default, with = "alloy::hex::serde")]
    pub author: [u8; 20],
    /// Whether cards are committed before they are revealed.
    #[serde(default)]
    pub seal_cards: bool,
}

/// Who may join a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Everybody who is registered.
    #[default]
    Open,
    /// Whom the author has admitted.
    Allowlist,
    /// Whoever has posted so much as a bond, in wei.
    Bond(u128),
}

impl Terms {
    /// Those of a swarm on a devnet: no clock, no waiting.
    pub const LOCAL: Self = Self {
        genesis: 0,
        round_length: 0,
        min_interval: 0,
        settle_timeout: 0,
        admission: Admission::Open,
        author: [0; 20],
        seal_cards: false,
    };

    fn on_chain(self) -> ISwarmRegistry::Terms {
        // As the contract's `Admission` counts them.
        let (admission, bond) = match self.admission {
            Admission::Open => (0, 0),
            Admission::Allowlist => (1, 0),
            Admission::Bond(wei) => (2, wei),
        };
        ISwarmRegistry::Terms {
            genesis: self.genesis,
            roundLength: self.round_length,
            minInterval: self.min_interval,
            settleTimeout: self.settle_timeout,
            admission,
            sealCards: self.seal_cards,
            author: self.author.into(),
            bond,
        }
    }
}

/// A chain's ledger, as one account sees it. Clones share the account's one sender.
#[derive(Clone, Debug)]
pub struct Ledger {
    connection: Connection,
    addresses: Addresses,
    profile: Arc<ChainProfile>,
}

impl Ledger {
    /// Connects to contracts that are there, after checking that the chain is the one
    /// named and the code is this version's. Must be called on a tokio runtime.
    pub async fn connect(
        profile: &ChainProfile,
        signer: PrivateKeySigner,
    ) -> Result<Self, LedgerError> {
        let connection = Connection::open(profile, signer).await?;
        Self::check(connection, profile).await
    }

    /// Deploys what is not there yet, at its deterministic address, and connects.
    pub async fn deploy(
        profile: &ChainProfile,
        signer: PrivateKeySigner,
    ) -> Result<Self, LedgerError> {
        let connection = Connection::open(profile, signer).await?;
        let addresses = addresses_of(profile);
        if addresses != Addresses::deterministic() {
            // Somebody else's choice of address cannot be deployed to, only found.
            return Self::check(connection, profile).await;
        }
        let reader = connection.reader();
        if reader.code(CREATE2_FACTORY).await?.is_empty() {
            return Err(LedgerError::NoContract {
                contract: "deterministic deployment proxy",
                address: CREATE2_FACTORY,
                chain_id: reader.chain_id,
            });
        }
        for (address, code) in addresses.init_codes() {
            if !reader.code(address).await?.is_empty() {
                continue;
            }
            let sent = connection
                .send_raw(CREATE2_FACTORY, deployment(&code))
                .await;
            // Several peers of a new swarm may deploy at once; one of them succeeds.
            if let Err(error) = sent
                && reader.code(address).await?.is_empty()
            {
                return Err(error);
            }
        }
        Self::check(connection, profile).await
    }

    async fn check(connection: Connection, profile: &ChainProfile) -> Result<Self, LedgerError> {
        let reader = connection.reader();
        let addresses = addresses_of(profile);
        let code = profile.code;
        for (contract, address, artifact, named) in [
            (
                "PeerRegistry",
                addresses.registry,
                &*REGISTRY,
                code.map(|code| code.registry),
            ),
            (
                "SwarmRegistry",
                addresses.swarms,
                &*SWARMS,
                code.map(|code| code.swarms),
            ),
            (
                "ReputationLedger",
                addresses.ledger,
                &*LEDGER,
                code.map(|code| code.ledger),
            ),
        ] {
            check_code(reader, contract, address, artifact, named).await?;
        }
        let registry = reader.call(addresses.ledger, &L::registryCall {}).await?;
        let swarms = reader.call(addresses.ledger, &L::swarmsCall {}).await?;
        for (bound, named) in [(registry, addresses.registry), (swarms, addresses.swarms)] {
            if bound != named {
                return Err(LedgerError::Profile(format!(
                    "the ledger at {} belongs to the contract at {bound}, not to {named}",
                    addresses.ledger
                )));
            }
        }
        Ok(Self {
            connection,
            addresses,
            profile: Arc::new(profile.clone()),
        })
    }

    /// What was said of the chain on connecting.
    pub fn profile(&self) -> &ChainProfile {
        &self.profile
    }

    /// The same with everything that was found: for others to connect by.
    pub async fn found_profile(&self) -> Result<ChainProfile, LedgerError> {
        let reader = self.reader();
        let hash = async |address| Ok::<_, LedgerError>(keccak256(reader.code(address).await?));
        let Addresses {
            registry,
            swarms,
            ledger,
        } = self.addresses;
        Ok(ChainProfile {
            registry: Some(registry),
            swarms: Some(swarms),
            ledger: Some(ledger),
            code: Some(CodeHashes {
                registry: hash(registry).await?,
                swarms: hash(swarms).await?,
                ledger: hash(ledger).await?,
            }),
            fees: Some(reader.fees),
            agents: self.agent_registries().await?,
            ..(*self.profile).clone()
        })
    }

    /// Where the contracts are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The chain's id.
    pub fn chain_id(&self) -> u64 {
        self.reader().chain_id
    }

    /// What scorecards are signed for.
    pub fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id(),
            ledger: self.addresses.ledger.into_array(),
        }
    }

    /// The account that sends.
    pub fn address(&self) -> [u8; 20] {
        self.reader().address().into_array()
    }

    /// The account's key.
    pub fn signer(&self) -> &PrivateKeySigner {
        &self.reader().signer
    }

    /// What an account has to pay with, in wei.
    pub async fn balance(&self, account: [u8; 20]) -> Result<U256, LedgerError> {
        self.reader().balance(account.into()).await
    }

    /// The newest block's number.
    pub async fn height(&self) -> Result<u64, LedgerError> {
        self.reader().height().await
    }

    /// Registers this account: the iroh key it stands for, that key's signature over
    /// [`registration_message`](crate::registration_message), a name of at most 48
    /// bytes. Replaces an earlier record.
    pub async fn register(
        &self,
        iroh_key: [u8; 32],
        iroh_signature: [u8; 64],
        name: &str,
    ) -> Result<Sent, LedgerError> {
        let call = R::registerCall {
            node: iroh_key.into(),
            nodeSignature: iroh_signature.to_vec().into(),
            name: name.to_owned(),
        };
        self.connection.send(self.addresses.registry, &call).await
    }

    /// Signs a registration that anybody can relay: for an account without funds.
    pub async fn authorize_registration(
        &self,
        iroh_key: [u8; 32],
        iroh_signature: [u8; 64],
        name: &str,
        deadline: u64,
    ) -> Result<RegistrationRequest, LedgerError> {
        let owner = self.reader().address();
        let nonce = self
            .reader()
            .call(self.addresses.registry, &R::noncesCall { owner })
            .await?;
        Ok(authorize_registration(
            self.signer(),
            self.chain_id(),
            self.addresses.registry,
            nonce,
            (iroh_key, iroh_signature, name),
            deadline,
        ))
    }

    /// Pays for somebody else's registration.
    pub async fn relay_registration(
        &self,
        request: &RegistrationRequest,
    ) -> Result<Sent, LedgerError> {
        let call = R::registerForCall {
            owner: request.owner.into(),
            node: request.iroh_key.into(),
            nodeSignature: request.iroh_signature.to_vec().into(),
            name: request.name.clone(),
            deadline: U256::from(request.deadline),
            signature: request.signature.to_vec().into(),
        };
        self.connection.send(self.addresses.registry, &call).await
    }

    /// Puts another iroh key in this account's record; name and age stay.
    pub async fn rotate(
        &self,
        iroh_key: [u8; 32],
        iroh_signature: [u8; 64],
    ) -> Result<Sent, LedgerError> {
        let call = R::rotateCall {
            node: iroh_key.into(),
            nodeSignature: iroh_signature.to_vec().into(),
        };
        self.connection.send(self.addresses.registry, &call).await
    }

    /// Deletes this account's record; what it has earned stays where it is.
    pub async fn retire(&self) -> Result<Sent, LedgerError> {
        self.connection
            .send(self.addresses.registry, &R::retireCall {})
            .await
    }

    /// Adds wei to this account's bond, which some swarms ask for.
    pub async fn post_bond(&self, wei: u128) -> Result<Sent, LedgerError> {
        let owner = self.reader().address();
        let call = R::postBondCall { owner };
        self.connection
            .send_value(
                self.addresses.registry,
                U256::from(wei),
                call.abi_encode().into(),
            )
            .await
    }

    /// A peer's record, or `None` if it has none.
    pub async fn peer(&self, address: [u8; 20]) -> Result<Option<Peer>, LedgerError> {
        let call = R::peerCall {
            owner: address.into(),
        };
        let found = self.reader().call(self.addresses.registry, &call).await?;
        Ok(Peer::from_record(
            self.chain_id(),
            self.addresses.registry,
            address.into(),
            found,
        ))
    }

    /// Creates a swarm, or finds it: its id follows from the manifest's hash and terms.
    pub async fn create_swarm(
        &self,
        manifest_hash: [u8; 32],
        terms: Terms,
    ) -> Result<Swarm, LedgerError> {
        let id = self.swarm_id(manifest_hash, terms).await?;
        let manifest = B256::from(manifest_hash);
        let terms = terms.on_chain();
        let swarm = self.swarm(id);
        match swarm.info().await {
            Ok(_) => return Ok(swarm),
            Err(error) if error.refusal() == Some("UnknownSwarm") => {}
            Err(error) => return Err(error),
        }
        self.connection
            .send(
                self.addresses.swarms,
                &S::createSwarmCall {
                    manifest,
                    terms_: terms,
                },
            )
            .await?;
        Ok(swarm)
    }

    pub(crate) async fn swarm_id(
        &self,
        manifest_hash: [u8; 32],
        terms: Terms,
    ) -> Result<[u8; 32], LedgerError> {
        let call = S::swarmIdCall {
            manifest: manifest_hash.into(),
            terms_: terms.on_chain(),
        };
        Ok(self.reader().call(self.addresses.swarms, &call).await?.0)
    }

    /// A swarm by its id on chain; nothing is asked yet.
    pub fn swarm(&self, id: [u8; 32]) -> Swarm {
        Swarm::new(self.clone(), id)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn reader(&self) -> &Reader {
        self.connection.reader()
    }
}

fn addresses_of(profile: &ChainProfile) -> Addresses {
    let deterministic = Addresses::deterministic();
    Addresses {
        registry: profile.registry.unwrap_or(deterministic.registry),
        swarms: profile.swarms.unwrap_or(deterministic.swarms),
        ledger: profile.ledger.unwrap_or(deterministic.ledger),
    }
}

async fn check_code(
    reader: &Reader,
    contract: &'static str,
    address: Address,
    artifact: &contracts::Artifact,
    named: Option<B256>,
) -> Result<(), LedgerError> {
    let code = reader.code(address).await?;
    let chain_id = reader.chain_id;
    if code.is_empty() {
        return Err(LedgerError::NoContract {
            contract,
            address,
            chain_id,
        });
    }
    let as_named = named.is_none_or(|named| named == keccak256(&code));
    if !as_named || !artifact.matches(&code) {
        return Err(LedgerError::OtherContract {
            contract,
            address,
            chain_id,
        });
    }
    Ok(())
}
