//! `corpus import`: manifests of a corpus as its publishers lay it out, all of them or none; and what of it is
//! in none, and why.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use speech::{
    escape::escape,
    import::{self, CorpusFormat, HoldOut, Imported, ImportedCorpus, Options, PassedOver},
    inspection,
    manifest::{Manifest, Utterance},
    output_file::OutputFiles,
};

use crate::{
    args,
    exit::{CommandError, Result},
    output::{self, duration},
};

/// What is left out and told by name; all of it is in the JSON.
const NAMED_ERRORS: usize = 10;
/// Kinds of files that are told of.
const LISTED_KINDS: usize = 8;

#[derive(Debug, Serialize)]
struct WrittenManifest {
    manifest: PathBuf,
    /// What put its utterances there; absent for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    utterances: usize,
    hours: f64,
    /// What was left of the corpus: lines and recordings that cannot be used, and files of no use. With the first
    /// manifest.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    rest: Option<NotImported>,
}

#[derive(Debug, Serialize)]
struct NotImported {
    left_out: Vec<String>,
    passed_over: Vec<PassedOverFiles>,
}

#[derive(Debug, Serialize)]
struct PassedOverFiles {
    kind: String,
    count: usize,
    examples: Vec<String>,
}

/// A manifest that is to be written.
struct PlannedManifest {
    path: PathBuf,
    rule: Option<String>,
    utterances: Vec<Utterance>,
}

pub(super) fn run(args: args::Import) -> Result<()> {
    let out = args.out.clone();
    let made = is_folder(&out) && !out.is_dir();
    if made {
        fs::create_dir_all(&out)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", out.display())))?;
    }
    import(args).inspect_err(|_| {
        if made {
            // With something in it, it stays.
            let _ = fs::remove_dir(&out);
        }
    })
}

fn import(args: args::Import) -> Result<()> {
    let format: CorpusFormat = args.layout.parse()?;
    let mut rules = Vec::new();
    let mut targets = Vec::new();
    for typed in &args.hold_out {
        let (rule, file) = typed.split_once('=').ok_or_else(|| {
            CommandError::Usage(format!(
                "`--hold-out {typed}` names no file; it is RULE=FILE.jsonl, as in index:5-9=valid.jsonl"
            ))
        })?;
        rules.push(HoldOut::parse(rule)?);
        targets.push((rule.to_owned(), PathBuf::from(file)));
    }
    let by_split = is_folder(&args.out);
    // What is in the way is told before a large corpus is read.
    let file = (!by_split).then_some(args.out.as_path());
    let named = targets.iter().map(|(_, file)| file.as_path());
    OutputFiles::plan(file.into_iter().chain(named), [])?;

    let options = Options {
        max_bad: args.max_bad.unwrap_or_default(),
        splits_apart: by_split,
    };
    let ImportedCorpus {
        utterances,
        left_out,
        passed_over,
    } = import::read(format, &args.source, options)?;
    let (rest, held) = import::split(utterances, &rules)?;
    let mut parts = match by_split {
        true => split_parts(rest, &args.out),
        false => {
            hint(&rest);
            vec![PlannedManifest {
                path: args.out.clone(),
                rule: None,
                utterances: bare(rest),
            }]
        }
    };
    parts.extend(
        targets
            .into_iter()
            .zip(held)
            .map(|((rule, path), held)| PlannedManifest {
                path,
                rule: Some(rule),
                utterances: bare(held),
            }),
    );
    let files = write(&parts)?;

    tell_shared(&parts);
    let used: usize = parts.iter().map(|part| part.utterances.len()).sum();
    tell_passed_over(&passed_over);
    let left_out: Vec<String> = left_out
        .iter()
        .map(|one| escape(&one.to_string()).into_owned())
        .collect();
    tell_left_out(&left_out, used);
    let mut rest = Some(NotImported {
        left_out,
        passed_over: passed_over.into_iter().map(PassedOverFiles::from).collect(),
    });
    let written: Vec<WrittenManifest> = parts
        .into_iter()
        .map(|part| WrittenManifest {
            utterances: part.utterances.len(),
            hours: part.utterances.iter().map(|it| it.duration).sum::<f64>() / 3600.0,
            manifest: part.path,
            rule: part.rule,
            rest: rest.take(),
        })
        .collect();
    output::print_beside(&files, args.output.format, &written, |written| {
        text(written)
    })
}

impl From<PassedOver> for PassedOverFiles {
    fn from(passed: PassedOver) -> Self {
        let PassedOver {
            kind,
            count,
            examples,
        } = passed;
        let examples = examples.iter().map(|path| path.display().to_string());
        Self {
            kind,
            count,
            examples: examples.collect(),
        }
    }
}

fn text(written: &[WrittenManifest]) -> String {
    let mut lines: Vec<String> = written
        .iter()
        .map(|one| {
            let rule = one
                .rule
                .as_deref()
                .map_or(String::new(), |rule| format!(" ({rule})"));
            format!(
                "{}: {} utterances, {}{rule}",
                one.manifest.display(),
                one.utterances,
                duration(one.hours * 3600.0)
            )
        })
        .collect();
    let used: usize = written.iter().map(|one| one.utterances).sum();
    let left_out = written.first().and_then(|one| one.rest.as_ref());
    match left_out.map_or(0, |rest| rest.left_out.len()) {
        0 => {}
        count => lines.push(format!("left out: {count} of {}", used + count)),
    }
    lines.join("\n")
}

/// Whether manifests are to be written into `path`.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// A manifest in `folder` for each split, in the order of the corpus; `all.jsonl` for what is in none.
fn split_parts(imported: Vec<Imported>, folder: &Path) -> Vec<PlannedManifest> {
    let mut parts: Vec<(Option<String>, Vec<Utterance>)> = Vec::new();
    for one in imported {
        match parts.iter_mut().find(|(split, _)| *split == one.split) {
            Some((_, part)) => part.push(one.utterance),
            None => parts.push((one.split, vec![one.utterance])),
        }
    }
    parts
        .into_iter()
        .map(|(split, utterances)| {
            let name = split.as_deref().unwrap_or("all");
            PlannedManifest {
                path: folder.join(format!("{name}.jsonl")),
                rule: split.map(|split| format!("split:{split}")),
                utterances,
            }
        })
        .collect()
}

/// Says what would else go unnoticed: that parts which the publisher keeps apart are in one manifest.
fn hint(rest: &[Imported]) {
    let splits: BTreeSet<&str> = rest.iter().filter_map(|one| one.split.as_deref()).collect();
    if splits.len() > 1 {
        let splits: Vec<&str> = splits.into_iter().collect();
        output::message(&format!(
            "note: the publisher's parts {} are together in one manifest; `--out FOLDER/` writes one for each, \
             `--hold-out split:NAME=FILE.jsonl` takes one out",
            splits.join(", ")
        ));
    }
}

fn bare(imported: Vec<Imported>) -> Vec<Utterance> {
    imported.into_iter().map(|one| one.utterance).collect()
}

/// Says which recordings have segments in two manifests.
fn tell_shared(parts: &[PlannedManifest]) {
    let names: Vec<String> = parts
        .iter()
        .map(|part| part.path.display().to_string())
        .collect();
    let named: Vec<(&str, &[Utterance])> = names
        .iter()
        .zip(parts)
        .map(|(name, part)| (name.as_str(), part.utterances.as_slice()))
        .collect();
    for told in inspection::shared_files(&named) {
        output::message(&format!("note: {}", escape(&told)));
    }
}

fn tell_passed_over(passed_over: &[PassedOver]) {
    for one in passed_over.iter().take(LISTED_KINDS) {
        let examples: Vec<String> = one
            .examples
            .iter()
            .map(|path| escape(&path.display().to_string()).into_owned())
            .collect();
        let more = if one.count > examples.len() {
            ", …"
        } else {
            ""
        };
        let (count, kind) = (one.count, &one.kind);
        let examples = examples.join(", ");
        output::message(&format!("passed over: {count} {kind}: {examples}{more}"));
    }
    let others = passed_over.iter().skip(LISTED_KINDS);
    let files: usize = others.clone().map(|one| one.count).sum();
    if files > 0 {
        let kinds = others.count();
        output::message(&format!(
            "passed over: {files} files of {kinds} other kinds"
        ));
    }
}

fn tell_left_out(left_out: &[String], used: usize) {
    for told in left_out.iter().take(NAMED_ERRORS) {
        output::message(&format!("left out: {told}"));
    }
    if left_out.len() > NAMED_ERRORS {
        let more = left_out.len() - NAMED_ERRORS;
        output::message(&format!("left out: and {more} more; `-o json` has all"));
    }
    if !left_out.is_empty() {
        let (count, total) = (left_out.len(), left_out.len() + used);
        output::message(&format!("{count} of {total} could not be used"));
    }
}

fn write(parts: &[PlannedManifest]) -> Result<OutputFiles> {
    let mut encoded = Vec::with_capacity(parts.len());
    for part in parts {
        encoded.push(Manifest::encode(&part.path, &part.utterances)?);
    }
    let files = OutputFiles::plan(parts.iter().map(|part| part.path.as_path()), [])?;
    files.write_bytes(&encoded)?;
    Ok(files)
}
