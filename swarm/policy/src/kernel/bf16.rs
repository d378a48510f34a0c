//! Matrix products of f32 whose factors are rounded to bf16 on the way and
//! whose sums are f32, by the AVX512-BF16 instructions: twice as fast as f32,
//! with no second copy of the weights. A factor that is stored in bf16 is packed
//! as it is.
//!
//! One block of the left matrix is packed at a time, small enough for the
//! second-level cache, and one panel of the right one, small enough for the
//! first. Both lie as pairs of neighbours along the summed dimension, which is
//! what the instruction multiplies. How rows and columns are cut does not enter
//! an element's sum: it is the same bits wherever its tile begins.

use super::matrix::{Out, View};
use crate::lanes::{Level, from_a_line};
use crate::linear::Values;
use half::bf16;
use std::arch::x86_64::*;
use std::cell::RefCell;

/// Rows and columns of a tile, whose sums are 24 of the 32 vector registers.
const TILE_ROWS: usize = 12;
const TILE_COLUMNS: usize = 2 * LANES;
/// Numbers in a vector.
const LANES: usize = 16;
/// Terms that are summed in registers before memory is touched.
const DEPTH: usize = 512;
/// The most rows of a packed block, a multiple of [`TILE_ROWS`]: half a megabyte.
const BLOCK_ROWS: usize = 43 * TILE_ROWS;

/// Whether this machine has the instructions.
pub(super) fn is_available() -> bool {
    Level::best() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

thread_local! {
    /// A packed block and a packed panel; kept, so that no product allocates.
    static PACKED: RefCell<(Vec<u32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `out = out + scale * left * right`, or without the first term if not `keep`.
///
/// # Safety
/// [`is_available`] has said yes; `out` is as large as the product, and the
/// inner sizes agree.
pub(super) unsafe fn product(
    out: &mut Out<'_>,
    left: View<'_>,
    right: View<'_>,
    keep: bool,
    scale: f32,
) {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    // Blocks of one height: a low one would pack every panel for little.
    let blocks = rows.div_ceil(BLOCK_ROWS).max(1);
    let height = rows.div_ceil(blocks).next_multiple_of(TILE_ROWS);
    PACKED.with_borrow_mut(|(block, panel)| {
        let (block, panel) = (
            lined(block, BLOCK_ROWS * DEPTH / 2),
            lined(panel, TILE_COLUMNS * DEPTH / 2),
        );
        for first_row in (0..rows).step_by(height) {
            let block_rows = height.min(rows - first_row);
            let tiles = || (0..block_rows).step_by(TILE_ROWS).enumerate();
            for first_term in (0..depth).step_by(DEPTH) {
                let terms = DEPTH.min(depth - first_term);
                let size = TILE_ROWS * terms.div_ceil(2);
                for (tile, row) in tiles() {
                    let count = TILE_ROWS.min(block_rows - row);
                    let lines = left.part(
                        first_row + row..first_row + row + count,
                        first_term..first_term + terms,
                    );
                    // SAFETY: the instructions are there, says the caller.
                    unsafe { pack::<TILE_ROWS>(lines, &mut block[tile * size..][..size]) };
                }
                for column in (0..columns).step_by(TILE_COLUMNS) {
                    let count = TILE_COLUMNS.min(columns - column);
                    let lines = right
                        .t()
                        .part(column..column + count, first_term..first_term + terms);
                    let panel = &mut panel[..TILE_COLUMNS * terms.div_ceil(2)];
                    // SAFETY: as above.
                    unsafe { pack::<TILE_COLUMNS>(lines, panel) };
                    for (tile, row) in tiles() {
                        // SAFETY: as above, and the tile is inside `out`, which
                        // is as large as the product.
                        unsafe {
                            let tile_of_out = Tile {
                                out: out.start.add((first_row + row) * out.stride + column),
                                stride: out.stride,
                                rows: TILE_ROWS.min(block_rows - row),
                                columns: count,
                            };
                            let block = &block[tile * size..][..size];
                            let keep = keep || first_term > 0;
                            multiply(block, panel, tile_of_out, keep, scale);
                        }
                    }
                }
            }
        }
    });
}

/// So many numbers of a buffer that is kept, the first of which begins a line.
fn lined(kept: &mut Vec<u32>, length: usize) -> &mut [u32] {
    kept.resize(length + LANES, 0);
    let range = from_a_line(kept, length);
    &mut kept[range]
}

/// A number as it is stored.
trait Element: Copy {
    /// Up to 32 neighbours, as bf16.
    ///
    /// # Safety
    /// `count` can be read; the instructions are there.
    unsafe fn neighbours(start: *const Self, count: usize) -> __m512i;

    /// Sixteen from each of two places, as bf16, `low` first; those that
    /// `present` leaves out, and all of a `high` that is not there, are zero.
    ///
    /// # Safety
    /// Those that are present can be read; the instructions are there.
    unsafe fn two(low: *const Self, high: Option<*const Self>, present: __mmask16) -> __m512i;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn neighbours(start: *const Self, count: usize) -> __m512i {
        let masks = (mask(count), mask(count.saturating_sub(LANES)));
        // SAFETY: the masks admit only what can be read, says the caller.
        unsafe {
            round(
                _mm512_maskz_loadu_ps(masks.0, start),
                _mm512_maskz_loadu_ps(masks.1, start.wrapping_add(LANES)),
            )
        }
    }

    #[inline(always)]
    unsafe fn two(low: *const Self, high: Option<*const Self>, present: __mmask16) -> __m512i {
        // SAFETY: says the caller.
        unsafe {
            let load = |start| _mm512_maskz_loadu_ps(present, start);
            round(load(low), high.map_or(_mm512_setzero_ps(), load))
        }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn neighbours(start: *const Self, count: usize) -> __m512i {
        let mask = u32::MAX >> (2 * LANES - count.min(2 * LANES));
        // SAFETY: the mask admits only what can be read, says the caller.
        unsafe { _mm512_maskz_loadu_epi16(mask, start.cast()) }
    }

    #[inline(always)]
    unsafe fn two(low: *const Self, high: Option<*const Self>, present: __mmask16) -> __m512i {
        // SAFETY: says the caller.
        unsafe {
            let load = |start: *const Self| _mm256_maskz_loadu_epi16(present, start.cast());
            let high = high.map_or(_mm256_setzero_si256(), load);
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(low)), high)
        }
    }
}

/// Rounds and packs the rows of `lines` as `[pairs, WIDTH]`, with zeros where
/// there is no row or no second of a pair.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pack<const WIDTH: usize>(lines: View<'_>, out: &mut [u32]) {
    match lines.data {
        Values::F32(data) => pack_elements::<WIDTH, f32>(data, lines, out),
        Values::Bf16(data) => pack_elements::<WIDTH, bf16>(data, lines, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pack_elements<const WIDTH: usize, E: Element>(data: &[E], lines: View<'_>, out: &mut [u32]) {
    let (count, terms) = (lines.rows, lines.columns);
    let pairs = terms.div_ceil(2);
    assert!(out.len() >= pairs * WIDTH && count <= WIDTH && lines.extent() <= data.len());
    for first in (0..WIDTH).step_by(LANES) {
        let count = count.saturating_sub(first).min(LANES);
        let width = LANES.min(WIDTH - first);
        let data = data.as_ptr();
        let out = out[first..].as_mut_ptr();
        if lines.column_stride == 1 {
            for term in (0..terms).step_by(2 * LANES) {
                let mut rows = [_mm512_setzero_si512(); LANES];
                for (index, row) in rows[..count].iter_mut().enumerate() {
                    // SAFETY: terms of a line that exists, the last of which
                    // is inside `data`.
                    *row = unsafe {
                        let line = data.add((first + index) * lines.row_stride + term);
                        E::neighbours(line, terms - term)
                    };
                }
                let first_pair = term / 2;
                for (pair, row) in transpose(rows).into_iter().enumerate() {
                    if first_pair + pair < pairs {
                        // SAFETY: `width` numbers from column `first` of a pair
                        // that exists are inside `out`.
                        unsafe {
                            let to = out.add((first_pair + pair) * WIDTH);
                            _mm512_mask_storeu_epi32(to.cast(), mask(width), row);
                        }
                    }
                }
            }
        } else {
            assert_eq!(lines.row_stride, 1, "one of the strides is one");
            let present = mask(count);
            for pair in 0..pairs {
                let term = 2 * pair;
                // SAFETY: as above; the second term is read where there is one.
                unsafe {
                    let low = data.wrapping_add(term * lines.column_stride + first);
                    let high = (term + 1 < terms).then(|| low.wrapping_add(lines.column_stride));
                    let row = interleave(E::two(low, high, present));
                    _mm512_mask_storeu_epi32(out.add(pair * WIDTH).cast(), mask(width), row);
                }
            }
        }
    }
}

/// The first `count` lanes, or all.
fn mask(count: usize) -> __mmask16 {
    if count >= LANES {
        u16::MAX
    } else {
        (1 << count) - 1
    }
}

/// 32 numbers as bf16, `low` first.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 32 numbers of 16 bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// From sixteen lows and sixteen highs to sixteen pairs.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(numbers: __m512i) -> __m512i {
    let mut order = [0u16; 32];
    for (place, from) in order.iter_mut().enumerate() {
        *from = (place / 2 + place % 2 * LANES) as u16;
    }
    // SAFETY: 32 numbers of 16 bits, as bits.
    let order = unsafe { std::mem::transmute::<[u16; 32], __m512i>(order) };
    _mm512_permutexvar_epi16(order, numbers)
}

/// Sixteen rows of sixteen become sixteen columns.
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows; // 2 x 2 blocks are transposed
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = pairs; // 4 x 4 blocks are
    for i in 0..4 {
        let [a, b, c, d] = [
            pairs[4 * i],
            pairs[4 * i + 1],
            pairs[4 * i + 2],
            pairs[4 * i + 3],
        ];
        fours[4 * i] = _mm512_unpacklo_epi64(a, c);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut out = fours;
    for i in 0..4 {
        let [a, b, c, d] = [fours[i], fours[4 + i], fours[8 + i], fours[12 + i]];
        // Quarters 0 and 2 of each, then 1 and 3.
        let (ab, cd) = (
            _mm512_shuffle_i32x4(a, b, 0x88),
            _mm512_shuffle_i32x4(c, d, 0x88),
        );
        out[i] = _mm512_shuffle_i32x4(ab, cd, 0x88);
        out[8 + i] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
        let (ab, cd) = (
            _mm512_shuffle_i32x4(a, b, 0xdd),
            _mm512_shuffle_i32x4(c, d, 0xdd),
        );
        out[4 + i] = _mm512_shuffle_i32x4(ab, cd, 0x88);
        out[12 + i] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
    }
    out
}

/// Where a tile of the product goes.
struct Tile {
    out: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
}

/// One tile: `block` is `[pairs, TILE_ROWS]`, `panel` is `[pairs, TILE_COLUMNS]`.
///
/// # Safety
/// The tile's rows and columns can be written.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn multiply(block: &[u32], panel: &[u32], tile: Tile, keep: bool, scale: f32) {
    let mut sums = [[_mm512_setzero_ps(); 2]; TILE_ROWS];
    for (left, right) in block
        .chunks_exact(TILE_ROWS)
        .zip(panel.chunks_exact(TILE_COLUMNS))
    {
        // SAFETY: a chunk of the panel is two vectors; pairs of bf16 are read
        // as what they are.
        unsafe {
            let [first, second] = [0, LANES].map(|at| {
                let vector = _mm512_loadu_si512(right.as_ptr().add(at).cast());
                std::mem::transmute::<__m512i, __m512bh>(vector)
            });
            for (sums, &pair) in sums.iter_mut().zip(left) {
                let pair = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], pair, first);
                sums[1] = _mm512_dpbf16_ps(sums[1], pair, second);
            }
        }
    }
    let scale = _mm512_set1_ps(scale);
    let masks = [mask(tile.columns), mask(tile.columns.saturating_sub(LANES))];
    for (index, sums) in sums.iter().take(tile.rows).enumerate() {
        for (half, (&sum, &mask)) in sums.iter().zip(&masks).enumerate() {
            // SAFETY: the mask admits only columns of the tile.
            unsafe {
                let to = tile.out.wrapping_add(index * tile.stride + half * LANES);
                let sum = if keep {
                    _mm512_fmadd_ps(sum, scale, _mm512_maskz_loadu_ps(mask, to))
                } else {
                    _mm512_mul_ps(sum, scale)
                };
                _mm512_mask_storeu_ps(to, mask, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::{Maths, Precision, product_into};
    use super::*;

    #[test]
    fn products_are_those_of_the_rounded_factors() {
        if !is_available() {
            eprintln!("skipped: this machine has no AVX512-BF16");
            return;
        }
        let maths = Maths::new(Precision::Bf16);
        let wave = |count: usize, by: usize| -> Vec<f32> {
            (0..count)
                .map(|index| ((index * by % 2001) as f32 - 1000.0) / 777.0)
                .collect()
        };
        let rounded = |value: f32| f64::from(bf16::from_f32(value).to_f32());
        for (rows, depth, columns) in [(5, 7, 3), (13, 33, 37), (530, 515, 70), (1, 1, 1)] {
            let (a, b) = (wave(rows * depth, 7919), wave(depth * columns, 104_729));
            let halves: Vec<bf16> = b.iter().map(|&value| bf16::from_f32(value)).collect();
            for form in 0..8 {
                let left = match form % 2 {
                    0 => View::new(&a, rows, depth),
                    _ => View::new(&a, depth, rows).t(),
                };
                let stored = match form / 4 {
                    0 => Values::F32(&b),
                    _ => Values::Bf16(&halves),
                };
                let right = match form / 2 % 2 {
                    0 => View::weights(stored, depth, columns),
                    _ => View::weights(stored, columns, depth).t(),
                };
                let mut out = vec![1.0; rows * columns];
                product_into(maths, &mut out, columns, left, right, true, 0.5);
                for (index, &found) in out.iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let sum: f64 = (0..depth)
                        .map(|k| {
                            let x = a[row * left.row_stride + k * left.column_stride];
                            let y = b[k * right.row_stride + column * right.column_stride];
                            rounded(x) * rounded(y)
                        })
                        .sum();
                    let truth = (1.0 + 0.5 * sum) as f32;
                    // Sums of up to 515 terms near one, in f32.
                    assert!(
                        (found - truth).abs() < 1e-5 * (1.0 + truth.abs()),
                        "{rows} x {depth} x {columns}, form {form}: {found} is not {truth}"
                    );
                }
            }
        }
    }
}
