//! `corpus synthesize`: a corpus of spoken digits from the built-in formant synthesiser.

use std::path::PathBuf;

use serde_json::json;
use speech::{
    ctm,
    output_file::OutputFiles,
    synth::{self, SyntheticConfig, UtteranceWords},
};

use crate::{args, exit::Result, output};

pub(super) fn run(args: args::Synthesize) -> Result<()> {
    let defaults = SyntheticConfig::default();
    let config = SyntheticConfig {
        task: args.task,
        train: args.train.unwrap_or(defaults.train),
        valid: args.valid.unwrap_or(defaults.valid),
        speakers: args.speakers.unwrap_or(defaults.speakers),
        valid_speakers: args.valid_speakers.unwrap_or(defaults.valid_speakers),
        seed: args.seed.unwrap_or(defaults.seed),
        sample_rate: args.sample_rate.unwrap_or(defaults.sample_rate),
        ..defaults
    };
    let made = synth::generate(&config, &args.out)?;
    let (train, valid) = synth::word_times(&config)?;
    let times = [&made.train, &made.valid].map(|path| path.with_extension("ctm"));
    OutputFiles::plan(times.iter().map(PathBuf::as_path), [])?
        .write_bytes(&[time_marked(&train), time_marked(&valid)])?;
    let value =
        json!({ "train": made.train, "valid": made.valid, "words": times, "synthetic": true });
    output::print(args.output.format, &value, |_| {
        format!(
            "synthetic speech, made by rule:\n{}: {} utterances by {} speakers\n{}: {} utterances by {} other speakers\n\
             beside them, where each word begins and ends (.ctm)",
            made.train.display(),
            config.train,
            config.speakers,
            made.valid.display(),
            config.valid,
            config.valid_speakers
        )
    })
}

/// The time-marked words of utterances.
fn time_marked(utterances: &[UtteranceWords]) -> String {
    let mut text = String::new();
    for utterance in utterances {
        for word in &utterance.words {
            text += &ctm::line(&utterance.id, word.start, word.end, word.word, None);
            text.push('\n');
        }
    }
    text
}
