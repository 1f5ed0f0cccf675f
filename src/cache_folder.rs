//! The folder in which workers cache received audio and features when none is named. A cache only saves time: a
//! home that cannot be written, as containers have it, is no reason not to work.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CacheFolder {
    /// `None`: nowhere, so that what is received is kept in memory alone.
    pub folder: Option<PathBuf>,
    /// What a person should know.
    pub warning: Option<String>,
}

/// The first of these that can be used: a folder in `XDG_CACHE_HOME`, in `HOME`, or one of this user's own among the
/// temporary files.
pub(crate) fn find() -> CacheFolder {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    find_among(
        variable("XDG_CACHE_HOME"),
        variable("HOME"),
        &env::temp_dir(),
    )
}

fn find_among(cache_home: Option<PathBuf>, home: Option<PathBuf>, temporary: &Path) -> CacheFolder {
    // Relative ones are to be ignored, says the XDG base directory specification.
    let usual = cache_home
        .filter(|path| path.is_absolute())
        .or_else(|| {
            home.filter(|path| path.is_absolute())
                .map(|home| home.join(".cache"))
        })
        .map(|path| path.join("unisono").join("worker"));
    let error = match usual.as_deref().map(|folder| (folder, usable(folder))) {
        Some((folder, Ok(()))) => {
            return CacheFolder {
                folder: Some(folder.to_owned()),
                warning: None,
            };
        }
        Some((folder, Err(error))) => Some(format!(
            "{} cannot be used as the cache ({error})",
            folder.display()
        )),
        None => None,
    };
    let own = temporary.join(format!("unisono-{}", geteuid().as_raw()));
    let folder = own.join("worker");
    let found = make_private(&own).and_then(|()| usable(&folder));
    const HELP: &str = "`--cache-dir` or XDG_CACHE_HOME name another";
    match (found, error) {
        (Ok(()), error) => CacheFolder {
            warning: error
                .map(|error| format!("{error}; {} is used instead, {HELP}", folder.display())),
            folder: Some(folder),
        },
        (Err(temporary), error) => {
            let error = error.unwrap_or_else(|| {
                format!(
                    "{} cannot be used as the cache ({temporary})",
                    folder.display()
                )
            });
            CacheFolder {
                folder: None,
                warning: Some(format!("{error}; nothing is kept on disk, {HELP}")),
            }
        }
    }
}

/// Whether files can be kept there, a full disk aside: what lies there can be read all the same.
fn usable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".probe.{}.tmp", std::process::id()));
    let written = fs::write(&probe, b"");
    let _ = fs::remove_file(&probe);
    match written {
        Err(error) if is_forbidden(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// A folder among everybody's temporary files that nobody else has made or may write.
fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(folder)?;
    let own = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    match own {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not this user's alone",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_usual_places_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, home) = (dir.path().join("cache"), dir.path().join("home"));
        let found = find_among(Some(cache.clone()), Some(home.clone()), dir.path());
        assert_eq!(found.folder.unwrap(), cache.join("unisono/worker"));
        let found = find_among(Some("relative".into()), Some(home.clone()), dir.path());
        assert_eq!(found.folder.unwrap(), home.join(".cache/unisono/worker"));
        assert_eq!(found.warning, None);
    }

    #[test]
    fn a_home_that_cannot_be_used_is_told_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        // Root may write where permissions forbid it; below a file nobody may.
        let home = dir.path().join("file");
        fs::write(&home, "").unwrap();
        let found = find_among(None, Some(home.clone()), dir.path());
        let folder = found.folder.unwrap();
        assert!(folder.starts_with(dir.path()) && folder.is_dir());
        let mode = fs::metadata(folder.parent().unwrap()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let warning = found.warning.unwrap();
        for named in [home.to_str().unwrap(), "--cache-dir", "XDG_CACHE_HOME"] {
            assert!(warning.contains(named), "{warning}");
        }
        // Once more, where it is already.
        assert_eq!(
            find_among(None, Some(home), dir.path()).folder.unwrap(),
            folder
        );
        // Nobody said where: nothing to tell.
        assert_eq!(find_among(None, None, dir.path()).warning, None);
    }

    #[test]
    fn a_temporary_folder_of_somebody_else_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(format!("unisono-{}", geteuid().as_raw()));
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        let found = find_among(None, None, dir.path());
        assert_eq!(found.folder, None);
        assert!(found.warning.unwrap().contains("nothing is kept on disk"));
        fs::remove_dir(&own).unwrap();
        symlink(dir.path(), &own).unwrap();
        assert_eq!(find_among(None, None, dir.path()).folder, None);
    }
}
