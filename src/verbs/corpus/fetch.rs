//! `corpus fetch`: a free corpus from its publisher, with its licence told before anything is got.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use speech::escape::escape;

use crate::{
    args,
    exit::{CommandError, Context as _, Error, Result},
    fetch::{
        self, Download,
        catalogue::{self, ARCHIVES, Archive, Checksum},
    },
    output, screen,
};

#[derive(Debug, Serialize)]
struct Fetched {
    name: &'static str,
    url: String,
    licence: &'static str,
    home: &'static str,
    folder: PathBuf,
    files: u64,
    /// Entries of the archive that are not unpacked, by kind.
    passed_over: BTreeMap<&'static str, u64>,
    sha256: String,
    /// Whether that is what it should be; `None` where nobody publishes that.
    verified: Option<bool>,
    format: &'static str,
}

#[derive(Debug, Serialize)]
struct ListedCorpus {
    name: &'static str,
    url: &'static str,
    licence: &'static str,
    sha256: Option<&'static str>,
}

pub(super) fn run(args: args::Fetch) -> Result<()> {
    let Some(name) = &args.name else {
        return list(&args);
    };
    let entry = catalogue::find(name).ok_or_else(|| {
        let known: Vec<&str> = ARCHIVES.iter().map(|entry| entry.name).collect();
        CommandError::Usage(format!(
            "no corpus is called {name:?}; known: {}",
            known.join(", ")
        ))
    })?;
    let folder = args.out.join(entry.name);
    if folder.exists() {
        let told = format!(
            "{} is there already; remove it to get it again",
            folder.display()
        );
        return Err(CommandError::Usage(told).into());
    }
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    let url = args.mirror.as_deref().unwrap_or(entry.url);
    output::message(&format!(
        "{}: {}\nlicence: {}",
        entry.name, entry.home, entry.licence
    ));
    let checksum = match (&args.sha256, entry.checksum) {
        (Some(typed), _) => Some(typed.as_str()),
        (None, Checksum::Sha256(known)) => Some(known),
        (None, Checksum::Unpublished) => None,
    };
    let archive = args.out.join(archive_name(&entry));
    let source = Download { url, checksum };
    let sha256 = match there(&source, &archive)? {
        Some(sha256) => sha256,
        None => get(&source, &archive)?,
    };
    if checksum.is_none() {
        output::message(&format!(
            "no checksum of it is published; what came has the SHA-256 {sha256}"
        ));
    }
    let unpacked = fetch::unpack(&archive, &folder)
        .inspect_err(|error| keep_or_remove(error, &archive, checksum.is_some()))?;
    for (kind, (count, first)) in &unpacked.passed_over {
        let more = if *count > 1 { ", …" } else { "" };
        output::message(&format!(
            "not unpacked: {count} {kind}: {}{more}",
            escape(&first.display().to_string())
        ));
    }
    if !args.keep {
        fs::remove_file(&archive)
            .with_context(|| format!("cannot remove {}", archive.display()))?;
    }
    let fetched = Fetched {
        name: entry.name,
        url: url.to_owned(),
        licence: entry.licence,
        home: entry.home,
        folder: folder.join(entry.folder),
        files: unpacked.files,
        passed_over: unpacked
            .passed_over
            .into_iter()
            .map(|(kind, (count, _))| (kind, count))
            .collect(),
        sha256,
        verified: checksum.map(|_| true),
        format: entry.format,
    };
    output::print(args.output.format, &fetched, |fetched| {
        format!(
            "{}: {} files\nunisono corpus import --format {} {} --out {}-manifests/",
            fetched.folder.display(),
            fetched.files,
            fetched.format,
            fetched.folder.display(),
            fetched.name
        )
    })
}

fn list(args: &args::Fetch) -> Result<()> {
    let known: Vec<ListedCorpus> = ARCHIVES
        .iter()
        .map(|entry| ListedCorpus {
            name: entry.name,
            url: entry.url,
            licence: entry.licence,
            sha256: match entry.checksum {
                Checksum::Sha256(sum) => Some(sum),
                Checksum::Unpublished => None,
            },
        })
        .collect();
    output::print(args.output.format, &known, |known| {
        let lines = known
            .iter()
            .map(|one| format!("{:<31} {}\n{:<31} {}", one.name, one.url, "", one.licence));
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn archive_name(entry: &Archive) -> String {
    let file = entry.url.rsplit('/').next().unwrap_or_default();
    format!("{}-{file}", entry.name)
}

/// The SHA-256 of an archive that an earlier call has got and could not unpack; one that is not what it should be
/// is removed.
fn there(source: &Download<'_>, archive: &Path) -> Result<Option<String>> {
    if !archive.is_file() {
        return Ok(None);
    }
    let found = fetch::sha256(archive)?;
    if source
        .checksum
        .is_some_and(|it| !it.eq_ignore_ascii_case(&found))
    {
        output::message(&format!(
            "{} is there already, and is not what it should be: it is got again",
            archive.display()
        ));
        fs::remove_file(archive).with_context(|| format!("cannot remove {}", archive.display()))?;
        return Ok(None);
    }
    output::message(&format!(
        "{} is there already and is not got again",
        archive.display()
    ));
    Ok(Some(found))
}

/// After a failed unpacking: says that the archive is kept, or removes what may be the reason, so that the next
/// call does not meet it again.
fn keep_or_remove(error: &Error, archive: &Path, is_verified: bool) {
    let is_damaged = error
        .causes()
        .any(|cause| matches!(cause.downcast_ref(), Some(CommandError::Data(_))));
    if is_damaged && !is_verified {
        // What it was is in the error.
        let _ = fs::remove_file(archive);
        return;
    }
    output::message(&format!(
        "{} is kept: the same command unpacks it without getting it again",
        archive.display()
    ));
}

/// The archive, with a bar for a person to see.
fn get(source: &Download<'_>, archive: &Path) -> Result<String> {
    let bar = if output::is_attended() {
        ProgressBar::with_draw_target(Some(0), screen::target())
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {eta}") {
        bar.set_style(style);
    }
    let got = fetch::download(source, archive, |at, total| {
        bar.set_length(total.unwrap_or(at));
        bar.set_position(at);
    });
    bar.finish_and_clear();
    got
}
