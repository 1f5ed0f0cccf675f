//! Vectors of f32 and the run-time choice of their width. It decides which instructions a kernel is
//! compiled for.
//!
//! Every operation is an IEEE 754 one (the multiply-add is fused at every level), so a kernel gives
//! the same bits whichever level runs it.

use std::sync::OnceLock;

/// A set of instructions that this processor has. A value is the proof: [`Level::detect`] and
/// [`Level::available`] are the only ways to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust: right everywhere, fast where the target's baseline has fused multiply-add
    /// (AArch64) and slow on an x86 without it.
    Portable,
}

impl Level {
    /// The best level of this processor.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| Self::available()[0])
    }

    /// The levels that this processor can run, best first; never empty.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                levels.push(Self(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Self(Kind::Avx2));
            }
        }
        levels.push(Self(Kind::Portable));
        levels
    }

    /// As it is written in a compute class.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512f",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2+fma",
            Kind::Portable => "portable",
        }
    }

    /// Runs `kernel` compiled for this level.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: `available` lists a level only where the processor has its features, and a
            // level comes from nowhere else.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { run_avx2(kernel) },
            Kind::Portable => kernel.run::<[f32; 8]>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<x86::Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<x86::Avx2>()
}

/// A computation over vectors. `run` must be `#[inline(always)]`, and so must everything in it that
/// touches a vector: only then is it compiled with the features of its level.
pub trait Kernel {
    type Output;
    fn run<V: Lanes>(self) -> Self::Output;
}

/// A vector of f32.
///
/// # Safety
/// An implementation reads and writes `LANES` elements at any alignment, and no others. One whose
/// operations are instructions that not every processor has can be named by nobody but [`Level::run`].
pub unsafe trait Lanes: Copy {
    const LANES: usize;
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` elements from `source` on are readable.
    unsafe fn load(source: *const f32) -> Self;
    /// # Safety
    /// `LANES` elements from `target` on are writable.
    unsafe fn store(self, target: *mut f32);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller one; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    /// The larger one; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// `self` with the sign bit of `sign`.
    fn copy_sign(self, sign: Self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    /// 2 to the power of `self`, an integer in -126..=127.
    fn exp2_integer(self) -> Self;
    /// `self` where `left < right`, else `other`.
    fn where_less(self, left: Self, right: Self, other: Self) -> Self;
}

/// Asks for the cache line of `address`, which may be any.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    // SAFETY: a hint, which never faults; SSE belongs to every x86_64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Writes the transpose of four rows of four elements; the rows lie `stride` and `target_stride`
/// apart.
///
/// # Safety
/// The elements are readable and writable.
#[inline(always)]
pub unsafe fn transpose_4(
    source: *const f32,
    stride: usize,
    target: *mut f32,
    target_stride: usize,
) {
    // SAFETY: as the caller promises; SSE belongs to every x86_64.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::*;
        let row = |r: usize| _mm_loadu_ps(source.add(r * stride));
        let (low, high) = (
            _mm_unpacklo_ps(row(0), row(1)),
            _mm_unpackhi_ps(row(0), row(1)),
        );
        let (low_2, high_2) = (
            _mm_unpacklo_ps(row(2), row(3)),
            _mm_unpackhi_ps(row(2), row(3)),
        );
        _mm_storeu_ps(target, _mm_movelh_ps(low, low_2));
        _mm_storeu_ps(target.add(target_stride), _mm_movehl_ps(low_2, low));
        _mm_storeu_ps(target.add(2 * target_stride), _mm_movelh_ps(high, high_2));
        _mm_storeu_ps(target.add(3 * target_stride), _mm_movehl_ps(high_2, high));
    }
    // SAFETY: as the caller promises.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        for row in 0..4 {
            for term in 0..4 {
                *target.add(term * target_stride + row) = *source.add(row * stride + term);
            }
        }
    }
}

// SAFETY: plain Rust; an array of N elements is what is read and written.
unsafe impl<const N: usize> Lanes for [f32; N] {
    const LANES: usize = N;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; N]
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { source.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller's.
        unsafe { target.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] / other[lane])
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        std::array::from_fn(|lane| self[lane].mul_add(factor[lane], term[lane]))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        std::array::from_fn(|lane| {
            if self[lane] < other[lane] {
                self[lane]
            } else {
                other[lane]
            }
        })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|lane| {
            if self[lane] > other[lane] {
                self[lane]
            } else {
                other[lane]
            }
        })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        std::array::from_fn(|lane| self[lane].abs())
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        std::array::from_fn(|lane| self[lane].copysign(sign[lane]))
    }

    #[inline(always)]
    fn round(self) -> Self {
        std::array::from_fn(|lane| self[lane].round_ties_even())
    }

    #[inline(always)]
    fn exp2_integer(self) -> Self {
        std::array::from_fn(|lane| f32::from_bits(((self[lane] as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn where_less(self, left: Self, right: Self, other: Self) -> Self {
        std::array::from_fn(|lane| {
            if left[lane] < right[lane] {
                self[lane]
            } else {
                other[lane]
            }
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// 16 lanes.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(super) struct Avx512(__m512);

    /// 8 lanes.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(super) struct Avx2(__m256);

    // SAFETY (both implementations and all that is in them): the types are private, and `Level::run` alone
    // runs kernels with them, where the processor has the features.
    unsafe impl Lanes for Avx512 {
        const LANES: usize = 16;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(source) })
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            unsafe { _mm512_storeu_ps(target, self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            Self(unsafe { _mm512_abs_ps(self.0) })
        }

        #[inline(always)]
        fn copy_sign(self, sign: Self) -> Self {
            Self(unsafe {
                let mask = _mm512_set1_epi32(i32::MIN);
                let sign = _mm512_and_si512(mask, _mm512_castps_si512(sign.0));
                let rest = _mm512_andnot_si512(mask, _mm512_castps_si512(self.0));
                _mm512_castsi512_ps(_mm512_or_si512(sign, rest))
            })
        }

        #[inline(always)]
        fn round(self) -> Self {
            Self(unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0) })
        }

        #[inline(always)]
        fn exp2_integer(self) -> Self {
            Self(unsafe {
                let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
            })
        }

        #[inline(always)]
        fn where_less(self, left: Self, right: Self, other: Self) -> Self {
            Self(unsafe {
                let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(left.0, right.0);
                _mm512_mask_blend_ps(less, other.0, self.0)
            })
        }
    }

    // SAFETY: as above.
    unsafe impl Lanes for Avx2 {
        const LANES: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(source: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(source) })
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut f32) {
            unsafe { _mm256_storeu_ps(target, self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn div(self, other: Self) -> Self {
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
        }

        #[inline(always)]
        fn copy_sign(self, sign: Self) -> Self {
            Self(unsafe {
                let mask = _mm256_set1_ps(-0.0);
                _mm256_or_ps(_mm256_and_ps(mask, sign.0), _mm256_andnot_ps(mask, self.0))
            })
        }

        #[inline(always)]
        fn round(self) -> Self {
            Self(unsafe {
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
            })
        }

        #[inline(always)]
        fn exp2_integer(self) -> Self {
            Self(unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            })
        }

        #[inline(always)]
        fn where_less(self, left: Self, right: Self, other: Self) -> Self {
            Self(unsafe {
                let less = _mm256_cmp_ps::<_CMP_LT_OQ>(left.0, right.0);
                _mm256_blendv_ps(other.0, self.0, less)
            })
        }
    }
}
