//! Causal grouped-query attention over sequences laid end to end, with rotary
//! positions (Su et al., 2021; the half-split form of Llama and Qwen).

use super::matrix::{View, product_into};
use super::{Layout, Shape};

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
    for (row, &position) in rows.chunks_exact_mut(heads * width).zip(&layout.positions) {
        let angles = &layout.rotary[position * width..(position + 1) * width];
        let (cosines, sines) = angles.split_at(half);
        for head in row.chunks_exact_mut(width) {
            let (low, high) = head.split_at_mut(half);
            for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                let (a, b, sine) = (*low, *high, sine * direction);
                *low = a * cosine - b * sine;
                *high = b * cosine + a * sine;
            }
        }
    }
}

/// Mixed values, `[tokens, heads * width]`, and the attention weights of every
/// sequence and head, `[length, length]` each, one after another.
pub(super) fn attend(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    shape: &Shape,
    layout: &Layout<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let mut mixed = vec![0.0; query.len()];
    let mut weights = vec![0.0; layout.squares * shape.heads];
    let scale = 1.0 / (shape.head_width as f32).sqrt();
    for_each_head(shape, layout, |at| {
        let scores = &mut weights[at.square..at.square + at.length * at.length];
        let query_head = at.query(query, shape);
        let key_head = at.key(key, shape);
        product_into(scores, at.length, query_head, key_head.t(), 0.0, scale);
        for (index, row) in scores.chunks_exact_mut(at.length).enumerate() {
            softmax(&mut row[..=index]);
            row[index + 1..].fill(0.0);
        }
        let scores = &weights[at.square..at.square + at.length * at.length];
        product_into(
            &mut mixed[at.query_start..],
            shape.query_width(),
            View::new(scores, at.length, at.length),
            at.key(value, shape),
            0.0,
            1.0,
        );
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
    let mut d_scores = vec![0.0; layout.longest * layout.longest];
    for_each_head(shape, layout, |at| {
        let length = at.length;
        let weights = &weights[at.square..at.square + length * length];
        let d_scores = &mut d_scores[..length * length];
        let d_mixed = at.query(d_mixed, shape);
        product_into(
            d_scores,
            length,
            d_mixed,
            at.key(value, shape).t(),
            0.0,
            1.0,
        );
        let square = View::new(weights, length, length);
        product_into(
            &mut d_value[at.key_start..],
            shape.key_width(),
            square.t(),
            d_mixed,
            1.0,
            1.0,
        );
        for (d_row, row) in d_scores
            .chunks_exact_mut(length)
            .zip(weights.chunks_exact(length))
        {
            let along: f32 = d_row.iter().zip(row).map(|(d, weight)| d * weight).sum();
            for (d, weight) in d_row.iter_mut().zip(row) {
                *d = weight * (*d - along);
            }
        }
        let d_square = View::new(d_scores, length, length);
        let (query, key) = (at.query(query, shape), at.key(key, shape));
        product_into(
            &mut d_query[at.query_start..],
            shape.query_width(),
            d_square,
            key,
            0.0,
            scale,
        );
        product_into(
            &mut d_key[at.key_start..],
            shape.key_width(),
            d_square.t(),
            query,
            1.0,
            scale,
        );
    });
    (d_query, d_key, d_value)
}

/// Where one head of one sequence lies.
struct Head {
    length: usize,
    /// First element in queries.
    query_start: usize,
    /// First element in keys and values.
    key_start: usize,
    /// First element of its attention weights.
    square: usize,
}

impl Head {
    fn query<'a>(&self, rows: &'a [f32], shape: &Shape) -> View<'a> {
        View::strided(
            &rows[self.query_start..],
            self.length,
            shape.head_width,
            shape.query_width(),
        )
    }

    fn key<'a>(&self, rows: &'a [f32], shape: &Shape) -> View<'a> {
        View::strided(
            &rows[self.key_start..],
            self.length,
            shape.head_width,
            shape.key_width(),
        )
    }
}

fn for_each_head(shape: &Shape, layout: &Layout<'_>, mut visit: impl FnMut(&Head)) {
    let mut square = 0;
    for &(start, length) in &layout.spans {
        for head in 0..shape.heads {
            let shared = head * shape.key_heads / shape.heads;
            visit(&Head {
                length,
                query_start: start * shape.query_width() + head * shape.head_width,
                key_start: start * shape.key_width() + shared * shape.head_width,
                square,
            });
            square += length * length;
        }
    }
}

/// Softmax in place.
pub(super) fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    let scale = 1.0 / sum;
    for value in row {
        *value *= scale;
    }
}
