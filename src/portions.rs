//! Utterances of a manifest as a model hears them: so many recordings are read at a time, and what cannot be used is
//! left out by name, within a bound.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use speech::{
    audio::{Audio, Segments},
    escape::escape,
    features::Features,
    front_end::{FrontEndError, Scaling},
    left_out::{LeftOut, Reason},
    manifest::{BadLine, Utterance},
    tolerance::MaxBad,
};
use worker::inference::Model;

use crate::{
    exit::{CommandError, Result},
    output,
};

/// Recordings in memory at once: so many at most, and no more than [`MAX_PORTION_SAMPLES`] unless one has more.
pub(crate) const MAX_PORTION_UTTERANCES: usize = 64;
const MAX_PORTION_SAMPLES: usize = 8 << 20;
/// Utterances that are left out are named one by one up to this many.
const NAMED_UTTERANCES: u64 = 5;

/// Where utterances are read from.
pub(crate) struct RecordingReader<'a> {
    pub segments: &'a Segments,
    pub cancelled: &'a mut Cancelled,
}

/// Recordings whose channels are of opposite phase, so that nothing is left of their mean.
#[derive(Default)]
pub(crate) struct Cancelled(BTreeSet<PathBuf>);

impl Cancelled {
    fn add(&mut self, path: &Path) {
        if !self.0.contains(path) {
            self.0.insert(path.to_owned());
        }
    }

    pub(crate) fn tell(&self) {
        let Some(first) = self.0.first() else { return };
        output::message(&format!(
            "warning: the channels of {} recordings are of opposite phase and cancel, so that hardly a sound is left of \
             their mean, first of {}: name the channel that is meant with `channel` in the manifest",
            self.0.len(),
            first.display().to_string().escape_debug()
        ));
    }
}

/// An utterance that can be recognised.
pub(crate) struct Ready {
    pub utterance: Utterance,
    /// The length of its recording.
    pub seconds: f64,
    pub features: Features,
}

/// The next utterances that fit into memory together, without those that cannot be used.
pub(crate) fn portion(
    model: &Model,
    rest: &mut impl Iterator<Item = Utterance>,
    from: RecordingReader,
    speakers: &BTreeMap<String, Scaling>,
    leaving: &mut Leaving,
) -> Result<Vec<Ready>> {
    let (mut utterances, mut recordings, mut samples) = (Vec::new(), Vec::<Audio>::new(), 0);
    while recordings.len() < MAX_PORTION_UTTERANCES && samples < MAX_PORTION_SAMPLES {
        let Some(utterance) = rest.next() else { break };
        match from.segments.utterance(&utterance) {
            Ok(heard) => {
                if heard.cancels {
                    from.cancelled.add(&utterance.audio);
                }
                let recording = heard.audio;
                samples += recording.samples.len();
                recordings.push(recording);
                utterances.push(utterance);
            }
            Err(error) => {
                leaving.leave_out(&utterance.id, Reason::of_audio(&error), &error.to_string())?;
            }
        }
    }
    let found = features_of(model, &recordings, &utterances, speakers);
    let mut ready = Vec::with_capacity(utterances.len());
    for ((utterance, recording), features) in utterances.into_iter().zip(&recordings).zip(found) {
        match features {
            Ok(features) => ready.push(Ready {
                seconds: recording.seconds(),
                utterance,
                features,
            }),
            Err(error) => {
                let told = format!("{}: {error}", utterance.audio.display());
                match Reason::of_front_end(&error) {
                    None if !matches!(error, FrontEndError::Audio(_)) => {
                        return Err(CommandError::Data(told).into());
                    }
                    reason => leaving.leave_out(&utterance.id, reason, &told)?,
                }
            }
        }
    }
    Ok(ready)
}

/// The account of what is left out of a manifest.
pub(crate) struct Leaving<'a> {
    /// The path of the manifest.
    path: &'a Path,
    bound: MaxBad,
    left_out: LeftOut,
    /// Utterances that are named one by one.
    named: u64,
}

impl<'a> Leaving<'a> {
    /// Opens the account of the manifest at `path`, which has so many utterances and `bad` lines that cannot be used.
    pub(crate) fn new(
        path: &'a Path,
        bound: MaxBad,
        utterances: usize,
        bad: Vec<BadLine>,
    ) -> Result<Self> {
        Self::naming(NAMED_UTTERANCES, path, bound, utterances, bad)
    }

    /// As [`Self::new`], and each that is left out is named.
    pub(crate) fn naming_all(
        path: &'a Path,
        bound: MaxBad,
        utterances: usize,
        bad: Vec<BadLine>,
    ) -> Result<Self> {
        Self::naming(u64::MAX, path, bound, utterances, bad)
    }

    fn naming(
        named: u64,
        path: &'a Path,
        bound: MaxBad,
        utterances: usize,
        bad: Vec<BadLine>,
    ) -> Result<Self> {
        let mut leaving = Self {
            path,
            bound,
            left_out: LeftOut::of(utterances + bad.len()),
            named,
        };
        for BadLine { line, problem } in bad {
            let told = format!("{}:{line}: {problem}", path.display());
            leaving.leave_out(&format!("line {line}"), Some(Reason::BadLine), &told)?;
        }
        Ok(leaving)
    }

    /// Names and counts an utterance that cannot be used; without a reason, the system failed.
    pub(crate) fn leave_out(
        &mut self,
        utterance: &str,
        reason: Option<Reason>,
        told: &str,
    ) -> Result<()> {
        let Some(reason) = reason else {
            let told = format!("utterance {utterance:?}: {told}");
            return Err(CommandError::Infrastructure(told).into());
        };
        let before = self.left_out.utterances;
        if before < self.named {
            output::message(&format!(
                "utterance {} is left out: {}",
                escape(utterance),
                escape(told)
            ));
        } else if before == self.named {
            output::message("more utterances are left out; the end counts them");
        }
        self.left_out.add(utterance, reason, told);
        let path = self.path.display();
        self.left_out
            .check(self.bound)
            .map_err(|error| CommandError::Data(format!("{path}: {error}")).into())
    }

    /// What was left out, unless that is all: none of the utterances could be `done`.
    pub(crate) fn finish(self, count: usize, done: &str) -> Result<LeftOut> {
        match self.left_out.examples.first() {
            Some(first) if count == 0 => {
                let told = format!(
                    "{}: none of the {} utterances can be {done}; the first, {:?}: {}",
                    self.path.display(),
                    self.left_out.of,
                    first.utterance,
                    escape(&first.reason)
                );
                Err(CommandError::Data(told).into())
            }
            _ => Ok(self.left_out),
        }
    }
}

/// The features of each utterance's recording, normalised by its speaker if that is among `speakers`.
pub(crate) fn features_of(
    model: &Model,
    recordings: &[Audio],
    utterances: &[Utterance],
    speakers: &BTreeMap<String, Scaling>,
) -> Vec<Result<Features, FrontEndError>> {
    let whose = |utterance: &Utterance| speakers.get(utterance.speaker.as_ref()?);
    let whose: Vec<Option<&Scaling>> = utterances.iter().map(whose).collect();
    model.features_of(recordings, &whose)
}
