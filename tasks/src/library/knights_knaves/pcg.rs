//! NumPy's `default_rng`, to the bit: PCG64 seeded by `SeedSequence`, and the
//! methods that `knights_knaves` draws with.

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// A stream of draws, equal to NumPy's `default_rng(seed)`.
pub(super) struct Pcg {
    state: u128,
    increment: u128,
    /// The high half of the last 64 bits, for the next draw of 32.
    kept: Option<u32>,
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn entropy(seed: u64) -> [u64; 4] {
    fn mixed(value: u32, constant: &mut u32, multiplier: u32) -> u32 {
        let value = value ^ *constant;
        *constant = constant.wrapping_mul(multiplier);
        let value = value.wrapping_mul(*constant);
        value ^ (value >> 16)
    }
    let mut constant = 0x43b0_d7e5;
    let words = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut pool = words.map(|word| mixed(word, &mut constant, 0x931e_8875));
    for from in 0..4 {
        for to in 0..4 {
            if from != to {
                let other = mixed(pool[from], &mut constant, 0x931e_8875);
                let sum = pool[to]
                    .wrapping_mul(0xca01_f9dd)
                    .wrapping_sub(other.wrapping_mul(0x4973_f715));
                pool[to] = sum ^ (sum >> 16);
            }
        }
    }
    let mut constant = 0x8b51_f9dd;
    let mut half = |at: usize| u64::from(mixed(pool[at % 4], &mut constant, 0x58f3_8ded));
    [0, 2, 4, 6].map(|at| half(at) | half(at + 1) << 32)
}

impl Pcg {
    pub(super) fn new(seed: u64) -> Pcg {
        let [a, b, c, d] = entropy(seed).map(u128::from);
        let mut pcg = Pcg {
            state: 0,
            increment: (c << 64 | d) << 1 | 1,
            kept: None,
        };
        pcg.step();
        pcg.state = pcg.state.wrapping_add(a << 64 | b);
        pcg.step();
        pcg
    }

    fn step(&mut self) {
        self.state = self
            .state
            .wrapping_mul(MULTIPLIER)
            .wrapping_add(self.increment);
    }

    fn word(&mut self) -> u32 {
        self.kept.take().unwrap_or_else(|| {
            self.step();
            let folded = (self.state >> 64) as u64 ^ self.state as u64;
            let both = folded.rotate_right((self.state >> 122) as u32);
            self.kept = Some((both >> 32) as u32);
            both as u32
        })
    }

    /// `integers(0, bound)`, by Lemire's method; 0 without a draw where there
    /// is nothing to choose.
    pub(super) fn below(&mut self, bound: u32) -> usize {
        if bound <= 1 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.word()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as usize;
            }
        }
    }

    /// `choice(list)`.
    pub(super) fn choice<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u32)]
    }

    /// The places of `choice(list, size=count, replace=False)`, by Floyd's
    /// method and a shuffle.
    pub(super) fn sample(&mut self, length: u32, count: u32) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        for last in length - count.min(length)..length {
            let drawn = self.below(last + 1);
            let place = if places.contains(&drawn) {
                last as usize
            } else {
                drawn
            };
            places.push(place);
        }
        for at in (1..places.len()).rev() {
            let other = self.below(at as u32 + 1);
            places.swap(at, other);
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// [hex(x) for x in np.random.SeedSequence(2**32).generate_state(4, np.uint64)]
    /// r = np.random.default_rng(12345)
    /// [r.integers(0, 6) for _ in range(5)], r.choice(["a", "b"]), r.integers(0, 3)
    /// r.choice(32, size=3, replace=False), r.choice(32, size=2, replace=False)
    /// ```
    #[test]
    fn the_stream_is_that_of_numpy() {
        assert_eq!(
            entropy(1 << 32),
            [
                0x50ff_846c_ec53_f444,
                0x7a49_18db_e827_8562,
                0x3bff_9f6c_362e_2b19,
                0xbdb1_7753_9a06_54e3
            ]
        );
        let mut pcg = Pcg::new(12_345);
        assert_eq!([(); 5].map(|()| pcg.below(6)), [4, 1, 4, 1, 1]);
        assert_eq!((*pcg.choice(b"ab"), pcg.below(3)), (b'b', 1));
        assert_eq!(pcg.sample(32, 3), [30, 20, 12]);
        assert_eq!(pcg.sample(32, 2), [19, 17]);
    }
}
