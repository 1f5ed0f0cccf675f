//! AN4 in the layout of CMU's archive and of Sphinx: `etc/an4_{train,test}.fileids` names the files
//! below `wav/`, and the line of the same number in `.transcription` says what is in each.

use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::List;
use super::{CorpusFormat, ImportError};

/// The parts of the corpus, read in this order where they are there.
const PARTS: [&str; 2] = ["train", "test"];

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = ImportFindings::default();
    for part in PARTS {
        let fileids = source.join("etc").join(format!("an4_{part}.fileids"));
        if fileids.exists() {
            let transcription = source.join("etc").join(format!("an4_{part}.transcription"));
            read_part(source, part, [&fileids, &transcription], &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::An4,
            path: source.to_owned(),
            expected: "etc/an4_train.fileids, etc/an4_train.transcription and wav/ (or those of an4_test) must be in it"
                .to_owned(),
        });
    }
    Ok(found)
}

fn read_part(
    source: &Path,
    part: &str,
    [fileids, transcription]: [&Path; 2],
    found: &mut ImportFindings,
) -> Result<(), ImportError> {
    let (id_list, transcript_list) = (List::read(fileids)?, List::read(transcription)?);
    // Without one of its lines, a list would be beside the wrong lines of the other.
    if let Some(error) = id_list
        .unreadable()
        .chain(transcript_list.unreadable())
        .next()
    {
        return Err(error);
    }
    let trimmed = |(line, text): (usize, &'_ str)| (line, text.trim().to_owned());
    let ids: Vec<(usize, String)> = id_list.lines().map(trimmed).collect();
    let transcripts: Vec<(usize, String)> = transcript_list.lines().map(trimmed).collect();
    if ids.len() != transcripts.len() {
        return Err(ImportError::Layout {
            format: CorpusFormat::An4,
            path: transcription.to_owned(),
            expected: format!(
                "{} has {} utterances and the transcription {}; line for line, they must be the same ones",
                fileids.display(),
                ids.len(),
                transcripts.len()
            ),
        });
    }
    let lines = ids.iter().zip(&transcripts);
    let drafts = lines.map(|((id_line, id), (line, transcript))| {
        let problem = |problem: String| transcript_list.problem(*line, problem);
        let name = id.rsplit('/').next().unwrap_or(id);
        let (text, file) = transcribed(transcript)
            .ok_or_else(|| problem("the line is not `<s> WORDS </s> (file-id)`".to_owned()))?;
        if file != name {
            return Err(problem(format!(
                "the transcript is that of {file:?}, but line {id_line} of {} is {id:?}",
                fileids.display()
            )));
        }
        // As it was published, or as it was converted.
        let form = |form: &str| source.join("wav").join(format!("{id}.{form}"));
        let audio = match form("sph") {
            sphere if !form("wav").exists() && sphere.exists() => sphere,
            _ => form("wav"),
        };
        Ok(UtteranceDraft {
            id: id.clone(),
            audio,
            text,
            speaker: id.rsplit('/').nth(1).map(str::to_owned),
            split: Some(part.to_owned()),
            place: Some(id_list.place(*id_line)),
            ..UtteranceDraft::default()
        })
    });
    found.known.push(fileids.to_owned());
    found.take_lines(&transcript_list, drafts.collect::<Vec<_>>())
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
