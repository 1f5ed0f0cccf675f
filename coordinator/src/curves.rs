//! A run's figures as curves: each number of `metrics.jsonl`, and of the evaluations among its
//! events, at each step. It decides which line counts when a step was written twice (the later one)
//! and refuses to know what the numbers mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value, json};
use thiserror::Error;

use crate::events::Lines;

/// Why a run's chart or TensorBoard file could not be written.
#[derive(Debug, Error)]
pub enum CurvesError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} line {line}: not a metrics line: {reason}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
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
    /// Reads the lines in `run_dir`. A last line without its end is one that is being written: it
    /// is left for the next time. Evaluations come out as `valid.loss`, `valid.wer` and so on.
    ///
    /// # Errors
    /// When a file cannot be read, or a complete line is not an object with a `step`.
    pub fn of_run(run_dir: &Path) -> Result<Self, CurvesError> {
        let mut curves = Self::default();
        for lines in [Lines::Metrics, Lines::Events] {
            let path = lines.path(run_dir);
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // Nothing was written yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(CurvesError::Read { path, source }),
            };
            let parsed = curves.parse(lines, &text);
            parsed.map_err(|(line, reason)| CurvesError::Line { path, line, reason })?;
        }
        Ok(curves)
    }

    fn parse(&mut self, lines: Lines, text: &str) -> Result<(), (usize, String)> {
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
            match lines {
                Lines::Metrics => {
                    for (name, value) in fields.iter().filter(|(name, _)| *name != "step") {
                        self.add(name, step, value);
                    }
                }
                Lines::Events if fields.get("event") == Some(&json!("evaluated")) => {
                    let scores = fields.get("score").and_then(Value::as_object);
                    let loss = fields.get("loss").map(|loss| ("loss", loss));
                    let scores = scores.into_iter().flatten();
                    let scores = scores.filter(|(name, _)| *name != "utterances");
                    for (name, value) in scores
                        .map(|(name, value)| (name.as_str(), value))
                        .chain(loss)
                    {
                        self.add(&format!("valid.{name}"), step, value);
                    }
                }
                Lines::Events => {}
            }
        }
        Ok(())
    }

    /// What is no number (a confusion matrix, a flag) has no curve.
    fn add(&mut self, name: &str, step: u64, value: &Value) {
        if let Some(number) = value.as_f64() {
            let curve = self.by_name.entry(name.to_owned()).or_default();
            curve.insert(step, number);
        }
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

    fn parse(lines: Lines, text: &str) -> Result<Curves, (usize, String)> {
        let mut curves = Curves::default();
        curves.parse(lines, text).map(|()| curves)
    }

    #[test]
    fn a_step_written_twice_counts_as_it_was_written_last() {
        let text =
            "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":1,\"loss\":1.5}\n";
        let curves = parse(Lines::Metrics, text).unwrap();
        let loss: Vec<_> = curves.get("loss").unwrap().iter().collect();
        assert_eq!(loss, [(&1, &1.5), (&2, &2.0)]);
    }

    #[test]
    fn a_line_that_is_still_being_written_is_left_for_later() {
        let text = "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"lo";
        let curves = parse(Lines::Metrics, text).unwrap();
        assert_eq!(curves.get("loss").unwrap().len(), 1);
    }

    #[test]
    fn evaluations_become_curves_and_other_events_do_not() {
        let text = concat!(
            "{\"step\":4,\"event\":\"evaluated\",\"loss\":0.5,\"score\":{\"utterances\":9,\"wer\":0.25}}\n",
            "{\"step\":4,\"event\":\"left-out\",\"loss\":0.125}\n"
        );
        let curves = parse(Lines::Events, text).unwrap();
        let found: Vec<_> = curves
            .iter()
            .map(|(name, curve)| (name, curve[&4]))
            .collect();
        assert_eq!(found, [("valid.loss", 0.5), ("valid.wer", 0.25)]);
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        let (line, _) = parse(Lines::Metrics, "{\"step\":1}\nnonsense\n").unwrap_err();
        assert_eq!(line, 2);
        let (line, reason) = parse(Lines::Metrics, "{\"loss\":1}\n").unwrap_err();
        assert_eq!((line, reason.as_str()), (1, "it has no `step`"));
    }

    #[test]
    fn a_run_that_wrote_nothing_has_no_curves() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Curves::of_run(dir.path()).unwrap(), Curves::default());
    }
}
