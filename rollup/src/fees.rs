//! What a transaction costs before it is sent: gas at the chain's price and, where a chain
//! puts its data on a layer below (the OP stack), the fee for that.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, address};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use crate::connection::Reader;
use crate::contracts::abi::ledger::ReputationLedger as L;
use crate::contracts::abi::registry::PeerRegistry as R;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::scorecard::{PPM, SignedScorecard};
use crate::swarm::Swarm;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod abi {
    alloy::sol! {
        /// The OP stack's word on what data costs below, at the same address on each of its
        /// chains.
        interface GasPriceOracle {
            function getL1Fee(bytes memory data) external view returns (uint256);
        }
    }
}
use abi::GasPriceOracle;

/// Where the OP stack keeps its oracle.
pub(crate) const GAS_PRICE_ORACLE: Address = address!("420000000000000000000000000000000000000F");

/// How a chain asks for its fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeeModel {
    /// Gas at a price, and nothing else: Ethereum, and rollups that have their data's cost
    /// in the gas they charge.
    Ethereum,
    /// A fee for the bytes beside it, which `GasPriceOracle` tells: Optimism, Base and others.
    OpStack,
}

impl FeeModel {
    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ethereum => "ethereum",
            Self::OpStack => "op-stack",
        }
    }
}

/// What a transaction may cost at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its gas limit.
    pub gas: u64,
    /// Wei for each unit of gas, at the most: room for the base fee to double.
    pub gas_price: u128,
    /// Its bytes on the wire.
    pub bytes: usize,
    /// Wei for its bytes on the layer below, where that is charged beside.
    pub data_fee: U256,
}

impl Quote {
    /// Wei for its gas.
    pub fn execution_fee(&self) -> U256 {
        U256::from(self.gas) * U256::from(self.gas_price)
    }

    /// Wei in all.
    pub fn total(&self) -> U256 {
        self.execution_fee() + self.data_fee
    }
}

/// What a peer's transactions cost on its chain now.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    /// How the chain asks for its fees.
    pub model: FeeModel,
    /// Registering a peer.
    pub register: Quote,
    /// Joining a swarm.
    pub join: Quote,
    /// Opening a round.
    pub open: Quote,
    /// Settling it.
    pub settle: Quote,
}

/// A transaction as it would be sent, but for a signature of the right length that is
/// nobody's: its bytes are what is priced.
pub(crate) fn wire_form(to: Address, value: U256, input: Bytes, gas: u64, price: u128) -> Vec<u8> {
    let unsigned = TxEip1559 {
        chain_id: u64::from(u32::MAX),
        nonce: u64::from(u16::MAX),
        gas_limit: gas,
        max_fee_per_gas: price,
        max_priority_fee_per_gas: price,
        to: TxKind::Call(to),
        value,
        access_list: Default::default(),
        input,
    };
    let word = B256::repeat_byte(0xa5);
    let signature = Signature::new(word.into(), word.into(), false);
    TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718()
}

impl Reader {
    /// How the chain asks for its fees, as far as can be seen: who has the OP stack's
    /// oracle uses it.
    pub(crate) async fn fee_model(&self) -> Result<FeeModel, LedgerError> {
        Ok(match self.code(GAS_PRICE_ORACLE).await?.is_empty() {
            true => FeeModel::Ethereum,
            false => FeeModel::OpStack,
        })
    }

    /// Wei for a transaction's bytes on the layer below.
    pub(crate) async fn data_fee(&self, wire: Vec<u8>) -> Result<U256, LedgerError> {
        match self.fees {
            FeeModel::Ethereum => Ok(U256::ZERO),
            FeeModel::OpStack => {
                let call = GasPriceOracle::getL1FeeCall { data: wire.into() };
                self.call(GAS_PRICE_ORACLE, &call).await
            }
        }
    }

    /// What a call costs that uses so much gas.
    async fn quote(
        &self,
        to: Address,
        call: &impl SolCall,
        gas: u64,
    ) -> Result<Quote, LedgerError> {
        let (gas_price, _) = self.fee_limits().await?;
        let wire = wire_form(to, U256::ZERO, call.abi_encode().into(), gas, gas_price);
        Ok(Quote {
            gas,
            gas_price,
            bytes: wire.len(),
            data_fee: self.data_fee(wire).await?,
        })
    }
}

/// Gas of a peer's registration, and of its joining.
const REGISTER: u64 = 165_000;
const JOIN: u64 = 120_000;
/// Gas of a settlement beside what each peer and each witness adds; of a peer; of a
/// witness; of a peer for each witness. Upper bounds of what `GAS.md` has, and a test.
const SETTLE: [u64; 4] = [125_000, 9_800, 15_000, 200];
/// Gas of an opening, and what each witness adds.
const OPEN: [u64; 2] = [100_000, 8_900];

/// Gas of a settlement of so many peers by so many witnesses of one mind, in a swarm whose
/// peers have been scored before.
pub(crate) fn settlement_gas(peers: u64, witnesses: u64) -> u64 {
    let [base, peer, witness, both] = SETTLE;
    base + peers * peer + witnesses * witness + peers * witnesses * both
}

/// Gas of an opening that draws so many witnesses.
pub(crate) fn opening_gas(witnesses: u64) -> u64 {
    OPEN[0] + OPEN[1] * witnesses
}

impl Ledger {
    /// How the chain asks for its fees.
    pub fn fee_model(&self) -> FeeModel {
        self.reader().fees
    }
}

impl Swarm {
    /// What a peer's transactions cost now, for rounds of so many peers and witnesses.
    /// Nothing is sent, and no account needs funds.
    pub async fn prices(&self, peers: u16, witnesses: u16) -> Result<Prices, LedgerError> {
        let (reader, at) = (self.ledger.reader(), self.ledger.addresses());
        // What a card looks like on the wire matters, not what it says: bytes that are
        // not zero cost more, so none here is.
        let scores = (0..peers).map(|peer| {
            let mut address = [0xa5; 20];
            address[..2].copy_from_slice(&peer.to_be_bytes());
            (address, PPM - u32::from(peer))
        });
        let card = crate::Scorecard::new([0; 20], self.id.0, u64::MAX, [0xa5; 32], scores);
        let cards: Vec<_> = (0..witnesses)
            .map(|witness| SignedScorecard {
                card: card.clone(),
                witness: [0xa5 ^ witness as u8; 20],
                signature: [0xa5; 65],
            })
            .collect();
        let settle = crate::swarm::settle_call(self.id, u64::MAX, [0xa5; 32], &cards);
        let register = R::registerCall {
            node: B256::repeat_byte(0xa5),
            nodeSignature: vec![0xa5; 64].into(),
            name: "a name of some length".to_owned(),
        };
        let join = L::joinSwarmCall { swarm: self.id };
        let open = L::openRoundCall {
            swarm: self.id,
            round: u64::MAX,
        };
        let (peers, witnesses) = (u64::from(peers), u64::from(witnesses));
        Ok(Prices {
            model: reader.fees,
            register: reader.quote(at.registry, &register, REGISTER).await?,
            join: reader.quote(at.ledger, &join, JOIN).await?,
            open: reader
                .quote(at.ledger, &open, opening_gas(witnesses))
                .await?,
            settle: reader
                .quote(at.ledger, &settle, settlement_gas(peers, witnesses))
                .await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_for_a_round_is_what_it_costs_and_not_much_more() {
        // From GAS.md, which a test holds true.
        let table = include_str!("../GAS.md");
        let cost = |what: &str| -> u64 {
            let line = table
                .lines()
                .find(|line| line.starts_with(&format!("| {what} |")));
            line.unwrap()
                .split('|')
                .nth(2)
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        };
        for (peers, witnesses) in [(16, 8), (64, 8), (64, 16)] {
            let used = cost(&format!("settle {peers} peers x {witnesses} witnesses"));
            let quoted = settlement_gas(peers, witnesses);
            assert!(quoted >= used, "{peers}x{witnesses}: {quoted} < {used}");
            assert!(
                quoted <= used + used / 4,
                "{peers}x{witnesses}: {quoted} > {used}"
            );
        }
        for witnesses in [8, 16] {
            let used = cost(&format!("open a round of {witnesses} witnesses"));
            let quoted = opening_gas(witnesses);
            assert!(
                (used..=used + used / 4).contains(&quoted),
                "{quoted} for {used}"
            );
        }
        assert!(cost("register a peer") <= REGISTER && cost("join a swarm") <= JOIN);
    }

    #[test]
    fn a_transaction_is_priced_by_about_the_bytes_it_will_have() {
        let input = Bytes::from(vec![7; 1000]);
        let wire = wire_form(Address::ZERO, U256::ZERO, input, 100_000, 1_000_000);
        assert!((1_100..1_140).contains(&wire.len()), "{}", wire.len());
    }
}
