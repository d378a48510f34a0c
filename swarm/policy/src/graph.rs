//! Log-probabilities and gradients by candle's autograd graph, on any device.
//!
//! The [`kernel`](crate::kernel) does the same several times faster where
//! weights are f32 on the CPU; this is for the rest. Sequences are sorted by
//! length and packed into minibatches of a bounded number of padded tokens,
//! whose gradients add up to those of the whole.

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::kernel::{LossSlopes, Sequence, TokenScores};
use candle_core::{DType, Tensor};
use std::ops::Range;

/// Rows whose logits exist at once.
const LOGIT_ROWS: usize = 256;

/// As [`kernel::score`](crate::kernel::score).
pub(crate) fn score(
    decoder: &Decoder,
    sequences: &[Sequence],
    minibatch_tokens: usize,
) -> Result<TokenScores> {
    let mut all = Scatter::new(sequences);
    for members in minibatches(sequences, minibatch_tokens) {
        let (log_probs, entropies) = forward(decoder, sequences, &members)?;
        all.put(&members, &log_probs.to_vec1()?, &entropies.to_vec1()?);
    }
    Ok(all.scores)
}

/// As [`kernel::differentiate`](crate::kernel::differentiate), in the same
/// order of tokens whatever the order of the minibatches.
pub(crate) fn differentiate(
    decoder: &Decoder,
    sequences: &[Sequence],
    minibatch_tokens: usize,
    loss_slopes: LossSlopes<'_>,
) -> Result<(TokenScores, Gradients)> {
    let mut all = Scatter::new(sequences);
    let mut sum: Option<Gradients> = None;
    for members in minibatches(sequences, minibatch_tokens) {
        let (log_probs, entropies) = forward(decoder, sequences, &members)?;
        let values: Vec<f32> = log_probs.to_vec1()?;
        all.put(&members, &values, &entropies.to_vec1()?);
        let mut slopes = Vec::with_capacity(values.len());
        for &member in &members {
            let range = all.ranges[member].clone();
            let start = slopes.len();
            slopes.extend(loss_slopes(
                range.clone(),
                &values[start..start + range.len()],
            ));
        }
        // Its derivative in the log-probabilities is `slopes`: the loss itself
        // never enters the graph.
        let slopes = Tensor::from_vec(slopes, log_probs.shape(), log_probs.device())?;
        let mut store = (log_probs * slopes)?.sum_all()?.backward()?;
        let gradients = Gradients::collect(decoder.trained(), &mut store)?;
        match &mut sum {
            Some(sum) => sum.add(&gradients)?,
            None => sum = Some(gradients),
        }
    }
    let gradients = sum.ok_or_else(|| Error::Input("there is nothing to differentiate".into()))?;
    Ok((all.scores, gradients))
}

/// Log-probability (differentiable) and entropy of the predicted tokens of
/// `members`, one sequence after the other.
fn forward(
    decoder: &Decoder,
    sequences: &[Sequence],
    members: &[usize],
) -> Result<(Tensor, Tensor)> {
    let length = |&member: &usize| sequences[member].tokens.len() - 1;
    let width = members.iter().map(length).max().unwrap_or(0);
    let (mut tokens, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (row, &member) in members.iter().enumerate() {
        let sequence = &sequences[member];
        let start = row * width;
        tokens.extend(&sequence.tokens[..sequence.tokens.len() - 1]);
        tokens.resize(start + width, 0);
        for position in sequence.prompt..sequence.tokens.len() {
            rows.push((start + position - 1) as u32);
            targets.push(sequence.tokens[position]);
        }
    }
    let device = decoder.device();
    let tokens = Tensor::from_vec(tokens, (members.len(), width), device)?; // [batch, tokens]
    let hidden = decoder.hidden(&tokens)?.flatten(0, 1)?; // [batch * tokens, hidden]
    let picked = hidden.index_select(&Tensor::new(rows, device)?, 0)?; // [predicted, hidden]
    let (log_probs, entropies) =
        decoder.log_probs(&picked, &Tensor::new(targets, device)?, LOGIT_ROWS)?;
    Ok((
        log_probs.to_dtype(DType::F32)?,
        entropies.to_dtype(DType::F32)?,
    ))
}

/// Indices of sequences, longest together, at most `budget` padded tokens at a
/// time (or one sequence). Those that predict nothing are left out.
fn minibatches(sequences: &[Sequence], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len())
        .filter(|&index| sequences[index].predicted() > 0)
        .collect();
    // The longest first: a budget that is too large fails at once.
    order.sort_by_key(|&index| (std::cmp::Reverse(sequences[index].tokens.len()), index));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * sequences[batch[0]].tokens.len() <= budget => {
                batch.push(index);
            }
            _ => batches.push(vec![index]),
        }
    }
    batches
}

/// Puts what minibatches find into the order of the sequences.
struct Scatter {
    ranges: Vec<Range<usize>>,
    scores: TokenScores,
}

impl Scatter {
    fn new(sequences: &[Sequence]) -> Self {
        let mut end = 0;
        let ranges = sequences
            .iter()
            .map(|sequence| {
                let start = end;
                end += sequence.predicted();
                start..end
            })
            .collect();
        let scores = TokenScores {
            log_probs: vec![0.0; end],
            entropies: vec![0.0; end],
        };
        Self { ranges, scores }
    }

    fn put(&mut self, members: &[usize], log_probs: &[f32], entropies: &[f32]) {
        let mut start = 0;
        for &member in members {
            let range = self.ranges[member].clone();
            let end = start + range.len();
            self.scores.log_probs[range.clone()].copy_from_slice(&log_probs[start..end]);
            self.scores.entropies[range].copy_from_slice(&entropies[start..end]);
            start = end;
        }
    }
}
