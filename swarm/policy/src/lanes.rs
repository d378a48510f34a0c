//! Sixteen numbers at a time, on the widest vectors the machine has.
//!
//! A sum lives in sixteen partial sums whatever the width, every step is one
//! multiply-add that rounds once, and partial sums are added as one fixed
//! tree. So a result is the same bits with AVX-512, with AVX2 and without
//! either; what differs is the time it takes.

use half::bf16;
use std::ops::{Deref, DerefMut, Range};
use std::sync::OnceLock;

/// How many numbers are taken at a time.
pub(crate) const LANES: usize = 16;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Numbers of which the first begins a cache line, and so does every vector of
/// rows that are a multiple of [`LANES`] long. One that lies across two lines
/// takes twice the time to load, and tiles of products wait for loads.
#[derive(Default)]
pub(crate) struct Aligned {
    held: Vec<f32>,
    length: usize,
}

impl Aligned {
    /// Zeros; pages that nobody touches cost nothing.
    pub(crate) fn zeros(length: usize) -> Self {
        Self {
            held: vec![0.0; length + LANES],
            length,
        }
    }

    /// Room for `length` numbers, whose content is about to be written.
    pub(crate) fn fit(&mut self, length: usize) {
        self.held.resize(length + LANES, 0.0);
        self.length = length;
    }

    fn range(&self) -> Range<usize> {
        from_a_line(&self.held, self.length)
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.held[self.range()]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        let range = self.range();
        &mut self.held[range]
    }
}

/// Where `length` of some more numbers begin a cache line.
pub(crate) fn from_a_line<T>(held: &[T], length: usize) -> Range<usize> {
    let skipped = held.as_ptr().align_offset(LINE);
    // Where that can't be told they begin anywhere, which is as right.
    let start = if skipped <= held.len() - length {
        skipped
    } else {
        0
    };
    start..start + length
}

/// Sixteen partial sums.
pub(crate) trait Lanes: Copy {
    /// Whether sixteen of these, and what feeds them, fit the registers.
    const ROOMY: bool;
    /// Half of them, lanes 0 to 7 or 8 to 15, which are summed apart in any case.
    type Half: Half;
    fn join(low: Self::Half, high: Self::Half) -> Self;
    fn zero() -> Self;
    fn splat(value: f32) -> Self;
    fn load(values: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// As [`Lanes::load`]; a bf16 is the upper half of the f32 of its value.
    fn widen(values: &[bf16; LANES]) -> Self;
    /// `self + left * right`, rounded once.
    fn multiply_add(self, left: Self, right: Self) -> Self;
    /// Lane `i` and lane `i + 8`, then `i` and `i + 4`, and so on.
    fn sum(self) -> f32;
    /// [`Lanes::sum`] of each.
    #[inline(always)]
    fn sums(all: &[Self; 16]) -> [f32; 16] {
        all.map(Self::sum)
    }
    /// Asks for the cache line at `address`, which need not be anyone's.
    fn prefetch(address: *const u8);
}

/// Eight partial sums.
pub(crate) trait Half: Copy {
    fn zero() -> Self;
    fn load(values: &[f32; LANES / 2]) -> Self;
    /// `self + left * right`, rounded once.
    fn multiply_add(self, left: Self, right: Self) -> Self;
}

/// What this machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

/// The variable that makes of this machine a lesser one: `avx2`, or `none` for
/// no vectors of a known kind. To see what others will.
const CAP: &str = "MURMUR_VECTORS";

impl Level {
    /// The best this machine has, and [`CAP`] allows.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let cap = std::env::var(CAP).unwrap_or_default();
            match (Self::found(), cap.as_str()) {
                (_, "none") => Self::Plain,
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512, "avx2") => Self::Avx2,
                (found, _) => found,
            }
        })
    }

    /// The best this machine has.
    fn found() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Plain
    }

    /// Everything this machine has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        match Self::best() {
            Self::Avx512 => return vec![Self::Avx512, Self::Avx2, Self::Plain],
            Self::Avx2 => return vec![Self::Avx2, Self::Plain],
            Self::Plain => {}
        }
        vec![Self::Plain]
    }
}

/// Work to be compiled for each level; `run` must be `#[inline(always)]`.
pub(crate) trait Work {
    fn run<L: Lanes>(self);
}

/// Runs `work` as compiled for `level`, which this machine must have.
pub(crate) fn dispatch(level: Level, work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn wide(work: impl Work) {
            work.run::<x86::Wide>();
        }
        #[target_feature(enable = "avx2,fma")]
        fn medium(work: impl Work) {
            work.run::<x86::Medium>();
        }
        match level {
            // SAFETY: a level is only made by `Level::found` and, below it,
            // `Level::best` and `Level::all`: its features were found here.
            Level::Avx512 => return unsafe { wide(work) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { medium(work) },
            Level::Plain => {}
        }
    }
    let _ = level;
    work.run::<Plain>();
}

/// Without vectors of a known kind: the compiler makes of it what it can.
#[derive(Clone, Copy)]
struct Plain([f32; LANES]);

impl Lanes for Plain {
    const ROOMY: bool = false;
    type Half = [f32; LANES / 2];

    #[inline(always)]
    fn join(low: Self::Half, high: Self::Half) -> Self {
        let mut lanes = [0.0; LANES];
        lanes[..LANES / 2].copy_from_slice(&low);
        lanes[LANES / 2..].copy_from_slice(&high);
        Self(lanes)
    }

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn widen(values: &[bf16; LANES]) -> Self {
        Self(values.map(bf16::to_f32))
    }

    #[inline(always)]
    fn multiply_add(self, left: Self, right: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            left.0[lane].mul_add(right.0[lane], self.0[lane])
        }))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}
}

impl Half for [f32; LANES / 2] {
    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES / 2]
    }

    #[inline(always)]
    fn load(values: &Self) -> Self {
        *values
    }

    #[inline(always)]
    fn multiply_add(self, left: Self, right: Self) -> Self {
        std::array::from_fn(|lane| left[lane].mul_add(right[lane], self[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Half, LANES, Lanes};
    use half::bf16;
    use std::arch::x86_64::*;

    // SAFETY, for every block of this module: the intrinsics need features
    // that `dispatch` has made sure of, and these types are used nowhere else;
    // loads and stores cover exactly the arrays they are given.

    /// One vector of AVX-512.
    #[derive(Clone, Copy)]
    pub(super) struct Wide(__m512);

    impl Lanes for Wide {
        const ROOMY: bool = true;
        type Half = Eight;

        #[inline(always)]
        fn join(low: Eight, high: Eight) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low.0), high.0) })
        }

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32; LANES]) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: see the top of the module.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn widen(values: &[bf16; LANES]) -> Self {
            // SAFETY: see the top of the module.
            unsafe {
                let halves = _mm256_loadu_si256(values.as_ptr().cast());
                let words = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
                Self(_mm512_castsi512_ps(words))
            }
        }

        #[inline(always)]
        fn multiply_add(self, left: Self, right: Self) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm512_fmadd_ps(left.0, right.0, self.0) })
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see the top of the module.
            unsafe {
                let upper = _mm512_shuffle_f32x4::<0b01_00_11_10>(self.0, self.0);
                let eight = _mm512_castps512_ps256(_mm512_add_ps(self.0, upper));
                sum_eight(eight)
            }
        }

        /// The trees of sixteen sums at once: each level adds halves of pairs
        /// of vectors, so that one vector remains.
        #[inline(always)]
        fn sums(all: &[Self; 16]) -> [f32; 16] {
            // What the shuffles leave in lane `4 j + i` began as `4 i + j`.
            let vector = |place: usize| all[4 * (place % 4) + place / 4].0;
            // SAFETY: see the top of the module.
            unsafe {
                let mut eights = [_mm512_setzero_ps(); 8];
                for (index, sum) in eights.iter_mut().enumerate() {
                    let (x, y) = (vector(2 * index), vector(2 * index + 1));
                    *sum = _mm512_add_ps(
                        _mm512_shuffle_f32x4::<0b01_00_01_00>(x, y),
                        _mm512_shuffle_f32x4::<0b11_10_11_10>(x, y),
                    );
                }
                let mut fours = [_mm512_setzero_ps(); 4];
                for (index, sum) in fours.iter_mut().enumerate() {
                    let (x, y) = (eights[2 * index], eights[2 * index + 1]);
                    *sum = _mm512_add_ps(
                        _mm512_shuffle_f32x4::<0b10_00_10_00>(x, y),
                        _mm512_shuffle_f32x4::<0b11_01_11_01>(x, y),
                    );
                }
                let mut twos = [_mm512_setzero_ps(); 2];
                for (index, sum) in twos.iter_mut().enumerate() {
                    let (x, y) = (fours[2 * index], fours[2 * index + 1]);
                    *sum = _mm512_add_ps(
                        _mm512_shuffle_ps::<0b01_00_01_00>(x, y),
                        _mm512_shuffle_ps::<0b11_10_11_10>(x, y),
                    );
                }
                let ones = _mm512_add_ps(
                    _mm512_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]),
                    _mm512_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]),
                );
                let mut out = [0.0; 16];
                _mm512_storeu_ps(out.as_mut_ptr(), ones);
                out
            }
        }

        #[inline(always)]
        fn prefetch(address: *const u8) {
            // SAFETY: see the top of the module; a prefetch faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
    }

    /// Two vectors of AVX2: lanes 0 to 7 and 8 to 15.
    #[derive(Clone, Copy)]
    pub(super) struct Medium([__m256; 2]);

    impl Lanes for Medium {
        const ROOMY: bool = false;
        type Half = Eight;

        #[inline(always)]
        fn join(low: Eight, high: Eight) -> Self {
            Self([low.0, high.0])
        }

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see the top of the module.
            Self([unsafe { _mm256_setzero_ps() }; 2])
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see the top of the module.
            Self([unsafe { _mm256_set1_ps(value) }; 2])
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: see the top of the module.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0[0]);
                _mm256_storeu_ps(to[8..].as_mut_ptr(), self.0[1]);
            }
        }

        #[inline(always)]
        fn load(values: &[f32; LANES]) -> Self {
            // SAFETY: see the top of the module.
            unsafe {
                Self([
                    _mm256_loadu_ps(values.as_ptr()),
                    _mm256_loadu_ps(values[8..].as_ptr()),
                ])
            }
        }

        #[inline(always)]
        fn widen(values: &[bf16; LANES]) -> Self {
            // SAFETY: see the top of the module.
            let half = |values: &[bf16]| unsafe {
                let halves = _mm_loadu_si128(values.as_ptr().cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            };
            Self([half(&values[..8]), half(&values[8..])])
        }

        #[inline(always)]
        fn multiply_add(self, left: Self, right: Self) -> Self {
            // SAFETY: see the top of the module.
            unsafe {
                Self([
                    _mm256_fmadd_ps(left.0[0], right.0[0], self.0[0]),
                    _mm256_fmadd_ps(left.0[1], right.0[1], self.0[1]),
                ])
            }
        }

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see the top of the module.
            unsafe { sum_eight(_mm256_add_ps(self.0[0], self.0[1])) }
        }

        #[inline(always)]
        fn prefetch(address: *const u8) {
            // SAFETY: see the top of the module; a prefetch faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }
    }

    /// One vector of AVX2.
    #[derive(Clone, Copy)]
    pub(super) struct Eight(__m256);

    impl Half for Eight {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        fn load(values: &[f32; LANES / 2]) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm256_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn multiply_add(self, left: Self, right: Self) -> Self {
            // SAFETY: see the top of the module.
            Self(unsafe { _mm256_fmadd_ps(left.0, right.0, self.0) })
        }
    }

    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn sum_eight(eight: __m256) -> f32 {
        // SAFETY: says the caller.
        unsafe {
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            let one = _mm_add_ss(two, _mm_shuffle_ps::<0b01>(two, two));
            _mm_cvtss_f32(one)
        }
    }
}
