//! `corpus cut`: a manifest of single words, by an alignment.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use speech::{
    ctm,
    escape::escape,
    left_out::LeftOut,
    manifest::Manifest,
    output_file::OutputFiles,
    word_segments::{self, WantedWords},
};

use crate::{
    args,
    exit::{CommandError, Result},
    output::{self, duration},
};

/// Lines of the alignment that are named one by one.
const NAMED_LINES: usize = 5;

#[derive(Debug, Serialize)]
struct CutReport {
    out: PathBuf,
    utterances: usize,
    seconds: f64,
    speakers: usize,
    /// How many there are of each word.
    words: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "LeftOut::is_empty")]
    left_out: LeftOut,
}

pub(super) fn run(args: args::Cut) -> Result<()> {
    let wanted = WantedWords::new(&args.words)?;
    let inputs = [args.align.as_path(), args.manifest.as_path()];
    let output = OutputFiles::plan([args.out.as_path()], inputs)?;
    let manifest = Manifest::read(&args.manifest)?;
    let words = ctm::read(&args.align)?;
    let padding = f64::from(args.padding) / 1000.0;
    let cut = word_segments::cut(&manifest.utterances, &words, &wanted, padding);
    let path = args.align.display();
    for (line, problem) in cut.problems.iter().take(NAMED_LINES) {
        output::message(&format!("{path}:{line}: {problem}"));
    }
    if cut.problems.len() > NAMED_LINES {
        output::message("more words of the alignment are left out; the end counts them");
    }
    let max_bad = args.max_bad.unwrap_or_default();
    cut.left_out
        .check(max_bad)
        .map_err(|error| CommandError::Data(format!("{path}: {error}")))?;
    if cut.utterances.is_empty() {
        let told = format!("{path}: none of its {} words is wanted", words.len());
        return Err(CommandError::Data(told).into());
    }
    let bytes = Manifest::encode(&args.out, &cut.utterances)?;
    output.write_bytes(&[bytes])?;
    let mut speakers: Vec<&str> = Vec::new();
    speakers.extend(cut.utterances.iter().filter_map(|it| it.speaker.as_deref()));
    speakers.sort_unstable();
    speakers.dedup();
    let report = CutReport {
        out: args.out,
        utterances: cut.utterances.len(),
        seconds: cut.utterances.iter().map(|it| it.duration).sum(),
        speakers: speakers.len(),
        words: cut.counts,
        left_out: cut.left_out,
    };
    output::print_beside(&output, args.output.format, &report, text)
}

fn text(report: &CutReport) -> String {
    const SHOWN_WORDS: usize = 40;
    let mut lines = vec![format!(
        "{}: {} words by {} speakers, {}",
        report.out.display(),
        report.utterances,
        report.speakers,
        duration(report.seconds)
    )];
    let words = report.words.iter().take(SHOWN_WORDS);
    let words: Vec<String> = words
        .map(|(word, count)| format!("{} ({count})", escape(word)))
        .collect();
    let more = report.words.len().saturating_sub(SHOWN_WORDS);
    let more = if more > 0 {
        format!(", and {more} words more")
    } else {
        String::new()
    };
    lines.push(format!("{}{more}", words.join(", ")));
    if !report.left_out.is_empty() {
        lines.push(report.left_out.sentence("words"));
    }
    lines.join("\n")
}
