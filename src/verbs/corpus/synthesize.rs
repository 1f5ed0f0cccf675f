//! `corpus synthesize`: a corpus of spoken digits from the built-in formant synthesiser.

use serde_json::json;
use speech::synth::{self, SyntheticConfig};

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
    let value = json!({ "train": made.train, "valid": made.valid, "synthetic": true });
    output::print(args.output.format, &value, |_| {
        format!(
            "synthetic speech, made by rule:\n{}: {} utterances by {} speakers\n{}: {} utterances by {} other speakers",
            made.train.display(),
            config.train,
            config.speakers,
            made.valid.display(),
            config.valid,
            config.valid_speakers
        )
    })
}
