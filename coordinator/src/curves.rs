//! A run's metrics as curves: for each number of `metrics.jsonl`, its value at each step. It
//! decides which line counts when a step was written twice (the later one, written after a resume)
//! and refuses to know what the numbers mean.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

/// Why a run's chart or TensorBoard file could not be written.
#[derive(Debug, Error)]
pub enum CurvesError {
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} line {line}: not a metrics line: {reason}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot draw {}: {reason}", path.display())]
    Draw { path: PathBuf, reason: String },
}

/// A number at each step.
pub type Curve = BTreeMap<u64, f64>;

/// Every curve of a run, by the name of its number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    by_name: BTreeMap<String, Curve>,
}

impl Curves {
    /// Reads `metrics.jsonl`. A last line without its end is one that is being written: it is left
    /// for the next time.
    ///
    /// # Errors
    /// When the file cannot be read, or a complete line is not an object with a `step`.
    pub fn read(path: &Path) -> Result<Self, CurvesError> {
        let text = fs::read_to_string(path).map_err(|source| CurvesError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, reason)| CurvesError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut curves = Self::default();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let fail = |reason: String| (index + 1, reason);
            let value: Value =
                serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            let Value::Object(fields) = value else {
                return Err(fail("an object is wanted".to_owned()));
            };
            let step = fields
                .get("step")
                .and_then(Value::as_u64)
                .ok_or_else(|| fail("it has no `step`".to_owned()))?;
            for (name, value) in &fields {
                if name != "step" {
                    curves.add(name, step, value);
                }
            }
        }
        Ok(curves)
    }

    /// Objects (an epoch's scores, for instance) are taken apart: `score.wer` and so on.
    fn add(&mut self, name: &str, step: u64, value: &Value) {
        match value {
            Value::Number(number) => {
                if let Some(number) = number.as_f64() {
                    self.by_name
                        .entry(name.to_owned())
                        .or_default()
                        .insert(step, number);
                }
            }
            Value::Object(fields) => {
                for (field, value) in fields {
                    self.add(&format!("{name}.{field}"), step, value);
                }
            }
            _ => {}
        }
    }

    /// Adds a value that is not in the file: an epoch's scores, for instance.
    pub fn insert(&mut self, name: &str, step: u64, value: f64) {
        let curve = self.by_name.entry(name.to_owned()).or_default();
        curve.insert(step, value);
    }

    pub fn get(&self, name: &str) -> Option<&Curve> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Curve)> {
        self.by_name
            .iter()
            .map(|(name, curve)| (name.as_str(), curve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_written_twice_counts_as_it_was_written_last() {
        let curves = Curves::parse(
            "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":1,\"loss\":1.5}\n",
        )
        .unwrap();
        let loss: Vec<_> = curves.get("loss").unwrap().iter().collect();
        assert_eq!(loss, [(&1, &1.5), (&2, &2.0)]);
    }

    #[test]
    fn a_line_that_is_still_being_written_is_left_for_later() {
        let curves = Curves::parse("{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"lo").unwrap();
        assert_eq!(curves.get("loss").unwrap().len(), 1);
    }

    #[test]
    fn nested_scores_become_curves_and_nulls_do_not() {
        let curves =
            Curves::parse("{\"step\":4,\"score\":{\"wer\":0.5,\"note\":\"x\"},\"loss\":null}\n")
                .unwrap();
        let names: Vec<_> = curves.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["score.wer"]);
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        let (line, _) = Curves::parse("{\"step\":1}\nnonsense\n").unwrap_err();
        assert_eq!(line, 2);
        let (line, reason) = Curves::parse("{\"loss\":1}\n").unwrap_err();
        assert_eq!((line, reason.as_str()), (1, "it has no `step`"));
    }
}
