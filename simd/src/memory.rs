//! Prefetching and transposition for kernels.

/// Asks for the cache line of `address`, which may be any.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint, which never faults, wherever the address points; SSE belongs to every
        // x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The transpose of four rows of four elements.
#[inline(always)]
pub fn transpose_4(rows: [&[f32; 4]; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let mut columns = [[0.0; 4]; 4];
        let [first, second, third, fourth] = &mut columns;
        // SAFETY: four elements are read from each array of four and written to each array of four; loads and stores
        // ask for no alignment, and SSE belongs to every x86_64.
        unsafe {
            let row = |row: usize| _mm_loadu_ps(rows[row].as_ptr());
            let (low, high) = (
                _mm_unpacklo_ps(row(0), row(1)),
                _mm_unpackhi_ps(row(0), row(1)),
            );
            let (low_2, high_2) = (
                _mm_unpacklo_ps(row(2), row(3)),
                _mm_unpackhi_ps(row(2), row(3)),
            );
            _mm_storeu_ps(first.as_mut_ptr(), _mm_movelh_ps(low, low_2));
            _mm_storeu_ps(second.as_mut_ptr(), _mm_movehl_ps(low_2, low));
            _mm_storeu_ps(third.as_mut_ptr(), _mm_movelh_ps(high, high_2));
            _mm_storeu_ps(fourth.as_mut_ptr(), _mm_movehl_ps(high_2, high));
        }
        columns
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
}
