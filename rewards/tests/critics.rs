//! Swarms of critics, honest and not, and what their word comes to.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail loudly")]

mod common;

use std::collections::BTreeMap;

use common::verdict;
use rewards::{
    AnswerGroup, Calibration, CritiqueGroup, Included, JudgeSettings, ResolveGroup, Scoreboard,
    judge,
};
use tasks::{Draw, Item, Ppm, Registry, Seed, Style, dialogue::PeerAnswer};

const GROUP: u16 = 8;
const SAMPLES: usize = 4;

/// How a critic judges.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Critic {
    /// Right in this percentage of answers; on those, in 9 of 10 samples, on
    /// the others, in 2 of 10: views that are held, not single slips.
    Honest(u64),
    /// A coin.
    Random,
    /// Always the opposite of the truth.
    Liar,
    /// Always "wrong".
    Constant,
}

impl Critic {
    fn samples(self, truth: bool, draw: &mut Draw) -> Vec<String> {
        let chance = match self {
            Critic::Honest(percent) if draw.percent(percent) => 90,
            Critic::Honest(_) => 20,
            Critic::Random => 50,
            Critic::Liar => 0,
            Critic::Constant if truth => 0,
            Critic::Constant => 100,
        };
        (0..SAMPLES)
            .map(|_| verdict(if draw.percent(chance) { truth } else { !truth }))
            .collect()
    }
}

/// Groups of answers to sums, 40% right, each completion read by `readers` critics.
fn round(registry: &Registry, critics: &[Critic], seed: u64, readers: usize) -> Included<u16> {
    let add = registry.by_name("add").unwrap();
    let seed = Seed::derive(&[b"critics", &seed.to_le_bytes()]);
    let mut draw = seed.draw();
    let mut included = Included::default();
    for owner in 0..12u16 {
        // Owners are no critics here: their names begin at 1,000.
        let owner = 1_000 + owner;
        let item = add.generate(&Seed::derive(&[&seed.0, &owner.to_le_bytes()]), 2);
        let mut completions = Vec::new();
        for index in 0..GROUP {
            let truth = draw.percent(40);
            completions.push(if truth {
                add.demonstrate(&item, Style::Direct)
            } else {
                let wrong = add.distractor(&item, &Seed::derive(&[&index.to_le_bytes()]));
                format!("<answer>{wrong}</answer>")
            });
            let first = draw.index(critics.len());
            for reader in 0..readers {
                let critic = (first + reader * 7) % critics.len();
                included.critiques.push(CritiqueGroup {
                    critic: u16::try_from(critic).unwrap(),
                    target_owner: owner,
                    target_slot: 0,
                    target_completion: index,
                    completions: critics[critic].samples(truth, &mut draw),
                });
            }
        }
        included.answers.push(AnswerGroup {
            owner,
            slot: 0,
            item,
            completions,
        });
    }
    included
}

fn mean(values: impl Iterator<Item = Ppm>) -> u64 {
    let values: Vec<u64> = values.map(|value| u64::from(value.0)).collect();
    values.iter().sum::<u64>() / values.len() as u64
}

#[test]
fn a_calibrated_critic_outweighs_a_random_one() {
    let registry = Registry::builtin();
    let critics = [
        Critic::Honest(75),
        Critic::Random,
        Critic::Constant,
        Critic::Liar,
    ];
    for seed in 0..20 {
        let included = round(&registry, &critics, seed, 4);
        let board = judge(&registry, &included, &JudgeSettings::default());
        let peer = |critic: u16| &board.peers[&critic];
        let honest = peer(0);
        assert!(honest.critique_weight > Ppm(60_000), "seed {seed}");
        for other in 1..4 {
            assert!(
                peer(other).critique_weight < honest.critique_weight,
                "seed {seed}"
            );
            assert!(
                peer(other).contribution < honest.contribution,
                "seed {seed}"
            );
            assert!(
                peer(other).critique_brier > honest.critique_brier,
                "seed {seed}"
            );
        }
        assert_eq!(peer(2).critique_weight, Ppm::ZERO);
        assert_eq!(peer(3).critique_weight, Ppm::ZERO);
    }
}

#[test]
fn no_weight_is_more_than_three_times_the_median() {
    let registry = Registry::builtin();
    let mut critics = vec![Critic::Honest(66); 6];
    critics.push(Critic::Honest(100));
    let included = round(&registry, &critics, 3, 7);
    let weights = |weight_cap: u32| -> Vec<u32> {
        let settings = JudgeSettings {
            weight_cap,
            ..JudgeSettings::default()
        };
        let board = judge(&registry, &included, &settings);
        let all = (0..7).map(|critic| board.peers[&critic].critique_weight.0);
        all.filter(|weight| *weight > 0).collect()
    };
    let (free, capped) = (weights(1_000_000), weights(3));
    let mut sorted = free.clone();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let median_twice = sorted[middle] + sorted[(sorted.len() - 1) / 2];
    let limit = 3 * median_twice / 2;
    // The best critic is above the limit, and it alone loses.
    assert!(free[free.len() - 1] > limit, "{free:?}");
    let expected: Vec<u32> = free.iter().map(|weight| (*weight).min(limit)).collect();
    assert_eq!(capped, expected);
    assert_ne!(capped, free);
}

#[test]
fn the_weighted_vote_beats_the_plain_vote_with_forty_percent_liars() {
    let registry = Registry::builtin();
    let mut critics = vec![Critic::Honest(75); 12];
    critics.extend([Critic::Liar; 8]);
    let boards: Vec<Scoreboard<u16>> = (0..20)
        .map(|seed| {
            let included = round(&registry, &critics, seed, 5);
            judge(&registry, &included, &JudgeSettings::default())
        })
        .collect();
    for (seed, board) in boards.iter().enumerate() {
        assert!(
            board.weighted_judge_accuracy > board.plain_judge_accuracy,
            "seed {seed}"
        );
    }
    let plain = mean(boards.iter().map(|board| board.plain_judge_accuracy));
    let weighted = mean(boards.iter().map(|board| board.weighted_judge_accuracy));
    println!("40% liars: plain {plain}, weighted {weighted}");
    assert!(plain < 600_000, "{plain}");
    assert!(weighted > 750_000, "{weighted}");
}

#[test]
fn weighing_costs_an_honest_swarm_little() {
    let registry = Registry::builtin();
    let critics = vec![Critic::Honest(75); 20];
    let accuracies: Vec<(Ppm, Ppm)> = (0..20)
        .map(|seed| {
            let included = round(&registry, &critics, seed, 5);
            let board = judge(&registry, &included, &JudgeSettings::default());
            (board.plain_judge_accuracy, board.weighted_judge_accuracy)
        })
        .collect();
    let plain = mean(accuracies.iter().map(|pair| pair.0));
    let weighted = mean(accuracies.iter().map(|pair| pair.1));
    println!("no liars: plain {plain}, weighted {weighted}");
    // Where there is nobody to weigh down, weighing costs little.
    assert!(weighted + 50_000 > plain, "{weighted} {plain}");
}

/// The same round with half of the items known and the others for critics to decide.
fn judged(
    registry: &Registry,
    critics: &[Critic],
    seed: u64,
) -> (Scoreboard<u16>, Scoreboard<u16>) {
    let included = round(registry, critics, seed, 5);
    let mut settings = JudgeSettings::default();
    for (index, group) in included.answers.iter().enumerate() {
        settings.judged.insert(group.item.env);
        if index % 2 == 0 {
            let known = (group.item.env, group.item.question.clone());
            settings.known.insert(known);
        }
    }
    let exact = judge(registry, &included, &JudgeSettings::default());
    (judge(registry, &included, &settings), exact)
}

#[test]
fn known_answers_keep_judged_rewards_true_against_forty_percent_liars() {
    let registry = Registry::builtin();
    let mut critics = vec![Critic::Honest(80); 12];
    critics.extend([Critic::Liar; 8]);
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for seed in 0..20 {
        let (board, exact) = judged(&registry, &critics, seed);
        for (group, exact) in board.answers.iter().zip(&exact.answers) {
            for (one, exact) in group.completions.iter().zip(&exact.completions) {
                match one.truth {
                    Some(_) => assert_eq!(one.reward, exact.reward),
                    None if exact.correct => right.push(one.reward),
                    None => wrong.push(one.reward),
                }
            }
        }
        for critique in &board.critiques {
            let unknown = critique.truth.is_none();
            assert!(!unknown || critique.samples.iter().all(|one| one.reward == Ppm::ZERO));
            assert!(!unknown || !critique.trainable);
        }
    }
    let (right, wrong) = (mean(right.into_iter()), mean(wrong.into_iter()));
    println!("judged: right answers earn {right}, wrong ones {wrong}");
    assert!(right > wrong + 300_000, "{right} {wrong}");
}

#[test]
fn without_calibration_a_judged_group_teaches_nothing() {
    let registry = Registry::builtin();
    let included = round(&registry, &[Critic::Honest(100); 9], 1, 5);
    let mut settings = JudgeSettings::default();
    settings.judged.insert(included.answers[0].item.env);
    let board = judge(&registry, &included, &settings);
    for group in &board.answers {
        assert!(!group.useful && !group.trainable);
        assert!(group.completions.iter().all(|one| one.reward == Ppm::ZERO));
    }
    assert_eq!(board.answer_accuracy, Ppm::ZERO);
}

fn sum(registry: &Registry) -> Item {
    let add = registry.by_name("add").unwrap();
    add.generate(&Seed::derive(&[b"one sum"]), 2)
}

fn answers(owner: u16, item: &Item, texts: &[String]) -> AnswerGroup<u16> {
    AnswerGroup {
        owner,
        slot: 0,
        item: item.clone(),
        completions: texts.to_vec(),
    }
}

#[test]
fn a_group_without_variance_is_not_useful() {
    let registry = Registry::builtin();
    let item = sum(&registry);
    let right = format!("<answer>{}</answer>", item.reference);
    let wrong = "<answer>0</answer>".to_owned();
    let useful = |texts: &[String]| {
        let mut included = Included::default();
        included.answers.push(answers(1, &item, texts));
        let board = judge(&registry, &included, &JudgeSettings::default());
        (board.answers[0].useful, board.answers[0].trainable)
    };
    assert_eq!(useful(&[right.clone(), right.clone()]), (false, false));
    assert_eq!(useful(&[wrong.clone(), wrong.clone()]), (false, false));
    assert_eq!(useful(&[right.clone(), wrong]), (true, true));
    assert_eq!(useful(&[]), (false, false));
    // Equally right, one wordy: there is an advantage, but nothing wrong to learn from.
    let wordy = format!("<think>{}</think>{right}", "1 ".repeat(300));
    assert_eq!(useful(&[right, wordy]), (false, true));
}

#[test]
fn two_honest_peers_who_answer_alike_both_earn() {
    let registry = Registry::builtin();
    let item = sum(&registry);
    let right = format!("<answer>{}</answer>", item.reference);
    let mut included = Included::default();
    for owner in 1..3 {
        included
            .answers
            .push(answers(owner, &item, std::slice::from_ref(&right)));
        included.arrival.insert(owner, u32::from(owner));
    }
    let settings = JudgeSettings {
        copy_chars: 0,
        ..JudgeSettings::default()
    };
    let board = judge(&registry, &included, &settings);
    assert_eq!(board.reward, Ppm::ONE);
}

#[test]
fn a_later_copy_in_a_judged_environment_earns_nothing_and_the_earlier_is_untouched() {
    let registry = Registry::builtin();
    let critics = [Critic::Honest(100); 9];
    let mut included = round(&registry, &critics, 5, 5);
    let mut settings = JudgeSettings {
        copy_chars: 1,
        ..JudgeSettings::default()
    };
    for group in &included.answers[1..] {
        settings
            .known
            .insert((group.item.env, group.item.question.clone()));
    }
    let earlier = included.answers[0].clone();
    settings.judged.insert(earlier.item.env);
    let before = judge(&registry, &included, &settings);
    included.answers.push(AnswerGroup {
        owner: 2_000,
        ..earlier.clone()
    });
    included.arrival.extend([(earlier.owner, 0), (2_000, 1)]);
    let after = judge(&registry, &included, &settings);
    let group = |board: &Scoreboard<u16>, owner: u16| {
        let found = board.answers.iter().find(|group| group.owner == owner);
        found.unwrap().completions.clone()
    };
    assert_eq!(group(&before, earlier.owner), group(&after, earlier.owner));
    assert!(
        group(&after, earlier.owner)
            .iter()
            .any(|one| one.reward > Ppm::ZERO)
    );
    for one in group(&after, 2_000) {
        assert_eq!(
            (one.reward, one.why.as_str()),
            (Ppm::ZERO, "a later copy of a peer's text")
        );
    }
}

#[test]
fn resolutions_are_held_against_what_was_read() {
    let registry = Registry::builtin();
    let item = sum(&registry);
    let right = format!("<answer>{}</answer>", item.reference);
    let wrong = "<answer>0</answer>".to_owned();
    let shown = |answer: &str| PeerAnswer {
        answer: answer.to_owned(),
        right: 1,
        wrong: 0,
    };
    let mut included = Included::default();
    included
        .answers
        .push(answers(1, &item, &[right.clone(), wrong.clone()]));
    let group = |owner: u16, read: Vec<PeerAnswer>, completions: Vec<String>| ResolveGroup {
        owner,
        slot: 0,
        item: item.clone(),
        read,
        completions,
    };
    let four = vec![shown(&item.reference), shown("0"), shown("0"), shown("0")];
    included.resolutions = vec![
        group(2, four, vec![right.clone(), right.clone()]),
        group(3, Vec::new(), vec![right.clone(), right]),
        group(4, vec![shown(&item.reference)], vec![wrong.clone(), wrong]),
    ];
    let board = judge(&registry, &included, &JudgeSettings::default());
    assert_eq!(board.peers[&2].resolve_gain, 750_000);
    // Read nothing: half of the first answers were right.
    assert_eq!(board.peers[&3].resolve_gain, 500_000);
    assert_eq!(board.peers[&4].resolve_gain, -1_000_000);
    assert_eq!(board.contribution(&4), Ppm::ZERO);
    assert!(board.contribution(&2) > Ppm::ZERO);
    assert_eq!(board.resolve_accuracy, Ppm(666_667));
    assert_eq!(board.resolutions[0].completions[0].reward, Ppm::ONE);
}

#[test]
fn critiques_are_paid_one_sample_at_a_time() {
    let registry = Registry::builtin();
    let item = sum(&registry);
    let mut included = Included::default();
    let texts = [
        format!("<answer>{}</answer>", item.reference),
        String::new(),
    ];
    included.answers.push(answers(1, &item, &texts));
    let about = |index: u16, completions: Vec<String>| CritiqueGroup {
        critic: 2,
        target_owner: 1,
        target_slot: 0,
        target_completion: index,
        completions,
    };
    included.critiques = vec![
        about(0, vec![verdict(true), verdict(false), "right".to_owned()]),
        about(1, vec![verdict(false)]),
        about(9, vec![verdict(false)]),
    ];
    let board = judge(&registry, &included, &JudgeSettings::default());
    let rewards: Vec<Ppm> = board.critiques[0]
        .samples
        .iter()
        .map(|one| one.reward)
        .collect();
    assert_eq!(rewards, [Ppm::ONE, Ppm::ZERO, Ppm::ZERO]);
    assert!(board.critiques[0].trainable);
    assert_eq!(board.critiques[0].right_ppm, Some(Ppm(500_000)));
    assert_eq!(
        board.critiques[1].ignored,
        Some(rewards::Ignored::NothingToJudge)
    );
    assert_eq!(
        board.critiques[2].ignored,
        Some(rewards::Ignored::UnknownTarget)
    );
    let view = board.answers[0].completions[0].critiques[0];
    assert_eq!(
        (view.critic, view.right_ppm, view.sample_index),
        (2, Ppm(500_000), 0)
    );
    // The only group it read: nothing else vouches for it.
    assert_eq!(view.weight_ppm, Ppm::ZERO);
}

/// What a round of known truth showed of its critics.
fn seen(registry: &Registry, critics: &[Critic], rounds: u64) -> BTreeMap<u16, Calibration> {
    let mut history: BTreeMap<u16, Calibration> = BTreeMap::new();
    for seed in 0..rounds {
        let included = round(registry, critics, 1_000 + seed, 5);
        let board = judge(registry, &included, &JudgeSettings::default());
        for (critic, score) in &board.peers {
            let known = history.entry(*critic).or_default();
            *known = known.with(score.calibration);
        }
    }
    history
}

#[test]
fn what_earlier_rounds_showed_gives_a_word_its_weight_where_nothing_is_known() {
    let registry = Registry::builtin();
    let critics = [Critic::Honest(85); 9];
    let mut included = round(&registry, &critics, 1, 5);
    let mut settings = JudgeSettings::default();
    settings.judged.insert(included.answers[0].item.env);
    let exact = judge(&registry, &included, &JudgeSettings::default());
    included.history = seen(&registry, &critics, 2);
    let board = judge(&registry, &included, &settings);
    let rewards = |wanted: bool| {
        let pairs = board.answers.iter().zip(&exact.answers);
        let completions =
            pairs.flat_map(|(one, exact)| one.completions.iter().zip(&exact.completions));
        let rewards = completions.filter(move |(_, exact)| exact.correct == wanted);
        mean(rewards.map(|(one, _)| one.reward))
    };
    assert!(board.answers.iter().filter(|group| group.trainable).count() > 9);
    assert!(rewards(true) > rewards(false) + 400_000);
    // Nobody is paid for what an earlier round showed.
    assert!(
        board
            .peers
            .values()
            .all(|peer| peer.parts.critiques == Ppm::ZERO)
    );
}

#[test]
fn a_verdict_is_on_an_answer_whoever_else_gave_it() {
    let registry = Registry::builtin();
    let item = sum(&registry);
    let texts = [
        format!("<answer>{}</answer>", item.reference),
        "<answer>0</answer>".to_owned(),
    ];
    let history = seen(&registry, &[Critic::Honest(100); 4], 3);
    let mut included = Included {
        history,
        ..Included::default()
    };
    for owner in [0, 100, 101] {
        included.answers.push(answers(owner, &item, &texts));
    }
    // Critic 0, who also answered, holds the wrong answer right; two others do not.
    for (critic, says) in [(0, false), (1, true), (2, true)] {
        for index in 0..2 {
            included.critiques.push(CritiqueGroup {
                critic,
                target_owner: 100,
                target_slot: 0,
                target_completion: index,
                completions: vec![verdict((index == 0) == says); SAMPLES],
            });
        }
    }
    let mut settings = JudgeSettings::default();
    settings.judged.insert(item.env);
    let board = judge(&registry, &included, &settings);
    let rewards = |owner: u16| -> Vec<Ppm> {
        let group = board.answers.iter().find(|group| group.owner == owner);
        group
            .unwrap()
            .completions
            .iter()
            .map(|one| one.reward)
            .collect()
    };
    assert_eq!(rewards(101), rewards(100));
    assert!(rewards(100)[0] > rewards(100)[1]);
    // Of critic 0's own answers its own word says nothing.
    assert_eq!(rewards(0), [Ppm::ONE, Ppm::ZERO]);
    assert!(rewards(100)[1] > Ppm::ZERO);
}

#[test]
fn twins_tell_when_critics_and_verifier_part() {
    let registry = Registry::builtin();
    let told = |critic: Critic| {
        let mut included = round(&registry, &[critic; 9], 3, 5);
        // They were good once, and so their word has weight.
        included.history = seen(&registry, &[Critic::Honest(100); 9], 8);
        let mut settings = JudgeSettings::default();
        for group in &included.answers {
            settings.judged.insert(group.item.env);
            let known = (group.item.env, group.item.question.clone());
            settings.known.insert(known);
        }
        judge(&registry, &included, &settings).twins
    };
    let (honest, liars) = (told(Critic::Honest(100)), told(Critic::Liar));
    assert!(honest.answers > 50 && liars.answers > 50);
    assert!(
        honest.critics.0.abs_diff(honest.verifier.0) < 100_000,
        "{honest:?}"
    );
    // 40% are right, so liars call 60% right.
    assert!(
        liars.critics > liars.verifier.saturating_add(Ppm(100_000)),
        "{liars:?}"
    );
}
