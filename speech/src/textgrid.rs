//! Praat's TextGrid, in its long text form: tiers of intervals that cover a recording without gaps.

use std::fmt::Write as _;

/// A stretch of a tier that has a label.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Seconds from the beginning.
    pub start: f64,
    /// Seconds from the beginning.
    pub end: f64,
    /// What is said in it.
    pub label: String,
}

/// A tier: its name, and its labelled intervals in order, none of which reaches into the next.
pub type Tier<'a> = (&'a str, &'a [Interval]);

/// The text of a file with these tiers. What lies between labelled intervals is an interval with an empty label; an
/// interval that has no length, rounded to thousandths of a second, is left out, since Praat takes none.
///
/// `seconds` is the length of the recording.
pub fn text(seconds: f64, tiers: &[Tier]) -> String {
    let end = thousandths(seconds).max(1);
    let mut text = format!(
        "File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\nxmin = 0\nxmax = {}\ntiers? <exists>\nsize = {}\nitem []:\n",
        shown(end),
        tiers.len()
    );
    for (number, (name, intervals)) in (1..).zip(tiers) {
        let covering = covering(intervals, end);
        let _ = write!(
            text,
            "    item [{number}]:\n        class = \"IntervalTier\"\n        name = {}\n        xmin = 0\n        xmax = {}\n        intervals: size = {}\n",
            quoted(name),
            shown(end),
            covering.len()
        );
        for (number, (start, end, label)) in (1..).zip(covering) {
            let _ = write!(
                text,
                "        intervals [{number}]:\n            xmin = {}\n            xmax = {}\n            text = {}\n",
                shown(start),
                shown(end),
                quoted(label)
            );
        }
    }
    text
}

/// Intervals in thousandths of a second, one behind the other from 0 to `end`.
fn covering(intervals: &[Interval], end: u64) -> Vec<(u64, u64, &str)> {
    let mut covering = Vec::new();
    let mut at = 0;
    for interval in intervals {
        let start = thousandths(interval.start).clamp(at, end);
        let behind = thousandths(interval.end).clamp(start, end);
        if behind == start {
            continue;
        }
        if start > at {
            covering.push((at, start, ""));
        }
        covering.push((start, behind, interval.label.as_str()));
        at = behind;
    }
    if at < end {
        covering.push((at, end, ""));
    }
    covering
}

/// Casts from floats saturate.
fn thousandths(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn shown(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// In double quotes, which are doubled within; on one line.
fn quoted(label: &str) -> String {
    let label = label.replace(|c: char| c.is_control(), " ");
    format!("\"{}\"", label.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: f64, end: f64, label: &str) -> Interval {
        Interval {
            start,
            end,
            label: label.to_owned(),
        }
    }

    /// `testdata/textgrid.py` reads the golden with praatio.
    #[test]
    fn a_file_is_as_praat_reads_it() {
        let words = [
            interval(0.25, 0.5, "go"),
            interval(0.5, 1.0004, "\"on\"\n"),
            interval(1.2, 1.2001, "lost"),
            interval(1.5, 9.0, "été"),
        ];
        let units = [interval(0.0, 2.0, "all")];
        let found = text(
            2.0,
            &[("words", &words), ("units", &units), ("nothing", &[])],
        );
        assert_eq!(found, include_str!("../testdata/aligned.TextGrid"));
    }

    #[test]
    fn intervals_cover_the_recording_without_gaps_or_overlaps() {
        let stream = &mut crate::random::Stream::new(4, &[]);
        for _ in 0..200 {
            let intervals: Vec<Interval> = (0..stream.below(6))
                .map(|_| {
                    let start = stream.between(0.0, 3.0);
                    interval(start, start + stream.between(-0.1, 1.0), "x")
                })
                .collect();
            let covering = covering(&intervals, 2000);
            assert_eq!(covering.first().map(|it| it.0), Some(0));
            assert_eq!(covering.last().map(|it| it.1), Some(2000));
            assert!(covering.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(covering.iter().all(|(start, end, _)| start < end));
        }
    }
}
