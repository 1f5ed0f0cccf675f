//! Vectors of f32 and the run-time choice of their width: the workspace's one SIMD dispatcher. It decides which
//! instructions a kernel is compiled for, and does not depend on what the kernel computes.
//!
//! Every operation is an IEEE 754 one (the multiply-add is fused at every level, and nothing else is), so a kernel
//! gives the same bits whichever level runs it.
//!
//! A [`Level`] is a capability: nobody can make one that the processor doesn't have.
//!
//! ```compile_fail
//! let level = simd::Level(simd::Kind::Avx512);
//! ```

#![warn(unreachable_pub, missing_docs)]

use std::sync::OnceLock;

mod lanes;
mod memory;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use lanes::Lanes;
pub use memory::{prefetch, transpose_4};

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
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
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
            // SAFETY: a level of this kind exists only where `available` detected the four features that
            // `run_avx512` is compiled for: the field is private, and nothing else makes one.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: a level of this kind exists only where `available` detected AVX2 and FMA, which are all
            // that `run_avx2` is compiled for.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { run_avx2(kernel) },
            Kind::Portable => kernel.run::<[f32; 8]>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
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
    /// What the computation gives.
    type Output;
    /// Computes with vectors of type `V`.
    fn run<V: Lanes>(self) -> Self::Output;
}

/// Runs `work`, a loop that the compiler vectorizes, compiled for the best level of this processor. It has to be
/// an `#[inline(always)]` closure.
#[inline]
pub fn wide<T>(work: impl FnOnce() -> T) -> T {
    struct Work<F>(F);
    impl<T, F: FnOnce() -> T> Kernel for Work<F> {
        type Output = T;
        #[inline(always)]
        fn run<V: Lanes>(self) -> T {
            (self.0)()
        }
    }
    Level::detect().run(Work(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products whose sums would be others if a multiplication were fused with an addition.
    #[test]
    fn width_reaches_no_bit() {
        let values: Vec<f32> = (1..2000u16).map(|place| 1.0 / f32::from(place)).collect();
        let work = |values: &[f32]| -> Vec<u32> {
            let element = |value: &f32| value.sqrt() / 3.7 - 0.1 * (value * value);
            values
                .iter()
                .map(|value| element(value).to_bits())
                .collect()
        };
        assert_eq!(
            wide(
                #[inline(always)]
                || work(&values)
            ),
            work(&values)
        );
    }

    #[test]
    fn every_level_runs_and_the_best_comes_first() {
        struct Square<'a>(&'a mut [f32]);
        impl Kernel for Square<'_> {
            type Output = usize;
            #[inline(always)]
            fn run<V: Lanes>(self) -> usize {
                let mut chunks = self.0.chunks_exact_mut(V::LANES);
                for chunk in &mut chunks {
                    let x = V::load(chunk);
                    x.mul_add(x, V::splat(1.0)).store(chunk);
                }
                V::LANES
            }
        }
        let levels = Level::available();
        assert_eq!(levels.first(), Some(&Level::detect()));
        assert_eq!(levels.last().map(|level| level.name()), Some("portable"));
        // `.ci/memcheck` shows which ones it ran.
        println!(
            "levels: {:?}",
            levels.iter().map(|level| level.name()).collect::<Vec<_>>()
        );
        for level in levels {
            let mut values: Vec<f32> = (0..48u8).map(f32::from).collect();
            let lanes = level.run(Square(&mut values));
            assert!([8, 16].contains(&lanes));
            for (index, value) in (0..48u8).zip(values) {
                let x = f32::from(index);
                assert_eq!(value, x * x + 1.0, "{}", level.name());
            }
        }
    }

    #[test]
    #[should_panic(expected = "7 elements")]
    fn a_vector_is_not_loaded_from_fewer_elements() {
        let _ = <[f32; 8] as Lanes>::load(&[0.0; 7]);
    }

    #[test]
    #[should_panic(expected = "7 elements")]
    fn a_vector_is_not_stored_over_fewer_elements() {
        [1.0f32; 8].store(&mut [0.0; 7]);
    }

    #[test]
    fn four_rows_are_transposed() {
        let rows: [[f32; 4]; 4] =
            std::array::from_fn(|row| std::array::from_fn(|column| (4 * row + column) as f32));
        let columns = transpose_4(rows.each_ref());
        for row in 0..4 {
            for column in 0..4 {
                assert_eq!(columns[column][row], rows[row][column]);
            }
        }
    }
}
