//! Exponential and logarithm in f64, written out: the C library's differ between its versions and
//! processors in the last bit, and bits are what workers must agree on. Written without branches,
//! so that the compiler turns loops over them into vectors.

use simd::{Kernel, Lanes};

/// e to the power of `x`; `x` is at most 700, and below -708 counts as -708. Relative error below
/// 4e-16.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    /// Adding it leaves the nearest integer in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x > -708.0 { x } else { -708.0 };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    // Taylor's series: |r| <= ln 2 / 2, where the term of degree 13 is below 2e-16.
    let p = 1.0 / 479_001_600.0;
    let p = r.mul_add(p, 1.0 / 39_916_800.0);
    let p = r.mul_add(p, 1.0 / 3_628_800.0);
    let p = r.mul_add(p, 1.0 / 362_880.0);
    let p = r.mul_add(p, 1.0 / 40_320.0);
    let p = r.mul_add(p, 1.0 / 5_040.0);
    let p = r.mul_add(p, 1.0 / 720.0);
    let p = r.mul_add(p, 1.0 / 120.0);
    let p = r.mul_add(p, 1.0 / 24.0);
    let p = r.mul_add(p, 1.0 / 6.0);
    let p = r.mul_add(p, 0.5);
    let p = r.mul_add(p, 1.0);
    let p = r.mul_add(p, 1.0);
    p * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// The natural logarithm of `x`, positive and normal. Error below 3e-16 absolute or relative.
#[inline(always)]
pub(super) fn ln(x: f64) -> f64 {
    // x = m·2^e with m in [0.75, 1.5).
    const MIDDLE: u64 = 0x3fe8_0000_0000_0000;
    let bits = x.to_bits();
    let exponent = bits.wrapping_sub(MIDDLE) & 0xfff0_0000_0000_0000;
    let m = f64::from_bits(bits.wrapping_sub(exponent));
    // The exponent as a number without a conversion that vectors lack: it lies in the high bits.
    let e = f64::from((exponent as i64 >> 52) as i32);
    // ln m = 2 artanh f, |f| <= 1/5, where the term of degree 25 is below 2e-19.
    let f = (m - 1.0) / (m + 1.0);
    let s = f * f;
    let p = 1.0 / 23.0;
    let p = s.mul_add(p, 1.0 / 21.0);
    let p = s.mul_add(p, 1.0 / 19.0);
    let p = s.mul_add(p, 1.0 / 17.0);
    let p = s.mul_add(p, 1.0 / 15.0);
    let p = s.mul_add(p, 1.0 / 13.0);
    let p = s.mul_add(p, 1.0 / 11.0);
    let p = s.mul_add(p, 1.0 / 9.0);
    let p = s.mul_add(p, 1.0 / 7.0);
    let p = s.mul_add(p, 1.0 / 5.0);
    let p = s.mul_add(p, 1.0 / 3.0);
    let artanh = (s * f).mul_add(p, f);
    e.mul_add(std::f64::consts::LN_2, 2.0 * artanh)
}

/// ln(e^a + e^b + e^c).
#[inline(always)]
pub(super) fn log_add(a: f64, b: f64, c: f64) -> f64 {
    let largest = if a > b { a } else { b };
    let largest = if largest > c { largest } else { c };
    largest + ln(exp(a - largest) + exp(b - largest) + exp(c - largest))
}

/// See [`super::log_softmax`].
pub(super) struct LogSoftmax<'a> {
    pub logits: &'a [f32],
    pub outputs: usize,
    pub log_probs: &'a mut [f64],
}

impl Kernel for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let rows = self.logits.chunks_exact(self.outputs);
        let mut exponentials = vec![0.0; self.outputs];
        for (row, result) in rows.zip(self.log_probs.chunks_exact_mut(self.outputs)) {
            let largest = row
                .iter()
                .fold(f32::NEG_INFINITY, |a, &b| if a > b { a } else { b });
            for ((shifted, exponential), &logit) in
                result.iter_mut().zip(&mut exponentials).zip(row)
            {
                *shifted = f64::from(logit) - f64::from(largest);
                *exponential = exp(*shifted);
            }
            let normalizer = ln(exponentials.iter().sum());
            for shifted in result {
                *shifted -= normalizer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simd::Level;

    #[test]
    fn exponentials_and_logarithms_are_within_their_bounds() {
        for i in -70_000..7_000 {
            let x = f64::from(i) / 100.0;
            let exact = x.exp();
            assert!((exp(x) - exact).abs() <= 4e-16 * exact, "exp({x})");
        }
        for i in 1..100_000 {
            let x = f64::from(i) * 0.001;
            let exact = x.ln();
            assert!(
                (ln(x) - exact).abs() <= 3e-16 * exact.abs().max(1.0),
                "ln({x})"
            );
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(1e-300) - 1e-300f64.ln()).abs() < 1e-12);
        assert!((ln(1e300) - 1e300f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn log_softmax_gives_the_same_bits_at_every_level() {
        let logits: Vec<f32> = (0..33 * 5)
            .map(|i| ((i * 37) % 101) as f32 / 7.0 - 5.0)
            .collect();
        let results: Vec<Vec<u64>> = Level::available()
            .into_iter()
            .map(|level| {
                let mut log_probs = vec![0.0; logits.len()];
                level.run(LogSoftmax {
                    logits: &logits,
                    outputs: 33,
                    log_probs: &mut log_probs,
                });
                for row in log_probs.chunks_exact(33) {
                    assert!((row.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-14);
                }
                log_probs.iter().map(|value| value.to_bits()).collect()
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
