//! A synthetic corpus on disk: its files, its manifests and the marker that says it is complete. It
//! decides nothing about sound.
//!
//! `synthetic.json` is written last, by renaming. Until then `synthetic.incomplete.json` says whose
//! leftovers these are, so that an interrupted run is taken up again and a stranger's folder is not
//! written into.

use super::config::SyntheticConfig;
use super::digit::transcript;
use super::plan::{Split, Take, cast, speaker_name, takes};
use super::recording::RecordingConditions;
use super::speaker::Speaker;
use super::{SynthError, perform};
use crate::audio::{Audio, write_wav};
use crate::manifest::{Manifest, Utterance};
use crate::regular_file;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised whenever the same configuration begins to give other bytes.
const VERSION: u32 = 1;
const MARKER: &str = "synthetic.json";
const INCOMPLETE: &str = "synthetic.incomplete.json";

/// A complete corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthesized {
    /// Manifests.
    pub train: PathBuf,
    /// The manifest of the validation part.
    pub valid: PathBuf,
    /// What the corpus consists of.
    pub summary: CorpusSummary,
    /// Whether it was there already.
    pub reused: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusSummary {
    /// The training part.
    pub train: SplitSummary,
    /// The validation part.
    pub valid: SplitSummary,
    /// BLAKE3 of the transcripts, speakers and sound files of all utterances in order, in hex.
    pub digest: String,
}

/// What a part of the corpus consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSummary {
    /// The number of utterances.
    pub utterances: usize,
    /// The number of speakers.
    pub speakers: usize,
    /// Seconds of speech.
    pub seconds: f64,
    /// The digest of the manifest.
    pub manifest: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    config: SyntheticConfig,
    /// `None` while it is being made.
    summary: Option<CorpusSummary>,
}

/// Makes the corpus in `dir`, or finds it there.
///
/// Utterances are made on rayon's threads; neither their number nor their order reaches a byte. The
/// sine, exponential and logarithm are those of the platform's C library, so that equal bytes are
/// promised within a platform, not across platforms.
pub fn generate(config: &SyntheticConfig, dir: &Path) -> Result<Synthesized, SynthError> {
    generate_unless(&AtomicBool::new(false), config, dir)
}

/// [`generate`], which is given up soon after `abandoned` is set; what was made by then stays and is made again
/// by the next attempt.
///
/// # Errors
/// [`SynthError::Abandoned`] then, and those of [`generate`].
pub fn generate_unless(
    abandoned: &AtomicBool,
    config: &SyntheticConfig,
    dir: &Path,
) -> Result<Synthesized, SynthError> {
    config.validate()?;
    let manifests =
        [Split::Train, Split::Valid].map(|part| dir.join(format!("{}.jsonl", part.name())));
    if let Some(summary) = find(config, dir, &manifests)? {
        let [train, valid] = manifests;
        return Ok(Synthesized {
            train,
            valid,
            summary,
            reused: true,
        });
    }
    let wav = dir.join("wav");
    fs::create_dir_all(&wav).map_err(|source| SynthError::io(&wav, source))?;
    let begun = Marker {
        version: VERSION,
        config: config.clone(),
        summary: None,
    };
    write_marker(dir, INCOMPLETE, &begun)?;

    let takes = takes(config);
    let cast = cast(config);
    let made: Vec<MadeUtterance> = takes
        .par_iter()
        .map(|take| match abandoned.load(Ordering::Relaxed) {
            true => Err(SynthError::Abandoned),
            false => make(config, take, &cast[take.speaker], dir),
        })
        .collect::<Result<_, _>>()?;
    let mut digest = blake3::Hasher::new();
    for (take, made) in takes.iter().zip(&made) {
        digest
            .update(format!("{} {} {}\n", take.id(), take.speaker, made.utterance.text).as_bytes());
        digest.update(made.sound.as_bytes());
    }
    let mut parts = Vec::new();
    for ((part, path), speakers) in [Split::Train, Split::Valid]
        .into_iter()
        .zip(&manifests)
        .zip([config.speakers, config.valid_speakers])
    {
        let utterances: Vec<Utterance> = takes
            .iter()
            .zip(&made)
            .filter(|(take, _)| take.part == part)
            .map(|(_, made)| made.utterance.clone())
            .collect();
        Manifest::write_movable(path, &utterances)?;
        parts.push(SplitSummary {
            utterances: utterances.len(),
            speakers,
            seconds: utterances.iter().map(|utterance| utterance.duration).sum(),
            manifest: file_digest(path)?,
        });
    }
    let summary = CorpusSummary {
        valid: parts.remove(1),
        train: parts.remove(0),
        digest: digest.finalize().to_hex().to_string(),
    };
    let done = Marker {
        summary: Some(summary.clone()),
        ..begun
    };
    write_marker(dir, MARKER, &done)?;
    let incomplete = dir.join(INCOMPLETE);
    fs::remove_file(&incomplete).map_err(|source| SynthError::io(&incomplete, source))?;
    let [train, valid] = manifests;
    Ok(Synthesized {
        train,
        valid,
        summary,
        reused: false,
    })
}

/// The summary of the corpus that is already in `dir`; `None` where there is nothing, or an unfinished
/// beginning of the same corpus.
fn find(
    config: &SyntheticConfig,
    dir: &Path,
    manifests: &[PathBuf; 2],
) -> Result<Option<CorpusSummary>, SynthError> {
    if let Some(marker) = read_marker(&dir.join(MARKER))? {
        same(config, &marker, dir)?;
        let summary = marker.summary.ok_or_else(|| SynthError::Marker {
            path: dir.join(MARKER),
            reason: "it has no summary".to_owned(),
        })?;
        for (path, part) in manifests.iter().zip([&summary.train, &summary.valid]) {
            if file_digest(path)? != part.manifest {
                return Err(SynthError::Altered { path: path.clone() });
            }
        }
        return Ok(Some(summary));
    }
    if let Some(marker) = read_marker(&dir.join(INCOMPLETE))? {
        same(config, &marker, dir)?;
        return Ok(None);
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SynthError::io(dir, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(|source| SynthError::io(dir, source))?
                .file_name(),
        );
    }
    match names.iter().min() {
        None => Ok(None),
        Some(found) => Err(SynthError::Occupied {
            dir: dir.to_owned(),
            found: found.to_string_lossy().into_owned(),
        }),
    }
}

/// Refuses a corpus that another configuration or another version of this program made.
fn same(config: &SyntheticConfig, marker: &Marker, dir: &Path) -> Result<(), SynthError> {
    let different = |field: &str, there: String, here: String| SynthError::Different {
        dir: dir.to_owned(),
        field: field.to_owned(),
        there,
        here,
    };
    if marker.version != VERSION {
        return Err(different(
            "version",
            marker.version.to_string(),
            VERSION.to_string(),
        ));
    }
    let fields = |config: &SyntheticConfig| {
        // Through text, as the marker's was, so that decimals are rounded in the same way.
        let text = serde_json::to_string(config).unwrap_or_default();
        serde_json::from_str::<serde_json::Map<_, _>>(&text).unwrap_or_default()
    };
    let there = fields(&marker.config);
    for (field, here) in fields(config) {
        let there = there.get(&field).cloned().unwrap_or_default();
        if there != here {
            return Err(different(&field, there.to_string(), here.to_string()));
        }
    }
    Ok(())
}

fn read_marker(path: &Path) -> Result<Option<Marker>, SynthError> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| SynthError::Marker {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SynthError::io(path, source)),
    }
}

/// Writes beside and renames, so that a marker is whole or absent.
fn write_marker(dir: &Path, name: &str, marker: &Marker) -> Result<(), SynthError> {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    let mut text = serde_json::to_string_pretty(marker).map_err(|error| SynthError::Marker {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    text.push('\n');
    let write = || {
        let mut file = regular_file::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(|source| SynthError::io(&path, source))
}

fn file_digest(path: &Path) -> Result<String, SynthError> {
    let bytes = fs::read(path).map_err(|source| SynthError::io(path, source))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

struct MadeUtterance {
    utterance: Utterance,
    sound: blake3::Hash,
}

/// Performs, records and writes one utterance.
fn make(
    config: &SyntheticConfig,
    take: &Take,
    speaker: &Speaker,
    dir: &Path,
) -> Result<MadeUtterance, SynthError> {
    let mut stream = take.stream(config.seed);
    let recording = RecordingConditions::draw(config.snr_db, &mut stream);
    let speech = perform(&take.words, speaker, config.sample_rate, &mut stream);
    let audio = Audio {
        sample_rate: config.sample_rate,
        samples: recording.take(&speech, f64::from(config.sample_rate), &mut stream),
    };
    let path = dir.join("wav").join(format!("{}.wav", take.id()));
    write_wav(&path, &audio)?;
    let written = fs::read(&path).map_err(|source| SynthError::io(&path, source))?;
    Ok(MadeUtterance {
        sound: blake3::hash(&written),
        utterance: Utterance {
            id: take.id(),
            audio: path,
            offset: 0.0,
            duration: audio.samples.len() as f64 / f64::from(audio.sample_rate),
            channel: None,
            text: transcript(&take.words),
            speaker: Some(speaker_name(take.speaker)),
        },
    })
}
