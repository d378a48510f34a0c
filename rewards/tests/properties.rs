//! What holds for every round, however odd.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail loudly")]

mod common;

use std::collections::BTreeMap;

use common::{Peer, Plan, fractions, plan, verdict};
use proptest::{collection::vec, prelude::*};
use rewards::{
    AnswerGroup, CompletionScore, CritiqueGroup, Included, JudgeSettings, ResolveGroup, Scoreboard,
    judge,
};
use tasks::{EnvId, Item, Ppm, Registry, Seed, dialogue::PeerAnswer};

/// Exact, or with the first two environments judged and some items known.
fn settings(registry: &Registry, judged: bool) -> JudgeSettings {
    let mut settings = JudgeSettings::default();
    if judged {
        for env in 0..2 {
            let known = common::item(registry, env, 0);
            settings.judged.insert(known.env);
            settings.known.insert((known.env, known.question));
        }
        settings.copy_chars = 4;
    }
    settings
}

/// Moves every element by `turns`, then swaps neighbours: another order.
fn reorder<T>(items: &mut [T], turns: usize) {
    if !items.is_empty() {
        items.rotate_left(turns % items.len());
        for pair in items.chunks_mut(2) {
            pair.reverse();
        }
    }
}

/// Without what critics said, which is the only thing critics may change.
fn silent(board: &Scoreboard<Peer>) -> Vec<Vec<CompletionScore<Peer>>> {
    let mut groups: Vec<_> = board
        .answers
        .iter()
        .chain(&board.resolutions)
        .map(|group| group.completions.clone())
        .collect();
    for one in groups.iter_mut().flatten() {
        one.critiques.clear();
    }
    groups
}

fn renamed(plan: &Plan, name: impl Fn(Peer) -> Peer) -> Plan {
    let mut plan = plan.clone();
    for one in plan.answers.iter_mut().chain(&mut plan.resolutions) {
        one.owner = name(one.owner);
    }
    for one in &mut plan.critiques {
        one.critic = name(one.critic);
        one.owner = name(one.owner);
    }
    plan
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn order_does_not_matter(plan in plan(), turns in 0..50usize, judged: bool) {
        let registry = Registry::builtin();
        let settings = settings(&registry, judged);
        let mut included = plan.included(&registry);
        let board = judge(&registry, &included, &settings);
        reorder(&mut included.answers, turns);
        reorder(&mut included.critiques, turns);
        reorder(&mut included.resolutions, turns);
        prop_assert_eq!(judge(&registry, &included, &settings), board);
    }

    #[test]
    fn every_fraction_is_at_most_one(plan in plan(), judged: bool) {
        let registry = Registry::builtin();
        let included = plan.included(&registry);
        let board = judge(&registry, &included, &settings(&registry, judged));
        for fraction in fractions(&board) {
            prop_assert!(fraction <= Ppm::ONE);
        }
        for group in board.answers.iter().chain(&board.resolutions) {
            prop_assert!(group.trainable || !group.useful);
            let first = group.completions.first().map(|one| one.reward);
            let flat = group.completions.iter().all(|one| Some(one.reward) == first);
            prop_assert_eq!(group.trainable, !flat && first.is_some());
        }
    }

    #[test]
    fn own_votes_change_nothing(plan in plan(), says in vec(any::<bool>(), 1..5), judged: bool) {
        let registry = Registry::builtin();
        let settings = settings(&registry, judged);
        let mut included = plan.included(&registry);
        included.critiques.retain(|critique| critique.critic != critique.target_owner);
        let without = judge(&registry, &included, &settings);
        let own: Vec<CritiqueGroup<Peer>> = included
            .answers
            .iter()
            .flat_map(|group| (0..6).map(|index| CritiqueGroup {
                critic: group.owner,
                target_owner: group.owner,
                target_slot: group.slot,
                target_completion: index,
                completions: says.iter().map(|&says| verdict(says)).collect(),
            }))
            .collect();
        let any_own = !own.is_empty();
        included.critiques.extend(own);
        let mut with = judge(&registry, &included, &settings);
        let counted = with.ignored.remove(&rewards::Ignored::OwnCompletion);
        prop_assert_eq!(counted.is_some(), any_own);
        // Own votes are duplicates of each other where a slot came twice.
        with.ignored.remove(&rewards::Ignored::Duplicate);
        let mut without = without;
        without.ignored.remove(&rewards::Ignored::Duplicate);
        for critique in &with.critiques {
            let own = critique.critic == critique.target_owner;
            prop_assert_eq!(own, critique.ignored == Some(rewards::Ignored::OwnCompletion));
            prop_assert!(!own || critique.samples.iter().all(|one| one.reward == Ppm::ZERO));
        }
        with.critiques.retain(|critique| critique.critic != critique.target_owner);
        prop_assert_eq!(with, without);
    }

    #[test]
    fn colluders_change_no_reward_of_an_exact_environment(
        plan in plan(),
        colluders in 1..6u8,
        says in any::<u64>(),
    ) {
        let registry = Registry::builtin();
        let settings = JudgeSettings::default();
        let mut included = plan.included(&registry);
        let before = judge(&registry, &included, &settings);
        for colluder in 0..colluders {
            for group in &before.answers {
                for (index, one) in (0u16..).zip(&group.completions) {
                    let lie = one.truth.map_or(says >> (index % 64) & 1 == 1, |truth| !truth);
                    included.critiques.push(CritiqueGroup {
                        critic: 100 + colluder,
                        target_owner: group.owner,
                        target_slot: group.slot,
                        target_completion: index,
                        completions: vec![verdict(lie); 4],
                    });
                }
            }
        }
        let after = judge(&registry, &included, &settings);
        prop_assert_eq!(silent(&before), silent(&after));
        for (peer, score) in &before.peers {
            prop_assert_eq!(after.contribution(peer), score.contribution);
        }
        for colluder in 0..colluders {
            prop_assert_eq!(after.contribution(&(100 + colluder)), Ppm::ZERO);
        }
    }

    #[test]
    fn names_carry_no_weight(plan in plan(), judged: bool) {
        let registry = Registry::builtin();
        let settings = settings(&registry, judged);
        let turn = |peer: Peer| 200 - peer;
        let mut included = plan.included(&registry);
        let board = judge(&registry, &included, &settings);
        let arrival = included
            .arrival
            .iter()
            .map(|(peer, rank)| (turn(*peer), *rank))
            .collect();
        included = renamed(&plan, turn).included(&registry);
        included.arrival = arrival;
        let mut turned = judge(&registry, &included, &settings);
        prop_assert_eq!(turned.ignored, board.ignored);
        let expected: BTreeMap<_, _> = board
            .peers
            .iter()
            .map(|(peer, score)| (turn(*peer), score.clone()))
            .collect();
        prop_assert_eq!(&turned.peers, &expected);
        prop_assert_eq!(turned.weighted_judge_accuracy, board.weighted_judge_accuracy);
        for group in &mut turned.answers {
            group.owner = turn(group.owner);
            for one in &mut group.completions {
                for view in &mut one.critiques {
                    view.critic = turn(view.critic);
                }
                one.critiques.sort_by_key(|view| view.critic);
            }
        }
        turned.answers.sort_by_key(|group| (group.owner, group.slot));
        prop_assert_eq!(turned.answers, board.answers);
    }

    #[test]
    fn doubling_the_work_changes_no_full_measure(plan in plan()) {
        let registry = Registry::builtin();
        // Any answer is the full measure, so that volume is all that changes.
        let settings = JudgeSettings {
            full_answers: 1,
            full_resolutions: 1,
            shared_answers: true,
            ..JudgeSettings::default()
        };
        let mut included = plan.included(&registry);
        included.critiques.clear();
        let unique = |slots: &mut Vec<(Peer, u32)>, place| {
            let new = !slots.contains(&place);
            slots.push(place);
            new
        };
        let mut seen = Vec::new();
        included.answers.retain(|group| unique(&mut seen, (group.owner, group.slot)));
        let mut seen = Vec::new();
        included.resolutions.retain(|group| unique(&mut seen, (group.owner, group.slot)));
        let once = judge(&registry, &included, &settings);
        let more: Vec<_> = included.answers.clone();
        included.answers.extend(more.into_iter().map(|mut group| {
            group.slot += 1_000;
            group
        }));
        let more: Vec<_> = included.resolutions.clone();
        included.resolutions.extend(more.into_iter().map(|mut group| {
            group.slot += 1_000;
            group
        }));
        let twice = judge(&registry, &included, &settings);
        for (peer, score) in &once.peers {
            prop_assert_eq!(twice.contribution(peer), score.contribution);
        }
    }

    #[test]
    fn splitting_one_peer_into_two_earns_both_together_no_more(plan in plan()) {
        let registry = Registry::builtin();
        let settings = JudgeSettings {
            shared_answers: true,
            ..JudgeSettings::default()
        };
        let mut included = plan.included(&registry);
        included.critiques.clear();
        for (slot, group) in (0..).zip(&mut included.answers) {
            (group.owner, group.slot) = (0, slot);
        }
        let whole = judge(&registry, &included, &settings);
        for group in &mut included.answers {
            group.owner = u8::try_from(group.slot % 2).unwrap();
        }
        let split = judge(&registry, &included, &settings);
        let part = |board: &Scoreboard<Peer>, peer| {
            let score = board.peers.get(&peer);
            score.map_or((0, Ppm::ZERO), |score| (score.work.answers, score.parts.answers))
        };
        let (all, together) = part(&whole, 0);
        let (n0, first) = part(&split, 0);
        let (n1, second) = part(&split, 1);
        prop_assert_eq!(n0 + n1, all);
        // Past the full measure, work that is split still fills it: nothing
        // stops a machine from doing more than it was given to do.
        if all <= u64::from(settings.full_answers) {
            // Each part is rounded twice.
            prop_assert!(first.0 + second.0 <= together.0 + 4, "{first} + {second} > {together}");
        }
    }

    #[test]
    fn nothing_panics_on_any_text(
        texts in vec(".{0,60}", 1..8),
        tagged in vec("<(answer|verdict|think)>[^<]{0,9}</(answer|verdict|think)>", 1..8),
        slots in vec(any::<u32>(), 4),
        places in vec(any::<u16>(), 4),
        odd in any::<[u32; 8]>(),
        judged: bool,
    ) {
        let registry = Registry::builtin();
        let mut settings = settings(&registry, judged);
        (settings.prior_verdicts, settings.prior_observations) = (odd[0], odd[1]);
        (settings.weight_cap, settings.clip) = (odd[2], Ppm(odd[3]));
        (settings.quorum_critics, settings.quorum_weight) = (odd[4] % 4, Ppm(odd[5]));
        (settings.full_answers, settings.full_resolutions) = (odd[6], odd[7]);
        (settings.full_critiques, settings.shared_answers) = (odd[2], judged);
        (settings.shares.answers, settings.shares.critiques) = (Ppm(odd[0]), Ppm(odd[1]));
        let completions: Vec<String> = texts.iter().chain(&tagged).cloned().collect();
        let mut included = Included::<Peer>::default();
        for (index, &slot) in (0u8..).zip(&slots) {
            let mut item: Item = common::item(&registry, usize::from(index % 2), index);
            if index == 3 {
                item.env = EnvId([7; 32]);
            }
            included.answers.push(AnswerGroup {
                owner: index,
                slot,
                item: item.clone(),
                completions: completions.clone(),
            });
            included.resolutions.push(ResolveGroup {
                owner: index,
                slot,
                item,
                read: texts
                    .iter()
                    .map(|text| PeerAnswer { answer: text.clone(), right: slot, wrong: u32::MAX })
                    .collect(),
                completions: completions.clone(),
            });
            for (critic, place) in (0u8..).zip(places.iter().copied().chain([0, 1, 2, 3])) {
                included.critiques.push(CritiqueGroup {
                    critic,
                    target_owner: index,
                    target_slot: slot,
                    target_completion: place,
                    completions: completions.clone(),
                });
            }
        }
        let board = judge(&registry, &included, &settings);
        for fraction in fractions(&board) {
            prop_assert!(fraction <= Ppm::ONE);
        }
        let found = board.ignored.get(&rewards::Ignored::UnknownEnvironment);
        prop_assert_eq!(found, Some(&2));
    }
}

#[test]
fn an_empty_round_scores_nobody() {
    let registry = Registry::builtin();
    let board = judge(
        &registry,
        &Included::<Peer>::default(),
        &JudgeSettings::default(),
    );
    assert!(board.peers.is_empty() && board.answers.is_empty() && board.ignored.is_empty());
    assert_eq!(board.contribution(&3), Ppm::ZERO);
    assert!(fractions(&board).iter().all(|one| *one == Ppm::ZERO));
    // The seed type is what selection takes; a round without candidates selects none.
    let plan = rewards::SelectionPlan {
        local: 4,
        external: 4,
        per_peer: 2,
    };
    let none = rewards::select_groups::<Peer>(0, &[], &plan, &Seed([1; 32]));
    assert!(none.local.is_empty() && none.external.is_empty());
}
