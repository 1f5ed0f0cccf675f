//! `lm`: makes language models of text and measures them.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use speech::{
    lm::{self, Discounts, NgramModel, Perplexity},
    manifest::Manifest,
    output_file::OutputFiles,
};

use crate::{args, exit::Failure, output};

pub fn run(verb: args::Lm) -> Result<()> {
    match verb {
        args::Lm::Train(args) => train(&args),
        args::Lm::Score(args) => score(&args),
    }
}

#[derive(Debug, Serialize)]
struct Made {
    out: PathBuf,
    sentences: u64,
    words: u64,
    /// By length, from 1.
    ngrams: Vec<usize>,
    discounts: Vec<Discounts>,
}

fn train(args: &args::LmTrain) -> Result<()> {
    let inputs = args
        .text
        .iter()
        .chain(&args.manifests)
        .map(PathBuf::as_path);
    let output = OutputFiles::plan([args.out.as_path()], inputs)?;
    let mut sentences = Vec::new();
    for path in &args.text {
        each_line(path, |line| sentences.push(line.to_owned()))?;
    }
    for path in &args.manifests {
        let utterances = Manifest::read(path)?.utterances;
        sentences.extend(utterances.into_iter().map(|utterance| utterance.text));
    }
    let trained = lm::train(&sentences, args.order)?;
    output.write(&[&|mut out| trained.model.write_to(&mut out)])?;
    let made = Made {
        out: args.out.clone(),
        sentences: trained.sentences,
        words: trained.words,
        ngrams: (1..=args.order)
            .map(|length| trained.model.ngrams(length))
            .collect(),
        discounts: trained.discounts,
    };
    output::print_beside(&output, args.output.format, &made, |made| {
        let mut lines = vec![format!(
            "{}: {} sentences, {} words",
            made.out.display(),
            made.sentences,
            made.words
        )];
        for (place, (ngrams, found)) in made.ngrams.iter().zip(&made.discounts).enumerate() {
            let [one, two, more] = found.values;
            let fixed = if found.fallback {
                " (fixed: the text is too small to estimate them)"
            } else {
                ""
            };
            lines.push(format!(
                "{}-grams {ngrams:>10}  discounts {one:.4} {two:.4} {more:.4}{fixed}",
                place + 1
            ));
        }
        lines.join("\n")
    })
}

#[derive(Debug, Serialize)]
struct Scored {
    #[serde(flatten)]
    counts: Perplexity,
    /// With the words that the model lacks, at what it gives the unknown word, and without them.
    perplexity: Option<f64>,
    perplexity_without_oov: Option<f64>,
}

fn score(args: &args::LmScore) -> Result<()> {
    let model = NgramModel::read(&args.model)?;
    let mut counts = Perplexity::default();
    match (&args.text, &args.manifest) {
        (Some(path), _) => each_line(path, |line| counts.add(&model, line))?,
        (None, Some(path)) => {
            for utterance in Manifest::read(path)?.utterances {
                counts.add(&model, &utterance.text);
            }
        }
        (None, None) => {}
    }
    let scored = Scored {
        counts,
        perplexity: counts.with_oov(),
        perplexity_without_oov: counts.without_oov(),
    };
    output::print(args.output.format, &scored, |scored| {
        let shown = |value: Option<f64>| {
            value.map_or("undefined".to_owned(), |value| format!("{value:.2}"))
        };
        format!(
            "{} sentences, {} words, {} unknown\nperplexity {}, {} without the unknown words",
            scored.counts.sentences,
            scored.counts.words,
            scored.counts.oov,
            shown(scored.perplexity),
            shown(scored.perplexity_without_oov)
        )
    })
}

/// Gives each line of a text that is not blank.
fn each_line(path: &Path, mut take: impl FnMut(&str)) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {}", path.display()))? == 0 {
            break;
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            let told = format!("{}:{number}: the line is not UTF-8", path.display());
            return Err(Failure::Data(told).into());
        };
        if !text.trim().is_empty() {
            take(text.trim());
        }
    }
    Ok(())
}
