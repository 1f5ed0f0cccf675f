//! The recordings behind the utterances of a manifest: what each is and what its bytes are, and which part
//! of it an utterance means. It refuses to know which utterances take part.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rayon::prelude::*;
use speech::{
    audio::{self, AudioError, AudioInfo},
    front_end::FrontEnd,
    left_out::Reason,
    manifest::Utterance,
};

use super::{CorpusError, Item};
use crate::job::Job;

/// An utterance whose recording cannot be used.
#[derive(Debug)]
pub(super) struct Unusable {
    pub utterance: String,
    pub reason: Reason,
    /// What is wrong, with the file's path.
    pub told: String,
}

impl Unusable {
    /// What an error of its audio means for an utterance.
    ///
    /// # Errors
    /// When the system failed, and not the recording.
    pub fn audio(utterance: &str, error: &Arc<AudioError>) -> Result<Self, CorpusError> {
        match Reason::of_audio(error) {
            Some(reason) => Ok(Self {
                utterance: utterance.to_owned(),
                reason,
                told: error.to_string(),
            }),
            None => Err(CorpusError::Audio {
                utterance: utterance.to_owned(),
                source: Arc::clone(error),
            }),
        }
    }
}

/// Reads each file once, however many utterances are in it: its header is checked and its bytes are
/// digested. Gives an item, or why there is none, for each utterance in order.
///
/// # Errors
/// The first failure of the system, in that order.
pub(super) fn inspect_all(
    job: &Job,
    utterances: Vec<Utterance>,
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
) -> Result<Vec<Result<Item, Unusable>>, CorpusError> {
    let mut users: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (place, utterance) in utterances.iter().enumerate() {
        users.entry(&utterance.audio).or_default().push(place);
    }
    // In the order of the manifest, which follows the disk more often than that of the names.
    let mut files: Vec<(&Path, Vec<usize>)> = users.into_iter().collect();
    files.sort_by_key(|(_, users)| users[0]);
    type Inspected = Result<Result<Item, Unusable>, CorpusError>;
    let inspected: Vec<Vec<(usize, Inspected)>> = files
        .into_par_iter()
        .map(|(path, users)| {
            if abandoned.load(Ordering::Relaxed) {
                return vec![(users[0], Err(CorpusError::Abandoned))];
            }
            let file = Recording::read(path).map_err(Arc::new);
            let item = |&place: &usize| {
                let utterance = &utterances[place];
                (place, inspect(job, utterance, &file, front_end))
            };
            users.iter().map(item).collect()
        })
        .collect();
    let mut inspected: Vec<(usize, Inspected)> = inspected.into_iter().flatten().collect();
    inspected.sort_by_key(|(place, _)| *place);
    inspected.into_iter().map(|(_, item)| item).collect()
}

/// What is known of a recording, whoever is heard in it.
struct Recording {
    info: AudioInfo,
    bytes: u64,
    digest: [u8; 32],
}

impl Recording {
    fn read(path: &Path) -> Result<Self, AudioError> {
        let info = audio::inspect(path)?;
        let (bytes, digest) = digest_file(path).map_err(|source| AudioError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            info,
            bytes,
            digest,
        })
    }
}

fn inspect(
    job: &Job,
    utterance: &Utterance,
    file: &Result<Recording, Arc<AudioError>>,
    front_end: &FrontEnd,
) -> Result<Result<Item, Unusable>, CorpusError> {
    let fault = |error: &Arc<AudioError>| Unusable::audio(&utterance.id, error).map(Err);
    let Recording {
        info,
        bytes,
        digest,
    } = match file {
        Ok(recording) => recording,
        Err(error) => return fault(error),
    };
    if !job.features.resample && info.sample_rate != job.features.sample_rate {
        let told = format!(
            "{}: audio at {} Hz where the job says {} Hz; resample it, or set `features.resample = true`",
            utterance.audio.display(),
            info.sample_rate,
            job.features.sample_rate
        );
        return Ok(Err(Unusable {
            utterance: utterance.id.clone(),
            reason: Reason::SamplingRate,
            told,
        }));
    }
    let segment = utterance.segment(info.frames, info.sample_rate);
    if let Some(part) = segment.clone().filter(Range::is_empty) {
        let error = AudioError::Segment {
            path: utterance.audio.clone(),
            part,
            held: info.frames,
        };
        return fault(&error.into());
    }
    let samples = segment
        .as_ref()
        .map_or(info.frames, |part| part.end - part.start);
    Ok(Ok(Item {
        id: utterance.id.clone(),
        audio: utterance.audio.clone(),
        bytes: *bytes,
        digest: *digest,
        segment,
        text: utterance.text.clone(),
        speaker: utterance.speaker.clone(),
        voice: None,
        frames: front_end.output_frames(samples, info.sample_rate) as u64,
        seconds: samples as f64 / f64::from(info.sample_rate.max(1)),
    }))
}

fn digest_file(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok((bytes, *hasher.finalize().as_bytes()))
}
