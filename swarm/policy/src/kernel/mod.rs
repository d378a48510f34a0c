//! The training kernel: log-probabilities and gradients of a decoder on a CPU,
//! without an autograd graph.
//!
//! A graph of small tensor operations spends most of its time allocating and
//! on reductions; here one pass forward keeps what one pass backward needs, in
//! buffers that are used again. Sequences of different lengths lie end to end,
//! so there is no padding, and neighbours that begin with the same prompt share
//! one copy of it. The loss enters as a function from log-probabilities to
//! their gradients, so that pre-training and GRPO share the kernel.
//!
//! | file | story |
//! | --- | --- |
//! | `layout` | sequences end to end, cut into pieces of about 512 tokens |
//! | `layer`, `attention`, `linear`, `rows` | one layer, forward and backward |
//! | `head` | log-probabilities without ever holding all logits |
//! | `pass` | pieces in waves, layer by layer |
//! | `slopes` | the gradients in the making |
//! | `matrix`, `bf16` | products, in f32 or with AVX512-BF16 |
//!
//! Weights may be stored in f32 or, matrices among them, in bf16. In
//! [`Precision::F32`] a result is the same bits for the same numbers, however
//! they are stored; in [`Precision::Bf16`] the products round activations (and
//! weights in f32) to bf16, and what is in bf16 already is not rounded again.
//!
//! Pieces go through the layers in waves, one for each thread, and a wave's
//! share of a weight's gradient is added in the order of the pieces, so that
//! results are bit-identical for any number of threads, however many pieces
//! are alive at once, and whether activations are kept or computed again
//! ([`Plan`]). Frozen weights cost no gradient. The graph of
//! [`Decoder::hidden`] is the oracle in the tests.

mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod head;
mod layer;
mod layout;
mod linear;
mod matrix;
mod pass;
mod rows;
mod slopes;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{CpuStorage, Storage, Tensor};

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::linear::Values;
use linear::Weights;
use matrix::Maths;
use slopes::Slopes;

pub(crate) use attention::KEPT_WEIGHTS;
pub(crate) use head::rows_at_once;
pub(crate) use layout::PIECE_TOKENS;
pub use matrix::Precision;
pub(crate) use matrix::{View, rounded_product};

/// A token sequence, of which everything after the prompt is predicted.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Prompt and completion.
    pub tokens: Vec<u32>,
    /// How many of them are prompt; at least one.
    pub prompt: usize,
}

impl Sequence {
    /// How many tokens are predicted.
    pub fn predicted(&self) -> usize {
        self.tokens.len().saturating_sub(self.prompt)
    }
}

/// What the model thinks of the predicted tokens, sequence after sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenScores {
    /// Log-probability of each.
    pub log_probs: Vec<f32>,
    /// Entropy of the distribution each was drawn from, in nats.
    pub entropies: Vec<f32>,
}

/// How much memory to spend, and where to round. Only `precision` and
/// `bf16_gradients` show in a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// What factors of matrix products are rounded to.
    pub precision: Precision,
    /// Keep only each layer's input and compute the rest again on the way back.
    pub recompute: bool,
    /// With `recompute`: tokens whose layer inputs are alive at once; one piece
    /// for each thread in any case.
    pub tokens: usize,
    /// Keep gradients in bf16 instead of f32.
    pub bf16_gradients: bool,
}

/// The sizes that the kernel needs, and how it multiplies.
struct Shape {
    hidden: usize,
    heads: usize,
    key_heads: usize,
    head_width: usize,
    epsilon: f32,
    vocabulary: usize,
    maths: Maths,
}

impl Shape {
    fn new(config: &Config, precision: Precision) -> Self {
        Self {
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            head_width: config.head_dim(),
            epsilon: config.rms_norm_eps as f32,
            vocabulary: config.vocab_size,
            maths: Maths::new(precision),
        }
    }

    fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    fn key_width(&self) -> usize {
        self.key_heads * self.head_width
    }
}

/// A loss, as a function from a range of predicted tokens (counted over all
/// sequences, and always those of whole sequences) and their log-probabilities
/// to the derivative of the loss in each of those.
pub type LossSlopes<'a> = &'a (dyn Fn(Range<usize>, &[f32]) -> Vec<f32> + Sync);

/// Log-probabilities and entropies of the predicted tokens; no gradients.
///
/// # Errors
/// A sequence is empty, too long or holds a token outside the vocabulary, or
/// the decoder is not on the CPU.
pub fn score(decoder: &Decoder, sequences: &[Sequence], plan: &Plan) -> Result<TokenScores> {
    let (scores, _) = run(decoder, sequences, plan, None)?;
    Ok(scores)
}

/// Log-probabilities, and the gradient of a loss in every variable that is
/// trained ([`Decoder::trained`]).
///
/// # Errors
/// As [`score`].
pub fn differentiate(
    decoder: &Decoder,
    sequences: &[Sequence],
    plan: &Plan,
    loss_slopes: LossSlopes<'_>,
) -> Result<(TokenScores, BTreeMap<String, Tensor>)> {
    let (scores, mut slopes) = run(decoder, sequences, plan, Some(loss_slopes))?;
    let gradients = decoder
        .trained()
        .iter()
        .map(|(name, variable)| Ok((name.clone(), slopes.remove(name, variable.shape())?)))
        .collect::<Result<_>>()?;
    Ok((scores, gradients))
}

fn run(
    decoder: &Decoder,
    sequences: &[Sequence],
    plan: &Plan,
    loss_slopes: Option<LossSlopes<'_>>,
) -> Result<(TokenScores, Slopes)> {
    check(decoder.config(), sequences)?;
    let adapter = decoder.adapter();
    let variables = decoder.vars().iter();
    let variables = variables.chain(adapter.into_iter().flat_map(|adapter| adapter.vars()));
    let tensors: Vec<(&str, Tensor)> = variables
        .map(|(name, variable)| Ok((name.as_str(), variable.as_detached_tensor().contiguous()?)))
        .collect::<Result<_>>()?;
    let guards: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor.storage_and_layout()))
        .collect();
    let mut values = BTreeMap::new();
    for (name, (storage, layout)) in &guards {
        let start = layout.start_offset();
        let range = start..start + layout.shape().elem_count();
        let found = match &**storage {
            Storage::Cpu(CpuStorage::F32(values)) => Values::F32(&values[range]),
            // Vectors are read as they lie.
            Storage::Cpu(CpuStorage::BF16(values)) if layout.shape().rank() == 2 => {
                Values::Bf16(&values[range])
            }
            _ => {
                return Err(Error::Input(format!(
                    "{name} is neither f32 nor a matrix in bf16 on the CPU"
                )));
            }
        };
        values.insert(*name, found);
    }
    let weights = Weights {
        values,
        adapter: adapter.map(|adapter| (adapter.rank(), adapter.scale())),
    };
    let (config, mut result) = (decoder.config(), None);
    // Inside the pool once, rather than a way in and out for every product.
    rayon::scope(|_| result = Some(pass::run(config, &weights, sequences, plan, loss_slopes)));
    Ok(result.expect("the scope waits for what it runs"))
}

fn check(config: &Config, sequences: &[Sequence]) -> Result<()> {
    for sequence in sequences {
        let length = sequence.tokens.len();
        if sequence.prompt == 0 || sequence.prompt > length {
            return Err(Error::Input(format!(
                "a sequence of {length} tokens can't have a prompt of {}",
                sequence.prompt
            )));
        }
        if length > config.max_position_embeddings {
            return Err(Error::Input(format!(
                "{length} tokens are more than the model's {} positions",
                config.max_position_embeddings
            )));
        }
        if let Some(token) = sequence
            .tokens
            .iter()
            .find(|&&t| t as usize >= config.vocab_size)
        {
            return Err(Error::Input(format!(
                "token {token} is outside the vocabulary of {}",
                config.vocab_size
            )));
        }
    }
    Ok(())
}
