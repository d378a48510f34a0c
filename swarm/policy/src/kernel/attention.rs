//! Causal grouped-query attention over sequences laid end to end, with rotary
//! positions (Su et al., 2021; the half-split form of Llama and Qwen).

use super::Shape;
use super::layout::Layout;
use super::matrix::{Maths, View, product_into};
use super::rows::{dot, fit, zeros};
use crate::slices::{exponentiate, vectorized};

/// Rotates queries or keys, `[tokens, heads * width]`, by their positions;
/// `direction` is 1 forward and -1 backward (a rotation's transpose).
pub(super) fn rotate(
    rows: &mut [f32],
    heads: usize,
    shape: &Shape,
    layout: &Layout<'_>,
    direction: f32,
) {
    let width = shape.head_width;
    let half = width / 2;
    vectorized(
        #[inline(always)]
        || {
            for (row, &position) in rows.chunks_exact_mut(heads * width).zip(&layout.positions) {
                let angles = &layout.rotary[position * width..(position + 1) * width];
                let (cosines, sines) = angles.split_at(half);
                for head in row.chunks_exact_mut(width) {
                    let (low, high) = head.split_at_mut(half);
                    for (((low, high), cosine), sine) in
                        low.iter_mut().zip(high).zip(cosines).zip(sines)
                    {
                        let (a, b, sine) = (*low, *high, sine * direction);
                        *low = a * cosine - b * sine;
                        *high = b * cosine + a * sine;
                    }
                }
            }
        },
    );
}

/// Attention weights that a tape keeps for the backward pass; where there are
/// more, they are computed again, a head at a time.
pub(crate) const KEPT_WEIGHTS: usize = 1 << 22;

/// How many attention weights `layout` has, over all spans and heads.
pub(super) fn weight_count(shape: &Shape, layout: &Layout<'_>) -> usize {
    let spans = layout.spans.iter().map(|span| span.length * span.keys());
    spans.sum::<usize>() * shape.heads
}

/// Mixed values, `[tokens, heads * width]`, into `mixed`, and the attention
/// weights of every span and head, `[length, keys]` each, one after another,
/// into `weights`; of too many, those of the last head alone.
pub(super) fn attend(
    (query, key, value): (&[f32], &[f32], &[f32]),
    shape: &Shape,
    layout: &Layout<'_>,
    mixed: &mut Vec<f32>,
    weights: &mut Vec<f32>,
) {
    let mixed = fit(mixed, query.len());
    let count = weight_count(shape, layout);
    let are_kept = count <= KEPT_WEIGHTS;
    let weights = fit(weights, if are_kept { count } else { largest(layout) });
    for_each_head(shape, layout, |at| {
        let start = if are_kept { at.weights } else { 0 };
        let weights = &mut weights[start..start + at.length * at.keys()];
        weigh(query, key, shape, at, weights);
        for part in at.parts() {
            product_into(
                Maths::EXACT,
                &mut mixed[at.query_start..],
                shape.query_width(),
                part.of(weights, at),
                part.rows(value, shape),
                part.keep,
                1.0,
            );
        }
    });
}

/// The attention weights of one head, `[length, keys]`.
fn weigh(query: &[f32], key: &[f32], shape: &Shape, at: &Head, weights: &mut [f32]) {
    let scale = 1.0 / (shape.head_width as f32).sqrt();
    let query_head = at.query(query, shape);
    for part in at.parts() {
        product_into(
            Maths::EXACT,
            &mut weights[part.column..],
            at.keys(),
            query_head,
            part.rows(key, shape).t(),
            false,
            scale,
        );
    }
    vectorized(
        #[inline(always)]
        || {
            for (index, row) in weights.chunks_exact_mut(at.keys()).enumerate() {
                let (seen, unseen) = row.split_at_mut(at.prefix.length + index + 1);
                let scale = 1.0 / exponentiate(seen);
                seen.iter_mut().for_each(|weight| *weight *= scale);
                unseen.fill(0.0);
            }
        },
    );
}

/// The largest number of weights that one head of a span has.
fn largest(layout: &Layout<'_>) -> usize {
    let spans = layout.spans.iter().map(|span| span.length * span.keys());
    spans.max().unwrap_or(0)
}

/// What the backward pass works in.
#[derive(Default)]
pub(super) struct Scratch {
    d_weights: Vec<f32>,
    weights: Vec<f32>,
}

/// The gradients of queries, keys and values, into `d_query` and so on, given
/// the weights that [`attend`] left.
pub(super) fn attend_backward(
    d_mixed: &[f32],
    weights: &[f32],
    (query, key, value): (&[f32], &[f32], &[f32]),
    shape: &Shape,
    layout: &Layout<'_>,
    (d_query, d_key, d_value): (&mut Vec<f32>, &mut Vec<f32>, &mut Vec<f32>),
    scratch: &mut Scratch,
) {
    let d_query = fit(d_query, query.len());
    let d_key = zeros(d_key, key.len());
    let d_value = zeros(d_value, value.len());
    let scale = 1.0 / (shape.head_width as f32).sqrt();
    let are_kept = weight_count(shape, layout) <= KEPT_WEIGHTS;
    let most = largest(layout);
    let d_weights = fit(&mut scratch.d_weights, most);
    let again = fit(&mut scratch.weights, if are_kept { 0 } else { most });
    for_each_head(shape, layout, |at| {
        let size = at.length * at.keys();
        let weights = if are_kept {
            &weights[at.weights..at.weights + size]
        } else {
            weigh(query, key, shape, at, &mut again[..size]);
            &again[..size]
        };
        let d_weights = &mut d_weights[..size];
        let d_mixed = at.query(d_mixed, shape);
        for part in at.parts() {
            product_into(
                Maths::EXACT,
                &mut d_weights[part.column..],
                at.keys(),
                d_mixed,
                part.rows(value, shape).t(),
                false,
                1.0,
            );
            product_into(
                Maths::EXACT,
                &mut d_value[part.start..],
                shape.key_width(),
                part.of(weights, at).t(),
                d_mixed,
                true,
                1.0,
            );
        }
        vectorized(
            #[inline(always)]
            || {
                for (d_row, row) in d_weights
                    .chunks_exact_mut(at.keys())
                    .zip(weights.chunks_exact(at.keys()))
                {
                    let along = dot(d_row, row);
                    for (d, weight) in d_row.iter_mut().zip(row) {
                        *d = weight * (*d - along);
                    }
                }
            },
        );
        let query = at.query(query, shape);
        for part in at.parts() {
            product_into(
                Maths::EXACT,
                &mut d_query[at.query_start..],
                shape.query_width(),
                part.of(d_weights, at),
                part.rows(key, shape),
                part.keep,
                scale,
            );
            product_into(
                Maths::EXACT,
                &mut d_key[part.start..],
                shape.key_width(),
                part.of(d_weights, at).t(),
                query,
                true,
                scale,
            );
        }
    });
}

/// Where one head of one span lies.
struct Head {
    length: usize,
    /// First element in queries.
    query_start: usize,
    /// First of its attention weights.
    weights: usize,
    own: Keys,
    prefix: Keys,
}

/// A run of keys, and of values, that a head looks at.
struct Keys {
    /// First element in keys and values.
    start: usize,
    length: usize,
    /// First column in the head's attention weights.
    column: usize,
    /// Whether a sum over the parts has begun: a span's own keys come first.
    keep: bool,
}

impl Head {
    fn keys(&self) -> usize {
        self.prefix.length + self.length
    }

    /// Its own keys, and then those of the prefix if it has one.
    fn parts(&self) -> impl Iterator<Item = &Keys> {
        [&self.own, &self.prefix]
            .into_iter()
            .filter(|part| part.length > 0)
    }

    fn query<'a>(&self, rows: &'a [f32], shape: &Shape) -> View<'a> {
        View::strided(
            &rows[self.query_start..],
            self.length,
            shape.head_width,
            shape.query_width(),
        )
    }
}

impl Keys {
    /// These keys or values.
    fn rows<'a>(&self, rows: &'a [f32], shape: &Shape) -> View<'a> {
        View::strided(
            &rows[self.start..],
            self.length,
            shape.head_width,
            shape.key_width(),
        )
    }

    /// Their columns of a head's attention weights.
    fn of<'a>(&self, weights: &'a [f32], at: &Head) -> View<'a> {
        View::strided(&weights[self.column..], at.length, self.length, at.keys())
    }
}

fn for_each_head(shape: &Shape, layout: &Layout<'_>, mut visit: impl FnMut(&Head)) {
    let mut weights = 0;
    for span in &layout.spans {
        for head in 0..shape.heads {
            let shared = head * shape.key_heads / shape.heads;
            let key = |token: usize| token * shape.key_width() + shared * shape.head_width;
            visit(&Head {
                length: span.length,
                query_start: span.start * shape.query_width() + head * shape.head_width,
                weights,
                own: Keys {
                    start: key(span.start),
                    length: span.length,
                    column: span.prefix.len(),
                    keep: false,
                },
                prefix: Keys {
                    start: key(span.prefix.start),
                    length: span.prefix.len(),
                    column: 0,
                    keep: true,
                },
            });
            weights += span.length * span.keys();
        }
    }
}
