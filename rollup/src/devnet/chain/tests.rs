//! The bare chain: what it mines, refuses, estimates, and makes of its own records.

use alloy::consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;

use super::*;

const CHAIN: u64 = 7700;
/// Stores its call's first word in slot 0, or reverts if that is zero: `PUSH0
/// CALLDATALOAD DUP1 PUSH1 9 JUMPI PUSH0 DUP1 REVERT JUMPDEST PUSH0 SSTORE STOP`.
const STORES: &[u8] = &[
    0x5f, 0x35, 0x80, 0x60, 0x09, 0x57, 0x5f, 0x80, 0xfd, 0x5b, 0x5f, 0x55, 0x00,
];

fn signer() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::with_last_byte(1)).unwrap()
}

fn chain() -> Chain {
    Chain::new(&Genesis {
        chain_id: CHAIN,
        timestamp: 100,
        seed: None,
        balances: vec![(signer().address(), U256::from(10).pow(U256::from(18)))],
    })
}

fn signed(nonce: u64, to: TxKind, input: Bytes, gas_limit: u64) -> Vec<u8> {
    let transaction = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit,
        max_fee_per_gas: u128::from(BASE_FEE),
        to,
        input,
        ..TxEip1559::default()
    };
    let signature = signer()
        .sign_hash_sync(&transaction.signature_hash())
        .unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
}

/// Code that returns `STORES` as a new contract's.
fn init_code() -> Bytes {
    let size = STORES.len() as u8;
    // PUSH1 size, DUP1, PUSH1 offset, PUSH0, CODECOPY, PUSH0, RETURN
    let mut code = vec![0x60, size, 0x80, 0x60, 0x09, 0x5f, 0x39, 0x5f, 0xf3];
    code.extend_from_slice(STORES);
    code.into()
}

fn mine(chain: &mut Chain, raw: &[u8], time: u64) -> (Block, BlockRecord) {
    let Candidate { block, record } = chain.execute(raw, time, B256::repeat_byte(9)).unwrap();
    chain.commit(&record, 0);
    (block, record)
}

#[test]
fn a_chain_made_of_records_is_the_chain_that_made_them() {
    let mut made = chain();
    let contract = signer().address().create(0);
    let word = |value: u8| Bytes::from(B256::with_last_byte(value));
    let mut records = Vec::new();
    for (nonce, to, input, success) in [
        (0, TxKind::Create, init_code(), true),
        (1, TxKind::Call(contract), word(5), true),
        (2, TxKind::Call(contract), word(0), false),
        (3, TxKind::Call(contract), word(7), true),
    ] {
        let (block, record) = mine(&mut made, &signed(nonce, to, input, 200_000), 100 + nonce);
        let mined = block.mined.as_ref().unwrap();
        assert_eq!(mined.success, success, "nonce {nonce}");
        assert_eq!(mined.created, (nonce == 0).then_some(contract));
        records.push((block, record));
    }
    assert_eq!(
        made.at(made.height()).unwrap().code(contract),
        Bytes::from_static(STORES)
    );
    assert_eq!(made.storage(contract, U256::ZERO), U256::from(7));

    let mut again = chain();
    for (number, (block, record)) in (1..).zip(&records) {
        again.commit(record, 0);
        let rebuilt = again.rebuild(number, record.clone()).unwrap();
        assert_eq!((&rebuilt.header, rebuilt.hash), (&block.header, block.hash));
        assert_eq!(rebuilt.header.hash_slow(), record.hash);
        let (ours, theirs) = (rebuilt.mined.unwrap(), block.mined.as_ref().unwrap());
        assert_eq!((ours.hash, ours.sender), (theirs.hash, theirs.sender));
        assert_eq!(again.number_of_transaction(&ours.hash), Some(number));
    }
    assert_eq!(again.head().hash, made.head().hash);
    for address in [contract, signer().address(), CREATE2_FACTORY] {
        assert_eq!(again.account(address), made.account(address));
        assert_eq!(
            again.at(again.height()).unwrap().code(address),
            made.at(made.height()).unwrap().code(address)
        );
    }
    assert_eq!(again.storage(contract, U256::ZERO), U256::from(7));
    // Both go on alike.
    let next = signed(4, TxKind::Call(contract), word(9), 200_000);
    let one = mine(&mut made, &next, 200).0;
    assert_eq!(one.hash, mine(&mut again, &next, 200).0.hash);
}

#[test]
fn what_cannot_be_mined_is_refused_and_changes_nothing() {
    let mut chain = chain();
    let to = TxKind::Call(Address::ZERO);
    let good = signed(0, to, Bytes::new(), 21_000);
    let refusal = |chain: &Chain, raw: &[u8]| chain.execute(raw, 100, B256::ZERO).unwrap_err();
    assert!(matches!(refusal(&chain, &[]), Rejected::Undecodable(_)));
    assert!(matches!(
        refusal(&chain, &good[..good.len() - 1]),
        Rejected::Undecodable(_)
    ));
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(refusal(&chain, &longer), Rejected::Undecodable(_)));
    let early = signed(1, to, Bytes::new(), 21_000);
    assert_eq!(
        refusal(&chain, &early),
        Rejected::NonceTooHigh {
            expected: 0,
            given: 1
        }
    );
    let short = signed(0, to, Bytes::new(), 20_999);
    assert!(matches!(refusal(&chain, &short), Rejected::Invalid(_)));
    let huge = signed(0, to, Bytes::new(), BLOCK_GAS_LIMIT + 1);
    assert!(matches!(refusal(&chain, &huge), Rejected::Invalid(_)));
    // Without a chain id a transaction could be replayed from elsewhere.
    let legacy = TxLegacy {
        gas_price: 1_000_000,
        gas_limit: 21_000,
        to,
        ..TxLegacy::default()
    };
    let signature = signer().sign_hash_sync(&legacy.signature_hash()).unwrap();
    let legacy = TxEnvelope::from(legacy.into_signed(signature)).encoded_2718();
    assert_eq!(refusal(&chain, &legacy), Rejected::Unprotected(CHAIN));
    assert_eq!(
        (chain.height(), chain.account(signer().address()).nonce),
        (0, 0)
    );

    mine(&mut chain, &good, 100);
    assert_eq!(refusal(&chain, &good), Rejected::AlreadyKnown);
    let other = signed(0, to, Bytes::from_static(&[1]), 30_000);
    assert_eq!(
        refusal(&chain, &other),
        Rejected::NonceTooLow {
            expected: 1,
            given: 0
        }
    );
}

#[test]
fn an_estimate_is_enough_and_little_more() {
    let mut chain = chain();
    mine(
        &mut chain,
        &signed(0, TxKind::Create, init_code(), 200_000),
        100,
    );
    let contract = signer().address().create(0);
    let call = |value: u8| Call {
        from: signer().address(),
        to: Some(contract),
        input: Bytes::from(B256::with_last_byte(value)),
        ..Call::default()
    };
    let Estimate::Gas(gas) = chain.estimate(&call(3), 100).unwrap() else {
        panic!()
    };
    let exact = |limit| {
        let raw = signed(1, TxKind::Call(contract), call(3).input, limit);
        chain
            .execute(&raw, 100, B256::ZERO)
            .unwrap()
            .block
            .mined
            .unwrap()
            .success
    };
    assert!(exact(gas) && !exact(gas - gas / 32), "{gas}");
    assert_eq!(
        chain.estimate(&call(0), 100).unwrap(),
        Estimate::Reverted(Bytes::new())
    );
}
