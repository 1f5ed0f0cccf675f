//! `corpus import`: manifests of a corpus as its publishers lay it out, all of them or none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde::Serialize;
use speech::{
    import::{self, Format, HoldOut},
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
    let mut targets = vec![(None, args.out.clone())];
    for typed in &args.hold_out {
        let (rule, file) = typed.split_once('=').ok_or_else(|| {
            Failure::Usage(format!(
                "`--hold-out {typed}` names no file; it is RULE=FILE.jsonl, as in index:5-9=valid.jsonl"
            ))
        })?;
        rules.push(HoldOut::parse(rule)?);
        targets.push((Some(rule.to_owned()), PathBuf::from(file)));
    }
    distinct(&targets)?;
    let utterances = import::read(format, &args.source)?;
    let (rest, held) = import::split(utterances, &rules)?;
    let parts: Vec<Vec<Utterance>> = std::iter::once(rest).chain(held).collect();
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
