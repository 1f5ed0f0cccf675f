//! One file over HTTP, in as many pieces as the network makes of it. It decides when to go on, to begin again
//! and to give up; it does not depend on what the file is, and trusts no byte of it before its checksum.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use speech::regular_file;
use ureq::{Agent, http::header};

use crate::exit::{CommandError, Context as _, Error, Result};

/// Attempts in a row that bring nothing.
const MAX_ATTEMPTS: u32 = 5;
/// Largest archive.
const MAX_ARCHIVE_BYTES: u64 = 256 << 30;

/// What to get.
pub(crate) struct Download<'a> {
    pub url: &'a str,
    /// SHA-256 in hexadecimal, if it is known.
    pub checksum: Option<&'a str>,
}

/// Gets `source` as `target` and gives its SHA-256. What an earlier call has got of it lies beside, and is
/// not got again. `progress` is told how much is there, and of how much.
pub(crate) fn download(
    source: &Download<'_>,
    target: &Path,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<String> {
    let part = beside(target, "part");
    let agent: Agent = Agent::config_builder()
        .user_agent(concat!("unisono/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        // A piece; what it has brought is kept, and the next one goes on.
        .timeout_recv_body(Some(Duration::from_secs(1800)))
        .build()
        .into();
    let mut fruitless = 0;
    loop {
        let before = length(&part);
        match piece(&agent, source.url, &part, &mut progress) {
            Ok(()) => break,
            Err(AttemptError::For(reason)) => return Err(reason),
            Err(AttemptError::Broken(reason)) => {
                fruitless = if length(&part) > before {
                    0
                } else {
                    fruitless + 1
                };
                if fruitless == MAX_ATTEMPTS {
                    let kept = length(&part);
                    return Err(reason).with_context(|| {
                        format!(
                            "{}: given up after {MAX_ATTEMPTS} attempts; {kept} bytes are kept, and the same command goes on from there",
                            source.url
                        )
                    });
                }
                thread::sleep(Duration::from_millis(250 << fruitless));
            }
        }
    }
    let found = sha256(&part)?;
    if let Some(expected) = source.checksum
        && !expected.eq_ignore_ascii_case(&found)
    {
        // It would be wrong the next time as well.
        let _ = fs::remove_file(&part);
        let _ = fs::remove_file(beside(&part, "etag"));
        let told = format!(
            "{}: what came has the SHA-256 {found} and should have {expected}: it is not kept; try again, or ask the publisher",
            source.url
        );
        return Err(CommandError::Data(told).into());
    }
    fs::rename(&part, target).with_context(|| format!("cannot write {}", target.display()))?;
    let _ = fs::remove_file(beside(&part, "etag"));
    Ok(found)
}

enum AttemptError {
    /// The connection; another attempt may bring the rest.
    Broken(Error),
    /// What no attempt mends.
    For(Error),
}

/// Gets what `part` lacks, as far as the connection holds.
fn piece(
    agent: &Agent,
    url: &str,
    part: &Path,
    progress: &mut impl FnMut(u64, Option<u64>),
) -> Result<(), AttemptError> {
    let broken = |error: Error| AttemptError::Broken(error);
    let away = |told: String| Error::from(CommandError::Infrastructure(told));
    let fatal = |error: Error| AttemptError::For(error);
    let held = length(part);
    let tag = beside(part, "etag");
    let mut request = agent.get(url);
    if held > 0 {
        request = request.header(header::RANGE, format!("bytes={held}-"));
        if let Ok(etag) = fs::read_to_string(&tag) {
            // Another file by now: then all of it is sent.
            request = request.header(header::IF_RANGE, etag.trim());
        }
    }
    let response = request
        .call()
        .map_err(|error| broken(away(format!("{url}: {error}"))))?;
    let status = response.status().as_u16();
    let field = |name| {
        let value = response.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    let (begin, total) = match status {
        200 => (
            0,
            field(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        ),
        206 => {
            let range = field(header::CONTENT_RANGE).unwrap_or_default();
            match content_range(&range) {
                Some((begin, total)) if begin == held => (begin, total),
                _ => {
                    // Not what was asked for: from the beginning, the next time.
                    let _ = fs::remove_file(part);
                    return Err(broken(away(format!(
                        "{url}: the server sent {range:?} where bytes from {held} on were asked for"
                    ))));
                }
            }
        }
        416 => {
            let whole = field(header::CONTENT_RANGE)
                .and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
            if whole == Some(held) {
                return Ok(());
            }
            let _ = fs::remove_file(part);
            return Err(broken(away(format!(
                "{url}: the server has other bytes than those that are here"
            ))));
        }
        408 | 429 | 500..=599 => {
            return Err(broken(away(format!("{url}: the server answers {status}"))));
        }
        _ => {
            let told = format!("{url}: the server answers {status}; is the corpus still there?");
            return Err(fatal(CommandError::Data(told).into()));
        }
    };
    if total.is_some_and(|total| total > MAX_ARCHIVE_BYTES) {
        let told = format!(
            "{url}: {} bytes are more than {MAX_ARCHIVE_BYTES}",
            total.unwrap_or_default()
        );
        return Err(fatal(CommandError::Data(told).into()));
    }
    let unwritable = |error: io::Error| {
        AttemptError::For(Error::from(error).context(format!("cannot write {}", part.display())))
    };
    if begin == 0 {
        match field(header::ETAG) {
            Some(etag) => regular_file::create(&tag)
                .and_then(|mut file| file.write_all(etag.as_bytes()))
                .map_err(unwritable)?,
            None => drop(fs::remove_file(&tag)),
        }
    }
    let opened = if begin == 0 {
        regular_file::create(part)
    } else {
        regular_file::append(part)
    };
    let mut file = opened.map_err(unwritable)?;
    let mut at = begin;
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(broken(away(format!("{url}: {error}")))),
        };
        file.write_all(&buffer[..read]).map_err(unwritable)?;
        at += read as u64;
        if at > MAX_ARCHIVE_BYTES {
            let told = format!("{url}: it has more than {MAX_ARCHIVE_BYTES} bytes");
            return Err(fatal(CommandError::Data(told).into()));
        }
        progress(at, total);
    }
    file.sync_all().map_err(unwritable)?;
    if total.is_some_and(|total| at < total) {
        return Err(broken(away(format!("{url}: the connection ended early"))));
    }
    Ok(())
}

/// First byte and length of the whole from `bytes 5-9/10`, whose length may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `path` with `.extension` behind its name.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}
