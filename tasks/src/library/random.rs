//! CPython's `random.Random`, to the bit: the Mersenne Twister MT19937 and the
//! sampling methods that stand on it, as of Python 3.11.
//!
//! The library's items are defined by reasoning-gym's draws, so the generator
//! is written out here: no item changes with the version of a library. Our own
//! items take the same methods over a stream of ours.

use crate::{Draw, Seed};

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// Where the 32-bit words come from.
// The twister's state is large, and boxing it would cost more than it saves.
#[allow(clippy::large_enum_variant)]
enum Words {
    /// Python's own generator.
    Twister { state: [u32; WORDS], next: usize },
    /// A stream of ours, which begins at once: seeding the twister takes longer
    /// than most items.
    Draw(Draw),
}

/// A stream of draws by Python's methods.
pub(crate) struct Random {
    words: Words,
}

/// The twister's state before a key goes in: `init_genrand(19650218)`.
const UNSEEDED: [u32; WORDS] = {
    let mut state = [19_650_218u32; WORDS];
    let mut index = 1;
    while index < WORDS {
        let last = state[index - 1];
        state[index] = 1_812_433_253u32
            .wrapping_mul(last ^ (last >> 30))
            .wrapping_add(index as u32);
        index += 1;
    }
    state
};

impl Random {
    /// The stream of `random.Random(seed)`.
    pub(crate) fn new(seed: u64) -> Random {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = [low, high];
        // Python's key is as long as the number.
        let key = if high == 0 { &key[..1] } else { &key[..] };
        let mut state = UNSEEDED;
        let (mut at, mut word) = (1, 0);
        for _ in 0..WORDS {
            let last = state[at - 1];
            state[at] = (state[at] ^ (last ^ (last >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[word])
                .wrapping_add(word as u32);
            at += 1;
            word = (word + 1) % key.len();
            if at == WORDS {
                state[0] = state[WORDS - 1];
                at = 1;
            }
        }
        for _ in 1..WORDS {
            let last = state[at - 1];
            state[at] = (state[at] ^ (last ^ (last >> 30)).wrapping_mul(1_566_083_941))
                .wrapping_sub(at as u32);
            at += 1;
            if at == WORDS {
                state[0] = state[WORDS - 1];
                at = 1;
            }
        }
        state[0] = 0x8000_0000;
        Random {
            words: Words::Twister { state, next: 0 },
        }
    }

    /// The stream of ours that begins at this seed.
    pub(crate) fn seeded(seed: &Seed) -> Random {
        Random {
            words: Words::Draw(seed.draw()),
        }
    }

    /// The next 32 bits.
    pub(crate) fn word(&mut self) -> u32 {
        match &mut self.words {
            Words::Twister { state, next } => {
                // Each word of the state is renewed when it is come to.
                let at = *next;
                let after = if at + 1 == WORDS { 0 } else { at + 1 };
                let joined = (state[at] & 0x8000_0000) | (state[after] & 0x7fff_ffff);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                state[at] = state[(at + SHIFT) % WORDS] ^ (joined >> 1) ^ twist;
                *next = after;
                let mut word = state[at];
                word ^= word >> 11;
                word ^= (word << 7) & 0x9d2c_5680;
                word ^= (word << 15) & 0xefc6_0000;
                word ^ (word >> 18)
            }
            Words::Draw(draw) => draw.next_u32(),
        }
    }

    /// `getrandbits(count)`, for at most 64 bits.
    fn bits(&mut self, count: u32) -> u64 {
        match count {
            0 => 0,
            1..=32 => u64::from(self.word() >> (32 - count)),
            _ => {
                let low = u64::from(self.word());
                low | u64::from(self.word() >> (64 - count.min(64))) << 32
            }
        }
    }

    /// `_randbelow(bound)`: uniform below the bound; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let count = u64::BITS - bound.leading_zeros();
        loop {
            let value = self.bits(count);
            if value < bound {
                return value;
            }
        }
    }

    /// `randrange(length)` as an index.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// `randint(low, high)`: both ends included; `low` where the range is empty.
    pub(crate) fn int(&mut self, low: i64, high: i64) -> i64 {
        let width = i128::from(high) - i128::from(low) + 1;
        let drawn = self.below(u64::try_from(width).unwrap_or(0));
        low.wrapping_add_unsigned(drawn)
    }

    /// `randint` of a size or a count.
    pub(crate) fn size(&mut self, (low, high): (usize, usize)) -> usize {
        low + self.index(high.saturating_sub(low) + 1)
    }

    /// `random()`: uniform in [0, 1), 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `uniform(low, high)`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// `choice(list)`. The list must not be empty.
    pub(crate) fn choice<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// `shuffle(list)`.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.index(at + 1);
            list.swap(at, other);
        }
    }

    /// `sample(range(length), count)`: which places are drawn, in order.
    pub(crate) fn sample(&mut self, length: usize, count: usize) -> Vec<usize> {
        let count = count.min(length);
        // Python copies the list where that is cheaper than a set of places.
        let mut set_size = 21;
        if count > 5 {
            let mut power = 1;
            while power < count * 3 {
                power *= 4;
            }
            set_size += power;
        }
        if length <= set_size {
            let mut pool: Vec<usize> = (0..length).collect();
            return (0..count)
                .map(|done| {
                    let at = self.index(length - done);
                    let place = pool[at];
                    pool[at] = pool[length - done - 1];
                    place
                })
                .collect();
        }
        let mut places = std::collections::BTreeSet::new();
        (0..count)
            .map(|_| {
                loop {
                    let place = self.index(length);
                    if places.insert(place) {
                        return place;
                    }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// r = random.Random(42)
    /// [r.getrandbits(32) for _ in range(3)], r.getrandbits(40), r.random(),
    /// r.randint(-5, 10**10), r.choice("abcdefg"), r.uniform(-100, 100)
    /// ```
    #[test]
    fn the_stream_is_that_of_cpython() {
        let mut random = Random::new(42);
        let words = [random.word(), random.word(), random.word()];
        assert_eq!(words, GOLDEN_WORDS);
        assert_eq!(random.bits(40), GOLDEN_BITS);
        assert_eq!(random.unit(), GOLDEN_UNIT);
        assert_eq!(random.int(-5, 10_000_000_000), GOLDEN_INT);
        assert_eq!(*random.choice(b"abcdefg"), GOLDEN_CHOICE);
        assert_eq!(random.uniform(-100.0, 100.0), GOLDEN_UNIFORM);
    }
    const GOLDEN_WORDS: [u32; 3] = [2746317213, 478163327, 107420369];
    const GOLDEN_BITS: u64 = 303832645883;
    const GOLDEN_UNIT: f64 = 0.24489185380347622;
    const GOLDEN_INT: i64 = 9189245412;
    const GOLDEN_CHOICE: u8 = b'a';
    const GOLDEN_UNIFORM: f64 = 35.33989748458225;

    /// ```python
    /// r = random.Random(7); l = list(range(10)); r.shuffle(l)
    /// l, r.sample(range(20), 6), r.sample(range(1000), 6)
    /// ```
    #[test]
    fn lists_are_drawn_as_cpython_draws_them() {
        let mut random = Random::new(7);
        let mut list: Vec<usize> = (0..10).collect();
        random.shuffle(&mut list);
        assert_eq!(list, [8, 3, 1, 4, 7, 0, 9, 6, 2, 5]);
        assert_eq!(random.sample(20, 6), [16, 6, 1, 2, 13, 18]);
        assert_eq!(random.sample(1_000, 6), [71, 246, 92, 564, 434, 60]);
    }

    /// `random.Random(seed).getrandbits(32)` of 0 and of 2**40 + 3.
    #[test]
    fn seeds_of_both_sizes_are_read_as_cpython_reads_them() {
        assert_eq!(Random::new(0).word(), 3626764237);
        assert_eq!(Random::new((1 << 40) + 3).word(), 943978446);
    }

    #[test]
    fn an_empty_range_draws_nothing() {
        let mut random = Random::new(1);
        assert_eq!((random.below(0), random.int(4, 3)), (0, 4));
        assert_eq!(random.sample(3, 9).len(), 3);
    }
}
