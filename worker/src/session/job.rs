//! A job as a worker needs it: the recipe and everything that follows from it.

use proto::{contribution::Digest, v1, wire::Wire};
use speech::{
    augment::spec_augment, features::Features, front_end::FrontEnd, model::ModelSpec,
    random::Stream, recipe::Recipe,
};

/// First tag of the streams that augmentation draws from.
const AUGMENTATION: u64 = 0x6175_676d;

pub(super) struct Job {
    pub id: String,
    pub recipe: Recipe,
    pub spec: ModelSpec,
    pub front_end: FrontEnd,
    pub wire: Wire,
    /// Of everything that features depend on, the audio aside.
    front_end_digest: blake3::Hash,
}

impl Job {
    /// # Errors
    /// What in the description cannot be, as the job's owner should read it.
    pub fn new(id: String, description: &v1::JobDescription) -> Result<Self, String> {
        let fail = |error: &dyn std::error::Error| format!("its recipe cannot be used: {error}");
        let recipe = Recipe::from_json(&description.recipe_json).map_err(|error| fail(&error))?;
        let spec = recipe.model_spec().map_err(|error| fail(&error))?;
        let front_end = recipe.front_end().map_err(|error| fail(&error))?;
        let settings =
            serde_json::to_vec(&(&recipe.features, &recipe.stats)).map_err(|error| fail(&error))?;
        Ok(Self {
            id,
            recipe,
            spec,
            front_end,
            wire: Wire::try_from(description.wire()).map_err(|error| fail(&error))?,
            front_end_digest: blake3::hash(&settings),
        })
    }

    /// Names the features of audio with this digest.
    pub fn feature_key(&self, audio: &Digest) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.front_end_digest.as_bytes())
            .update(audio);
        *hasher.finalize().as_bytes()
    }

    /// What an epoch makes of an utterance's features: a function of seed, epoch and utterance,
    /// never of the worker. `None` where it leaves them as they are.
    pub fn augmented(&self, features: &Features, epoch: u32, utterance: u32) -> Option<Features> {
        let config = &self.recipe.augment;
        if config.freq_masks == 0 && config.time_masks == 0 {
            return None;
        }
        let tags = [AUGMENTATION, u64::from(epoch), u64::from(utterance)];
        let mut stream = Stream::new(self.recipe.seed, &tags);
        let mut features = features.clone();
        spec_augment(
            &mut features,
            config,
            self.recipe.features.stack,
            &mut stream,
        );
        Some(features)
    }
}
