//! Common Voice: `train.tsv`, `dev.tsv` and `test.tsv` (or else `validated.tsv`), whose first line names the
//! columns, and `clips/`. Most releases do not quote: a quotation mark is one that was read aloud from. Some
//! were written as CSV is, and there a field with a quotation mark, a tab or the end of a line in it stands in
//! quotation marks, with those inside doubled.

use std::borrow::Cow;
use std::path::Path;

use super::draft::UtteranceDraft;
use super::findings::ImportFindings;
use super::list::{List, is_file_name};
use super::{CorpusFormat, ImportError};

/// The splits that its publisher made; without them, what was validated.
const SPLITS: [&str; 3] = ["train", "dev", "test"];
/// Lines that a quoted sentence may have.
const SAMPLED_LINES: usize = 16;

pub(super) fn read(source: &Path) -> Result<ImportFindings, ImportError> {
    let mut found = ImportFindings::default();
    let clips = source.join("clips");
    for split in SPLITS {
        if let Some(list) = List::read_if_there(&source.join(format!("{split}.tsv")))? {
            found.extend(parse(&list, &clips, Some(split))?);
        }
    }
    if found.is_empty()
        && let Some(list) = List::read_if_there(&source.join("validated.tsv"))?
    {
        found = parse(&list, &clips, None)?;
    }
    if found.is_empty() {
        return Err(ImportError::Layout {
            format: CorpusFormat::CommonVoice,
            path: source.to_owned(),
            expected: "train.tsv, dev.tsv and test.tsv, or validated.tsv, and clips/ must be in it, as in the folder of one language"
                .to_owned(),
        });
    }
    Ok(found)
}

/// The lines of one table.
pub fn parse(
    list: &List,
    clips: &Path,
    split: Option<&str>,
) -> Result<ImportFindings, ImportError> {
    let lines: Vec<(usize, &str)> = list.lines().collect();
    let Some(((first, header), mut rest)) = lines.split_first() else {
        let mut found = ImportFindings::default();
        found.take_wrong(list, 0, Vec::new())?;
        return Ok(found);
    };
    let columns: Vec<&str> = header.split('\t').map(str::trim).collect();
    // Written with quotation marks around everything.
    let all_quoted = columns.iter().all(|name| quoted(name).is_some());
    let columns: Vec<Cow<str>> = columns
        .into_iter()
        .map(|name| unquoted(name, all_quoted))
        .collect();
    let column = |name: &str| {
        columns
            .iter()
            .position(|column| *column == name)
            .ok_or_else(|| list.problem(*first, format!("there is no column `{name}`")))
    };
    let (client, path, sentence) = (column("client_id")?, column("path")?, column("sentence")?);
    let mut read = Vec::with_capacity(rest.len());
    while let Some(((line, text), behind)) = rest.split_first() {
        let (fields, taken) = fields(text, behind, columns.len());
        rest = &behind[taken..];
        if fields.len() != columns.len() {
            read.push(Err(list.problem(
                *line,
                format!(
                    "the line has {} fields where the first has {}",
                    fields.len(),
                    columns.len()
                ),
            )));
            continue;
        }
        let field = |place: usize| {
            let text = unquoted(&fields[place], all_quoted);
            text.split(['\t', '\r', '\n'])
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let file = field(path);
        if !is_file_name(&file) {
            let problem = format!("`path` is {file:?}, which is no file's name");
            read.push(Err(list.problem(*line, problem)));
            continue;
        }
        // The first releases left the extension out.
        let audio = if file.contains('.') {
            clips.join(&file)
        } else {
            clips.join(format!("{file}.mp3"))
        };
        let id = file
            .rsplit_once('.')
            .map_or(file.as_str(), |(stem, _)| stem);
        let speaker = field(client);
        read.push(Ok(UtteranceDraft {
            id: id.to_owned(),
            audio,
            text: field(sentence),
            speaker: (!speaker.is_empty()).then_some(speaker),
            split: split.map(str::to_owned),
            place: Some(list.place(*line)),
            ..UtteranceDraft::default()
        }));
    }
    let mut found = ImportFindings::default();
    found.take_lines(list, read)?;
    Ok(found)
}

/// The fields of a line, and how many of the lines `behind` it belong to it. Where tabs alone do not give as
/// many as there should be, they may be in a quoted field, as may the ends of lines.
fn fields<'a>(
    text: &'a str,
    behind: &[(usize, &'a str)],
    columns: usize,
) -> (Vec<Cow<'a, str>>, usize) {
    let plain: Vec<Cow<str>> = text.split('\t').map(Cow::Borrowed).collect();
    if plain.len() == columns {
        return (plain, 0);
    }
    let mut joined = text.to_owned();
    for taken in 0..=behind.len().min(SAMPLED_LINES) {
        if taken > 0 {
            joined.push('\n');
            joined += behind[taken - 1].1;
        }
        match csv_fields(&joined) {
            Some(found) if found.len() == columns => {
                let found = found.into_iter().map(|field| Cow::Owned(field.to_owned()));
                return (found.collect(), taken);
            }
            // A quotation mark is still open.
            None => {}
            Some(_) => break,
        }
    }
    (plain, 0)
}

/// The fields between tabs that are in no quoted field, still in their marks; `None` where one does not end, and
/// none at all where more than a tab follows a closing mark, as no program that quotes writes.
fn csv_fields(text: &str) -> Option<Vec<&str>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let end = match rest.strip_prefix('"') {
            None => rest.find('\t'),
            Some(inside) => {
                let mut at = 0;
                // The first mark that is not doubled.
                let close = loop {
                    let mark = at + inside[at..].find('"')?;
                    if !inside[mark + 1..].starts_with('"') {
                        break mark;
                    }
                    at = mark + 2;
                };
                let behind = 1 + close + 1;
                match rest[behind..].chars().next() {
                    None => None,
                    Some('\t') => Some(behind),
                    Some(_) => return Some(Vec::new()),
                }
            }
        };
        match end {
            None => {
                fields.push(rest);
                return Some(fields);
            }
            Some(end) => {
                fields.push(&rest[..end]);
                rest = &rest[end + 1..];
            }
        }
    }
}

/// What is in the marks of a quoted field; `None` for a field that is not quoted.
fn quoted(field: &str) -> Option<&str> {
    let inside = field.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.replace("\"\"", "").contains('"')).then_some(inside)
}

/// A field as it was before it was written as CSV. Unless `always`, only what must have been quoted is: with
/// nothing in it that has to be, the marks are the sentence's.
fn unquoted(field: &str, always: bool) -> Cow<'_, str> {
    match quoted(field) {
        Some(inside) if always || inside.contains(['"', '\t', '\n']) => {
            Cow::Owned(inside.replace("\"\"", "\""))
        }
        _ => Cow::Borrowed(field),
    }
}
