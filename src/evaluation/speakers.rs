//! How the speakers of a manifest are normalised, for models that hear each by what is usual for them: with
//! statistics over all of a speaker's utterances there.

use std::collections::BTreeMap;

use rayon::prelude::*;
use speech::{
    audio::Segments,
    features::{Features, Normalization},
    front_end::{Scaling, SpeakerStats},
    left_out::Reason,
    manifest::Utterance,
};
use worker::inference::Model;

use crate::{
    exit::{CommandError, Result},
    portions::MAX_PORTION_UTTERANCES,
};

/// By name; none where the model does not ask who speaks. Who has no name is not among them.
pub(crate) fn scalings(
    model: &Model,
    utterances: &[Utterance],
) -> Result<BTreeMap<String, Scaling>> {
    if model.recipe().features.normalization != Normalization::Speaker {
        return Ok(BTreeMap::new());
    }
    let mut sums = SpeakerStats::new();
    let named: Vec<(&str, &Utterance)> = utterances
        .iter()
        .filter_map(|utterance| Some((utterance.speaker.as_deref()?, utterance)))
        .collect();
    let paths = named
        .iter()
        .map(|(_, one)| (one.audio.as_path(), one.channel));
    let segments = Segments::of(paths);
    for named in named.chunks(MAX_PORTION_UTTERANCES) {
        let features: Vec<Option<Features>> = named
            .par_iter()
            .map(|(_, utterance)| raw_features(model, &segments, utterance))
            .collect::<Result<_>>()?;
        for ((speaker, _), features) in named.iter().zip(&features) {
            if let Some(features) = features {
                sums.add(speaker, features);
            }
        }
    }
    sums.finish()
        .into_iter()
        .map(|(name, stats)| Ok((name, model.front_end().scaling(&stats)?)))
        .collect()
}

/// What a speaker's statistics are made of; `None` for an utterance that cannot be used, which is named where it
/// would be recognised.
fn raw_features(
    model: &Model,
    segments: &Segments,
    utterance: &Utterance,
) -> Result<Option<Features>> {
    let recording = match segments.utterance(utterance) {
        Ok(heard) => heard.audio,
        Err(error) if Reason::of_audio(&error).is_some() => return Ok(None),
        Err(error) => {
            let told = format!("utterance {:?}: {error}", utterance.id);
            return Err(CommandError::Infrastructure(told).into());
        }
    };
    match model.front_end().raw_features(&recording) {
        Ok(features) => Ok(Some(features)),
        Err(error) if Reason::of_front_end(&error).is_some() => Ok(None),
        Err(error) => Err(CommandError::Data(format!("{}: {error}", utterance.id)).into()),
    }
}
