//! `transcribe`: what a trained model hears in recordings.

use anyhow::Result;
use serde::Serialize;
use speech::{
    audio::{self, Audio},
    text::Kind,
};

use super::decoding;
use super::evaluate::{features, open, seconds};
use crate::{args, output};

#[derive(Debug, Serialize)]
struct Transcript {
    file: String,
    text: String,
    /// Of the recording.
    seconds: f64,
    /// Of a keyword: the probability that the model gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
}

pub fn run(args: args::Transcribe) -> Result<()> {
    // Every file is read before anything is said, so that a bad one is not found halfway.
    let recordings = args
        .files
        .iter()
        .map(|path| audio::read(path))
        .collect::<Result<Vec<Audio>, _>>()?;
    let (mut model, _) = open(&args.model, args.device)?;
    decoding::set(&mut model, &args.decoding)?;
    let name = |place: usize| args.files[place].display().to_string();
    let features = features(&model, &recordings, name)?;
    let mut heard = model.recognise(&features.iter().collect::<Vec<_>>())?;
    if model.decoder().is_some() {
        let decoded = model.hypotheses(&heard)?;
        for (heard, found) in heard.iter_mut().zip(decoded) {
            if let Some(best) = found.into_iter().next() {
                heard.text = best.text;
            }
        }
    }
    let is_keyword = model.recipe().vocabulary.kind == Kind::Classes;
    let transcripts: Vec<Transcript> = heard
        .into_iter()
        .zip(&recordings)
        .enumerate()
        .map(|(place, (heard, audio))| Transcript {
            file: name(place),
            probability: is_keyword
                .then(|| {
                    model
                        .classes(&heard)
                        .first()
                        .map(|(_, probability)| *probability)
                })
                .flatten(),
            text: heard.text,
            seconds: seconds(audio),
        })
        .collect();
    output::print(
        args.output.format,
        &transcripts,
        |transcripts| match transcripts.as_slice() {
            [one] => one.text.clone(),
            many => {
                let lines = many.iter().map(|one| format!("{}\t{}", one.file, one.text));
                lines.collect::<Vec<_>>().join("\n")
            }
        },
    )
}
