//! The judge itself: everything in order, once.

use std::collections::{BTreeMap, BTreeSet};

use tasks::{Ppm, Registry, dialogue::PeerAnswer};

use crate::{
    AnswerGroup, Calibration, CompletionScore, CritiqueView, GroupScore, Ignored, Included,
    JudgeSettings, PeerScore, ResolveGroup, Scoreboard, Twins,
    arithmetic::{ONE, divide, mean, percent, ppm},
    contribution::Work,
    has_advantage,
    hearing::{Balanced, Hearing, Shelf, hear},
    included::{ItemKey, canonical, item_key},
    originality::{Text, later_copies},
    truth::{Decider, Mark, Marked, mark, mixed, part, share},
    vote::{Judgement, Vote, plain, pulled_to_mean, robust, weighted},
};

/// Judges a round: a pure function of what was included and the settings.
#[must_use]
pub fn judge<K: Ord + Copy>(
    registry: &Registry,
    included: &Included<K>,
    settings: &JudgeSettings,
) -> Scoreboard<K> {
    let (answers, again) = canonical(
        &included.answers,
        |group| (group.owner, group.slot),
        |group| (item_key(&group.item), &group.completions),
    );
    let mut ignored = Ledger::default();
    ignored.count(Ignored::Duplicate, again);
    let (critiques, again) = canonical(
        &included.critiques,
        |group| {
            let target = (group.target_owner, group.target_slot);
            (target, group.target_completion, group.critic)
        },
        |group| &group.completions,
    );
    ignored.count(Ignored::Duplicate, again);
    let (resolutions, again) = canonical(
        &included.resolutions,
        |group| (group.owner, group.slot),
        |group| {
            let read: Vec<_> = group
                .read
                .iter()
                .map(|peer| (&peer.answer, peer.right, peer.wrong))
                .collect();
            (item_key(&group.item), &group.completions, read)
        },
    );
    ignored.count(Ignored::Duplicate, again);

    let marked: Vec<Marked> = answers
        .iter()
        .map(|group| mark(registry, settings, &group.item, &group.completions))
        .collect();
    let places: BTreeMap<(K, u32), usize> = answers
        .iter()
        .enumerate()
        .map(|(place, group)| ((group.owner, group.slot), place))
        .collect();
    let items = items(&answers);
    let shelf = Shelf {
        places: &places,
        answers: &marked,
        items: &items,
    };
    let hearing = hear(&critiques, &shelf, &included.history, settings);
    for critique in &hearing.scores {
        if let Some(reason) = critique.ignored {
            ignored.count(reason, 1);
        }
    }
    let copies = copies(&answers, &marked, &included.arrival, settings);

    let mut twins = Apart::default();
    let shared = shared_items(&answers);
    let mut tallies: BTreeMap<K, Tally> = BTreeMap::new();
    let mut first: Vec<GroupScore<K>> = Vec::with_capacity(answers.len());
    for (place, (group, marked)) in answers.iter().zip(&marked).enumerate() {
        let said = Said {
            owner: group.owner,
            item: items[place],
            hearing: &hearing,
            settings,
        };
        twins.add(marked, &said);
        let completions = decide(place, marked, &said, &copies);
        let score = GroupScore {
            owner: group.owner,
            slot: group.slot,
            env: group.item.env,
            level: group.item.level,
            useful: mixed(&completions),
            trainable: has_advantage(completions.iter().map(|one| one.reward)),
            completions,
        };
        if marked.decider == Decider::Nobody {
            ignored.count(Ignored::UnknownEnvironment, 1);
        }
        let tally = tallies.entry(group.owner).or_default();
        let counts = settings.shared_answers || !shared.contains(&item_key(&group.item));
        tally.add_answers(&score, marked.decider, counts);
        first.push(score);
    }
    let known = shares_right(&answers, &marked, &first);
    let mut second: Vec<GroupScore<K>> = Vec::with_capacity(resolutions.len());
    let mut resolve_total = (0usize, 0usize);
    for group in resolutions {
        let (score, decider) = resolve(registry, settings, group);
        let tally = tallies.entry(group.owner).or_default();
        match decider {
            Decider::Nobody => ignored.count(Ignored::UnknownEnvironment, 1),
            Decider::Critics => {}
            Decider::Verifier => {
                let right = score.completions.iter().filter(|one| one.correct).count();
                resolve_total.0 += right;
                resolve_total.1 += score.completions.len();
                if let Some(before) = before(registry, group, &known) {
                    tally.add_resolutions(right, score.completions.len(), before);
                }
            }
        }
        second.push(score);
    }
    for critique in &critiques {
        tallies.entry(critique.critic).or_default();
    }

    let (plain_votes, weighted_votes) = voted(&marked, &hearing);
    let all = || first.iter().flat_map(|group| &group.completions);
    let heard = || hearing.scores.iter().filter(|one| one.ignored.is_none());
    let critique_samples = || heard().flat_map(|critique| &critique.samples);
    let verified = tallies.values().fold((0, 0), |sum, tally| {
        (sum.0 + tally.verified.0, sum.1 + tally.verified.1)
    });
    Scoreboard {
        judge_accuracy: hearing.sampled.accuracy(),
        plain_judge_accuracy: plain_votes.accuracy(),
        weighted_judge_accuracy: weighted_votes.accuracy(),
        answer_accuracy: share(verified.0, verified.1),
        format_rate: share(all().filter(|one| one.well_formed).count(), all().count()),
        critique_format_rate: share(
            critique_samples().filter(|one| one.well_formed).count(),
            critique_samples().count(),
        ),
        resolve_accuracy: share(resolve_total.0, resolve_total.1),
        reward: mean_reward(all()),
        peers: tallies
            .into_iter()
            .map(|(peer, tally)| (peer, tally.finish(peer, &hearing, settings)))
            .collect(),
        twins: twins.told(),
        answers: first,
        critiques: hearing.scores,
        resolutions: second,
        ignored: ignored.0,
    }
}

/// Counts of what was left out.
#[derive(Default)]
struct Ledger(BTreeMap<Ignored, u32>);

impl Ledger {
    fn count(&mut self, reason: Ignored, times: u32) {
        if times > 0 {
            let count = self.0.entry(reason).or_default();
            *count = count.saturating_add(times);
        }
    }
}

/// For each group the first that is of the same item.
fn items<K>(answers: &[&AnswerGroup<K>]) -> Vec<usize> {
    let mut first: BTreeMap<ItemKey<'_>, usize> = BTreeMap::new();
    let keyed = answers.iter().enumerate();
    keyed
        .map(|(place, group)| *first.entry(item_key(&group.item)).or_insert(place))
        .collect()
}

/// What may be said of one group: by whom its answers are judged.
struct Said<'a, K> {
    owner: K,
    item: usize,
    hearing: &'a Hearing<K>,
    settings: &'a JudgeSettings,
}

impl<K: Ord + Copy> Said<'_, K> {
    /// What critics together say of an answer, whoever else gave it; never
    /// the owner.
    fn of(&self, mark: &Mark) -> Option<Judgement> {
        let key = (self.item, mark.answer()?.to_owned());
        let votes = self.hearing.on_answers.get(&key)?.iter();
        let others = votes.filter(|(critic, _)| **critic != self.owner);
        let votes: Vec<Vote> = others.map(|(_, vote)| *vote).collect();
        robust(&votes, self.settings)
    }
}

/// Critics and verifier over the same answers, apart.
#[derive(Default)]
struct Apart {
    answers: u64,
    critics: u128,
    right: u64,
}

impl Apart {
    fn add<K: Ord + Copy>(&mut self, marked: &Marked, said: &Said<'_, K>) {
        for mark in marked.marks.iter().filter(|_| marked.twin) {
            if let (Some(judgement), Some(truth)) = (said.of(mark), mark.truth) {
                self.answers += 1;
                self.critics += u128::from(judgement.right.0);
                self.right += u64::from(truth);
            }
        }
    }

    fn told(&self) -> Twins {
        Twins {
            answers: self.answers,
            critics: mean(self.critics, self.answers),
            verifier: mean(u128::from(self.right) * u128::from(ONE), self.answers),
        }
    }
}

/// The items that more than one owner answered.
fn shared_items<'a, K: Ord + Copy>(answers: &[&'a AnswerGroup<K>]) -> BTreeSet<ItemKey<'a>> {
    let mut owners: BTreeMap<ItemKey<'a>, K> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    for group in answers {
        let key = item_key(&group.item);
        if *owners.entry(key).or_insert(group.owner) != group.owner {
            shared.insert(key);
        }
    }
    shared
}

/// Which completions of judged items are later copies, by place.
fn copies<K: Ord + Copy>(
    answers: &[&AnswerGroup<K>],
    marked: &[Marked],
    arrival: &BTreeMap<K, u32>,
    settings: &JudgeSettings,
) -> Vec<Vec<bool>> {
    let judged = |marked: &&Marked| marked.decider == Decider::Critics;
    let texts: Vec<Text<'_, ItemKey<'_>>> = answers
        .iter()
        .zip(marked)
        .filter(|(_, marked)| judged(marked))
        .flat_map(|(group, _)| {
            group.completions.iter().map(|text| Text {
                rank: arrival.get(&group.owner).copied(),
                item: item_key(&group.item),
                text,
            })
        })
        .collect();
    let mut flags = later_copies(&texts, settings.copy_chars).into_iter();
    answers
        .iter()
        .zip(marked)
        .map(|(group, marked)| {
            let count = group.completions.len();
            if judged(&marked) {
                flags.by_ref().take(count).collect()
            } else {
                vec![false; count]
            }
        })
        .collect()
}

/// The rewards of one group of first answers, and what critics said of each.
fn decide<K: Ord + Copy>(
    place: usize,
    marked: &Marked,
    said: &Said<'_, K>,
    copies: &[Vec<bool>],
) -> Vec<CompletionScore<K>> {
    let mut scores: Vec<CompletionScore<K>> = match marked.decider {
        Decider::Verifier | Decider::Nobody => marked.marks.iter().map(Mark::verified).collect(),
        Decider::Critics => {
            let none = Vec::new();
            let copies = copies.get(place).unwrap_or(&none);
            by_critics(marked, said, copies)
        }
    };
    for (index, score) in scores.iter_mut().enumerate() {
        score.critiques = views(said.hearing, (place, index));
    }
    scores
}

/// The rewards of a group whose truth nobody knows.
fn by_critics<K: Ord + Copy>(
    marked: &Marked,
    said: &Said<'_, K>,
    copies: &[bool],
) -> Vec<CompletionScore<K>> {
    let is_copy = |index: usize| copies.get(index).copied().unwrap_or(false);
    // What is out of the question must not move the mean of what is in it.
    let judgements: Vec<Option<Judgement>> = marked
        .marks
        .iter()
        .enumerate()
        .map(|(index, mark)| {
            if !mark.well_formed() || is_copy(index) {
                return None;
            }
            said.of(mark)
        })
        .collect();
    let rewards = pulled_to_mean(&judgements);
    marked
        .marks
        .iter()
        .zip(judgements.iter().zip(rewards))
        .enumerate()
        .map(|(index, (mark, (judgement, reward)))| {
            if is_copy(index) {
                let mut score = mark.undecided("a later copy of a peer's text");
                score.parts.push(part("original", Ppm::ZERO));
                return score;
            }
            let mut score = mark.undecided("too few calibrated critics; earns the group's mean");
            if score.well_formed {
                score.reward = reward;
            }
            if let Some(judgement) = judgement {
                score.correct = judgement.right > Ppm(500_000);
                score.parts.push(part("critics", judgement.right));
                score.parts.push(part("support", judgement.support));
                score.why = format!(
                    "{} critics say right with {}, support {}",
                    judgement.critics,
                    percent(judgement.right),
                    percent(judgement.support),
                );
            }
            score
        })
        .collect()
}

fn votes<K>(hearing: &Hearing<K>, place: (usize, usize)) -> Vec<Vote> {
    let cast = hearing.votes.get(&place).map_or(&[][..], Vec::as_slice);
    cast.iter().map(|(vote, _)| *vote).collect()
}

fn views<K: Copy>(hearing: &Hearing<K>, place: (usize, usize)) -> Vec<CritiqueView<K>> {
    let cast = hearing.votes.get(&place).map_or(&[][..], Vec::as_slice);
    cast.iter().map(|(_, view)| *view).collect()
}

/// The plain and the weighted vote on each completion of known truth.
fn voted<K>(marked: &[Marked], hearing: &Hearing<K>) -> (Balanced, Balanced) {
    let (mut unweighed, mut weighed) = (Balanced::default(), Balanced::default());
    for place in hearing.votes.keys() {
        let mark = marked
            .get(place.0)
            .and_then(|group| group.marks.get(place.1));
        if let Some(truth) = mark.and_then(|mark| mark.truth) {
            let votes = votes(hearing, *place);
            unweighed.add_vote(truth, plain(&votes));
            weighed.add_vote(truth, weighted(&votes));
        }
    }
    (unweighed, weighed)
}

/// One group of second answers.
fn resolve<K: Copy>(
    registry: &Registry,
    settings: &JudgeSettings,
    group: &ResolveGroup<K>,
) -> (GroupScore<K>, Decider) {
    let marked = mark(registry, settings, &group.item, &group.completions);
    let completions: Vec<CompletionScore<K>> = marked
        .marks
        .iter()
        .map(|mark| match marked.decider {
            Decider::Verifier | Decider::Nobody => mark.verified(),
            Decider::Critics => mark.undecided("nobody knows whether it is right"),
        })
        .collect();
    let score = GroupScore {
        owner: group.owner,
        slot: group.slot,
        env: group.item.env,
        level: group.item.level,
        useful: mixed(&completions),
        trainable: has_advantage(completions.iter().map(|one| one.reward)),
        completions,
    };
    (score, marked.decider)
}

/// For each item of known truth, how many of how many first answers are right.
fn shares_right<'a, K>(
    answers: &[&'a AnswerGroup<K>],
    marked: &[Marked],
    scores: &[GroupScore<K>],
) -> BTreeMap<ItemKey<'a>, (usize, usize)> {
    let mut shares = BTreeMap::new();
    for ((group, marked), score) in answers.iter().zip(marked).zip(scores) {
        if marked.decider == Decider::Verifier {
            let (right, all): &mut (usize, usize) =
                shares.entry(item_key(&group.item)).or_default();
            *right += score.completions.iter().filter(|one| one.correct).count();
            *all += score.completions.len();
        }
    }
    shares
}

/// The share right of what was known before a resolution: of the votes that
/// its prompt showed, or else of the first answers to the same item.
fn before<K>(
    registry: &Registry,
    group: &ResolveGroup<K>,
    known: &BTreeMap<ItemKey<'_>, (usize, usize)>,
) -> Option<Ppm> {
    let environment = registry.get(&group.item.env)?;
    let (right, all) = if group.read.is_empty() {
        *known.get(&item_key(&group.item))?
    } else {
        // Each answer once: what stood behind it says how much of it was known.
        let votes = |peer: &PeerAnswer| peer.right as usize;
        let right = |peer: &&PeerAnswer| environment.accepts(&group.item, &peer.answer);
        let all: usize = group.read.iter().map(votes).sum();
        let behind: usize = group.read.iter().filter(right).map(votes).sum();
        if all > 0 {
            (behind, all)
        } else {
            (group.read.iter().filter(right).count(), group.read.len())
        }
    };
    (all > 0).then(|| share(right, all))
}

fn mean_reward<'a, K: 'a>(completions: impl Iterator<Item = &'a CompletionScore<K>>) -> Ppm {
    let (sum, count) = completions.fold((0u128, 0u64), |(sum, count), one| {
        (sum + u128::from(one.reward.0), count + 1)
    });
    mean(sum, count)
}

/// What a peer did, while it is added up.
#[derive(Default)]
struct Tally {
    work: Work,
    /// Completions of first answers, whatever their environment.
    completions: usize,
    well_formed: usize,
    reward: u128,
    /// Right, of all whose truth is known.
    verified: (usize, usize),
}

impl Tally {
    /// Adds a group of first answers; `counts` if it is a contribution.
    fn add_answers<K>(&mut self, group: &GroupScore<K>, decider: Decider, counts: bool) {
        let completions = &group.completions;
        self.completions += completions.len();
        self.well_formed += completions.iter().filter(|one| one.well_formed).count();
        let reward: u128 = completions.iter().map(|one| u128::from(one.reward.0)).sum();
        self.reward += reward;
        if decider == Decider::Nobody || completions.is_empty() {
            return;
        }
        let right = completions.iter().filter(|one| one.correct).count();
        let wrong = completions.len() - right;
        let credit = if decider == Decider::Verifier {
            self.verified.0 += right;
            self.verified.1 += completions.len();
            let beside = if group.useful { wrong as u128 } else { 0 };
            right as u128 * u128::from(ONE) + beside * u128::from(ONE / 2)
        } else {
            reward
        };
        if !counts {
            return;
        }
        let work = &mut self.work;
        work.answers = work.answers.saturating_add(completions.len() as u64);
        work.right = work.right.saturating_add(right as u64);
        work.credit = work.credit.saturating_add(saturated(credit));
        work.groups = work.groups.saturating_add(1);
        work.useful = work.useful.saturating_add(u64::from(group.useful));
    }

    fn add_resolutions(&mut self, right: usize, all: usize, before: Ppm) {
        let work = &mut self.work;
        work.resolutions = work.resolutions.saturating_add(all as u64);
        work.resolved = work.resolved.saturating_add(right as u64);
        let before = u128::from(before.0) * all as u128;
        work.before = work.before.saturating_add(saturated(before));
    }

    fn finish<K: Ord + Copy>(
        mut self,
        peer: K,
        hearing: &Hearing<K>,
        settings: &JudgeSettings,
    ) -> PeerScore {
        let calibration: Calibration = hearing.calibrations.get(&peer).copied().unwrap_or_default();
        self.work.judged = calibration.observations();
        self.work.brier = calibration.brier();
        self.work.calibration = calibration.weight(settings);
        let parts = self.work.shared(settings);
        PeerScore {
            contribution: parts.contribution(settings),
            parts,
            reward: ppm(divide(self.reward, self.completions as u128)),
            accuracy: share(self.verified.0, self.verified.1),
            format_rate: share(self.well_formed, self.completions),
            critique_brier: self.work.brier,
            critique_weight: hearing.weights.get(&peer).copied().unwrap_or(Ppm::ZERO),
            calibration,
            resolve_gain: self.work.resolve_gain(),
            why: self.work.why(settings),
            work: self.work,
        }
    }
}

fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
