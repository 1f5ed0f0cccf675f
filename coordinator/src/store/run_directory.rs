//! Whether a directory is free for a new run: it is not there, it is empty, or it holds no more than what a
//! run leaves that ended before its job was written down. Nothing that somebody else has put there is ever
//! overwritten or used.

use std::{fs, io, path::Path};

use super::{StoreError, at, read_state};
use crate::job::Job;

/// # Errors
/// [`StoreError::RunExists`] where there is a run, [`StoreError::Occupied`] where there is anything else.
pub(super) fn check(root: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A symbolic link to nothing is there, and no directory can be made in its place.
            return match fs::symlink_metadata(root) {
                Ok(_) => Err(StoreError::NotADirectory {
                    dir: root.to_owned(),
                }),
                Err(_) => Ok(()),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(StoreError::NotADirectory {
                dir: root.to_owned(),
            });
        }
        Err(error) => return Err(at(root)(error)),
    };
    let mut foreign = Vec::new();
    let mut run = false;
    for entry in entries {
        let entry = entry.map_err(at(root))?;
        let name = entry.file_name();
        let kind = entry.file_type().map_err(at(root))?;
        match name.to_str() {
            // The root of a file system of its own.
            Some("lost+found") if kind.is_dir() => {}
            Some("job.toml") if kind.is_file() => run = true,
            Some(name) if kind.is_file() && is_of_a_start(root, name) => {}
            _ => foreign.push(name),
        }
    }
    let state = if foreign.is_empty() || run {
        read_state(root)
    } else {
        Ok(None)
    };
    match state {
        // A run has its job beside the state; a coordinator's data directory has not.
        Ok(Some(state)) if !state.jobs.is_empty() && run => {
            return Err(StoreError::RunExists {
                dir: root.to_owned(),
            });
        }
        // A start that ended between the job and the state.
        Ok(Some(state)) if state.jobs.is_empty() && foreign.is_empty() && is_job(root, run) => {
            return Ok(());
        }
        Ok(None) if foreign.is_empty() && !run => return Ok(()),
        Err(error) if run || matches!(error, StoreError::Io { .. }) => return Err(error),
        _ => {}
    }
    foreign.sort();
    let found = match (foreign.first(), run) {
        (_, true) => "`job.toml`".to_owned(),
        (Some(name), false) => format!("`{}`", name.to_string_lossy().escape_debug()),
        (None, false) => "`state.json`".to_owned(),
    };
    Err(StoreError::Occupied {
        dir: root.to_owned(),
        found,
    })
}

/// Whether a coordinator may keep its queue here. Other files may lie beside it, but none under the names of
/// its own.
///
/// # Errors
/// [`StoreError::NoDataDir`] with what stands in the way.
pub(super) fn check_queue(root: &Path) -> Result<(), StoreError> {
    let taken = |name: &str| {
        let Ok(metadata) = fs::symlink_metadata(root.join(name)) else {
            return false;
        };
        !metadata.is_file() || !is_of_a_start(root, name)
    };
    // The state of a single run lies beside its job.
    let run = fs::symlink_metadata(root.join("job.toml")).is_ok()
        && fs::symlink_metadata(root.join("state.json")).is_ok();
    let in_the_way = match ["lock", "generation"].into_iter().find(|name| taken(name)) {
        None if run => "`job.toml`, a run of `unisono train`".to_owned(),
        Some(name) => format!("`{name}`"),
        None => return Ok(()),
    };
    Err(StoreError::NoDataDir {
        dir: root.to_owned(),
        found: in_the_way,
    })
}

/// Whether the file is one that a start writes before there is a job, and has what that writes.
fn is_of_a_start(root: &Path, name: &str) -> bool {
    /// More digits than any number has.
    const MAX_NUMBER_BYTES: u64 = 32;
    match name {
        "state.json" => true,
        "lock" | "generation" => {
            let path = root.join(name);
            let short =
                fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_NUMBER_BYTES);
            let digits = |text: String| text.trim().bytes().all(|byte| byte.is_ascii_digit());
            short && fs::read_to_string(path).is_ok_and(digits)
        }
        _ => false,
    }
}

/// Whether `job.toml`, where there is one, is as a run writes it: a job without a comment.
fn is_job(root: &Path, there: bool) -> bool {
    let path = root.join("job.toml");
    !there
        || fs::read_to_string(&path).is_ok_and(|text| {
            let job = Job::parse(&text, &path, &[]);
            job.is_ok_and(|job| job.to_toml().is_ok_and(|written| written == text))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(dir: &Path) -> String {
        match check(dir).unwrap_err() {
            StoreError::Occupied { found, .. } => found,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_directory_is_free_that_is_missing_or_empty_or_was_never_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("a/b")).unwrap();
        check(dir.path()).unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join("lock"), "4711\n").unwrap();
        check(dir.path()).unwrap();
        fs::write(dir.path().join("generation"), "1\n").unwrap();
        let state = r#"{"generation": 1, "next": 1, "jobs": {}}"#;
        fs::write(dir.path().join("state.json"), state).unwrap();
        check(dir.path()).unwrap();
    }

    #[test]
    fn whatever_else_lies_there_is_named() {
        for name in [
            "job.toml",
            "events.jsonl",
            "report.json",
            "notes\nof mine.txt",
            "lock",
            "generation",
            "state.json",
            ".hidden",
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "{\"mine\": 1}\n").unwrap();
            let found = occupied(dir.path());
            assert_eq!(found, format!("`{}`", name.escape_debug()));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("final")).unwrap();
        assert_eq!(occupied(dir.path()), "`final`");
    }

    #[test]
    fn a_queue_takes_no_directory_of_a_run_and_no_file_of_somebodys() {
        let dir = tempfile::tempdir().unwrap();
        check_queue(&dir.path().join("missing")).unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        fs::write(dir.path().join("lock"), "4711\n").unwrap();
        fs::write(dir.path().join("job.toml"), "# mine").unwrap();
        check_queue(dir.path()).unwrap();
        fs::write(dir.path().join("state.json"), "{}").unwrap();
        let error = check_queue(dir.path()).unwrap_err().to_string();
        assert!(error.contains("unisono train"), "{error}");
        fs::remove_file(dir.path().join("state.json")).unwrap();
        fs::write(dir.path().join("lock"), "my diary").unwrap();
        let error = check_queue(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("`lock`") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn links_and_files_are_no_directories_of_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink("nothing", &dangling).unwrap();
        for path in [&file, &dangling, &file.join("below")] {
            let error = check(path).unwrap_err();
            assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
        }
        // A link named as one of our files is not ours.
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        std::os::unix::fs::symlink(&file, run.join("lock")).unwrap();
        assert_eq!(occupied(&run), "`lock`");
    }
}
