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
    manifest::Utterance,
};

use super::{CorpusError, Item};
use crate::job::Job;

/// Reads each file once, however many utterances are in it: its header is checked and its bytes are
/// digested. Errors are counted over all utterances and the first is told.
pub(super) fn inspect_all(
    job: &Job,
    utterances: Vec<Utterance>,
    front_end: &FrontEnd,
    abandoned: &AtomicBool,
) -> Result<Vec<Item>, CorpusError> {
    let mut users: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (place, utterance) in utterances.iter().enumerate() {
        users.entry(&utterance.audio).or_default().push(place);
    }
    // In the order of the manifest, which follows the disk more often than that of the names.
    let mut files: Vec<(&Path, Vec<usize>)> = users.into_iter().collect();
    files.sort_by_key(|(_, users)| users[0]);
    let inspected: Vec<Vec<(usize, Result<Item, CorpusError>)>> = files
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
    let mut inspected: Vec<(usize, Result<Item, CorpusError>)> =
        inspected.into_iter().flatten().collect();
    inspected.sort_by_key(|(place, _)| *place);
    let failed = inspected.iter().filter(|(_, item)| item.is_err()).count();
    let items: Result<Vec<Item>, CorpusError> =
        inspected.into_iter().map(|(_, item)| item).collect();
    items.map_err(|mut error| {
        match &mut error {
            CorpusError::Audio { others, .. } | CorpusError::Rate { others, .. } => {
                *others = failed - 1
            }
            _ => {}
        }
        error
    })
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
) -> Result<Item, CorpusError> {
    let fault = |source| CorpusError::Audio {
        utterance: utterance.id.clone(),
        source,
        others: 0,
    };
    let Recording {
        info,
        bytes,
        digest,
    } = match file {
        Ok(recording) => recording,
        Err(error) => return Err(fault(Arc::clone(error))),
    };
    if !job.features.resample && info.sample_rate != job.features.sample_rate {
        return Err(CorpusError::Rate {
            utterance: utterance.id.clone(),
            found: info.sample_rate,
            wanted: job.features.sample_rate,
            others: 0,
        });
    }
    let segment = utterance.segment(info.frames, info.sample_rate);
    if let Some(part) = segment.clone().filter(Range::is_empty) {
        let error = AudioError::Segment {
            path: utterance.audio.clone(),
            part,
            held: info.frames,
        };
        return Err(fault(error.into()));
    }
    let samples = segment
        .as_ref()
        .map_or(info.frames, |part| part.end - part.start);
    Ok(Item {
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
    })
}

fn digest_file(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok((bytes, *hasher.finalize().as_bytes()))
}
