//! What a synthetic corpus should be: the configuration, its defaults and its limits. It makes nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

use super::SynthError;

/// What is said in each utterance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One digit.
    #[default]
    Digits,
    /// A string of `min_digits` to `max_digits` digits (for `model.head = "ctc"`).
    DigitStrings,
}

/// The `[corpus.synthetic]` section of a job: spoken digits made by the built-in formant synthesiser (after
/// Klatt 1980), in place of manifests. Equal settings give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticConfig {
    /// What is said in each utterance.
    pub task: Task,
    /// The number of training utterances; with `valid` at most 1,000,000.
    #[schemars(range(min = 1, max = MAX_UTTERANCES), example = 400)]
    pub train: usize,
    /// The number of validation utterances.
    #[schemars(range(min = 1, max = MAX_UTTERANCES), example = 100)]
    pub valid: usize,
    /// The number of speakers of the training utterances, at most one an utterance.
    #[schemars(range(min = 1), example = 20)]
    pub speakers: usize,
    /// The number of speakers of the validation utterances, who are others than the training speakers.
    #[schemars(range(min = 1), example = 5)]
    pub valid_speakers: usize,
    /// The seed of everything that is drawn: another seed gives another corpus.
    #[schemars(example = 7)]
    pub seed: u64,
    /// The sampling rate in Hz.
    #[schemars(range(min = 8000, max = 48000), example = 16000)]
    pub sample_rate: u32,
    /// The range `[low, high]` of the signal-to-noise ratio in decibels, drawn for each utterance.
    #[schemars(inner(range(min = -10, max = 100)), example = vec![15.0, 30.0])]
    pub snr_db: [f64; 2],
    /// The fewest digits of an utterance of the task `"digit-strings"`.
    #[schemars(range(min = 1), example = 1)]
    pub min_digits: usize,
    /// The most digits of an utterance of the task `"digit-strings"`; at least `min_digits`.
    #[schemars(range(min = 1, max = MAX_DIGITS), example = 4)]
    pub max_digits: usize,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            task: Task::Digits,
            train: 1500,
            valid: 300,
            speakers: 40,
            valid_speakers: 10,
            seed: 1,
            sample_rate: 8000,
            snr_db: [10.0, 30.0],
            min_digits: 2,
            max_digits: 6,
        }
    }
}

const MAX_UTTERANCES: usize = 1_000_000;
const MAX_DIGITS: usize = 50;
/// The most bytes of the sound of a corpus.
const MAX_BYTES: u64 = 64 << 30;
const RATES: std::ops::RangeInclusive<u32> = 8000..=48_000;
const SNRS: std::ops::RangeInclusive<f64> = -10.0..=100.0;

fn refuse(field: &'static str, value: impl Display, rule: impl Into<String>) -> SynthError {
    SynthError::Config {
        field,
        value: value.to_string(),
        rule: rule.into(),
    }
}

impl SyntheticConfig {
    /// About how many bytes the sound files take.
    pub fn bytes(&self) -> u64 {
        /// A digit takes as long, with what is silent around it.
        const SECONDS: f64 = 0.7;
        const SAMPLE_BYTES: f64 = 2.0;
        let digits = match self.task {
            Task::Digits => 1.0,
            Task::DigitStrings => (self.min_digits + self.max_digits) as f64 / 2.0,
        };
        let seconds = (self.train + self.valid) as f64 * digits * SECONDS;
        (seconds * f64::from(self.sample_rate) * SAMPLE_BYTES) as u64
    }

    /// Checks every field; the error names the first that is wrong.
    pub fn validate(&self) -> Result<(), SynthError> {
        for (field, value) in [("train", self.train), ("valid", self.valid)] {
            if value == 0 {
                return Err(refuse(field, value, "at least one utterance is needed"));
            }
            if value > MAX_UTTERANCES {
                return Err(refuse(field, value, format!("at most {MAX_UTTERANCES}")));
            }
        }
        if self.train + self.valid > MAX_UTTERANCES {
            let rule = format!(
                "`train` and `valid` together make {}, at most {MAX_UTTERANCES}",
                self.train + self.valid
            );
            return Err(refuse("train", self.train, rule));
        }
        for (field, value, utterances, of) in [
            ("speakers", self.speakers, self.train, "train"),
            ("valid_speakers", self.valid_speakers, self.valid, "valid"),
        ] {
            if value == 0 {
                return Err(refuse(field, value, "at least one speaker is needed"));
            }
            if value > utterances {
                let rule = format!("at most one speaker an utterance, and `{of}` is {utterances}");
                return Err(refuse(field, value, rule));
            }
        }
        if !RATES.contains(&self.sample_rate) {
            let rule = format!("from {} to {} Hz", RATES.start(), RATES.end());
            return Err(refuse("sample_rate", self.sample_rate, rule));
        }
        let [low, high] = self.snr_db;
        // Written so that a NaN is refused.
        if !(SNRS.contains(&low) && SNRS.contains(&high) && low <= high) {
            let rule = format!(
                "two levels between {} and {} dB, the lower one first",
                SNRS.start(),
                SNRS.end()
            );
            return Err(refuse("snr_db", format!("[{low}, {high}]"), rule));
        }
        if self.min_digits == 0 {
            return Err(refuse("min_digits", 0, "at least one digit is said"));
        }
        if self.max_digits < self.min_digits || self.max_digits > MAX_DIGITS {
            let rule = format!("from `min_digits` ({}) to {MAX_DIGITS}", self.min_digits);
            return Err(refuse("max_digits", self.max_digits, rule));
        }
        if self.bytes() > MAX_BYTES {
            let rule = format!(
                "with `sample_rate` and digits as they are, that is about {} GiB of sound, and {} GiB are the most",
                self.bytes() >> 30,
                MAX_BYTES >> 30
            );
            return Err(refuse("train", self.train, rule));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        SyntheticConfig::default().validate().unwrap();
    }

    #[test]
    fn keys_are_snake_case_and_tasks_are_kebab_case() {
        let config: SyntheticConfig =
            toml::from_str("task = \"digit-strings\"\nvalid_speakers = 3\nsnr_db = [10, 20.5]")
                .unwrap();
        assert_eq!(config.task, Task::DigitStrings);
        assert_eq!(config.valid_speakers, 3);
        assert_eq!(config.snr_db, [10.0, 20.5]);
        assert_eq!(config.train, SyntheticConfig::default().train);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<SyntheticConfig>("sample-rate = 8000").unwrap_err();
        assert!(error.to_string().contains("sample-rate"), "{error}");
    }

    #[test]
    fn every_refusal_names_its_field() {
        let base = SyntheticConfig::default;
        let wrong = [
            ("train", SyntheticConfig { train: 0, ..base() }),
            (
                "train",
                SyntheticConfig {
                    train: usize::MAX,
                    ..base()
                },
            ),
            (
                "train",
                SyntheticConfig {
                    train: 999_701,
                    ..base()
                },
            ),
            ("valid", SyntheticConfig { valid: 0, ..base() }),
            (
                "speakers",
                SyntheticConfig {
                    speakers: 0,
                    ..base()
                },
            ),
            (
                "speakers",
                SyntheticConfig {
                    speakers: 1501,
                    ..base()
                },
            ),
            (
                "valid_speakers",
                SyntheticConfig {
                    valid_speakers: 0,
                    ..base()
                },
            ),
            (
                "valid_speakers",
                SyntheticConfig {
                    valid_speakers: 301,
                    ..base()
                },
            ),
            (
                "sample_rate",
                SyntheticConfig {
                    sample_rate: 7999,
                    ..base()
                },
            ),
            (
                "sample_rate",
                SyntheticConfig {
                    sample_rate: 48_001,
                    ..base()
                },
            ),
            (
                "snr_db",
                SyntheticConfig {
                    snr_db: [20.0, 10.0],
                    ..base()
                },
            ),
            (
                "snr_db",
                SyntheticConfig {
                    snr_db: [f64::NAN, 10.0],
                    ..base()
                },
            ),
            (
                "snr_db",
                SyntheticConfig {
                    snr_db: [0.0, f64::INFINITY],
                    ..base()
                },
            ),
            (
                "min_digits",
                SyntheticConfig {
                    min_digits: 0,
                    ..base()
                },
            ),
            (
                "max_digits",
                SyntheticConfig {
                    max_digits: 1,
                    ..base()
                },
            ),
            (
                "max_digits",
                SyntheticConfig {
                    max_digits: 51,
                    ..base()
                },
            ),
        ];
        for (name, config) in wrong {
            match config.validate() {
                Err(SynthError::Config { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let most = SyntheticConfig {
            train: 999_700,
            ..base()
        };
        most.validate().unwrap();
    }
}
