//! Training, from scored text to moved weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{VOCAB, config_with, decoder, tokenizer_json};
use policy::{
    AdvantageKind, ChatMessage, GrpoSettings, Policy, Request, StepReport, TrainCompletion,
    TrainGroup, TrainTurn,
};

fn policy(seed: u64) -> Policy {
    let config = config_with(VOCAB, true);
    let weights = decoder(config.clone(), seed)
        .to_safetensors(DType::F32)
        .unwrap();
    let config = serde_json::to_vec(&config).unwrap();
    Policy::from_parts(&config, tokenizer_json().as_bytes(), &weights, &Device::Cpu).unwrap()
}

fn completion(text: &str) -> TrainCompletion {
    TrainCompletion {
        text: text.into(),
        tokens: None,
        finished: true,
        ..TrainCompletion::default()
    }
}

fn group(origin: u64, prompt: &str, scored: &[(&str, f32)]) -> TrainGroup {
    TrainGroup {
        prompt: vec![ChatMessage::new("user", prompt)],
        completions: scored.iter().map(|(text, _)| completion(text)).collect(),
        rewards: scored.iter().map(|&(_, reward)| reward).collect(),
        origin,
    }
}

fn groups() -> Vec<TrainGroup> {
    vec![
        group(
            7,
            "2+2?",
            &[("4", 1.0), ("5", 0.0), ("four, I think", 0.1), ("4", 1.0)],
        ),
        group(
            8,
            "3-1?",
            &[("<answer>2</answer>", 1.0), ("1", 0.0), ("2 or so", 0.0)],
        ),
    ]
}

fn settings() -> GrpoSettings {
    GrpoSettings {
        learning_rate: 1e-3,
        ..GrpoSettings::default()
    }
}

fn weights(policy: &Policy) -> Vec<(String, Vec<f32>)> {
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    policy
        .decoder()
        .vars()
        .iter()
        .map(|(name, var)| (name.clone(), flat(var)))
        .collect()
}

#[test]
fn every_variable_moves() {
    let mut policy = policy(1);
    let before = weights(&policy);
    let report = policy.train(&groups(), &settings()).unwrap();
    assert_eq!(report.updates, 1);
    for ((name, before), (_, after)) in before.iter().zip(weights(&policy)) {
        assert_ne!(*before, after, "{name} did not move");
        // Adam's first step is the learning rate, at most.
        let far = before
            .iter()
            .zip(&after)
            .any(|(a, b)| (a - b).abs() > 1.01e-3);
        assert!(!far, "{name} moved by more than the learning rate");
    }
    assert_eq!(policy.step(), 1);
}

/// Mean share of letters among the first half of the alphabet's bytes.
fn reward(tokens: &[u32]) -> f32 {
    let good = tokens.iter().filter(|&&token| token < 128).count();
    good as f32 / tokens.len() as f32
}

#[test]
fn the_policy_learns_what_is_rewarded() {
    let mut policy = policy(2);
    let requests = |seed: u64| -> Vec<Request> {
        (0..4)
            .map(|index| Request {
                max_tokens: 8,
                ..common::request("speak", 8, seed * 4 + index)
            })
            .collect()
    };
    let mean = |policy: &Policy, seed| -> f32 {
        let groups = policy.sample(&requests(seed)).unwrap();
        let rewards: Vec<f32> = groups
            .iter()
            .flatten()
            .map(|one| reward(&one.tokens))
            .collect();
        rewards.iter().sum::<f32>() / rewards.len() as f32
    };
    let before = mean(&policy, 1_000);
    let settings = GrpoSettings {
        learning_rate: 3e-3,
        ..GrpoSettings::default()
    };
    for step in 0..30 {
        let requests = requests(step);
        let groups: Vec<TrainGroup> = policy
            .sample(&requests)
            .unwrap()
            .into_iter()
            .zip(&requests)
            .map(|(group, request)| TrainGroup {
                prompt: request.messages.clone(),
                rewards: group.iter().map(|one| reward(&one.tokens)).collect(),
                completions: group
                    .into_iter()
                    .map(|one| TrainCompletion {
                        text: one.text,
                        tokens: Some(one.tokens),
                        finished: one.finished,
                        ..TrainCompletion::default()
                    })
                    .collect(),
                origin: step,
            })
            .collect();
        policy.train(&groups, &settings).unwrap();
    }
    let after = mean(&policy, 1_001);
    assert!(before < 0.6, "the start is already good: {before}");
    assert!(after > 0.9, "rewards went from {before} to {after} only");
}

#[test]
fn groups_that_teach_nothing_are_dropped_and_counted() {
    let mut policy = policy(3);
    let hash = policy.weights_hash().unwrap();
    let all_right = group(1, "2+2?", &[("4", 1.0), ("4.", 1.0)]);
    let silent = group(2, "2+2?", &[("", 1.0), ("", 0.0)]);
    let mut silent_and_cut = silent.clone();
    silent_and_cut
        .completions
        .iter_mut()
        .for_each(|one| one.finished = false);
    let too_long = group(3, &"x".repeat(500), &[("4", 1.0), ("5", 0.0)]);

    let report = policy
        .train(&[all_right.clone(), silent_and_cut, too_long], &settings())
        .unwrap();
    let prompt = [ChatMessage::new("user", "x".repeat(500))];
    let tokens = policy.tokenizer().prompt(&prompt).unwrap().len();
    let why = policy.room(&prompt).unwrap_err().to_string();
    assert!(
        why.contains(&format!("{tokens} tokens and the model's context 128")),
        "{why}"
    );
    let expected = StepReport {
        dropped_zero_advantage: 1,
        dropped_unusable: 2,
        unusable: Some(format!("group 3: {why}")),
        ..StepReport::default()
    };
    assert_eq!(report, expected);
    let short = [ChatMessage::new("user", "x")];
    let room = policy.room(&short).unwrap();
    assert_eq!(room, 128 - policy.tokenizer().prompt(&short).unwrap().len());
    assert_eq!((policy.weights_hash().unwrap(), policy.step()), (hash, 0));

    // Saying nothing, and ending, is an answer.
    let report = policy.train(&[all_right, silent], &settings()).unwrap();
    assert_eq!((report.groups, report.dropped_zero_advantage), (1, 1));
    assert_eq!((report.completions, report.tokens), (2, 2));
    assert_eq!(policy.step(), 1);
}

#[test]
fn the_report_says_what_each_group_did() {
    let mut policy = policy(4);
    let mut groups = groups();
    // Three characters and the end, "five" and the end: nine tokens.
    groups.push(group(99, "?", &[("abc", 0.2), ("five", 0.7)]));
    let small = GrpoSettings {
        learning_rate: 1e-5,
        ..settings()
    };
    let report = policy.train(&groups, &small).unwrap();
    assert_eq!(report.groups, 3);
    assert_eq!(report.completions, 9);
    let origins: Vec<u64> = report.contributions.iter().map(|one| one.origin).collect();
    assert_eq!(origins, [7, 8, 99]);
    assert_eq!(report.contributions[2].tokens, 9);
    assert!((report.contributions[2].mean_reward - 0.45).abs() < 1e-6);
    assert_eq!(
        report
            .contributions
            .iter()
            .map(|one| one.tokens)
            .sum::<usize>(),
        report.tokens
    );
    let shares: f32 = report.contributions.iter().map(|one| one.share).sum();
    assert!((shares - 1.0).abs() < 1e-5);
    // One small step downhill: together they gain, whoever loses by it.
    let gain = |one: &policy::Contribution| one.effect.unwrap() * one.tokens as f32;
    assert!(report.contributions.iter().map(gain).sum::<f32>() > 0.0);
    assert!(report.shift.unwrap() > 0.0 && report.ratio_max > 1.0);
    // On the first epoch new is old: nothing is clipped, nothing diverges.
    assert_eq!((report.clip_fraction, report.kl), (0.0, 0.0));
    // A random model is nearly uniform over 260 tokens.
    assert!(
        (report.entropy - (VOCAB as f32).ln()).abs() < 0.5,
        "{}",
        report.entropy
    );
    assert!(report.grad_norm > 0.0 && report.skipped.is_none());
}

#[test]
fn nothing_is_measured_that_was_not_asked_for() {
    let (mut measured, mut plain) = (policy(4), policy(4));
    let quiet = GrpoSettings {
        measure_effect: false,
        ..settings()
    };
    measured.train(&groups(), &settings()).unwrap();
    let report = plain.train(&groups(), &quiet).unwrap();
    assert!(report.shift.is_none() && report.contributions.iter().all(|one| one.effect.is_none()));
    assert_eq!(
        measured.weights_hash().unwrap(),
        plain.weights_hash().unwrap()
    );
}

#[test]
fn later_epochs_are_held_near_the_first() {
    let loose = GrpoSettings {
        epochs: 8,
        learning_rate: 5e-3,
        clip_low: 0.9,
        clip_high: 100.0,
        negative_ratio_cap: 1_000.0,
        ..settings()
    };
    let tight = GrpoSettings {
        clip_low: 0.05,
        clip_high: 0.05,
        ..loose.clone()
    };
    let mut shifts = Vec::new();
    for settings in [loose, tight] {
        let report = policy(5).train(&groups(), &settings).unwrap();
        assert_eq!(report.updates, 8);
        shifts.push((
            report.shift.unwrap(),
            report.clip_fraction,
            report.ratio_max,
        ));
    }
    let [(loose, _, loose_ratio), (tight, clipped, tight_ratio)] = shifts[..] else {
        panic!()
    };
    assert!(clipped > 0.3, "only {clipped} was clipped");
    assert!(tight < loose && tight_ratio < loose_ratio, "{shifts:?}");
}

#[test]
fn the_divergence_from_a_reference_is_held_small() {
    let run = |kl: Option<f32>| {
        let mut policy = policy(6);
        policy.freeze_reference().unwrap();
        let settings = GrpoSettings { kl, ..settings() };
        for _ in 0..10 {
            policy.train(&groups(), &settings).unwrap();
        }
        // A weight of zero measures and does not pull.
        policy
            .train(
                &groups(),
                &GrpoSettings {
                    kl: Some(0.0),
                    ..settings
                },
            )
            .unwrap()
            .kl
    };
    let (free, held) = (run(None), run(Some(1.0)));
    assert!(held > 0.0 && held < free / 2.0, "{held} against {free}");
}

#[test]
fn a_divergence_without_a_reference_is_refused() {
    let mut policy = policy(6);
    let hash = policy.weights_hash().unwrap();
    let settings = GrpoSettings {
        kl: Some(0.1),
        ..settings()
    };
    let error = policy.train(&groups(), &settings).unwrap_err().to_string();
    assert!(error.contains("no reference"), "{error}");
    assert_eq!(policy.weights_hash().unwrap(), hash);
}

#[test]
fn a_peers_text_trains_as_the_same_words_of_ones_own() {
    let (mut own, mut peer) = (policy(7), policy(7));
    let theirs = groups();
    let mut ours = theirs.clone();
    for one in ours.iter_mut().flat_map(|group| &mut group.completions) {
        one.tokens = Some(own.tokenizer().completion(&one.text, one.finished).unwrap());
        one.text.clear();
    }
    own.train(&ours, &settings()).unwrap();
    peer.train(&theirs, &settings()).unwrap();
    assert_eq!(own.weights_hash().unwrap(), peer.weights_hash().unwrap());
}

#[test]
fn a_completion_that_does_not_fit_is_cut() {
    let mut policy = policy(8);
    let long = "y".repeat(400);
    let report = policy
        .train(
            &[group(1, "2+2?", &[("4", 1.0), (&long, 0.0)])],
            &settings(),
        )
        .unwrap();
    let prompt = policy
        .tokenizer()
        .prompt(&[ChatMessage::new("user", "2+2?")])
        .unwrap()
        .len();
    let positions = policy.decoder().config().max_position_embeddings;
    assert_eq!(report.tokens, 2 + positions - prompt);
}

#[test]
fn an_update_that_would_not_be_finite_is_not_made() {
    let mut policy = policy(9);
    let bias = &policy.decoder().vars()["model.layers.0.self_attn.v_proj.bias"];
    let broken = (bias.as_detached_tensor() * f64::INFINITY).unwrap();
    bias.set(&broken).unwrap();
    let hash = policy.weights_hash().unwrap();
    let report = policy.train(&groups(), &settings()).unwrap();
    assert!(report.skipped.unwrap().contains("not finite"));
    assert_eq!((report.updates, policy.step()), (0, 0));
    assert_eq!(policy.weights_hash().unwrap(), hash);
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing_and_leaves_the_last_checkpoint() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut policy = policy(9);
    policy.train(&groups(), &settings()).unwrap();
    let saved = policy.save(dir.path(), &serde_json::Value::Null).unwrap();
    // Every weight and every log-probability is finite; what flows back is not.
    for (name, factor) in [
        ("model.layers.0.self_attn.v_proj.weight", 1e-20),
        ("model.layers.0.self_attn.v_proj.bias", 1e-20),
        ("model.layers.0.self_attn.o_proj.weight", 1e20),
        ("model.norm.weight", 1e25),
    ] {
        let variable = &policy.decoder().vars()[name];
        let scaled = (variable.as_detached_tensor() * factor).unwrap();
        variable.set(&scaled).unwrap();
    }
    let hash = policy.weights_hash().unwrap();
    let report = policy.train(&groups(), &settings()).unwrap();
    assert_eq!(
        report.skipped.as_deref(),
        Some("the gradient is not finite")
    );
    assert_eq!((report.updates, policy.step()), (0, 1));
    assert_eq!(policy.weights_hash().unwrap(), hash);
    let resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(resumed.policy.weights_hash().unwrap(), saved);
}

#[test]
fn groups_that_contradict_themselves_are_refused() {
    let mut policy = policy(10);
    let mut short = groups();
    short[1].rewards.pop();
    let error = policy.train(&short, &settings()).unwrap_err().to_string();
    assert!(
        error.contains("group 8 has 3 completions and 2 rewards"),
        "{error}"
    );
    let mut endless = groups();
    endless[0].rewards[2] = f32::NAN;
    let error = policy.train(&endless, &settings()).unwrap_err().to_string();
    assert!(error.contains("group 7 has a reward of NaN"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = GrpoSettings::default();
    good.check().unwrap();
    for (bad, name) in [
        (
            GrpoSettings {
                learning_rate: f32::NAN,
                ..good.clone()
            },
            "learning_rate",
        ),
        (
            GrpoSettings {
                clip_low: 1.0,
                ..good.clone()
            },
            "clip_low",
        ),
        (
            GrpoSettings {
                negative_ratio_cap: 1.0,
                ..good.clone()
            },
            "negative_ratio_cap",
        ),
        (
            GrpoSettings {
                kl: Some(-1.0),
                ..good.clone()
            },
            "kl",
        ),
        (
            GrpoSettings {
                max_grad_norm: 0.0,
                ..good.clone()
            },
            "max_grad_norm",
        ),
        (
            GrpoSettings {
                epochs: 0,
                ..good.clone()
            },
            "epochs",
        ),
    ] {
        let error = policy(11).train(&groups(), &bad).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn settings_are_read_by_name_and_unknown_names_refused() {
    let read = |json: &str| serde_json::from_str::<GrpoSettings>(json);
    let some = read(r#"{"learning_rate": 0.0003, "advantage": "no_std"}"#).unwrap();
    assert_eq!(
        (some.learning_rate, some.advantage),
        (3e-4, AdvantageKind::NoStd)
    );
    assert_eq!(some.clip_high, GrpoSettings::default().clip_high);
    assert!(
        read(r#"{"learning_rat": 0.1}"#)
            .unwrap_err()
            .to_string()
            .contains("learning_rat")
    );
}

#[test]
fn a_policy_can_be_given_to_a_thread_of_its_own() {
    let mut policy = policy(12);
    let step = std::thread::spawn(move || {
        policy.train(&groups(), &settings()).unwrap();
        policy.step()
    });
    assert_eq!(step.join().unwrap(), 1);
}

#[test]
fn what_does_not_fit_into_memory_is_refused_before_it_is_tried() {
    let mut policy = policy(9);
    let hash = policy.weights_hash().unwrap();
    policy.set_memory(Some(1 << 20));
    let error = policy.train(&groups(), &settings()).unwrap_err();
    assert!(matches!(error, policy::Error::Memory(_)), "{error}");
    assert!(error.to_string().contains("there are 1 MB"), "{error}");
    assert_eq!((policy.weights_hash().unwrap(), policy.step()), (hash, 0));
    policy.set_memory(None);
    assert_eq!(policy.train(&groups(), &settings()).unwrap().updates, 1);
}

#[test]
fn a_completions_ratio_trains_too() {
    let mut policy = policy(10);
    let settings = GrpoSettings {
        ratio: policy::RatioLevel::Sequence,
        epochs: 4,
        clip_low: 3e-4,
        clip_high: 4e-4,
        ..settings()
    };
    let report = policy.train(&groups(), &settings).unwrap();
    assert_eq!((report.updates, report.skipped), (4, None));
    // The first update leaves such a narrow clip behind; tokens go together.
    assert!(report.clip_fraction > 0.5, "{}", report.clip_fraction);
}

/// A number is guessed: too high at first, then twice as told.
#[test]
fn an_episode_is_a_sequence_for_each_turn_with_the_advantage_of_the_whole() {
    let guess = |last: &str| TrainCompletion {
        before: vec![TrainTurn {
            text: "55".into(),
            replies: vec![ChatMessage::new("user", "lower, it is")],
        }],
        ..completion(last)
    };
    let episodes = TrainGroup {
        prompt: vec![ChatMessage::new("user", "1-9?")],
        completions: vec![guess("4"), guess("321")],
        rewards: vec![1.0, 0.0],
        origin: 1,
    };
    // The same, as groups of one turn.
    let first = group(1, "1-9?", &[("55", 1.0), ("55", 0.0)]);
    let mut second = group(2, "1-9?", &[("4", 1.0), ("321", 0.0)]);
    second.prompt.extend([
        ChatMessage::new("assistant", "55"),
        ChatMessage::new("user", "lower, it is"),
    ]);
    let (mut one, mut other) = (policy(4), policy(4));
    let played = one
        .train(std::slice::from_ref(&episodes), &settings())
        .unwrap();
    let split = other.train(&[first, second], &settings()).unwrap();
    // What the policy said and its ends, and nothing that it was told.
    assert_eq!((played.tokens, split.tokens), (3 + 2 + 3 + 4, 12));
    assert_eq!((played.groups, played.completions), (1, 4));
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * a.abs().max(1.0);
    assert!(near(played.loss, split.loss) && near(played.entropy, split.entropy));
    assert!(
        near(played.grad_norm, split.grad_norm),
        "{played:?} {split:?}"
    );
    assert!(played.grad_norm > 0.0);

    // A turn for which the context has no room is left out, not the others.
    let mut long = episodes;
    for one in &mut long.completions {
        one.before[0].replies[0].content = "x".repeat(500);
    }
    let report = policy(4).train(&[long], &settings()).unwrap();
    assert_eq!((report.tokens, report.dropped_unusable), (6, 0));
}
