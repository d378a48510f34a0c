//! Matrix products over slices: in f32, or with factors rounded to bf16 where
//! the machine multiplies those faster.

#[cfg(target_arch = "x86_64")]
use super::bf16;
use gemm::Parallelism;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

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
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
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

    /// Columns from `start` on.
    pub(super) fn columns(self, start: usize, columns: usize) -> Self {
        Self {
            data: &self.data[(start * self.column_stride).min(self.data.len())..],
            columns,
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

/// [`product_into`] of shapes that fit, by halves.
fn shared(maths: Maths, mut out: Out<'_>, left: View<'_>, right: View<'_>, keep: bool, scale: f32) {
    let columns = right.columns;
    let half = (columns / 2).next_multiple_of(32);
    if 2 * left.rows * left.columns * columns >= 2 * GRAIN && half >= LEAST_COLUMNS {
        let (first, second) = out.split(half);
        let beside = right.columns(half, columns - half);
        rayon::join(
            || shared(maths, first, left, right.columns(0, half), keep, scale),
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
    // SAFETY: `product_into` asserted that every index that the strides can
    // reach is inside its slice, and `out` is a unique borrow.
    unsafe {
        gemm::gemm(
            left.rows,
            columns,
            left.columns,
            out.start,
            1,
            out.stride as isize,
            keep,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
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
