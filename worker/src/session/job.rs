//! A job as a worker needs it: the recipe and everything that follows from it.

use proto::{contribution::Digest, v1, wire::Wire};
use speech::{
    augment::Augmenter,
    front_end::{FrontEnd, FrontEndError, GlobalStats, Scaling},
    model::ModelSpec,
    recipe::Recipe,
};

use super::lease::Utterance;

pub(super) struct Job {
    pub id: String,
    pub recipe: Recipe,
    pub spec: ModelSpec,
    pub front_end: FrontEnd,
    pub augmenter: Augmenter,
    pub wire: Wire,
    /// The digest of everything that features depend on, the audio and the speaker aside.
    front_end_digest: blake3::Hash,
}

impl Job {
    /// # Errors
    /// What in the description cannot be, as the job's owner should read it.
    pub(super) fn new(id: String, description: &v1::JobDescription) -> Result<Self, String> {
        let fail = |error: &dyn std::error::Error| format!("its recipe cannot be used: {error}");
        let recipe = Recipe::from_json(&description.recipe_json).map_err(|error| fail(&error))?;
        let spec = recipe.model_spec().map_err(|error| fail(&error))?;
        let front_end = recipe.front_end().map_err(|error| fail(&error))?;
        let augmenter = Augmenter::new(&recipe.augment, &recipe.features, recipe.seed)
            .map_err(|error| fail(&error))?;
        let settings =
            serde_json::to_vec(&(&recipe.features, &recipe.stats)).map_err(|error| fail(&error))?;
        Ok(Self {
            id,
            recipe,
            spec,
            front_end,
            augmenter,
            wire: Wire::try_from(description.wire()).map_err(|error| fail(&error))?,
            front_end_digest: blake3::hash(&settings),
        })
    }

    /// How the utterance's speaker is normalised; `None` where that does not depend on who it is.
    ///
    /// # Errors
    /// When the speaker's statistics do not fit the features.
    pub(super) fn scaling(&self, utterance: &Utterance) -> Result<Option<Scaling>, FrontEndError> {
        let voice = utterance.voice.as_ref();
        voice.map(|stats| self.front_end.scaling(stats)).transpose()
    }

    /// Names an utterance's features.
    pub(super) fn feature_key(&self, utterance: &Utterance) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.front_end_digest.as_bytes())
            .update(&utterance.segment_digest());
        if let Some(stats) = &utterance.voice {
            hasher.update(digest(stats).as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Names the samples of audio with this digest, at the features' rate.
    pub(super) fn sound_key(&self, audio: &Digest) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&self.recipe.features.sample_rate.to_le_bytes())
            .update(audio);
        *hasher.finalize().as_bytes()
    }
}

/// Names a speaker's statistics.
fn digest(stats: &GlobalStats) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for value in stats.mean.iter().chain(&stats.variance) {
        hasher.update(&value.to_le_bytes());
    }
    hasher.finalize()
}
