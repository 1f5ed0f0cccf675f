//! How the speakers of a manifest are normalised, for models that hear each by what is usual for them: with
//! statistics over all of a speaker's utterances there.

use std::collections::BTreeMap;

use anyhow::Result;
use rayon::prelude::*;
use speech::{
    audio,
    features::{Features, Normalization},
    front_end::{Scaling, SpeakerStats},
    manifest::Utterance,
};
use worker::inference::Model;

use super::measuring::AT_ONCE;
use crate::exit::Failure;

/// By name; none where the model does not ask who speaks. Who has no name is not among them.
pub fn scalings(model: &Model, utterances: &[Utterance]) -> Result<BTreeMap<String, Scaling>> {
    if model.recipe().features.normalization != Normalization::Speaker {
        return Ok(BTreeMap::new());
    }
    let mut sums = SpeakerStats::new();
    let named: Vec<(&str, &Utterance)> = utterances
        .iter()
        .filter_map(|utterance| Some((utterance.speaker.as_deref()?, utterance)))
        .collect();
    for named in named.chunks(AT_ONCE) {
        let features: Vec<Features> = named
            .par_iter()
            .map(|(_, utterance)| {
                let recording = audio::read_utterance(utterance)?;
                let features = model.front_end().raw_features(&recording);
                let told = |error| Failure::Data(format!("{}: {error}", utterance.id));
                features.map_err(|error| told(error).into())
            })
            .collect::<Result<_>>()?;
        for ((speaker, _), features) in named.iter().zip(&features) {
            sums.add(speaker, features);
        }
    }
    sums.finish()
        .into_iter()
        .map(|(name, stats)| Ok((name, model.front_end().scaling(&stats)?)))
        .collect()
}
