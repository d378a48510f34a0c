//! Randomness by counter: each draw is a function of what it is for, and of
//! nothing that happened before it, so no order of work changes it.

/// The finaliser of SplitMix64: a bijection of 64 bits that mixes well.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// 64 uniform bits for the draw named by `key`.
pub(crate) fn bits(key: &[u64]) -> u64 {
    key.iter().fold(0x9e37_79b9_7f4a_7c15, |state, &word| {
        mix(state
            .wrapping_mul(0xd134_2543_de82_ef95)
            .wrapping_add(word)
            .wrapping_add(0x9e37_79b9_7f4a_7c15))
    })
}

/// A uniform draw from [0, 1) for `key`, with 53 random bits.
pub(crate) fn uniform(key: &[u64]) -> f64 {
    (bits(key) >> 11) as f64 / (1u64 << 53) as f64
}

/// `count` standard normal draws (Box and Muller) for `seed` and `stream`.
pub(crate) fn normals(seed: u64, stream: u64, count: usize) -> Vec<f32> {
    let mut draws = Vec::with_capacity(count + 1);
    for pair in 0..count.div_ceil(2) as u64 {
        // One minus a draw from [0, 1) is never zero, so its logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(&[seed, stream, pair, 0])).ln()).sqrt();
        let angle = std::f64::consts::TAU * uniform(&[seed, stream, pair, 1]);
        draws.push((radius * angle.cos()) as f32);
        draws.push((radius * angle.sin()) as f32);
    }
    draws.truncate(count);
    draws
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_draws_have_the_moments_of_a_normal() {
        let draws = normals(7, 1, 100_001);
        assert_eq!(draws.len(), 100_001);
        let count = draws.len() as f64;
        let moment =
            |power: i32| draws.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / count;
        assert!(moment(1).abs() < 0.02, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!(
            (moment(4) - 3.0).abs() < 0.15,
            "fourth moment {}",
            moment(4)
        );
    }

    #[test]
    fn each_word_of_the_key_changes_the_draw() {
        let base = bits(&[1, 2, 3]);
        for other in [
            &[2u64, 2, 3][..],
            &[1, 3, 3],
            &[1, 2, 4],
            &[1, 2],
            &[1, 2, 3, 0],
        ] {
            assert_ne!(base, bits(other));
        }
    }
}
