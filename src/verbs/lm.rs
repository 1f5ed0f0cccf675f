//! `lm`: makes language models of text and measures them.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;
use speech::{
    lm::{self, Discounts, NgramModel, Perplexity},
    manifest::Manifest,
    output_file::OutputFiles,
    text::TextConfig,
    text_file,
};

use crate::{
    args,
    exit::{CommandError, Error, Result},
    output, transcript_style,
};

pub(super) fn run(verb: args::Lm) -> Result<()> {
    match verb {
        args::Lm::Train(args) => train(&args),
        args::Lm::Score(args) => score(&args),
    }
}

#[derive(Debug, Serialize)]
struct TrainedReport {
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
    let like = transcript_style::of(args.normalize_like.as_deref())?;
    let mut sentences = Vec::new();
    for path in &args.text {
        each_line(path, |number, line| {
            if let Some(word) = lm::reserved_word(line) {
                return Err(reserved(&format!("{}:{number}", path.display()), word));
            }
            sentences.push(normalized(&like, line));
            Ok(())
        })?;
    }
    for path in &args.manifests {
        for utterance in Manifest::read(path)?.utterances {
            if let Some(word) = lm::reserved_word(&utterance.text) {
                let place = format!("{}: utterance {:?}", path.display(), utterance.id);
                return Err(reserved(&place, word).into());
            }
            sentences.push(normalized(&like, &utterance.text));
        }
    }
    let trained = lm::train(&sentences, args.order)?;
    output.write(&[&|mut out| trained.model.write_to(&mut out)])?;
    let made = TrainedReport {
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
struct PerplexityReport {
    #[serde(flatten)]
    counts: Perplexity,
    /// With the words that the model lacks, at what it gives the unknown word, and without them.
    perplexity: Option<f64>,
    perplexity_without_oov: Option<f64>,
}

fn score(args: &args::LmScore) -> Result<()> {
    let like = transcript_style::of(args.normalize_like.as_deref())?;
    let model = NgramModel::read(&args.model)?;
    for remark in model.remarks() {
        output::message(&format!("{}: {remark}", args.model.display()));
    }
    let mut counts = Perplexity::default();
    match (&args.text, &args.manifest) {
        (Some(path), _) => each_line(path, |_, line| {
            counts.add(&model, &normalized(&like, line));
            Ok(())
        })?,
        (None, Some(path)) => {
            for utterance in Manifest::read(path)?.utterances {
                counts.add(&model, &normalized(&like, &utterance.text));
            }
        }
        (None, None) => {}
    }
    let scored = PerplexityReport {
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

/// A sentence as a model or job writes it. What stands around it is no part of it.
fn normalized(like: &Option<TextConfig>, sentence: &str) -> String {
    match like {
        None => sentence.to_owned(),
        Some(text) => {
            let words: Vec<&str> = lm::sentence_words(sentence).collect();
            text.normalize(&words.join(" "))
        }
    }
}

fn reserved(place: &str, word: &str) -> CommandError {
    CommandError::Data(format!(
        "{place}: the word {word:?} stands for something else in language models; take it out"
    ))
}

/// Gives each line of a text that is not blank, and its number. The file may be packed with gzip.
fn each_line(
    path: &Path,
    mut take: impl FnMut(u64, &str) -> Result<(), CommandError>,
) -> Result<()> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let mut reader =
        text_file::utf8(BufReader::new(file)).map_err(|error| unreadable(path, error))?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(path, error))? == 0 {
            break;
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            let told = format!("{}:{number}: the line is not UTF-8", path.display());
            return Err(CommandError::Data(told).into());
        };
        // Files that were put together have one in the middle.
        let text = text.trim_start_matches(text_file::BYTE_ORDER_MARK).trim();
        if !text.is_empty() {
            take(number, text)?;
        }
    }
    Ok(())
}

/// A file that is damaged or packed in another way stays so; what the system does not give it may give later.
fn unreadable(path: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let told = format!("cannot read {}", path.display());
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof => {
            CommandError::Data(format!("{told}: {error}")).into()
        }
        _ => Error::from(error).context(told),
    }
}
