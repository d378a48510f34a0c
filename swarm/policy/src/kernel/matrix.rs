//! Matrix products over slices: in f32, or with factors rounded to bf16 where
//! the machine multiplies those faster.
//!
//! The right factor may be stored in bf16, as frozen and published weights are.
//! That is not a rounding: products in f32 widen a part of it at a time, and
//! give the same bits as if it were stored in f32.

#[cfg(target_arch = "x86_64")]
use super::bf16;
use crate::linear::Values;
use crate::settings::LARGE;
use gemm::Parallelism;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// What factors of matrix products are rounded to; sums are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To bf16 where the machine has AVX512-BF16, else not at all.
    Bf16,
}

impl Precision {
    /// What is taken in a model of so many weights when nothing is said.
    pub(crate) fn usual(parameters: u64) -> Self {
        match parameters >= LARGE {
            true => Self::Bf16,
            false => Self::F32,
        }
    }

    /// Whether this machine multiplies bf16 faster than f32.
    pub fn bf16_is_fast() -> bool {
        #[cfg(target_arch = "x86_64")]
        return bf16::is_available();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// How products are computed on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maths {
    rounds: bool,
}

impl Maths {
    pub(super) const EXACT: Self = Self { rounds: false };

    pub(super) fn new(precision: Precision) -> Self {
        Self {
            rounds: precision == Precision::Bf16 && Precision::bf16_is_fast(),
        }
    }
}

/// Operations below which a product is not worth sharing among threads.
const GRAIN: usize = 1 << 26;
/// Columns below which each thread would spend its time packing the left side.
const LEAST_COLUMNS: usize = 256;

/// A read-only matrix inside a slice: `rows x columns`; one of the strides is one.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) data: Values<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> View<'a> {
    /// A dense row-major matrix.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A dense row-major matrix of weights.
    pub(crate) fn weights(data: Values<'a>, rows: usize, columns: usize) -> Self {
        Self {
            data,
            ..Self::new(&[], rows, columns)
        }
    }

    /// `width` columns of a row-major matrix whose rows are `stride` apart;
    /// `data` begins at the first of them.
    pub(crate) fn strided(data: &'a [f32], rows: usize, width: usize, stride: usize) -> Self {
        Self {
            data: Values::F32(data),
            rows,
            columns: width,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// The transpose, without a copy.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some rows and columns of it.
    pub(super) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let start = rows.start * self.row_stride + columns.start * self.column_stride;
        let end = self.data.len();
        Self {
            data: self.data.part(start.min(end)..end),
            rows: rows.len(),
            columns: columns.len(),
            ..self
        }
    }

    /// One past the last element touched.
    pub(super) fn extent(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// A matrix to write: rows of adjacent numbers, `stride` apart.
pub(super) struct Out<'a> {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
    columns: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a unique borrow of the columns it covers, and those of
// two halves of a split are disjoint.
unsafe impl Send for Out<'_> {}

impl Out<'_> {
    /// Two matrices side by side.
    fn split(self, columns: usize) -> (Self, Self) {
        let right = Self {
            start: self.start.wrapping_add(columns),
            columns: self.columns - columns,
            ..self
        };
        (Self { columns, ..self }, right)
    }
}

/// Numbers of a right factor that are multiplied at a time: what is widened of
/// one in bf16, 4 MB, and of one in f32 as many, so that the sums are the same.
const PART: usize = 1 << 20;
/// Of those, along the summed dimension.
const PART_DEPTH: usize = 4096;

thread_local! {
    /// A part of a matrix, widened; kept, so that no product allocates.
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out = out + scale * left * right`, or without the first term if not `keep`;
/// the rows of `out` are `stride` apart.
///
/// A large product is shared among the threads of the pool; an element's sum
/// is the same for any number of them.
///
/// # Panics
/// Shapes do not fit: a bug of the caller, never of data.
pub(super) fn product_into(
    maths: Maths,
    out: &mut [f32],
    stride: usize,
    left: View<'_>,
    right: View<'_>,
    keep: bool,
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
        columns <= stride && (rows - 1) * stride + columns <= out.len(),
        "out is too short"
    );
    let out = Out {
        start: out.as_mut_ptr(),
        stride,
        columns,
        borrowed: PhantomData,
    };
    shared(maths, out, left, right, keep, scale);
}

/// Rows, rounded to bf16, times weights that are in it, as [`product_into`] but
/// on one thread and into a place that others write beside.
///
/// # Safety
/// [`Precision::bf16_is_fast`], and what is written is nobody else's: as many
/// numbers from `start` on as `weights` has columns, and so in each row of the
/// left, `stride` further on.
pub(crate) unsafe fn rounded_product(
    start: *mut f32,
    stride: usize,
    left: View<'_>,
    weights: View<'_>,
    keep: bool,
) {
    assert_eq!(left.columns, weights.rows, "inner sizes differ");
    assert!(left.extent() <= left.data.len(), "left is too short");
    assert!(weights.extent() <= weights.data.len(), "right is too short");
    #[cfg(target_arch = "x86_64")]
    {
        let mut out = Out {
            start,
            stride,
            columns: weights.columns,
            borrowed: PhantomData,
        };
        // SAFETY: says the caller, and the rest was asserted.
        unsafe { bf16::product(&mut out, left, weights, keep, 1.0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no other machine is fast");
}

/// [`product_into`] of shapes that fit, by halves.
fn shared(maths: Maths, mut out: Out<'_>, left: View<'_>, right: View<'_>, keep: bool, scale: f32) {
    let columns = right.columns;
    let half = (columns / 2).next_multiple_of(32);
    if 2 * left.rows * left.columns * columns >= 2 * GRAIN && half >= LEAST_COLUMNS {
        let (first, second) = out.split(half);
        let beside = right.part(0..right.rows, half..columns);
        rayon::join(
            || {
                let right = right.part(0..right.rows, 0..half);
                shared(maths, first, left, right, keep, scale);
            },
            || shared(maths, second, left, beside, keep, scale),
        );
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if maths.rounds {
        // SAFETY: `Maths::new` asked for the instructions, and `product_into`
        // asserted that everything fits.
        unsafe { bf16::product(&mut out, left, right, keep, scale) };
        return;
    }
    exact(&out, left, right, keep, scale);
}

/// A product in f32, part by part of the right factor.
fn exact(out: &Out<'_>, left: View<'_>, right: View<'_>, keep: bool, scale: f32) {
    let (depth, columns) = (right.rows, right.columns);
    let height = depth.div_ceil(depth.div_ceil(PART_DEPTH).max(1)).max(1);
    let width = (PART / height / 32 * 32).max(32);
    for first in (0..columns).step_by(width) {
        let some = first..columns.min(first + width);
        // A sum of nothing is still to be placed.
        for term in (0..depth.max(1)).step_by(height) {
            let terms = term..depth.min(term + height);
            let left = left.part(0..left.rows, terms.clone());
            let right = right.part(terms, some.clone());
            let to = out.start.wrapping_add(first);
            widened(right, |right| {
                gemm_into(to, out.stride, left, right, keep || term > 0, scale);
            });
        }
    }
}

/// Calls `work` with `matrix` in f32.
fn widened(matrix: View<'_>, work: impl FnOnce(View<'_>)) {
    let Values::Bf16(_) = matrix.data else {
        return work(matrix);
    };
    // Lines whose numbers are neighbours.
    let by_column = matrix.row_stride == 1 && matrix.column_stride != 1;
    let (lines, length, stride) = match by_column {
        true => (matrix.columns, matrix.rows, matrix.column_stride),
        false => (matrix.rows, matrix.columns, matrix.row_stride),
    };
    WIDENED.with_borrow_mut(|wide| {
        wide.resize(wide.len().max(lines * length), 0.0);
        for (line, wide) in wide.chunks_exact_mut(length.max(1)).take(lines).enumerate() {
            let start = line * stride;
            matrix.data.part(start..start + length).widen(wide);
        }
        let wide = View::new(&wide[..lines * length], lines, length);
        work(if by_column { wide.t() } else { wide });
    });
}

/// One call of the library, of factors in f32.
fn gemm_into(
    out: *mut f32,
    stride: usize,
    left: View<'_>,
    right: View<'_>,
    keep: bool,
    scale: f32,
) {
    let (Values::F32(left_data), Values::F32(right_data)) = (left.data, right.data) else {
        unreachable!("the left is activations, the right was widened");
    };
    // SAFETY: `product_into` asserted that every index that the strides can
    // reach is inside its slice, and `out` is part of a unique borrow.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out,
            1,
            stride as isize,
            keep,
            left_data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right_data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            f32::from(u8::from(keep)),
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
