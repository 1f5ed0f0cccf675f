//! The forms of a transcript: text, JSON, subtitles (SubRip), and the time-marked words of NIST's tools
//! (CTM).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use serde::Serialize;
use speech::decode::Hypothesis;

/// Subtitles are no longer than this, in characters and seconds, and end where nothing is said for so
/// long.
const CUE_CHARACTERS: usize = 64;
const CUE_SECONDS: f64 = 6.0;
const CUE_PAUSE: f64 = 0.8;
/// Seconds that a subtitle stays at least, where the next one lets it.
const CUE_STAYS: f64 = 1.0;

/// What was heard in a recording. Times are seconds of it.
#[derive(Debug, Serialize)]
pub(super) struct Transcript {
    pub file: String,
    pub text: String,
    /// The length of the recording.
    pub seconds: f64,
    /// The probability that the model gives a keyword.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// The class of the whole recording as a word of it, by a keyword model.
    #[serde(skip)]
    class: Option<TimedWord>,
}

/// Part of a recording that was recognised by itself.
#[derive(Debug, Serialize)]
pub(super) struct Segment {
    pub start: f64,
    pub end: f64,
    pub text: String,
    pub score: f64,
    pub words: Vec<TimedWord>,
    /// Other hypotheses, the better first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Other>,
}

#[derive(Debug, Serialize)]
pub(super) struct Other {
    pub text: String,
    pub score: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TimedWord {
    pub text: String,
    pub start: f64,
    pub end: f64,
    pub confidence: f64,
}

impl Transcript {
    pub(super) fn new(file: String) -> Self {
        Self {
            file,
            text: String::new(),
            seconds: 0.0,
            probability: None,
            segments: Vec::new(),
            class: None,
        }
    }

    /// The class of the recording, whose length is known.
    pub(super) fn keyword(&mut self, text: String, probability: Option<f64>) {
        self.class = (!text.is_empty()).then(|| TimedWord {
            text: text.clone(),
            start: 0.0,
            end: self.seconds,
            confidence: probability.unwrap_or(0.0),
        });
        (self.text, self.probability) = (text, probability);
    }

    pub(super) fn add(&mut self, segment: Segment) {
        let text = segment.text.trim();
        if !text.is_empty() {
            let space = if self.text.is_empty() { "" } else { " " };
            self.text = format!("{}{space}{text}", self.text);
        }
        self.segments.push(segment);
    }

    /// Those that were heard, or the class of the whole recording.
    pub(super) fn words(&self) -> Vec<&TimedWord> {
        let heard = self.segments.iter().flat_map(|segment| &segment.words);
        heard.chain(&self.class).collect()
    }
}

impl Segment {
    /// From hypotheses of the sound between `start` and `end`, the best first.
    pub(super) fn new(found: &[Hypothesis], start: f64, end: f64, row_seconds: f64) -> Self {
        let time = |row: usize| (start + row as f64 * row_seconds).min(end);
        let best = found.first();
        let words = best.map_or(&[][..], |best| &best.words);
        Self {
            start,
            end,
            text: best.map_or_else(String::new, |best| best.text.clone()),
            score: best.map_or(0.0, |best| best.score),
            words: words
                .iter()
                .map(|word| TimedWord {
                    text: word.text.clone(),
                    start: time(word.frames.start),
                    end: time(word.frames.end),
                    confidence: word.confidence,
                })
                .collect(),
            others: found
                .iter()
                .skip(1)
                .map(|other| Other {
                    text: other.text.clone(),
                    score: other.score,
                })
                .collect(),
        }
    }
}

/// Words as subtitles numbered from `number` on, and the number behind them.
pub(super) fn srt(words: &[&TimedWord], mut number: usize) -> (String, usize) {
    let mut cues: Vec<Vec<&TimedWord>> = Vec::new();
    for &word in words {
        let fits = cues.last().is_some_and(|cue: &Vec<&TimedWord>| {
            let characters: usize = cue.iter().map(|one| one.text.chars().count() + 1).sum();
            let (first, last) = (cue[0], cue[cue.len() - 1]);
            characters + word.text.chars().count() <= CUE_CHARACTERS
                && word.end - first.start <= CUE_SECONDS
                && word.start - last.end <= CUE_PAUSE
        });
        match cues.last_mut() {
            Some(cue) if fits => cue.push(word),
            _ => cues.push(vec![word]),
        }
    }
    let mut text = String::new();
    for (place, cue) in cues.iter().enumerate() {
        let (start, spoken) = (cue[0].start, cue[cue.len() - 1].end);
        let next = cues
            .get(place + 1)
            .map_or(f64::INFINITY, |next| next[0].start);
        let end = spoken.max((start + CUE_STAYS).min(next));
        let said: Vec<&str> = cue.iter().map(|word| word.text.as_str()).collect();
        text += &format!(
            "{number}\n{} --> {}\n{}\n\n",
            clock(start),
            clock(end),
            said.join(" ")
        );
        number += 1;
    }
    (text, number)
}

/// A word a line: recording, channel, start, duration, word, confidence. A class of several words has a
/// line for each, of equal durations.
pub(super) fn ctm(recording: &str, words: &[&TimedWord]) -> String {
    let mut lines = String::new();
    for word in words {
        let parts = word.text.split_whitespace();
        let duration = (word.end - word.start) / parts.clone().count() as f64;
        for (place, part) in parts.enumerate() {
            let start = word.start + place as f64 * duration;
            let confidence = word.confidence;
            lines += &format!("{recording} 1 {start:.3} {duration:.3} {part} {confidence:.3}\n");
        }
    }
    lines
}

/// The line of a recording in which nothing was heard: without one, scorers that go through references
/// and hypotheses side by side lose their place. sclite takes `@` for no word.
pub(super) fn ctm_of_nothing(recording: &str, seconds: f64) -> String {
    format!("{recording} 1 0.000 {seconds:.3} @ 0.000\n")
}

/// What CTM calls each of some files: its name without extension; where others have that too, with as much
/// of the path before it as tells them apart, then with the extension, then with a number. White space,
/// which separates CTM's fields, is an underscore.
pub(super) fn recording_names(files: &[&str]) -> Vec<String> {
    let choices: Vec<Vec<String>> = files.iter().map(|file| names_of(file)).collect();
    let mut chosen = vec![0; files.len()];
    let mut names: Vec<&str>;
    loop {
        names = choices
            .iter()
            .zip(&chosen)
            .map(|(of, &n)| of[n].as_str())
            .collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for &name in &names {
            *counts.entry(name).or_default() += 1;
        }
        let mut changed = false;
        for (place, of) in choices.iter().enumerate() {
            if counts[names[place]] > 1 && chosen[place] + 1 < of.len() {
                chosen[place] += 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut taken: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut seen = BTreeSet::new();
    let distinct = names.into_iter().map(|name| {
        if seen.insert(name) {
            return name.to_owned();
        }
        let mut numbered = (2..).map(|number: u64| format!("{name}-{number}"));
        numbered
            .find(|name| taken.insert(name.clone()))
            .unwrap_or_default()
    });
    distinct.collect()
}

/// What a file may be called, from short to long: never empty.
fn names_of(file: &str) -> Vec<String> {
    let path = Path::new(file);
    let stem = path
        .file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let folders = path.parent().into_iter().flat_map(Path::components);
    let mut folders: Vec<_> = folders
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    let mut name = stem.into_owned();
    let mut names = vec![name.clone()];
    while let Some(folder) = folders.pop() {
        name = format!("{folder}/{name}");
        names.push(name.clone());
    }
    if let Some(extension) = path.extension() {
        names.push(format!("{name}.{}", extension.to_string_lossy()));
    }
    let is_field = |c: char| !c.is_whitespace() && !c.is_control();
    let names = names.into_iter().map(|name| {
        let name: String = name
            .chars()
            .map(|c| if is_field(c) { c } else { '_' })
            .collect();
        match name.strip_prefix(';') {
            // A line that begins with semicolons is a comment.
            Some(rest) => format!("_{rest}"),
            None if name.is_empty() => "_".to_owned(),
            None => name,
        }
    });
    names.collect()
}

fn clock(seconds: f64) -> String {
    let thousandths = (seconds * 1000.0).round() as u64;
    let (hours, rest) = (thousandths / 3_600_000, thousandths % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    format!(
        "{hours:02}:{minutes:02}:{:02},{:03}",
        rest / 1000,
        rest % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, start: f64, end: f64) -> TimedWord {
        TimedWord {
            text: text.to_owned(),
            start,
            end,
            confidence: 0.5,
        }
    }

    #[test]
    fn subtitles_end_at_pauses_and_before_they_are_too_long() {
        let words = [
            word("GO", 1.0, 1.2),
            word("ON", 1.5, 1.6),
            word("STOP", 3661.5, 3661.75),
        ];
        let (text, number) = srt(&words.iter().collect::<Vec<_>>(), 1);
        let wanted =
            "1\n00:00:01,000 --> 00:00:02,000\nGO ON\n\n2\n01:01:01,500 --> 01:01:02,500\nSTOP\n\n";
        assert_eq!((text.as_str(), number), (wanted, 3));
        let many: Vec<TimedWord> = (0..40)
            .map(|at| word("WORD", f64::from(at) * 0.2, f64::from(at) * 0.2 + 0.1))
            .collect();
        let (text, number) = srt(&many.iter().collect::<Vec<_>>(), 1);
        assert_eq!(number, 5);
        assert!(text.lines().all(|line| line.len() <= CUE_CHARACTERS));
    }

    #[test]
    fn ctm_has_a_word_a_line() {
        let words = [word("GO", 1.0, 1.25), word("NEW YORK", 2.0, 3.0)];
        let lines = ctm("a", &words.iter().collect::<Vec<_>>());
        let wanted =
            "a 1 1.000 0.250 GO 0.500\na 1 2.000 0.500 NEW 0.500\na 1 2.500 0.500 YORK 0.500\n";
        assert_eq!(lines, wanted);
        assert_eq!(ctm("a", &[]), "");
        assert_eq!(ctm_of_nothing("a", 1.5), "a 1 0.000 1.500 @ 0.000\n");
    }

    #[test]
    fn recordings_have_names_that_differ() {
        let names = |files: &[&str]| recording_names(files);
        assert_eq!(names(&["x/a.b.wav", "y z/c.wav"]), ["a.b", "c"]);
        assert_eq!(names(&["x/my file.wav"]), ["my_file"]);
        assert_eq!(
            names(&["r/d1/a.wav", "r/d2/a.wav", "/d2/b.wav"]),
            ["d1/a", "d2/a", "b"]
        );
        assert_eq!(
            names(&["d/my file.wav", "d/my_file.wav"]),
            ["d/my_file.wav", "d/my_file.wav-2"]
        );
        assert_eq!(
            names(&["a.wav", "a.mp3", "a.mp3"]),
            ["a.wav", "a.mp3", "a.mp3-2"]
        );
        assert_eq!(
            names(&["a.wav", "d/a.wav", "e/d/a.wav"]),
            ["a.wav", "d/a.wav", "e/d/a"]
        );
        assert_eq!(
            names(&[";;x.wav", "\t.wav", "standard input"]),
            ["_;x", "_", "standard_input"]
        );
        for file in ["", "/", "..", ".wav"] {
            assert!(!names(&[file])[0].is_empty(), "{file}");
        }
        let many: Vec<String> = (0..60)
            .map(|n| format!("{}/{}/a {}.wav", n % 3, n % 5, n % 2))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let distinct: BTreeSet<String> = names(&many).into_iter().collect();
        assert_eq!(distinct.len(), 60);
        assert!(
            distinct
                .iter()
                .all(|name| !name.contains(char::is_whitespace))
        );
    }

    #[test]
    fn the_class_of_a_recording_is_a_word_of_it() {
        let mut heard = Transcript::new("a.wav".to_owned());
        assert!(heard.words().is_empty());
        heard.seconds = 8.0;
        heard.keyword("new york".to_owned(), Some(0.75));
        let words = heard.words();
        assert_eq!(
            srt(&words, 1).0,
            "1\n00:00:00,000 --> 00:00:08,000\nnew york\n\n"
        );
        let lines = ctm("a", &words);
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.starts_with("a 1 0.000 4.000 new 0.750"));
    }
}
