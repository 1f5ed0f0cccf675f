//! `align`: where the words of known transcripts lie in their recordings, by a CTC model.

mod writing;

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use speech::{
    audio::Segments,
    decode::{ForcedAlignment, ForcedAlignmentError, forced_alignment},
    features::Features,
    left_out::Reason,
    manifest::Manifest,
    text::UnitKind,
};
use worker::inference::Model;

use crate::{
    args, cores, device,
    evaluation::scalings,
    exit::{CommandError, Result},
    output::{self, duration},
    portions::{Cancelled, Leaving, Ready, RecordingReader, portion},
    screen,
};
use writing::{AlignmentWriter, Rows};

pub(super) fn run(args: args::Align) -> Result<()> {
    let mut writer = AlignmentWriter::new(&args)?;
    let threads = args.threads.map_or_else(cores::logical, |it| it as usize);
    let compute = device::compute_with(args.device, threads)?;
    let max_bad = args.max_bad.unwrap_or_default();
    let (manifest, bad) = Manifest::read_with(&args.manifest, max_bad)?;
    let model = Model::load(&args.model, &compute)?;
    let recipe = model.recipe();
    if recipe.vocabulary.kind == UnitKind::Classes {
        let told = format!(
            "{}: a keyword model names recordings as a whole, and has no alignment: name a model with head \"ctc\"",
            args.model.display()
        );
        return Err(CommandError::Data(told).into());
    }
    let total = manifest.utterances.len();
    let mut leaving = Leaving::naming_all(&args.manifest, max_bad, total, bad)?;
    let ids = manifest.utterances.iter().map(|it| it.id.as_str());
    writer.name_utterances(ids);
    let begun = Instant::now();
    let speakers = scalings(&model, &manifest.utterances)?;
    let recordings = manifest.utterances.iter();
    let segments = Segments::of(recordings.map(|it| (it.audio.as_path(), it.channel)));
    let mut cancelled = Cancelled::default();
    let bar = bar(total);
    let row_seconds = model.row_seconds();
    let reach = (f64::from(args.reach) / 1000.0 / row_seconds).round() as usize;
    let mut sums = Sums::default();
    let mut rest = manifest.utterances.into_iter();
    while rest.len() > 0 {
        let from = RecordingReader {
            segments: &segments,
            cancelled: &mut cancelled,
        };
        let portion = portion(&model, &mut rest, from, &speakers, &mut leaving)?;
        let features: Vec<&Features> = portion.iter().map(|one| &one.features).collect();
        let heard = model.recognise(&features)?;
        // Each by itself, and in order: the number of threads reaches nothing.
        let aligned: Vec<Result<ForcedAlignment, ForcedAlignmentError>> = portion
            .par_iter()
            .zip(&heard)
            .map(|(one, heard)| {
                let text = recipe.reference(&one.utterance.text);
                forced_alignment(&recipe.vocabulary, &text, &heard.log_probs, reach)
            })
            .collect();
        for (one, aligned) in portion.into_iter().zip(aligned) {
            let Ready {
                utterance, seconds, ..
            } = one;
            match aligned {
                Ok(aligned) => {
                    sums.add(&aligned, seconds);
                    let rows = Rows {
                        seconds,
                        row_seconds,
                        shift: f64::from(args.shift) / 1000.0,
                    };
                    writer.utterance(&utterance.id, &aligned, rows)?;
                }
                Err(error) => {
                    let told = error.to_string();
                    leaving.leave_out(&utterance.id, Some(reason(&error)), &told)?;
                }
            }
        }
        bar.set_position((total - rest.len()) as u64);
    }
    bar.finish_and_clear();
    cancelled.tell();
    let left_out = leaving.finish(sums.utterances, "aligned")?;
    writer.finish()?;
    output::message(&format!(
        "aligned {} of {} utterances: {} words in {} of speech, log-likelihood {:.4} a frame, in {}",
        sums.utterances,
        left_out.of,
        sums.words,
        duration(sums.seconds),
        sums.log_likelihood / (sums.frames.max(1) as f64),
        duration(begun.elapsed().as_secs_f64())
    ));
    if !left_out.is_empty() {
        output::message(&left_out.sentence("utterances"));
    }
    Ok(())
}

/// What was aligned.
#[derive(Default)]
struct Sums {
    utterances: usize,
    words: usize,
    frames: usize,
    seconds: f64,
    log_likelihood: f64,
}

impl Sums {
    fn add(&mut self, aligned: &ForcedAlignment, seconds: f64) {
        self.utterances += 1;
        self.words += aligned.words.len();
        self.frames += aligned.frames;
        self.seconds += seconds;
        self.log_likelihood += aligned.log_likelihood;
    }
}

fn reason(error: &ForcedAlignmentError) -> Reason {
    match error {
        ForcedAlignmentError::TooFewFrames { .. } => Reason::TooShortForTranscript,
        ForcedAlignmentError::Text(_) | ForcedAlignmentError::Classes => Reason::UnknownCharacters,
        ForcedAlignmentError::NoPath => Reason::NoAlignment,
    }
}

/// For a person to see, utterance by utterance.
fn bar(total: usize) -> ProgressBar {
    if !output::is_attended() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total as u64), screen::target());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} utterances, {eta}") {
        bar.set_style(style);
    }
    bar
}
