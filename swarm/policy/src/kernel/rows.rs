//! The loops around matrix products: norms, biases, sums.

use crate::slices::{self, vectorized};

/// A buffer of `length` numbers whose content is about to be written; memory
/// that it had is used again.
pub(super) fn fit(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.resize(length, 0.0);
    buffer
}

/// A buffer of `length` zeros.
pub(super) fn zeros(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(length, 0.0);
    buffer
}

/// A copy of `values` in a buffer.
pub(super) fn copy<'a>(buffer: &'a mut Vec<f32>, values: &[f32]) -> &'a mut [f32] {
    buffer.clear();
    buffer.extend_from_slice(values);
    buffer
}

/// Adds `bias` to every row.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// Adds the sum over rows to `out`: a bias's gradient.
pub(super) fn add_column_sums(out: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(out.len()) {
        add(out, row);
    }
}

/// `out += other`, element by element.
pub(super) fn add(out: &mut [f32], other: &[f32]) {
    for (out, other) in out.iter_mut().zip(other) {
        *out += other;
    }
}

/// The sum of products, in a fixed order that vectorizes.
#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (mut lefts, mut rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    for (left, right) in (&mut lefts).zip(&mut rights) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let tail: f32 = lefts
        .remainder()
        .iter()
        .zip(rights.remainder())
        .map(|(left, right)| left * right)
        .sum();
    lanes.iter().sum::<f32>() + tail
}

/// Partial sums of [`dot`].
const LANES: usize = 16;

/// RMS norm (Zhang and Sennrich, 2019): the normed rows into `out`, and
/// `1 / rms` of each into `inverse`.
pub(super) fn rms_norm(
    rows: &[f32],
    weight: &[f32],
    epsilon: f32,
    out: &mut Vec<f32>,
    inverse: &mut Vec<f32>,
) {
    let width = weight.len();
    let out = fit(out, rows.len());
    let inverse = fit(inverse, rows.len() / width);
    vectorized(
        #[inline(always)]
        || {
            for ((row, out), inverse) in rows
                .chunks_exact(width)
                .zip(out.chunks_exact_mut(width))
                .zip(inverse)
            {
                *inverse = slices::rms_norm(row, weight, epsilon, out);
            }
        },
    );
}

/// Backward of [`rms_norm`]: adds to `d_rows` and to `d_weight`.
pub(super) fn rms_norm_backward(
    d_rows: &mut [f32],
    d_weight: &mut [f32],
    d_out: &[f32],
    rows: &[f32],
    inverse: &[f32],
    weight: &[f32],
) {
    let width = weight.len();
    let mut weighted = vec![0.0; width];
    vectorized(
        #[inline(always)]
        || {
            for (((d_row, d_out), row), &scale) in d_rows
                .chunks_exact_mut(width)
                .zip(d_out.chunks_exact(width))
                .zip(rows.chunks_exact(width))
                .zip(inverse)
            {
                for ((d_weight, d_out), value) in d_weight.iter_mut().zip(d_out).zip(row) {
                    *d_weight += d_out * value * scale;
                }
                for ((weighted, d_out), weight) in weighted.iter_mut().zip(d_out).zip(weight) {
                    *weighted = d_out * weight;
                }
                let along = dot(&weighted, row);
                let shared = along * scale * scale * scale / width as f32;
                for ((d_row, weighted), value) in d_row.iter_mut().zip(&weighted).zip(row) {
                    *d_row += weighted * scale - value * shared;
                }
            }
        },
    );
}
