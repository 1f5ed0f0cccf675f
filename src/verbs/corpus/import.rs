//! `corpus import`: manifests of a corpus as its publishers lay it out, all of them or none.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::Serialize;
use speech::{
    import::{self, Format, HoldOut, Imported},
    manifest::{Manifest, Utterance},
};

use crate::{
    args,
    exit::Failure,
    output::{self, duration},
};

#[derive(Debug, Serialize)]
struct Written {
    manifest: PathBuf,
    /// What put its utterances there; absent for the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    utterances: usize,
    hours: f64,
}

pub fn run(args: args::Import) -> Result<()> {
    let format: Format = args.layout.parse()?;
    let mut rules = Vec::new();
    let mut targets = Vec::new();
    for typed in &args.hold_out {
        let (rule, file) = typed.split_once('=').ok_or_else(|| {
            Failure::Usage(format!(
                "`--hold-out {typed}` names no file; it is RULE=FILE.jsonl, as in index:5-9=valid.jsonl"
            ))
        })?;
        rules.push(HoldOut::parse(rule)?);
        targets.push((Some(rule.to_owned()), PathBuf::from(file)));
    }
    let imported = import::read(format, &args.source)?;
    let (rest, held) = import::split(imported, &rules)?;
    let rest = if is_folder(&args.out) {
        fs::create_dir_all(&args.out)
            .map_err(|error| Failure::Usage(format!("{}: {error}", args.out.display())))?;
        by_split(rest, &args.out)
    } else {
        hint(&rest);
        vec![(None, args.out, rest)]
    };
    let (mut parts, mut all): (Vec<_>, Vec<_>) = rest
        .into_iter()
        .map(|(rule, path, part)| (part, (rule, path)))
        .unzip();
    parts.extend(held);
    all.extend(targets);
    let (targets, parts): (_, Vec<Vec<Utterance>>) = (all, parts.into_iter().map(bare).collect());
    distinct(&targets)?;
    write(&targets, &parts)?;
    let written: Vec<Written> = targets
        .into_iter()
        .zip(&parts)
        .map(|((rule, manifest), part)| Written {
            manifest,
            rule,
            utterances: part.len(),
            hours: part.iter().map(|utterance| utterance.duration).sum::<f64>() / 3600.0,
        })
        .collect();
    output::print(args.output.format, &written, |written| {
        let lines = written.iter().map(|one| {
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
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Whether manifests are to be written into `path`.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// A manifest in `folder` for each split, in the order of the corpus; `all.jsonl` for what is in none.
fn by_split(
    imported: Vec<Imported>,
    folder: &Path,
) -> Vec<(Option<String>, PathBuf, Vec<Imported>)> {
    let mut parts: Vec<(Option<String>, Vec<Imported>)> = Vec::new();
    for one in imported {
        match parts.iter_mut().find(|(split, _)| *split == one.split) {
            Some((_, part)) => part.push(one),
            None => parts.push((one.split.clone(), vec![one])),
        }
    }
    parts
        .into_iter()
        .map(|(split, part)| {
            let name = split.as_deref().unwrap_or("all");
            let path = folder.join(format!("{name}.jsonl"));
            (split.map(|split| format!("split:{split}")), path, part)
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

fn distinct(targets: &[(Option<String>, PathBuf)]) -> Result<()> {
    for (place, (_, path)) in targets.iter().enumerate() {
        if targets[..place].iter().any(|(_, other)| other == path) {
            let told = format!("two manifests would be written to {}", path.display());
            return Err(Failure::Usage(told).into());
        }
    }
    Ok(())
}

/// Each manifest is made beside its place first, and put there when all are made.
fn write(targets: &[(Option<String>, PathBuf)], parts: &[Vec<Utterance>]) -> Result<()> {
    let made: Vec<PathBuf> = targets.iter().map(|(_, path)| beside(path)).collect();
    let all = || -> Result<()> {
        for (path, part) in made.iter().zip(parts) {
            Manifest::write(path, part)?;
        }
        for (from, (_, to)) in made.iter().zip(targets) {
            fs::rename(from, to)?;
        }
        Ok(())
    };
    all().inspect_err(|_| {
        for path in &made {
            let _ = fs::remove_file(path);
        }
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(name)
}
