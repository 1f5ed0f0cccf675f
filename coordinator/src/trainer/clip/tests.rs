//! Norms and clipping by hand, and against the numbers of torch, timm, ZClip, pytorch_optimizer and numpy
//! (`testdata/goldens.py`, `testdata/clipping.py`).

use proptest::prelude::*;
use serde::Deserialize;
use speech::{
    model::{Head, ModelConfig, ModelSpec},
    random::Stream,
};

use super::*;
use crate::trainer::blocks::{BLOCK_ELEMENTS, BlockLayout, squared_norm};
use crate::trainer::passes;

/// L2 norm of `values`, accumulated in f64.
fn global_norm(values: &[f32]) -> f64 {
    squared_norm(values).sqrt()
}

/// A model with matrices, biases and two layers.
fn spec() -> ModelSpec {
    let config = ModelConfig {
        layers: 1,
        hidden: 6,
        head: Head::Ctc,
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, 5, 4)
}

/// Clips a gradient of [`spec`] in place, and takes note of it.
fn step(clipper: &mut Clipper, gradient: &mut [f32], weights: &[f32]) -> Clipped {
    let blocks = BlockLayout::new(&spec(), clipper.parts().rows());
    let weights = clipper.reads_weights().then_some(weights);
    let squares = passes::mean(gradient, 1.0, weights, &blocks);
    let plan = clipper.plan(&squares, &blocks);
    let mut changed = 0;
    for (cut, clipping) in blocks.cuts.iter().zip(&plan.blocks) {
        let block = &mut gradient[cut.clone()];
        let (clipping, scaled) = clipping.rows(block);
        changed += scaled + clipping.block(block);
    }
    clipper.observe(&plan);
    plan.done(changed, gradient.len())
}

/// Clips a gradient of [`spec`] in place.
fn clip(gradient: &mut [f32], config: &ClipConfig) -> Clipped {
    let weights = vec![0.0; gradient.len()];
    step(
        &mut Clipper::new(&spec(), config.clone()),
        gradient,
        &weights,
    )
}

fn normal(elements: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, &[]);
    (0..elements).map(|_| stream.normal() as f32).collect()
}

fn gradient(seed: u64) -> Vec<f32> {
    normal(spec().elements(), seed)
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
    let before = gradient(8);
    let mut after = before.clone();
    let config = ClipConfig {
        policy: ClipPolicy::None,
        ..ClipConfig::default()
    };
    let clipped = clip(&mut after, &config);
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
        let before: Vec<f32> = gradient(8).iter().map(|value| value * scale).collect();
        let mut after = before.clone();
        let config = ClipConfig { max_norm, ..ClipConfig::default() };
        let clipped = clip(&mut after, &config);
        prop_assert!(global_norm(&after) <= max_norm * (1.0 + 1e-6));
        prop_assert_eq!(clipped.clipped, before != after);
        for (before, after) in before.iter().zip(&after) {
            let expected = f64::from(*before) * clipped.coefficient;
            prop_assert!((f64::from(*after) - expected).abs() <= 1e-6 * expected.abs());
        }
    }

    #[test]
    fn the_coefficient_of_any_rule_is_the_norm_after_over_the_norm_before(seed: u64, scale in 1e-3f32..1e3) {
        let before: Vec<f32> = gradient(seed).iter().map(|value| value * scale).collect();
        for policy in [ClipPolicy::Norm, ClipPolicy::Smooth, ClipPolicy::Normalize] {
            for scope in [ClipScope::Global, ClipScope::Layer, ClipScope::Tensor, ClipScope::Unit] {
                let config = ClipConfig { policy, scope, max_norm: 1.5, ..ClipConfig::default() };
                let mut after = before.clone();
                let clipped = clip(&mut after, &config);
                let ratio = global_norm(&after) / global_norm(&before);
                prop_assert!((clipped.coefficient - ratio).abs() <= 1e-6 * ratio, "{:?}", config);
                let changed = before.iter().zip(&after).filter(|(one, other)| one != other);
                // Multiplied by almost 1, an element may keep its bits.
                prop_assert!(changed.count() as f64 <= clipped.share_clamped * before.len() as f64 + 0.5);
            }
        }
    }
}

#[test]
fn a_bound_that_cannot_be_is_named() {
    let of = |change: fn(&mut ClipConfig)| {
        let mut config = ClipConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(
        of(|config| config.max_norm = f64::NAN),
        "`clip.max_norm` is NaN; it must be a finite number of 1e-30 or more"
    );
    for (change, field) in [
        (
            (|config| config.max_norm = 1e-300) as fn(&mut ClipConfig),
            "clip.max_norm",
        ),
        (|config| config.max_value = 0.0, "clip.max_value"),
        (|config| config.ceiling = Some(-1.0), "clip.ceiling"),
        (|config| config.percentile = 0.0, "clip.percentile"),
        (|config| config.percentile = 100.5, "clip.percentile"),
        (
            |config| config.clipping_update_period = 3,
            "clip.clipping_update_period",
        ),
        (|config| config.z_thresh = 0.0, "clip.z_thresh"),
        (|config| config.alpha = 1.0, "clip.alpha"),
        (|config| config.beta = -0.1, "clip.beta"),
        (|config| config.warmup_steps = Some(0), "clip.warmup_steps"),
        (
            |config| config.clip_factor = f64::INFINITY,
            "clip.clip_factor",
        ),
        (
            |config| {
                config.policy = ClipPolicy::Norm;
                config.scope = ClipScope::Unit;
                config.threshold = ClipThreshold::Median;
            },
            "clip.scope",
        ),
    ] {
        let told = of(change);
        assert!(told.starts_with(&format!("`{field}` is ")), "{told}");
    }
}

#[test]
fn a_part_that_is_the_whole_is_clipped_as_the_whole() {
    let mut global = gradient(1);
    let clipped = clip(&mut global, &ClipConfig::default());
    assert!(clipped.clipped);
    let norm = ClipConfig {
        policy: ClipPolicy::Norm,
        ..ClipConfig::default()
    };
    let mut same = gradient(1);
    assert_eq!(clip(&mut same, &norm), clipped);
    assert_eq!(global, same);
}

#[test]
fn each_part_is_held_to_the_bound_by_itself() {
    let spec = spec();
    let before = gradient(2);
    let held = |scope: ClipScope, exempt: &[&str]| {
        let config = ClipConfig {
            policy: ClipPolicy::Norm,
            scope,
            max_norm: 1.0,
            exempt: exempt.iter().map(|&it| it.to_owned()).collect(),
            ..ClipConfig::default()
        };
        let mut after = before.clone();
        clip(&mut after, &config);
        after
    };
    let expected = |part: std::ops::Range<usize>| -> Vec<f32> {
        let norm = global_norm(&before[part.clone()]);
        let factor = (1.0 / (norm + 1e-6)).min(1.0) as f32;
        before[part].iter().map(|value| value * factor).collect()
    };
    let tensors = held(ClipScope::Tensor, &["*_hh_*", "head.bias"]);
    for parameter in &spec.parameters {
        let exempt = parameter.name.contains("_hh_") || parameter.name == "head.bias";
        let range = parameter.range();
        let expected = if exempt {
            before[range.clone()].to_vec()
        } else {
            expected(range.clone())
        };
        assert_eq!(tensors[range], expected, "{}", parameter.name);
    }
    let layers = held(ClipScope::Layer, &[]);
    for layer in spec
        .layers
        .iter()
        .filter(|layer| !layer.parameters.is_empty())
    {
        let range = layer.parameters.clone();
        assert_eq!(layers[range.clone()], expected(range), "{}", layer.name);
    }
    let units = held(ClipScope::Unit, &[]);
    for parameter in &spec.parameters {
        let row = match parameter.shape[..] {
            [_, columns] => columns,
            _ => parameter.elements(),
        };
        for start in parameter.range().step_by(row) {
            let range = start..start + row;
            assert_eq!(units[range.clone()], expected(range), "{}", parameter.name);
        }
    }
}

/// A rule that is restored after any step goes on as if nothing had happened.
#[test]
fn what_a_threshold_remembers_is_all_in_its_state() {
    for threshold in REMEMBERING {
        let config = ClipConfig {
            policy: ClipPolicy::Norm,
            scope: ClipScope::Tensor,
            threshold,
            clipping_update_period: 7,
            warmup_steps: Some(5),
            ..ClipConfig::default()
        };
        let mut unbroken = Clipper::new(&spec(), config.clone());
        let mut broken = unbroken.clone();
        let mut clipped = 0;
        for seed in 0..40 {
            let scale = if seed % 9 == 4 { 30.0 } else { 1.0 };
            let next: Vec<f32> = gradient(seed).iter().map(|value| value * scale).collect();
            let (mut one, mut other) = (next.clone(), next);
            clipped += usize::from(step(&mut unbroken, &mut one, &[]).clipped);
            let state = broken.state();
            broken = Clipper::new(&spec(), config.clone());
            broken.restore(&state);
            step(&mut broken, &mut other, &[]);
            assert_eq!(one, other, "{threshold:?}, step {seed}");
        }
        assert!(clipped > 2, "{threshold:?} clipped {clipped} times");
        // The state of another rule, or of another model, is not taken for one's own.
        for other in REMEMBERING.into_iter().filter(|other| *other != threshold) {
            let config = ClipConfig {
                threshold: other,
                ..config.clone()
            };
            let mut begun = Clipper::new(&spec(), config.clone());
            begun.restore(&unbroken.state()[1..]);
            let anew = Clipper::new(&spec(), config);
            assert_eq!(begun.state(), anew.state(), "{threshold:?}, {other:?}");
        }
    }
}

const REMEMBERING: [ClipThreshold; 4] = [
    ClipThreshold::Percentile,
    ClipThreshold::Median,
    ClipThreshold::ZScore,
    ClipThreshold::MovingAverage,
];

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

/// A golden's gradient, and zeros up to the elements of [`spec`].
fn padded(golden: &[f32]) -> Vec<f32> {
    let mut padded = golden.to_vec();
    padded.resize(spec().elements(), 0.0);
    padded
}

#[test]
fn the_norm_and_the_clipped_gradient_are_torchs() {
    let (mut clipped, mut untouched) = (0, 0);
    for golden in goldens() {
        let config = ClipConfig {
            policy: ClipPolicy::GlobalNorm,
            max_norm: golden.max_norm,
            ..ClipConfig::default()
        };
        let mut gradient = padded(&golden.gradient);
        let outcome = clip(&mut gradient, &config);
        assert!(
            (outcome.norm - golden.norm).abs() <= 1e-6 * golden.norm,
            "{} where torch has {}",
            outcome.norm,
            golden.norm
        );
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
        let mut gradient = padded(&golden.gradient);
        let outcome = clip(&mut gradient, &config);
        assert_eq!(gradient, padded(&golden.by_value));
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

#[derive(Deserialize)]
struct RuleGoldens {
    base: Vec<f32>,
    weights: Vec<f32>,
    /// For each step the factor of each tensor.
    factors: Vec<Vec<f32>>,
    cases: Vec<RuleGolden>,
}

#[derive(Deserialize)]
struct RuleGolden {
    config: ClipConfig,
    /// For each step the norm of each tensor after clipping.
    after: Vec<Vec<f64>>,
}

/// The rules of the literature, as their authors' programs compute them, broken off and restored half way.
#[test]
fn every_rule_is_that_of_its_authors() {
    let text = include_str!("../../../testdata/clipping.json");
    let goldens: RuleGoldens = serde_json::from_str(text).unwrap();
    let spec = spec();
    for RuleGolden { config, after } in goldens.cases {
        assert_eq!(config.validate(), Ok(()));
        let mut clipper = Clipper::new(&spec, config.clone());
        let mut clipped = 0;
        for (number, (factors, expected)) in goldens.factors.iter().zip(&after).enumerate() {
            if number == after.len() / 2 {
                let state = clipper.state();
                clipper = Clipper::new(&spec, config.clone());
                clipper.restore(&state);
            }
            let mut gradient = goldens.base.clone();
            for (parameter, factor) in spec.parameters.iter().zip(factors) {
                let part = &mut gradient[parameter.range()];
                part.iter_mut().for_each(|value| *value *= factor);
            }
            clipped += usize::from(step(&mut clipper, &mut gradient, &goldens.weights).clipped);
            for (parameter, expected) in spec.parameters.iter().zip(expected) {
                let found = global_norm(&gradient[parameter.range()]);
                assert!(
                    (found - expected).abs() <= 1e-5 * expected,
                    "{config:?}, step {number}, {}: {found} where {expected} was expected",
                    parameter.name
                );
            }
        }
        assert!(clipped > 3, "{config:?} clipped {clipped} times");
    }
}
