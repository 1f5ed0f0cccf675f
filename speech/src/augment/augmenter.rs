//! One recording on one occasion: which of all changes befall it, and the features that come of them. The
//! order is that of the world: the voice (speed), the room, the noise, the microphone (gain), then the ear
//! (warp, tempo). Each kind of change draws from a stream of its own, so that another's settings do not
//! move it. It does not depend on where sound comes from and who asks.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::{
    AugmentConfig, AugmentError, noise, refuse, room::Room, spec_augment, speed::SpeedFilter,
};
use crate::features::mel::MelBank;
use crate::features::{Features, FeaturesConfig};
use crate::front_end::{FeatureOverrides, FrontEnd, FrontEndError, Scaling};
use crate::random::Stream;

/// First tag of the streams that augmentation draws from.
const AUGMENTATION: u64 = 0x6175_676d;
/// First tag of the streams that rooms are drawn from.
const ROOMS: u64 = 0x726f_6f6d;
/// Rooms of a job.
const ROOM_COUNT: u64 = 64;

/// Fourth tags: what a stream below (epoch, utterance) is for.
#[derive(Clone, Copy)]
enum RandomPurpose {
    Speed = 1,
    Tempo,
    Warp,
    Gain,
    Noise,
    Room,
}

/// When something is drawn: once in each epoch for each utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// The epoch of training that it is in.
    pub epoch: u32,
    /// Its place in the training set.
    pub utterance: u32,
}

/// A recording before anything has befallen it.
#[derive(Clone, Copy)]
pub struct AugmentInput<'a> {
    /// See [`FrontEnd::samples`].
    pub samples: &'a [f32],
    /// Whose voice it is; see [`FrontEnd::features_of`].
    pub speaker: Option<&'a Scaling>,
    /// For babble: other recordings, the same in the same order on each call for an occasion.
    pub others: &'a [&'a [f32]],
}

/// A job's augmentation with its tables. Shared between threads; what it gives does not depend on which of
/// them asks, or when.
pub struct Augmenter {
    config: AugmentConfig,
    seed: u64,
    stack: usize,
    rate: u32,
    speeds: Vec<Option<SpeedFilter>>,
    /// One for each hundredth of the range; `None` where the axis stays as it is.
    warps: Vec<Option<MelBank>>,
    /// Made when they are first drawn.
    rooms: Vec<OnceLock<Room>>,
}

impl Augmenter {
    /// # Errors
    /// When a value is out of bounds, or a warp squeezes a mel band until no bin of the spectrum is left
    /// in it.
    pub fn new(
        config: &AugmentConfig,
        features: &FeaturesConfig,
        seed: u64,
    ) -> Result<Self, AugmentError> {
        config.check()?;
        let [low, high] = config.vtlp.map(|factor| (factor * 100.0).round() as u32);
        // What cannot be read at all is the front end's to refuse.
        let bank = |hundredths: u32| match (hundredths, features.geometry()) {
            (100, _) | (_, Err(_)) => Ok(None),
            (_, Ok(geometry)) => {
                let warp = f64::from(hundredths) / 100.0;
                let bank =
                    MelBank::warped(&geometry, features.sample_rate, features.mel_bins, warp);
                bank.map(Some).or_else(|band| {
                    let reason = format!(
                        "reaches {warp}, and band {} of features.mel_bins then holds no bin of the spectrum; \
                         narrow the range or lower mel_bins",
                        band + 1
                    );
                    refuse("vtlp", reason)
                })
            }
        };
        Ok(Self {
            seed,
            stack: features.stack,
            rate: features.sample_rate,
            speeds: config
                .speed
                .iter()
                .map(|&factor| SpeedFilter::new(factor))
                .collect(),
            warps: (low..=high).map(bank).collect::<Result<_, _>>()?,
            rooms: (0..ROOM_COUNT).map(|_| OnceLock::new()).collect(),
            config: config.clone(),
        })
    }

    /// Whether features have to be made anew for each occasion; masks can be laid over old ones.
    pub fn changes_sound(&self) -> bool {
        self.config.changes_sound()
    }

    /// Whether [`mask`](Self::mask) does anything.
    pub fn masks(&self) -> bool {
        self.config.freq_masks > 0 || self.config.time_masks > 0
    }

    /// Masks what the model sees.
    pub fn mask(&self, features: &mut Features, on: Occasion) {
        let tags = [AUGMENTATION, u64::from(on.epoch), u64::from(on.utterance)];
        let mut stream = Stream::new(self.seed, &tags);
        spec_augment(features, &self.config, self.stack, &mut stream);
    }

    /// What the model sees of a recording on an occasion, masks aside. Speech that speed and tempo would
    /// leave fewer than `needed` frames of keeps its pace.
    pub fn features(
        &self,
        front_end: &FrontEnd,
        recording: AugmentInput<'_>,
        on: Occasion,
        needed: usize,
    ) -> Result<Features, FrontEndError> {
        let AugmentInput {
            samples,
            speaker,
            others,
        } = recording;
        let mut overrides = front_end.overrides(speaker);
        let mut stream = self.stream(on, RandomPurpose::Warp);
        overrides.bank = self.warps[stream.below(self.warps.len() as u64) as usize].as_ref();

        let (speed, tempo) = self.pace(on);
        let hurried = FeatureOverrides {
            shift: ((overrides.shift as f64 * tempo).round() as usize).max(1),
            ..overrides
        };
        let length = speed.map_or(samples.len(), |speed| speed.length(samples.len()));
        let mut samples = Cow::Borrowed(samples);
        if front_end.frames_of(length, &hurried) >= needed.max(1) {
            overrides = hurried;
            if let Some(speed) = speed {
                samples = Cow::Owned(speed.play(&samples));
            }
        }

        let mut stream = self.stream(on, RandomPurpose::Room);
        if stream.uniform() < self.config.reverb {
            samples = Cow::Owned(self.room(stream.below(ROOM_COUNT)).sound(&samples));
        }
        let mut stream = self.stream(on, RandomPurpose::Noise);
        if stream.uniform() < self.config.noise {
            let kinds = &self.config.noise_kinds;
            let kind = kinds[stream.below(kinds.len() as u64) as usize];
            let snr_db = within(self.config.noise_snr_db, &mut stream);
            noise::add(samples.to_mut(), kind, snr_db, others, &mut stream);
        }
        let gain_db = within(
            self.config.gain_db,
            &mut self.stream(on, RandomPurpose::Gain),
        );
        if gain_db != 0.0 {
            let gain = 10f64.powf(gain_db / 20.0) as f32;
            samples
                .to_mut()
                .iter_mut()
                .for_each(|sample| *sample *= gain);
        }
        front_end.compute(&samples, &overrides)
    }

    fn pace(&self, on: Occasion) -> (Option<&SpeedFilter>, f64) {
        let speed = match self.speeds.len() as u64 {
            0 => None,
            factors => {
                let drawn = self.stream(on, RandomPurpose::Speed).below(factors);
                self.speeds[drawn as usize].as_ref()
            }
        };
        let tempo = within(
            self.config.tempo,
            &mut self.stream(on, RandomPurpose::Tempo),
        );
        (speed, tempo)
    }

    fn room(&self, number: u64) -> &Room {
        self.rooms[number as usize].get_or_init(|| {
            let mut stream = Stream::new(self.seed, &[ROOMS, number]);
            let seconds = within(self.config.reverb_seconds, &mut stream);
            Room::draw(seconds, self.rate, &mut stream)
        })
    }

    fn stream(&self, on: Occasion, kind: RandomPurpose) -> Stream {
        let (epoch, utterance) = (u64::from(on.epoch), u64::from(on.utterance));
        Stream::new(self.seed, &[AUGMENTATION, epoch, utterance, kind as u64])
    }
}

impl std::fmt::Debug for Augmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest is tables made from these.
        f.debug_struct("Augmenter")
            .field("config", &self.config)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

fn within([low, high]: [f64; 2], stream: &mut Stream) -> f64 {
    if low == high {
        low
    } else {
        stream.between(low, high)
    }
}

#[cfg(test)]
mod tests;
