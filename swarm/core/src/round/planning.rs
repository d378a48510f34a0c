//! What is asked in each round: the plan that follows from settled rounds and
//! from the author's word, how amendments spread, and what a peer does that
//! cannot work the plan out, because it was away, or lacks a body or an
//! environment: it takes the one that most witnesses say they ask by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tasks::{EnvId, Environment};

use super::{Effect, Machine};
use crate::curriculum::{Amendment, Course};
use crate::event::{CourseView, Event, LogLevel};
use crate::ids::{Hash, PeerId};
use crate::manifest::Manifest;
use crate::message::{BodyRef, Payload, Phase, Position};
use crate::plan::{Evidence, MAX_PLAN, Plan, SettledSet, by_critics, derive};
use crate::refusal::{Outcome, RejectReason};
use crate::transcript::Transcript;

/// Judged rounds that are remembered: far more than settle between a round's
/// opening and the one's that follows from it.
const KEPT_EVIDENCE: usize = 64;
/// Amendments that are remembered, the newest.
const KEPT_AMENDMENTS: usize = 16;
/// Who has said that it waits so many times over has not been told either.
const WAITS_REPEATED: u64 = 4;
/// Plans of others that are fetched at a time, and kept.
const KEPT_PLANS: usize = 8;

/// What this peer knows of what is asked.
pub(super) struct Planning {
    /// By which the last round was asked.
    last: Arc<Plan>,
    evidence: BTreeMap<SettledSet, Evidence>,
    amendments: BTreeMap<u32, Amendment>,
    /// When an amendment was last passed on.
    told_ms: Option<u64>,
    /// Plans that were fetched.
    plans: BTreeMap<Hash, Plan>,
    asked: BTreeSet<Hash>,
    /// Environments that were asked for.
    obtaining: BTreeSet<EnvId>,
    /// A plan or an amendment is waited for.
    waiting: bool,
    shown: bool,
}

impl Planning {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            last: Arc::new(Plan::first(manifest)),
            evidence: BTreeMap::new(),
            amendments: BTreeMap::new(),
            told_ms: None,
            plans: BTreeMap::new(),
            asked: BTreeSet::new(),
            obtaining: BTreeSet::new(),
            waiting: false,
            shown: false,
        }
    }

    /// The newest amendment that is known; 0 for none.
    pub(super) fn newest(&self) -> u32 {
        self.amendments.keys().next_back().copied().unwrap_or(0)
    }

    /// The amendment that holds in a round, as far as is known here.
    fn holding(&self, round: u64) -> Option<&Amendment> {
        let mut known = self.amendments.values().rev();
        known.find(|amendment| amendment.from <= round)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    fn keep_evidence(&mut self, set: SettledSet, evidence: Evidence) {
        self.evidence.insert(set, evidence);
        while self.evidence.len() > KEPT_EVIDENCE {
            self.evidence.pop_first();
        }
    }
}

impl Machine {
    /// The manifest as it holds in a round: with what is asked in it.
    pub fn rules(&self, number: u64) -> &Manifest {
        let round = self.rounds.get(&number);
        let own = round.and_then(|round| round.rules.as_deref());
        own.unwrap_or(&self.config.manifest)
    }

    /// One more environment, fetched since this machine began.
    pub fn add_environment(&mut self, environment: Arc<dyn Environment>) {
        let id = environment.manifest().id();
        self.planning.obtaining.remove(&id);
        self.config.registry.add(environment);
    }

    /// An environment could not be had. It is asked for again when the next
    /// round that wants it opens.
    pub fn environment_failed(&mut self, id: EnvId) {
        self.planning.obtaining.remove(&id);
    }

    /// Takes in a round that was judged here before a restart. It counts if
    /// the ledger says that it is what settled.
    ///
    /// # Errors
    /// It does not hold together.
    pub fn remember(&mut self, transcript: &Transcript) -> Result<(), RejectReason> {
        let known = transcript.recompute(&self.config.manifest, &self.config.registry)?;
        if let Some(amendment) = &known.evidence.plan.amendment {
            let held = (amendment.number, Amendment::clone(amendment));
            self.planning.amendments.entry(held.0).or_insert(held.1);
        }
        let set = (transcript.round, known.included);
        self.planning.keep_evidence(set, known.evidence);
        Ok(())
    }

    /// Whether what is asked can never change.
    fn is_fixed(&self) -> bool {
        let manifest = &self.config.manifest;
        let mut courses = manifest.curriculum.iter();
        let moves = |course: &Course| {
            course.climb.is_some() || by_critics(&self.config.registry, course.env)
        };
        manifest.author.is_none() && !courses.any(moves)
    }

    // --- the plan of a round ---

    /// Settles what is asked in a round as it is entered; false while that is
    /// waited for.
    pub(super) fn agree_on_plan(&mut self, number: u64) -> bool {
        let may_wait = self.now < self.deadline;
        if self.is_behind() && may_wait {
            self.planning.waiting = true;
            return false;
        }
        let plan = match self.own_plan(number) {
            Ok(plan) => plan,
            Err(missing) => match self.voted_plan(number, may_wait) {
                Some(plan) => plan,
                None if may_wait => {
                    self.planning.waiting = true;
                    return false;
                }
                None => {
                    self.tell_curriculum(
                        LogLevel::Warn,
                        format!(
                            "round {number}: what is asked follows from round {missing}, which \
                             this peer did not see whole, and nobody told in time; asking as before"
                        ),
                    );
                    self.as_before(number)
                }
            },
        };
        self.planning.waiting = false;
        self.ask_by(number, plan);
        true
    }

    /// What follows from what this peer has seen.
    ///
    /// # Errors
    /// The number of a settled round that it has not.
    fn own_plan(&self, number: u64) -> Result<Plan, u64> {
        let round = self.rounds.get(&number);
        let settled = round.and_then(|round| round.opened.as_ref()?.settled.as_deref());
        match settled {
            // Offline nothing is settled, and nothing moves.
            None => Ok(self.as_before(number)),
            Some(settled) => derive(
                &self.config.manifest,
                &self.config.registry,
                settled,
                |set| self.planning.evidence.get(set),
                self.planning.holding(number),
            ),
        }
    }

    fn as_before(&self, number: u64) -> Plan {
        let last = &self.planning.last;
        match self.planning.holding(number) {
            Some(newer) if newer.number > last.number() => {
                last.amended(&self.config.manifest, newer)
            }
            _ => Plan::clone(last),
        }
    }

    /// The plan that more than half of the round's witnesses ask by; where
    /// nobody waits any more, of those that said so.
    fn voted_plan(&mut self, number: u64, may_wait: bool) -> Option<Plan> {
        let round = self.rounds.get(&number)?;
        let opened = round.opened.as_ref()?;
        let votes = round.plans.iter();
        let mut counts: BTreeMap<BodyRef, Vec<PeerId>> = BTreeMap::new();
        for (peer, plan) in votes.filter(|(peer, _)| opened.committee.contains_key(peer)) {
            counts.entry(*plan).or_default().push(*peer);
        }
        let said = counts.values().map(Vec::len).sum::<usize>();
        // Who came with this round waits to be told, too: of them nobody waits for a
        // word, nor for long of who is seen to wait for whatever reason.
        let repeat_ms = self.config.manifest.stages.repeat_ms;
        let long = self.now >= self.began.saturating_add(WAITS_REPEATED * repeat_ms);
        let waiting = Position {
            round: number,
            phase: Phase::Open,
        };
        let others = opened.committee.keys().filter(|peer| {
            self.roster.get(peer).is_some_and(|known| {
                let is_new = known.since >= number || (long && known.at == waiting);
                known.present && !is_new
            })
        });
        let all = if may_wait {
            said.max(others.count())
        } else {
            said
        };
        let (most, by) = counts.into_iter().find(|(_, by)| 2 * by.len() > all)?;
        let first = Plan::first(&self.config.manifest);
        if first.hash() == most.hash {
            return Some(first);
        }
        if let Some(plan) = self.planning.plans.get(&most.hash) {
            return Some(plan.clone());
        }
        let planning = &mut self.planning;
        if most.bytes <= MAX_PLAN
            && planning.asked.len() < KEPT_PLANS
            && planning.asked.insert(most.hash)
        {
            self.effects.push(Effect::Fetch {
                hash: most.hash,
                bytes: most.bytes,
                from: by,
            });
        }
        None
    }

    /// A fetched body may be a plan; true if it was asked for as one.
    pub(super) fn receive_plan(&mut self, hash: Hash, bytes: Option<&[u8]>) -> bool {
        if !self.planning.asked.remove(&hash) {
            return false;
        }
        let Some(bytes) = bytes else { return true };
        let checked = Plan::decode(bytes).and_then(|plan| {
            plan.check(&self.config.manifest)?;
            Ok(plan)
        });
        match checked {
            Ok(plan) => {
                if self.planning.plans.len() >= KEPT_PLANS {
                    self.planning.plans.pop_first();
                }
                self.planning.plans.insert(hash, plan);
            }
            Err(reason) => self.refuse(None, &reason),
        }
        true
    }

    /// A peer says by which plan it asks in a round.
    pub(super) fn apply_plan(&mut self, number: u64, peer: PeerId, plan: BodyRef) -> Outcome {
        if plan.bytes > MAX_PLAN {
            return RejectReason::Oversize {
                bytes: plan.bytes as usize,
                limit: MAX_PLAN as usize,
            }
            .into();
        }
        match self.round_mut(number).plans.insert(peer, plan) {
            None => Outcome::Applied,
            Some(before) if before == plan => Outcome::Ignored("said before"),
            Some(before) => {
                self.round_mut(number).plans.insert(peer, before);
                RejectReason::Equivocation("two plans of a round").into()
            }
        }
    }

    /// Asks by a plan in a round, and says so where it matters.
    fn ask_by(&mut self, number: u64, plan: Plan) {
        let manifest = &self.config.manifest;
        let rules = Arc::new(plan.applied(manifest));
        let (hash, bytes) = plan.encode();
        let first = Plan::first(manifest).hash() == hash;
        let before = std::mem::replace(&mut self.planning.last, Arc::new(plan));
        let plan = Arc::clone(&self.planning.last);
        if let Some(amendment) = &plan.amendment {
            // A plan taken from others may tell of one.
            self.amend(Amendment::clone(amendment));
        }
        let round = self.round_mut(number);
        round.rules = Some(rules);
        round.plan = Some((Arc::clone(&plan), hash));
        if !self.is_fixed() {
            let reference = BodyRef {
                hash,
                bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            };
            if !first {
                self.effects.push(Effect::Serve { hash, bytes });
            }
            self.say(number, Phase::Open, Payload::Plan { plan: reference });
        }
        self.obtain(plan.environments(&self.config.manifest));
        let asks_alike =
            (&before.amendment, &before.standings) == (&plan.amendment, &plan.standings);
        if !std::mem::replace(&mut self.planning.shown, true) || !asks_alike {
            self.show_plan(number, &before, &plan);
        }
        let (from, to) = (before.critics.twins, plan.critics.twins);
        if from != to {
            let why = if to > from {
                "critics and verifier part"
            } else {
                "critics and verifier agree"
            };
            let percent = |share: tasks::Ppm| f64::from(share.0) / 1e4;
            self.tell_curriculum(
                if to > from {
                    LogLevel::Warn
                } else {
                    LogLevel::Info
                },
                format!(
                    "round {number}: {why}: {:.0}% of the items that critics decide are verified \
                     all the same, {:.0}% before",
                    percent(to),
                    percent(from)
                ),
            );
        }
    }

    fn show_plan(&mut self, number: u64, before: &Plan, plan: &Plan) {
        let manifest = &self.config.manifest;
        let old = before.curriculum(manifest);
        let courses = plan.curriculum(manifest).iter().zip(&plan.standings);
        let view = |(index, (course, standing)): (usize, (&_, &_))| {
            let (course, standing): (&crate::curriculum::Course, &crate::plan::Standing) =
                (course, standing);
            let environment = self.config.registry.get(&course.env);
            // What it was, where the course is the one that stood there.
            let stood = old.get(index).filter(|old| old.env == course.env);
            let from = stood.and_then(|_| before.standings.get(index));
            let from = from.map(|from| from.level);
            CourseView {
                env: environment.map_or_else(
                    || course.env.to_string(),
                    |environment| environment.manifest().name.clone(),
                ),
                here: environment.is_some(),
                level: standing.level,
                from: from.filter(|from| *from != standing.level),
                weight: course.weight,
                rate_ppm: course.climb.map(|_| standing.rate),
            }
        };
        let courses = courses.enumerate().map(view).collect();
        self.emit(Event::Curriculum {
            round: number,
            amendment: plan.number(),
            amended: plan.number() != before.number(),
            courses,
        });
    }

    pub(super) fn tell_curriculum(&mut self, level: LogLevel, message: String) {
        self.emit(Event::Log {
            level,
            target: "curriculum".to_owned(),
            message,
        });
    }

    /// What a judged round says of the courses, for later plans.
    pub(super) fn keep_finding(&mut self, number: u64) {
        let manifest = &self.config.manifest;
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        let (Some((plan, _)), Some(judged)) = (&round.plan, &round.judged) else {
            return;
        };
        let Some(included) = judged.included else {
            return;
        };
        let evidence = Evidence::of(plan, manifest, &self.config.registry, &judged.board);
        self.planning.keep_evidence((number, included), evidence);
    }

    /// Environments of a plan that are not known here: their items are left
    /// to the others until they are.
    pub(super) fn lacks(&self, number: u64) -> BTreeSet<EnvId> {
        let round = self.rounds.get(&number);
        let plan = round.and_then(|round| round.plan.as_ref());
        let mut named = plan.map_or_else(BTreeSet::new, |(plan, _)| {
            plan.environments(&self.config.manifest)
        });
        named.retain(|env| self.config.registry.get(env).is_none());
        named
    }

    /// Asks for environments that are not known here.
    fn obtain(&mut self, named: BTreeSet<EnvId>) {
        let from: Vec<PeerId> = self.roster.present().map(|(id, _)| id).collect();
        for env in named {
            let lacking = self.config.registry.get(&env).is_none();
            if lacking && self.planning.obtaining.insert(env) {
                let from = from.clone();
                self.effects.push(Effect::Obtain { env, from });
            }
        }
    }

    // --- amendments ---

    /// An amendment from this machine: the author's, or one that was kept.
    pub(super) fn amend(&mut self, amendment: Amendment) {
        let text = match self.take_amendment(amendment) {
            Outcome::Rejected(reason) => format!("an amendment of this home is left out: {reason}"),
            _ => return,
        };
        self.tell_curriculum(LogLevel::Warn, text);
    }

    /// Takes in an amendment, from whomever.
    pub(super) fn take_amendment(&mut self, amendment: Amendment) -> Outcome {
        let known = self.planning.amendments.get(&amendment.number);
        if known == Some(&amendment) {
            return Outcome::Ignored("known");
        }
        if let Err(reason) = amendment.check(&self.config.manifest) {
            return reason.into();
        }
        let conflict = known.is_some();
        // Of two by the author all keep the same one, whichever came first.
        if known.is_some_and(|known| known.hash() < amendment.hash()) {
            return RejectReason::Equivocation("two amendments of one number").into();
        }
        let oldest = self.planning.amendments.keys().next().copied();
        let full = self.planning.amendments.len() >= KEPT_AMENDMENTS;
        if full && oldest.is_some_and(|oldest| amendment.number < oldest) {
            let why = format!("amendment {} was replaced long ago", amendment.number);
            return RejectReason::Amendment(why).into();
        }
        let (number, from) = (amendment.number, amendment.from);
        let named = amendment.environments();
        let count = amendment.courses.len();
        self.effects.push(Effect::Keep {
            amendment: Box::new(amendment.clone()),
        });
        self.planning.amendments.insert(number, amendment.clone());
        while self.planning.amendments.len() > KEPT_AMENDMENTS {
            self.planning.amendments.pop_first();
        }
        self.obtain(named);
        self.publish(self.at.round, Payload::Amendment(Box::new(amendment)));
        let again = if conflict {
            ", in place of another of this number"
        } else {
            ""
        };
        self.tell_curriculum(
            LogLevel::Info,
            format!("the author's amendment {number}{again}: {count} courses from round {from} on"),
        );
        Outcome::Applied
    }

    /// Whether most of those here know a newer amendment.
    fn is_behind(&self) -> bool {
        let newest = self.planning.newest();
        let (mut all, mut ahead) = (0, 0);
        for (_, peer) in self.roster.present() {
            all += 1;
            ahead += usize::from(peer.curriculum > newest);
        }
        2 * ahead > all
    }

    /// A peer said which amendment it knows: who lacks one is given it, and
    /// who has a newer one is asked.
    pub(super) fn compare_amendments(&mut self, theirs: u32) {
        let newest = self.planning.newest();
        let (now, repeat_ms) = (self.now, self.config.manifest.stages.repeat_ms);
        if theirs > newest && self.hello.last_ms + repeat_ms <= now {
            self.say_hello();
        }
        let told = self.planning.told_ms;
        if theirs >= newest || told.is_some_and(|told| told + repeat_ms > now) {
            return;
        }
        self.planning.told_ms = Some(now);
        let missed: Vec<Amendment> = self
            .planning
            .amendments
            .range(theirs.saturating_add(1)..)
            .map(|(_, amendment)| amendment.clone())
            .collect();
        for amendment in missed {
            self.publish(self.at.round, Payload::Amendment(Box::new(amendment)));
        }
    }
}
