//! Mean and variance of features over the training set, or over each speaker's utterances of a set. It
//! decides the order of additions, which is the manifest's; it refuses to know who normalises with them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use rayon::prelude::*;
use speech::{
    audio,
    features::Features,
    front_end::{FrontEnd, GlobalStats, SpeakerStats, StatsAccumulator},
};

use super::{CorpusError, Item};

/// Over all of `items`.
pub(super) fn global(
    items: &[Item],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
) -> Result<GlobalStats, CorpusError> {
    let mut sums = StatsAccumulator::default();
    let items: Vec<&Item> = items.iter().collect();
    hear(&items, front_end, abandoned, |_, features| {
        sums.add(features)
    })?;
    Ok(sums.finish())
}

/// Over each speaker's of `items`: appended to `voices`, where each item is then told its place.
pub(super) fn of_speakers(
    items: &mut [Item],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
    voices: &mut Vec<GlobalStats>,
) -> Result<(), CorpusError> {
    let mut sums = SpeakerStats::new();
    let known: Vec<&Item> = items.iter().filter(|item| item.speaker.is_some()).collect();
    hear(&known, front_end, abandoned, |item, features| {
        sums.add(item.speaker.as_deref().unwrap_or_default(), features);
    })?;
    let mut places = BTreeMap::new();
    for (name, stats) in sums.finish() {
        places.insert(name, voices.len() as u32);
        voices.push(stats);
    }
    for item in items {
        let place = item.speaker.as_ref().and_then(|name| places.get(name));
        item.voice = place.copied();
    }
    Ok(())
}

/// Features are computed in parallel and given to `add` in order, so that sums are the same on any number of
/// threads.
fn hear(
    items: &[&Item],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
    mut add: impl FnMut(&Item, &Features),
) -> Result<(), CorpusError> {
    /// Utterances whose features are held at once.
    const HELD: usize = 128;
    for items in items.chunks(HELD) {
        if abandoned.load(Ordering::Relaxed) {
            return Err(CorpusError::Abandoned);
        }
        let features: Vec<_> = items
            .par_iter()
            .map(|item| {
                let audio = match item.segment.clone() {
                    None => audio::read(&item.audio),
                    Some(part) => audio::read_segment(&item.audio, part),
                };
                let audio = audio.map_err(|source| CorpusError::Audio {
                    utterance: item.id.clone(),
                    source: source.into(),
                    others: 0,
                })?;
                let features = front_end.raw_features(&audio);
                features.map_err(|source| CorpusError::Features {
                    utterance: item.id.clone(),
                    source,
                })
            })
            .collect::<Result<_, CorpusError>>()?;
        for (item, features) in items.iter().zip(&features) {
            add(item, features);
        }
    }
    Ok(())
}
