//! Who contributed to a swarm owns it: shares minted from settled reputation, a vault that
//! divides what the swarm is paid among who held them, and votes by them over its
//! curriculum and its pace.
//!
//! Four contracts for each swarm, deployed by its author, who names their timelock as the
//! swarm's governance and keeps no right over them. Their addresses follow from author,
//! swarm and terms, so whoever finds them on the chain also knows that they are these
//! contracts and began with nothing in them.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolEvent};
use serde::{Deserialize, Serialize};

use crate::connection::Sent;
use crate::contracts::abi::swarms::{ISwarmRegistry, SwarmRegistry as S};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sealed::ProvenLine;
use crate::swarm::Swarm;

mod founding;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod abi {
    alloy::sol! {
        interface ContributionShares {
            event SharesClaimed(address indexed peer, uint256 indexed epoch, uint64 indexed round, uint256 amount);
            function claim(uint64 round, Line calldata score, bytes32[] calldata proof) external;
            function epochRounds() external view returns (uint32);
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
            event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
            event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);
            event MinDelayChange(uint256 oldDuration, uint256 newDuration);
            function grantRole(bytes32 role, address account) external;
            function renounceRole(bytes32 role, address callerConfirmation) external;
            function hasRole(bytes32 role, address account) external view returns (bool);
        }

        interface SwarmGovernor {
            event VotingDelaySet(uint256 oldVotingDelay, uint256 newVotingDelay);
            event VotingPeriodSet(uint256 oldVotingPeriod, uint256 newVotingPeriod);
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
            function token() external view returns (address);
            function state(uint256 proposalId) external view returns (uint8);
            function proposalEta(uint256 proposalId) external view returns (uint256);
            function hasVoted(uint256 proposalId, address account) external view returns (bool);
            function proposalVotes(uint256 proposalId) external view returns (uint256 against, uint256 infavour, uint256 abstain);
        }
    }
}
use abi::{ContributionShares, Line, RevenueVault, SwarmGovernor};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// Not voted on yet.
    #[default]
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
#[derive(Clone, Debug, Default)]
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
    /// When it can be carried out, in seconds since 1970; 0 before it is queued.
    pub ready: u64,
    /// What it would do; `None` if that is nothing a [`Decision`] says.
    pub decision: Option<Decision>,
    calls: Calls,
}

#[derive(Clone, Debug, Default)]
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

/// Shares that a peer may have minted.
#[derive(Clone)]
pub struct Claimable {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The round of it that says the most of the peer.
    pub round: u64,
    /// Whose shares they are.
    pub peer: [u8; 20],
    /// Its reputation there in parts per million: as many millionths of a share.
    pub reputation: u32,
    /// What proves it.
    pub line: ProvenLine,
}

impl Ownership {
    /// The contracts that an author's swarm has or would have on these terms.
    pub fn of(swarm: &Swarm, author: [u8; 20], terms: OwnershipTerms) -> Self {
        let codes = founding::codes(swarm, author.into(), terms);
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

    /// What can be claimed now, in order: for each epoch that is over, every peer that has
    /// not had its shares, by the round of the epoch that says the most of it. Rounds that
    /// settled by a root alone are left out: the chain does not tell their lines.
    pub async fn claimable(&self) -> Result<Vec<Claimable>, LedgerError> {
        let info = self.swarm.info().await?;
        let height = self.ledger().height().await?;
        let from = self.swarm.first_block_at(info.created_at, height).await?;
        let filter = alloy::rpc::types::Filter::new()
            .address(self.at.shares)
            .event_signature(ContributionShares::SharesClaimed::SIGNATURE_HASH);
        let mut had = BTreeSet::new();
        for log in self.ledger().logs_since(filter, from).await? {
            let event = ContributionShares::SharesClaimed::decode_log(&log.inner);
            let event = event.map_err(|error| self.ledger().reader().unreadable(error))?;
            had.insert((event.epoch, event.peer));
        }
        let history = self.swarm.history(0).await?;
        let length = usize::try_from(self.terms.epoch_rounds).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for (epoch, rounds) in (0_u64..).zip(history.chunks_exact(length.max(1))) {
            let mut best = BTreeMap::new();
            for round in rounds {
                for scored in &round.scores {
                    let held = best
                        .entry(scored.peer)
                        .or_insert((round, scored.reputation));
                    if scored.reputation > held.1 {
                        *held = (round, scored.reputation);
                    }
                }
            }
            for (peer, (round, reputation)) in best {
                let known = had.contains(&(U256::from(epoch), Address::from(peer)));
                if !known
                    && reputation > 0
                    && let Some(line) = round.line(peer)
                {
                    found.push(Claimable {
                        epoch,
                        round: round.round,
                        peer,
                        reputation,
                        line,
                    });
                }
            }
        }
        Ok(found)
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

    /// What a proposal would do, whatever it says of itself.
    fn decision(&self, made: &SwarmGovernor::ProposalCreated) -> Option<Decision> {
        let (&[target], [data]) = (&made.targets[..], &made.calldatas[..]) else {
            return None;
        };
        if made.values.iter().any(|value| !value.is_zero()) {
            return None;
        }
        let swarm = self.swarm.id;
        if target == self.at.shares {
            let call = ContributionShares::setTransferableCall::abi_decode(data).ok()?;
            return Some(Decision::Transferable(call.transferable));
        }
        if target != self.ledger().addresses().swarms {
            return None;
        }
        if let Ok(call) = S::changeManifestCall::abi_decode(data)
            && call.swarm == swarm
        {
            return Some(Decision::Manifest(call.manifest.0));
        }
        // One that also changes admission or bond is none of these.
        let call = S::changeParametersCall::abi_decode(data).ok()?;
        (call.swarm == swarm && call.admission == 0 && call.bond == 0).then_some(Decision::Pace {
            min_interval: call.minInterval,
            settle_timeout: call.settleTimeout,
        })
    }

    /// Whether an account has voted on a proposal.
    pub async fn has_voted(&self, proposal: U256, account: [u8; 20]) -> Result<bool, LedgerError> {
        let call = SwarmGovernor::hasVotedCall {
            proposalId: proposal,
            account: account.into(),
        };
        self.ask(self.at.governor, &call).await
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
            let ready = SwarmGovernor::proposalEtaCall { proposalId: id };
            let ready = self.ask(self.at.governor, &ready).await?;
            let second = |time: U256| u64::try_from(time).unwrap_or(u64::MAX);
            found.push(Proposal {
                id,
                ready: second(ready),
                decision: self.decision(&event),
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

#[cfg(test)]
mod tests;
