//! Kaldi's data directories: `wav.scp` names the recordings, `segments` their parts (without it, each is an
//! utterance), `text` what is said, `utt2spk` who says it and `reco2file_and_channel` which channel is meant. Recordings that are commands in `wav.scp` are left
//! out: importing a corpus runs no programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, folders, name};
use super::{CorpusFormat, ImportError};

/// What Kaldi itself keeps in a data directory.
const KALDI_FILES: [&str; 18] = [
    "wav.scp",
    "text",
    "segments",
    "utt2spk",
    "spk2utt",
    "spk2gender",
    "utt2dur",
    "utt2lang",
    "utt2num_frames",
    "utt2uniq",
    "reco2dur",
    "reco2file_and_channel",
    "feats.scp",
    "cmvn.scp",
    "vad.scp",
    "frame_shift",
    "stm",
    "glm",
];

/// The files of a data directory.
pub struct Tables {
    /// The list of recordings, `wav.scp`.
    pub wav_scp: List,
    /// The list of transcripts, `text`.
    pub text: List,
    /// The list of segments of recordings, `segments`.
    pub segments: Option<List>,
    /// The list of utterances' speakers, `utt2spk`.
    pub utt2spk: Option<List>,
    /// `reco2file_and_channel`.
    pub channels: Option<List>,
}

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = ImportFindings::default();
    if source.join("wav.scp").exists() {
        found = read_folder(source, None)?;
    } else {
        // A folder of data directories, as `data/` is: each is a split.
        for folder in folders(source)? {
            if folder.join("wav.scp").exists() {
                found.extend(read_folder(&folder, Some(name(&folder)?))?);
            }
        }
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::Kaldi,
            path: source.to_owned(),
            expected: "wav.scp and text (and segments and utt2spk, if there are any) must be in it, or in the folders in it"
                .to_owned(),
        });
    }
    found.known_names = &KALDI_FILES;
    Ok(found)
}

fn read_folder(folder: &Path, split: Option<&str>) -> Result<ImportFindings, ImportError> {
    let tables = Tables {
        wav_scp: List::read(&folder.join("wav.scp"))?,
        text: List::read(&folder.join("text"))?,
        segments: List::read_if_there(&folder.join("segments"))?,
        utt2spk: List::read_if_there(&folder.join("utt2spk"))?,
        channels: List::read_if_there(&folder.join("reco2file_and_channel"))?,
    };
    let mut found = tables.drafts(split)?;
    let found_at = |audio: &PathBuf| {
        // Relative to the folder, or to where the recipe was run: then to where this program is.
        let beside = folder.join(audio);
        if audio.is_relative() && beside.exists() {
            beside
        } else {
            audio.clone()
        }
    };
    for draft in &mut found.drafts {
        draft.audio = found_at(&draft.audio);
    }
    found.known = found.known.iter().map(found_at).collect();
    Ok(found)
}

/// What is said of a key, and in which line.
type KeyedLines<'a> = BTreeMap<&'a str, (usize, &'a str)>;

/// `KEY REST` in each line, for which `check` may find something wrong with the rest. Keys of lines that cannot
/// be used go to `struck`.
fn table<'a>(
    list: &'a List,
    found: &mut ImportFindings,
    struck: &mut BTreeSet<&'a str>,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<KeyedLines<'a>, ImportError> {
    let mut table = KeyedLines::new();
    let mut wrong = Vec::new();
    for (line, text) in list.lines() {
        let text = text.trim();
        let (key, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim_start();
        let problem = match table.get(key) {
            Some((first, _)) => Err(format!("{key:?} is already in line {first}")),
            None => check(key, rest),
        };
        match problem {
            Ok(()) => drop(table.insert(key, (line, rest))),
            Err(problem) => {
                wrong.push(list.problem(line, problem));
                struck.insert(key);
            }
        }
    }
    found.take_wrong(list, table.len(), wrong)?;
    Ok(table)
}

fn is_something(key: &str, rest: &str) -> Result<(), String> {
    match rest {
        "" => Err(format!("nothing follows {key:?}")),
        _ => Ok(()),
    }
}

/// An utterance: where it is listed, its recording and its part of it.
struct Span<'a> {
    id: &'a str,
    line: usize,
    recording: &'a str,
    part: Option<(f64, Option<f64>)>,
    channel: Option<u16>,
}

impl Tables {
    /// The utterances in the order of `segments`, or else of `wav.scp`. No file is opened.
    ///
    /// # Errors
    /// When one of the files is laid out otherwise.
    pub fn drafts(&self, split: Option<&str>) -> Result<ImportFindings, ImportError> {
        let mut found = ImportFindings::default();
        let mut struck = BTreeSet::new();
        let recordings = table(&self.wav_scp, &mut found, &mut struck, is_a_file)?;
        let texts = table(&self.text, &mut found, &mut BTreeSet::new(), |_, _| Ok(()))?;
        let speakers = match &self.utt2spk {
            Some(list) => table(list, &mut found, &mut BTreeSet::new(), is_something)?,
            None => KeyedLines::new(),
        };
        let sides = match &self.channels {
            Some(list) => table(list, &mut found, &mut BTreeSet::new(), |_, _| Ok(()))?,
            None => KeyedLines::new(),
        };
        let (list, spans) = match &self.segments {
            Some(list) => (list, segments(list, &mut found, &mut struck)?),
            None => (&self.wav_scp, whole(&recordings)),
        };
        let mut used = BTreeSet::new();
        for span in &spans {
            used.insert(span.recording);
            match self.draft(list, span, [&recordings, &texts, &speakers]) {
                Ok(draft) => found.drafts.push(UtteranceDraft {
                    // `RECORDING FILE CHANNEL`.
                    side: sides
                        .get(span.recording)
                        .and_then(|(_, rest)| rest.split_whitespace().nth(1))
                        .map(str::to_owned),
                    split: split.map(str::to_owned),
                    ..draft
                }),
                Err(error) => found.bad.push(error),
            }
        }
        let known: BTreeSet<&str> = spans.iter().map(|span| span.id).collect();
        let mut strange: Vec<(usize, &str)> = texts
            .iter()
            // What was struck is told once.
            .filter(|(id, _)| !known.contains(*id) && !struck.contains(*id))
            .map(|(id, (line, _))| (*line, *id))
            .collect();
        strange.sort_unstable();
        for (line, id) in strange {
            let problem = format!("{id:?} is not in {}", list.path.display());
            found.bad.push(self.text.problem(line, problem));
        }
        for (recording, (_, path)) in &recordings {
            if !used.contains(recording) {
                let kind = "recordings of wav.scp without a segment";
                found.passed_over.add(kind, Path::new(path));
                found.known.push(PathBuf::from(path));
            }
        }
        Ok(found)
    }

    fn draft(
        &self,
        list: &List,
        span: &Span,
        [recordings, texts, speakers]: [&KeyedLines; 3],
    ) -> Result<UtteranceDraft, ImportError> {
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
            Some(list) => {
                let (_, speaker) = speakers
                    .get(id)
                    .ok_or_else(|| lacks(format!("line in {}", list.path.display())))?;
                Some((*speaker).to_owned())
            }
        };
        Ok(UtteranceDraft {
            id: id.to_owned(),
            audio: PathBuf::from(path),
            part: span.part,
            channel: span.channel,
            recording: Some(span.recording.to_owned()),
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            speaker,
            place: Some(list.place(line)),
            ..UtteranceDraft::default()
        })
    }
}

fn whole<'a>(recordings: &KeyedLines<'a>) -> Vec<Span<'a>> {
    let mut spans: Vec<Span> = recordings
        .iter()
        .map(|(id, (line, _))| Span {
            id,
            line: *line,
            recording: id,
            part: None,
            channel: None,
        })
        .collect();
    spans.sort_by_key(|span| span.line);
    spans
}

/// `UTTERANCE RECORDING START END [CHANNEL]` in each line; an end of -1 is the recording's, and channels count
/// from 0.
fn segments<'a>(
    list: &'a List,
    found: &mut ImportFindings,
    struck: &mut BTreeSet<&'a str>,
) -> Result<Vec<Span<'a>>, ImportError> {
    let mut spans = Vec::new();
    let mut wrong = Vec::new();
    for (line, text) in list.lines() {
        match segment(line, text) {
            Ok(span) => spans.push(span),
            Err(problem) => {
                wrong.push(list.problem(line, problem));
                struck.extend(text.split_whitespace().next());
            }
        }
    }
    found.take_wrong(list, spans.len(), wrong)?;
    Ok(spans)
}

fn segment(line: usize, text: &str) -> Result<Span<'_>, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (id, recording, start, end, channel) = match fields[..] {
        [id, recording, start, end] => (id, recording, start, end, None),
        [id, recording, start, end, channel] => (id, recording, start, end, Some(channel)),
        _ => return Err("the line is not `UTTERANCE RECORDING START END [CHANNEL]`".to_owned()),
    };
    let seconds = |text: &str| {
        text.parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| format!("{text:?} is no number of seconds"))
    };
    let (start, end) = (seconds(start)?, seconds(end)?);
    let end = (end != -1.0).then_some(end);
    if start < 0.0 || end.is_some_and(|end| end <= start) {
        return Err("the segment does not end after it starts".to_owned());
    }
    let channel = match channel {
        None => None,
        Some("A") => Some(0),
        Some("B") => Some(1),
        Some(number) => {
            let number = number
                .parse()
                .map_err(|_| format!("the channel {number:?} is no number; they count from 0"))?;
            Some(number)
        }
    };
    Ok(Span {
        id,
        line,
        recording,
        part: Some((start, end)),
        channel,
    })
}

/// Kaldi reads more from `wav.scp` than files.
fn is_a_file(recording: &str, path: &str) -> Result<(), String> {
    let path = path.trim_end();
    is_something(recording, path)?;
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
