//! One behaviour a test: a machine is driven by hand through one round.

use std::collections::BTreeSet;

use tasks::Registry;

use super::*;
use crate::body::{AnswerGroup, Batch, Body, Completion, CritiqueGroup, Header};
use crate::draw;
use crate::event::{LogLevel, Stage};
use crate::ids::{Hash, TxHash};
use crate::message::{BodyKind, BodyRef, Card, EvmSignature};
use crate::score::UNSCORED;
use crate::sim;

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
        let mut driver = Self {
            machine: Machine::new(Config {
                me: peer(1),
                address: address(1),
                name: "one".into(),
                registration: EvmSignature([0; 65]),
                secret: [1; 32],
                local: BTreeSet::new(),
                manifest: sim::manifest(),
                registry: Registry::builtin(),
            }),
            now: 1_000,
            sequence: 0,
            effects: Vec::new(),
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
        });
    }

    fn feed(&mut self, input: Input) {
        self.effects = self.machine.handle(self.now, input);
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
        registration: EvmSignature([0; 65]),
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

#[test]
fn a_round_begins_when_the_expected_peers_are_heard_or_the_wait_is_over() {
    let mut heard = Driver::joining();
    heard.say(2, 1, Phase::Join, hello(2));
    heard.say(3, 1, Phase::Join, hello(3));
    assert_eq!(heard.machine.position().phase, Phase::Join);
    heard.say(4, 1, Phase::Join, hello(4));
    assert_eq!(heard.machine.position().phase, Phase::Open);
    let mut alone = Driver::joining();
    alone.wait(1_999);
    assert_eq!(alone.machine.position().phase, Phase::Join);
    alone.wait(1);
    assert_eq!(alone.machine.position().phase, Phase::Open);
}

#[test]
fn the_answer_stage_asks_for_every_slot_the_common_ones_first() {
    let driver = Driver::joining();
    assert!(driver.said(|payload| matches!(payload, Payload::Hello { .. })));
    let driver = Driver::answering();
    let requests = driver.effects.iter().find_map(|effect| match effect {
        Effect::Sample { requests, .. } => Some(requests),
        _ => None,
    });
    let labels: Vec<&str> = requests.unwrap().iter().map(|r| r.label.as_str()).collect();
    assert_eq!(labels, ["common 0", "own 0", "own 1"]);
    let seeds: BTreeSet<u64> = requests.unwrap().iter().map(|r| r.seed).collect();
    assert_eq!(seeds.len(), 3);
}

#[test]
fn a_stage_ends_at_its_deadline_and_who_missed_it_is_absent_until_heard() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.wait(4_999);
    assert_eq!(driver.machine.position().phase, Phase::Answer);
    driver.wait(1);
    assert_eq!(driver.machine.position().phase, Phase::Commit);
    let absent = |who| move |effect: &Effect| matches!(effect, Effect::Emit(Event::PeerAbsent { who: w, stage: Stage::Answer, .. }) if *w == who);
    assert!(driver.took(absent(peer(4))));
    assert!(!driver.took(absent(peer(2))));
    assert!(!driver.machine.roster().get(&peer(4)).unwrap().present);
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    assert!(driver.machine.roster().get(&peer(4)).unwrap().present);
}

#[test]
fn late_answers_are_not_listed_but_their_author_takes_part_again() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.wait(5_000);
    driver.say(4, 1, Phase::Answer, have(&answers(4)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    assert_eq!(driver.refusal(), None);
    driver.sample(BodyKind::Critique);
    for index in 2..=4 {
        driver.say(index, 1, Phase::Commit, commit(&critiques(index)));
    }
    assert_eq!(driver.machine.position().phase, Phase::Reveal);
    for index in 2..=4 {
        driver.give(index, Phase::Reveal, &critiques(index));
    }
    let witnessed = driver.machine.round().unwrap().witnessed();
    assert!(!witnessed.contains(&reference(&answers(4)).hash));
    assert!(witnessed.contains(&reference(&critiques(4)).hash));
}

#[test]
fn samples_that_come_after_the_stage_are_not_announced() {
    let mut driver = Driver::answering();
    driver.wait(5_000);
    driver.feed(Input::Sampled {
        round: 1,
        kind: BodyKind::Answer,
        groups: vec![completions(4, "x"); 3],
    });
    assert!(!driver.said(|payload| matches!(payload, Payload::Have { .. })));
}

#[test]
fn too_few_samples_are_fewer_groups_not_shorter_ones() {
    let mut driver = Driver::answering();
    let groups = vec![completions(4, "x"), completions(3, "x")];
    driver.feed(Input::Sampled {
        round: 1,
        kind: BodyKind::Answer,
        groups,
    });
    let round = driver.machine.round().unwrap();
    let body = round.body(peer(1), BodyKind::Answer).unwrap();
    assert_eq!(body.completions(), 4);
    assert_eq!(body.check(&sim::manifest()), Ok(()));
}

#[test]
fn critiques_are_shown_only_when_all_have_committed() {
    let mut driver = Driver::critiquing();
    driver.sample(BodyKind::Critique);
    assert!(driver.said(|payload| matches!(payload, Payload::Commit { .. })));
    let shown = |driver: &Driver| {
        driver.took(|effect| matches!(effect, Effect::Serve { .. }))
            || driver.said(|payload| matches!(payload, Payload::Have { .. }))
    };
    assert!(!shown(&driver));
    driver.say(2, 1, Phase::Commit, commit(&critiques(2)));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    assert!(!shown(&driver));
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    assert!(shown(&driver));
}

#[test]
fn critiques_that_were_not_committed_in_time_do_not_count() {
    let mut driver = Driver::critiquing();
    driver.sample(BodyKind::Critique);
    driver.say(2, 1, Phase::Commit, commit(&critiques(2)));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    driver.wait(5_000);
    assert_eq!(driver.machine.position().phase, Phase::Reveal);
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    driver.say(4, 1, Phase::Reveal, have(&critiques(4)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
}

#[test]
fn a_reveal_may_overtake_its_commitment_but_not_differ_from_it() {
    let mut driver = Driver::critiquing();
    driver.say(2, 1, Phase::Reveal, have(&critiques(2)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    driver.say(2, 1, Phase::Reveal, commit(&critiques(2)));
    assert!(driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    driver.say(3, 1, Phase::Reveal, have(&critiques(4)));
    assert_eq!(driver.refusal(), Some("not as announced"));
}

#[test]
fn two_different_statements_where_one_is_due_are_refused() {
    let mut driver = Driver::answering();
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    assert_eq!(driver.refusal(), None, "a repetition");
    driver.say(2, 1, Phase::Answer, have(&answers(3)));
    assert_eq!(driver.refusal(), Some("equivocation"));
    let mut driver = Driver::judging();
    let entries = driver.own_list();
    driver.say(2, 1, Phase::Judge, Payload::Inclusion { entries });
    let entries = Vec::new();
    driver.say(2, 1, Phase::Judge, Payload::Inclusion { entries });
    assert_eq!(driver.refusal(), Some("equivocation"));
}

#[test]
fn a_body_that_is_not_what_was_announced_is_refused() {
    let mut driver = Driver::answering();
    let (_, bytes) = answers(2).encode();
    let mut announced = reference(&answers(2));
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    let hash = announced.hash;
    driver.feed(Input::Body {
        hash,
        bytes: bytes[1..].to_vec(),
    });
    assert_eq!(driver.refusal(), Some("not as announced"), "another hash");
    announced.bytes += 1;
    let body = announced;
    driver.say(3, 1, Phase::Answer, have(&answers(2)));
    assert_eq!(driver.refusal(), None);
    let mut driver = Driver::answering();
    driver.say(
        2,
        1,
        Phase::Answer,
        Payload::Have {
            kind: BodyKind::Answer,
            body,
        },
    );
    driver.feed(Input::Body {
        hash,
        bytes: bytes.clone(),
    });
    assert_eq!(driver.refusal(), Some("not as announced"), "another size");
    let mut driver = Driver::answering();
    driver.say(3, 1, Phase::Answer, have(&answers(2)));
    driver.feed(Input::Body { hash, bytes });
    assert_eq!(driver.refusal(), Some("not as announced"), "another author");
    assert!(
        driver
            .machine
            .round()
            .unwrap()
            .is_in(peer(3), BodyKind::Answer),
        "not waited for"
    );
}

#[test]
fn an_oversize_body_is_refused_before_it_is_fetched() {
    let mut driver = Driver::answering();
    let body = BodyRef {
        hash: Hash([9; 32]),
        bytes: 64 * 1024 + 1,
    };
    driver.say(
        2,
        1,
        Phase::Answer,
        Payload::Have {
            kind: BodyKind::Answer,
            body,
        },
    );
    assert_eq!(driver.refusal(), Some("oversize"));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
}

#[test]
fn a_body_of_another_beacon_is_set_aside_not_refused() {
    let mut driver = Driver::answering();
    let Body::Answer(mut batch) = answers(2) else {
        unreachable!("answers are answers");
    };
    batch.header.beacon = Beacon([7; 32]);
    driver.give(2, Phase::Answer, &Body::Answer(batch));
    assert_eq!(driver.refusal(), None);
    let round = driver.machine.round().unwrap();
    assert!(round.is_in(peer(2), BodyKind::Answer), "not waited for");
    assert!(round.witnessed().is_empty());
}

#[test]
fn a_fetch_that_fails_is_tried_again_and_then_with_others() {
    let mut driver = Driver::answering();
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    let hash = reference(&answers(2)).hash;
    let from = |driver: &Driver| {
        driver.effects.iter().find_map(|effect| match effect {
            Effect::Fetch { from, .. } => Some(from.clone()),
            _ => None,
        })
    };
    assert_eq!(from(&driver), Some(vec![peer(2)]));
    driver.feed(Input::FetchFailed { hash });
    assert_eq!(from(&driver), None);
    driver.wait(250);
    let providers = from(&driver).unwrap();
    assert_eq!(providers[0], peer(2));
    assert_eq!(providers.len(), 3, "{providers:?}");
}

#[test]
fn a_flood_is_refused_and_shown_a_few_times() {
    let mut driver = Driver::answering();
    let mut shown = 0;
    for _ in 0..3_000 {
        driver.say(2, 1, Phase::Answer, have(&answers(2)));
        shown += usize::from(driver.refusal() == Some("over budget"));
    }
    assert_eq!(shown, 8);
    let refused = &driver.machine.roster().get(&peer(2)).unwrap().refused;
    assert!(refused["over budget"] > 900, "{refused:?}");
}

#[test]
fn only_witnesses_list_and_attest() {
    let mut driver = Driver::judging();
    driver.say(
        9,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: Vec::new(),
        },
    );
    assert_eq!(driver.refusal(), Some("not entitled"));
    let card = Card {
        included: Hash([1; 32]),
        scores: Vec::new(),
        signature: EvmSignature([0; 65]),
    };
    driver.say(9, 1, Phase::Judge, Payload::Attestation(card));
    assert_eq!(driver.refusal(), Some("not entitled"));
}

#[test]
fn a_body_counts_when_more_than_two_thirds_of_the_witnesses_list_it() {
    let mut driver = Driver::judging();
    let mut entries = driver.own_list();
    let everything = entries.len();
    driver.say(
        2,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: entries.clone(),
        },
    );
    let dropped = entries.pop().unwrap();
    driver.say(
        3,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: entries.clone(),
        },
    );
    driver.say(4, 1, Phase::Judge, Payload::Inclusion { entries });
    let judged = driver.machine.round().unwrap().judged.as_ref().unwrap();
    assert_eq!(judged.entries.len(), everything - 1);
    assert!(!judged.entries.contains(&dropped));
}

#[test]
fn a_listed_body_that_never_came_is_fetched_from_those_who_list_it() {
    let mut driver = Driver::judging();
    let mut entries = driver.own_list();
    entries.push(Hash([0xff; 32]));
    for index in 2..=4 {
        let entries = entries.clone();
        driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
    }
    let asked = driver.effects.iter().find_map(|effect| match effect {
        Effect::Fetch { hash, from, .. } if *hash == Hash([0xff; 32]) => Some(from.clone()),
        _ => None,
    });
    assert_eq!(asked, Some(vec![peer(2), peer(3), peer(4)]));
    assert_eq!(driver.machine.position().phase, Phase::Judge);
    driver.wait(4_000);
    // It did not come: the round is judged for training, and nothing signed.
    assert_eq!(driver.machine.position().phase, Phase::Train);
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
    assert!(driver.took(|effect| matches!(effect, Effect::Train { .. })));
}

#[test]
fn a_witness_leaves_itself_out_and_is_refused_if_it_does_not() {
    let mut driver = Driver::training();
    let own = driver.machine.round().unwrap().cards[&peer(1)].clone();
    let score = |card: &Card, index| {
        let row = card.scores.iter().find(|(a, _)| *a == address(index));
        row.unwrap().1
    };
    assert_eq!(score(&own, 1), UNSCORED);
    assert!(score(&own, 2) <= 1_000_000);
    let mut vain = driver.card(2);
    vain.scores = own.scores;
    driver.say(2, 1, Phase::Train, Payload::Attestation(vain));
    assert_eq!(driver.refusal(), Some("not entitled"));
}

#[test]
fn a_quorum_of_equal_cards_is_relayed_once_and_the_round_ends_when_it_is_settled() {
    let mut driver = Driver::training();
    for index in 2..=4 {
        let card = driver.card(index);
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
        let agrees = driver
            .took(|effect| matches!(effect, Effect::Emit(Event::Attested { agrees: true, .. })));
        assert!(agrees, "peer {index}");
    }
    let mut sent = 0;
    for _ in 0..20 {
        sent += usize::from(driver.took(|effect| match effect {
            Effect::Settle(settlement) => {
                assert_eq!(settlement.cards.len(), 4);
                assert!(settlement.cards.is_sorted_by_key(|(witness, _)| *witness));
                true
            }
            _ => false,
        }));
        driver.wait(300);
    }
    assert_eq!(sent, 1);
    let tx = TxHash([8; 32]);
    driver.feed(Input::Trained {
        round: 1,
        checkpoint: None,
    });
    driver.feed(Input::Settled { round: 1, tx });
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::RoundEnded(summary)) if summary.settled && summary.tx == Some(tx)
    )));
    assert!(driver.machine.is_done() || driver.machine.position().round == 2);
}

#[test]
fn who_hears_of_a_settlement_does_not_relay_it() {
    let mut driver = Driver::training();
    driver.feed(Input::Settled {
        round: 1,
        tx: TxHash([8; 32]),
    });
    for index in 2..=4 {
        let card = driver.card(index);
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
    }
    for _ in 0..20 {
        assert!(!driver.took(|effect| matches!(effect, Effect::Settle(_))));
        driver.wait(300);
    }
}

#[test]
fn a_quorum_for_another_set_is_judged_too_and_false_scores_are_told() {
    let mut driver = Driver::judging();
    let entries = driver.own_list();
    let fewer = entries[1..].to_vec();
    for (index, entries) in [(2, entries.clone()), (3, fewer.clone())] {
        driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
    }
    driver.wait(4_000);
    let judged = |driver: &Driver| driver.machine.round().unwrap().judged.clone().unwrap();
    assert_eq!(judged(&driver).entries.len(), fewer.len());
    // The last list comes late: now three of four list everything.
    let whole = driver
        .machine
        .judge_set(1, entries.iter().copied().collect(), true);
    let whole = whole.unwrap();
    driver.say(4, 1, Phase::Train, Payload::Inclusion { entries });
    assert_eq!(
        judged(&driver).entries.len(),
        fewer.len(),
        "one list moves nobody"
    );
    for index in 2..=4 {
        let mut card = Card {
            included: whole.included.unwrap(),
            scores: crate::score::card(&whole.rows, address(index)),
            signature: EvmSignature([index; 65]),
        };
        if index == 4 {
            let row = card.scores.iter_mut().find(|(a, _)| *a != address(4));
            row.unwrap().1 = 999_999;
        }
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
    }
    assert_eq!(judged(&driver).entries, whole.entries);
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::Log { level: LogLevel::Error, message, .. })
            if message.contains("1 of 3 scorecards do not follow")
    )));
    // Signed once a round: not again for their set.
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
}

#[test]
fn without_a_quorum_the_round_trains_says_why_and_ends() {
    let mut driver = Driver::judging();
    driver.wait(4_000);
    assert!(driver.took(|effect| matches!(effect, Effect::Train { .. })));
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
    driver.feed(Input::Trained {
        round: 1,
        checkpoint: None,
    });
    assert_eq!(driver.machine.position().round, 2);
    driver.wait(12_000);
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::Unsettled { round: 1, why }) if why.contains("1 of 4 witnesses")
    )));
    let ended = |effect: &Effect| matches!(effect, Effect::Emit(Event::RoundEnded(s)) if s.round == 1 && !s.settled);
    assert!(driver.took(ended));
}

#[test]
fn nobody_is_judged_by_their_own_verdicts_or_trained_on_what_all_earned_alike() {
    let driver = Driver::training();
    let judged = driver.machine.round().unwrap().judged.as_ref().unwrap();
    for score in &judged.board.critiques {
        assert_ne!(score.critic, score.target_owner);
    }
    // Everyone said the same everywhere: there is nothing to learn.
    assert!(judged.board.answers.iter().all(|group| !group.trainable));
}

#[test]
fn a_peer_that_is_behind_is_told_again_what_it_lacks() {
    let mut driver = Driver::resolving();
    driver.now += 300;
    driver.say(2, 1, Phase::Commit, hello(2));
    assert!(driver.said(|payload| matches!(payload, Payload::Commit { .. })));
    assert!(driver.said(|payload| matches!(
        payload,
        Payload::Have {
            kind: BodyKind::Critique,
            ..
        }
    )));
    assert!(!driver.said(|payload| matches!(
        payload,
        Payload::Have {
            kind: BodyKind::Answer,
            ..
        }
    )));
    // Not again at once.
    driver.say(2, 1, Phase::Commit, hello(2));
    assert!(!driver.said(|payload| matches!(payload, Payload::Commit { .. })));
}

#[test]
fn an_unanswered_announcement_is_repeated_ever_more_rarely() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    let mut repeated = Vec::new();
    for ms in (50..4_000).step_by(50) {
        driver.wait(50);
        if driver.said(|payload| matches!(payload, Payload::Have { .. })) {
            repeated.push(ms);
        }
    }
    assert_eq!(repeated, [250, 750, 1_750, 2_750, 3_750]);
}

#[test]
fn a_sequence_never_goes_back_even_if_the_clock_does() {
    let mut driver = Driver::answering();
    let mut last = 0;
    for step in 0..50u64 {
        driver.now = 10_000 - step * 100;
        driver.feed(Input::Tick);
        for effect in &driver.effects {
            if let Effect::Publish(announcement) = effect {
                assert!(announcement.sequence > last);
                last = announcement.sequence;
            }
        }
    }
    assert!(last > 0);
}

#[test]
fn an_early_tick_does_no_harm_and_asks_for_the_timer_again() {
    let mut driver = Driver::answering();
    let at = |driver: &Driver| {
        driver.effects.iter().find_map(|effect| match effect {
            Effect::SetTimer { at_ms } => Some(*at_ms),
            _ => None,
        })
    };
    let due = at(&driver).unwrap();
    driver.feed(Input::Tick);
    assert_eq!(driver.effects, [Effect::SetTimer { at_ms: due }]);
}

#[test]
fn leaving_is_said_and_then_nothing_more() {
    let mut driver = Driver::answering();
    driver.feed(Input::Stop);
    assert!(driver.said(|payload| *payload == Payload::Leave));
    driver.wait(60_000);
    assert!(driver.effects.is_empty());
    // A peer that left is not waited for.
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.say(4, 1, Phase::Answer, Payload::Leave);
    assert_eq!(driver.machine.position().phase, Phase::Commit);
}
