//! One behaviour a test: a machine is driven by hand through one round.

mod asking;
mod peers;
mod settling;
mod stages;

use std::collections::BTreeSet;

use tasks::Registry;

use super::*;
use crate::body::{AnswerGroup, Batch, Body, Completion, CritiqueGroup, Header};
use crate::draw;
use crate::event::{LogLevel, Stage};
use crate::ids::Beacon;
use crate::ids::{Hash, TxHash};
use crate::manifest::Manifest;
use crate::message::{BodyKind, BodyRef, Card, EvmSignature, Plea, Seal};
use crate::plan::Plan;
use crate::score::UNSCORED;
use crate::sim;
use crate::transcript::Transcript;

const BEACON: Beacon = Beacon([6; 32]);

fn peer(index: u8) -> PeerId {
    PeerId([index; 32])
}

fn address(index: u8) -> Address {
    Address([index; 20])
}

/// A machine and its surroundings: peers 2, 3 and 4 are played by the test.
struct Driver {
    machine: Machine,
    now: u64,
    sequence: u64,
    effects: Vec<Effect>,
    /// The newest transcript it was told to keep.
    recorded: Option<Transcript>,
}

impl Driver {
    /// Peer 1, in the answer stage of round 1 with peers 2, 3 and 4, all four
    /// witnesses.
    fn answering() -> Self {
        let mut driver = Self::joining();
        for index in 2..=4 {
            driver.say(index, 1, Phase::Join, hello(index));
        }
        assert!(driver.took(|e| matches!(e, Effect::OpenRound { round: 1 })));
        driver.open(1);
        assert_eq!(driver.machine.position().phase, Phase::Answer);
        driver
    }

    fn joining() -> Self {
        Self::joining_to(sim::manifest())
    }

    fn joining_to(manifest: Manifest) -> Self {
        let mut driver = Self {
            machine: Machine::new(Config {
                me: peer(1),
                address: address(1),
                name: "one".into(),
                plea: None,
                secret: [1; 32],
                local: BTreeSet::new(),
                manifest,
                registry: Registry::builtin(),
            }),
            now: 1_000,
            sequence: 0,
            effects: Vec::new(),
            recorded: None,
        };
        driver.feed(Input::Start {
            first_round: 1,
            last_round: None,
            expect: 3,
        });
        driver
    }

    fn open(&mut self, round: u64) {
        self.feed(Input::RoundOpened {
            round,
            beacon: BEACON,
            committee: (1..=4).map(|index| (peer(index), address(index))).collect(),
            settled: Vec::new(),
        });
    }

    fn feed(&mut self, input: Input) {
        self.effects = self.machine.handle(self.now, input);
        for effect in &self.effects {
            if let Effect::Record { transcript, .. } = effect {
                self.recorded = Some(transcript.clone());
            }
        }
    }

    /// Lets time pass, and the timer go off.
    fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.feed(Input::Tick);
    }

    /// A peer says something about round 1.
    fn say(&mut self, index: u8, round: u64, phase: Phase, payload: Payload) {
        self.sequence += 1;
        self.feed(Input::Announcement(Announcement {
            version: WIRE_VERSION,
            swarm: self.machine.swarm(),
            round,
            peer: peer(index),
            sequence: self.sequence,
            at: Position { round, phase },
            payload,
        }));
    }

    /// A peer announces a body, and gives it when asked.
    fn give(&mut self, index: u8, phase: Phase, body: &Body) {
        let (hash, bytes) = body.encode();
        self.say(index, 1, phase, have(body));
        if self.took(|effect| matches!(effect, Effect::Fetch { hash: h, .. } if *h == hash)) {
            self.feed(Input::Body { hash, bytes });
        }
    }

    fn took(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }

    /// What was refused by the last input, and why.
    fn refusal(&self) -> Option<&str> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Emit(Event::Rejected { reason, .. }) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// What this peer said by the last input.
    fn said(&self, wanted: impl Fn(&Payload) -> bool) -> bool {
        self.took(|effect| matches!(effect, Effect::Publish(a) if wanted(&a.payload)))
    }

    /// This peer's policy does what it was asked.
    fn sample(&mut self, kind: BodyKind) {
        let size = match kind {
            BodyKind::Critique => 2,
            _ => 4,
        };
        let asked = self.machine.round().unwrap().asked.clone().unwrap();
        let groups = match asked {
            state::Asked::Answers(slots) => slots.len(),
            state::Asked::Critiques(targets) => targets.len(),
            state::Asked::Resolutions(reads) => reads.len(),
        };
        let text = match kind {
            BodyKind::Critique => "<verdict>right</verdict>",
            _ => "<answer>1</answer>",
        };
        self.feed(Input::Sampled {
            round: 1,
            kind,
            groups: vec![completions(size, text); groups],
        });
    }

    /// All four answered.
    fn critiquing() -> Self {
        let mut driver = Self::answering();
        driver.sample(BodyKind::Answer);
        for index in 2..=4 {
            driver.give(index, Phase::Answer, &answers(index));
        }
        assert_eq!(driver.machine.position().phase, Phase::Commit);
        driver
    }

    /// All four critiqued.
    fn resolving() -> Self {
        let mut driver = Self::critiquing();
        driver.sample(BodyKind::Critique);
        for index in 2..=4 {
            driver.say(index, 1, Phase::Commit, commit(&critiques(index)));
        }
        for index in 2..=4 {
            driver.give(index, Phase::Reveal, &critiques(index));
        }
        assert_eq!(driver.machine.position().phase, Phase::Resolve);
        driver
    }

    /// All four resolved; this peer has listed what it saw.
    fn judging() -> Self {
        let mut driver = Self::resolving();
        driver.sample(BodyKind::Resolve);
        for index in 2..=4 {
            driver.give(index, Phase::Resolve, &resolutions(index));
        }
        assert_eq!(driver.machine.position().phase, Phase::Judge);
        driver
    }

    fn own_list(&self) -> Vec<Hash> {
        let lists = &self.machine.round().unwrap().lists;
        lists[&peer(1)].iter().copied().collect()
    }

    /// Everyone listed the same; this peer signed its card and trains.
    fn training() -> Self {
        let mut driver = Self::judging();
        let entries = driver.own_list();
        for index in 2..=4 {
            let entries = entries.clone();
            driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
        }
        let request = driver.effects.iter().find_map(|effect| match effect {
            Effect::SignScorecard(request) => Some(request.clone()),
            _ => None,
        });
        let request = request.expect("a witness with a quorum signs");
        driver.feed(Input::CardSigned {
            round: 1,
            included: request.included,
            signature: EvmSignature([1; 65]),
            seal: None,
        });
        assert!(driver.said(|payload| matches!(payload, Payload::Attestation(_))));
        driver
    }

    /// The card that peer `index` signs if it agrees.
    fn card(&self, index: u8) -> Card {
        let judged = self.machine.round().unwrap().judged.as_ref().unwrap();
        Card {
            included: judged.included.unwrap(),
            scores: crate::score::card(&judged.rows, address(index)),
            signature: EvmSignature([index; 65]),
        }
    }
}

fn hello(index: u8) -> Payload {
    Payload::Hello {
        address: address(index),
        name: format!("peer {index}"),
        plea: None,
        curriculum: 0,
    }
}

fn completions(count: u16, text: &str) -> Vec<Completion> {
    let completion = |_| Completion {
        text: text.into(),
        finished: true,
    };
    (0..count).map(completion).collect()
}

fn batch<G>(index: u8, groups: Vec<G>) -> Batch<G> {
    Batch {
        header: Header {
            round: 1,
            beacon: BEACON,
            plan: Plan::first(&sim::manifest()).hash(),
            peer: peer(index),
            address: address(index),
        },
        salt: [0; 32],
        groups,
    }
}

fn answers(index: u8) -> Body {
    let manifest = sim::manifest();
    let group = |slot| {
        let drawn = draw::item(&manifest, BEACON, peer(index), slot).unwrap();
        AnswerGroup {
            slot,
            env: drawn.env,
            level: drawn.level,
            completions: completions(4, "<answer>1</answer>"),
        }
    };
    Body::Answer(batch(index, draw::slots(&manifest).map(group).collect()))
}

fn critiques(index: u8) -> Body {
    let manifest = sim::manifest();
    let answered = (1..=4).map(|index| (peer(index), draw::slots(&manifest).collect()));
    let targets = draw::reading(&manifest, BEACON, peer(index), answered);
    let group = |target| CritiqueGroup {
        target,
        completions: completions(2, "<verdict>wrong</verdict>"),
    };
    Body::Critique(batch(index, targets.into_iter().map(group).collect()))
}

fn resolutions(index: u8) -> Body {
    Body::Resolve(batch(index, Vec::new()))
}

fn reference(body: &Body) -> BodyRef {
    let (hash, bytes) = body.encode();
    BodyRef {
        hash,
        bytes: u32::try_from(bytes.len()).unwrap(),
    }
}

fn have(body: &Body) -> Payload {
    Payload::Have {
        kind: body.kind(),
        body: reference(body),
    }
}

fn commit(body: &Body) -> Payload {
    Payload::Commit {
        body: reference(body),
    }
}
