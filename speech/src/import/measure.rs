//! From a draft of an utterance to the utterance: its recording found and measured, or what is wrong with it.
//! It decides what must hold for every corpus, and knows no one's layout.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::draft::{HEADERLESS_EXTENSIONS, UtteranceDraft};
use super::findings::ImportFindings;
use super::{ImportError, Imported, ImportedCorpus, Options};
use crate::audio::{self, AudioError, AudioInfo};
use crate::manifest::{ROUNDING, Utterance};

/// Seconds by which a segment may reach beyond its recording, as Kaldi's `extract-segments` allows.
const MAX_OVERSHOOT_SECONDS: f64 = 0.5;

/// Why a recording cannot be measured.
enum Unmeasurable {
    Missing,
    Unusable(String),
}

/// The utterances, in the drafts' order, and what cannot be one. Recordings are measured in parallel, each once.
///
/// # Errors
/// When more cannot be used than `options` allow.
pub(super) fn measure(
    found: ImportFindings,
    options: Options,
) -> Result<ImportedCorpus, ImportError> {
    let ImportFindings {
        drafts,
        bad: mut left_out,
        passed_over,
        ..
    } = found;
    let total = drafts.len() + left_out.len();
    let mut users: BTreeMap<&Path, usize> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate().rev() {
        users.insert(&draft.audio, index);
    }
    // In the order of the lists, which follows the disk more often than that of the names.
    let mut files: Vec<(&Path, usize)> = users.into_iter().collect();
    files.sort_by_key(|(_, first)| *first);
    let infos: BTreeMap<&Path, Result<AudioInfo, Unmeasurable>> = files
        .into_par_iter()
        .map(|(path, _)| (path, inspect(path)))
        .collect();
    let mut firsts: BTreeMap<(Option<&str>, &str), &UtteranceDraft> = BTreeMap::new();
    let mut utterances = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        let split = draft.split.as_deref().filter(|_| options.splits_apart);
        let measured = match firsts.get(&(split, draft.id.as_str())) {
            Some(first) => Err(draft.problem(format!(
                "the id {:?} is already that of {}",
                draft.id,
                first.source()
            ))),
            None => draft.measured(&infos[draft.audio.as_path()]),
        };
        match measured {
            Ok(imported) => {
                firsts.insert((split, &draft.id), draft);
                utterances.push(imported);
            }
            Err(error) => left_out.push(error),
        }
    }
    if let Err(source) = options.max_bad.check(left_out.len(), total) {
        return Err(ImportError::too_many(left_out, source));
    }
    if utterances.is_empty() {
        return Err(ImportError::nothing_left(left_out));
    }
    Ok(ImportedCorpus {
        utterances,
        left_out,
        passed_over: passed_over.into_list(),
    })
}

fn inspect(path: &Path) -> Result<AudioInfo, Unmeasurable> {
    audio::inspect(path).map_err(|error| match error {
        AudioError::Missing { .. } => Unmeasurable::Missing,
        error => Unmeasurable::Unusable(error.to_string()),
    })
}

impl UtteranceDraft {
    /// Where it comes from.
    fn source(&self) -> String {
        match &self.place {
            Some(place) => format!("{}:{}", place.list.display(), place.line),
            None => self.audio.display().to_string(),
        }
    }

    fn problem(&self, problem: String) -> ImportError {
        match &self.place {
            Some(place) => ImportError::Line {
                path: place.list.to_path_buf(),
                line: place.line,
                problem,
            },
            None => ImportError::File {
                path: self.audio.clone(),
                problem,
            },
        }
    }

    fn fault(&self, fault: &Unmeasurable) -> ImportError {
        match (fault, &self.place) {
            (Unmeasurable::Missing, Some(place)) => ImportError::MissingAudio {
                list: place.list.to_path_buf(),
                line: place.line,
                audio: self.audio.clone(),
                hint: self.hint(),
            },
            (Unmeasurable::Missing, None) => self.problem("it is not there any more".to_owned()),
            (Unmeasurable::Unusable(told), Some(_)) => self.problem(told.clone()),
            // It names the file.
            (Unmeasurable::Unusable(told), None) => ImportError::Recording { told: told.clone() },
        }
    }

    /// What lies there instead.
    fn hint(&self) -> String {
        let other = HEADERLESS_EXTENSIONS
            .into_iter()
            .find(|form| self.audio.with_extension(form).exists());
        other.map_or(String::new(), |form| {
            format!(" (there is a .{form}: samples without a header, convert them to WAV first)")
        })
    }

    fn measured(&self, info: &Result<AudioInfo, Unmeasurable>) -> Result<Imported, ImportError> {
        let info = info.as_ref().map_err(|fault| self.fault(fault))?;
        let channel = self.channel_of(info.channels)?;
        let seconds = info.seconds();
        let (offset, duration) = match self.part {
            None => (0.0, seconds),
            Some((start, end)) => {
                let end = end.unwrap_or(seconds);
                if start >= seconds || end > seconds + MAX_OVERSHOOT_SECONDS {
                    return Err(self.problem(format!(
                        "the segment from {start} to {end} s is not in its recording, which ends at {seconds:.3} s"
                    )));
                }
                // As long as it is meant to be, and inside.
                (start, end.min(seconds) - start)
            }
        };
        // From the beginning to nearly the end, it would be read as the whole recording.
        let duration = if offset == 0.0 && seconds - duration <= ROUNDING {
            seconds
        } else {
            duration
        };
        Ok(Imported {
            utterance: Utterance {
                id: self.id.clone(),
                audio: self.audio.clone(),
                offset,
                duration,
                channel,
                text: self.text.clone(),
                speaker: self.speaker.clone(),
            },
            recording: self.recording.clone(),
            split: self.split.clone(),
        })
    }

    /// The channel that is meant of a recording with so many; `None` where it has but one, or nobody names one.
    fn channel_of(&self, channels: u16) -> Result<Option<u16>, ImportError> {
        let channel = match (self.channel, &self.side) {
            (Some(channel), _) => channel,
            (None, Some(side)) if channels > 1 => side_channel(side).ok_or_else(|| {
                self.problem(format!(
                    "reco2file_and_channel says that it is channel {side:?} of its recording, which has {channels}: a \
                     channel is a letter from A, or a number from 1"
                ))
            })?,
            (None, _) => return Ok(None),
        };
        if channel >= channels {
            return Err(self.problem(format!(
                "its channel is {channel}, counted from 0, and its recording has {channels}"
            )));
        }
        Ok((channels > 1).then_some(channel))
    }
}

/// As NIST's tools count, whose scoring `reco2file_and_channel` is for: A is 1, and the first.
fn side_channel(side: &str) -> Option<u16> {
    match side.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(u16::from(letter - b'A')),
        _ => side.parse::<u16>().ok()?.checked_sub(1),
    }
}
