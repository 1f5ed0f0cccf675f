//! The running job as its workers may know it: its recipe, and the recordings of the utterances that each of them was
//! leased. It decides which files a worker may fetch; it does not depend on how they are sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::{
    contribution::{Digest, PassKind},
    wire::Wire,
};

use crate::{
    corpus::{Item, Prepared, Recording},
    leases::WorkerId,
};

/// What workers may know of the running job.
#[derive(Debug)]
pub(crate) struct ActiveJob {
    pub job: String,
    pub recipe_json: String,
    pub wire: Wire,
    pub prepared: Arc<Prepared>,
    /// The only files that are ever served, by their digests.
    audio: Vec<Arc<Recording>>,
    /// The place in `audio` of each utterance's recording, of the training and of the validation set.
    places: [Vec<u32>; 2],
    leased: Mutex<BTreeMap<WorkerId, LeasedAudio>>,
}

/// The recordings of the utterances that a worker was leased: a bit for each place in [`ActiveJob::audio`].
#[derive(Debug, Default)]
struct LeasedAudio(Vec<u64>);

impl LeasedAudio {
    fn insert(&mut self, place: u32) {
        let (word, bit) = (place as usize / 64, place % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn contains(&self, place: usize) -> bool {
        let word = self.0.get(place / 64).copied().unwrap_or(0);
        word >> (place % 64) & 1 == 1
    }
}

impl ActiveJob {
    pub(crate) fn new(job: String, wire: Wire, prepared: Arc<Prepared>) -> Self {
        let items = prepared.train.iter().chain(&prepared.valid);
        let mut audio: Vec<Arc<Recording>> = Vec::new();
        for item in items {
            // Segments of one recording follow each other, as a rule.
            let last = audio.last();
            if last.is_none_or(|last| !Arc::ptr_eq(last, &item.recording)) {
                audio.push(Arc::clone(&item.recording));
            }
        }
        // Copies of a file have the same bytes: the one that is named first serves for all.
        audio.sort_by_key(|one| one.digest);
        audio.dedup_by(|a, b| a.digest == b.digest);
        audio.shrink_to_fit();
        let places = |items: &[Item]| -> Vec<u32> {
            let place =
                |item: &Item| audio.partition_point(|one| one.digest < item.recording.digest);
            items.iter().map(|item| place(item) as u32).collect()
        };
        Self {
            job,
            recipe_json: prepared.recipe.to_json(),
            wire,
            places: [places(&prepared.train), places(&prepared.valid)],
            prepared,
            audio,
            leased: Mutex::default(),
        }
    }

    /// Takes note of what a worker was leased: `utterances` by their places in the set that a pass of `kind` is about.
    pub(super) fn lease(
        &self,
        worker: WorkerId,
        kind: PassKind,
        utterances: impl IntoIterator<Item = u32>,
    ) {
        let places = match kind {
            PassKind::Gradient => &self.places[0],
            PassKind::Evaluation => &self.places[1],
        };
        let mut leased = self.leased();
        let audio = leased.entry(worker).or_default();
        for utterance in utterances {
            audio.insert(places[utterance as usize]);
        }
    }

    /// Forgets what a worker was leased that is gone.
    pub(super) fn forget(&self, worker: WorkerId) {
        self.leased().remove(&worker);
    }

    /// The file of this digest, if it is one of the job's and belongs to an utterance that `worker` was leased.
    pub(crate) fn audio(&self, worker: WorkerId, digest: &Digest) -> Option<&Arc<Recording>> {
        let place = self.audio.binary_search_by(|one| one.digest.cmp(digest));
        let place = place.ok()?;
        let leased = self.leased();
        let is_leased = leased
            .get(&worker)
            .is_some_and(|leased| leased.contains(place));
        is_leased.then(|| &self.audio[place])
    }

    fn leased(&self) -> MutexGuard<'_, BTreeMap<WorkerId, LeasedAudio>> {
        // Nothing panics while it is held, and the map is whole in any case.
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leased_recordings_are_found_across_words() {
        let mut leased = LeasedAudio::default();
        for place in [0, 63, 64, 200] {
            leased.insert(place);
        }
        let found: Vec<usize> = (0..400).filter(|&place| leased.contains(place)).collect();
        assert_eq!(found, [0, 63, 64, 200]);
    }
}
