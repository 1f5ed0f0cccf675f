//! `corpus inspect`: what manifests hold, whether their recordings are what they say, and what is better
//! looked at.

use std::path::PathBuf;

use serde::Serialize;
use speech::{
    escape::escape,
    inspection::{self, Bin, Inspection, Spread, Suspect},
    manifest::Manifest,
    tolerance::MaxBad,
};

use crate::{
    args,
    exit::{CommandError, Result},
    output::{self, duration},
};

/// Speakers are listed where there are so few.
const MAX_LISTED_SPEAKERS: usize = 40;
/// Suspects that are shown of each manifest; all of them are in the JSON.
const SHOWN_SUSPECTS: usize = 50;

#[derive(Debug, Serialize)]
struct InspectReport {
    manifest: PathBuf,
    #[serde(flatten)]
    found: Inspection,
}

/// What is told of several manifests.
#[derive(Debug, Serialize)]
struct Together {
    manifests: Vec<InspectReport>,
    /// What they share and should not.
    suspects: Vec<Suspect>,
}

pub(super) fn run(args: args::Inspect) -> Result<()> {
    let mut manifests = Vec::with_capacity(args.manifests.len());
    let mut bad_lines = Vec::with_capacity(args.manifests.len());
    for path in &args.manifests {
        // All that is wrong is told, with what the other lines hold.
        let (manifest, bad) = Manifest::read_with(path, MaxBad::Share(1.0))?;
        manifests.push(manifest);
        bad_lines.push(
            bad.into_iter()
                .map(|bad| escape(&format!("{}: {bad}", path.display())).into_owned())
                .collect::<Vec<_>>(),
        );
    }
    let names: Vec<String> = args
        .manifests
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let named: Vec<_> = names
        .iter()
        .zip(&manifests)
        .map(|(name, manifest)| (name.as_str(), manifest))
        .collect();
    let (found, suspects) = inspection::inspect(&named);
    let mut inspected: Vec<InspectReport> = args
        .manifests
        .into_iter()
        .zip(found)
        .zip(bad_lines)
        .map(|((manifest, mut found), bad)| {
            drop(found.problems.splice(..0, bad));
            InspectReport { manifest, found }
        })
        .collect();
    let problems: usize = inspected.iter().map(|one| one.found.problems.len()).sum();
    match inspected.len() {
        1 => output::print(args.output.format, &inspected.remove(0), text)?,
        _ => {
            let together = Together {
                manifests: inspected,
                suspects,
            };
            output::print(args.output.format, &together, |together| {
                let mut parts: Vec<String> = together.manifests.iter().map(text).collect();
                parts.extend(together.suspects.iter().map(suspect));
                parts.join("\n\n")
            })?;
        }
    }
    match problems {
        0 => Ok(()),
        problems => {
            let told = format!("{problems} of the lines or recordings have problems");
            Err(CommandError::Data(told).into())
        }
    }
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<12} {value}")
}

fn suspect(one: &Suspect) -> String {
    let who = one
        .utterance
        .as_deref()
        .map_or(String::new(), |id| format!("{id}: "));
    line("suspect", &format!("{who}{}", one.why))
}

fn text(inspected: &InspectReport) -> String {
    let InspectReport { manifest, found } = inspected;
    let mut lines = vec![line("manifest", &manifest.display().to_string())];
    let mut say = |name: &str, value: String| lines.push(line(name, &value));
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
    for bar in bars(&found.lengths) {
        say("", bar);
    }
    let speakers: Vec<String> = found
        .speakers
        .iter()
        .take(MAX_LISTED_SPEAKERS)
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    let more = if found.speakers.len() > MAX_LISTED_SPEAKERS {
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
            "{} words, {} distinct words, {} of them once, {} distinct transcripts, {:.0} characters in the median",
            found.words,
            found.distinct_words,
            found.rare_words,
            found.distinct_transcripts,
            found.characters.median
        ),
    );
    let frequent: Vec<String> = found
        .frequent_words
        .iter()
        .map(|(word, count)| format!("{word} ({count})"))
        .collect();
    say("words", frequent.join(", "));
    say("characters", format!("{:?}", found.vocabulary));
    say("digest", found.digest.clone());
    for problem in &found.problems {
        say("problem", problem.clone());
    }
    lines.extend(found.suspects.iter().take(SHOWN_SUSPECTS).map(suspect));
    if found.suspects.len() > SHOWN_SUSPECTS {
        let rest = found.suspects.len() - SHOWN_SUSPECTS;
        lines.push(line(
            "",
            &format!("and {rest} suspects more; `-o json` has all of them"),
        ));
    }
    lines.join("\n")
}

/// A line for each bin, the fullest one 40 characters long.
fn bars(bins: &[Bin]) -> Vec<String> {
    const LONGEST: usize = 40;
    let fullest = bins
        .iter()
        .map(|bin| bin.utterances)
        .max()
        .unwrap_or(1)
        .max(1);
    // As many digits as the width of a bin needs.
    let width = bins.first().map_or(1.0, |bin| bin.to - bin.from);
    let digits = if width < 0.1 {
        2
    } else {
        usize::from(width < 1.0)
    };
    bins.iter()
        .map(|bin| {
            let bar = "█".repeat((bin.utterances * LONGEST).div_ceil(fullest));
            format!(
                "{:>6.digits$}–{:<6.digits$} s {bar} {}",
                bin.from, bin.to, bin.utterances
            )
        })
        .collect()
}
