//! Vectors of x86 registers. Their types are private: to have one is to run on a processor with its instructions.

use crate::Lanes;
use std::arch::x86_64::*;

/// One instruction of a vector's own level, or a few.
macro_rules! intrinsic {
    ($call:expr) => {
        // SAFETY: whoever has a vector's type runs on a processor with its instructions (see the implementations of
        // `Lanes`); where memory is read or written, the caller of `load_from` or `store_to` promises the elements.
        unsafe { $call }
    };
}

/// 16 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Avx512(__m512);

/// 8 lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Avx2(__m256);

// SAFETY: 16 elements are read and written, at any alignment. The type is private to this crate, and
// `Level::run` alone runs kernels with it: on a level that only a processor with AVX-512 has.
unsafe impl Lanes for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(intrinsic!(_mm512_set1_ps(value)))
    }

    #[inline(always)]
    unsafe fn load_from(source: *const f32) -> Self {
        Self(intrinsic!(_mm512_loadu_ps(source)))
    }

    #[inline(always)]
    unsafe fn store_to(self, target: *mut f32) {
        intrinsic!(_mm512_storeu_ps(target, self.0))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(intrinsic!(_mm512_fmadd_ps(self.0, factor.0, term.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(intrinsic!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(intrinsic!(_mm512_abs_ps(self.0)))
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        Self(intrinsic!({
            let mask = _mm512_set1_epi32(i32::MIN);
            let sign = _mm512_and_si512(mask, _mm512_castps_si512(sign.0));
            let rest = _mm512_andnot_si512(mask, _mm512_castps_si512(self.0));
            _mm512_castsi512_ps(_mm512_or_si512(sign, rest))
        }))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(intrinsic!(
            _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0)
        ))
    }

    #[inline(always)]
    fn exp2_integer(self) -> Self {
        Self(intrinsic!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }))
    }

    #[inline(always)]
    fn where_less(self, left: Self, right: Self, other: Self) -> Self {
        Self(intrinsic!({
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(left.0, right.0);
            _mm512_mask_blend_ps(less, other.0, self.0)
        }))
    }
}

// SAFETY: 8 elements are read and written, at any alignment. The type is private to this crate, and `Level::run`
// alone runs kernels with it: on a level that only a processor with AVX2 and FMA has.
unsafe impl Lanes for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(intrinsic!(_mm256_set1_ps(value)))
    }

    #[inline(always)]
    unsafe fn load_from(source: *const f32) -> Self {
        Self(intrinsic!(_mm256_loadu_ps(source)))
    }

    #[inline(always)]
    unsafe fn store_to(self, target: *mut f32) {
        intrinsic!(_mm256_storeu_ps(target, self.0))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(intrinsic!(_mm256_fmadd_ps(self.0, factor.0, term.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(intrinsic!(_mm256_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(intrinsic!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        Self(intrinsic!({
            let mask = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_and_ps(mask, sign.0), _mm256_andnot_ps(mask, self.0))
        }))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(intrinsic!({
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        }))
    }

    #[inline(always)]
    fn exp2_integer(self) -> Self {
        Self(intrinsic!({
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }))
    }

    #[inline(always)]
    fn where_less(self, left: Self, right: Self, other: Self) -> Self {
        Self(intrinsic!({
            let less = _mm256_cmp_ps::<_CMP_LT_OQ>(left.0, right.0);
            _mm256_blendv_ps(other.0, self.0, less)
        }))
    }
}
