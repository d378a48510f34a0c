//! Matrix products over slices, and the few elementwise loops around them.

use crate::slices::{self, vectorized};
use gemm::Parallelism;

/// A read-only matrix inside a slice: `rows x columns`, any strides.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A dense row-major matrix.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// `width` columns of a row-major matrix whose rows are `stride` apart;
    /// `data` begins at the first of them.
    pub(super) fn strided(data: &'a [f32], rows: usize, width: usize, stride: usize) -> Self {
        Self {
            data,
            rows,
            columns: width,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// The transpose, without a copy.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One past the last element touched.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// `out = keep * out + scale * left * right`, where the rows of `out` are
/// `out_stride` apart. Nothing is read from `out` when `keep` is zero.
///
/// # Panics
/// Shapes do not fit: a bug of the caller, never of data.
pub(super) fn product_into(
    out: &mut [f32],
    out_stride: usize,
    left: View<'_>,
    right: View<'_>,
    keep: f32,
    scale: f32,
) {
    assert_eq!(left.columns, right.rows, "inner sizes differ");
    let (rows, columns) = (left.rows, right.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(left.extent() <= left.data.len(), "left is too short");
    assert!(right.extent() <= right.data.len(), "right is too short");
    assert!(
        (rows - 1) * out_stride + columns <= out.len(),
        "out is too short"
    );
    // SAFETY: the assertions above keep every index that the strides can reach
    // inside its slice, and `out` is borrowed mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            keep != 0.0,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            keep,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `left * right` as a new dense matrix.
pub(super) fn product(left: View<'_>, right: View<'_>) -> Vec<f32> {
    let mut out = vec![0.0; left.rows * right.columns];
    product_into(&mut out, right.columns, left, right, 0.0, 1.0);
    out
}

/// `out += left * right`, dense.
pub(super) fn accumulate(out: &mut [f32], left: View<'_>, right: View<'_>) {
    product_into(out, right.columns, left, right, 1.0, 1.0);
}

/// Adds `bias` to every row.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Adds the sum over rows to `out`: a bias's gradient.
pub(super) fn add_column_sums(out: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(out.len()) {
        for (sum, value) in out.iter_mut().zip(row) {
            *sum += value;
        }
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

/// RMS norm (Zhang and Sennrich, 2019): the normed rows, and `1 / rms` of each.
pub(super) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let mut out = vec![0.0; rows.len()];
    let mut inverse = vec![0.0; rows.len() / width];
    vectorized(
        #[inline(always)]
        || {
            for ((row, out), inverse) in rows
                .chunks_exact(width)
                .zip(out.chunks_exact_mut(width))
                .zip(&mut inverse)
            {
                *inverse = slices::rms_norm(row, weight, epsilon, out);
            }
        },
    );
    (out, inverse)
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
