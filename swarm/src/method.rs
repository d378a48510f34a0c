//! What a peer trains: all of its weights, or an adapter beside them, as its
//! share of the memory allows.

use anyhow::{Context, Result, bail};
use clap::Args;
use policy::memory::{self, Load, Method};
use policy::{DType, GrpoSettings, LoraSettings, Policy};

/// How much may be trained.
#[derive(Debug, Clone, Default, Args)]
pub struct TrainingArgs {
    /// Train an adapter (LoRA) of this rank, or 0 for all weights [default: all
    /// weights, or rank 16 where those don't fit into memory]
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub lora_rank: Option<u16>,
    /// Memory for training, all peers of this process together
    /// [default: what the machine has to spare]
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub memory: Option<u64>,
}

fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * 1e9) as u64),
        _ => Err("expected gigabytes, such as 7.5".to_owned()),
    }
}

/// A batch as rounds make them: what is planned with before there is one.
const LOAD: Load = Load {
    threads: 1,
    longest: 512,
    tokens: 4096,
    has_reference: false,
    kept_in: DType::F32,
};

impl TrainingArgs {
    /// Bytes for each of `peers`; call it before any of them has a model.
    pub fn share(&self, peers: u16) -> Option<u64> {
        // A tenth is left to others.
        let spare = || memory::available().map(|bytes| bytes / 10 * 9);
        self.memory
            .or_else(spare)
            .map(|bytes| bytes / u64::from(peers.max(1)))
    }

    /// Gives `policy` the adapter that was asked for, or one that it needs to
    /// fit into `share`; one that was resumed keeps its own. Says what was
    /// chosen if nobody asked for it.
    ///
    /// # Errors
    /// What was asked for contradicts a checkpoint, or can't fit.
    pub fn apply(
        &self,
        policy: &mut Policy,
        share: Option<u64>,
        seed: u64,
    ) -> Result<Option<String>> {
        policy.set_memory(self.memory.and(share));
        if let Some(adapter) = policy.decoder().adapter() {
            return match self.lora_rank {
                Some(rank) if usize::from(rank) != adapter.rank() => bail!(
                    "this peer's checkpoint trains an adapter of rank {}, not {rank}: leave \
                     --lora-rank out, or start from another --home",
                    adapter.rank()
                ),
                _ => Ok(None),
            };
        }
        if policy.step() > 0 && self.lora_rank.is_some_and(|rank| rank > 0) {
            bail!(
                "this peer's checkpoint trains all weights: leave --lora-rank out, or start from \
                 another --home"
            );
        }
        let config = policy.decoder().config();
        let precision = GrpoSettings::default().precision(config.parameters());
        let load = Load {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            longest: LOAD.longest.min(config.max_position_embeddings),
            kept_in: policy.decoder().dtype(),
            ..LOAD
        };
        let budget = share.unwrap_or(u64::MAX);
        let fits = |method| memory::plan(config, method, precision, &load, budget);
        let default = LoraSettings::default();
        let (settings, notice) = match self.lora_rank {
            Some(0) => (None, None),
            Some(rank) => (Some(LoraSettings::with_rank(rank.into())), None),
            None if fits(Method::Full).is_ok() || policy.step() > 0 => (None, None),
            None => {
                let notice = format!(
                    "all {} million weights don't fit into {} a peer: training {}",
                    config.parameters() / 1_000_000,
                    memory::gigabytes(budget),
                    Method::Lora(&default),
                );
                (Some(default), Some(notice))
            }
        };
        match &settings {
            Some(settings) => fits(Method::Lora(settings)),
            None => fits(Method::Full),
        }
        .context("this model can't be trained here")?;
        if let Some(settings) = settings {
            policy.add_adapter(settings, seed).context("--lora-rank")?;
        }
        Ok(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Policy {
        crate::base::load().unwrap()
    }

    #[test]
    fn what_fits_is_trained_whole_and_the_rest_by_adapter() {
        let mut policy = base();
        let args = TrainingArgs::default();
        assert!(args.apply(&mut policy, Some(1 << 30), 1).unwrap().is_none());
        assert!(policy.decoder().adapter().is_none());

        // Not even an adapter fits into nothing.
        let error = args.apply(&mut policy, Some(1 << 20), 1).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains("LoRA of rank 16 takes"), "{message}");
        assert!(message.contains("there are 0.0 GB"), "{message}");

        let asked = TrainingArgs {
            lora_rank: Some(4),
            ..TrainingArgs::default()
        };
        assert!(asked.apply(&mut policy, None, 1).unwrap().is_none());
        assert_eq!(policy.decoder().adapter().unwrap().rank(), 4);
        let other = TrainingArgs {
            lora_rank: Some(8),
            ..TrainingArgs::default()
        };
        let error = other.apply(&mut policy, None, 1).unwrap_err().to_string();
        assert!(error.contains("adapter of rank 4, not 8"), "{error}");
    }

    #[test]
    fn memory_is_shared_among_peers() {
        let args = TrainingArgs {
            memory: Some(gigabytes("8").unwrap()),
            ..TrainingArgs::default()
        };
        assert_eq!(args.share(4), Some(2_000_000_000));
        assert!(gigabytes("-1").is_err() && gigabytes("much").is_err());
    }
}
