//! A swarm in one thread: real machines, and a simulated network, policy and
//! chain around them. Everything follows from the scenario's seed, so whatever
//! goes wrong goes wrong again.
//!
//! ```
//! use swarm_core::sim::{Scenario, run};
//!
//! let report = run(&Scenario::new(7, 4, 2));
//! assert!(report.finished);
//! assert_eq!(report.settled.len(), 2);
//! ```

mod chain;
mod lies;
mod policy;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use tasks::{EnvId, Registry};

use crate::curriculum::{Amendment, Course};
use crate::event::{CourseView, Event, RoundSummary, ScoreRow};
use crate::ids::{Address, Hash, PeerId};
use crate::manifest::{
    AnswerPlan, Chain, Choice, CritiquePlan, Limits, Manifest, Pace, Quota, RULES, ResolvePlan,
    Stages, TrainingPlan,
};

use crate::round::TrainGroup;
use crate::transcript::Transcript;

pub use chain::Settled;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// How many peers.
    pub peers: usize,
    /// How many rounds.
    pub rounds: u64,
    /// The links between any two.
    pub link: Link,
    /// How long sampling and training take, at least and at most.
    pub work_ms: (u64, u64),
    /// How long until the others' transport gives up a peer that died; `None`:
    /// never, and only deadlines end the wait for it.
    pub notice_ms: Option<u64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// The swarm.
    pub manifest: Manifest,
    /// The environments there are.
    pub registry: Registry,
    /// The chance of a right answer at each level, in percent.
    pub skill: Vec<u64>,
    /// What the author signs, at which peer and when.
    pub amendments: Vec<(u64, usize, Amendment)>,
}

/// A link between two peers.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Latency at least and at most; drawn for each message, so that messages
    /// overtake each other.
    pub latency_ms: (u64, u64),
    /// Share of messages that are lost, in percent.
    pub loss: u64,
    /// Share of messages that arrive twice, in percent.
    pub twice: u64,
}

/// What goes wrong, and when.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A peer's process dies and loses everything but its identity.
    Crash {
        /// Which peer.
        peer: usize,
        /// When.
        at_ms: u64,
    },
    /// A peer starts (again) at this time; before it, it is not there, unless
    /// a crash says when it went.
    Start {
        /// Which peer.
        peer: usize,
        /// When.
        at_ms: u64,
    },
    /// Nobody, or nobody but some, reaches the chain.
    ChainDown {
        /// From when.
        from_ms: u64,
        /// Until when.
        until_ms: u64,
        /// Who cannot; all if empty.
        peers: BTreeSet<usize>,
    },
    /// Messages pass only within the group and within the rest.
    Partition {
        /// From when.
        from_ms: u64,
        /// Until when.
        until_ms: u64,
        /// One side.
        group: BTreeSet<usize>,
    },
    /// A peer does not know an environment, and can't get it for a while.
    Lacks {
        /// Which peer.
        peer: usize,
        /// Which environment.
        env: EnvId,
        /// Until when.
        until_ms: u64,
    },
    /// A peer lies.
    Liar {
        /// Which peer.
        peer: usize,
        /// How.
        lie: Lie,
    },
}

/// How a peer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It answers another level than the one drawn.
    EasierItems,
    /// Its bodies are noise.
    Garbage,
    /// It tells each peer another hash.
    TwoFaced,
    /// It commits critiques and never shows them.
    Withhold,
    /// It lists nothing but its own, as a witness.
    OnlyMine,
    /// It signs scores that do not follow.
    FalseScores,
    /// It says it is far ahead.
    FarAhead,
    /// Its critiques say the opposite of what it finds.
    Contrary,
    /// It answers wrong whatever it knows, to keep levels low.
    Sandbag,
    /// It says it asks by another plan, and that it knows a newer curriculum.
    FalsePlan,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Whether every live peer came through all rounds in the simulated time.
    pub finished: bool,
    /// When the simulation ended.
    pub ended_ms: u64,
    /// What each peer told, and when.
    pub events: Vec<Vec<(u64, Event)>>,
    /// What the chain settled, by round.
    pub settled: BTreeMap<u64, Settled>,
    /// The peers' ids, in order.
    pub ids: Vec<PeerId>,
    /// The peers' addresses, in order.
    pub addresses: Vec<Address>,
    /// Announcements that were sent.
    pub messages: u64,
    /// What each peer trained on, round by round.
    pub trained: Vec<Vec<(u64, Vec<TrainGroup>)>>,
    /// What the rounds that a quorum listed can be checked by.
    pub transcripts: BTreeMap<u64, Transcript>,
}

impl Report {
    /// The rounds that ended on a peer, in order of ending.
    pub fn ended(&self, peer: usize) -> Vec<&RoundSummary> {
        let ended = |event: &'_ (u64, Event)| matches!(event.1, Event::RoundEnded(_));
        let events = self.events[peer].iter().filter(|event| ended(event));
        events
            .filter_map(|(_, event)| match event {
                Event::RoundEnded(summary) => Some(summary),
                _ => None,
            })
            .collect()
    }

    /// Every scoreboard that any peer reached, by round and included set.
    pub fn scoreboards(&self) -> BTreeMap<(u64, Hash), Vec<&[ScoreRow]>> {
        let mut boards: BTreeMap<(u64, Hash), Vec<&[ScoreRow]>> = BTreeMap::new();
        for (_, event) in self.events.iter().flatten() {
            if let Event::Judged {
                round,
                included,
                rows,
                ..
            } = event
            {
                boards.entry((*round, *included)).or_default().push(rows);
            }
        }
        boards
    }

    /// What a peer asked from which round on: the amendment and the courses.
    pub fn curricula(&self, peer: usize) -> BTreeMap<u64, (u32, &[CourseView])> {
        let events = self.events[peer].iter();
        events
            .filter_map(|(_, event)| match event {
                Event::Curriculum {
                    round,
                    amendment,
                    courses,
                    ..
                } => Some((*round, (*amendment, courses.as_slice()))),
                _ => None,
            })
            .collect()
    }

    /// How often a peer refused something, by reason.
    pub fn refusals(&self, peer: usize) -> BTreeMap<&str, usize> {
        let mut refusals = BTreeMap::new();
        for (_, event) in &self.events[peer] {
            if let Event::Rejected { reason, .. } = event {
                *refusals.entry(reason.as_str()).or_default() += 1;
            }
        }
        refusals
    }
}

impl Scenario {
    /// A scenario in which nothing goes wrong.
    pub fn new(seed: u64, peers: usize, rounds: u64) -> Self {
        Self {
            seed,
            peers,
            rounds,
            link: Link {
                latency_ms: (1, 20),
                loss: 0,
                twice: 0,
            },
            work_ms: (50, 400),
            notice_ms: None,
            faults: Vec::new(),
            manifest: manifest(),
            registry: Registry::builtin(),
            skill: vec![55],
            amendments: Vec::new(),
        }
    }
}

/// A small swarm: few items, short stages, a chain.
pub fn manifest() -> Manifest {
    let curriculum = Registry::builtin()
        .ids()
        .map(|env| Course {
            env,
            level: 1,
            weight: 1,
            climb: None,
        })
        .collect();
    let quota = Quota {
        local: 2,
        external: 2,
    };
    Manifest {
        rules: RULES,
        name: "simulated".into(),
        pace: Pace::Eager,
        stages: Stages {
            join_ms: 2_000,
            open_ms: 2_000,
            answer_ms: 5_000,
            critique_ms: 5_000,
            reveal_ms: 3_000,
            resolve_ms: 5_000,
            judge_ms: 4_000,
            train_ms: 5_000,
            settle_ms: 12_000,
            relay_ms: 300,
            repeat_ms: 250,
        },
        curriculum,
        author: None,
        answer: AnswerPlan {
            size: 4,
            own: 2,
            common: 1,
        },
        critique: CritiquePlan { groups: 3, size: 2 },
        resolve: ResolvePlan {
            groups: 1,
            size: 4,
            read: 3,
        },
        training: TrainingPlan {
            steps: 1,
            per_peer: 2,
            choice: Choice::default(),
            answers: quota,
            critiques: quota,
            resolutions: quota,
        },
        limits: Limits {
            peers: 64,
            body_bytes: 64 * 1024,
            completion_bytes: 2_048,
            messages: 2_000,
        },
        chain: Some(Chain {
            chain_id: 31_337,
            registry: Address([1; 20]),
            ledger: Address([2; 20]),
            author: None,
            sealed: false,
        }),
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Report {
    world::World::new(scenario).run()
}
