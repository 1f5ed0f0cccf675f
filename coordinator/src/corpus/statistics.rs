//! Mean and variance of features over the training set, or over each speaker's utterances of a set. It
//! decides the order of additions, which is the manifest's; it does not depend on who normalises with them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rayon::prelude::*;
use speech::{
    audio::{self, Segments},
    corpus_roots::CorpusRoots,
    features::{Features, FeaturesConfig},
    front_end::{FrontEnd, GlobalStats, SpeakerStats, StatsAccumulator},
    left_out::Reason,
};

use super::{CorpusError, Item, cache, recordings::Unusable};

/// Statistics over a set.
pub(super) struct Global {
    pub stats: GlobalStats,
    /// Places of the items that cannot be used and are not among them, ascending.
    pub unusable: Vec<(usize, Unusable)>,
}

/// How features are made of recordings.
pub(super) struct FeatureSource<'a> {
    pub front_end: &'a FrontEnd,
    /// The features that the statistics are of.
    pub features: &'a FeaturesConfig,
    /// Where recordings may be read.
    pub roots: &'a CorpusRoots,
    /// Where statistics are kept for the next start.
    pub cache_dir: Option<&'a Path>,
    pub abandoned: &'a AtomicBool,
}

/// Over all of `items`.
pub(super) fn global(items: &[Item], features: &FeatureSource) -> Result<Global, CorpusError> {
    let kept = StatisticsFile::of("global", items, features);
    if let Some([stats]) = kept.read().as_deref() {
        return Ok(Global {
            stats: stats.clone(),
            unusable: Vec::new(),
        });
    }
    let mut sums = StatsAccumulator::default();
    let items: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    let unusable = accumulate(&items, features, |_, features| sums.add(features))?;
    let stats = sums.finish();
    if unusable.is_empty() {
        kept.write(std::slice::from_ref(&stats));
    }
    Ok(Global { stats, unusable })
}

/// Over each speaker's of `items`: appended to `voices`, where each item is then told its place. Gives the
/// places of the items that cannot be used and are not among them, ascending; of those whose speaker is named.
pub(super) fn of_speakers(
    items: &mut [Item],
    features: &FeatureSource,
    voices: &mut Vec<GlobalStats>,
) -> Result<Vec<(usize, Unusable)>, CorpusError> {
    let kept = StatisticsFile::of("speakers", items, features);
    let names: BTreeSet<&str> = items
        .iter()
        .filter_map(|it| it.speaker.as_deref())
        .collect();
    let (names, stats, unusable): (Vec<String>, Vec<GlobalStats>, _) = match kept.read() {
        Some(stats) if stats.len() == names.len() => {
            let names = names.into_iter().map(str::to_owned);
            (names.collect(), stats, Vec::new())
        }
        _ => {
            let mut sums = SpeakerStats::new();
            let known = items.iter().enumerate();
            let known: Vec<(usize, &Item)> =
                known.filter(|(_, item)| item.speaker.is_some()).collect();
            let unusable = accumulate(&known, features, |item, features| {
                sums.add(item.speaker.as_deref().unwrap_or_default(), features);
            })?;
            let (names, stats): (Vec<_>, Vec<_>) = sums.finish().into_iter().unzip();
            if unusable.is_empty() {
                kept.write(&stats);
            }
            (names, stats, unusable)
        }
    };
    let first = voices.len() as u32;
    voices.extend(stats);
    for item in items {
        let place = item
            .speaker
            .as_ref()
            .and_then(|name| names.binary_search(name).ok());
        item.voice = place.map(|place| first + place as u32);
    }
    Ok(unusable)
}

/// Features are computed in parallel and given to `add` in order, so that sums are the same on any number of
/// threads. Gives the items that cannot be used, with their places.
fn accumulate(
    items: &[(usize, &Item)],
    features: &FeatureSource,
    mut add: impl FnMut(&Item, &Features),
) -> Result<Vec<(usize, Unusable)>, CorpusError> {
    /// Utterances whose features are held at once.
    const UTTERANCES_AT_ONCE: usize = 128;
    let in_parts = items.iter().filter(|(_, item)| item.segment.is_some());
    let segments = Segments::beneath(
        features.roots.clone(),
        in_parts.map(|(_, item)| (&*item.recording.path, item.channel)),
    );
    let mut unusable = Vec::new();
    for items in items.chunks(UTTERANCES_AT_ONCE) {
        if features.abandoned.load(Ordering::Relaxed) {
            return Err(CorpusError::Abandoned);
        }
        let features: Vec<_> = items
            .par_iter()
            .map(|(_, item)| features_of(item, &segments, features))
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
    segments: &Segments,
    source: &FeatureSource,
) -> Result<Result<Features, Unusable>, CorpusError> {
    let audio = match item.segment.clone() {
        None => audio::read_beneath(source.roots, &item.recording.path, None, item.channel),
        Some(part) => segments.read(&item.recording.path, Some(part), item.channel),
    };
    let audio = match audio {
        Ok(heard) => heard.audio,
        Err(error) => return Unusable::audio(&item.id, &Arc::new(error)).map(Err),
    };
    match source.front_end.raw_features(&audio) {
        Ok(features) => Ok(Ok(features)),
        Err(source) => match Reason::of_front_end(&source) {
            Some(reason) => Ok(Err(Unusable {
                utterance: item.id.clone(),
                reason,
                told: format!("{}: {source}", item.recording.path.display()),
            })),
            None => Err(CorpusError::Features {
                utterance: item.id.clone(),
                source,
            }),
        },
    }
}

/// Statistics that an earlier start may have computed: of the same samples, by the same program.
struct StatisticsFile(Option<PathBuf>);

impl StatisticsFile {
    /// Bytes of the statistics of half a million speakers.
    const MAX_FILE_BYTES: u64 = 1 << 30;

    fn of(kind: &str, items: &[Item], features: &FeatureSource) -> Self {
        let place = features.cache_dir.zip(cache::program());
        Self(place.map(|(folder, program)| {
            let mut hasher = blake3::Hasher::new();
            let features = serde_json::to_vec(features.features).expect("settings are JSON");
            hasher.update(&program).update(kind.as_bytes()).update(&[0]);
            hasher.update(&features);
            for item in items {
                hasher.update(&item.recording.digest);
                let part = item.segment.clone().unwrap_or(0..u64::MAX);
                hasher.update(&part.start.to_le_bytes());
                hasher.update(&part.end.to_le_bytes());
                if let Some(channel) = item.channel {
                    hasher.update(b"channel").update(&channel.to_le_bytes());
                }
                let name = item.speaker.as_deref().unwrap_or_default();
                hasher.update(&[u8::from(item.speaker.is_some())]);
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
            }
            let name = hasher.finalize().to_hex();
            folder.join(format!("{}.statistics", &name[..32]))
        }))
    }

    fn read(&self) -> Option<Vec<GlobalStats>> {
        let bytes = cache::read(self.0.as_ref()?, Self::MAX_FILE_BYTES)?;
        let (mut words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let mut next = |count: usize| {
            let (head, tail) = words.split_at_checked(count)?;
            words = tail;
            Some(head)
        };
        let mut all = Vec::new();
        while let Some([frames, dims]) = next(2) {
            let dims = usize::try_from(u64::from_le_bytes(*dims)).ok()?;
            let mut values = || {
                let values = next(dims)?.iter();
                Some(values.map(|value| f64::from_le_bytes(*value)).collect())
            };
            all.push(GlobalStats {
                mean: values()?,
                variance: values()?,
                frames: u64::from_le_bytes(*frames),
            });
        }
        Some(all)
    }

    fn write(&self, stats: &[GlobalStats]) {
        let Some(path) = &self.0 else { return };
        let mut bytes = Vec::new();
        for one in stats {
            bytes.extend(one.frames.to_le_bytes());
            bytes.extend((one.mean.len() as u64).to_le_bytes());
            for value in one.mean.iter().chain(&one.variance) {
                bytes.extend(value.to_le_bytes());
            }
        }
        if bytes.len() as u64 <= Self::MAX_FILE_BYTES {
            cache::write(path, [bytes.as_slice()].into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_kept_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let kept = StatisticsFile(Some(folder.path().join("a.statistics")));
        assert_eq!(kept.read(), None);
        let stats: Vec<GlobalStats> = (0..3)
            .map(|speaker| GlobalStats {
                mean: vec![f64::from(speaker) / 3.0; 5],
                variance: vec![f64::from(speaker + 1).sqrt(); 5],
                frames: 7 + u64::from(speaker as u32),
            })
            .collect();
        kept.write(&stats);
        assert_eq!(kept.read(), Some(stats));
        kept.write(&[]);
        assert_eq!(kept.read(), Some(Vec::new()));
        // Dimensions that are not there.
        let words = [3_u64, 1 << 60].map(u64::to_le_bytes);
        cache::write(kept.0.as_ref().unwrap(), [words.as_flattened()].into_iter());
        assert_eq!(kept.read(), None);
        assert_eq!(StatisticsFile(None).read(), None);
    }
}
