//! What sampling and training take, in bytes, before they are tried: from the
//! architecture, what is trained and how ([`Plan`]), and what the batch looks
//! like. The same numbers choose the plan, refuse what can't fit, and tell a
//! person what does; there is no second formula.
//!
//! They are of the CPU's kernel, whose buffers they name one by one; the
//! benchmarks print them beside the peak that was measured.

use crate::attention::Span;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernel::{KEPT_WEIGHTS, PIECE_TOKENS, Plan, Precision, rows_at_once};
use crate::lora::{LoraSettings, shapes};
use candle_core::DType;

/// Bytes of an f32.
const F32: u64 = 4;
/// What a process takes besides: code, threads, buffers of the allocator.
const PROCESS: u64 = 48 << 20;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method<'a> {
    /// Every weight.
    Full,
    /// An adapter beside the frozen weights.
    Lora(&'a LoraSettings),
}

impl std::fmt::Display for Method<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => formatter.write_str("full fine-tuning"),
            Self::Lora(settings) => write!(formatter, "LoRA of rank {}", settings.rank),
        }
    }
}

/// What a batch asks of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Threads that compute.
    pub threads: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// Tokens of all sequences.
    pub tokens: usize,
    /// Whether a frozen reference is held as a second set of weights.
    pub has_reference: bool,
    /// What the model's matrices are kept in ([`Decoder::dtype`](crate::Decoder::dtype)).
    pub kept_in: DType,
}

/// Bytes that training takes at its peak, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model, its adapter, and its reference.
    pub weights: u64,
    /// AdamW's two moments, and what makes weights in bf16 exact.
    pub moments: u64,
    /// Gradients.
    pub gradients: u64,
    /// What goes through the layers, and logits.
    pub activations: u64,
}

impl Usage {
    /// All of it, and the process itself.
    pub fn total(&self) -> u64 {
        self.weights + self.moments + self.gradients + self.activations + PROCESS
    }
}

/// What training `config` takes.
pub fn usage(config: &Config, method: Method<'_>, plan: &Plan, load: &Load) -> Usage {
    let parameters = config.parameters();
    let trained = match method {
        Method::Full => parameters,
        Method::Lora(settings) => {
            let of = |[rows, columns]: [usize; 2]| (rows * columns) as u64;
            shapes(config, settings).into_values().map(of).sum()
        }
    };
    let kept = load.kept_in.size_in_bytes() as u64;
    let weights = match method {
        Method::Full => kept * parameters * (1 + u64::from(load.has_reference)),
        // Without its adapter the model is its own reference.
        Method::Lora(_) => kept * parameters + F32 * trained,
    };
    // Beside weights in bf16 AdamW keeps what they lack of f32.
    let rests = match method {
        Method::Full => parameters * (F32 - kept),
        Method::Lora(_) => 0,
    };
    let gradients = trained * if plan.bf16_gradients { 2 } else { F32 };
    // The head comes first and the layers after it; what each needs on top of
    // the finished gradients is not needed together.
    let buffers = Buffers::of(config, method, plan, load);
    let embedding = (config.vocab_size * config.hidden_size) as u64;
    let layer = (parameters - embedding) / config.num_hidden_layers as u64;
    let (mut head, mut layers, mut early) = (buffers.head * F32, 0, 0);
    if plan.bf16_gradients && method == Method::Full {
        // What is being added to is in f32, rounded when it is done.
        (head, layers) = (head + embedding * F32, layer * F32);
        if plan.tokens >= load.tokens {
            // In the only minibatch, the layers have no gradients yet.
            early = gradients - embedding * 2;
        }
    }
    if !plan.recompute {
        layers += buffers.head * F32;
    }
    let phases = head.saturating_sub(early).max(layers);
    Usage {
        weights,
        moments: 2 * trained * F32 + rests,
        gradients,
        activations: (buffers.desks + buffers.streams) * F32 + phases,
    }
}

/// Numbers that a layer's input takes, in all layers, for each token.
fn stream(config: &Config) -> usize {
    (config.num_hidden_layers + 2) * config.hidden_size
}

/// Numbers in the buffers of the kernel.
struct Buffers {
    /// What a thread computes a layer in, for all threads.
    desks: u64,
    /// What goes into each layer.
    streams: u64,
    /// Logits and what else the head computes in.
    head: u64,
}

impl Buffers {
    fn of(config: &Config, method: Method<'_>, plan: &Plan, load: &Load) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (query, narrow) = (config.query_size(), config.key_value_size());
        let low = match method {
            Method::Full => 0,
            Method::Lora(settings) => settings.rank * settings.targets.len(),
        };
        // As `Tape` and `Trace` of the kernel's layers list them.
        let heads_normed = usize::from(config.has_head_norms()) * (query + narrow);
        let tape = 3 * hidden + 2 * query + 2 * narrow + heads_normed + 3 * inner + 2 + low;
        let trace = 2 * hidden + query + 2 * narrow + 2 * inner + hidden.max(query) + low;
        let tokens = load.tokens.max(1);
        let piece = PIECE_TOKENS.max(load.longest).min(tokens);
        let attention = config.num_attention_heads * piece * load.longest.min(piece);
        let attention = attention.min(KEPT_WEIGHTS);
        let pieces = load.threads.min(tokens.div_ceil(piece)).max(1);
        let (tapes, streamed) = match plan.recompute {
            false => (config.num_hidden_layers, pieces * piece),
            true => (1, (pieces * piece).max(plan.tokens.min(tokens))),
        };
        let rows = rows_at_once(config.vocab_size).min(piece);
        Self {
            desks: (pieces * (piece * (tapes * tape + trace) + tapes * attention)) as u64,
            streams: (streamed * stream(config)) as u64,
            head: (rows * config.vocab_size + 4 * piece * hidden) as u64,
        }
    }
}

/// The least memory that training `config` takes.
pub fn leanest(config: &Config, method: Method<'_>, precision: Precision, load: &Load) -> u64 {
    let plans = plans(precision, load);
    let taken = plans.map(|plan| usage(config, method, &plan, load).total());
    taken.into_iter().min().unwrap_or(u64::MAX)
}

/// The plans there are, the fastest first.
fn plans(precision: Precision, load: &Load) -> [Plan; 4] {
    let keep = Plan {
        precision,
        ..Plan::default()
    };
    let recompute = Plan {
        recompute: true,
        ..keep
    };
    let lean = Plan {
        bf16_gradients: true,
        ..recompute
    };
    // With gradients in bf16 each minibatch is a rounding: one, if it fits.
    let single = Plan {
        tokens: load.tokens,
        ..lean
    };
    [keep, recompute, single, lean]
}

/// The fastest plan that fits into `budget` bytes.
///
/// # Errors
/// None fits: says what the leanest takes, and what would fit instead.
pub fn plan(
    config: &Config,
    method: Method<'_>,
    precision: Precision,
    load: &Load,
    budget: u64,
) -> Result<Plan> {
    let [keep, recompute, single, lean] = plans(precision, load);
    for plan in [keep, recompute, single] {
        if usage(config, method, &plan, load).total() <= budget {
            return Ok(plan);
        }
    }
    let taken = usage(config, method, &lean, load).total();
    if taken <= budget {
        let spare = (budget - taken) / (stream(config) as u64 * F32);
        return Ok(Plan {
            tokens: spare as usize,
            ..lean
        });
    }
    let lora = LoraSettings::default();
    let less = usage(config, Method::Lora(&lora), &recompute, load).total();
    let advice = match method {
        Method::Full if less <= budget => {
            format!("LoRA of rank {} takes {}", lora.rank, shown(less))
        }
        _ => "take a smaller model, shorter completions, or more memory".to_owned(),
    };
    Err(Error::Memory(format!(
        "{method} takes {} and there are {}; {advice}",
        shown(leanest(config, method, precision, load)),
        shown(budget),
    )))
}

/// Bytes for people.
pub fn shown(bytes: u64) -> String {
    let mega = bytes as f64 / 1e6;
    match mega {
        ..1.0 => format!("{:.1} kB", mega * 1e3),
        ..1000.0 => format!("{mega:.0} MB"),
        _ => format!("{:.1} GB", mega / 1e3),
    }
}

/// What drawing `rows` sequences of at most `longest` tokens at once takes: the
/// weights, whose matrices are `kept_in` this type, keys and values, the process.
pub fn sampling(config: &Config, kept_in: DType, rows: usize, longest: usize) -> u64 {
    let row = Span::bytes(config, longest) as u64;
    let weights = config.parameters() * kept_in.size_in_bytes() as u64;
    weights.saturating_add(row.saturating_mul(rows as u64)) + PROCESS
}

/// Bytes that keys and values may take beside what training `config` leaves in
/// memory between its steps; none where `budget` is too short even for that.
pub(crate) fn cache_room(config: &Config, method: Method<'_>, load: &Load, budget: u64) -> usize {
    let Usage {
        weights, moments, ..
    } = usage(config, method, &Plan::default(), load);
    let room = budget.saturating_sub(weights + moments + PROCESS);
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Asks the allocator to take what is large from the machine and to give it back
/// when it is freed. By default glibc keeps blocks of up to 32 MB once one such
/// was freed, and what a step frees between what stays can't be used for larger
/// ones: 0.9 GB of holes when all of a half-billion model is trained. Once, when
/// a process begins; other allocators need no telling.
pub fn give_back_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 4 << 20;
        // What is smaller stays for the next who asks.
        const KEPT: libc::c_int = 64 << 20;
        // SAFETY: the function takes two numbers and may be called at any time;
        // there is no other way to tell a running process's allocator.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// Memory that new work can have now without driving other programs out: a
/// tenth of what the machine, or its container, has free is left to them.
/// `None` where that can't be told.
pub fn spare() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let free = system.available_memory();
    let free = match system.cgroup_limits() {
        Some(limits) => free.min(limits.free_memory),
        None => free,
    };
    Some(free / 10 * 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_billion() -> Config {
        let config = serde_json::json!({
            "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true,
            "max_position_embeddings": 32_768, "model_type": "qwen2",
        });
        Config::from_json(config.to_string().as_bytes()).unwrap()
    }

    const LOAD: Load = Load {
        threads: 2,
        longest: 256,
        tokens: 2048,
        has_reference: false,
        kept_in: DType::F32,
    };

    #[test]
    fn plans_spend_what_there_is() {
        let (config, lora) = (half_billion(), LoraSettings::default());
        let choose = |method, gigabytes: f64| {
            plan(
                &config,
                method,
                Precision::Bf16,
                &LOAD,
                (gigabytes * 1e9) as u64,
            )
        };
        let rich = choose(Method::Full, 24.0).unwrap();
        assert!(!rich.recompute && !rich.bf16_gradients);
        let middle = choose(Method::Full, 9.0).unwrap();
        assert!(middle.recompute && !middle.bf16_gradients);
        let lean = choose(Method::Full, 7.5).unwrap();
        assert!(lean.recompute && lean.bf16_gradients);
        // A budget is never exceeded by what it chose.
        for (plan, budget) in [(rich, 24.0), (middle, 9.0), (lean, 7.5)] {
            let taken = usage(&config, Method::Full, &plan, &LOAD).total();
            assert!(taken as f64 <= budget * 1e9, "{taken} of {budget}");
        }
        assert!(choose(Method::Lora(&lora), 2.8).unwrap().recompute);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let config = half_billion();
        let refusal = |budget: u64| {
            let error = plan(&config, Method::Full, Precision::F32, &LOAD, budget).unwrap_err();
            error.to_string()
        };
        let message = refusal(4_000_000_000);
        assert!(message.contains("full fine-tuning takes 7."), "{message}");
        assert!(message.contains("there are 4.0 GB"), "{message}");
        assert!(message.contains("LoRA of rank 16 takes 2."), "{message}");
        let message = refusal(1_000_000_000);
        assert!(message.contains("smaller model"), "{message}");
    }

    #[test]
    fn keys_and_values_take_what_is_left() {
        let (config, lora) = (half_billion(), LoraSettings::default());
        let weights = config.parameters() * F32;
        // 24 layers of two key heads, 64 wide, keys and values, in f32.
        let row = 24 * 2 * 128 * 512 * F32;
        let taken = |kept_in, rows| sampling(&config, kept_in, rows, 512);
        assert_eq!(taken(DType::F32, 1), weights + row + PROCESS);
        assert_eq!(taken(DType::BF16, 32), weights / 2 + 32 * row + PROCESS);
        let room = |budget| cache_room(&config, Method::Lora(&lora), &LOAD, budget);
        assert_eq!(room(weights), 0);
        assert!((100_000_000..400_000_000).contains(&room(2_500_000_000)));
    }

    #[test]
    fn sizes_are_written_for_people() {
        let all = [12_300, 12_300_000, 12_345_000_000].map(shown);
        assert_eq!(all, ["12.3 kB", "12 MB", "12.3 GB"]);
    }
}
