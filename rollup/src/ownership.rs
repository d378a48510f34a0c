//! Who contributed to a swarm owns it: shares minted from settled reputation, a vault that
//! divides what the swarm is paid among who held them, and votes by them over its
//! curriculum and its pace.
//!
//! Four contracts for each swarm, deployed by its author, who names their timelock as the
//! swarm's governance and keeps no right over them. Their addresses follow from author,
//! swarm and terms, so whoever knows those finds them.

use alloy::primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256};
use alloy::sol_types::{SolCall, SolEvent, SolValue};
use serde::{Deserialize, Serialize};

use crate::connection::Sent;
use crate::contracts::abi::swarms::{ISwarmRegistry, SwarmRegistry as S};
use crate::contracts::{
    CREATE2_FACTORY, GOVERNOR, SHARES, TIMELOCK, VAULT, deployed_at, deployment,
};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sealed::ProvenLine;
use crate::swarm::Swarm;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod abi {
    alloy::sol! {
        interface ContributionShares {
            function claim(uint64 round, Line calldata score, bytes32[] calldata proof) external;
            function claimed(uint256 epoch, address peer) external view returns (bool);
            function balanceOf(address holder) external view returns (uint256);
            function getVotes(address holder) external view returns (uint256);
            function totalSupply() external view returns (uint256);
            function setTransferable(bool transferable) external;
            function transferable() external view returns (bool);
        }

        /// As the ledger's own.
        struct Line {
            address peer;
            uint32 score;
            uint32 reputation;
            uint32 uncertainty;
        }

        interface RevenueVault {
            function pay() external payable returns (uint256 payment);
            function claim(uint256 payment, address holder) external;
            function claimed(uint256 payment, address holder) external view returns (bool);
            function partOf(uint256 payment, address holder) external view returns (uint256);
            function paymentCount() external view returns (uint256);
        }

        interface Timelock {
            function grantRole(bytes32 role, address account) external;
            function renounceRole(bytes32 role, address callerConfirmation) external;
            function hasRole(bytes32 role, address account) external view returns (bool);
        }

        interface SwarmGovernor {
            event ProposalCreated(
                uint256 proposalId,
                address proposer,
                address[] targets,
                uint256[] values,
                string[] signatures,
                bytes[] calldatas,
                uint256 voteStart,
                uint256 voteEnd,
                string description
            );
            function propose(address[] memory targets, uint256[] memory values, bytes[] memory calldatas, string memory description) external returns (uint256);
            function castVote(uint256 proposalId, uint8 support) external returns (uint256);
            function queue(address[] memory targets, uint256[] memory values, bytes[] memory calldatas, bytes32 descriptionHash) external returns (uint256);
            function execute(address[] memory targets, uint256[] memory values, bytes[] memory calldatas, bytes32 descriptionHash) external payable returns (uint256);
            function state(uint256 proposalId) external view returns (uint8);
            function proposalVotes(uint256 proposalId) external view returns (uint256 against, uint256 infavour, uint256 abstain);
        }
    }
}
use abi::{ContributionShares, Line, RevenueVault, SwarmGovernor, Timelock};

/// On what terms a swarm is owned. Fixed when it is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnershipTerms {
    /// Settled rounds in an epoch, for each of which shares are minted.
    pub epoch_rounds: u32,
    /// Seconds from a proposal until it is voted on.
    pub voting_delay: u32,
    /// Seconds for voting.
    pub voting_period: u32,
    /// Seconds from a decision until it can be carried out.
    pub timelock: u32,
}

impl Default for OwnershipTerms {
    /// A day for each stage: what a person needs to notice.
    fn default() -> Self {
        Self {
            epoch_rounds: 32,
            voting_delay: 3600,
            voting_period: 24 * 3600,
            timelock: 24 * 3600,
        }
    }
}

/// A swarm's four contracts, as one account sees them.
#[derive(Clone, Debug)]
pub struct Ownership {
    swarm: Swarm,
    at: OwnershipAddresses,
    terms: OwnershipTerms,
}

/// Where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnershipAddresses {
    /// The `TimelockController`: the swarm's governance.
    pub timelock: Address,
    /// The `ContributionShares`.
    pub shares: Address,
    /// The `SwarmGovernor`.
    pub governor: Address,
    /// The `RevenueVault`.
    pub vault: Address,
}

/// What can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another manifest: another curriculum.
    Manifest([u8; 32]),
    /// Another pace.
    Pace {
        /// Fewest seconds between two openings.
        min_interval: u32,
        /// Seconds after its opening from which an unsettled round can be voided.
        settle_timeout: u32,
    },
    /// Whether shares can be handed on.
    Transferable(bool),
}

/// How far a proposal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// Not voted on yet.
    Pending,
    /// Being voted on.
    Active,
    /// Withdrawn.
    Canceled,
    /// Voted down, or by too few.
    Defeated,
    /// Decided: to be queued.
    Succeeded,
    /// Waiting for the timelock.
    Queued,
    /// Too late to be carried out.
    Expired,
    /// Carried out.
    Executed,
}

/// A proposal.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its number.
    pub id: U256,
    /// Who made it.
    pub proposer: [u8; 20],
    /// What it says.
    pub description: String,
    /// How far it is.
    pub state: ProposalState,
    /// Shares for it, against it and abstaining, in units of 10^-18.
    pub votes: [U256; 3],
    /// From when to when it is voted on, in seconds since 1970.
    pub voting: (u64, u64),
    calls: Calls,
}

#[derive(Clone, Debug)]
struct Calls {
    targets: Vec<Address>,
    values: Vec<U256>,
    calldatas: Vec<Bytes>,
}

/// What an account owns of a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Shares, in units of 10^-18: a whole one for an epoch of a whole reputation.
    pub shares: U256,
    /// Votes, its own and those handed to it.
    pub votes: U256,
    /// All shares there are.
    pub supply: U256,
}

/// What everybody may do with what was decided: carry it out.
const ANYBODY: Address = Address::ZERO;

impl Ownership {
    /// The contracts that an author's swarm has or would have on these terms.
    pub fn of(swarm: &Swarm, author: [u8; 20], terms: OwnershipTerms) -> Self {
        let codes = codes(swarm, author.into(), terms);
        Self {
            swarm: swarm.clone(),
            at: codes.0,
            terms,
        }
    }

    /// Where they are.
    pub fn addresses(&self) -> OwnershipAddresses {
        self.at
    }

    /// On what terms.
    pub fn terms(&self) -> OwnershipTerms {
        self.terms
    }

    fn ledger(&self) -> &Ledger {
        &self.swarm.ledger
    }

    async fn send(&self, to: Address, call: &impl SolCall) -> Result<Sent, LedgerError> {
        self.ledger().connection().send(to, call).await
    }

    async fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, LedgerError> {
        self.ledger().reader().call(to, call).await
    }

    /// Whether the swarm is governed by them.
    pub async fn is_founded(&self) -> Result<bool, LedgerError> {
        let governance = self.swarm.info().await?.governance;
        Ok(governance == self.at.timelock.into_array())
    }

    /// Founds a swarm's ownership, as its author: deploys what is not there, hands the
    /// timelock to the governor and the swarm to the timelock, and keeps nothing. What was
    /// done before is found.
    pub async fn found(swarm: &Swarm, terms: OwnershipTerms) -> Result<Self, LedgerError> {
        let author = swarm.ledger.address();
        let (at, codes) = codes(swarm, author.into(), terms);
        let this = Self {
            swarm: swarm.clone(),
            at,
            terms,
        };
        if this.is_founded().await? {
            return Ok(this);
        }
        let known = swarm.info().await?.author;
        if known != author {
            return Err(LedgerError::Profile(format!(
                "only the swarm's author, {}, can found its ownership, and this account is {}; a \
                 swarm without an author (all zeros) can have none",
                Address::from(known),
                Address::from(author)
            )));
        }
        let (reader, connection) = (swarm.ledger.reader(), swarm.ledger.connection());
        for (address, code) in codes {
            if reader.code(address).await?.is_empty() {
                connection
                    .send_raw(CREATE2_FACTORY, deployment(&code))
                    .await?;
            }
        }
        for role in ["PROPOSER_ROLE", "CANCELLER_ROLE"] {
            let role = keccak256(role);
            let has = Timelock::hasRoleCall {
                role,
                account: at.governor,
            };
            if !this.ask(at.timelock, &has).await? {
                let grant = Timelock::grantRoleCall {
                    role,
                    account: at.governor,
                };
                this.send(at.timelock, &grant).await?;
            }
        }
        let change = S::changeGovernanceCall {
            swarm: swarm.id,
            governance: at.timelock,
        };
        this.send(swarm.ledger.addresses().swarms, &change).await?;
        // Last, so that whoever was stopped halfway can go on.
        let renounce = Timelock::renounceRoleCall {
            role: B256::ZERO,
            callerConfirmation: author.into(),
        };
        this.send(at.timelock, &renounce).await?;
        Ok(this)
    }

    /// Mints a peer its shares of an epoch that is over, by its line of one of the epoch's
    /// rounds; `None` if it has them.
    pub async fn claim(&self, round: u64, line: &ProvenLine) -> Result<Option<Sent>, LedgerError> {
        let call = ContributionShares::claimCall {
            round,
            score: Line {
                peer: line.line.peer,
                score: line.line.score,
                reputation: line.line.reputation,
                uncertainty: line.line.uncertainty,
            },
            proof: line.proof.clone(),
        };
        once(self.send(self.at.shares, &call).await)
    }

    /// What an account owns.
    pub async fn holding(&self, holder: [u8; 20]) -> Result<Holding, LedgerError> {
        let (at, holder) = (self.at.shares, Address::from(holder));
        Ok(Holding {
            shares: self
                .ask(at, &ContributionShares::balanceOfCall { holder })
                .await?,
            votes: self
                .ask(at, &ContributionShares::getVotesCall { holder })
                .await?,
            supply: self
                .ask(at, &ContributionShares::totalSupplyCall {})
                .await?,
        })
    }

    /// Pays the swarm, in wei: who holds shares now divides it.
    pub async fn pay(&self, wei: U256) -> Result<Sent, LedgerError> {
        let input = RevenueVault::payCall {}.abi_encode().into();
        self.ledger()
            .connection()
            .send_value(self.at.vault, wei, input)
            .await
    }

    /// How many payments there have been.
    pub async fn payments(&self) -> Result<u64, LedgerError> {
        let count = self
            .ask(self.at.vault, &RevenueVault::paymentCountCall {})
            .await?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// A holder's part of a payment in wei, and whether it has had it.
    pub async fn part(&self, payment: u64, holder: [u8; 20]) -> Result<(U256, bool), LedgerError> {
        let (payment, holder) = (U256::from(payment), Address::from(holder));
        let part = RevenueVault::partOfCall { payment, holder };
        let claimed = RevenueVault::claimedCall { payment, holder };
        Ok((
            self.ask(self.at.vault, &part).await?,
            self.ask(self.at.vault, &claimed).await?,
        ))
    }

    /// Has a holder paid its part of a payment; `None` if it was.
    pub async fn collect(
        &self,
        payment: u64,
        holder: [u8; 20],
    ) -> Result<Option<Sent>, LedgerError> {
        let call = RevenueVault::claimCall {
            payment: U256::from(payment),
            holder: holder.into(),
        };
        once(self.send(self.at.vault, &call).await)
    }

    fn calls(&self, decision: &Decision, now: &ISwarmRegistry::Swarm) -> Calls {
        let swarm = self.swarm.id;
        let swarms = self.ledger().addresses().swarms;
        let (target, calldata) = match *decision {
            Decision::Manifest(manifest) => {
                let manifest = manifest.into();
                let call = S::changeManifestCall { swarm, manifest };
                (swarms, call.abi_encode())
            }
            Decision::Pace {
                min_interval,
                settle_timeout,
            } => {
                let call = S::changeParametersCall {
                    swarm,
                    minInterval: min_interval,
                    settleTimeout: settle_timeout,
                    admission: now.terms.admission,
                    bond: now.terms.bond,
                };
                (swarms, call.abi_encode())
            }
            Decision::Transferable(transferable) => {
                let call = ContributionShares::setTransferableCall { transferable };
                (self.at.shares, call.abi_encode())
            }
        };
        Calls {
            targets: vec![target],
            values: vec![U256::ZERO],
            calldatas: vec![calldata.into()],
        }
    }

    /// Proposes a decision; the proposal's number.
    pub async fn propose(
        &self,
        decision: &Decision,
        description: &str,
    ) -> Result<U256, LedgerError> {
        let swarms = self.ledger().addresses().swarms;
        let now = self
            .ask(
                swarms,
                &S::getSwarmCall {
                    swarm: self.swarm.id,
                },
            )
            .await?;
        let Calls {
            targets,
            values,
            calldatas,
        } = self.calls(decision, &now);
        let call = SwarmGovernor::proposeCall {
            targets,
            values,
            calldatas,
            description: description.to_owned(),
        };
        let sent = self.send(self.at.governor, &call).await?;
        let made = self.proposals_since(sent.block).await?;
        made.into_iter()
            .find(|event| event.description == description)
            .map(|event| event.proposalId)
            .ok_or_else(|| {
                let reader = self.ledger().reader();
                reader.unreadable("the governor tells of no proposal that was made")
            })
    }

    async fn proposals_since(
        &self,
        block: u64,
    ) -> Result<Vec<SwarmGovernor::ProposalCreated>, LedgerError> {
        let filter = alloy::rpc::types::Filter::new()
            .address(self.at.governor)
            .event_signature(SwarmGovernor::ProposalCreated::SIGNATURE_HASH);
        let logs = self.ledger().logs_since(filter, block).await?;
        logs.iter()
            .map(|log| {
                SwarmGovernor::ProposalCreated::decode_log(&log.inner)
                    .map(|event| event.data)
                    .map_err(|error| self.ledger().reader().unreadable(error))
            })
            .collect()
    }

    /// Every proposal there has been, in order.
    pub async fn proposals(&self) -> Result<Vec<Proposal>, LedgerError> {
        let created = self.swarm.info().await?.created_at;
        let height = self.ledger().height().await?;
        let from = self.swarm.first_block_at(created, height).await?;
        let mut found = Vec::new();
        for event in self.proposals_since(from).await? {
            let id = event.proposalId;
            let state = SwarmGovernor::stateCall { proposalId: id };
            let state = self.ask(self.at.governor, &state).await?;
            let votes = SwarmGovernor::proposalVotesCall { proposalId: id };
            let votes = self.ask(self.at.governor, &votes).await?;
            let second = |time: U256| u64::try_from(time).unwrap_or(u64::MAX);
            found.push(Proposal {
                id,
                proposer: event.proposer.into_array(),
                description: event.description,
                state: state_of(state),
                votes: [votes.infavour, votes.against, votes.abstain],
                voting: (second(event.voteStart), second(event.voteEnd)),
                calls: Calls {
                    targets: event.targets,
                    values: event.values,
                    calldatas: event.calldatas,
                },
            });
        }
        Ok(found)
    }

    /// Votes by this account's shares as they were when the voting began.
    pub async fn vote(&self, proposal: U256, infavour: bool) -> Result<Sent, LedgerError> {
        let call = SwarmGovernor::castVoteCall {
            proposalId: proposal,
            support: u8::from(infavour),
        };
        self.send(self.at.governor, &call).await
    }

    /// Takes a proposal one step on, by anybody: from decided to queued, from queued to
    /// carried out.
    pub async fn advance(&self, proposal: &Proposal) -> Result<Sent, LedgerError> {
        let Calls {
            targets,
            values,
            calldatas,
        } = proposal.calls.clone();
        let hash = keccak256(&proposal.description);
        match proposal.state {
            ProposalState::Queued => {
                let call = SwarmGovernor::executeCall {
                    targets,
                    values,
                    calldatas,
                    descriptionHash: hash,
                };
                self.send(self.at.governor, &call).await
            }
            _ => {
                let call = SwarmGovernor::queueCall {
                    targets,
                    values,
                    calldatas,
                    descriptionHash: hash,
                };
                self.send(self.at.governor, &call).await
            }
        }
    }
}

/// What can be done once: `None` if it was.
fn once(sent: Result<Sent, LedgerError>) -> Result<Option<Sent>, LedgerError> {
    match sent {
        Ok(sent) => Ok(Some(sent)),
        Err(error) if error.refusal() == Some("AlreadyClaimed") => Ok(None),
        Err(error) => Err(error),
    }
}

/// As OpenZeppelin's `ProposalState` counts them.
fn state_of(number: u8) -> ProposalState {
    match number {
        0 => ProposalState::Pending,
        1 => ProposalState::Active,
        2 => ProposalState::Canceled,
        3 => ProposalState::Defeated,
        4 => ProposalState::Succeeded,
        5 => ProposalState::Queued,
        6 => ProposalState::Expired,
        _ => ProposalState::Executed,
    }
}

/// Where a swarm's four contracts are, and what each is deployed with, in order: a later one
/// names the earlier.
fn codes(
    swarm: &Swarm,
    author: Address,
    terms: OwnershipTerms,
) -> (OwnershipAddresses, [(Address, Bytes); 4]) {
    let delay = U256::from(terms.timelock);
    let none = Vec::<Address>::new();
    let timelock_code =
        TIMELOCK.with_arguments(&(delay, none, vec![ANYBODY], author).abi_encode_params());
    let timelock = deployed_at(&timelock_code);
    let shares_code = SHARES.with_arguments(
        &(
            swarm.ledger.addresses().ledger,
            swarm.id,
            terms.epoch_rounds,
            timelock,
        )
            .abi_encode_params(),
    );
    let shares = deployed_at(&shares_code);
    let governor_code = GOVERNOR.with_arguments(
        &(
            shares,
            timelock,
            U48::from(terms.voting_delay),
            terms.voting_period,
        )
            .abi_encode_params(),
    );
    let vault_code = VAULT.with_arguments(&shares.abi_encode());
    let at = OwnershipAddresses {
        timelock,
        shares,
        governor: deployed_at(&governor_code),
        vault: deployed_at(&vault_code),
    };
    let codes = [
        (timelock, timelock_code),
        (shares, shares_code),
        (at.governor, governor_code),
        (at.vault, vault_code),
    ];
    (at, codes)
}
