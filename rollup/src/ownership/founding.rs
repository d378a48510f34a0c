//! Founding a swarm's ownership, and finding whom a swarm is governed by without trusting
//! whoever founded it.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256};
use alloy::sol_types::{SolEvent, SolValue};

use super::abi::{ContributionShares, SwarmGovernor, Timelock};
use super::{Ownership, OwnershipAddresses, OwnershipTerms};
use crate::contracts::abi::swarms::SwarmRegistry as S;
use crate::contracts::{
    CREATE2_FACTORY, GOVERNOR, SHARES, TIMELOCK, VAULT, deployed_by, deployment_by,
};
use crate::error::LedgerError;
use crate::swarm::Swarm;

/// What is wrong with a timelock that would not wait for a vote.
pub(super) const OTHERS: &str = "others than its governor have rights over it";
/// Accounts by what they may do to a timelock.
pub(super) type Roles = BTreeMap<B256, BTreeSet<Address>>;
pub(super) const PROPOSER: &str = "PROPOSER_ROLE";
pub(super) const CANCELLER: &str = "CANCELLER_ROLE";
/// What everybody may do with what was decided: carry it out.
pub(super) const ANYBODY: Address = Address::ZERO;

impl Ownership {
    /// The contracts that a swarm is governed by; `None` if it is by nobody.
    ///
    /// # Errors
    /// [`LedgerError::Ownership`] where something else governs it, somebody has rights over
    /// the timelock that nobody should have, or its founding stopped halfway.
    pub async fn find(swarm: &Swarm) -> Result<Option<Self>, LedgerError> {
        let info = swarm.info().await?;
        let timelock = Address::from(info.governance);
        if timelock.is_zero() {
            return Ok(None);
        }
        let other = |why: &str| {
            LedgerError::Ownership(format!(
                "the swarm is governed by {timelock}, which is not this version's timelock: {why}"
            ))
        };
        let height = swarm.ledger.height().await?;
        let from = swarm.first_block_at(info.created_at, height).await?;
        let logs = async |at| {
            let filter = alloy::rpc::types::Filter::new().address(at);
            swarm.ledger.logs_since(filter, from).await
        };
        let mut roles = Roles::new();
        let mut admin = None;
        let mut delay = None;
        for log in logs(timelock).await? {
            if let Ok(event) = Timelock::RoleGranted::decode_log(&log.inner) {
                let (role, account) = (event.role, event.account);
                if role.is_zero() && account != timelock {
                    admin = admin.or(Some(account));
                }
                roles.entry(role).or_default().insert(account);
            } else if let Ok(event) = Timelock::RoleRevoked::decode_log(&log.inner) {
                roles.entry(event.role).or_default().remove(&event.account);
            } else if let Ok(event) = Timelock::MinDelayChange::decode_log(&log.inner) {
                delay = delay.or(Some(event.newDuration));
            }
        }
        let (Some(author), Some(timelock_delay)) = (admin, delay) else {
            return Err(other("nothing is known of how it began"));
        };
        let proposers = roles.get(&keccak256(PROPOSER)).cloned().unwrap_or_default();
        let mut proposers = proposers.into_iter();
        let governor = match (proposers.next(), proposers.next()) {
            (Some(governor), None) => governor,
            (None, _) => return Err(other("nobody can propose anything to it")),
            (Some(_), Some(_)) => return Err(other(OTHERS)),
        };
        let (mut voting_delay, mut voting_period) = (None, None);
        for log in logs(governor).await? {
            if let Ok(event) = SwarmGovernor::VotingDelaySet::decode_log(&log.inner) {
                voting_delay = voting_delay.or(Some(event.newVotingDelay));
            } else if let Ok(event) = SwarmGovernor::VotingPeriodSet::decode_log(&log.inner) {
                voting_period = voting_period.or(Some(event.newVotingPeriod));
            }
        }
        let reader = swarm.ledger.reader();
        let strange = |_| other("its governor holds no shares' votes");
        let shares = reader.call(governor, &SwarmGovernor::tokenCall {}).await;
        let shares = shares.map_err(strange)?;
        let epoch_rounds = reader
            .call(shares, &ContributionShares::epochRoundsCall {})
            .await;
        let seconds = |value: Option<U256>| value.and_then(|value| u32::try_from(value).ok());
        let (Some(voting_delay), Some(voting_period), Some(timelock_delay)) = (
            seconds(voting_delay),
            seconds(voting_period),
            seconds(Some(timelock_delay)),
        ) else {
            return Err(other("its governor has no terms"));
        };
        let terms = OwnershipTerms {
            epoch_rounds: epoch_rounds.map_err(strange)?,
            voting_delay,
            voting_period,
            timelock: timelock_delay,
        };
        let this = Self::of(swarm, author.into_array(), terms);
        if (this.at.timelock, this.at.governor, this.at.shares) != (timelock, governor, shares) {
            return Err(other("it was not deployed by this version"));
        }
        let mut expected = this.roles();
        if roles.get(&B256::ZERO) == Some(&BTreeSet::from([timelock, author])) {
            expected.entry(B256::ZERO).or_default().insert(author);
            if roles == expected {
                return Err(LedgerError::Ownership(format!(
                    "its founding stopped halfway: its author, {author}, still holds the \
                     timelock; founding it again ends that"
                )));
            }
        }
        roles.retain(|_, holders| !holders.is_empty());
        if roles != expected {
            return Err(other(OTHERS));
        }
        Ok(Some(this))
    }

    /// Who has which right over the timelock once it is founded.
    fn roles(&self) -> Roles {
        let Self { at, .. } = self;
        Roles::from([
            (B256::ZERO, BTreeSet::from([at.timelock])),
            (keccak256(PROPOSER), BTreeSet::from([at.governor])),
            (keccak256(CANCELLER), BTreeSet::from([at.governor])),
            (keccak256("EXECUTOR_ROLE"), BTreeSet::from([ANYBODY])),
        ])
    }

    /// Founds a swarm's ownership, as its author: deploys what is not there, hands the
    /// timelock to the governor and the swarm to the timelock, and keeps nothing. What was
    /// done before is found, so whoever was stopped halfway goes on.
    pub async fn found(swarm: &Swarm, terms: OwnershipTerms) -> Result<Self, LedgerError> {
        let author = swarm.ledger.address();
        let (at, codes) = codes(swarm, author.into(), terms);
        let this = Self {
            swarm: swarm.clone(),
            at,
            terms,
        };
        let info = swarm.info().await?;
        let governed = info.governance == at.timelock.into_array();
        if !governed && info.governance != [0; 20] {
            return Err(LedgerError::Ownership(format!(
                "the swarm is governed by {} already: it can be founded once, on one set of terms",
                Address::from(info.governance)
            )));
        }
        if info.author != author {
            return Err(LedgerError::Ownership(format!(
                "only the swarm's author, {}, can found its ownership, and this account is {}; a \
                 swarm without an author (all zeros) can have none",
                Address::from(info.author),
                Address::from(author)
            )));
        }
        let (reader, connection) = (swarm.ledger.reader(), swarm.ledger.connection());
        for (address, code) in codes {
            if reader.code(address).await?.is_empty() {
                connection
                    .send_raw(CREATE2_FACTORY, deployment_by(swarm.id, &code))
                    .await?;
            }
        }
        for role in [PROPOSER, CANCELLER] {
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
        if !governed {
            let change = S::changeGovernanceCall {
                swarm: swarm.id,
                governance: at.timelock,
            };
            this.send(swarm.ledger.addresses().swarms, &change).await?;
        }
        // Last, so that whoever was stopped halfway can go on.
        let holds = Timelock::hasRoleCall {
            role: B256::ZERO,
            account: author.into(),
        };
        if this.ask(at.timelock, &holds).await? {
            let renounce = Timelock::renounceRoleCall {
                role: B256::ZERO,
                callerConfirmation: author.into(),
            };
            this.send(at.timelock, &renounce).await?;
        }
        Ok(this)
    }
}

/// Where a swarm's four contracts are, and what each is deployed with, in order: a later one
/// names the earlier.
pub(super) fn codes(
    swarm: &Swarm,
    author: Address,
    terms: OwnershipTerms,
) -> (OwnershipAddresses, [(Address, Bytes); 4]) {
    let delay = U256::from(terms.timelock);
    let none = Vec::<Address>::new();
    let timelock_code =
        TIMELOCK.with_arguments(&(delay, none, vec![ANYBODY], author).abi_encode_params());
    let timelock = deployed_by(swarm.id, &timelock_code);
    let shares_code = SHARES.with_arguments(
        &(
            swarm.ledger.addresses().ledger,
            swarm.id,
            terms.epoch_rounds,
            timelock,
        )
            .abi_encode_params(),
    );
    let shares = deployed_by(swarm.id, &shares_code);
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
        governor: deployed_by(swarm.id, &governor_code),
        vault: deployed_by(swarm.id, &vault_code),
    };
    let codes = [
        (timelock, timelock_code),
        (shares, shares_code),
        (at.governor, governor_code),
        (at.vault, vault_code),
    ];
    (at, codes)
}
