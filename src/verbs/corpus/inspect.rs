//! `corpus inspect`: what a manifest holds, and whether its recordings are what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Result;
use serde::Serialize;
use speech::{audio, manifest::Manifest, text::Vocabulary};

use crate::{
    args,
    exit::Failure,
    output::{self, duration},
};

/// A duration that differs by more than this from the recording's is worth a line.
const TOLERANCE: f64 = 0.05;
/// Classes are listed where there are so few.
const FEW: usize = 40;

#[derive(Debug, Serialize)]
struct Inspection {
    manifest: PathBuf,
    digest: String,
    utterances: usize,
    hours: f64,
    /// Utterances of each; those that name no speaker are not among them.
    speakers: BTreeMap<String, usize>,
    seconds: Spread,
    /// Of the transcripts.
    characters: Spread,
    words: usize,
    distinct_words: usize,
    distinct_transcripts: usize,
    /// Every character of the transcripts, in order: a CTC model's units.
    vocabulary: String,
    /// Recordings by sampling rate.
    sample_rates: BTreeMap<u32, usize>,
    /// Recordings that cannot be used or are not as long as the manifest says.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Spread {
    least: f64,
    median: f64,
    mean: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        Self {
            least: at(0),
            median: at(values.len() / 2),
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
            most: at(values.len().saturating_sub(1)),
        }
    }
}

pub fn run(args: args::Inspect) -> Result<()> {
    let manifest = Manifest::read(&args.manifest)?;
    let inspection = inspect(args.manifest, &manifest);
    output::print(args.output.format, &inspection, text)?;
    match inspection.problems.as_slice() {
        [] => Ok(()),
        problems => {
            let told = format!("{} of the recordings have problems", problems.len());
            Err(Failure::Data(told).into())
        }
    }
}

fn inspect(path: PathBuf, manifest: &Manifest) -> Inspection {
    let utterances = &manifest.utterances;
    let texts: BTreeSet<&str> = utterances.iter().map(|one| one.text.as_str()).collect();
    let words = || {
        utterances
            .iter()
            .flat_map(|one| one.text.split_whitespace())
    };
    let mut speakers = BTreeMap::new();
    for speaker in utterances.iter().filter_map(|one| one.speaker.as_ref()) {
        *speakers.entry(speaker.clone()).or_default() += 1;
    }
    let mut sample_rates = BTreeMap::new();
    let mut problems = Vec::new();
    for utterance in utterances {
        match audio::inspect(&utterance.audio) {
            Ok(info) => {
                *sample_rates.entry(info.sample_rate).or_default() += 1;
                let seconds = info.frames as f64 / f64::from(info.sample_rate);
                if (seconds - utterance.duration).abs() > TOLERANCE {
                    problems.push(format!(
                        "{}: lasts {seconds:.2} s and not {:.2} s as the manifest says",
                        utterance.audio.display(),
                        utterance.duration
                    ));
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    let characters = |text: &str| text.chars().count() as f64;
    let lengths = utterances.iter().map(|one| characters(&one.text)).collect();
    let vocabulary = Vocabulary::characters(utterances.iter().map(|one| one.text.as_str()));
    Inspection {
        manifest: path,
        digest: manifest.digest.clone(),
        utterances: utterances.len(),
        hours: manifest.seconds() / 3600.0,
        speakers,
        seconds: Spread::of(utterances.iter().map(|one| one.duration).collect()),
        characters: Spread::of(lengths),
        words: words().count(),
        distinct_words: words().collect::<BTreeSet<_>>().len(),
        distinct_transcripts: texts.len(),
        vocabulary: vocabulary.map_or_else(|_| String::new(), |found| found.units.concat()),
        sample_rates,
        problems,
    }
}

fn text(found: &Inspection) -> String {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name:<12} {value}"));
    let Spread {
        least,
        median,
        mean,
        most,
    } = &found.seconds;
    say(
        "utterances",
        format!("{} in {}", found.utterances, duration(found.hours * 3600.0)),
    );
    say(
        "lengths",
        format!("{least:.2} to {most:.2} s, median {median:.2} s, mean {mean:.2} s"),
    );
    let speakers: Vec<String> = found
        .speakers
        .iter()
        .take(FEW)
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    let more = if found.speakers.len() > FEW {
        ", …"
    } else {
        ""
    };
    say(
        "speakers",
        format!("{}: {}{more}", found.speakers.len(), speakers.join(", ")),
    );
    let rates: Vec<String> = found
        .sample_rates
        .iter()
        .map(|(rate, count)| format!("{rate} Hz ({count})"))
        .collect();
    say("rates", rates.join(", "));
    say(
        "transcripts",
        format!(
            "{} words, {} distinct words, {} distinct transcripts, {:.0} characters in the median",
            found.words, found.distinct_words, found.distinct_transcripts, found.characters.median
        ),
    );
    say("characters", format!("{:?}", found.vocabulary));
    say("digest", found.digest.clone());
    for problem in &found.problems {
        say("problem", problem.clone());
    }
    lines.join("\n")
}
