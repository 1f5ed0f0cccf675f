//! The vector operations that kernels use, and their implementation in plain Rust. It does not depend on which
//! instructions there are.

/// A vector of f32.
///
/// # Safety
/// An implementation reads and writes `LANES` elements at any alignment, and no others. One whose
/// operations are instructions that not every processor has can be named by nobody but [`crate::Level::run`].
pub unsafe trait Lanes: Copy {
    /// Elements of a vector.
    const LANES: usize;
    /// A vector with this value in every lane.
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` elements from `source` on are readable.
    unsafe fn load_from(source: *const f32) -> Self;
    /// # Safety
    /// `LANES` elements from `target` on are writable.
    unsafe fn store_to(self, target: *mut f32);
    /// The first `LANES` elements of `source`.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn load(source: &[f32]) -> Self {
        assert!(source.len() >= Self::LANES, "{} elements", source.len());
        // SAFETY: the slice has LANES elements, as just asserted.
        unsafe { Self::load_from(source.as_ptr()) }
    }
    /// Over the first `LANES` elements of `target`.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn store(self, target: &mut [f32]) {
        assert!(target.len() >= Self::LANES, "{} elements", target.len());
        // SAFETY: the slice has LANES elements, as just asserted, and is exclusively borrowed.
        unsafe { self.store_to(target.as_mut_ptr()) }
    }
    /// The sums, lane by lane.
    fn add(self, other: Self) -> Self;
    /// The differences, lane by lane.
    fn sub(self, other: Self) -> Self;
    /// The products, lane by lane.
    fn mul(self, other: Self) -> Self;
    /// The quotients, lane by lane.
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller one; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    /// The larger one; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// The absolute values, lane by lane.
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

// SAFETY: an array of N elements is what is read and written, without a claim on its alignment; the operations
// are plain Rust, which every processor runs.
unsafe impl<const N: usize> Lanes for [f32; N] {
    const LANES: usize = N;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; N]
    }

    #[inline(always)]
    unsafe fn load_from(source: *const f32) -> Self {
        // SAFETY: N elements are readable, as the caller promises; the read asks for no alignment.
        unsafe { source.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_to(self, target: *mut f32) {
        // SAFETY: N elements are writable, as the caller promises; the write asks for no alignment.
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
