//! Keys and values of sequences that are being drawn, and attention over them.
//!
//! A sequence may continue another: its keys are then those of the prefix,
//! which a group shares, and its own. The query heads that share a key head
//! are computed together, so that each key and value is loaded once for all;
//! none is copied.

use crate::config::Config;
use crate::lanes::{Aligned, LANES, Lanes, Level, Work, dispatch};
use crate::linear::worthwhile;
use crate::slices::exponentiate;
use rayon::prelude::*;

/// Keys and values of consecutive positions of one sequence, in all layers.
/// Positions come in blocks of [`LANES`]; a head's values are padded to them.
#[derive(Default)]
pub(crate) struct Span {
    first: usize,    // the position of the first entry
    length: usize,   // entries in use
    capacity: usize, // entries allocated
    keys: Aligned,   // [layers, key heads, blocks, head_dim, LANES]
    values: Aligned, // [layers, key heads, capacity, padded head_dim]
}

impl Span {
    /// Room for `capacity` positions from `first` on.
    pub(crate) fn new(config: &Config, first: usize, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(LANES);
        let places = config.num_hidden_layers * config.num_key_value_heads * capacity;
        Self {
            first,
            length: 0,
            capacity,
            keys: Aligned::zeros(places * config.head_dim()),
            values: Aligned::zeros(places * config.head_dim().next_multiple_of(LANES)),
        }
    }

    /// What room for `capacity` positions costs, in bytes.
    pub(crate) fn bytes(config: &Config, capacity: usize) -> usize {
        let width = config.head_dim() + config.head_dim().next_multiple_of(LANES);
        let heads = config.num_hidden_layers * config.num_key_value_heads;
        (heads * width * size_of::<f32>()).saturating_mul(capacity.next_multiple_of(LANES))
    }

    /// Forgets its content and starts again at `first`.
    pub(crate) fn restart(&mut self, first: usize) {
        (self.first, self.length) = (first, 0);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The position after the last.
    pub(crate) fn end(&self) -> usize {
        self.first + self.length
    }

    /// Makes room for the next position to be stored, layer after layer.
    pub(crate) fn extend(&mut self) {
        assert!(self.length < self.capacity, "a span is full");
        self.length += 1;
    }

    /// Stores the keys and values of all heads of one layer at a position.
    pub(crate) fn store(
        &mut self,
        sizes: Sizes,
        layer: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let (width, at) = (sizes.width, position - self.first);
        let padded = sizes.width.next_multiple_of(LANES);
        for head in 0..sizes.key_heads {
            let place = (layer * sizes.key_heads + head) * self.capacity;
            let block = &mut self.keys[(place + at / LANES * LANES) * width..][..LANES * width];
            let key = &keys[head * width..][..width];
            for (block, &key) in block.chunks_exact_mut(LANES).zip(key) {
                block[at % LANES] = key;
            }
            self.values[(place + at) * padded..][..width]
                .copy_from_slice(&values[head * width..][..width]);
        }
    }

    /// The first `length` keys of a head of a layer, in blocks.
    fn keys(&self, place: usize, width: usize, length: usize) -> &[[f32; LANES]] {
        let blocks = length.div_ceil(LANES) * LANES;
        let keys = &self.keys[place * self.capacity * width..][..blocks * width];
        keys.as_chunks().0
    }

    /// The first `length` values of a head of a layer.
    fn values(&self, place: usize, width: usize, length: usize) -> &[[f32; LANES]] {
        let padded = width.next_multiple_of(LANES);
        let values = &self.values[place * self.capacity * padded..][..length * padded];
        values.as_chunks().0
    }
}

/// One token to compute. Rows of one sequence come in the order of positions.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) token: u32,
    pub(crate) position: usize,
    /// The span that this token's key and value are appended to.
    pub(crate) span: usize,
    /// A span of earlier positions, shared by a group.
    pub(crate) prefix: Option<usize>,
}

/// The sizes of attention.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) width: usize,
}

impl Sizes {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            width: config.head_dim(),
        }
    }

    /// Queries of one row.
    pub(crate) fn query(&self) -> usize {
        self.heads * self.width
    }

    /// Queries, keys and values of one row, side by side.
    pub(crate) fn projected(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.width
    }
}

/// Attention of some rows in one layer, from their rotated and scaled queries.
/// Keys and values of all rows are stored already.
pub(crate) struct Attention<'a> {
    pub(crate) sizes: Sizes,
    pub(crate) layer: usize,
    pub(crate) rows: &'a [Row],
    pub(crate) spans: &'a [Span],
    /// Where queries are read: `[rows, query + key + value]`.
    pub(crate) projected: &'a [f32],
    /// Where what the heads saw is written: `[rows, query]`.
    pub(crate) mixed: &'a mut [f32],
    /// Working memory.
    pub(crate) scores: &'a mut Vec<f32>,
}

impl Attention<'_> {
    /// Computes it, if it is worth that on several threads.
    pub(crate) fn compute(self, threads: usize) {
        let (level, sizes, count) = (Level::best(), self.sizes, self.rows.len());
        let looked_at: usize = self.rows.iter().map(|row| row.position + 1).sum();
        let threads = worthwhile(threads, looked_at * sizes.query() * 2).min(count);
        if threads <= 1 {
            return dispatch(level, self);
        }
        let share = count.div_ceil(4 * threads);
        self.rows
            .par_chunks(share)
            .zip(self.projected.par_chunks(share * sizes.projected()))
            .zip(self.mixed.par_chunks_mut(share * sizes.query()))
            .for_each_init(Vec::new, |scores, ((rows, projected), mixed)| {
                let part = Attention {
                    rows,
                    projected,
                    mixed,
                    scores,
                    ..self
                };
                dispatch(level, part);
            });
    }
}

impl Work for Attention<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Sizes {
            heads,
            key_heads,
            width,
        } = self.sizes;
        let shared = heads / key_heads * width;
        for ((row, projected), mixed) in self
            .rows
            .iter()
            .zip(self.projected.chunks_exact(self.sizes.projected()))
            .zip(self.mixed.chunks_exact_mut(self.sizes.query()))
        {
            let own = &self.spans[row.span];
            // The prefix first: spans in the order of positions.
            let parts = [row.prefix.map(|prefix| &self.spans[prefix]), Some(own)];
            let parts = parts.map(|span| {
                span.map(|span| (span, span.length.min(row.position + 1 - span.first)))
            });
            for (head, (queries, mixed)) in projected[..heads * width]
                .chunks_exact(shared)
                .zip(mixed.chunks_exact_mut(shared))
                .enumerate()
            {
                let place = self.layer * key_heads + head;
                for (queries, mixed) in queries
                    .chunks(HEADS * width)
                    .zip(mixed.chunks_mut(HEADS * width))
                {
                    let scores = &mut *self.scores;
                    match queries.len() / width {
                        1 => look::<L, 1>(queries, mixed, parts, place, width, scores),
                        2 => look::<L, 2>(queries, mixed, parts, place, width, scores),
                        3 => look::<L, 3>(queries, mixed, parts, place, width, scores),
                        _ => look::<L, HEADS>(queries, mixed, parts, place, width, scores),
                    }
                }
            }
        }
    }
}

/// Query heads that are computed together, at most.
const HEADS: usize = 4;

type Parts<'a> = [Option<(&'a Span, usize)>; 2];

/// `G` query heads at one key head's keys and values.
// Sums stay in registers only if every index of theirs is known: no iterators.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn look<L: Lanes, const G: usize>(
    queries: &[f32],
    mixed: &mut [f32],
    parts: Parts<'_>,
    place: usize,
    width: usize,
    scores: &mut Vec<f32>,
) {
    let length = |part: &Option<(&Span, usize)>| part.map_or(0, |(_, length)| length);
    let total: usize = parts.iter().map(length).sum();
    // Each part may write a whole last block; what lies beyond is overwritten
    // by the next part, or never read.
    let stride = total + LANES;
    if scores.len() < G * stride {
        scores.resize(G * stride, 0.0);
    }
    let queries: [&[f32]; G] = std::array::from_fn(|head| &queries[head * width..][..width]);
    let mut start = 0;
    for (span, length) in parts.into_iter().flatten() {
        let keys = span.keys(place, width, length);
        for (block, keys) in keys.chunks_exact(width).enumerate() {
            // Even and odd terms apart: additions wait for one another, and
            // two chains of them are half as long. Widths are even.
            let mut sums = [[L::zero(); 2]; G];
            for (at, pair) in keys.chunks_exact(2).enumerate() {
                let pair = [L::load(&pair[0]), L::load(&pair[1])];
                for head in 0..G {
                    for parity in 0..2 {
                        let query = L::splat(queries[head][2 * at + parity]);
                        sums[head][parity] = sums[head][parity].multiply_add(query, pair[parity]);
                    }
                }
            }
            for head in 0..G {
                let to = head * stride + start + block * LANES;
                let (to, _) = scores[to..]
                    .split_first_chunk_mut()
                    .expect("room for a block");
                let [even, odd] = sums[head];
                even.multiply_add(L::splat(1.0), odd).store(to);
            }
        }
        start += length;
    }
    let mut inverse = [0.0; G];
    for (inverse, scores) in inverse.iter_mut().zip(scores.chunks_exact_mut(stride)) {
        *inverse = 1.0 / exponentiate(&mut scores[..total]);
    }
    let padded = width.div_ceil(LANES);
    for first in (0..padded).step_by(PARTS) {
        let at = Columns {
            first,
            padded,
            stride,
        };
        match padded - first {
            1 => mix::<L, G, 1>(mixed, parts, place, width, scores, at, inverse),
            2 => mix::<L, G, 2>(mixed, parts, place, width, scores, at, inverse),
            3 => mix::<L, G, 3>(mixed, parts, place, width, scores, at, inverse),
            _ => mix::<L, G, PARTS>(mixed, parts, place, width, scores, at, inverse),
        }
    }
}

/// Sixteenths of a head's width that are summed together, at most.
const PARTS: usize = 4;

/// Which part of a head's values, in units of [`LANES`].
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    padded: usize,
    stride: usize, // of the scores
}

/// `P` parts of the values of `G` heads, weighted by their scores.
// Sums stay in registers only if every index of theirs is known: no iterators.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn mix<L: Lanes, const G: usize, const P: usize>(
    mixed: &mut [f32],
    parts: Parts<'_>,
    place: usize,
    width: usize,
    scores: &[f32],
    at: Columns,
    inverse: [f32; G],
) {
    let mut sums = [[L::zero(); P]; G];
    let mut vectors = [L::zero(); P];
    let mut start = 0;
    for (span, length) in parts.into_iter().flatten() {
        let weights: [&[f32]; G] =
            std::array::from_fn(|head| &scores[head * at.stride + start..][..length]);
        let values = span.values(place, width, length);
        for (position, value) in values.chunks_exact(at.padded).enumerate() {
            for part in 0..P {
                vectors[part] = L::load(&value[at.first + part]);
            }
            for head in 0..G {
                let weight = L::splat(weights[head][position]);
                for part in 0..P {
                    sums[head][part] = sums[head][part].multiply_add(weight, vectors[part]);
                }
            }
        }
        start += length;
    }
    for head in 0..G {
        let mixed = &mut mixed[head * width..][..width];
        for part in 0..P {
            let mut out = [0.0; LANES];
            sums[head][part].store(&mut out);
            let first = (at.first + part) * LANES;
            for (mixed, out) in mixed[first..].iter_mut().zip(out) {
                *mixed = out * inverse[head];
            }
        }
    }
}
