//! Speech Commands (Warden 2018, arXiv:1804.03209): `{word}/{speaker}_nohash_{n}.wav`, the splits in
//! `validation_list.txt` and `testing_list.txt`, and minutes of noise in `_background_noise_/`.
//!
//! With twelve classes, as the paper scores: ten words; `_unknown_`, which are a tenth as many of the other
//! words; and `_silence_`, a tenth as many seconds of noise. Which those are follows from a hash of their
//! names. The noise of a split is heard in no other: eight tenths of each recording are for training.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, folders, name, recordings, stem};
use super::{CorpusFormat, ImportError};
use crate::audio;

const NOISE: &str = "_background_noise_";
const UNKNOWN: &str = "_unknown_";
const SILENCE: &str = "_silence_";
const NOT_DRAWN: &str = "recordings of other words, beyond the tenth that is drawn of them";

const VALIDATION: &str = "validation_list.txt";
const TESTING: &str = "testing_list.txt";

const WORDS: [&str; 10] = [
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
];

/// The splits, and the part of a recording of noise that each has.
const SPLITS: [(&str, f64, f64); 3] = [
    ("train", 0.0, 0.8),
    ("validation", 0.8, 0.9),
    ("testing", 0.9, 1.0),
];

/// Every word is a class.
pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = ImportFindings::default();
    let listed = [
        ("validation", listed(source, VALIDATION, &mut found)?),
        ("testing", listed(source, TESTING, &mut found)?),
    ];
    for folder in folders(source)? {
        let word = name(&folder)?;
        if word.starts_with('_') {
            continue;
        }
        for audio in recordings(&folder)? {
            let file = name(&audio)?;
            let Some((speaker, _)) = file.split_once("_nohash_") else {
                found.known.push(audio.clone());
                found.bad.push(ImportError::File {
                    path: audio,
                    problem: "the file's name is not {speaker}_nohash_{number}.wav".to_owned(),
                });
                continue;
            };
            let path = format!("{word}/{file}");
            let split = listed
                .iter()
                .find(|(_, listed)| listed.contains_key(&path))
                .map_or("train", |(split, _)| *split);
            found.drafts.push(UtteranceDraft {
                id: format!("{word}/{}", stem(&audio)?),
                text: word.to_owned(),
                speaker: Some(speaker.to_owned()),
                split: Some(split.to_owned()),
                audio: audio.clone(),
                ..UtteranceDraft::default()
            });
        }
    }
    if found.is_empty() {
        return Err(layout(CorpusFormat::SpeechCommands, source));
    }
    let there: BTreeSet<&Path> = found
        .drafts
        .iter()
        .map(|draft| draft.audio.as_path())
        .collect();
    let mut absent = Vec::new();
    for ((_, listed), file) in listed.iter().zip([VALIDATION, TESTING]) {
        let mut of_list: Vec<(&String, &usize)> = listed
            .iter()
            .filter(|(path, _)| !there.contains(source.join(path).as_path()))
            .collect();
        of_list.sort_by_key(|(_, line)| **line);
        absent.extend(
            of_list
                .into_iter()
                .map(|(path, line)| ImportError::MissingAudio {
                    list: source.join(file),
                    line: *line,
                    audio: source.join(path),
                    hint: String::new(),
                }),
        );
    }
    found.bad.extend(absent);
    Ok(found)
}

/// Ten words, the unknown ones and silence.
pub(super) fn read_twelve(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = read(source)?;
    let all = std::mem::take(&mut found.drafts);
    for (split, start, end) in SPLITS {
        let (wanted, mut others): (Vec<UtteranceDraft>, Vec<UtteranceDraft>) = all
            .iter()
            .filter(|draft| draft.split.as_deref() == Some(split))
            .cloned()
            .partition(|draft| WORDS.contains(&draft.text.as_str()));
        let tenth = wanted.len().div_ceil(10);
        found.drafts.extend(wanted);
        others.sort_by_cached_key(|draft| *blake3::hash(draft.id.as_bytes()).as_bytes());
        for spare in others.split_off(tenth.min(others.len())) {
            let shown = spare.audio.strip_prefix(source).unwrap_or(&spare.audio);
            found.passed_over.add(NOT_DRAWN, shown);
            found.known.push(spare.audio);
        }
        others.sort_by(|a, b| a.id.cmp(&b.id));
        found
            .drafts
            .extend(others.into_iter().map(|draft| UtteranceDraft {
                text: UNKNOWN.to_owned(),
                ..draft
            }));
        silence(source, split, [start, end], tenth, &mut found)?;
    }
    Ok(found)
}

/// `count` seconds of noise between the parts `start` and `end` of its recordings.
fn silence(
    source: &Path,
    split: &str,
    [start, end]: [f64; 2],
    count: usize,
    found: &mut ImportFindings,
) -> Result<(), ImportError> {
    let folder = source.join(NOISE);
    if !folder.is_dir() {
        return Err(layout(CorpusFormat::SpeechCommands12, source));
    }
    // Places that overlap by half, all of them, in the order of a hash.
    let mut places = Vec::new();
    for audio in recordings(&folder)? {
        let is_new = !found.known.contains(&audio);
        let seconds = match audio::inspect(&audio) {
            Ok(info) => info.seconds(),
            Err(error) => {
                if is_new {
                    found.bad.push(error.into());
                    found.known.push(audio);
                }
                continue;
            }
        };
        if is_new {
            found.known.push(audio.clone());
        }
        let last = (seconds * end - 1.0).max(0.0);
        for half in 0u32.. {
            let at = (seconds * start * 2.0).ceil() / 2.0 + f64::from(half) / 2.0;
            if at > last {
                break;
            }
            places.push((
                format!("{SILENCE}/{}-{at:05.1}", stem(&audio)?),
                audio.clone(),
                at,
            ));
        }
    }
    places.sort_by_cached_key(|(id, ..)| *blake3::hash(id.as_bytes()).as_bytes());
    if places.is_empty() && count > 0 {
        return Err(layout(CorpusFormat::SpeechCommands12, source));
    }
    // In a corpus with more words than seconds of noise, some are heard more than once.
    let mut drafts = Vec::with_capacity(count);
    for number in 0..count {
        let (id, audio, at) = &places[number % places.len()];
        let round = number / places.len();
        drafts.push(UtteranceDraft {
            id: match round {
                0 => id.clone(),
                round => format!("{id}-{round}"),
            },
            audio: audio.clone(),
            part: Some((*at, Some(*at + 1.0))),
            recording: Some(format!("{NOISE}/{}", stem(audio)?)),
            text: SILENCE.to_owned(),
            split: Some(split.to_owned()),
            ..UtteranceDraft::default()
        });
    }
    drafts.sort_by(|a, b| a.id.cmp(&b.id));
    found.drafts.extend(drafts);
    Ok(())
}

/// The recordings that a list names, with their lines.
fn listed(
    source: &Path,
    file: &str,
    found: &mut ImportFindings,
) -> Result<BTreeMap<String, usize>, ImportError> {
    let Some(list) = List::read_if_there(&source.join(file))? else {
        return Err(layout(CorpusFormat::SpeechCommands, source));
    };
    let mut listed = BTreeMap::new();
    let mut wrong = Vec::new();
    for (line, text) in list.lines() {
        let path = text.trim();
        let plain = path.split_once('/').is_some_and(|(word, file)| {
            !word.is_empty() && !file.is_empty() && !file.contains('/')
        });
        if plain && !path.contains("..") {
            listed.insert(path.to_owned(), line);
        } else {
            wrong.push(list.problem(line, "the line is not `WORD/RECORDING.wav`"));
        }
    }
    found.take_wrong(&list, listed.len(), wrong)?;
    Ok(listed)
}

fn layout(format: CorpusFormat, source: &Path) -> ImportError {
    let noise = match format {
        CorpusFormat::SpeechCommands12 => ", and recordings of noise in _background_noise_/,",
        _ => "",
    };
    ImportError::Layout {
        format,
        path: source.to_owned(),
        expected: format!(
            "{{word}}/{{speaker}}_nohash_{{number}}.wav, validation_list.txt and testing_list.txt{noise} must be in it"
        ),
    }
}
