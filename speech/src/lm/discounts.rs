//! How much is taken from n-grams that were seen, for those that were not: modified Kneser-Ney's
//! discounts, estimated from how many n-grams were seen once, twice, three and four times
//! (Chen & Goodman 1998, section 3.5, equation 26).

use serde::Serialize;

/// What is taken from counts of 1, of 2, and of 3 or more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Discounts {
    /// The discounts of n-grams that occur once, twice, and three times or more.
    pub values: [f64; 3],
    /// Whether the counts gave no estimate, so that these are [`FALLBACK`](Self::FALLBACK).
    pub fallback: bool,
}

impl Discounts {
    /// Stands where an estimate cannot be: where no n-gram was seen once, twice, three or four times
    /// (a small or an artificial text), or where the estimate takes nothing or more than there is.
    /// These are the numbers of KenLM's `--discount_fallback`.
    pub const FALLBACK: [f64; 3] = [0.5, 1.0, 1.5];

    /// From the counts of all n-grams of a length.
    pub(super) fn estimate(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut seen = [0u64; 4];
        for count in counts {
            if let 1..=4 = count {
                seen[count as usize - 1] += 1;
            }
        }
        let seen = seen.map(|count| count as f64);
        let y = seen[0] / (seen[0] + 2.0 * seen[1]);
        let values = [1, 2, 3].map(|k| k as f64 - (k + 1) as f64 * y * seen[k] / seen[k - 1]);
        // NaN (none seen so often) is within no bounds.
        let sound = seen.iter().all(|&count| count > 0.0)
            && (1..)
                .zip(&values)
                .all(|(k, value)| (0.0..=f64::from(k)).contains(value));
        Self {
            values: if sound { values } else { Self::FALLBACK },
            fallback: !sound,
        }
    }

    /// What is taken from `count`: never more than that.
    pub(super) fn of(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            count => self.values[count.min(3) as usize - 1].min(count as f64),
        }
    }
}
