//! Pieces in waves, layer by layer: forward, the head, and back.

use super::head::{self, Head};
use super::layer::{Layer, Tape, Trace};
use super::layout::{Layout, pieces, rotary_table};
use super::linear::{Matrix, Product, Weights, accumulate};
use super::rows::{add, fit};
use super::slopes::Slopes;
use super::{LossSlopes, Plan, Sequence, Shape, TokenScores};
use crate::config::Config;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

/// A piece on its way.
struct Piece<'a> {
    layout: Layout<'a>,
    /// Number of its first predicted token in the batch.
    first: usize,
    buffers: Buffers,
}

/// What a piece holds, for the next one to use again.
#[derive(Default)]
struct Buffers {
    /// What goes into each layer and what comes out of the last; without a
    /// backward pass only two, taken in turn.
    streams: Vec<Vec<f32>>,
    d_stream: Vec<f32>,
}

/// What a thread works in: a tape for each layer, or one if layers are
/// computed again.
struct Desk {
    tapes: Vec<Tape>,
    trace: Trace,
}

struct Pass<'a> {
    shape: Shape,
    layers: Vec<Layer<'a>>,
    head: Head<'a>,
    embedding: Matrix<'a>,
    /// Whether there is a way back.
    is_training: bool,
    recompute: bool,
}

/// Scores `sequences`, and differentiates if there is a loss.
pub(super) fn run(
    config: &Config,
    weights: &Weights<'_>,
    sequences: &[Sequence],
    plan: &Plan,
    loss_slopes: Option<LossSlopes<'_>>,
) -> (TokenScores, Slopes) {
    let shape = Shape::new(config, plan.precision);
    let is_training = loss_slopes.is_some();
    let pass = Pass {
        layers: (0..config.num_hidden_layers)
            .map(|index| Layer::new(weights, index, &shape))
            .collect(),
        head: Head {
            norm: weights.vector(FINAL_NORM),
            output: weights.matrix(if config.tie_word_embeddings {
                EMBEDDING
            } else {
                HEAD
            }),
        },
        embedding: weights.matrix(EMBEDDING),
        recompute: plan.recompute,
        is_training,
        shape,
    };
    let mut slopes = Slopes::new(plan.bf16_gradients);
    let mut embedded = BTreeMap::new();
    let mut scores = TokenScores::default();
    let mut head_scratch = head::Scratch::default();
    let rotary = rotary_table(config, sequences);
    let threads = rayon::current_num_threads().max(1);
    let ranges = pieces(sequences);
    let tapes = if is_training && !plan.recompute {
        pass.layers.len()
    } else {
        1
    };
    let mut desks: Vec<Desk> = (0..threads.min(ranges.len()))
        .map(|_| Desk {
            tapes: (0..tapes).map(|_| Tape::default()).collect(),
            trace: Trace::default(),
        })
        .collect();
    let mut spare: Vec<Buffers> = Vec::new();
    for minibatch in minibatches(sequences, &ranges, plan, threads) {
        let mut alive: Vec<Piece<'_>> = Vec::new();
        for range in minibatch {
            let sequences = &sequences[range.clone()];
            let layout = Layout::new(sequences, &rotary);
            let first = match alive.last() {
                Some(piece) => piece.first + piece.layout.rows.len(),
                None => scores.log_probs.len(),
            };
            alive.push(Piece {
                layout,
                first,
                buffers: spare.pop().unwrap_or_default(),
            });
        }
        for wave in alive.chunks_mut(threads) {
            wave.par_iter_mut()
                .zip(&mut desks)
                .for_each(|(piece, desk)| pass.forward(piece, desk));
        }
        pass.score(
            &mut alive,
            loss_slopes,
            &mut scores,
            &mut head_scratch,
            &mut slopes,
        );
        if plan.recompute {
            // Where memory is short the logits make room for the layers.
            head_scratch = head::Scratch::default();
        }
        if is_training {
            for index in (0..pass.layers.len()).rev() {
                pass.backward(index, &mut alive, &mut desks, threads, &mut slopes);
            }
            if pass.embedding.is_trained {
                pass.collect_embedded(&alive, &mut embedded);
            }
        }
        spare.extend(alive.into_iter().map(|piece| piece.buffers));
    }
    if pass.embedding.is_trained && is_training {
        slopes.add_rows(EMBEDDING, pass.embedding.values.len(), &embedded);
    }
    (scores, slopes)
}

/// Pieces that are alive together.
fn minibatches<'r>(
    sequences: &[Sequence],
    ranges: &'r [Range<usize>],
    plan: &Plan,
    threads: usize,
) -> Vec<&'r [Range<usize>]> {
    if !plan.recompute {
        return ranges.chunks(threads).collect();
    }
    let (mut minibatches, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (index, range) in ranges.iter().enumerate() {
        // An upper bound: shared prompts are counted as often as they are used.
        let of = |sequence: &Sequence| sequence.tokens.len();
        let added: usize = sequences[range.clone()].iter().map(of).sum();
        if index - start >= threads && tokens + added > plan.tokens {
            minibatches.push(&ranges[start..index]);
            (start, tokens) = (index, 0);
        }
        tokens += added;
    }
    if start < ranges.len() {
        minibatches.push(&ranges[start..]);
    }
    minibatches
}

impl Pass<'_> {
    fn forward(&self, piece: &mut Piece<'_>, desk: &mut Desk) {
        let width = self.shape.hidden;
        let streams = &mut piece.buffers.streams;
        let kept = if self.is_training {
            self.layers.len() + 1
        } else {
            2
        };
        streams.resize_with(kept, Vec::new);
        let tokens = &piece.layout.tokens;
        let first = fit(&mut streams[0], tokens.len() * width);
        for (row, &token) in first.chunks_exact_mut(width).zip(tokens) {
            let start = token as usize * width;
            self.embedding.values.part(start..start + width).widen(row);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let tape_index = index.min(desk.tapes.len() - 1);
            let from = std::mem::take(&mut streams[index % kept]);
            let out = &mut streams[(index + 1) % kept];
            layer.forward(
                &from,
                out,
                &mut desk.tapes[tape_index],
                &self.shape,
                &piece.layout,
            );
            streams[index % kept] = from;
        }
    }

    /// The head over all pieces, one after another: it shares its work itself.
    fn score(
        &self,
        pieces: &mut [Piece<'_>],
        loss_slopes: Option<LossSlopes<'_>>,
        scores: &mut TokenScores,
        scratch: &mut head::Scratch,
        slopes: &mut Slopes,
    ) {
        let output = &self.head.output;
        let mut d_output = (self.is_training && output.is_trained)
            .then(|| slopes.take(&output.name, output.values.len()));
        for piece in pieces {
            let Buffers { streams, d_stream } = &mut piece.buffers;
            let mut d_norm = vec![0.0; self.shape.hidden];
            let backward = loss_slopes.map(|loss_slopes| head::Backward {
                loss_slopes,
                d_stream,
                d_output: d_output.as_deref_mut(),
                d_norm: &mut d_norm,
            });
            let finished = head::Finished {
                layout: &piece.layout,
                stream: &streams[self.layers.len() % streams.len()],
                first: piece.first,
            };
            self.head
                .run(&self.shape, finished, scores, scratch, backward);
            if self.is_training && self.head.norm.is_trained {
                slopes.add(&self.head.norm.name, &d_norm);
            }
        }
        if let Some(d_output) = d_output {
            slopes.put(&output.name, d_output);
        }
    }

    /// One layer of all pieces, a wave at a time.
    fn backward(
        &self,
        index: usize,
        pieces: &mut [Piece<'_>],
        desks: &mut [Desk],
        threads: usize,
        slopes: &mut Slopes,
    ) {
        let (layer, shape) = (&self.layers[index], &self.shape);
        let mut sums: Vec<(String, Vec<f32>)> = Vec::new();
        for wave in pieces.chunks_mut(threads) {
            wave.par_iter_mut()
                .zip(&mut *desks)
                .for_each(|(piece, desk)| {
                    let tape = &mut desk.tapes[if self.recompute { 0 } else { index }];
                    let Buffers { streams, d_stream } = &mut piece.buffers;
                    let (before, after) = streams.split_at_mut(index + 1);
                    if self.recompute {
                        layer.forward(&before[index], &mut after[0], tape, shape, &piece.layout);
                    }
                    layer.backward(
                        &before[index],
                        tape,
                        d_stream,
                        &mut desk.trace,
                        shape,
                        &piece.layout,
                    );
                });
            let desks = &desks[..wave.len()];
            let products: Vec<Vec<Product<'_>>> = desks
                .iter()
                .map(|desk| {
                    let tape = &desk.tapes[if self.recompute { 0 } else { index }];
                    layer.products(tape, &desk.trace)
                })
                .collect();
            if sums.is_empty() {
                sums = products[0]
                    .iter()
                    .map(|product| {
                        let length = product.rows * product.columns;
                        (product.name.to_owned(), slopes.take(product.name, length))
                    })
                    .collect();
            }
            sums.par_iter_mut()
                .enumerate()
                .for_each(|(index, (_, sum))| {
                    let of_pieces: Vec<&Product<'_>> =
                        products.iter().map(|products| &products[index]).collect();
                    accumulate(shape.maths, sum, &of_pieces);
                });
            for (name, values) in desks.iter().flat_map(|desk| &desk.trace.vectors) {
                slopes.add(name, values);
            }
        }
        for (name, sum) in sums {
            slopes.put(&name, sum);
        }
    }

    /// Adds what went into the first layer to the rows of its tokens. Kept
    /// apart until the end, so that no sum depends on how pieces were grouped.
    fn collect_embedded(&self, pieces: &[Piece<'_>], rows: &mut BTreeMap<usize, Vec<f32>>) {
        let width = self.shape.hidden;
        for piece in pieces {
            let d_rows = piece.buffers.d_stream.chunks_exact(width);
            for (&token, d_row) in piece.layout.tokens.iter().zip(d_rows) {
                let sum = rows
                    .entry(token as usize)
                    .or_insert_with(|| vec![0.0; width]);
                add(sum, d_row);
            }
        }
    }
}
