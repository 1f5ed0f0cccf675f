//! Kaldi's data directories: `wav.scp` names the recordings, `segments` their parts (without it, each is an
//! utterance), `text` what is said and `utt2spk` who says it. Commands in `wav.scp` are refused: importing
//! a corpus runs no programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::list::{List, entries, name};
use super::{Format, ImportError};

/// The files of a data directory.
pub struct Tables {
    pub wav_scp: List,
    pub text: List,
    pub segments: Option<List>,
    pub utt2spk: Option<List>,
}

pub(super) fn read(source: &Path) -> Result<Vec<Draft>, ImportError> {
    if source.join("wav.scp").exists() {
        return read_folder(source, None);
    }
    // A folder of data directories, as `data/` is: each is a split.
    let mut drafts = Vec::new();
    for folder in entries(source)? {
        if folder.join("wav.scp").exists() {
            drafts.extend(read_folder(&folder, Some(name(&folder)?))?);
        }
    }
    if drafts.is_empty() {
        return Err(ImportError::Layout {
            format: Format::Kaldi,
            path: source.to_owned(),
            expected: "wav.scp and text (and segments and utt2spk, if there are any) must be in it, or in the folders in it"
                .to_owned(),
        });
    }
    Ok(drafts)
}

fn read_folder(folder: &Path, split: Option<&str>) -> Result<Vec<Draft>, ImportError> {
    let tables = Tables {
        wav_scp: List::read(&folder.join("wav.scp"))?,
        text: List::read(&folder.join("text"))?,
        segments: List::read_if_there(&folder.join("segments"))?,
        utt2spk: List::read_if_there(&folder.join("utt2spk"))?,
    };
    let mut drafts = tables.drafts(split)?;
    for draft in &mut drafts {
        // Relative to the folder, or to where the recipe was run: then to where this program is.
        let beside = folder.join(&draft.audio);
        if draft.audio.is_relative() && beside.exists() {
            draft.audio = beside;
        }
    }
    Ok(drafts)
}

/// What is said of a key, and in which line.
type Table<'a> = BTreeMap<&'a str, (usize, &'a str)>;

/// `KEY REST` in each line.
fn table<'a>(list: &'a List, rest_may_be_empty: bool) -> Result<Table<'a>, ImportError> {
    let mut table = Table::new();
    for (line, text) in list.lines() {
        let text = text.trim();
        let (key, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim_start();
        if rest.is_empty() && !rest_may_be_empty {
            return Err(list.problem(line, format!("nothing follows {key:?}")));
        }
        if let Some((first, _)) = table.insert(key, (line, rest)) {
            return Err(list.problem(line, format!("{key:?} is already in line {first}")));
        }
    }
    Ok(table)
}

/// An utterance: where it is listed, its recording and its part of it.
struct Span<'a> {
    id: &'a str,
    line: usize,
    recording: &'a str,
    part: Option<(f64, Option<f64>)>,
}

impl Tables {
    /// The utterances in the order of `segments`, or else of `wav.scp`. No file is opened.
    pub fn drafts(&self, split: Option<&str>) -> Result<Vec<Draft>, ImportError> {
        let recordings = table(&self.wav_scp, false)?;
        let texts = table(&self.text, true)?;
        let speakers = match &self.utt2spk {
            Some(list) => table(list, false)?,
            None => Table::new(),
        };
        for (line, path) in recordings.values() {
            is_a_file(path).map_err(|problem| self.wav_scp.problem(*line, problem))?;
        }
        let (list, spans) = match &self.segments {
            Some(list) => (list, segments(list)?),
            None => (&self.wav_scp, whole(&recordings)),
        };
        let mut drafts = Vec::with_capacity(spans.len());
        for span in &spans {
            let Span { id, line, .. } = *span;
            let lacks = |what: String| list.problem(line, format!("{id:?} has no {what}"));
            let (_, path) = recordings.get(span.recording).ok_or_else(|| {
                lacks(format!(
                    "recording: {:?} is not in {}",
                    span.recording,
                    self.wav_scp.path.display()
                ))
            })?;
            let (_, text) = texts
                .get(id)
                .ok_or_else(|| lacks(format!("line in {}", self.text.path.display())))?;
            let speaker = match &self.utt2spk {
                None => None,
                Some(list) => Some(
                    speakers
                        .get(id)
                        .ok_or_else(|| lacks(format!("line in {}", list.path.display())))?
                        .1
                        .to_owned(),
                ),
            };
            drafts.push(Draft {
                id: id.to_owned(),
                audio: PathBuf::from(path),
                part: span.part,
                text: text.split_whitespace().collect::<Vec<_>>().join(" "),
                speaker,
                split: split.map(str::to_owned),
                place: Some(list.place(line)),
            });
        }
        let known: BTreeMap<&str, ()> = spans.iter().map(|span| (span.id, ())).collect();
        if let Some((id, (line, _))) = first_without(&texts, &known) {
            let problem = format!("{id:?} is not in {}", list.path.display());
            return Err(self.text.problem(line, problem));
        }
        Ok(drafts)
    }
}

/// The first line of `table` whose key is not in `known`.
fn first_without<'a>(
    table: &Table<'a>,
    known: &BTreeMap<&str, ()>,
) -> Option<(&'a str, (usize, &'a str))> {
    table
        .iter()
        .filter(|(key, _)| !known.contains_key(*key))
        .map(|(key, value)| (*key, *value))
        .min_by_key(|(_, (line, _))| *line)
}

fn whole<'a>(recordings: &Table<'a>) -> Vec<Span<'a>> {
    let mut spans: Vec<Span> = recordings
        .iter()
        .map(|(id, (line, _))| Span {
            id,
            line: *line,
            recording: id,
            part: None,
        })
        .collect();
    spans.sort_by_key(|span| span.line);
    spans
}

/// `UTTERANCE RECORDING START END` in each line; an end of -1 is the recording's.
fn segments(list: &List) -> Result<Vec<Span<'_>>, ImportError> {
    list.lines()
        .map(|(line, text)| {
            let fields: Vec<&str> = text.split_whitespace().collect();
            let [id, recording, start, end] = fields[..] else {
                return Err(list.problem(line, "the line is not `UTTERANCE RECORDING START END`"));
            };
            let seconds = |text: &str| {
                text.parse()
                    .ok()
                    .filter(|value: &f64| value.is_finite())
                    .ok_or_else(|| list.problem(line, format!("{text:?} is no number of seconds")))
            };
            let (start, end) = (seconds(start)?, seconds(end)?);
            let end = (end != -1.0).then_some(end);
            if start < 0.0 || end.is_some_and(|end| end <= start) {
                return Err(list.problem(line, "the segment does not end after it starts"));
            }
            Ok(Span {
                id,
                line,
                recording,
                part: Some((start, end)),
            })
        })
        .collect()
}

/// Kaldi reads more from `wav.scp` than files.
fn is_a_file(path: &str) -> Result<(), String> {
    let path = path.trim_end();
    if path.ends_with('|') || path.starts_with('|') {
        return Err(format!(
            "{path:?} is a command, and commands are not run: write its output to files and name these"
        ));
    }
    if path == "-" {
        return Err("standard input is no recording: name a file".to_owned());
    }
    let inside = path
        .rsplit_once(':')
        .is_some_and(|(_, at)| !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit()));
    if inside {
        return Err(format!(
            "{path:?} is a place in an archive: write the recordings to files (`wav-copy`) and name these"
        ));
    }
    Ok(())
}
