//! Norms and clipping by hand, and against torch's numbers (`testdata/goldens.py`).

use proptest::prelude::*;
use serde::Deserialize;
use speech::random::Stream;

use super::*;

/// L2 norm of `values`, accumulated in f64.
fn global_norm(values: &[f32]) -> f64 {
    squared_norm(values).sqrt()
}

/// Clips `gradient`, whose norm is `norm`, in place.
fn clip(gradient: &mut [f32], norm: f64, config: &ClipConfig) -> Clipped {
    let (clipping, coefficient) = Clipping::new(norm, config);
    let clamped = gradient
        .par_chunks_mut(BLOCK_ELEMENTS)
        .map(|block| clipping.block(block))
        .sum();
    clipping.done(norm, coefficient, clamped, gradient.len())
}

#[derive(Deserialize)]
struct Goldens {
    clipping: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    gradient: Vec<f32>,
    max_norm: f64,
    max_value: f64,
    norm: f64,
    by_norm: Vec<f32>,
    by_value: Vec<f32>,
}

fn goldens() -> Vec<Golden> {
    let text = include_str!("../../../testdata/goldens.json");
    let goldens: Goldens = serde_json::from_str(text).unwrap();
    goldens.clipping
}

fn gradient(elements: usize) -> Vec<f32> {
    let mut stream = Stream::new(8, &[]);
    (0..elements).map(|_| stream.normal() as f32).collect()
}

#[test]
fn the_norm_is_the_same_on_any_number_of_threads() {
    let gradient = gradient(5 * BLOCK_ELEMENTS + 12_345);
    let norms = [1, 2, 3, 7].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| global_norm(&gradient)).to_bits()
    });
    assert_eq!(norms, [norms[0]; 4]);
    let plain: f64 = gradient.iter().map(|&value| f64::from(value).powi(2)).sum();
    assert!((f64::from_bits(norms[0]) - plain.sqrt()).abs() < 1e-9 * plain.sqrt());
}

#[test]
fn the_squared_norm_is_finite_exactly_when_the_elements_are() {
    let mut gradient = vec![f32::MAX; 2 * BLOCK_ELEMENTS];
    assert!(squared_norm(&gradient).is_finite());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        gradient[BLOCK_ELEMENTS + 5] = bad;
        assert!(!squared_norm(&gradient).is_finite());
    }
}

#[test]
fn without_a_policy_nothing_changes() {
    let before = gradient(100);
    let mut after = before.clone();
    let config = ClipConfig {
        policy: ClipPolicy::None,
        ..ClipConfig::default()
    };
    let clipped = clip(&mut after, 9.0, &config);
    assert_eq!(
        (after, clipped.clipped, clipped.coefficient),
        (before, false, 1.0)
    );
}

proptest! {
    #[test]
    fn a_clipped_gradient_points_where_it_did_and_is_no_longer_than_the_bound(
        scale in 1e-3f32..1e6, max_norm in 1e-2f64..1e3,
    ) {
        let before: Vec<f32> = gradient(300).iter().map(|value| value * scale).collect();
        let norm = global_norm(&before);
        let mut after = before.clone();
        let config = ClipConfig { max_norm, ..ClipConfig::default() };
        let clipped = clip(&mut after, norm, &config);
        prop_assert!(global_norm(&after) <= max_norm * (1.0 + 1e-6));
        prop_assert_eq!(clipped.clipped, before != after);
        for (before, after) in before.iter().zip(&after) {
            let expected = f64::from(*before) * clipped.coefficient;
            prop_assert!((f64::from(*after) - expected).abs() <= 1e-6 * expected.abs());
        }
    }
}

#[test]
fn a_bound_that_cannot_be_is_named() {
    let config = ClipConfig {
        max_norm: f64::NAN,
        ..ClipConfig::default()
    };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "`clip.max_norm` is NaN; it must be a finite number above 0"
    );
}
#[test]
fn the_norm_and_the_clipped_gradient_are_torchs() {
    let (mut clipped, mut untouched) = (0, 0);
    for golden in goldens() {
        let norm = global_norm(&golden.gradient);
        assert!(
            (norm - golden.norm).abs() <= 1e-6 * golden.norm,
            "{norm} where torch has {}",
            golden.norm
        );
        let config = ClipConfig {
            policy: ClipPolicy::GlobalNorm,
            max_norm: golden.max_norm,
            ..ClipConfig::default()
        };
        let mut gradient = golden.gradient.clone();
        let outcome = clip(&mut gradient, norm, &config);
        for (found, expected) in gradient.iter().zip(&golden.by_norm) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected.abs(),
                "{found} where torch has {expected}"
            );
        }
        assert_eq!(outcome.clipped, golden.norm > golden.max_norm);
        if outcome.clipped {
            clipped += 1
        } else {
            untouched += 1
        }
    }
    assert!(clipped > 0 && untouched > 0, "the goldens show both cases");
}

#[test]
fn values_are_clamped_exactly_as_torch_does() {
    for golden in goldens() {
        let config = ClipConfig {
            policy: ClipPolicy::Value,
            max_value: golden.max_value,
            ..ClipConfig::default()
        };
        let mut gradient = golden.gradient.clone();
        let norm = global_norm(&gradient);
        let outcome = clip(&mut gradient, norm, &config);
        assert_eq!(gradient, golden.by_value);
        let changed = gradient
            .iter()
            .zip(&golden.gradient)
            .filter(|(new, old)| new != old);
        let share = changed.count() as f64 / gradient.len() as f64;
        assert_eq!(
            (outcome.share_clamped, outcome.clipped),
            (share, share > 0.0)
        );
    }
}
