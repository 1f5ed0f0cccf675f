//! AN4 in the layout of CMU's archive and of Sphinx: `etc/an4_{train,test}.fileids` names the files
//! below `wav/`, and the line of the same number in `.transcription` says what is in each.

use std::fs;
use std::path::Path;

use super::{Format, ImportError, duration};
use crate::manifest::Utterance;

/// The parts of the corpus, read in this order where they are there.
const PARTS: [&str; 2] = ["an4_train", "an4_test"];

pub(super) fn read(source: &Path) -> Result<Vec<Utterance>, ImportError> {
    let mut utterances = Vec::new();
    for part in PARTS {
        let fileids = source.join("etc").join(format!("{part}.fileids"));
        if fileids.exists() {
            let transcription = source.join("etc").join(format!("{part}.transcription"));
            read_part(source, &fileids, &transcription, &mut utterances)?;
        }
    }
    if utterances.is_empty() {
        return Err(ImportError::Layout {
            format: Format::An4,
            path: source.to_owned(),
            expected: "etc/an4_train.fileids, etc/an4_train.transcription and wav/ (or those of an4_test) must be in it"
                .to_owned(),
        });
    }
    Ok(utterances)
}

fn read_part(
    source: &Path,
    fileids: &Path,
    transcription: &Path,
    utterances: &mut Vec<Utterance>,
) -> Result<(), ImportError> {
    let load = |path: &Path| {
        fs::read_to_string(path).map_err(|error| ImportError::Read {
            path: path.to_owned(),
            error,
        })
    };
    let (ids, transcripts) = (load(fileids)?, load(transcription)?);
    let (ids, transcripts) = (written(&ids), written(&transcripts));
    if ids.len() != transcripts.len() {
        return Err(ImportError::Layout {
            format: Format::An4,
            path: transcription.to_owned(),
            expected: format!(
                "{} has {} utterances and the transcription {}; line for line, they must be the same ones",
                fileids.display(),
                ids.len(),
                transcripts.len()
            ),
        });
    }
    for ((id_line, id), (line, transcript)) in ids.into_iter().zip(transcripts) {
        let problem = |problem| ImportError::Line {
            path: transcription.to_owned(),
            line,
            problem,
        };
        let name = id.rsplit('/').next().unwrap_or(id);
        let (text, file) = transcribed(transcript)
            .ok_or_else(|| problem("the line is not `<s> WORDS </s> (file-id)`".to_owned()))?;
        if file != name {
            return Err(problem(format!(
                "the transcript is that of {file:?}, but line {id_line} of {} is {id:?}",
                fileids.display()
            )));
        }
        let audio = source.join("wav").join(format!("{id}.wav"));
        if !audio.exists() {
            let other = ["sph", "raw"]
                .into_iter()
                .find(|form| audio.with_extension(form).exists());
            let hint = other.map_or(String::new(), |form| {
                format!(" (there is a .{form}: convert the recordings to WAV first)")
            });
            return Err(ImportError::MissingAudio {
                list: fileids.to_owned(),
                line: id_line,
                audio,
                hint,
            });
        }
        utterances.push(Utterance {
            id: id.to_owned(),
            offset: 0.0,
            duration: duration(&audio)?,
            audio,
            text,
            speaker: id.rsplit('/').nth(1).map(str::to_owned),
        });
    }
    Ok(())
}

/// The lines that say something, trimmed, with their numbers.
fn written(text: &str) -> Vec<(usize, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// The words and the file of `<s> WORDS </s> (file)`; the sentence marks may be missing.
fn transcribed(line: &str) -> Option<(String, &str)> {
    let (words, file) = line.strip_suffix(')')?.rsplit_once('(')?;
    let words: Vec<&str> = words
        .split_whitespace()
        .filter(|&word| word != "<s>" && word != "</s>")
        .collect();
    let file = file.trim();
    (!file.is_empty()).then(|| (words.join(" "), file))
}
