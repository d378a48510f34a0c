use proptest::prelude::*;

use super::*;
use crate::sim;

const BEACON: Beacon = Beacon([5; 32]);
const ME: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);

fn completions(count: u16) -> Vec<Completion> {
    let completion = |index| Completion {
        text: format!("<answer>{index}</answer>"),
        finished: true,
    };
    (0..count).map(completion).collect()
}

fn batch<G>(groups: Vec<G>) -> Batch<G> {
    Batch {
        header: Header {
            round: 4,
            beacon: BEACON,
            plan: Hash([7; 32]),
            peer: ME,
            address: Address([1; 20]),
        },
        salt: [0; 32],
        groups,
    }
}

fn answers() -> Batch<AnswerGroup> {
    let manifest = sim::manifest();
    let group = |slot| {
        let drawn = draw::item(&manifest, BEACON, ME, slot).unwrap();
        AnswerGroup {
            slot,
            env: drawn.env,
            level: drawn.level,
            completions: completions(4),
        }
    };
    batch(draw::slots(&manifest).map(group).collect())
}

fn critiques() -> Batch<CritiqueGroup> {
    let manifest = sim::manifest();
    let slot = Slot::Common(0);
    let completion = draw::exhibit(&manifest, BEACON, OTHER, slot).unwrap();
    batch(vec![CritiqueGroup {
        target: Exhibit {
            peer: OTHER,
            slot,
            completion,
        },
        completions: completions(2),
    }])
}

fn resolutions() -> Batch<ResolveGroup> {
    let manifest = sim::manifest();
    let slot = Slot::Common(0);
    let completion = draw::exhibit(&manifest, BEACON, OTHER, slot).unwrap();
    batch(vec![ResolveGroup {
        slot,
        read: vec![Read {
            peer: OTHER,
            completion,
            right: 3,
            wrong: 1,
        }],
        completions: completions(4),
    }])
}

fn check(body: Body) -> Result<(), &'static str> {
    body.check(&sim::manifest()).map_err(|reason| reason.key())
}

#[test]
fn the_encoding_is_these_bytes() {
    let mut batch = critiques();
    batch.groups[0].target.completion = 3;
    batch.groups[0].completions.truncate(1);
    let (_, bytes) = Body::Critique(batch).encode();
    let expected = [
        "02",                                       // version
        "01",                                       // critiques
        "04",                                       // round
        &"05".repeat(32),                           // beacon
        &"07".repeat(32),                           // plan
        &"01".repeat(32),                           // peer
        &"01".repeat(20),                           // address
        &"00".repeat(32),                           // salt
        "01",                                       // one group
        &"02".repeat(32),                           // target
        "000003",                                   // common 0, completion 3
        "01",                                       // one completion
        "123c616e737765723e303c2f616e737765723e01", // its text; finished
    ]
    .concat();
    assert_eq!(hex::encode(bytes), expected);
}

#[test]
fn what_was_encoded_is_decoded_within_the_limit() {
    for body in [
        Body::Answer(answers()),
        Body::Critique(critiques()),
        Body::Resolve(resolutions()),
    ] {
        let (hash, bytes) = body.encode();
        assert_eq!(hash, Hash::of(&bytes));
        let limit = u32::try_from(bytes.len()).unwrap();
        assert_eq!(decode(&bytes, limit).as_ref(), Ok(&body));
        assert_eq!(decode(&bytes, limit - 1).unwrap_err().key(), "oversize");
        assert_eq!(check(body), Ok(()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer, limit + 1), Err(RejectReason::NotCanonical));
    }
}

#[test]
fn answers_are_to_the_items_that_were_drawn() {
    let changed = |change: fn(&mut Batch<AnswerGroup>)| {
        let mut batch = answers();
        change(&mut batch);
        check(Body::Answer(batch))
    };
    assert_eq!(changed(|_| ()), Ok(()));
    // Fewer items are fine: a slow machine answers what it can.
    assert_eq!(changed(|batch| batch.groups.truncate(1)), Ok(()));
    assert_eq!(
        changed(|batch| batch.groups[1].level += 1),
        Err("wrong draw")
    );
    let other = |batch: &mut Batch<AnswerGroup>| batch.groups[1].env = EnvId([0; 32]);
    assert_eq!(changed(other), Err("wrong draw"));
    let outside = |batch: &mut Batch<AnswerGroup>| batch.groups[1].slot = Slot::Own(9);
    assert_eq!(changed(outside), Err("wrong draw"));
    let twice = |batch: &mut Batch<AnswerGroup>| batch.groups.push(batch.groups[0].clone());
    assert_eq!(changed(twice), Err("against manifest"));
    let fewer = |batch: &mut Batch<AnswerGroup>| drop(batch.groups[0].completions.pop());
    assert_eq!(changed(fewer), Err("against manifest"));
    let long = |batch: &mut Batch<AnswerGroup>| {
        batch.groups[0].completions[0].text = "x".repeat(2_049);
    };
    assert_eq!(changed(long), Err("oversize"));
}

#[test]
fn critiques_are_of_what_is_on_show_and_never_of_ones_own() {
    let changed = |change: fn(&mut CritiqueGroup)| {
        let mut batch = critiques();
        change(&mut batch.groups[0]);
        check(Body::Critique(batch))
    };
    let hidden = |group: &mut CritiqueGroup| group.target.completion ^= 1;
    assert_eq!(changed(hidden), Err("wrong draw"));
    let own = |group: &mut CritiqueGroup| {
        let manifest = sim::manifest();
        group.target.peer = ME;
        let slot = group.target.slot;
        group.target.completion = draw::exhibit(&manifest, BEACON, ME, slot).unwrap();
    };
    assert_eq!(changed(own), Err("wrong draw"));
}

#[test]
fn resolutions_read_what_is_on_show_and_only_their_own_for_own_items() {
    let changed = |change: fn(&mut ResolveGroup)| {
        let mut batch = resolutions();
        change(&mut batch.groups[0]);
        check(Body::Resolve(batch))
    };
    let hidden = |group: &mut ResolveGroup| group.read[0].completion = 99;
    assert_eq!(changed(hidden), Err("wrong draw"));
    let twice = |group: &mut ResolveGroup| group.read.push(group.read[0]);
    assert_eq!(changed(twice), Err("against manifest"));
    let foreign = |group: &mut ResolveGroup| group.slot = Slot::Own(0);
    assert_eq!(changed(foreign), Err("wrong draw"));
    assert_eq!(changed(|group| group.read.clear()), Ok(()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_decodes_is_canonical(
        kind in 0u8..4,
        kept in 0usize..200,
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (_, good) = match kind {
            0 => Body::Answer(answers()).encode(),
            1 => Body::Critique(critiques()).encode(),
            _ => Body::Resolve(resolutions()).encode(),
        };
        let mut bytes: Vec<u8> = good.into_iter().take(kept).collect();
        bytes.extend(rest);
        if let Ok(body) = decode(&bytes, 1 << 20) {
            prop_assert_eq!(body.encode().1, bytes);
            let _ = body.check(&sim::manifest());
        }
    }
}
