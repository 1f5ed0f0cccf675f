//! The recordings behind the utterances of a manifest: what each is and what its bytes are, and which part
//! of it an utterance means. It does not depend on which utterances take part.

use std::{
    collections::HashMap,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use rayon::prelude::*;
use speech::{
    audio::{self, AudioError, AudioInfo},
    corpus_roots::CorpusRoots,
    front_end::FrontEnd,
    inspection,
    left_out::Reason,
    manifest::Utterance,
};

use super::{
    CorpusError, Item, Recording,
    index::{Facts, FileStamp, Index, Record, digest_file},
};
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
    pub(super) fn audio(utterance: &str, error: &Arc<AudioError>) -> Result<Self, CorpusError> {
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

/// An item, or why there is none, for each utterance in order.
pub(super) type Inspected = Vec<Result<Item, Unusable>>;

/// Reads each file once, however many utterances are in it and however many names it has: its header is checked
/// and its bytes are digested, unless `index` knows them. Gives an item, or why there is none, for each utterance
/// in order; and what is to be said where durations cut the ends of recordings off. Files that do not lie beneath
/// `roots` cannot be used.
///
/// # Errors
/// The first failure of the system, in that order.
pub(super) fn inspect_all(
    job: &Job,
    roots: &CorpusRoots,
    utterances: Vec<Utterance>,
    front_end: &FrontEnd,
    index: Index,
    abandoned: &AtomicBool,
) -> Result<(Inspected, Option<String>), CorpusError> {
    let (files, file_of) = files(&utterances);
    let found = read_all(&files, roots, index, abandoned)?;
    let files: Vec<File> = files
        .into_iter()
        .zip(found)
        .map(|(path, found)| {
            let found = found?;
            let recording = Recording {
                path: path.to_owned(),
                bytes: found.bytes,
                digest: found.digest,
            };
            Ok((Arc::new(recording), found.info))
        })
        .collect();
    let lengths = utterances.iter().zip(&file_of);
    let cut = inspection::cut_ends(lengths.filter_map(|(utterance, file)| {
        let (_, info) = files[*file as usize].as_ref().ok()?;
        Some((utterance, info.seconds()))
    }));
    let inspected: Vec<Result<Result<Item, Unusable>, CorpusError>> = utterances
        .into_par_iter()
        .zip(file_of)
        .map(|(utterance, file)| inspect(job, utterance, &files[file as usize], front_end))
        .collect();
    let items: Result<Vec<_>, CorpusError> = inspected.into_iter().collect();
    Ok((items?, cut))
}

/// A file, and what its header says.
type File = Result<(Arc<Recording>, AudioInfo), Arc<AudioError>>;

/// The files in the order of the manifest, which follows the disk more often than that of their names, and the
/// place of each utterance's among them.
fn files(utterances: &[Utterance]) -> (Vec<&Path>, Vec<u32>) {
    let mut places: HashMap<&Path, u32> = HashMap::new();
    let mut files = Vec::new();
    let mut file_of = Vec::with_capacity(utterances.len());
    for utterance in utterances {
        let path = utterance.audio.as_path();
        let place = places.entry(path).or_insert_with(|| {
            files.push(path);
            files.len() as u32 - 1
        });
        file_of.push(*place);
    }
    (files, file_of)
}

/// What is found out about a file.
#[derive(Clone, Debug)]
struct FileFacts {
    info: AudioInfo,
    bytes: u64,
    digest: [u8; 32],
    /// Whether the next start may rely on it.
    record: bool,
    /// Whether this one did.
    known: bool,
}

/// What each of `files` is. A file with several names (hard links) is read once.
fn read_all(
    files: &[&Path],
    roots: &CorpusRoots,
    index: Index,
    abandoned: &AtomicBool,
) -> Result<Vec<Result<FileFacts, Arc<AudioError>>>, CorpusError> {
    let stamps: Vec<Option<FileStamp>> = files
        .par_iter()
        .map(|path| FileStamp::of(&roots.locate(path).ok()?))
        .collect();
    let mut first_of: HashMap<FileStamp, usize> = HashMap::new();
    let firsts: Vec<usize> = (0..)
        .zip(&stamps)
        .map(|(place, stamp)| match stamp {
            Some(stamp) if stamp.inode != 0 => *first_of.entry(*stamp).or_insert(place),
            _ => place,
        })
        .collect();
    drop(first_of);
    let read = |place: usize| {
        let stamp = stamps[place].as_ref();
        FileFacts::read(files[place], roots, stamp, &index).map_err(Arc::new)
    };
    let once = |place: usize| {
        if abandoned.load(Ordering::Relaxed) {
            return Err(CorpusError::Abandoned);
        }
        Ok((firsts[place] == place).then(|| read(place)))
    };
    let places = (0..files.len()).into_par_iter();
    let found: Result<Vec<Option<_>>, CorpusError> = places.map(once).collect();
    let found = found?;
    let found: Vec<Result<FileFacts, Arc<AudioError>>> = (0..files.len())
        .into_par_iter()
        .map(|place| match &found[firsts[place]] {
            Some(Ok(found)) => Ok(found.clone()),
            // What is wrong is told with the name that it was asked for by.
            _ => read(place),
        })
        .collect();
    let of_all = |is: fn(&FileFacts) -> bool| found.iter().flatten().filter(|one| is(one)).count();
    let (known, sure) = (of_all(|one| one.known), of_all(|one| one.record));
    if known == sure && known == index.len() {
        return Ok(found);
    }
    let records = files.iter().zip(&stamps).zip(&found);
    let records = records.filter_map(|((path, stamp), found)| {
        let found = found.as_ref().ok().filter(|found| found.record)?;
        Some(Record::new(
            path,
            stamp.as_ref()?,
            &found.digest,
            &found.info,
        ))
    });
    index.keep(records.collect());
    Ok(found)
}

impl FileFacts {
    /// `stamp` is the file's.
    fn read(
        path: &Path,
        roots: &CorpusRoots,
        stamp: Option<&FileStamp>,
        index: &Index,
    ) -> Result<Self, AudioError> {
        let now = SystemTime::now();
        let known = stamp.and_then(|stamp| Some((stamp, index.find(path, stamp)?)));
        if let Some((stamp, Facts { digest, info })) = known {
            return Ok(Self {
                known: info.is_some(),
                info: info.map_or_else(|| audio::inspect_beneath(roots, path), Ok)?,
                bytes: stamp.bytes,
                digest,
                record: true,
            });
        }
        let info = audio::inspect_beneath(roots, path)?;
        let (bytes, digest) = digest_file(roots, path).map_err(|source| AudioError::Read {
            path: path.to_owned(),
            source,
        })?;
        let record = stamp.is_some_and(|stamp| stamp.bytes == bytes && stamp.holds(path, now));
        Ok(Self {
            info,
            bytes,
            digest,
            record,
            known: false,
        })
    }
}

fn inspect(
    job: &Job,
    utterance: Utterance,
    file: &File,
    front_end: &FrontEnd,
) -> Result<Result<Item, Unusable>, CorpusError> {
    let fault = |error: &Arc<AudioError>| Unusable::audio(&utterance.id, error).map(Err);
    let (recording, info) = match file {
        Ok(file) => file,
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
    if let Some(channel) = utterance.channel.filter(|it| *it >= info.channels) {
        let error = AudioError::NoChannel {
            path: utterance.audio.clone(),
            channel,
            channels: info.channels,
        };
        return fault(&error.into());
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
        id: utterance.id,
        recording: Arc::clone(recording),
        segment,
        // The only channel is the recording.
        channel: utterance.channel.filter(|_| info.channels > 1),
        text: utterance.text,
        speaker: utterance.speaker,
        voice: None,
        frames: front_end.output_frames(samples, info.sample_rate) as u64,
        seconds: samples as f64 / f64::from(info.sample_rate.max(1)),
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use speech::audio::{Audio, write_wav};

    use super::*;

    fn tone(path: &Path, samples: usize) {
        let audio = Audio {
            sample_rate: 8000,
            samples: vec![0.25; samples],
        };
        write_wav(path, &audio).unwrap();
    }

    #[test]
    fn a_recording_that_is_known_is_not_read_again_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, manifest) = (folder.path().join("cache"), folder.path().join("a.jsonl"));
        let path = |name: &str| folder.path().join(name);
        let names = ["a.wav", "b.wav", "twin.wav"].map(path);
        tone(&names[0], 800);
        tone(&names[1], 900);
        fs::hard_link(&names[0], &names[2]).unwrap();
        let files: Vec<&Path> = names.iter().map(|name| name.as_path()).collect();
        // Longer than file systems' times are coarse.
        let settle = || thread::sleep(Duration::from_millis(2500));
        let read = || {
            let index = Index::load(Some(&cache), &manifest);
            let found = read_all(
                &files,
                &CorpusRoots::anywhere(),
                index,
                &AtomicBool::new(false),
            )
            .unwrap();
            found.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        settle();
        let first = read();
        let real = *blake3::hash(&fs::read(&names[0]).unwrap()).as_bytes();
        assert_eq!([first[0].digest, first[2].digest], [real; 2]);
        assert_eq!([first[0].info.frames, first[1].info.frames], [800, 900]);

        // What the index says is believed: nothing is read to find it.
        let (marked, info) = ([9; 32], first[0].info);
        let record =
            |path: &&Path| Record::new(path, &FileStamp::of(path).unwrap(), &marked, &info);
        Index::load(Some(&cache), &manifest).keep(files.iter().map(record).collect());
        assert!(
            read()
                .iter()
                .all(|found| found.digest == marked && found.record)
        );

        // Nothing is kept for a file that was written again, under any of its names.
        tone(&names[0], 700);
        let changed = read();
        assert_eq!([changed[0].info.frames, changed[2].info.frames], [700; 2]);
        assert_eq!(changed[1].digest, marked);
        assert!(!changed[0].record, "it may change again without showing it");
        settle();
        assert!(read().iter().all(|found| found.record));
    }
}
