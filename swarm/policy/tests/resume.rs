//! Checkpoints of a policy: what is saved continues as if nothing happened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::{DType, Device};
use common::{VOCAB, config_with, decoder, tokenizer_json};
use policy::{
    ChatMessage, Config, Error, GrpoSettings, LoraSettings, Policy, Pretrained, TrainCompletion,
    TrainGroup,
};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn policy() -> Policy {
    let config = config_with(VOCAB, false);
    let weights = decoder(config.clone(), 1)
        .to_safetensors(DType::F32)
        .unwrap();
    let config = serde_json::to_vec_pretty(&config).unwrap();
    Policy::from_parts(&config, tokenizer_json().as_bytes(), &weights, &Device::Cpu).unwrap()
}

fn groups(step: u64) -> Vec<TrainGroup> {
    let text = |text: String| TrainCompletion {
        text,
        tokens: None,
        finished: true,
        ..TrainCompletion::default()
    };
    vec![TrainGroup {
        prompt: vec![ChatMessage::new("user", format!("what is {step} + 1?"))],
        completions: vec![text(format!("{}", step + 1)), text("no idea".into())],
        rewards: vec![1.0, 0.0],
        origin: step,
    }]
}

fn train(policy: &mut Policy, step: u64) {
    let settings = GrpoSettings {
        kl: Some(0.05),
        epochs: 2,
        ..GrpoSettings::default()
    };
    let report = policy.train(&groups(step), &settings).unwrap();
    assert_eq!(report.updates, 2);
}

#[test]
fn a_resumed_policy_continues_bit_for_bit() {
    let dir = TempDir::new().unwrap();
    let mut straight = policy();
    straight.freeze_reference().unwrap();
    train(&mut straight, 1);
    let extra = serde_json::json!({"round": 41, "share": 0.1, "seed": u64::MAX});
    let hash = straight.save(dir.path(), &extra).unwrap();
    assert_eq!(hash, straight.weights_hash().unwrap());

    let resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(resumed.extra, extra);
    assert!(resumed.rejected.is_empty());
    let mut policy = resumed.policy;
    assert_eq!((policy.step(), policy.weights_hash().unwrap()), (1, hash));
    for step in 2..4 {
        train(&mut straight, step);
        train(&mut policy, step);
        assert_eq!(
            policy.weights_hash().unwrap(),
            straight.weights_hash().unwrap()
        );
        assert_ne!(policy.weights_hash().unwrap(), hash);
    }
    assert_eq!(policy.step(), 3);
}

/// Large enough that what is published in bf16 is kept so.
fn published(dir: &Path) -> Policy {
    let config = Config {
        vocab_size: 20_000,
        hidden_size: 512,
        num_hidden_layers: 1,
        ..config_with(VOCAB, true)
    };
    let decoder = decoder(config.clone(), 1);
    fs::write(
        dir.join("config.json"),
        serde_json::to_vec(&config).unwrap(),
    )
    .unwrap();
    fs::write(dir.join("tokenizer.json"), tokenizer_json()).unwrap();
    let weights = decoder.to_safetensors(DType::BF16).unwrap();
    fs::write(dir.join("model.safetensors"), weights).unwrap();
    let policy = Pretrained::open(dir).unwrap().load(&Device::Cpu).unwrap();
    assert_eq!(policy.decoder().dtype(), DType::BF16);
    policy
}

#[test]
fn weights_in_bf16_stay_so_and_continue_bit_for_bit() {
    for lora in [false, true] {
        let (source, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut straight = published(source.path());
        let given = fs::read(source.path().join("model.safetensors")).unwrap();
        assert_eq!(straight.weights(DType::BF16).unwrap(), given);
        if lora {
            straight.add_adapter(LoraSettings::with_rank(4), 1).unwrap();
        } else {
            straight.freeze_reference().unwrap();
        }
        // Too small a step for most weights to show, and none is lost.
        train(&mut straight, 1);
        straight.save(dir.path(), &serde_json::Value::Null).unwrap();
        let mut resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap().policy;
        assert_eq!(resumed.decoder().dtype(), DType::BF16);
        for policy in [&mut straight, &mut resumed] {
            train(policy, 2);
        }
        let hash = straight.weights_hash().unwrap();
        assert_eq!(resumed.weights_hash().unwrap(), hash);
        assert_eq!(straight.weights(DType::BF16).unwrap() == given, lora);
        let masters = |policy: &Policy| {
            policy.save(dir.path(), &serde_json::Value::Null).unwrap();
            let path = Policy::resume(dir.path(), &Device::Cpu).unwrap().path;
            fs::read(path.join("optimizer.safetensors")).unwrap()
        };
        assert!(masters(&straight) == masters(&resumed));
    }
}

#[test]
fn a_checkpoint_says_its_hashes_to_anyone() {
    let dir = TempDir::new().unwrap();
    let policy = policy();
    let hash = policy.save(dir.path(), &serde_json::Value::Null).unwrap();
    let folder = Policy::resume(dir.path(), &Device::Cpu).unwrap().path;
    let bytes = fs::read(folder.join("weights.safetensors")).unwrap();
    assert_eq!(*blake3::hash(&bytes).as_bytes(), hash);
    let sums = fs::read_to_string(folder.join("b3sums")).unwrap();
    assert!(sums.contains(&format!(
        "{}  weights.safetensors\n",
        blake3::Hash::from(hash)
    )));
    assert_eq!(
        fs::read(folder.join("tokenizer.json")).unwrap(),
        tokenizer_json().as_bytes()
    );
}

#[test]
fn after_damage_the_checkpoint_before_is_taken_and_the_damage_told() {
    let dir = TempDir::new().unwrap();
    let mut policy = policy();
    policy.freeze_reference().unwrap();
    train(&mut policy, 1);
    let hash = policy.save(dir.path(), &serde_json::json!(1)).unwrap();
    train(&mut policy, 2);
    policy.save(dir.path(), &serde_json::json!(2)).unwrap();

    let newest = Policy::resume(dir.path(), &Device::Cpu).unwrap().path;
    let file = newest.join("optimizer.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&file, bytes).unwrap();

    let mut resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(resumed.extra, serde_json::json!(1));
    assert_eq!(resumed.policy.weights_hash().unwrap(), hash);
    assert_eq!(resumed.rejected.len(), 1);
    assert_eq!(resumed.rejected[0].path, newest);
    assert!(resumed.rejected[0].why.contains("optimizer.safetensors"));

    // And life goes on.
    train(&mut resumed.policy, 2);
    resumed
        .policy
        .save(dir.path(), &serde_json::json!(3))
        .unwrap();
    let again = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(
        (again.extra, again.rejected.len()),
        (serde_json::json!(3), 0)
    );
}

#[test]
fn a_folder_without_a_checkpoint_is_not_a_damaged_one() {
    let dir = TempDir::new().unwrap();
    assert!(!Policy::is_saved(dir.path()));
    let error = Policy::resume(dir.path(), &Device::Cpu)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Checkpoint(_)), "{error}");
    policy().save(dir.path(), &serde_json::Value::Null).unwrap();
    assert!(Policy::is_saved(dir.path()));
}

#[test]
fn a_policy_is_read_from_a_folder_as_others_write_it() {
    let dir = TempDir::new().unwrap();
    let policy = policy();
    let config = serde_json::to_vec(&config_with(VOCAB, false)).unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    let error = Pretrained::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    fs::write(
        dir.path().join("model.safetensors"),
        policy.weights(DType::F32).unwrap(),
    )
    .unwrap();
    let read = Pretrained::open(dir.path())
        .unwrap()
        .load(&Device::Cpu)
        .unwrap();
    assert_eq!(read.weights_hash().unwrap(), policy.weights_hash().unwrap());
    assert_eq!(read.step(), 0);
}
