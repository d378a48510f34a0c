//! Keys and values of sequences that are being drawn, and attention over them.
//!
//! A sequence may continue another: its keys are then those of the prefix,
//! which a group shares, and its own. The query heads that share a key head
//! are computed together, so that each key and value is loaded once for all;
//! none is copied.

use crate::config::Config;
use crate::lanes::{LANES, Lanes, Level, Work, dispatch};
use crate::linear::worthwhile;
use crate::slices::exponentiate;
use rayon::prelude::*;

/// Keys and values of consecutive positions of one sequence, in all layers.
/// Positions come in blocks of [`LANES`]; a head's values are padded to them.
#[derive(Default)]
pub(crate) struct Span {
    first: usize,     // the position of the first entry
    length: usize,    // entries in use
    capacity: usize,  // entries allocated
    keys: Vec<f32>,   // [layers, key heads, blocks, head_dim, LANES]
    values: Vec<f32>, // [layers, key heads, capacity, padded head_dim]
}

impl Span {
    /// Room for `capacity` positions from `first` on.
    pub(crate) fn new(config: &Config, first: usize, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(LANES);
        let places = config.num_hidden_layers * config.num_key_value_heads * capacity;
        // Zeroed pages that nobody has touched cost nothing.
        Self {
            first,
            length: 0,
            capacity,
            keys: vec![0.0; places * config.head_dim()],
            values: vec![0.0; places * config.head_dim().next_multiple_of(LANES)],
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

/// Attends: each row's rotated and scaled queries, in `projected`
/// (`[rows, query + key + value]`), to `mixed` (`[rows, query]`). Keys and
/// values of all rows are stored already. `scores` is working memory.
pub(crate) fn attend(
    sizes: Sizes,
    layer: usize,
    rows: &[Row],
    spans: &[Span],
    projected: &[f32],
    mixed: &mut [f32],
    scores: &mut Vec<f32>,
    threads: usize,
) {
    let level = Level::best();
    let looked_at: usize = rows.iter().map(|row| row.position + 1).sum();
    let threads = worthwhile(threads, looked_at * sizes.query() * 2).min(rows.len());
    let part = |rows, projected, mixed, scores: &mut Vec<f32>| {
        dispatch(
            level,
            Attention {
                sizes,
                layer,
                rows,
                spans,
                projected,
                mixed,
                scores,
            },
        );
    };
    if threads <= 1 {
        return part(rows, projected, mixed, scores);
    }
    let share = rows.len().div_ceil(4 * threads);
    rows.par_chunks(share)
        .zip(projected.par_chunks(share * sizes.projected()))
        .zip(mixed.par_chunks_mut(share * sizes.query()))
        .for_each_init(Vec::new, |scores, ((rows, projected), mixed)| {
            part(rows, projected, mixed, scores);
        });
}

struct Attention<'a> {
    sizes: Sizes,
    layer: usize,
    rows: &'a [Row],
    spans: &'a [Span],
    projected: &'a [f32],
    mixed: &'a mut [f32],
    scores: &'a mut Vec<f32>,
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
            let parts = [
                row.prefix.map(|prefix| &self.spans[prefix]),
                Some(own),
            ];
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
    let mut start = 0;
    for (span, length) in parts.into_iter().flatten() {
        let keys = span.keys(place, width, length);
        for (block, keys) in keys.chunks_exact(width).enumerate() {
            let mut sums = [L::zero(); G];
            for (at, key) in keys.iter().enumerate() {
                let key = L::load(key);
                for (head, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.multiply_add(L::splat(queries[head * width + at]), key);
                }
            }
            for (head, sum) in sums.into_iter().enumerate() {
                let to = head * stride + start + block * LANES;
                let (to, _) = scores[to..].split_first_chunk_mut().expect("room for a block");
                sum.store(to);
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
    let mut start = 0;
    for (span, length) in parts.into_iter().flatten() {
        let weights: [&[f32]; G] =
            std::array::from_fn(|head| &scores[head * at.stride + start..][..length]);
        let values = span.values(place, width, length);
        for (position, value) in values.chunks_exact(at.padded).enumerate() {
            let value: [L; P] = std::array::from_fn(|part| L::load(&value[at.first + part]));
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                let weight = L::splat(weights[position]);
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = sum.multiply_add(weight, value);
                }
            }
        }
        start += length;
    }
    for ((head, sums), inverse) in sums.iter().enumerate().zip(inverse) {
        for (part, sum) in sums.iter().enumerate() {
            let mut out = [0.0; LANES];
            sum.store(&mut out);
            let first = (at.first + part) * LANES;
            let mixed = &mut mixed[head * width + first..(head * width + first + LANES).min((head + 1) * width)];
            for (mixed, out) in mixed.iter_mut().zip(out) {
                *mixed = out * inverse;
            }
        }
    }
}
