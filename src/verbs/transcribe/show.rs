//! The forms of a transcript: text, JSON, subtitles (SubRip), and the time-marked words of NIST's tools
//! (CTM).

use std::path::Path;

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
pub struct Transcript {
    pub file: String,
    pub text: String,
    /// Of the recording.
    pub seconds: f64,
    /// Of a keyword: the probability that the model gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
}

/// Part of a recording that was recognised by itself.
#[derive(Debug, Serialize)]
pub struct Segment {
    pub start: f64,
    pub end: f64,
    pub text: String,
    pub score: f64,
    pub words: Vec<Word>,
    /// Other hypotheses, the better first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Other>,
}

#[derive(Debug, Serialize)]
pub struct Other {
    pub text: String,
    pub score: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Word {
    pub text: String,
    pub start: f64,
    pub end: f64,
    pub confidence: f64,
}

impl Transcript {
    pub fn new(file: String) -> Self {
        Self {
            file,
            text: String::new(),
            seconds: 0.0,
            probability: None,
            segments: Vec::new(),
        }
    }

    pub fn keyword(&mut self, text: String, probability: Option<f64>) {
        (self.text, self.probability) = (text, probability);
    }

    pub fn add(&mut self, segment: Segment) {
        let text = segment.text.trim();
        if !text.is_empty() {
            let space = if self.text.is_empty() { "" } else { " " };
            self.text = format!("{}{space}{text}", self.text);
        }
        self.segments.push(segment);
    }

    pub fn words(&self) -> Vec<&Word> {
        self.segments
            .iter()
            .flat_map(|segment| &segment.words)
            .collect()
    }
}

impl Segment {
    /// From hypotheses of the sound between `start` and `end`, the best first.
    pub fn new(found: &[Hypothesis], start: f64, end: f64, row_seconds: f64) -> Self {
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
                .map(|word| Word {
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
pub fn srt(words: &[&Word], mut number: usize) -> (String, usize) {
    let mut cues: Vec<Vec<&Word>> = Vec::new();
    for &word in words {
        let fits = cues.last().is_some_and(|cue: &Vec<&Word>| {
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

/// A word a line: recording, channel, start, duration, word, confidence.
pub fn ctm(file: &str, words: &[&Word]) -> String {
    let stem = Path::new(file)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let recording = stem.replace(char::is_whitespace, "_");
    let line = |word: &&Word| {
        let Word {
            text,
            start,
            end,
            confidence,
        } = word;
        format!(
            "{recording} 1 {start:.3} {:.3} {text} {confidence:.3}\n",
            end - start
        )
    };
    words.iter().map(line).collect()
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

    fn word(text: &str, start: f64, end: f64) -> Word {
        Word {
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
        let many: Vec<Word> = (0..40)
            .map(|at| word("WORD", f64::from(at) * 0.2, f64::from(at) * 0.2 + 0.1))
            .collect();
        let (text, number) = srt(&many.iter().collect::<Vec<_>>(), 1);
        assert_eq!(number, 5);
        assert!(text.lines().all(|line| line.len() <= CUE_CHARACTERS));
    }

    #[test]
    fn ctm_has_a_word_a_line() {
        let words = [word("GO", 1.0, 1.25)];
        let line = ctm("a b/my file.wav", &words.iter().collect::<Vec<_>>());
        assert_eq!(line, "my_file 1 1.000 0.250 GO 0.500\n");
    }
}
