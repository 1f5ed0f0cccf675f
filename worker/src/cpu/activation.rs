//! Exponential, logistic, hyperbolic tangent and what is positive of vectors. It decides their accuracy.
//!
//! Error bounds, checked by the tests against f64: `exp` 2 units in the last place on [-87, 88]
//! (arguments beyond are clamped to it); `sigmoid` 1.5e-7 absolute and 1e-6 relative above -88;
//! `tanh` 2.5e-7 relative.

use simd::Lanes;

/// e to the power of `x`: Cephes' `expf` (Moshier), range reduction by ln 2 in two parts.
#[inline(always)]
pub fn exp<V: Lanes>(x: V) -> V {
    let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(V::splat(-0.693_359_4), x);
    let r = n.mul_add(V::splat(2.121_944_4e-4), r);
    let p = V::splat(1.987_569_1e-4);
    let p = p.mul_add(r, V::splat(1.398_2e-3));
    let p = p.mul_add(r, V::splat(8.333_452e-3));
    let p = p.mul_add(r, V::splat(4.166_579_6e-2));
    let p = p.mul_add(r, V::splat(0.166_666_65));
    let p = p.mul_add(r, V::splat(0.5));
    let p = p.mul_add(r.mul(r), r.add(V::splat(1.0)));
    p.mul(n.exp2_integer())
}

/// 1 / (1 + e^-x). A NaN stays one.
#[inline(always)]
pub fn sigmoid<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    // exp clamps, and so would hide a NaN: x - x is 0 or NaN (or NaN for an infinity, as torch
    // never gives; the caller's activations are finite or the step is quarantined).
    let negated = V::splat(0.0).sub(x);
    one.div(one.add(exp(negated))).add(x.sub(x))
}

/// The hyperbolic tangent: an odd polynomial (Cephes' `tanhf`) below 0.625, from the exponential
/// above. A NaN stays one.
#[inline(always)]
pub fn tanh<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    let magnitude = x.abs();
    let large = one.sub(V::splat(2.0).div(exp(magnitude.add(magnitude)).add(one)));
    let large = large.copy_sign(x);
    let square = x.mul(x);
    let p = V::splat(-5.704_988_7e-3);
    let p = p.mul_add(square, V::splat(2.063_909e-2));
    let p = p.mul_add(square, V::splat(-5.373_971_6e-2));
    let p = p.mul_add(square, V::splat(0.133_314_42));
    let p = p.mul_add(square, V::splat(-0.333_332_8));
    let small = p.mul(square).mul_add(x, x);
    small
        .where_less(magnitude, V::splat(0.625), large)
        .add(x.sub(x))
}

/// What is positive of `x`. A NaN stays one.
#[inline(always)]
pub fn relu<V: Lanes>(x: V) -> V {
    // `max` gives its argument where either is NaN.
    V::splat(0.0).max(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simd::{Kernel, Level};

    enum Function {
        Exp,
        Sigmoid,
        Tanh,
    }

    /// Applies a function to `values`, whose number is a multiple of 16.
    struct Apply<'a>(&'a Function, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Lanes>(self) {
            for chunk in self.1.chunks_exact_mut(V::LANES) {
                let x = V::load(chunk);
                let y = match self.0 {
                    Function::Exp => exp(x),
                    Function::Sigmoid => sigmoid(x),
                    Function::Tanh => tanh(x),
                };
                y.store(chunk);
            }
        }
    }

    fn grid() -> Vec<f32> {
        let mut values: Vec<f32> = (0..1 << 17).map(|i| (i as f32 - 65536.0) / 745.0).collect();
        values.extend((0..4096).map(|i| (i as f32 - 2048.0) * 1e-6));
        values
    }

    #[test]
    fn errors_stay_within_the_stated_bounds() {
        for level in Level::available() {
            let inputs = grid();
            for function in [Function::Exp, Function::Sigmoid, Function::Tanh] {
                let mut outputs = inputs.clone();
                level.run(Apply(&function, &mut outputs));
                for (&x, &y) in inputs.iter().zip(&outputs) {
                    let (x, y) = (f64::from(x), f64::from(y));
                    match function {
                        Function::Exp => {
                            let error = (y - x.clamp(-87.0, 88.0).exp()).abs() / y;
                            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}) {error:e}");
                        }
                        Function::Sigmoid => {
                            let exact = 1.0 / (1.0 + (-x.max(-88.0)).exp());
                            let error = (y - exact).abs();
                            assert!(error <= 1.5e-7 && error <= 1e-6 * exact, "sigmoid({x})");
                        }
                        Function::Tanh => {
                            let error = (y - x.tanh()).abs();
                            assert!(error <= 2.5e-7 * x.tanh().abs(), "tanh({x}) {error:e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_bits_and_keeps_a_nan() {
        for function in [Function::Exp, Function::Sigmoid, Function::Tanh] {
            let results: Vec<Vec<u32>> = Level::available()
                .into_iter()
                .map(|level| {
                    let mut values = grid();
                    level.run(Apply(&function, &mut values));
                    values.iter().map(|value| value.to_bits()).collect()
                })
                .collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
        for level in Level::available() {
            for function in [Function::Sigmoid, Function::Tanh] {
                let mut values = vec![f32::NAN; 16];
                level.run(Apply(&function, &mut values));
                assert!(values.iter().all(|value| value.is_nan()));
            }
        }
    }
}
