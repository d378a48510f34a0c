//! The arithmetic of the decoder on slices of f32, for one thread.
//!
//! Each function is `#[inline(always)]`, so that [`vectorized`] compiles it
//! for the widest vectors the machine has. No sum is reassociated across
//! rows and none depends on the vector width: a row's result is the same bits
//! in any batch.

use crate::lanes::Level;

/// Runs `work` compiled for the widest vectors this machine has. What `work`
/// calls must be inlined to profit, and so must `work` itself: write
/// `vectorized(#[inline(always)] || ..)`.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn wide<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2")]
        fn medium<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match Level::best() {
            // SAFETY: the level says that the machine has every feature that
            // `wide` is compiled for.
            Level::Avx512 => return unsafe { wide(work) },
            // SAFETY: as above, for `medium`.
            Level::Avx2 => return unsafe { medium(work) },
            Level::Plain => {}
        }
    }
    work()
}

/// Width of the partial sums of [`sum_map`].
const LANES: usize = 16;

/// The sum of `f(x)`, in a fixed order that vectorizes.
#[inline(always)]
pub(crate) fn sum_map(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] += f(chunk[lane]);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|&value| f(value)).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + tail
}

/// The largest value; minus infinity if there is none.
#[inline(always)]
pub(crate) fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] {
                chunk[lane]
            } else {
                lanes[lane]
            };
        }
    }
    let larger = |best: f32, &value: &f32| if value > best { value } else { best };
    chunks
        .remainder()
        .iter()
        .fold(lanes.iter().fold(f32::NEG_INFINITY, larger), larger)
}

/// `exp(x)` to about 1e-7 relative, branch-free so that it vectorizes.
///
/// `2^n * p(r)` with `x = n ln 2 + r` (Cephes' `expf`). Below -87 it is zero
/// to within the smallest normal number, above 88 it stays finite.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    // The integer sits in the low bits of `shifted`.
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    p * f32::from_bits(((exponent + 127) << 23) as u32)
}

/// The inverse of a row's root mean square.
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mean = sum_map(x, |value| value * value) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

/// Root-mean-square norm of one row: `out = x / rms(x) * weight`. Returns the
/// inverse of the root mean square.
#[inline(always)]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    let inverse = inverse_rms(x, epsilon);
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
    inverse
}

/// [`rms_norm`] in place.
#[inline(always)]
pub(crate) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let inverse = inverse_rms(x, epsilon);
    for (x, &weight) in x.iter_mut().zip(weight) {
        *x = *x * inverse * weight;
    }
}

/// Rotates one head in place: the pair `(i, i + half)` by the angle `i`.
#[inline(always)]
pub(crate) fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (low, high) = head.split_at_mut(cosines.len());
    for (((low, high), &cosine), &sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
        (*low, *high) = (*low * cosine - *high * sine, *high * cosine + *low * sine);
    }
}

/// `gate * sigmoid(gate) * up`, into `gate`.
#[inline(always)]
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Turns scores into `exp(score - max)` in place; returns their sum.
#[inline(always)]
pub(crate) fn exponentiate(scores: &mut [f32]) -> f32 {
    let largest = maximum(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    sum_map(scores, |value| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let truth = f64::from(x).exp();
            let apart = (f64::from(vectorized(
                #[inline(always)]
                || exp(x),
            )) - truth)
                .abs()
                / truth;
            assert!(apart < 2e-7, "exp({x}) is off by {apart:e}");
        }
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
        assert!(exp(1e9).is_finite());
    }

    #[test]
    fn vector_width_changes_no_bits() {
        let values: Vec<f32> = (0..101).map(|i| (i as f32 * 0.37).sin() * 5.0).collect();
        let weight = vec![1.5; 101];
        let work = |out: &mut Vec<f32>| {
            let mut scores = values.clone();
            let sum = exponentiate(&mut scores);
            rms_norm(&values, &weight, 1e-6, out);
            swiglu(&mut scores, &values);
            out.extend(scores);
            out.push(sum);
            out.push(maximum(&values));
        };
        let (mut wide, mut narrow) = (vec![0.0; 101], vec![0.0; 101]);
        vectorized(
            #[inline(always)]
            || work(&mut wide),
        );
        work(&mut narrow);
        assert_eq!(wide, narrow);
    }
}
