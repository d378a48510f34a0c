//! What a model needs of this machine's memory, and whether that is there.
//!
//! What training takes is the policy's own formula ([`policy::memory`]).

use anyhow::{Result, bail};
use policy::kernel::Plan;
use policy::memory::{Load, Method, usage};
use policy::{Config, DType, LoraSettings};

/// Tokens of a batch that is planned with before there is one.
const BATCH: usize = 4096;
/// Tokens of its longest sequence.
const LONGEST: usize = 512;
/// Of what is free, this much is left to everybody else.
const SPARE: u64 = 256 << 20;
const F32: u64 = 4;

/// What one peer needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// The weights, and keys and values for sampling.
    pub(super) sampling: u64,
    /// All that training every weight needs, at the leanest.
    pub(super) training: u64,
    /// All that training an adapter needs, at the leanest.
    pub(super) adapter: u64,
}

impl Needs {
    /// Of a model whose sequences have at most so many tokens.
    pub(super) fn of(config: &Config, tokens: usize) -> Self {
        let weights = F32 * config.parameters();
        // Keys and values of a batch of 32 rows.
        let cache = F32
            * 2
            * sizes(&[
                config.num_hidden_layers,
                config.key_value_size(),
                tokens,
                32,
            ]);
        let sampling = weights + cache;
        let load = Load {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            longest: tokens,
            tokens: tokens.max(BATCH),
            has_reference: false,
            kept_in: DType::F32,
        };
        let lora = LoraSettings::default();
        let leanest = |method| {
            let plans = leanest_plans(&load);
            let taken = plans.map(|plan| usage(config, method, &plan, &load).total());
            taken.into_iter().min().unwrap_or(u64::MAX).max(sampling)
        };
        Self {
            sampling,
            training: leanest(Method::Full),
            adapter: leanest(Method::Lora(&lora)),
        }
    }
}

/// The ways to train that take the least memory.
fn leanest_plans(load: &Load) -> [Plan; 3] {
    let recompute = Plan {
        recompute: true,
        ..Plan::default()
    };
    let rounded = Plan {
        bf16_gradients: true,
        ..recompute
    };
    let single = Plan {
        tokens: load.tokens,
        ..rounded
    };
    [recompute, rounded, single]
}

fn sizes(factors: &[usize]) -> u64 {
    factors
        .iter()
        .fold(1, |product, &factor| product.saturating_mul(factor as u64))
}

/// Memory that could be had now, in bytes: the machine's, or its container's.
/// Where that can't be told there is no end of it, and nothing is refused.
pub(super) fn available() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return u64::MAX;
    };
    system.refresh_memory();
    let free = system.available_memory();
    match system.cgroup_limits() {
        Some(limits) => free.min(limits.free_memory),
        None => free,
    }
}

/// Refuses what would be killed halfway.
///
/// # Errors
/// Says what is needed, what is there, and what would fit.
pub(super) fn check(config: &Config, peers: u16) -> Result<()> {
    let needs = Needs::of(config, LONGEST);
    // Where all weights don't fit, an adapter is trained.
    verdict(needs.training.min(needs.adapter), peers, available())
}

fn verdict(needs: u64, peers: u16, available: u64) -> Result<()> {
    let usable = available.saturating_sub(SPARE);
    let all = needs.saturating_mul(peers.into());
    if all <= usable {
        return Ok(());
    }
    let fit = usable / needs.max(1);
    let advice = match fit {
        0 => "take a smaller model; `murmur model info` shows what each setting needs".to_owned(),
        fit => format!("--peers {fit} would fit"),
    };
    bail!(
        "training this model takes {} a peer, {} for {peers}, and {} is free: {advice}",
        shown(needs),
        shown(all),
        shown(available)
    )
}

/// Bytes for people.
pub(super) fn shown(bytes: u64) -> String {
    let mega = bytes as f64 / 1e6;
    match mega {
        ..1.0 => format!("{:.1} kB", mega * 1e3),
        ..1000.0 => format!("{mega:.0} MB"),
        _ => format!("{:.1} GB", mega / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let giga = 1_000_000_000;
        assert!(verdict(giga, 4, 5 * giga).is_ok());
        let refusal = verdict(giga, 4, 3 * giga).unwrap_err().to_string();
        assert!(refusal.contains("--peers 2 would fit"), "{refusal}");
        assert!(refusal.contains("4.0 GB for 4"), "{refusal}");
        let refusal = verdict(8 * giga, 1, 3 * giga).unwrap_err().to_string();
        assert!(refusal.contains("smaller model"), "{refusal}");
    }

    #[test]
    fn sizes_are_written_for_people() {
        let all = [12_300, 12_300_000, 12_345_000_000].map(shown);
        assert_eq!(all, ["12.3 kB", "12 MB", "12.3 GB"]);
    }

    #[test]
    fn half_a_billion_weights_take_what_was_measured() {
        let json = br#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
            "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "max_position_embeddings": 32768}"#;
        let config = Config::from_json(json).unwrap();
        assert_eq!(config.parameters(), 494_032_768);
        let needs = Needs::of(&config, LONGEST);
        assert!(needs.sampling < needs.adapter && needs.adapter < needs.training);
        assert!(
            (7..9).contains(&(needs.training / 1_000_000_000)),
            "{needs:?}"
        );
        assert!(
            (2..4).contains(&(needs.adapter / 1_000_000_000)),
            "{needs:?}"
        );
    }
}
