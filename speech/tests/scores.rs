//! Error counts against jiwer's on ten thousand pairs (`testdata/pairs.py`), intervals and p-values against
//! scipy's (`testdata/significance.py`).

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use serde::Deserialize;
use speech::{
    random::Stream,
    score::{
        ErrorCounts,
        bootstrap::{self, Sample},
        char_errors,
        significance::{matched_pairs, mcnemar},
        word_errors,
    },
};

const WORDS: [&str; 13] = [
    "a", "b", "c", "yes", "no", "go", "stop", "one", "two", "three", "four", "fünf", "ÉTÉ",
];

/// Pair `number` of the generator in `testdata/pairs.py`.
fn pair(number: u64) -> (String, String) {
    let mut stream = Stream::new(10_000, &[number]);
    let word = |stream: &mut Stream| WORDS[stream.below(13) as usize];
    let words = |stream: &mut Stream| -> Vec<&str> {
        let count = stream.below(16);
        (0..count).map(|_| word(stream)).collect()
    };
    let reference = words(&mut stream);
    if stream.below(4) == 0 {
        return (reference.join(" "), words(&mut stream).join(" "));
    }
    let mut hypothesis = Vec::new();
    for &said in &reference {
        let chance = stream.below(10);
        if chance == 0 {
            continue;
        }
        hypothesis.push(if chance < 3 { word(&mut stream) } else { said });
        if chance == 9 {
            hypothesis.push(word(&mut stream));
        }
    }
    (reference.join(" "), hypothesis.join(" "))
}

#[test]
fn ten_thousand_pairs_have_the_errors_that_jiwer_counts() {
    let goldens: Vec<[u64; 7]> =
        serde_json::from_str(include_str!("../testdata/pairs.json")).unwrap();
    assert_eq!(goldens.len(), 100);
    for (block, golden) in (0..).zip(goldens) {
        let mut found = [0; 7];
        let mut digest = 0xcbf2_9ce4_8422_2325u64;
        for number in 100 * block..100 * (block + 1) {
            let (reference, hypothesis) = pair(number);
            let counts = |of: ErrorCounts| [of.substitutions, of.deletions, of.insertions];
            let words = counts(word_errors(&reference, &hypothesis));
            let characters = counts(char_errors(&reference, &hypothesis));
            for (place, count) in words.into_iter().chain(characters).enumerate() {
                found[place] += count;
                digest = (digest ^ count).wrapping_mul(0x0100_0000_01b3);
            }
        }
        found[6] = digest;
        assert_eq!(found, golden, "pairs {} and on", 100 * block);
    }
}

#[derive(Deserialize)]
struct Comparison {
    reference: Vec<u64>,
    first: Vec<u64>,
    second: Vec<u64>,
    interval: [f64; 2],
    difference: [f64; 2],
    z: f64,
    matched_pairs: f64,
    mcnemar: f64,
}

#[test]
fn intervals_and_p_values_are_scipys() {
    let goldens: Vec<Comparison> =
        serde_json::from_str(include_str!("../testdata/significance.json")).unwrap();
    assert_eq!(goldens.len(), 4);
    for golden in goldens {
        let samples = |errors: &[u64]| -> Vec<Sample> {
            let pairs = errors.iter().zip(&golden.reference);
            let sample = |(&errors, &reference): (&u64, &u64)| Sample { errors, reference };
            pairs.map(sample).collect()
        };
        let (first, second) = (samples(&golden.first), samples(&golden.second));
        // Two bootstraps with other draws: within a twentieth of the interval's width.
        let near = |low: f64, high: f64, expected: [f64; 2]| {
            let width = expected[1] - expected[0];
            let far = (low - expected[0]).abs().max((high - expected[1]).abs());
            assert!(
                far < 0.05 * width,
                "{low} {high} where scipy has {expected:?}"
            );
        };
        let interval = bootstrap::interval(&first).unwrap();
        near(interval.low, interval.high, golden.interval);
        let difference = bootstrap::difference(&first, &second).unwrap();
        let interval = difference.interval;
        near(interval.low, interval.high, golden.difference);
        assert!(interval.low < difference.value && difference.value < interval.high);
        // One side of the same distribution as the test's two.
        let p = golden.matched_pairs / 2.0;
        let worse = if golden.z < 0.0 {
            1.0 - difference.improves
        } else {
            difference.improves
        };
        assert!((worse - p).abs() < 0.02, "{worse} {p}");

        let test = matched_pairs(&first, &second).unwrap();
        assert!((test.statistic / golden.z - 1.0).abs() < 1e-12);
        assert!((test.p_value / golden.matched_pairs - 1.0).abs() < 1e-9);
        let test = mcnemar(&first, &second);
        assert!((test.p_value / golden.mcnemar - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_interval_is_the_same_whoever_computes_it() {
    let samples: Vec<Sample> = (0..50)
        .map(|number| Sample {
            errors: number % 3,
            reference: 4,
        })
        .collect();
    let pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build()
            .unwrap()
            .install(|| bootstrap::interval(&samples))
    };
    let expected = pool(1).unwrap();
    assert_eq!(pool(3), Some(expected));
    assert!(expected.low < 0.25 && 0.25 < expected.high);
    assert_eq!(bootstrap::interval(&samples[..1]), None);
}
