//! Mean and variance of features over the training set, or over each speaker's utterances of a set. It
//! decides the order of additions, which is the manifest's; it refuses to know who normalises with them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rayon::prelude::*;
use speech::{
    audio,
    features::Features,
    front_end::{FrontEnd, GlobalStats, SpeakerStats, StatsAccumulator},
    left_out::Reason,
};

use super::{CorpusError, Item, recordings::Unusable};

/// Statistics over a set.
pub(super) struct Global {
    pub stats: GlobalStats,
    /// Places of the items that cannot be used and are not among them, ascending.
    pub unusable: Vec<(usize, Unusable)>,
}

/// Over all of `items`.
pub(super) fn global(
    items: &[Item],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
) -> Result<Global, CorpusError> {
    let mut sums = StatsAccumulator::default();
    let items: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    let unusable = hear(&items, front_end, abandoned, |_, features| {
        sums.add(features)
    })?;
    Ok(Global {
        stats: sums.finish(),
        unusable,
    })
}

/// Over each speaker's of `items`: appended to `voices`, where each item is then told its place. Gives the
/// places of the items that cannot be used and are not among them, ascending; of those whose speaker is named.
pub(super) fn of_speakers(
    items: &mut [Item],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
    voices: &mut Vec<GlobalStats>,
) -> Result<Vec<(usize, Unusable)>, CorpusError> {
    let mut sums = SpeakerStats::new();
    let known = items.iter().enumerate();
    let known: Vec<(usize, &Item)> = known.filter(|(_, item)| item.speaker.is_some()).collect();
    let unusable = hear(&known, front_end, abandoned, |item, features| {
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
    Ok(unusable)
}

/// Features are computed in parallel and given to `add` in order, so that sums are the same on any number of
/// threads. Gives the items that cannot be used, with their places.
fn hear(
    items: &[(usize, &Item)],
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
    mut add: impl FnMut(&Item, &Features),
) -> Result<Vec<(usize, Unusable)>, CorpusError> {
    /// Utterances whose features are held at once.
    const HELD: usize = 128;
    let mut unusable = Vec::new();
    for items in items.chunks(HELD) {
        if abandoned.load(Ordering::Relaxed) {
            return Err(CorpusError::Abandoned);
        }
        let features: Vec<_> = items
            .par_iter()
            .map(|(_, item)| features_of(item, front_end))
            .collect::<Result<_, CorpusError>>()?;
        for ((place, item), features) in items.iter().zip(features) {
            match features {
                Ok(features) => add(item, &features),
                Err(why) => unusable.push((*place, why)),
            }
        }
    }
    Ok(unusable)
}

fn features_of(
    item: &Item,
    front_end: &FrontEnd,
) -> Result<Result<Features, Unusable>, CorpusError> {
    let audio = match item.segment.clone() {
        None => audio::read(&item.audio),
        Some(part) => audio::read_segment(&item.audio, part),
    };
    let audio = match audio {
        Ok(audio) => audio,
        Err(error) => return Unusable::audio(&item.id, &Arc::new(error)).map(Err),
    };
    match front_end.raw_features(&audio) {
        Ok(features) => Ok(Ok(features)),
        Err(source) => match Reason::of_front_end(&source) {
            Some(reason) => Ok(Err(Unusable {
                utterance: item.id.clone(),
                reason,
                told: format!("{}: {source}", item.audio.display()),
            })),
            None => Err(CorpusError::Features {
                utterance: item.id.clone(),
                source,
            }),
        },
    }
}
