//! Common Voice: `train.tsv`, `dev.tsv` and `test.tsv` (or else `validated.tsv`), whose first line names the
//! columns, and `clips/`. Fields are not quoted: a quotation mark is one that was read aloud from.

use std::path::Path;

use super::draft::Draft;
use super::list::{List, is_file_name};
use super::{Format, ImportError};

/// The splits that its publisher made; without them, what was validated.
const SPLITS: [&str; 3] = ["train", "dev", "test"];

pub(super) fn read(source: &Path) -> Result<Vec<Draft>, ImportError> {
    let mut drafts = Vec::new();
    for split in SPLITS {
        if let Some(list) = List::read_if_there(&source.join(format!("{split}.tsv")))? {
            drafts.extend(parse(&list, &source.join("clips"), Some(split))?);
        }
    }
    if drafts.is_empty()
        && let Some(list) = List::read_if_there(&source.join("validated.tsv"))?
    {
        drafts = parse(&list, &source.join("clips"), None)?;
    }
    if drafts.is_empty() {
        return Err(ImportError::Layout {
            format: Format::CommonVoice,
            path: source.to_owned(),
            expected: "train.tsv, dev.tsv and test.tsv, or validated.tsv, and clips/ must be in it, as in the folder of one language"
                .to_owned(),
        });
    }
    Ok(drafts)
}

/// The lines of one table.
pub fn parse(list: &List, clips: &Path, split: Option<&str>) -> Result<Vec<Draft>, ImportError> {
    let mut lines = list.lines();
    let Some((first, header)) = lines.next() else {
        return Ok(Vec::new());
    };
    let columns: Vec<&str> = header.split('\t').map(str::trim).collect();
    let column = |name: &str| {
        columns
            .iter()
            .position(|column| *column == name)
            .ok_or_else(|| list.problem(first, format!("there is no column `{name}`")))
    };
    let (client, path, sentence) = (column("client_id")?, column("path")?, column("sentence")?);
    let mut drafts = Vec::new();
    for (line, text) in lines {
        let fields: Vec<&str> = text.split('\t').collect();
        if fields.len() != columns.len() {
            return Err(list.problem(
                line,
                format!(
                    "the line has {} fields where the first has {}",
                    fields.len(),
                    columns.len()
                ),
            ));
        }
        let file = fields[path].trim();
        if !is_file_name(file) {
            return Err(list.problem(line, format!("`path` is {file:?}, which is no file's name")));
        }
        // The first releases left the extension out.
        let audio = match file.contains('.') {
            true => clips.join(file),
            false => clips.join(format!("{file}.mp3")),
        };
        let id = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let speaker = fields[client].trim();
        drafts.push(Draft {
            id: id.to_owned(),
            audio,
            part: None,
            text: fields[sentence].trim().to_owned(),
            speaker: (!speaker.is_empty()).then(|| speaker.to_owned()),
            split: split.map(str::to_owned),
            place: Some(list.place(line)),
        });
    }
    Ok(drafts)
}
