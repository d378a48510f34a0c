use proptest::prelude::*;

use super::*;

const SWARM: SwarmId = SwarmId([3; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn announcement(payload: Payload) -> Announcement {
    Announcement {
        version: WIRE_VERSION,
        swarm: SWARM,
        round: 300,
        peer: PeerId(key().verifying_key().to_bytes()),
        sequence: 1,
        at: Position {
            round: 300,
            phase: Phase::Answer,
        },
        payload,
    }
}

fn have() -> Announcement {
    announcement(Payload::Have {
        kind: BodyKind::Critique,
        body: BodyRef {
            hash: Hash([9; 32]),
            bytes: 1_000,
        },
    })
}

/// Signs whatever bytes, as a peer that does not play by the rules can.
fn wire(body: &[u8]) -> Vec<u8> {
    [key().sign(&signed(body)).to_bytes().as_slice(), body].concat()
}

#[test]
fn the_wire_form_is_these_bytes() {
    let announcement = have();
    let wire = announcement.sign(&key()).unwrap();
    let peer = announcement.peer.to_hex();
    let expected = [
        "03",             // version
        &"03".repeat(32), // swarm
        "ac02",           // round 300
        &peer,            //
        "01",             // sequence
        "ac0202",         // at: round 300, answering
        "0101",           // payload: have; kind: critique
        &"09".repeat(32), // hash
        "e807",           // 1,000 bytes
    ]
    .concat();
    assert_eq!(hex::encode(&wire[64..]), expected);
    assert_eq!(
        hex::encode(&wire[..64]),
        "243c5af459c434e8205eb93135cfaff7aa971bd0f6f7a7abad9e78d85ef64a61\
         7057208279adcbc2ae2c6b52d6acfae1a4f7063cd7341a90d4692eab8270f401"
    );
    assert_eq!(verify(&wire, SWARM), Ok(Some(announcement)));
}

#[test]
fn every_changed_byte_is_refused() {
    let wire = have().sign(&key()).unwrap();
    for index in 0..wire.len() {
        let mut changed = wire.clone();
        changed[index] ^= 1;
        // A changed swarm is another swarm's business.
        assert!(
            !matches!(verify(&changed, SWARM), Ok(Some(_))),
            "byte {index}"
        );
    }
    for length in 0..wire.len() {
        assert!(verify(&wire[..length], SWARM).is_err(), "{length} bytes");
    }
}

#[test]
fn another_swarms_announcement_is_no_offence() {
    let wire = have().sign(&key()).unwrap();
    assert_eq!(verify(&wire, SwarmId([4; 32])), Ok(None));
}

#[test]
fn somebody_elses_name_is_refused() {
    let mut forged = have();
    forged.peer = PeerId(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    let wire = forged.sign(&key()).unwrap();
    assert_eq!(verify(&wire, SWARM), Err(RejectReason::Signature));
}

#[test]
fn another_version_and_an_oversize_are_refused_before_anything_else() {
    assert_eq!(verify(&wire(&[1, 0]), SWARM), Err(RejectReason::Version(1)));
    let oversize = vec![1; MAX_WIRE + 1];
    let refused = verify(&oversize, SWARM).unwrap_err();
    assert_eq!(refused.key(), "oversize");
}

#[test]
fn a_longer_encoding_of_the_same_is_refused() {
    let body = postcard::to_stdvec(&have()).unwrap();
    // Round 300 in three bytes where two do.
    let mut longer = body.clone();
    longer.splice(33..35, [0xac, 0x82, 0x00]);
    assert_eq!(
        verify(&wire(&longer), SWARM),
        Err(RejectReason::NotCanonical)
    );
    let mut trailing = body;
    trailing.push(0);
    assert_eq!(
        verify(&wire(&trailing), SWARM),
        Err(RejectReason::NotCanonical)
    );
}

#[test]
fn lists_are_sorted_and_no_longer_than_a_swarm_can_fill() {
    let list = |entries: Vec<Hash>| {
        let announcement = announcement(Payload::Inclusion { entries });
        verify(&announcement.sign(&key()).unwrap(), SWARM)
    };
    let hashes = |count: u8| (0..count).map(|index| Hash([index; 32])).collect();
    assert!(list(hashes(192)).is_ok());
    assert_eq!(list(hashes(193)).unwrap_err().key(), "malformed");
    let twice = list(vec![Hash([1; 32]), Hash([1; 32])]);
    assert_eq!(twice, Err(RejectReason::NotCanonical));
}

#[test]
fn the_largest_announcement_fits_and_a_larger_one_is_not_signed() {
    let card = |scores: usize| {
        let address = |index: usize| {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&index.to_be_bytes());
            Address(bytes)
        };
        announcement(Payload::Attestation(Card {
            included: Hash([1; 32]),
            scores: (0..scores).map(|i| (address(i), u32::MAX)).collect(),
            signature: EvmSignature([1; 65]),
        }))
    };
    let wire = card(HARD_PEERS).sign(&key()).unwrap();
    assert!(verify(&wire, SWARM).is_ok());
    assert_eq!(card(1_000).sign(&key()).unwrap_err().key(), "oversize");
}

#[test]
fn a_round_that_would_overflow_somebodys_sum_is_refused() {
    for (round, at) in [(HARD_ROUND, 1), (1, HARD_ROUND)] {
        let mut far = have();
        (far.round, far.at.round) = (round, at);
        assert!(verify(&far.sign(&key()).unwrap(), SWARM).is_ok());
        far.round = u64::from(round > 1) + round;
        far.at.round = u64::from(at > 1) + at;
        let refused = verify(&far.sign(&key()).unwrap(), SWARM).unwrap_err();
        assert_eq!(refused.key(), "malformed");
    }
}

#[test]
fn a_name_is_short_and_plain() {
    let hello = |name: &str| {
        let announcement = announcement(Payload::Hello {
            address: Address([1; 20]),
            name: name.into(),
            plea: None,
            curriculum: 0,
        });
        verify(&announcement.sign(&key()).unwrap(), SWARM)
    };
    assert!(hello("amber-finch").is_ok());
    assert!(hello(&"x".repeat(65)).is_err());
    assert!(hello("a\u{1b}[2J").is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!matches!(verify(&bytes, SWARM), Ok(Some(_))));
    }

    #[test]
    fn arbitrary_signed_bytes_are_canonical_or_refused(
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        kept in 0usize..150,
    ) {
        let mut body = postcard::to_stdvec(&have()).unwrap();
        body.truncate(kept.max(1));
        body.extend(rest);
        if let Ok(Some(read)) = verify(&wire(&body), SWARM) {
            prop_assert_eq!(postcard::to_stdvec(&read).unwrap(), body);
        }
    }
}
