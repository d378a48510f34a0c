//! Every decoder of bytes that strangers send, on what they might send: valid bytes
//! with a few of them changed, cut, repeated or replaced, and noise. Nothing panics,
//! nothing is read that is not written again in the same bytes, and nothing takes
//! more memory than [`allowed`]. The golden hashes at the end are of valid bytes: who
//! changes a format on the wire changes its version and then these.
//!
//! One test, so that what it counts of memory is its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ed25519_dalek::SigningKey;
use swarm_core::body;
use swarm_core::critics::Critics;
use swarm_core::curriculum::Amendment;
use swarm_core::ids::{Address, Hash, PeerId, SwarmId};
use swarm_core::manifest::Manifest;
use swarm_core::message::{
    Announcement, BodyKind, BodyRef, Card, EvmSignature, Payload, Phase, Plea, Position, Seal,
    WIRE_VERSION, verify,
};
use swarm_core::plan::{Plan, Standing};
use swarm_core::sim::{self, Scenario};
use swarm_core::transcript::Transcript;
use tasks::{Draw, EnvId, Seed};

/// Counts what this thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(change: impl Fn(usize) -> usize) {
    // A thread that is ending counts nothing.
    let _ = HELD.try_with(|held| {
        let now = change(held.get().0);
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: every call is the system allocator's, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|held| held + layout.size());
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(|held| held.saturating_sub(layout.size()));
        // SAFETY: `at` came from `alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that `work` held at once beyond what there was.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    work();
    HELD.with(|held| held.get().1 - before)
}

/// What a decoder may hold: a few times what came, and a fixed part for the space
/// that is set aside for a sequence whose length the bytes only claim (serde's own
/// limit for it is a mebibyte; a plan or an amendment has such within another).
fn allowed(bytes: usize) -> usize {
    32 * bytes + 3 * 1024 * 1024
}

/// Mutations of each sample.
const MUTATIONS: u64 = 600;

/// A sample with a few things done to it.
fn mutated(sample: &[u8], dice: &mut Draw) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            bytes.push(dice.next_u64() as u8);
        }
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(7) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, dice.next_u64() as u8),
            4 => drop(bytes.remove(at)),
            // The largest number a varint holds: a length, where one stands there.
            5 => drop(bytes.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            _ => {
                let until = (at + dice.below(64) as usize).min(bytes.len());
                let again = bytes[at..until].to_vec();
                bytes.extend(again);
            }
        }
    }
    bytes
}

fn noise(dice: &mut Draw) -> Vec<u8> {
    let length = dice.below(2_000);
    (0..length).map(|_| dice.next_u64() as u8).collect()
}

/// Tries a decoder on a valid sample, on mutations of it, and on noise. It says
/// whether it read the bytes, and checks by itself that it writes the same.
fn try_out(name: &str, sample: &[u8], decode: impl Fn(&[u8]) -> bool) {
    assert!(decode(sample), "{name}: its own bytes are refused");
    for round in 0..MUTATIONS {
        let mut dice = Seed::derive(&[name.as_bytes(), &round.to_le_bytes()]).draw();
        let bytes = match round % 8 {
            0 => noise(&mut dice),
            _ => mutated(sample, &mut dice),
        };
        let most = peak(|| {
            decode(&bytes);
        });
        let allowed = allowed(bytes.len());
        assert!(
            most <= allowed,
            "{name}, mutation {round}: {most} bytes held for {} that came",
            bytes.len()
        );
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

const SWARM: SwarmId = SwarmId([3; 32]);

/// One of each payload, and the largest where that matters.
fn payloads(amendment: &Amendment) -> Vec<(&'static str, Payload)> {
    let body = BodyRef {
        hash: Hash([9; 32]),
        bytes: 1_000,
    };
    let mut entries: Vec<Hash> = (0..192u8).map(|n| Hash([n; 32])).collect();
    entries.sort();
    let plea = Plea {
        by_peer: [1; 64],
        deadline_s: 1_800_000_000,
        registration: EvmSignature([2; 65]),
        joining: EvmSignature([3; 65]),
    };
    vec![
        (
            "hello",
            Payload::Hello {
                address: Address([4; 20]),
                name: "quiet-reed".into(),
                plea: Some(Box::new(plea)),
                curriculum: 2,
            },
        ),
        (
            "have",
            Payload::Have {
                kind: BodyKind::Resolve,
                body,
            },
        ),
        ("commit", Payload::Commit { body }),
        ("inclusion", Payload::Inclusion { entries }),
        (
            "sealed",
            Payload::Sealed(Seal {
                seal: Hash([7; 32]),
                signature: EvmSignature([8; 65]),
            }),
        ),
        (
            "attestation",
            Payload::Attestation(Card {
                included: Hash([5; 32]),
                scores: (0..64).map(|n| (Address([n; 20]), 1_000)).collect(),
                signature: EvmSignature([6; 65]),
            }),
        ),
        (
            "checkpoint",
            Payload::Checkpoint {
                hash: Hash([8; 32]),
                step: 77,
            },
        ),
        ("leave", Payload::Leave),
        ("amendment", Payload::Amendment(Box::new(amendment.clone()))),
        ("plan", Payload::Plan { plan: body }),
    ]
}

fn announced(payload: Payload) -> Vec<u8> {
    let announcement = Announcement {
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
    };
    announcement.sign(&key()).expect("it is small enough")
}

#[test]
fn no_decoder_panics_takes_too_much_or_reads_what_it_would_not_write() {
    let mut scenario = Scenario::new(7, 4, 2);
    let manifest = scenario.manifest.clone();
    // An environment of no version: what it is does not matter to the bytes.
    let mut courses = manifest.curriculum[..1].to_vec();
    courses[0].env = EnvId([5; 32]);
    let amendment = Amendment::sign(&key(), SWARM, 1, 2, courses);
    scenario.rounds = 2;
    let report = sim::run(&scenario);
    let transcript = report.transcripts.values().next().expect("rounds settled");
    let mut golden = Vec::new();
    let mut of = |name: &'static str, bytes: &[u8]| {
        golden.push(format!(
            "{name} {} {}",
            bytes.len(),
            Hash::of(bytes).to_hex()
        ));
    };

    for (name, payload) in payloads(&amendment) {
        let wire = announced(payload);
        of(name, &wire);
        try_out(name, &wire, |bytes| {
            let read = verify(bytes, SWARM);
            if let Ok(Some(read)) = &read {
                let again = read.sign(&key()).expect("it was small enough");
                assert_eq!(again[64..], bytes[64..], "{name} is written otherwise");
            }
            matches!(read, Ok(Some(_)))
        });
    }

    let canonical = manifest.canonical();
    try_out("manifest", &canonical, |bytes| {
        let read = Manifest::outline(bytes);
        // Whatever it holds, checking it does not panic either.
        let _ = Manifest::from_canonical(bytes, &scenario.registry);
        read.is_ok_and(|read| read.canonical() == bytes)
    });
    let kept = amendment.encode();
    of("kept amendment", &kept);
    try_out("kept amendment", &kept, |bytes| {
        let read = Amendment::decode(bytes);
        read.is_ok_and(|read| read.encode() == bytes)
    });
    let plan = Plan {
        amendment: Some(Box::new(amendment)),
        standings: vec![Standing {
            level: 2,
            rate: 700_000,
        }],
        critics: Critics::default(),
    };
    let (_, planned) = plan.encode();
    of("plan body", &planned);
    try_out("plan body", &planned, |bytes| {
        let read = Plan::decode(bytes);
        read.is_ok_and(|read| read.encode().1 == bytes)
    });
    let limit = manifest.limits.body_bytes;
    for (name, at) in [
        ("first body", 0),
        ("last body", transcript.bodies.len() - 1),
    ] {
        let bytes = &transcript.bodies[at];
        try_out(name, bytes, |bytes| {
            let read = body::decode(bytes, limit);
            read.is_ok_and(|read| read.encode().1 == bytes)
        });
    }
    let most = Transcript::limit(&manifest);
    try_out("transcript", &transcript.encode(), |bytes| {
        Transcript::decode(bytes, most).is_ok()
    });

    assert_eq!(golden.join("\n"), GOLDEN.trim(), "the wire has changed");
}

/// Name, length and hash of valid bytes.
const GOLDEN: &str = "
hello 368 0479a232f2457f8908b0d136e6854d83346b084d0d6adc07c74c3e79de25af15
have 171 e2d14abac6ad436e8786c72ae07b572beff5156ee3a610676680f3115a506c0b
commit 170 00668a33d80f346b486bdb3f64370673342935b27e20a84d71aa77b33e3e78b4
inclusion 6282 194476add6795b065b798c4faf3899f87b234adf6d64c5f6d917aca887d5ab17
sealed 233 ea074b0817cabb2d8a536334e6ac04b39d1e9d8ad51d3f525a0b7b8df3394b41
attestation 1642 1b20490396346117635399d0d9483ca2962044c69501b9d167c07e138edb3131
checkpoint 169 c572b621f7a14fb07885c5d0673eee1070adbe6c8b27e3370e2d3e769283d939
leave 136 b09c118945b0ce6702d4fcaeae5760e4816e9af5db0d625d8b817bbcb8969499
amendment 270 00aa45a83e4f205f0e7f2aed4906ecb51b857b667974c2be98a53dcd853f5656
plan 170 744ea8677dc72ca16e0ca3cffb877a487140f097c5cd79994b271bb763eef979
kept amendment 134 f7c1ced5c9f93adc6e43165a0a8f216da202f548fa123095c8973d082e572258
plan body 145 8b99a0a0a6f7385cc764c714a8bbd5e5ba57aeb6e2ea0e3e1909ea7c179d665b
";
