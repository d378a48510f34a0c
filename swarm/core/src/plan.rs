//! The plan: what is asked in a round, and at which levels.
//!
//! It begins as the manifest's curriculum. The levels of courses that climb
//! move with the success that settled rounds measured, and the swarm's author
//! may put another curriculum in its place. [`derive`] says what a round's plan
//! is: a pure function of what the ledger has settled before it opened, so
//! whoever has the bodies of those rounds computes the same, and a settled
//! round's witnesses have signed the plan it was asked by. Where critics decide
//! rewards, a plan also carries [what is known of them](crate::critics).
//!
//! A measurement counts if more than two thirds of the peers answered at the
//! course's level, and then it is their median: a minority, whatever it
//! answers, moves no level beyond what the others' answers say. Common items
//! make sure that everyone answers the same.

use std::collections::{BTreeMap, BTreeSet};

use rewards::Scoreboard;
use serde::{Deserialize, Serialize};
use tasks::{EnvId, Judge, Registry};

use crate::bounded::at_most;
use crate::critics::{Critics, Hearings};
use crate::curriculum::{Amendment, Climb, Course, MAX_COURSES};
use crate::ids::{Hash, PeerId};
use crate::manifest::Manifest;
use crate::refusal::RejectReason;

/// The most bytes of a plan: its courses, and the amendment they come from.
pub const MAX_PLAN: u32 = 32 * 1024;
/// The version of the format, its first byte.
const VERSION: u8 = 2;

const PPM: u32 = 1_000_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What replaced the manifest's curriculum, if anything did.
    pub amendment: Option<Box<Amendment>>,
    /// How each course stands, in the curriculum's order.
    #[serde(deserialize_with = "at_most::<_, _, MAX_COURSES>")]
    pub standings: Vec<Standing>,
    /// The critics, where they decide anything.
    pub critics: Critics,
}

/// How a course stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The level that is asked.
    pub level: u8,
    /// The smoothed share of right answers at this level, in ppm.
    pub rate: u32,
}

impl Standing {
    fn new(course: &Course) -> Self {
        Self {
            level: course.level,
            rate: course.climb.map_or(0, middle),
        }
    }
}

/// Where a rate begins: as far from one bound as from the other.
fn middle(climb: Climb) -> u32 {
    (u32::from(climb.down) + u32::from(climb.up)) * (PPM / 200)
}

/// What a settled round says of the courses that were asked in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The amendment that held; 0 for the manifest's curriculum.
    curriculum: u32,
    /// For each course the level and the median share that was right, in ppm,
    /// where enough peers answered.
    courses: Vec<Option<(u8, u32)>>,
    /// What it showed of the critics, where they decide anything.
    critics: Option<Hearings>,
}

/// A judged round, as far as later plans depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What was asked in it.
    pub plan: Plan,
    /// What it measured; `None` if an environment of it is not known here.
    pub finding: Option<Finding>,
}

impl Evidence {
    /// What follows from a round's scoreboard.
    pub fn of(
        plan: &Plan,
        manifest: &Manifest,
        registry: &Registry,
        board: &Scoreboard<PeerId>,
    ) -> Self {
        Self {
            plan: plan.clone(),
            finding: Finding::of(plan, manifest, registry, board),
        }
    }
}

impl Finding {
    fn of(
        plan: &Plan,
        manifest: &Manifest,
        registry: &Registry,
        board: &Scoreboard<PeerId>,
    ) -> Option<Self> {
        let peers: BTreeSet<PeerId> = board.answers.iter().map(|group| group.owner).collect();
        let mut courses = Vec::new();
        for (course, standing) in plan.curriculum(manifest).iter().zip(&plan.standings) {
            if course.climb.is_none() {
                courses.push(None);
                continue;
            }
            registry.get(&course.env)?;
            let mut shares: BTreeMap<PeerId, (u64, u64)> = BTreeMap::new();
            for group in &board.answers {
                if (group.env, group.level) == (course.env, standing.level) {
                    let (right, all) = shares.entry(group.owner).or_default();
                    *right += group.completions.iter().filter(|one| one.correct).count() as u64;
                    *all += group.completions.len() as u64;
                }
            }
            let enough = shares.len() * 3 > peers.len() * 2;
            let share = |(right, all): &(u64, u64)| right * u64::from(PPM) / (*all).max(1);
            let shares: Vec<u64> = shares.values().map(share).collect();
            courses.push(enough.then(|| (standing.level, median(shares))));
        }
        let heard = plan.asks_critics(manifest, registry);
        Some(Self {
            curriculum: plan.number(),
            courses,
            critics: heard.then(|| Hearings::of(board)),
        })
    }
}

/// The middle one, or the mean of the middle two; 0 of none.
fn median(mut shares: Vec<u64>) -> u32 {
    shares.sort_unstable();
    let (Some(low), Some(high)) = (
        shares.get(shares.len().saturating_sub(1) / 2),
        shares.get(shares.len() / 2),
    ) else {
        return 0;
    };
    u32::try_from((low + high) / 2).unwrap_or(PPM)
}

impl Plan {
    /// What a swarm begins with.
    pub fn first(manifest: &Manifest) -> Self {
        Self {
            amendment: None,
            standings: manifest.curriculum.iter().map(Standing::new).collect(),
            critics: Critics::default(),
        }
    }

    /// The amendment that holds; 0 for the manifest's curriculum.
    pub fn number(&self) -> u32 {
        self.amendment.as_ref().map_or(0, |held| held.number)
    }

    /// The curriculum before any level moved.
    pub fn curriculum<'a>(&'a self, manifest: &'a Manifest) -> &'a [Course] {
        match &self.amendment {
            Some(amendment) => &amendment.courses,
            None => &manifest.curriculum,
        }
    }

    /// The environments it asks.
    pub fn environments(&self, manifest: &Manifest) -> BTreeSet<EnvId> {
        let courses = self.curriculum(manifest).iter();
        courses.map(|course| course.env).collect()
    }

    /// Whether a level can move.
    fn climbs(&self, manifest: &Manifest) -> bool {
        let mut courses = self.curriculum(manifest).iter();
        courses.any(|course| course.climb.is_some())
    }

    /// Whether critics decide the rewards of anything it asks.
    pub fn asks_critics(&self, manifest: &Manifest, registry: &Registry) -> bool {
        let mut courses = self.curriculum(manifest).iter();
        courses.any(|course| by_critics(registry, course.env))
    }

    /// The manifest as it stands with this plan: what draws are made by. Its
    /// id is not the swarm's.
    pub fn applied(&self, manifest: &Manifest) -> Manifest {
        let courses = self.curriculum(manifest).iter().zip(&self.standings);
        Manifest {
            curriculum: courses
                .map(|(course, standing)| Course {
                    level: standing.level,
                    ..*course
                })
                .collect(),
            ..manifest.clone()
        }
    }

    /// The plan with another curriculum. A course that is in both as it was
    /// stays at the level it has reached.
    pub fn amended(&self, manifest: &Manifest, amendment: &Amendment) -> Self {
        let before = self.curriculum(manifest);
        let standing = |course: &Course| {
            let same = |old: &&Course| {
                (old.env, old.level, old.climb) == (course.env, course.level, course.climb)
            };
            let index = before.iter().position(|old| same(&old));
            let kept = index.and_then(|index| self.standings.get(index));
            kept.copied().unwrap_or_else(|| Standing::new(course))
        };
        Self {
            standings: amendment.courses.iter().map(standing).collect(),
            critics: self.critics.clone(),
            amendment: Some(Box::new(amendment.clone())),
        }
    }

    /// Takes in what a settled round measured: the rate goes half the way to
    /// it, and a rate that reaches a bound moves the level by one and begins
    /// anew in the middle. What was measured at another level counts for
    /// nothing.
    pub fn learn(&mut self, manifest: &Manifest, finding: &Finding) {
        if let Some(heard) = &finding.critics {
            self.critics.learn(heard);
        }
        if finding.curriculum != self.number() {
            return;
        }
        let climbs: Vec<Option<Climb>> = self
            .curriculum(manifest)
            .iter()
            .map(|course| course.climb)
            .collect();
        for ((climb, standing), found) in climbs
            .into_iter()
            .zip(&mut self.standings)
            .zip(&finding.courses)
        {
            let (Some(climb), Some((level, share))) = (climb, *found) else {
                continue;
            };
            if level != standing.level {
                continue;
            }
            standing.rate = (standing.rate + share) / 2;
            let bound = |percent: u8| u32::from(percent) * (PPM / 100);
            let before = standing.level;
            if standing.rate >= bound(climb.up) && standing.level < climb.highest {
                standing.level += 1;
            } else if standing.rate <= bound(climb.down) && standing.level > climb.lowest {
                standing.level -= 1;
            }
            if standing.level != before {
                standing.rate = middle(climb);
            }
        }
    }

    /// Whether the author's word and the manifest allow it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, manifest: &Manifest) -> Result<(), RejectReason> {
        let refuse = |why: &str| Err(RejectReason::Amendment(why.to_owned()));
        if let Some(amendment) = &self.amendment {
            amendment.check(manifest)?;
        }
        let courses = self.curriculum(manifest);
        if !self.critics.is_sound() {
            return refuse("a plan whose critics are out of order");
        }
        if courses.len() != self.standings.len() {
            return refuse("a plan of other courses than its curriculum has");
        }
        for (course, standing) in courses.iter().zip(&self.standings) {
            let levels = course.climb.map_or(course.level..=course.level, |climb| {
                climb.lowest..=climb.highest
            });
            if !levels.contains(&standing.level) || standing.rate > PPM {
                return refuse("a plan with a level that its curriculum does not allow");
            }
        }
        Ok(())
    }

    /// The bytes that travel, and the hash that names them.
    pub fn encode(&self) -> (Hash, Vec<u8>) {
        let bytes = postcard::to_extend(self, vec![VERSION])
            .expect("a plan is plain data and a vector takes any length");
        (Hash::of(&bytes), bytes)
    }

    /// What names it.
    pub fn hash(&self) -> Hash {
        self.encode().0
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    /// [`RejectReason::Oversize`], [`RejectReason::Version`],
    /// [`RejectReason::Malformed`] or [`RejectReason::NotCanonical`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RejectReason> {
        if bytes.len() > MAX_PLAN as usize {
            return Err(RejectReason::Oversize {
                bytes: bytes.len(),
                limit: MAX_PLAN as usize,
            });
        }
        let body = match bytes.split_first() {
            Some((&VERSION, body)) => body,
            Some((&version, _)) => return Err(RejectReason::Version(version)),
            None => return Err(RejectReason::Malformed("empty".into())),
        };
        let plan: Self = postcard::from_bytes(body)
            .map_err(|error| RejectReason::Malformed(error.to_string()))?;
        if plan.encode().1 != bytes {
            return Err(RejectReason::NotCanonical);
        }
        Ok(plan)
    }
}

/// Whether critics decide the rewards of an environment.
pub(crate) fn by_critics(registry: &Registry, env: EnvId) -> bool {
    let package = registry
        .get(&env)
        .and_then(|found| found.manifest().package.as_ref());
    package.is_some_and(|package| package.judge == Judge::Critics)
}

/// A settled round: its number and the name of what it included.
pub type SettledSet = (u64, Hash);

/// What a ledger did, as far as plans follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It opened a round.
    Opened(u64),
    /// It settled one.
    Settled(SettledSet),
}

/// What a round's plan follows from: what the ledger settled before it opened
/// the round, and after it had opened the newest of those. That one is the last
/// whose plan is signed for; what it could not yet follow from is in the list.
pub fn settled_before(steps: &[Step], round: u64) -> Vec<SettledSet> {
    let at = |number: u64| move |step: &Step| *step == Step::Opened(number);
    let end = steps.iter().position(at(round)).unwrap_or(steps.len());
    let settled = |step: &Step| match step {
        Step::Settled(set) => Some(*set),
        Step::Opened(_) => None,
    };
    let before = &steps[..end];
    let Some((newest, _)) = before.iter().filter_map(settled).max() else {
        return Vec::new();
    };
    let start = before.iter().position(at(newest)).unwrap_or(0);
    before[start..].iter().filter_map(settled).collect()
}

/// The plan of a round.
///
/// `settled` is as [`settled_before`] says it. The newest round's plan is where
/// this one begins, and each of the rounds is learned from. `amendment` is the
/// newest that holds in this round, as far as is known.
///
/// # Errors
/// The number of a settled round that `evidence` does not know.
pub fn derive<'a>(
    manifest: &Manifest,
    registry: &Registry,
    settled: &[SettledSet],
    evidence: impl Fn(&SettledSet) -> Option<&'a Evidence>,
    amendment: Option<&Amendment>,
) -> Result<Plan, u64> {
    let newest = settled.iter().max_by_key(|(round, _)| *round);
    let mut plan = match newest {
        None => Plan::first(manifest),
        Some(newest) => evidence(newest).ok_or(newest.0)?.plan.clone(),
    };
    if plan.climbs(manifest) || plan.asks_critics(manifest, registry) {
        for set in settled {
            let finding = evidence(set).and_then(|known| known.finding.as_ref());
            plan.learn(manifest, finding.ok_or(set.0)?);
        }
    }
    match amendment {
        Some(newer) if newer.number > plan.number() => Ok(plan.amended(manifest, newer)),
        _ => Ok(plan),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ed25519_dalek::SigningKey;
    use rewards::{CompletionScore, GroupScore, Included, JudgeSettings};

    use super::*;
    use crate::sim;

    const CLIMB: Climb = Climb {
        lowest: 1,
        highest: 3,
        down: 30,
        up: 80,
    };

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn climbing() -> Manifest {
        let mut manifest = sim::manifest();
        manifest.author = Some(PeerId(key().verifying_key().to_bytes()));
        for course in &mut manifest.curriculum {
            course.level = 2;
            course.climb = Some(CLIMB);
        }
        manifest
    }

    /// What peers got right of 8 at a level of the first course's environment.
    fn board(manifest: &Manifest, level: u8, right: &[usize]) -> Scoreboard<PeerId> {
        let mut board = rewards::judge(
            &Registry::builtin(),
            &Included::default(),
            &JudgeSettings::default(),
        );
        for (peer, right) in (1u8..).zip(right) {
            let completion = |index: usize| CompletionScore {
                reward: tasks::Ppm::ZERO,
                correct: index < *right,
                well_formed: true,
                answer: None,
                truth: None,
                parts: Vec::new(),
                why: String::new(),
                critiques: Vec::new(),
            };
            board.answers.push(GroupScore {
                owner: PeerId([peer; 32]),
                slot: 0,
                env: manifest.curriculum[0].env,
                level,
                completions: (0..8).map(completion).collect(),
                useful: false,
                trainable: false,
            });
        }
        board
    }

    fn learned(manifest: &Manifest, plan: &Plan, level: u8, right: &[usize]) -> Plan {
        let board = board(manifest, level, right);
        let registry = Registry::builtin();
        let finding = Finding::of(plan, manifest, &registry, &board).unwrap();
        let mut plan = plan.clone();
        plan.learn(manifest, &finding);
        plan
    }

    #[test]
    fn a_level_rises_with_success_falls_with_failure_and_stops_at_the_ends() {
        let manifest = climbing();
        let mut plan = Plan::first(&manifest);
        for (right, ends) in [(8, 3), (0, 1)] {
            for _ in 0..12 {
                let before = plan.standings[0].level;
                plan = learned(&manifest, &plan, before, &[right; 4]);
                assert!(plan.standings[0].level.abs_diff(before) <= 1);
                assert_eq!(plan.check(&manifest), Ok(()));
            }
            assert_eq!(plan.standings[0].level, ends);
        }
        assert!(plan.standings[1..].iter().all(|other| other.level == 2));
    }

    #[test]
    fn one_good_round_is_not_enough_and_middling_ones_never_are() {
        let manifest = climbing();
        let mut plan = Plan::first(&manifest);
        plan = learned(&manifest, &plan, 2, &[8; 4]);
        assert_eq!(plan.standings[0].level, 2);
        for _ in 0..20 {
            plan = learned(&manifest, &plan, 2, &[5; 4]);
            assert_eq!(plan.standings[0].level, 2);
        }
        // What is measured at another level says nothing of this one.
        let before = plan.clone();
        assert_eq!(learned(&manifest, &plan, 1, &[8; 4]), before);
    }

    #[test]
    fn a_minority_moves_no_level_and_too_few_measure_nothing() {
        let manifest = climbing();
        let first = Plan::first(&manifest);
        // Two of seven answer all wrong; the others are as good as it takes.
        let mut plan = first.clone();
        for _ in 0..4 {
            let level = plan.standings[0].level;
            plan = learned(&manifest, &plan, level, &[0, 0, 7, 7, 7, 7, 7]);
        }
        assert_eq!(plan.standings[0].level, 3);
        // Two of three that answer at the level are no more than two thirds.
        let mut board = board(&manifest, 2, &[8, 8, 8]);
        board.answers[2].level = 1;
        let finding = Finding::of(&first, &manifest, &Registry::builtin(), &board);
        assert_eq!(finding.unwrap().courses[0], None);
    }

    #[test]
    fn an_amendment_keeps_the_levels_of_what_it_keeps() {
        let manifest = climbing();
        let mut plan = Plan::first(&manifest);
        plan.standings[0] = Standing {
            level: 3,
            rate: 700_000,
        };
        let mut courses = manifest.curriculum[..2].to_vec();
        courses.reverse();
        courses[0].level = 1;
        let amendment = Amendment::sign(&key(), manifest.id(), 4, 9, courses);
        let amended = plan.amended(&manifest, &amendment);
        assert_eq!(amended.check(&manifest), Ok(()));
        assert_eq!((amended.number(), amended.standings.len()), (4, 2));
        assert_eq!(amended.standings[0].level, 1);
        assert_eq!(amended.standings[1], plan.standings[0]);
        // What was measured before it counts no more.
        assert_eq!(learned_from(&manifest, &plan, &amended), amended);
    }

    fn learned_from(manifest: &Manifest, of: &Plan, into: &Plan) -> Plan {
        let board = board(manifest, 3, &[8; 4]);
        let registry = Registry::builtin();
        let finding = Finding::of(of, manifest, &registry, &board).unwrap();
        let mut plan = into.clone();
        plan.learn(manifest, &finding);
        plan
    }

    #[test]
    fn a_plan_follows_from_what_was_settled_and_says_what_is_missing() {
        let manifest = climbing();
        let registry = Registry::builtin();
        let first = Plan::first(&manifest);
        let set = |round: u64| (round, Hash([round as u8; 32]));
        let mut known: BTreeMap<SettledSet, Evidence> = BTreeMap::new();
        for round in 1..=3 {
            let board = board(&manifest, 2, &[8; 4]);
            let evidence = Evidence::of(&first, &manifest, &registry, &board);
            known.insert(set(round), evidence);
        }
        let plan = |settled: &[SettledSet]| {
            derive(&manifest, &registry, settled, |set| known.get(set), None)
                .map(|plan| plan.standings[0])
        };
        assert_eq!(plan(&[]), Ok(first.standings[0]));
        assert_eq!(plan(&[set(1)]).unwrap().level, 2);
        // Two in a row move it, in whatever order they settled.
        assert_eq!(plan(&[set(1), set(2)]).unwrap().level, 3);
        assert_eq!(plan(&[set(3), set(2)]).unwrap().level, 3);
        assert_eq!(plan(&[set(3), set(4)]), Err(4));
        assert_eq!(plan(&[(3, Hash([9; 32]))]), Err(3));
    }

    #[test]
    fn a_plan_follows_from_what_no_signed_plan_could_yet_follow_from() {
        use Step::{Opened, Settled};
        let set = |round: u64| (round, Hash([round as u8; 32]));
        let steps = [
            Opened(1),
            Settled(set(1)),
            Opened(2),
            Opened(3),
            Settled(set(3)),
            Settled(set(2)),
            Opened(4),
            Settled(set(4)),
        ];
        assert_eq!(settled_before(&steps, 1), []);
        assert_eq!(settled_before(&steps, 3), [set(1)]);
        assert_eq!(settled_before(&steps, 4), [set(3), set(2)]);
        assert_eq!(settled_before(&steps, 9), [set(4)]);
    }

    #[test]
    fn only_the_bytes_of_a_plan_are_a_plan_and_only_within_its_bounds() {
        let manifest = climbing();
        let plan = Plan::first(&manifest);
        let (_, bytes) = plan.encode();
        assert_eq!(Plan::decode(&bytes), Ok(plan.clone()));
        for length in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Plan::decode(&longer), Err(RejectReason::NotCanonical));
        let mut higher = plan.clone();
        higher.standings[0].level = 4;
        assert!(higher.check(&manifest).is_err());
        let mut fewer = plan;
        fewer.standings.pop();
        assert!(fewer.check(&manifest).is_err());
    }
}
