//! How many bad items of a set (recordings, utterances, lines of a list) may be left out before the
//! whole set is refused. One rule for import, training, evaluation and transcription.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Bad items that a set may lose without being refused whatever its size, in [`MaxBad::Default`].
const DEFAULT_MIN_BAD: usize = 10;

/// The bound on the bad items of a set, in a job `corpus.max_bad`, on the command line `--max-bad`:
/// a count (`25`) or a share (`2%`, in TOML `0.02` as well). `0` refuses the first bad item.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum MaxBad {
    /// 1 % of the set or 10 items, whichever is more, and never more than half of it.
    #[default]
    Default,
    /// So many items.
    Count(usize),
    /// From 0 to 1.
    Share(f64),
}

impl MaxBad {
    /// The bad items that a set of `total` items may have.
    pub fn allowed(self, total: usize) -> usize {
        match self {
            Self::Default => DEFAULT_MIN_BAD.max(total / 100).min(total / 2),
            Self::Count(count) => count,
            Self::Share(share) => (share * total as f64) as usize,
        }
    }

    /// # Errors
    /// When more than the allowed part of `total` items is bad.
    pub fn check(self, bad: usize, total: usize) -> Result<(), TooManyBad> {
        let allowed = self.allowed(total);
        if bad <= allowed {
            return Ok(());
        }
        Err(TooManyBad {
            bad,
            total,
            allowed,
        })
    }

    /// Whether nobody set a bound.
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl JsonSchema for MaxBad {
    fn schema_name() -> Cow<'static, str> {
        "MaxBad".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "number", "string"] })
    }
}

/// More items of a set are bad than may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{bad} of {total} cannot be used, and at most {allowed} may be left out; mend them, or allow more with `--max-bad` (in a job: `corpus.max_bad`)"
)]
pub struct TooManyBad {
    /// Items that cannot be used.
    pub bad: usize,
    /// Items of the set.
    pub total: usize,
    /// Items that may be left out.
    pub allowed: usize,
}

/// A bound that is neither a count nor a share.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is neither a count such as 25 nor a share such as 2%")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct BadBound(String);

impl FromStr for MaxBad {
    type Err = BadBound;

    fn from_str(text: &str) -> Result<Self, BadBound> {
        let bad = || BadBound(text.to_owned());
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| bad());
        };
        let percent: f64 = percent.trim_end().parse().map_err(|_| bad())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(bad());
        }
        Ok(Self::Share(percent / 100.0))
    }
}

impl fmt::Display for MaxBad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("1 % or 10, whichever is more"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

impl Serialize for MaxBad {
    /// [`MaxBad::Default`] has no form of its own: leave the key out.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Default => serializer.serialize_none(),
            Self::Count(count) => serializer.serialize_u64(*count as u64),
            Self::Share(share) => serializer.serialize_f64(*share),
        }
    }
}

impl<'de> Deserialize<'de> for MaxBad {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = MaxBad;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count such as 25, or a share such as 0.02 or \"2%\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<MaxBad, E> {
                let count = usize::try_from(count);
                count
                    .map(MaxBad::Count)
                    .map_err(|_| E::custom("a count is not negative"))
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<MaxBad, E> {
                Ok(MaxBad::Count(usize::try_from(count).unwrap_or(usize::MAX)))
            }

            fn visit_f64<E: de::Error>(self, share: f64) -> Result<MaxBad, E> {
                if (0.0..=1.0).contains(&share) {
                    return Ok(MaxBad::Share(share));
                }
                Err(E::custom("a share is from 0 to 1"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MaxBad, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_grows_with_the_set_and_never_takes_most_of_it() {
        let allowed = |total| MaxBad::Default.allowed(total);
        assert_eq!([0, 1, 3, 20, 999].map(allowed), [0, 0, 1, 10, 10]);
        assert_eq!([2000, 1_000_000].map(allowed), [20, 10_000]);
    }

    #[test]
    fn a_bound_is_a_count_or_a_share() {
        assert_eq!("0".parse(), Ok(MaxBad::Count(0)));
        assert_eq!("25".parse(), Ok(MaxBad::Count(25)));
        assert_eq!("2%".parse(), Ok(MaxBad::Share(0.02)));
        for wrong in ["", "%", "-1", "0.02", "101%", "NaN%", "many"] {
            let told = wrong.parse::<MaxBad>().unwrap_err().to_string();
            assert!(told.contains("a share such as 2%"), "{told}");
        }
        assert_eq!(MaxBad::Share(0.02).allowed(150), 3);
        assert!(MaxBad::Count(0).check(1, 1000).is_err());
        assert!(MaxBad::Count(1).check(1, 1).is_ok());
    }

    #[test]
    fn a_job_says_it_as_a_number_or_a_text() {
        #[derive(Debug, Deserialize)]
        struct Section {
            max_bad: MaxBad,
        }
        let read = |text: &str| toml::from_str::<Section>(text).map(|section| section.max_bad);
        assert_eq!(read("max_bad = 3").unwrap(), MaxBad::Count(3));
        assert_eq!(read("max_bad = 0.5").unwrap(), MaxBad::Share(0.5));
        assert_eq!(read("max_bad = \"2%\"").unwrap(), MaxBad::Share(0.02));
        for wrong in ["max_bad = -1", "max_bad = 1.5", "max_bad = true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
