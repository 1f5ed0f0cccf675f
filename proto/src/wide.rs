//! Loops over vectors, compiled for the widest registers of the processor that they run on. It decides
//! the width and nothing else: every operation is an IEEE 754 one, and none is fused with another, so
//! the bits are the same at any width.

/// Runs `work`, which is to be small enough to be inlined, with wide registers where there are any.
#[inline]
pub fn wide<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            // SAFETY: the processor has these features, as was just asked.
            return unsafe { with_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: likewise.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
fn with_avx512<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
    work()
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
}
