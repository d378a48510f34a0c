//! Named seeds, and integer draws from them.
//!
//! A stream of draws is the extendable output of BLAKE3 and the sampling is
//! written out here, so no item ever changes with the version of a library.

use std::sync::OnceLock;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::bytes::bytes32;

/// The names of hashes that must never be taken for each other.
pub(crate) struct Context {
    name: &'static str,
    key: OnceLock<ContextKey>,
}

impl Context {
    pub(crate) const fn new(name: &'static str) -> Context {
        Context {
            name,
            key: OnceLock::new(),
        }
    }

    /// `Hasher::new_derive_key(name)`, with the name hashed once.
    pub(crate) fn hasher(&self) -> Hasher {
        let key = self.key.get_or_init(|| hash_derive_key_context(self.name));
        Hasher::new_from_context_key(key)
    }
}

static SEED: Context = Context::new("murmuration seed v1");
static DRAW: Context = Context::new("murmuration draw v1");

/// Where a draw begins: the hash of everything it may depend on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub [u8; 32]);

bytes32!(Seed);

impl Seed {
    /// The seed named by a list of parts. Each part is preceded by its length,
    /// so `["ab", "c"]` and `["a", "bc"]` are different seeds.
    #[must_use]
    pub fn derive(parts: &[&[u8]]) -> Seed {
        let mut hasher = SEED.hasher();
        // Handed over in pieces of two blocks: many small ones take longer.
        let (mut ahead, mut filled) = ([0; 128], 0);
        let mut update = |bytes: &[u8]| {
            if filled + bytes.len() > ahead.len() {
                hasher.update(&ahead[..filled]);
                filled = 0;
            }
            match ahead.get_mut(filled..filled + bytes.len()) {
                Some(room) => room.copy_from_slice(bytes),
                None => {
                    hasher.update(bytes);
                    return;
                }
            }
            filled += bytes.len();
        };
        update(&(parts.len() as u64).to_le_bytes());
        for part in parts {
            update(&(part.len() as u64).to_le_bytes());
            update(part);
        }
        hasher.update(&ahead[..filled]);
        Seed(*hasher.finalize().as_bytes())
    }

    /// The stream of draws that begins at this seed.
    #[must_use]
    pub fn draw(&self) -> Draw {
        let mut hasher = DRAW.hasher();
        hasher.update(&self.0);
        Draw {
            reader: hasher.finalize_xof(),
            ahead: [0; AHEAD],
            used: AHEAD,
            filled: 32,
        }
    }
}

/// Bytes of a stream that are made at once at most. BLAKE3 makes several of its
/// blocks of 64 in little more time than one; most streams end within the first.
const AHEAD: usize = 512;

/// A stream of integers. Equal seeds give equal streams, on every machine.
#[derive(Clone, Debug)]
pub struct Draw {
    reader: blake3::OutputReader,
    /// The last bytes of it are what was made and is not used.
    ahead: [u8; AHEAD],
    used: usize,
    /// How many were made the last time.
    filled: usize,
}

impl Draw {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// The next 32 bits. Two of them are one of 64, the low half first.
    pub(crate) fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next bytes of a number. A stream is of numbers of one size.
    fn take<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        if self.used == AHEAD {
            self.fill();
        }
        let mut bytes = [0; SIZE];
        bytes.copy_from_slice(&self.ahead[self.used..self.used + SIZE]);
        self.used += SIZE;
        bytes
    }

    /// Twice as much as the last time: who has drawn much will draw more.
    #[cold]
    fn fill(&mut self) {
        self.filled = (2 * self.filled).min(AHEAD);
        self.used = AHEAD - self.filled;
        self.reader.fill(&mut self.ahead[self.used..]);
    }

    /// Uniform in `0..bound`, without bias; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // The largest multiple of `bound` that fits: what lies above it would
        // favour the small remainders, and is drawn again.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let word = self.next_u64();
            if word < limit {
                return word % bound;
            }
        }
    }

    /// Uniform in `low..=high`; `low` where the range is empty.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        let width = u64::from(high.saturating_sub(low)) + 1;
        // `below(width)` is at most `high - low`, so the sum fits.
        low + u32::try_from(self.below(width)).unwrap_or(0)
    }

    /// An index below `length`; 0 where the length is 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Either, with equal chance.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// True in `percent` of a hundred draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundaries_between_parts_count() {
        assert_ne!(Seed::derive(&[b"ab", b"c"]), Seed::derive(&[b"a", b"bc"]));
        assert_ne!(Seed::derive(&[b"ab"]), Seed::derive(&[b"ab", b""]));
        assert_eq!(Seed::derive(&[b"ab"]), Seed::derive(&[b"ab"]));
    }

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut draw = Seed::derive(&[b"range"]).draw();
        let mut seen = [0u32; 5];
        for _ in 0..1_000 {
            seen[(draw.between(3, 7) - 3) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 130), "{seen:?}");
        assert_eq!(draw.between(9, 9), 9);
        assert_eq!(draw.below(0), 0);
    }

    #[test]
    fn hex_and_bytes_both_come_back() {
        let seed = Seed::derive(&[b"wire"]);
        let json = serde_json::to_string(&seed).unwrap();
        assert_eq!(json.len(), 66);
        assert_eq!(serde_json::from_str::<Seed>(&json).unwrap(), seed);
        let bytes = postcard::to_allocvec(&seed).unwrap();
        assert_eq!(bytes, seed.0);
        assert_eq!(postcard::from_bytes::<Seed>(&bytes).unwrap(), seed);
        assert!("xyz".parse::<Seed>().is_err());
    }
}
