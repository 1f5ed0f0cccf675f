//! Whether two systems differ by more than chance on the same utterances: the matched-pairs test for error
//! counts and McNemar's test for right or wrong. Each gives a two-sided p-value; what it is called
//! significant at is for others to say.

use serde::{Deserialize, Serialize};

use super::bootstrap::Sample;

/// A test and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Which test it is.
    pub name: TestName,
    /// The probability of a difference at least as large if both systems were alike.
    pub p_value: f64,
    /// Standard deviations from no difference (matched pairs), or utterances that the systems disagree
    /// about (McNemar).
    pub statistic: f64,
}

/// A significance test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestName {
    /// Gillick & Cox 1989, with utterances as segments.
    MatchedPairs,
    /// McNemar 1947, exact.
    Mcnemar,
}

/// Compares the errors of two systems utterance by utterance: z is the mean difference over its standard
/// error, and p follows from the normal distribution. `None` for fewer than two utterances.
pub fn matched_pairs(first: &[Sample], second: &[Sample]) -> Option<TestResult> {
    let count = first.len().min(second.len());
    if count < 2 {
        return None;
    }
    let pairs = || first.iter().zip(second);
    let differences = pairs().map(|(a, b)| b.errors as f64 - a.errors as f64);
    let mean = differences.clone().sum::<f64>() / count as f64;
    let squares: f64 = differences
        .map(|difference| (difference - mean).powi(2))
        .sum();
    let deviation = (squares / (count - 1) as f64 / count as f64).sqrt();
    let statistic = match (mean, deviation) {
        (0.0, _) => 0.0,
        (mean, deviation) => mean / deviation,
    };
    Some(TestResult {
        name: TestName::MatchedPairs,
        p_value: erfc(statistic.abs() / std::f64::consts::SQRT_2),
        statistic,
    })
}

/// Compares two systems that are right or wrong about each utterance: of those that only one is right
/// about, how uneven is the split? Exact, from the binomial distribution.
pub fn mcnemar(first: &[Sample], second: &[Sample]) -> TestResult {
    let (mut lost, mut won) = (0u64, 0u64);
    for (a, b) in first.iter().zip(second) {
        match (a.errors > 0, b.errors > 0) {
            (false, true) => lost += 1,
            (true, false) => won += 1,
            _ => {}
        }
    }
    let (trials, fewer) = (lost + won, lost.min(won));
    // ln of C(trials, k) / 2^trials, from one k to the next.
    let mut term = -(trials as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += term.exp();
        term += ((trials - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    TestResult {
        name: TestName::Mcnemar,
        p_value: if lost == won {
            1.0
        } else {
            (2.0 * tail).min(1.0)
        },
        statistic: trials as f64,
    }
}

/// The complementary error function for x of 0 or more: Taylor's series where it converges quickly, and
/// Laplace's continued fraction beyond (Abramowitz & Stegun 7.1.5 and 7.1.14).
fn erfc(x: f64) -> f64 {
    const MIDDLE: f64 = 2.5;
    let two_over_root_pi = std::f64::consts::FRAC_2_SQRT_PI;
    if x < MIDDLE {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (1.0 - two_over_root_pi * sum).clamp(0.0, 1.0);
    }
    let fraction = (1..=80)
        .rev()
        .fold(0.0, |below, n| f64::from(n) / 2.0 / (x + below));
    0.5 * two_over_root_pi * (-x * x).exp() / (x + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(errors: &[u64]) -> Vec<Sample> {
        let sample = |&errors: &u64| Sample {
            errors,
            reference: 1,
        };
        errors.iter().map(sample).collect()
    }

    #[test]
    fn systems_that_are_alike_do_not_differ() {
        let one = samples(&[0, 1, 2, 0]);
        assert_eq!(matched_pairs(&one, &one).unwrap().p_value, 1.0);
        assert_eq!(mcnemar(&one, &one).p_value, 1.0);
        assert_eq!(matched_pairs(&one[..1], &one[..1]), None);
    }

    #[test]
    fn always_the_same_difference_is_certain() {
        let test = matched_pairs(&samples(&[1, 1, 1]), &samples(&[0, 0, 0])).unwrap();
        assert_eq!((test.p_value, test.statistic), (0.0, f64::NEG_INFINITY));
    }

    #[test]
    fn both_halves_of_the_error_function_meet() {
        let below = erfc(2.5 - 1e-12);
        assert!((below / erfc(2.5) - 1.0).abs() < 1e-10);
        assert_eq!(erfc(0.0), 1.0);
    }
}
