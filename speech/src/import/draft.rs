//! From what a list says of an utterance to the utterance: its recording found and measured. It decides
//! what must hold for every corpus; it refuses to know any one's layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::list::Place;
use super::{ImportError, Imported};
use crate::audio::{self, AudioInfo};
use crate::manifest::{ROUNDING, Utterance};

/// An utterance whose recording nobody has looked at yet.
#[derive(Clone, Debug)]
pub struct Draft {
    pub id: String,
    pub audio: PathBuf,
    /// Seconds at which it begins and ends, where it is a part of its recording; an end of `None` is the
    /// recording's.
    pub part: Option<(f64, Option<f64>)>,
    pub text: String,
    pub speaker: Option<String>,
    pub split: Option<String>,
    /// Where it is listed; `None` where the file itself is all there is.
    pub place: Option<Place>,
}

/// Seconds by which a segment may reach beyond its recording, as Kaldi's `extract-segments` allows.
const OVERSHOOT: f64 = 0.5;

/// The utterances, in the drafts' order. Recordings are measured in parallel, each once; of all that is
/// wrong, the first is told.
pub fn measure(drafts: Vec<Draft>) -> Result<Vec<Imported>, ImportError> {
    let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some(first) = firsts.insert(&draft.id, index) {
            let told = match &drafts[first].place {
                Some(place) => format!("{}:{}", place.list.display(), place.line),
                None => drafts[first].audio.display().to_string(),
            };
            return Err(draft.problem(format!("the id {:?} is already that of {told}", draft.id)));
        }
    }
    let mut users: BTreeMap<&Path, usize> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate().rev() {
        users.insert(&draft.audio, index);
    }
    let infos: BTreeMap<&Path, Result<AudioInfo, ImportError>> = users
        .into_par_iter()
        .map(|(path, first)| (path, drafts[first].inspect()))
        .collect();
    // The first in the order of the drafts.
    if let Some(draft) = drafts
        .iter()
        .find(|draft| infos[draft.audio.as_path()].is_err())
    {
        draft.inspect()?;
    }
    let mut utterances = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        if let Ok(info) = &infos[draft.audio.as_path()] {
            utterances.push(draft.measured(info)?);
        }
    }
    Ok(utterances)
}

impl Draft {
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

    fn inspect(&self) -> Result<AudioInfo, ImportError> {
        match &self.place {
            Some(place) if !self.audio.exists() => Err(ImportError::MissingAudio {
                list: place.list.to_path_buf(),
                line: place.line,
                audio: self.audio.clone(),
                hint: self.hint(),
            }),
            Some(_) => audio::inspect(&self.audio).map_err(|error| self.problem(error.to_string())),
            None => Ok(audio::inspect(&self.audio)?),
        }
    }

    /// What lies there instead.
    fn hint(&self) -> String {
        let forms = ["wav", "flac", "mp3", "ogg", "sph", "raw"];
        let other = forms
            .into_iter()
            .find(|form| self.audio.with_extension(form).exists());
        other.map_or(String::new(), |form| {
            let what = if form == "raw" {
                ": samples without a header, convert them to WAV first"
            } else {
                ""
            };
            format!(" (there is a .{form}{what})")
        })
    }

    fn measured(&self, info: &AudioInfo) -> Result<Imported, ImportError> {
        let seconds = info.seconds();
        let (offset, duration) = match self.part {
            None => (0.0, seconds),
            Some((start, end)) => {
                let end = end.unwrap_or(seconds);
                if start >= seconds || end > seconds + OVERSHOOT {
                    return Err(self.problem(format!(
                        "the segment from {start} to {end} s is not in its recording, which ends at {seconds:.3} s"
                    )));
                }
                // As long as it is meant to be, and inside.
                (start, end.min(seconds) - start)
            }
        };
        // From the beginning to nearly the end, it would be read as the whole recording.
        let duration = match offset == 0.0 && seconds - duration <= ROUNDING {
            true => seconds,
            false => duration,
        };
        Ok(Imported {
            utterance: Utterance {
                id: self.id.clone(),
                audio: self.audio.clone(),
                offset,
                duration,
                text: self.text.clone(),
                speaker: self.speaker.clone(),
            },
            split: self.split.clone(),
        })
    }
}
