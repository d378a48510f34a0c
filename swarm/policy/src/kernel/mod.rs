//! The training kernel: log-probabilities and gradients of a decoder on a CPU,
//! without an autograd graph.
//!
//! A graph of small tensor operations spends most of its time allocating and
//! on reductions; here one pass forward keeps what one pass backward needs.
//! Sequences of different lengths lie end to end, so there is no padding, and
//! neighbours that begin with the same prompt share one copy of it. The loss
//! enters as a function from log-probabilities to their gradients, so
//! that pre-training and GRPO share the kernel.
//!
//! Sequences are cut into pieces of about 512 tokens, which
//! threads take up; gradients are added in the order of the pieces, so results
//! are bit-identical for any number of threads. The graph of
//! [`Decoder::hidden`] is the oracle in the tests.

mod attention;
mod layer;
mod layout;
mod matrix;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{CpuStorage, Storage, Tensor};
use rayon::prelude::*;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::slices::{self, vectorized};
use layer::{Layer, LayerTape};
use layout::{Layout, pieces, rotary_table};
use matrix::{View, accumulate, product, rms_norm, rms_norm_backward};

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

/// The sizes that the kernel needs.
struct Shape {
    hidden: usize,
    heads: usize,
    key_heads: usize,
    head_width: usize,
    epsilon: f32,
    vocabulary: usize,
}

impl Shape {
    fn new(config: &Config) -> Self {
        Self {
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            head_width: config.head_dim(),
            epsilon: config.rms_norm_eps as f32,
            vocabulary: config.vocab_size,
        }
    }

    fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    fn key_width(&self) -> usize {
        self.key_heads * self.head_width
    }
}

/// The weights as slices, and one gradient of the same length for each.
struct Weights<'a> {
    slices: BTreeMap<&'a str, &'a [f32]>,
}

impl<'a> Weights<'a> {
    fn get(&self, name: &str) -> &'a [f32] {
        self.find(name)
            .expect("a decoder has every tensor of its configuration")
    }

    /// A tensor that only some architectures have.
    fn find(&self, name: &str) -> Option<&'a [f32]> {
        self.slices.get(name).copied()
    }
}

/// Gradients by variable name, dense.
type Slopes = BTreeMap<String, Vec<f32>>;

fn slope<'a>(slopes: &'a mut Slopes, name: &str) -> &'a mut [f32] {
    slopes
        .get_mut(name)
        .expect("slopes are made for every variable")
}

/// Log-probabilities and entropies of the predicted tokens; no gradients.
///
/// # Errors
/// A sequence is empty, too long or holds a token outside the vocabulary, or
/// the decoder is not on the CPU.
pub fn score(decoder: &Decoder, sequences: &[Sequence]) -> Result<TokenScores> {
    let (scores, _) = run(decoder, sequences, None)?;
    Ok(scores)
}

/// A loss, as a function from the range of predicted tokens of a piece (counted
/// over all sequences) and their log-probabilities to the derivative of the
/// loss in each of those.
pub type LossSlopes<'a> = &'a (dyn Fn(Range<usize>, &[f32]) -> Vec<f32> + Sync);

/// Log-probabilities, and the gradient of a loss in every variable.
///
/// # Errors
/// As [`score`].
pub fn differentiate(
    decoder: &Decoder,
    sequences: &[Sequence],
    loss_slopes: LossSlopes<'_>,
) -> Result<(TokenScores, BTreeMap<String, Tensor>)> {
    let (scores, slopes) = run(decoder, sequences, Some(loss_slopes))?;
    let gradients = slopes
        .into_iter()
        .map(|(name, values)| {
            let shape = decoder.vars()[&name].shape().clone();
            Ok((name, Tensor::from_vec(values, shape, decoder.device())?))
        })
        .collect::<Result<_>>()?;
    Ok((scores, gradients))
}

fn run(
    decoder: &Decoder,
    sequences: &[Sequence],
    loss_slopes: Option<LossSlopes<'_>>,
) -> Result<(TokenScores, Slopes)> {
    check(decoder.config(), sequences)?;
    let tensors: Vec<(&str, Tensor)> = decoder
        .vars()
        .iter()
        .map(|(name, variable)| Ok((name.as_str(), variable.as_detached_tensor().contiguous()?)))
        .collect::<Result<_>>()?;
    let guards: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor.storage_and_layout()))
        .collect();
    let mut slices = BTreeMap::new();
    for (name, (storage, layout)) in &guards {
        let Storage::Cpu(CpuStorage::F32(values)) = &**storage else {
            return Err(Error::Input(format!("{name} is not f32 on the CPU")));
        };
        let start = layout.start_offset();
        slices.insert(*name, &values[start..start + layout.shape().elem_count()]);
    }
    let weights = Weights { slices };
    let shape = Shape::new(decoder.config());
    let rotary = rotary_table(decoder.config(), sequences);
    let piece = |range: &Range<usize>, first: usize| {
        Piece::new(
            &shape,
            &weights,
            decoder.config(),
            &sequences[range.clone()],
            &rotary,
        )
        .run(first, loss_slopes)
    };

    let mut firsts = Vec::new();
    let mut predicted = 0;
    let ranges = pieces(sequences);
    for range in &ranges {
        firsts.push(predicted);
        predicted += sequences[range.clone()]
            .iter()
            .map(Sequence::predicted)
            .sum::<usize>();
    }
    let mut scores = TokenScores::default();
    let mut total: Slopes = BTreeMap::new();
    // A wave is as many pieces as threads: no more gradient buffers are alive.
    let work: Vec<(Range<usize>, usize)> = ranges.into_iter().zip(firsts).collect();
    for wave in work.chunks(rayon::current_num_threads().max(1)) {
        let done: Vec<_> = wave
            .par_iter()
            .map(|(range, first)| piece(range, *first))
            .collect();
        for (piece_scores, slopes) in done {
            scores.log_probs.extend(piece_scores.log_probs);
            scores.entropies.extend(piece_scores.entropies);
            for (name, values) in slopes {
                match total.get_mut(&name) {
                    Some(sum) => matrix::add(sum, &values),
                    None => {
                        total.insert(name, values);
                    }
                }
            }
        }
    }
    Ok((scores, total))
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

/// One piece of a batch, forward and backward.
struct Piece<'a> {
    shape: &'a Shape,
    weights: &'a Weights<'a>,
    layers: Vec<Layer<'a>>,
    layout: Layout<'a>,
    output: &'static str,
}

impl<'a> Piece<'a> {
    fn new(
        shape: &'a Shape,
        weights: &'a Weights<'a>,
        config: &Config,
        sequences: &[Sequence],
        rotary: &'a [f32],
    ) -> Self {
        let layout = Layout::new(sequences, rotary);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(weights, index))
            .collect();
        let output = if config.tie_word_embeddings {
            EMBEDDING
        } else {
            "lm_head.weight"
        };
        Self {
            shape,
            weights,
            layers,
            layout,
            output,
        }
    }

    fn run(&self, first: usize, loss_slopes: Option<LossSlopes<'_>>) -> (TokenScores, Slopes) {
        let width = self.shape.hidden;
        let embedding = self.weights.get(EMBEDDING);
        let mut stream = Vec::with_capacity(self.layout.tokens.len() * width);
        for &token in &self.layout.tokens {
            stream.extend(&embedding[token as usize * width..(token as usize + 1) * width]);
        }
        let mut tapes: Vec<LayerTape> = Vec::new();
        for layer in &self.layers {
            let (next, tape) = layer.forward(stream, self.shape, &self.layout);
            stream = next;
            if loss_slopes.is_some() {
                tapes.push(tape);
            }
        }
        // Only rows that predict go through the output.
        let mut picked = Vec::with_capacity(self.layout.rows.len() * width);
        for &(row, _) in &self.layout.rows {
            picked.extend(&stream[row * width..(row + 1) * width]);
        }
        let norm = self.weights.get(FINAL_NORM);
        let (normed, inverse) = rms_norm(&picked, norm, self.shape.epsilon);
        let output = View::new(self.weights.get(self.output), self.shape.vocabulary, width);
        let normed_view = View::new(&normed, self.layout.rows.len(), width);
        let mut logits = product(normed_view, output.t()); // [rows, vocab], then probabilities
        let mut scores = TokenScores::default();
        vectorized(
            #[inline(always)]
            || {
                for (row, &(_, target)) in logits
                    .chunks_exact_mut(self.shape.vocabulary)
                    .zip(&self.layout.rows)
                {
                    let (log_prob, entropy) = log_softmax(row, target as usize);
                    scores.log_probs.push(log_prob);
                    scores.entropies.push(entropy);
                }
            },
        );
        let Some(loss_slopes) = loss_slopes else {
            return (scores, Slopes::new());
        };

        let d_log_probs = loss_slopes(first..first + self.layout.rows.len(), &scores.log_probs);
        let mut slopes: Slopes = self
            .weights
            .slices
            .iter()
            .map(|(name, values)| ((*name).to_owned(), vec![0.0; values.len()]))
            .collect();
        for ((row, &(_, target)), &slope) in logits
            .chunks_exact_mut(self.shape.vocabulary)
            .zip(&self.layout.rows)
            .zip(&d_log_probs)
        {
            row.iter_mut()
                .for_each(|probability| *probability *= -slope);
            row[target as usize] += slope;
        }
        let d_logits = View::new(&logits, self.layout.rows.len(), self.shape.vocabulary);
        accumulate(slope(&mut slopes, self.output), d_logits.t(), normed_view);
        let d_normed = product(d_logits, output);
        let mut d_picked = vec![0.0; picked.len()];
        rms_norm_backward(
            &mut d_picked,
            slope(&mut slopes, FINAL_NORM),
            &d_normed,
            &picked,
            &inverse,
            norm,
        );
        let mut d_stream = vec![0.0; stream.len()];
        for (d_row, &(row, _)) in d_picked.chunks_exact(width).zip(&self.layout.rows) {
            matrix::add(&mut d_stream[row * width..(row + 1) * width], d_row);
        }
        for (layer, tape) in self.layers.iter().zip(tapes).rev() {
            d_stream = layer.backward(d_stream, &tape, self.shape, &self.layout, &mut slopes);
        }
        let d_embedding = slope(&mut slopes, EMBEDDING);
        for (d_row, &token) in d_stream.chunks_exact(width).zip(&self.layout.tokens) {
            matrix::add(
                &mut d_embedding[token as usize * width..(token as usize + 1) * width],
                d_row,
            );
        }
        (scores, slopes)
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";

/// Turns logits into probabilities in place; the target's log-probability and
/// the entropy come out.
#[inline(always)]
fn log_softmax(row: &mut [f32], target: usize) -> (f32, f32) {
    let most = slices::maximum(row);
    let target_logit = row[target] - most;
    let weighted = slices::sum_map(row, |logit| slices::exp(logit - most) * (logit - most));
    let sum = slices::exponentiate(row);
    let scale = 1.0 / sum;
    row.iter_mut().for_each(|value| *value *= scale);
    (target_logit - sum.ln(), sum.ln() - weighted * scale)
}
