//! What the machine can do at most, on all threads of the pool: bytes read from
//! memory, and multiply-adds on registers alone.

use rayon::prelude::*;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;

/// Numbers of a buffer that no cache holds: a gigabyte.
const LARGE: u64 = 1 << 27;
/// Rounds of multiply-adds that are timed at once: about a tenth of a second.
const ROUNDS: usize = 20_000_000;
/// Vectors in flight: more than latency times the number of units.
const VECTORS: usize = 16;

/// Gigabytes a second, and billions of operations (two to a multiply-add), of
/// all threads together; the best of several tries, by the clock on the wall.
pub(crate) fn measure() -> Value {
    let threads = rayon::current_num_threads();
    let numbers: Vec<u64> = (0..LARGE).collect();
    let read = best(|| {
        let part = numbers.len().div_ceil(threads);
        let sum: u64 = numbers.par_chunks(part).map(sum).sum();
        black_box(sum);
        (numbers.len() * 8) as f64
    });
    drop(numbers);
    let everywhere =
        |operations: fn() -> f64| best(|| (0..threads).into_par_iter().map(|_| operations()).sum());
    json!({
        "tokens": 0, "threads": threads, "read": read,
        "f32": everywhere(multiply_f32), "bf16": everywhere(multiply_bf16),
    })
}

/// The most of what `work` counts, in billions a second.
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let once = |_| {
        let start = Instant::now();
        work() / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(once).fold(0.0, f64::max)
}

fn sum(numbers: &[u64]) -> u64 {
    // Eight sums side by side: one would wait for itself.
    let (eights, _) = numbers.as_chunks::<8>();
    let mut sums = [0u64; 8];
    for eight in eights {
        for (sum, number) in sums.iter_mut().zip(eight) {
            *sum = sum.wrapping_add(*number);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use super::{ROUNDS, VECTORS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_512() -> f64 {
        let factor = black_box(_mm512_set1_ps(0.5));
        let mut sums = [_mm512_set1_ps(1.0); VECTORS];
        for _ in 0..ROUNDS / VECTORS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
        (ROUNDS * 16 * 2) as f64
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_256() -> f64 {
        let factor = black_box(_mm256_set1_ps(0.5));
        // As many as there are registers for.
        let mut sums = [_mm256_set1_ps(1.0); 12];
        for _ in 0..ROUNDS / 12 {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
        (ROUNDS * 8 * 2) as f64
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_512() -> f64 {
        let factor = black_box(_mm512_cvtne2ps_pbh(
            _mm512_set1_ps(0.5),
            _mm512_set1_ps(0.5),
        ));
        let mut sums = [_mm512_set1_ps(1.0); VECTORS];
        for _ in 0..ROUNDS / VECTORS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
        (ROUNDS * 32 * 2) as f64
    }
}

/// Operations done in f32; none where the machine is not one of those known.
fn multiply_f32() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the instructions are there.
        return unsafe { vectors::f32_512() };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the instructions are there.
        return unsafe { vectors::f32_256() };
    }
    0.0
}

/// The same with factors in bf16.
fn multiply_bf16() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the instructions are there.
        return unsafe { vectors::bf16_512() };
    }
    0.0
}
