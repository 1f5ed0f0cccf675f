//! The forms of an alignment: time-marked words, TextGrid and JSON lines, on standard output or in files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use speech::{
    ctm,
    decode::ForcedAlignment,
    output_file::{self, OutputFiles},
    textgrid::{self, Interval},
};

use crate::{
    args::{self, AlignmentFormat},
    exit::{Context as _, Result},
    output,
};

/// How the frames of a model lie in an utterance.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The length of the utterance.
    pub seconds: f64,
    /// From one row of the model's outputs to the next.
    pub row_seconds: f64,
    /// What is added to all times.
    pub shift: f64,
}

impl Rows {
    /// Where a row begins, in seconds of the utterance.
    fn time(self, row: usize) -> f64 {
        // Not `clamp`, which panics where the length is no number.
        (row as f64 * self.row_seconds + self.shift)
            .max(0.0)
            .min(self.seconds)
    }
}

/// An utterance in JSON lines. Times are seconds of it.
#[derive(Serialize)]
struct AlignedUtterance<'a> {
    id: &'a str,
    seconds: f64,
    frames: usize,
    /// The log-likelihood of the transcript, over all its alignments.
    log_likelihood: f64,
    log_likelihood_per_frame: f64,
    words: Vec<AlignedPart<'a>>,
}

#[derive(Serialize)]
struct AlignedPart<'a> {
    text: &'a str,
    start: f64,
    end: f64,
    /// The mean posterior probability of its units in their frames.
    posterior: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    units: Vec<AlignedPart<'a>>,
}

/// Where text goes.
enum Target {
    StandardOutput,
    File {
        planned: OutputFiles,
        text: String,
    },
    /// A file for each utterance.
    Folder(PathBuf),
}

/// Writes utterances in the manifest's order.
pub(super) struct AlignmentWriter {
    format: AlignmentFormat,
    units: bool,
    target: Target,
    /// What files call utterances, by their ids.
    names: BTreeMap<String, String>,
}

impl AlignmentWriter {
    /// Looks at where the output goes before anything is computed.
    pub(super) fn new(args: &args::Align) -> Result<Self> {
        let target = match (&args.out, args.format) {
            (Some(folder), AlignmentFormat::Textgrid) => {
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                Target::Folder(folder.clone())
            }
            (Some(path), _) => {
                let inputs = [args.manifest.as_path()];
                Target::File {
                    planned: OutputFiles::plan([path.as_path()], inputs)?,
                    text: String::new(),
                }
            }
            (None, _) => Target::StandardOutput,
        };
        Ok(Self {
            format: args.format,
            units: args.units,
            target,
            names: BTreeMap::new(),
        })
    }

    /// All utterances that may come, by their ids in the manifest's order.
    pub(super) fn name_utterances<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        let ids: Vec<&str> = ids.collect();
        let names = match self.format {
            AlignmentFormat::Ctm => ctm::recordings(ids.iter().copied()),
            AlignmentFormat::Textgrid => file_names(&ids),
            AlignmentFormat::Jsonl => return,
        };
        let owned = ids.into_iter().map(str::to_owned);
        self.names = owned.zip(names).collect();
    }

    /// Writes the next one.
    pub(super) fn utterance(
        &mut self,
        id: &str,
        aligned: &ForcedAlignment,
        rows: Rows,
    ) -> Result<()> {
        let name = self.names.get(id).map_or(id, String::as_str);
        let text = match self.format {
            AlignmentFormat::Ctm => self.time_marked(name, aligned, rows),
            AlignmentFormat::Textgrid => self.text_grid(aligned, rows),
            AlignmentFormat::Jsonl => serde_json::to_string(&self.json(id, aligned, rows))? + "\n",
        };
        match &mut self.target {
            // An utterance without words has no lines.
            Target::StandardOutput if text.is_empty() => {}
            Target::StandardOutput => output::line(text.trim_end_matches('\n'))?,
            Target::File { text: all, .. } => all.push_str(&text),
            Target::Folder(folder) => {
                let path = folder.join(format!("{name}.TextGrid"));
                output_file::write(&path, &|out| out.write_all(text.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Writes the file, which is whole only now.
    pub(super) fn finish(self) -> Result<()> {
        if let Target::File { planned, text } = self.target {
            planned.write_bytes(&[text])?;
        }
        Ok(())
    }

    fn time_marked(&self, name: &str, aligned: &ForcedAlignment, rows: Rows) -> String {
        let mut lines = String::new();
        for word in self.json(name, aligned, rows).words {
            let parts = if self.units {
                &word.units
            } else {
                std::slice::from_ref(&word)
            };
            for part in parts {
                let sure = Some(part.posterior);
                lines += &ctm::line(name, part.start, part.end, part.text, sure);
                lines.push('\n');
            }
        }
        lines
    }

    fn text_grid(&self, aligned: &ForcedAlignment, rows: Rows) -> String {
        let found = self.json("", aligned, rows);
        let interval = |part: &AlignedPart| Interval {
            start: part.start,
            end: part.end,
            label: part.text.to_owned(),
        };
        let words: Vec<Interval> = found.words.iter().map(interval).collect();
        let units = found.words.iter().flat_map(|word| &word.units);
        let units: Vec<Interval> = units.map(interval).collect();
        let mut tiers: Vec<textgrid::Tier> = vec![("words", &words)];
        if self.units {
            tiers.push(("units", &units));
        }
        textgrid::text(rows.seconds, &tiers)
    }

    fn json<'a>(
        &self,
        id: &'a str,
        aligned: &'a ForcedAlignment,
        rows: Rows,
    ) -> AlignedUtterance<'a> {
        let words = aligned.words.iter().map(|word| AlignedPart {
            text: &word.text,
            start: rows.time(word.frames.start),
            end: rows.time(word.frames.end),
            posterior: word.posterior,
            units: if self.units {
                let units = word.units.iter().map(|unit| AlignedPart {
                    text: &unit.text,
                    start: rows.time(unit.frames.start),
                    end: rows.time(unit.frames.end),
                    posterior: unit.posterior,
                    units: Vec::new(),
                });
                units.collect()
            } else {
                Vec::new()
            },
        });
        AlignedUtterance {
            id,
            seconds: rows.seconds,
            frames: aligned.frames,
            log_likelihood: aligned.log_likelihood,
            log_likelihood_per_frame: aligned.log_likelihood / aligned.frames.max(1) as f64,
            words: words.collect(),
        }
    }
}

/// What the files of utterances are called, without their extension: distinct, and each in the folder itself.
fn file_names(ids: &[&str]) -> Vec<String> {
    let flat: Vec<String> = ids
        .iter()
        .map(|id| {
            let id = id.trim_start_matches(['.', '/']);
            let stem = Path::new(id).with_extension("");
            // An id that is a path names a recording: its extension says nothing.
            let id = if id.contains('/') {
                stem.to_string_lossy()
            } else {
                id.into()
            };
            id.replace(['/', '\\', ':'], "_")
        })
        .collect();
    ctm::recordings(flat.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_utterances_lie_in_the_folder_and_differ() {
        let names = file_names(&[
            "a", "/d/a.wav", "d/a.mp3", "../../x", "", "..", "a b", "v1.5",
        ]);
        assert_eq!(names, ["a", "d_a", "d_a-2", "x", "_", "_-2", "a_b", "v1.5"]);
        assert!(names.iter().all(|name| !name.contains('/')));
    }
}
