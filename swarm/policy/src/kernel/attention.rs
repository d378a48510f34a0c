//! Causal grouped-query attention over sequences laid end to end, with rotary
//! positions (Su et al., 2021; the half-split form of Llama and Qwen).

use super::Shape;
use super::layout::Layout;
use super::matrix::{View, dot, product_into};
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

/// Mixed values, `[tokens, heads * width]`, and the attention weights of every
/// span and head, `[length, keys]` each, one after another.
pub(super) fn attend(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    shape: &Shape,
    layout: &Layout<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let mut mixed = vec![0.0; query.len()];
    let scores: usize = layout
        .spans
        .iter()
        .map(|span| span.length * span.keys())
        .sum();
    let mut weights = vec![0.0; scores * shape.heads];
    let scale = 1.0 / (shape.head_width as f32).sqrt();
    for_each_head(shape, layout, |at| {
        let scores = &mut weights[at.scores..at.scores + at.length * at.keys()];
        let query_head = at.query(query, shape);
        for part in at.parts() {
            product_into(
                &mut scores[part.column..],
                at.keys(),
                query_head,
                part.rows(key, shape).t(),
                0.0,
                scale,
            );
        }
        vectorized(
            #[inline(always)]
            || {
                for (index, row) in scores.chunks_exact_mut(at.keys()).enumerate() {
                    let (seen, unseen) = row.split_at_mut(at.prefix.length + index + 1);
                    let scale = 1.0 / exponentiate(seen);
                    seen.iter_mut().for_each(|weight| *weight *= scale);
                    unseen.fill(0.0);
                }
            },
        );
        for part in at.parts() {
            product_into(
                &mut mixed[at.query_start..],
                shape.query_width(),
                part.of(scores, at),
                part.rows(value, shape),
                part.keep,
                1.0,
            );
        }
    });
    (mixed, weights)
}

/// The gradients of queries, keys and values.
pub(super) fn attend_backward(
    d_mixed: &[f32],
    weights: &[f32],
    (query, key, value): (&[f32], &[f32], &[f32]),
    shape: &Shape,
    layout: &Layout<'_>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut d_query = vec![0.0; query.len()];
    let mut d_key = vec![0.0; key.len()];
    let mut d_value = vec![0.0; value.len()];
    let scale = 1.0 / (shape.head_width as f32).sqrt();
    let largest = layout.spans.iter().map(|span| span.length * span.keys());
    let mut d_scores = vec![0.0; largest.max().unwrap_or(0)];
    for_each_head(shape, layout, |at| {
        let weights = &weights[at.scores..at.scores + at.length * at.keys()];
        let d_scores = &mut d_scores[..at.length * at.keys()];
        let d_mixed = at.query(d_mixed, shape);
        for part in at.parts() {
            product_into(
                &mut d_scores[part.column..],
                at.keys(),
                d_mixed,
                part.rows(value, shape).t(),
                0.0,
                1.0,
            );
            product_into(
                &mut d_value[part.start..],
                shape.key_width(),
                part.of(weights, at).t(),
                d_mixed,
                1.0,
                1.0,
            );
        }
        vectorized(
            #[inline(always)]
            || {
                for (d_row, row) in d_scores
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
                &mut d_query[at.query_start..],
                shape.query_width(),
                part.of(d_scores, at),
                part.rows(key, shape),
                part.keep,
                scale,
            );
            product_into(
                &mut d_key[part.start..],
                shape.key_width(),
                part.of(d_scores, at).t(),
                query,
                1.0,
                scale,
            );
        }
    });
    (d_query, d_key, d_value)
}

/// Where one head of one span lies.
struct Head {
    length: usize,
    /// First element in queries.
    query_start: usize,
    /// First of its attention weights.
    scores: usize,
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
    /// What is kept of a sum over the parts: a span's own keys come first and
    /// begin it.
    keep: f32,
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
    fn of<'a>(&self, scores: &'a [f32], at: &Head) -> View<'a> {
        View::strided(&scores[self.column..], at.length, self.length, at.keys())
    }
}

fn for_each_head(shape: &Shape, layout: &Layout<'_>, mut visit: impl FnMut(&Head)) {
    let mut scores = 0;
    for span in &layout.spans {
        for head in 0..shape.heads {
            let shared = head * shape.key_heads / shape.heads;
            let key = |token: usize| token * shape.key_width() + shared * shape.head_width;
            visit(&Head {
                length: span.length,
                query_start: span.start * shape.query_width() + head * shape.head_width,
                scores,
                own: Keys {
                    start: key(span.start),
                    length: span.length,
                    column: span.prefix.len(),
                    keep: 0.0,
                },
                prefix: Keys {
                    start: key(span.prefix.start),
                    length: span.prefix.len(),
                    column: 0,
                    keep: 1.0,
                },
            });
            scores += span.length * span.keys();
        }
    }
}
