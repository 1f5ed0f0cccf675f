//! A run's figures over its steps in bounded memory, whatever the number of steps: each is a series of at
//! most [`MAX_POINTS`] points, thinned by keeping the smallest and the largest value of each stretch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::records::events::LineFile;

/// The most points that a series gives: more would not be seen in a chart, and make its file heavy.
pub const MAX_POINTS: usize = 1500;

/// A step and the value there.
pub type Point = (u64, f64);

/// Values in the order of steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Values that a full stretch stands for: a power of two; 0 of an empty series.
    width: u64,
    /// In order of steps.
    bins: Vec<Bin>,
    last_step: u64,
}

/// Neighbouring values, of which the smallest and the largest are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bin {
    first_step: u64,
    count: u64,
    low: Point,
    high: Point,
}

impl Bin {
    fn merge(&mut self, later: &Self) {
        self.count += later.count;
        if later.low.1 < self.low.1 {
            self.low = later.low;
        }
        if later.high.1 > self.high.1 {
            self.high = later.high;
        }
    }

    /// The kept values by step; one where they are the same.
    fn points(&self) -> impl Iterator<Item = Point> + use<> {
        let (first, second) = if self.low.0 <= self.high.0 {
            (self.low, self.high)
        } else {
            (self.high, self.low)
        };
        std::iter::once(first).chain((first != second).then_some(second))
    }
}

impl Series {
    /// Adds the value at `step`. Steps rise; when one comes again, because a run was taken up from an
    /// earlier checkpoint, the values from there on are forgotten first.
    pub fn push(&mut self, step: u64, value: f64) {
        if !self.bins.is_empty() && step <= self.last_step {
            self.forget_from(step);
        }
        self.last_step = step;
        self.width = self.width.max(1);
        let one = Bin {
            first_step: step,
            count: 1,
            low: (step, value),
            high: (step, value),
        };
        match self.bins.last_mut() {
            Some(last) if last.count < self.width => last.merge(&one),
            _ => self.bins.push(one),
        }
        while self.bins.len() * self.width.min(2) as usize > MAX_POINTS {
            self.halve();
        }
    }

    /// Joins neighbouring stretches.
    fn halve(&mut self) {
        self.width *= 2;
        let pairs = self.bins.chunks(2);
        self.bins = pairs
            .map(|pair| {
                let mut joined = pair[0];
                pair[1..].iter().for_each(|later| joined.merge(later));
                joined
            })
            .collect();
    }

    /// Removes the values of `step` and later ones. Of a stretch that reaches across, what is kept of
    /// it before `step` stays.
    fn forget_from(&mut self, step: u64) {
        while let Some(last) = self.bins.last_mut() {
            if last.first_step < step {
                let kept = [last.low, last.high];
                let mut kept = kept.into_iter().filter(|point| point.0 < step);
                match (kept.next(), kept.next()) {
                    (Some(_), Some(_)) => {}
                    (Some(only), None) => (last.low, last.high) = (only, only),
                    (None, _) => {
                        self.bins.pop();
                    }
                }
                return;
            }
            self.bins.pop();
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// At most [`MAX_POINTS`] of the values, by step; all of them where they are so few.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        self.bins.iter().flat_map(Bin::points)
    }

    /// The first and the last step.
    pub fn steps(&self) -> Option<(u64, u64)> {
        let first = self.bins.first()?.first_step;
        Some((first, self.last_step))
    }
}

/// Series by the names of their figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Curves {
    by_name: BTreeMap<String, Series>,
}

impl Curves {
    /// Adds a value behind those that the series `name` has; the first one begins the series.
    pub fn push(&mut self, name: &str, step: u64, value: f64) {
        match self.by_name.get_mut(name) {
            Some(series) => series.push(step, value),
            None => {
                let mut series = Series::default();
                series.push(step, value);
                self.by_name.insert(name.to_owned(), series);
            }
        }
    }

    /// The series of the figure `name`; `None` where it never had a value.
    pub fn get(&self, name: &str) -> Option<&Series> {
        self.by_name.get(name)
    }
}

/// The figures of one line.
#[derive(Debug, PartialEq)]
pub struct LineFigures {
    /// The step that the line is about, or that was done when it was written.
    pub step: u64,
    /// Figures by name; those of the validation set begin with `valid.`.
    pub values: Vec<(String, f64)>,
}

/// Reads a line of `metrics.jsonl` or `events.jsonl`: every number of the one; of the other those of
/// evaluations, as `valid.loss`, `valid.wer` and so on. What is no number (a confusion matrix, a flag)
/// has no curve. `None` for a line without figures.
///
/// # Errors
/// When it is not an object with a `step`.
pub fn figures(lines: LineFile, line: &[u8]) -> Result<Option<LineFigures>, String> {
    if lines == LineFile::Events && !contains(line, br#""evaluated""#) {
        return Ok(None);
    }
    let fields: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let step = fields.get("step").and_then(Value::as_u64);
    let step = step.ok_or("it has no `step`")?;
    let numbers = |fields: &Map<String, Value>, without: &str, prefix: &str| {
        let numbers = fields.iter().filter(|(name, _)| *name != without);
        let numbers = numbers.filter_map(|(name, value)| Some((name, value.as_f64()?)));
        let named = numbers.map(|(name, value)| (format!("{prefix}{name}"), value));
        named.collect::<Vec<_>>()
    };
    let values = match lines {
        LineFile::Metrics => numbers(&fields, "step", ""),
        LineFile::Events if fields.get("event").and_then(Value::as_str) == Some("evaluated") => {
            let score = fields.get("score").and_then(Value::as_object);
            let score = score.map(|score| numbers(score, "utterances", "valid."));
            let mut values = score.unwrap_or_default();
            let loss = fields.get("loss").and_then(Value::as_f64);
            values.extend(loss.map(|loss| ("valid.loss".to_owned(), loss)));
            values
        }
        LineFile::Events => return Ok(None),
    };
    Ok(Some(LineFigures { step, values }))
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(values: impl IntoIterator<Item = Point>) -> Series {
        let mut series = Series::default();
        values
            .into_iter()
            .for_each(|(step, value)| series.push(step, value));
        series
    }

    #[test]
    fn a_short_series_is_kept_whole() {
        let values: Vec<Point> = (1..=MAX_POINTS as u64)
            .map(|step| (3 * step, (step % 7) as f64))
            .collect();
        let kept: Vec<Point> = series(values.clone()).points().collect();
        assert_eq!(kept, values);
        assert!(Series::default().points().next().is_none());
        assert_eq!(Series::default().steps(), None);
    }

    #[test]
    fn a_long_series_is_thinned_and_a_spike_survives() {
        let value = |step| if step == 777_777 { 50.0 } else { 1.0 };
        let thinned = series((0..1_000_000).map(|step| (step, value(step))));
        let points: Vec<Point> = thinned.points().collect();
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 8);
        assert!(points.contains(&(777_777, 50.0)));
        assert!(points.is_sorted_by(|one, other| one.0 < other.0));
        assert_eq!(thinned.steps(), Some((0, 999_999)));
    }

    #[test]
    fn a_step_that_comes_again_counts_as_it_came_last() {
        let again = series([(1, 3.0), (2, 2.0), (1, 1.5)]);
        assert_eq!(again.points().collect::<Vec<_>>(), [(1, 1.5)]);
        let mut long = series((0..100_000).map(|step| (step, 5.0)));
        (60_000..61_000).for_each(|step| long.push(step, 4.0));
        assert_eq!(long.steps(), Some((0, 60_999)));
        assert!(
            long.points()
                .all(|(step, value)| value == 5.0 || step >= 60_000)
        );
    }

    proptest! {
        #[test]
        fn a_thinned_series_keeps_its_extremes_wherever_runs_were_taken_up(
            lives in prop::collection::vec((0u64..4000, 1u64..6000), 1..5)
        ) {
            let mut found = Series::default();
            let mut wanted: BTreeMap<u64, f64> = BTreeMap::new();
            for (life, (start, length)) in lives.into_iter().enumerate() {
                // A life begins where the one before ended or earlier.
                let last = wanted.last_key_value().map_or(0, |(step, _)| step + 1);
                let start = start.min(last);
                wanted.split_off(&start);
                for step in start..start + length {
                    let value = ((step * 7919 + life as u64 * 13) % 1009) as f64;
                    wanted.insert(step, value);
                    found.push(step, value);
                }
            }
            let points: Vec<Point> = found.points().collect();
            prop_assert!(points.len() <= MAX_POINTS);
            prop_assert!(points.is_sorted_by(|one, other| one.0 < other.0));
            for (step, value) in &points {
                prop_assert_eq!(wanted.get(step), Some(value));
            }
        }
    }

    #[test]
    fn evaluations_have_figures_and_other_events_do_not() {
        let line = br#"{"step":4,"event":"evaluated","loss":0.5,"score":{"utterances":9,"wer":0.25,"confusions":[[1]]}}"#;
        let found = figures(LineFile::Events, line).unwrap().unwrap();
        let wanted = [
            ("valid.wer".to_owned(), 0.25),
            ("valid.loss".to_owned(), 0.5),
        ];
        assert_eq!((found.step, &found.values[..]), (4, &wanted[..]));
        let others: [&[u8]; 2] = [
            br#"{"step":4,"event":"left-out","loss":0.125}"#,
            br#"{"step":4,"event":"failed","error":"\"evaluated\""}"#,
        ];
        for line in others {
            assert_eq!(figures(LineFile::Events, line), Ok(None));
        }
    }

    #[test]
    fn a_line_that_is_no_metrics_is_refused() {
        assert!(figures(LineFile::Metrics, b"nonsense").is_err());
        assert!(figures(LineFile::Metrics, b"[1]").is_err());
        let told = figures(LineFile::Metrics, br#"{"loss":1}"#).unwrap_err();
        assert_eq!(told, "it has no `step`");
        let found = figures(
            LineFile::Metrics,
            br#"{"step":1,"loss":2.5,"clipped":true}"#,
        );
        assert_eq!(found.unwrap().unwrap().values, [("loss".to_owned(), 2.5)]);
    }
}
