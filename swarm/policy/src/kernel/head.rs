//! From the last hidden states to log-probabilities, and back.
//!
//! `[rows, vocabulary]` is the largest matrix of a training step, so it never
//! exists: whole sequences go through together as long as their rows fit, and
//! a sequence too long for that goes twice, once for its log-probabilities
//! and once for the gradient.

use super::layout::Layout;
use super::linear::{Matrix, Product, Vector, accumulate};
use super::matrix::{View, product_into};
use super::rows::{add, fit, rms_norm, rms_norm_backward, zeros};
use super::{LossSlopes, Shape, TokenScores};
use crate::slices::{self, vectorized};
use rayon::prelude::*;
use std::ops::Range;

/// The most logits at once: 160 MB.
const LOGITS: usize = 40 << 20;
/// The most rows at once: what a piece has.
const MOST_ROWS: usize = 512;

/// How many rows of logits exist at once.
pub(crate) fn rows_at_once(vocabulary: usize) -> usize {
    (LOGITS / vocabulary).clamp(1, MOST_ROWS)
}

/// The final norm and the output projection.
pub(super) struct Head<'a> {
    pub(super) norm: Vector<'a>,
    pub(super) output: Matrix<'a>, // [vocabulary, hidden]
}

/// A piece after the layers.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) layout: &'a Layout<'a>,
    /// The last hidden states, `[tokens, hidden]`.
    pub(super) stream: &'a [f32],
    /// Number of its first row in the batch.
    pub(super) first: usize,
}

/// What a head works in.
#[derive(Default)]
pub(super) struct Scratch {
    picked: Vec<f32>,
    normed: Vec<f32>,
    inverse: Vec<f32>,
    logits: Vec<f32>,
    d_normed: Vec<f32>,
    d_picked: Vec<f32>,
}

/// Where the gradients go.
pub(super) struct Backward<'a> {
    pub(super) loss_slopes: LossSlopes<'a>,
    /// Of the last hidden states, `[tokens, hidden]`.
    pub(super) d_stream: &'a mut Vec<f32>,
    /// Of the output projection, if it is trained.
    pub(super) d_output: Option<&'a mut [f32]>,
    /// Of the norm.
    pub(super) d_norm: &'a mut [f32],
}

impl Head<'_> {
    /// Scores the rows of a piece, and turns the loss's slopes into gradients.
    pub(super) fn run(
        &self,
        shape: &Shape,
        piece: Finished<'_>,
        scores: &mut TokenScores,
        scratch: &mut Scratch,
        mut backward: Option<Backward<'_>>,
    ) {
        let Finished {
            layout,
            stream,
            first,
        } = piece;
        let width = shape.hidden;
        let Scratch {
            picked,
            normed,
            inverse,
            logits,
            d_normed,
            d_picked,
        } = scratch;
        // Only rows that predict go through the output.
        let picked = fit(picked, layout.rows.len() * width);
        for (picked, &(row, _)) in picked.chunks_exact_mut(width).zip(&layout.rows) {
            picked.copy_from_slice(&stream[row * width..(row + 1) * width]);
        }
        rms_norm(picked, self.norm.values, shape.epsilon, normed, inverse);
        let d_normed = fit(d_normed, normed.len());
        for (rows, is_whole) in chunks(&layout.sequences, rows_at_once(shape.vocabulary)) {
            // Parts of a long sequence come as `rows` of a chunk that is not whole.
            let parts: Vec<Range<usize>> = match is_whole {
                true => vec![rows.clone()],
                false => rows
                    .clone()
                    .step_by(rows_at_once(shape.vocabulary))
                    .map(|start| start..rows.end.min(start + rows_at_once(shape.vocabulary)))
                    .collect(),
            };
            for part in &parts {
                let normed = &normed[part.start * width..part.end * width];
                self.probabilities(shape, normed, &layout.rows[part.clone()], logits, scores);
            }
            let Some(backward) = &mut backward else {
                continue;
            };
            let known = scores.log_probs.len() - rows.len();
            let slopes = (backward.loss_slopes)(
                first + rows.start..first + rows.end,
                &scores.log_probs[known..],
            );
            for part in parts {
                let targets = &layout.rows[part.clone()];
                let normed = &normed[part.start * width..part.end * width];
                if !is_whole {
                    let mut again = TokenScores::default();
                    self.probabilities(shape, normed, targets, logits, &mut again);
                }
                logits
                    .par_chunks_exact_mut(shape.vocabulary)
                    .zip(targets)
                    .zip(&slopes[part.start - rows.start..part.end - rows.start])
                    .with_min_len(LEAST_ROWS)
                    .for_each(|((row, &(_, target)), &slope)| {
                        row.iter_mut().for_each(|p| *p *= -slope);
                        row[target as usize] += slope;
                    });
                product_into(
                    shape.maths,
                    &mut d_normed[part.start * width..part.end * width],
                    width,
                    View::new(logits, part.len(), shape.vocabulary),
                    View::weights(self.output.values, shape.vocabulary, width),
                    false,
                    1.0,
                );
                if let Some(d_output) = &mut backward.d_output {
                    let product = Product {
                        name: &self.output.name,
                        left: logits,
                        right: normed,
                        rows: shape.vocabulary,
                        columns: width,
                        scale: 1.0,
                    };
                    accumulate(shape.maths, d_output, &[&product]);
                }
            }
        }
        let Some(backward) = backward else {
            return;
        };
        let d_picked = zeros(d_picked, picked.len());
        let weight = self.norm.values;
        rms_norm_backward(d_picked, backward.d_norm, d_normed, picked, inverse, weight);
        let d_stream = zeros(backward.d_stream, stream.len());
        for (d_row, &(row, _)) in d_picked.chunks_exact(width).zip(&layout.rows) {
            add(&mut d_stream[row * width..(row + 1) * width], d_row);
        }
    }

    /// The probabilities of every token after each row, into `logits`, and the
    /// targets' scores.
    fn probabilities(
        &self,
        shape: &Shape,
        normed: &[f32],
        targets: &[(usize, u32)],
        logits: &mut Vec<f32>,
        scores: &mut TokenScores,
    ) {
        let logits = fit(logits, targets.len() * shape.vocabulary);
        product_into(
            shape.maths,
            logits,
            shape.vocabulary,
            View::new(normed, targets.len(), shape.hidden),
            View::weights(self.output.values, shape.vocabulary, shape.hidden).t(),
            false,
            1.0,
        );
        let found: Vec<(f32, f32)> = logits
            .par_chunks_exact_mut(shape.vocabulary)
            .zip(targets)
            .with_min_len(LEAST_ROWS)
            .map(|(row, &(_, target))| {
                vectorized(
                    #[inline(always)]
                    || log_softmax(row, target as usize),
                )
            })
            .collect();
        for (log_prob, entropy) in found {
            scores.log_probs.push(log_prob);
            scores.entropies.push(entropy);
        }
    }
}

/// Rows below which a thread is not worth waking.
const LEAST_ROWS: usize = 16;

/// Rows of whole sequences, as many as fit together; a sequence that alone has
/// too many comes alone, marked as not whole.
fn chunks(sequences: &[Range<usize>], most: usize) -> Vec<(Range<usize>, bool)> {
    let mut chunks: Vec<(Range<usize>, bool)> = Vec::new();
    for rows in sequences.iter().filter(|rows| !rows.is_empty()) {
        match chunks.last_mut() {
            Some((chunk, true)) if rows.end - chunk.start <= most => chunk.end = rows.end,
            _ => chunks.push((rows.clone(), rows.len() <= most)),
        }
    }
    chunks
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_sequences_unless_one_is_too_long() {
        let sequences = [0..3, 3..6, 6..6, 6..9, 9..20, 20..22, 22..24];
        let found = chunks(&sequences, 6);
        let expected = [(0..6, true), (6..9, true), (9..20, false), (20..24, true)];
        assert_eq!(found, expected);
    }
}
