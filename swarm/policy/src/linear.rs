//! Products of rows with weight matrices where they lie: `[out, in]`, as a
//! checkpoint holds them and as training updates them. There is no second
//! layout to make, to keep or to bring up to date.
//!
//! A row of activations and a row of weights both run along `in`, so a product
//! is a table of dot products. It is computed in tiles of sixteen sums, which
//! stay in registers; a block of weight rows stays in the second-level cache
//! while all rows pass over it, and the next block is asked for meanwhile. One
//! row alone reads the weights at about the speed of memory; past a few dozen
//! rows the arithmetic is the limit.
//!
//! A sum's order depends on the length of `in` alone: a row's result is the
//! same bits beside any other rows, for any number of threads and at any
//! [`Level`].

use crate::kernel::{Precision, View, rounded_product};
use crate::lanes::{Half, LANES, LINE, Lanes, Level, Work, dispatch};
use crate::slices::vectorized;
use half::bf16;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// The most of `in` that is summed in registers; `in` is cut into pieces of one
/// length, whose sums are added in their order. With it a tile's rows stay in
/// the first-level cache.
const DEPTH: usize = 896;

/// Weight rows in a block: `DEPTH` of each are 224 kB.
const BLOCK: usize = 64;

/// Multiplications that are worth a thread's waking up.
const GRAIN: usize = 1 << 21;

/// Weights as they are stored. Sums are f32 in any case.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Some of them.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }

    /// Copies them into `out`, which is as long, in f32.
    pub(crate) fn widen(self, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(values),
            Self::Bf16(values) => vectorized(
                #[inline(always)]
                || {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = f32::from_bits(u32::from(value.to_bits()) << 16);
                    }
                },
            ),
        }
    }
}

/// A weight matrix, `[outs, ins]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: Values<'a>,
    outs: usize,
    ins: usize,
    /// Whether rows are rounded to bf16, in which the values are.
    rounds: bool,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// The shape is not that of the values: a bug of the caller.
    pub(crate) fn new(values: Values<'a>, outs: usize, ins: usize) -> Self {
        assert_eq!(values.len(), outs * ins, "a matrix of another shape");
        Self {
            values,
            outs,
            ins,
            rounds: false,
        }
    }

    /// The same, with rows rounded to `precision` in its products if it is kept
    /// in bf16 and this machine gains by it.
    pub(crate) fn at(self, precision: Precision) -> Self {
        let is_half = matches!(self.values, Values::Bf16(_));
        Self {
            rounds: is_half && precision == Precision::Bf16 && Precision::bf16_is_fast(),
            ..self
        }
    }

    /// Its rows.
    pub(crate) fn outs(&self) -> usize {
        self.outs
    }

    /// One of its rows, widened into `out`.
    pub(crate) fn copy_row(&self, row: usize, out: &mut [f32]) {
        let range = row * self.ins..(row + 1) * self.ins;
        self.values.part(range).widen(out);
    }
}

/// Rows of activations, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

/// What a product does with what is in its destination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Onto {
    /// Adds to it.
    Sum,
    /// Overwrites it.
    Place,
}

/// Multiplies `rows` with the transpose of each matrix, into the columns of
/// `out` from the number beside it; the rows of `out` are `stride` apart.
/// Large products are shared among at most `threads` threads of the pool.
///
/// # Panics
/// Shapes do not fit: a bug of the caller, never of data.
pub(crate) fn multiply(
    out: &mut [f32],
    stride: usize,
    onto: Onto,
    rows: Rows<'_>,
    matrices: &[(Matrix<'_>, usize)],
    threads: usize,
) {
    multiply_at(Level::best(), out, stride, onto, rows, matrices, threads);
}

fn multiply_at(
    level: Level,
    out: &mut [f32],
    stride: usize,
    onto: Onto,
    rows: Rows<'_>,
    matrices: &[(Matrix<'_>, usize)],
    threads: usize,
) {
    if rows.count == 0 {
        return;
    }
    for (matrix, column) in matrices {
        assert!(
            (rows.count - 1) * rows.stride + matrix.ins <= rows.values.len(),
            "too few activations"
        );
        assert!(
            column + matrix.outs <= stride && rows.count * stride <= out.len(),
            "the product does not fit"
        );
    }
    let target = Target {
        start: out.as_mut_ptr(),
        stride,
        onto,
    };
    let part = |&(matrix, column): &(Matrix<'_>, usize), outs: Range<usize>| {
        let (ins, piece) = (matrix.ins, piece(matrix.ins));
        if matrix.rounds {
            let weights = matrix.values.part(outs.start * ins..outs.end * ins);
            let left = View::strided(rows.values, rows.count, ins, rows.stride);
            let right = View::weights(weights, outs.len(), ins).t();
            let start = target.start.wrapping_add(column + outs.start);
            // SAFETY: `at` asked for the instructions; it fits, as asserted, and
            // these outs are nobody else's.
            return unsafe { rounded_product(start, stride, left, right, onto == Onto::Sum) };
        }
        match matrix.values {
            Values::F32(weights) => dispatch(
                level,
                Product {
                    target,
                    column,
                    rows,
                    weights,
                    ins,
                    piece,
                    outs,
                },
            ),
            Values::Bf16(weights) => dispatch(
                level,
                Product {
                    target,
                    column,
                    rows,
                    weights,
                    ins,
                    piece,
                    outs,
                },
            ),
        }
    };
    let weights: usize = matrices
        .iter()
        .map(|(matrix, _)| matrix.outs * matrix.ins)
        .sum();
    // A lone row waits for memory: it costs as much as eight.
    let threads = worthwhile(threads, weights * rows.count.max(8));
    if threads <= 1 {
        for matrix in matrices {
            part(matrix, 0..matrix.0.outs);
        }
        return;
    }
    // Several shares each, so that a thread that is held up holds up nobody; one
    // if each of them rounds all rows again.
    let shares = match matrices.iter().any(|(matrix, _)| matrix.rounds) {
        true => threads,
        false => 4 * threads,
    };
    let outs: usize = matrices.iter().map(|(matrix, _)| matrix.outs).sum();
    let share = outs.div_ceil(shares).next_multiple_of(2 * LANES);
    let shares: Vec<_> = matrices
        .iter()
        .flat_map(|matrix| {
            let outs = matrix.0.outs;
            (0..outs)
                .step_by(share)
                .map(move |first| (matrix, first..outs.min(first + share)))
        })
        .collect();
    shares
        .into_par_iter()
        .for_each(|(matrix, outs)| part(matrix, outs));
}

/// The length of the pieces that `ins` is cut into.
fn piece(ins: usize) -> usize {
    let pieces = ins.div_ceil(DEPTH).max(1);
    ins.div_ceil(pieces).next_multiple_of(LANES).max(LANES)
}

/// How many of `threads` some multiplications are worth.
pub(crate) fn worthwhile(threads: usize, multiplications: usize) -> usize {
    threads.min(multiplications / GRAIN)
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    start: *mut f32,
    stride: usize,
    onto: Onto,
}

// SAFETY: it stands for the unique borrow of `out` in `multiply_at`, inside
// which alone it lives; threads write disjoint columns of it.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// The place is inside the borrow and nobody else's.
    #[inline(always)]
    unsafe fn put(&self, row: usize, column: usize, values: &[f32], onto: Onto) {
        let start = self.start.wrapping_add(row * self.stride + column);
        // SAFETY: says the caller.
        let out = unsafe { std::slice::from_raw_parts_mut(start, values.len()) };
        match onto {
            Onto::Sum => {
                for (out, value) in out.iter_mut().zip(values) {
                    *out += value;
                }
            }
            Onto::Place => out.copy_from_slice(values),
        }
    }
}

/// A stored weight.
trait Weight: Copy {
    const ZERO: Self;
    fn lanes<L: Lanes>(values: &[Self; LANES]) -> L;
    fn values(weights: &[Self]) -> Values<'_>;
}

impl Weight for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn lanes<L: Lanes>(values: &[Self; LANES]) -> L {
        L::load(values)
    }
    fn values(weights: &[Self]) -> Values<'_> {
        Values::F32(weights)
    }
}

impl Weight for bf16 {
    const ZERO: Self = bf16::ZERO;
    #[inline(always)]
    fn lanes<L: Lanes>(values: &[Self; LANES]) -> L {
        L::widen(values)
    }
    fn values(weights: &[Self]) -> Values<'_> {
        Values::Bf16(weights)
    }
}

/// Some outs of one matrix.
struct Product<'a, W> {
    target: Target,
    column: usize,
    rows: Rows<'a>,
    weights: &'a [W],
    ins: usize,
    /// What is summed in registers.
    piece: usize,
    outs: Range<usize>,
}

/// Weights of fewer bytes are in the second-level cache already.
const NEAR: usize = 1 << 18;

/// How a tile asks for weights ahead of their use: not at all,
const NEVER: u8 = 0;
/// at every step, which is cheaper than to count lines,
const ALWAYS: u8 = 1;
/// or at some, because others pass over the same weights.
const BY_TURNS: u8 = 2;

/// Rows from which on it pays, where registers are few, to widen a block of
/// weights before all rows pass over it.
const WIDENED: usize = 16;

thread_local! {
    /// A piece of a block of weights, in f32: kept, as it is wanted again soon.
    static WIDE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Which weights a tile asks for.
#[derive(Clone, Copy)]
struct Ask {
    /// How many weights behind those of a step.
    ahead: usize,
    /// By turns: where these bits of the step's number
    mask: usize,
    /// are these.
    turn: usize,
}

impl Ask {
    fn always(ahead: usize) -> Self {
        Self {
            ahead,
            mask: 0,
            turn: 0,
        }
    }

    /// The share of one of several tiles: each line of weights is asked for once,
    /// and never many at a time. Not every tile may have one.
    fn turn<W>(ahead: usize, tile: usize, tiles: usize) -> Option<Self> {
        let steps = LINE / (LANES * size_of::<W>());
        let turns = 1 << tiles.ilog2().min(3);
        (tile < turns).then_some(Self {
            ahead,
            mask: turns * steps - 1,
            turn: tile * steps,
        })
    }
}

impl<W: Weight> Work for Product<'_, W> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let near = size_of_val(self.weights) < NEAR;
        match (self.rows.count, L::ROOMY, near) {
            (1, true, true) => self.few::<L, 1, 16, false>(),
            (1, true, false) => self.few::<L, 1, 16, true>(),
            (2, true, true) => self.few::<L, 2, 8, false>(),
            (2, true, false) => self.few::<L, 2, 8, true>(),
            (3 | 4, true, true) => self.few::<L, 4, 4, false>(),
            (3 | 4, true, false) => self.few::<L, 4, 4, true>(),
            (_, true, true) => self.many::<L, 8, 2, 4, 4, false>(),
            (_, true, false) => self.many::<L, 8, 2, 4, 4, true>(),
            (1, false, _) => self.few::<L, 1, 4, true>(),
            (2, false, _) => self.few::<L, 2, 2, true>(),
            (3..WIDENED, false, _) => self.many::<L, 2, 2, 2, 2, true>(),
            (_, false, _) => self.widened::<L, 4, 3>(),
        }
    }
}

impl<W: Weight> Product<'_, W> {
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<W> {
        let (ins, piece) = (self.ins, self.piece);
        (0..ins)
            .step_by(piece)
            .map(move |first| first..ins.min(first + piece))
    }

    /// All rows in one tile: weights pass by once.
    #[inline(always)]
    fn few<L: Lanes, const M: usize, const N: usize, const PREFETCH: bool>(&self) {
        // The tile after this one.
        let ask = Ask::always(N * self.ins);
        let end = self.outs.end;
        for out in self.outs.clone().step_by(N) {
            for piece in self.pieces() {
                let left = self.left::<M>(0, &piece);
                match PREFETCH {
                    true => self.tile::<L, M, N, ALWAYS>(left, 0, out..end, &piece, ask),
                    false => self.tile::<L, M, N, NEVER>(left, 0, out..end, &piece, ask),
                }
            }
        }
    }

    /// Each piece of a block of weights is used by all rows while it is near:
    /// `M` rows at a time, and `REST` if no more are left.
    #[inline(always)]
    fn many<
        L: Lanes,
        const M: usize,
        const N: usize,
        const REST: usize,
        const WIDE: usize,
        const PREFETCH: bool,
    >(
        &self,
    ) {
        let count = self.rows.count;
        let full = match count % M {
            rest if rest <= REST && count > M => count - rest,
            _ => count,
        };
        for first in self.outs.clone().step_by(BLOCK) {
            let outs = first..self.outs.end.min(first + BLOCK);
            for piece in self.pieces() {
                self.sweep::<L, M, N, PREFETCH>(0..full, outs.clone(), &piece);
                self.sweep::<L, REST, WIDE, false>(full..count, outs.clone(), &piece);
            }
        }
    }

    /// As [`Product::many`] with few registers: a block is widened once for all
    /// rows, and a tile of `M` by `N` sums the lower halves of all lanes before it
    /// sums the upper ones, so that it has twice as many sums in registers.
    #[inline(always)]
    fn widened<L: Lanes, const M: usize, const N: usize>(&self) {
        let mut wide = WIDE.take();
        wide.resize(BLOCK * self.piece, 0.0);
        for first in self.outs.clone().step_by(BLOCK) {
            let outs = first..self.outs.end.min(first + BLOCK);
            for piece in self.pieces() {
                let length = piece.len();
                for (out, wide) in outs.clone().zip(wide.chunks_exact_mut(length)) {
                    let start = out * self.ins;
                    W::values(&self.weights[start + piece.start..start + piece.end]).widen(wide);
                }
                for row in (0..self.rows.count).step_by(M) {
                    let left = self.left::<M>(row, &piece);
                    for out in outs.clone().step_by(N) {
                        let mut right: [&[f32]; N] = [&[]; N];
                        for (index, right) in right.iter_mut().enumerate() {
                            let start = ((out + index).min(outs.end - 1) - first) * length;
                            *right = &wide[start..start + length];
                        }
                        let sums = dots_by_halves::<L, M, N>(left, right);
                        self.put(&sums, row, out..outs.end, &piece);
                    }
                }
            }
        }
        WIDE.set(wide);
    }

    /// Some rows with one piece of a block of weights.
    #[inline(always)]
    fn sweep<L: Lanes, const M: usize, const N: usize, const PREFETCH: bool>(
        &self,
        rows: Range<usize>,
        outs: Range<usize>,
        piece: &Range<usize>,
    ) {
        // The piece after this one, or the first of the next block.
        let ahead = match piece.end < self.ins {
            true => piece.len(),
            false => BLOCK * self.ins - piece.start,
        };
        let tiles = rows.len().div_ceil(M);
        for (index, row) in rows.step_by(M).enumerate() {
            let left = self.left::<M>(row, piece);
            let turn = Ask::turn::<W>(ahead, index, tiles);
            for out in outs.clone().step_by(N) {
                let outs = out..outs.end;
                match (PREFETCH, turn) {
                    (true, _) if tiles == 1 => {
                        self.tile::<L, M, N, ALWAYS>(left, row, outs, piece, Ask::always(ahead));
                    }
                    (true, Some(ask)) => {
                        self.tile::<L, M, N, BY_TURNS>(left, row, outs, piece, ask);
                    }
                    _ => self.tile::<L, M, N, NEVER>(left, row, outs, piece, Ask::always(0)),
                }
            }
        }
    }

    /// A piece of `M` rows from `row` on. The last row again stands for what
    /// is past it, and is computed and dropped.
    #[inline(always)]
    fn left<const M: usize>(&self, row: usize, piece: &Range<usize>) -> [&[f32]; M] {
        let Rows {
            values,
            stride,
            count,
        } = self.rows;
        let mut left: [&[f32]; M] = [&[]; M];
        for (index, left) in left.iter_mut().enumerate() {
            let start = (row + index).min(count - 1) * stride;
            *left = &values[start + piece.start..start + piece.end];
        }
        left
    }

    /// `M` rows with the first `N` of `outs`, over one piece of `ins`. The last
    /// again stands for what is past it.
    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const N: usize, const ASKS: u8>(
        &self,
        left: [&[f32]; M],
        row: usize,
        outs: Range<usize>,
        piece: &Range<usize>,
        ask: Ask,
    ) {
        let mut right: [&[W]; N] = [&[]; N];
        for (index, right) in right.iter_mut().enumerate() {
            let start = (outs.start + index).min(outs.end - 1) * self.ins;
            *right = &self.weights[start + piece.start..start + piece.end];
        }
        let sums = dots::<L, W, M, N, ASKS>(left, right, ask);
        self.put(&sums, row, outs, piece);
    }

    /// Writes what a tile came to, all but what stands for rows or outs that
    /// are not there.
    #[inline(always)]
    fn put<const M: usize, const N: usize>(
        &self,
        sums: &[[f32; N]; M],
        row: usize,
        outs: Range<usize>,
        piece: &Range<usize>,
    ) {
        let onto = match piece.start {
            0 => self.target.onto,
            _ => Onto::Sum,
        };
        let column = self.column + outs.start;
        for index in 0..M.min(self.rows.count - row) {
            let sums = &sums[index];
            // SAFETY: `multiply_at` has checked that all rows and the columns
            // of all outs are inside; these outs are this product's alone.
            unsafe {
                match outs.len() < N {
                    false => self.target.put(row + index, column, &sums[..N], onto),
                    true => self
                        .target
                        .put(row + index, column, &sums[..outs.len()], onto),
                }
            }
        }
    }
}

/// The dot products of each on the left with each on the right, all of one
/// length.
// Sums stay in registers only if every index of theirs is known and nothing is
// called: plain loops, for `map` of an array may be a call.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn dots<L: Lanes, W: Weight, const M: usize, const N: usize, const ASKS: u8>(
    left: [&[f32]; M],
    right: [&[W]; N],
    ask: Ask,
) -> [[f32; N]; M] {
    let length = left[0].len();
    let steps = length / LANES;
    let mut left_steps: [&[[f32; LANES]]; M] = [&[]; M];
    for m in 0..M {
        left_steps[m] = &left[m].as_chunks().0[..steps];
    }
    let mut right_steps: [&[[W; LANES]]; N] = [&[]; N];
    for n in 0..N {
        right_steps[n] = &right[n].as_chunks().0[..steps];
    }
    let mut sums = [[L::zero(); N]; M];
    let mut vectors = [L::zero(); M];
    for step in 0..steps {
        for m in 0..M {
            vectors[m] = L::load(&left_steps[m][step]);
        }
        let asks = match ASKS {
            BY_TURNS => step & ask.mask == ask.turn,
            asks => asks == ALWAYS,
        };
        for n in 0..N {
            let weights = &right_steps[n][step];
            if asks {
                L::prefetch(weights.as_ptr().wrapping_add(ask.ahead).cast());
            }
            let weights = W::lanes::<L>(weights);
            for m in 0..M {
                sums[m][n] = sums[m][n].multiply_add(vectors[m], weights);
            }
        }
    }
    if !length.is_multiple_of(LANES) {
        for m in 0..M {
            vectors[m] = L::load(&padded(&left[m][steps * LANES..], 0.0));
        }
        for n in 0..N {
            let weights = padded(&right[n][steps * LANES..], W::ZERO);
            let weights = W::lanes::<L>(&weights);
            for m in 0..M {
                sums[m][n] = sums[m][n].multiply_add(vectors[m], weights);
            }
        }
    }
    let mut out = [[0.0; N]; M];
    if M * N == 16 {
        let mut all = [L::zero(); 16];
        for m in 0..M {
            for n in 0..N {
                all[m * N + n] = sums[m][n];
            }
        }
        let all = L::sums(&all);
        for m in 0..M {
            out[m].copy_from_slice(&all[m * N..(m + 1) * N]);
        }
    } else {
        for m in 0..M {
            for n in 0..N {
                out[m][n] = sums[m][n].sum();
            }
        }
    }
    out
}

/// [`dots`] of f32, to the same bits: one half of the lanes after the other.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn dots_by_halves<L: Lanes, const M: usize, const N: usize>(
    left: [&[f32]; M],
    right: [&[f32]; N],
) -> [[f32; N]; M] {
    const HALF: usize = LANES / 2;
    let length = left[0].len();
    let steps = length / LANES;
    let mut halves = [[[L::Half::zero(); N]; M]; 2];
    for (half, sums) in halves.iter_mut().enumerate() {
        let mut left_steps: [&[[[f32; HALF]; 2]]; M] = [&[]; M];
        for m in 0..M {
            left_steps[m] = &left[m].as_chunks().0.as_chunks().0[..steps];
        }
        let mut right_steps: [&[[[f32; HALF]; 2]]; N] = [&[]; N];
        for n in 0..N {
            right_steps[n] = &right[n].as_chunks().0.as_chunks().0[..steps];
        }
        let mut now = [[L::Half::zero(); N]; M];
        for step in 0..steps {
            let mut weights = [L::Half::zero(); N];
            for n in 0..N {
                weights[n] = L::Half::load(&right_steps[n][step][half]);
            }
            for m in 0..M {
                let vector = L::Half::load(&left_steps[m][step][half]);
                for n in 0..N {
                    now[m][n] = now[m][n].multiply_add(vector, weights[n]);
                }
            }
        }
        if !length.is_multiple_of(LANES) {
            for m in 0..M {
                let rest = padded(&left[m][steps * LANES..], 0.0);
                let vector = L::Half::load(&rest.as_chunks().0[half]);
                for n in 0..N {
                    let rest = padded(&right[n][steps * LANES..], 0.0);
                    let weights = L::Half::load(&rest.as_chunks().0[half]);
                    now[m][n] = now[m][n].multiply_add(vector, weights);
                }
            }
        }
        *sums = now;
    }
    let mut out = [[0.0; N]; M];
    for m in 0..M {
        for n in 0..N {
            out[m][n] = L::join(halves[0][m][n], halves[1][m][n]).sum();
        }
    }
    out
}

#[inline(always)]
fn padded<T: Copy>(values: &[T], zero: T) -> [T; LANES] {
    let mut padded = [zero; LANES];
    padded[..values.len()].copy_from_slice(values);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normals;

    /// Sizes with every kind of rest: rows, outs, pieces, lanes.
    const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 16), (17, 40), (64, 96), (70, 1030), (150, 2)];

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_product_is_its_dot_products() {
        for (outs, ins) in SHAPES {
            let weights = normals(1, 2, outs * ins);
            let matrix = Matrix::new(Values::F32(&weights), outs, ins);
            for count in [1, 2, 3, 4, 5, 9, 33] {
                let stride = ins + 3;
                let values = normals(3, 4, count * stride);
                let rows = Rows {
                    values: &values,
                    stride,
                    count,
                };
                let mut out = vec![1.0; count * (outs + 2)];
                multiply(&mut out, outs + 2, Onto::Sum, rows, &[(matrix, 1)], 1);
                for row in 0..count {
                    let got = &out[row * (outs + 2)..][..outs + 2];
                    assert_eq!((got[0], got[outs + 1]), (1.0, 1.0), "columns beside it");
                    for (out, got) in got[1..=outs].iter().enumerate() {
                        let truth: f64 = 1.0
                            + (0..ins)
                                .map(|at| {
                                    f64::from(values[row * stride + at])
                                        * f64::from(weights[out * ins + at])
                                })
                                .sum::<f64>();
                        let apart = (f64::from(*got) - truth).abs();
                        assert!(apart < 1e-6 * (ins as f64 + 8.0), "{got} is not {truth}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_depend_on_neither_level_nor_threads_nor_neighbours() {
        for (outs, ins) in SHAPES {
            let weights = normals(5, 6, outs * ins);
            let halves: Vec<bf16> = weights.iter().map(|&value| bf16::from_f32(value)).collect();
            let widened: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
            let count = 7;
            let values = normals(7, 8, count * ins);
            let product = |level, values: &[f32], weights, threads| {
                let count = values.len() / ins;
                let rows = Rows {
                    values,
                    stride: ins,
                    count,
                };
                let matrix = Matrix::new(weights, outs, ins);
                let mut out = vec![f32::NAN; count * outs];
                let matrices = [(matrix, 0)];
                multiply_at(level, &mut out, outs, Onto::Place, rows, &matrices, threads);
                bits(&out)
            };
            let whole = product(Level::Plain, &values, Values::F32(&widened), 1);
            for level in Level::all() {
                for weights in [Values::F32(&widened), Values::Bf16(&halves)] {
                    assert_eq!(whole, product(level, &values, weights, 1), "{level:?}");
                    for rows in 1..count {
                        let some = product(level, &values[..rows * ins], weights, 1);
                        assert_eq!(whole[..rows * outs], some, "{level:?}, {rows} rows");
                    }
                }
            }
        }
        // Large enough to be shared among threads.
        let (outs, ins) = (1030, 512);
        let weights = normals(9, 10, outs * ins);
        let values = normals(11, 12, 9 * ins);
        let rows = Rows {
            values: &values,
            stride: ins,
            count: 9,
        };
        let matrix = Matrix::new(Values::F32(&weights), outs, ins);
        let product = |threads| {
            let mut out = vec![0.0; 9 * outs];
            multiply(&mut out, outs, Onto::Place, rows, &[(matrix, 0)], threads);
            bits(&out)
        };
        assert_eq!(product(1), product(2));
        assert_eq!(product(1), product(3));
    }

    #[test]
    fn a_rounded_product_is_that_of_rounded_rows_and_the_same_bits_anywhere() {
        if !Precision::bf16_is_fast() {
            eprintln!("skipped: this machine has no AVX512-BF16");
            return;
        }
        let (outs, ins) = (1030, 520);
        let half = |value: &f32| bf16::from_f32(*value);
        let weights: Vec<bf16> = normals(9, 10, outs * ins).iter().map(half).collect();
        let values = normals(11, 12, 40 * ins);
        let product = |rows: Range<usize>, threads| {
            let count = rows.len();
            let rows = Rows {
                values: &values[rows.start * ins..rows.end * ins],
                stride: ins,
                count,
            };
            let matrix = Matrix::new(Values::Bf16(&weights), outs, ins).at(Precision::Bf16);
            let mut out = vec![1.0; count * outs];
            multiply(&mut out, outs, Onto::Sum, rows, &[(matrix, 0)], threads);
            out
        };
        let whole = product(0..40, 1);
        for (at, found) in whole.iter().enumerate() {
            let (row, out) = (at / outs, at % outs);
            let truth: f64 = 1.0
                + (0..ins)
                    .map(|term| {
                        half(&values[row * ins + term]).to_f64()
                            * weights[out * ins + term].to_f64()
                    })
                    .sum::<f64>();
            assert!(
                (f64::from(*found) - truth).abs() < 1e-3,
                "{found} is not {truth}"
            );
        }
        let whole = bits(&whole);
        assert_eq!(whole, bits(&product(0..40, 3)));
        for rows in [0..1, 3..7, 13..40] {
            let part = bits(&product(rows.clone(), 2));
            assert_eq!(whole[rows.start * outs..rows.end * outs], part);
        }
    }
}
