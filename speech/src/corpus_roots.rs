//! The folders that files may be read from when somebody else names their paths: a job that was submitted over the
//! network, or a coordinator that tells a worker where a recording lies. What lies outside is neither opened nor
//! looked at, and one and the same error says so, whatever is there.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::regular_file;

/// Where files may be read. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct CorpusRoots(Option<Arc<[Root]>>);

#[derive(Clone, Debug)]
struct Root {
    /// As it was named, absolute.
    named: PathBuf,
    /// The same folder by a path without symbolic links.
    real: PathBuf,
}

/// Why a path that somebody else named is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Outside {
    #[error(
        "no file that others name is read, because no folder was named for it (`--corpus-root DIR`)"
    )]
    NoRoot,
    #[error("it lies beneath none of the folders that may be read (`--corpus-root DIR`)")]
    NotBeneath,
}

impl From<Outside> for io::Error {
    fn from(outside: Outside) -> Self {
        Self::new(ErrorKind::PermissionDenied, outside)
    }
}

impl CorpusRoots {
    /// Any file that the process may read: for jobs of whoever started it.
    pub const fn anywhere() -> Self {
        Self(None)
    }

    /// Nothing.
    pub fn nowhere() -> Self {
        Self(Some(Arc::default()))
    }

    /// Files beneath `folders`, and no others; of no folder, none.
    ///
    /// # Errors
    /// When one of them is no folder, with its path.
    pub fn beneath(folders: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let root = |folder: &PathBuf| {
            let real = fs::canonicalize(folder)?;
            if !real.is_dir() {
                return Err(ErrorKind::NotADirectory.into());
            }
            let named = std::path::absolute(folder)?;
            Ok(Root { named, real })
        };
        let roots = folders
            .iter()
            .map(|folder| root(folder).map_err(|error| (folder.clone(), error)));
        Ok(Self(Some(roots.collect::<Result<_, _>>()?)))
    }

    /// These, and the folder `own` beneath which the program itself has written.
    #[must_use]
    pub fn and(&self, own: &Path) -> Self {
        let Some(roots) = &self.0 else {
            return self.clone();
        };
        let real = fs::canonicalize(own).unwrap_or_else(|_| own.to_owned());
        let named = std::path::absolute(own).unwrap_or_else(|_| own.to_owned());
        let own = Root { named, real };
        Self(Some(roots.iter().cloned().chain([own]).collect()))
    }

    /// Whether any file is read.
    pub const fn is_anywhere(&self) -> bool {
        self.0.is_none()
    }

    /// Opens the file at `path` for reading, as [`regular_file::open`] does. A symbolic link may lead from one of
    /// the folders into another one.
    ///
    /// # Errors
    /// As [`regular_file::open`]; and one and the same for everything outside the folders, of the kind
    /// `PermissionDenied`.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let Some((root, rest)) = self.find(path)? else {
            return regular_file::open(path);
        };
        regular_file::must_be_regular(&fs::metadata(root.join(&rest))?)?;
        // Something else may have been put there since: it is not waited for, no link is followed, and what was
        // opened is looked at.
        let file = open_beneath(&root, &rest)?;
        regular_file::must_be_regular(&file.metadata()?)?;
        Ok(file)
    }

    /// The path without symbolic links of what is at `path`, where that may be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        let found = self.find(path)?;
        Ok(found.map_or_else(|| path.to_owned(), |(root, rest)| root.join(rest)))
    }

    /// The root beneath which `path` leads, and the way from there without symbolic links; `None` where there are
    /// no roots to keep to.
    fn find(&self, path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
        let Some(roots) = &self.0 else {
            return Ok(None);
        };
        if roots.is_empty() {
            return Err(Outside::NoRoot.into());
        }
        let path = &std::path::absolute(path)?;
        // Nothing is asked of the system about paths that do not even begin like a root.
        let begins = |root: &Root| path.starts_with(&root.named) || path.starts_with(&root.real);
        if !roots.iter().any(begins) {
            return Err(Outside::NotBeneath.into());
        }
        let beneath = |real: &Path| {
            let found = |root: &Root| {
                let rest = real.strip_prefix(&root.real).ok()?;
                Some((root.real.clone(), rest.to_owned()))
            };
            roots.iter().find_map(found)
        };
        match fs::canonicalize(path) {
            Ok(real) => beneath(&real)
                .map(Some)
                .ok_or_else(|| Outside::NotBeneath.into()),
            Err(error) => match reached(path) {
                // What is wrong beneath a root may be told, but not what a link leads to outside.
                Some(real) if beneath(&real).is_some() => Err(error),
                _ => Err(Outside::NotBeneath.into()),
            },
        }
    }
}

/// How far `path`, which leads nowhere, leads without symbolic links; `None` where a symbolic link leads nowhere.
fn reached(path: &Path) -> Option<PathBuf> {
    let mut beyond = path;
    for there in path.ancestors().skip(1) {
        if let Ok(real) = fs::canonicalize(there) {
            let is_link = fs::symlink_metadata(beyond).is_ok_and(|found| found.is_symlink());
            return (!is_link).then_some(real);
        }
        beyond = there;
    }
    None
}

/// Opens what lies at `rest` beneath the folder `root`, through no symbolic link.
fn open_beneath(root: &Path, rest: &Path) -> io::Result<File> {
    let folder = rustix::fs::openat(CWD, root, FOLDER, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(&folder, rest, READ, Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        // A kernel before 5.6, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => walk_beneath(folder, rest),
        Err(error) => Err(error.into()),
    }
}

const FOLDER: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The same, folder by folder.
fn walk_beneath(mut folder: OwnedFd, rest: &Path) -> io::Result<File> {
    let mut names = rest.components().peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else { break };
        if names.peek().is_none() {
            let file = rustix::fs::openat(&folder, name, READ, Mode::empty())?;
            return Ok(file.into());
        }
        folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Err(ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        roots: CorpusRoots,
    }

    /// A root `corpus` with a file and a folder, a root `more`, and a folder `private` beside them.
    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["corpus/speech", "more", "private"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["corpus/speech/a.wav", "more/b.wav", "private/secret"] {
            fs::write(at(file), file).unwrap();
        }
        let roots = CorpusRoots::beneath(&[at("corpus"), at("more")]).unwrap();
        Fixture { dir, roots }
    }

    impl Fixture {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// The file's text, or the error's.
        fn read(&self, name: &str) -> Result<String, String> {
            let mut text = String::new();
            let mut file = self
                .roots
                .open(&self.path(name))
                .map_err(|it| it.to_string())?;
            file.read_to_string(&mut text).unwrap();
            Ok(text)
        }
    }

    #[test]
    fn files_beneath_a_root_are_read_by_any_way_there() {
        let it = fixture();
        symlink(it.path("more/b.wav"), it.path("corpus/absolute.wav")).unwrap();
        symlink("../more", it.path("corpus/relative")).unwrap();
        symlink(it.path("corpus"), it.path("alias")).unwrap();
        for (name, text) in [
            ("corpus/speech/a.wav", "corpus/speech/a.wav"),
            ("corpus/speech/../../more/b.wav", "more/b.wav"),
            ("corpus/absolute.wav", "more/b.wav"),
            ("corpus/relative/b.wav", "more/b.wav"),
        ] {
            assert_eq!(it.read(name).as_deref(), Ok(text), "{name}");
            let real = fs::canonicalize(it.path(text)).unwrap();
            assert_eq!(it.roots.locate(&it.path(name)).unwrap(), real);
        }
        // A root that is a link is the folder that it leads to, by both of its names.
        let aliased = CorpusRoots::beneath(&[it.path("alias")]).unwrap();
        for name in ["alias/speech/a.wav", "corpus/speech/a.wav"] {
            aliased.open(&it.path(name)).unwrap();
        }
    }

    #[test]
    fn the_same_is_said_of_everything_outside() {
        let it = fixture();
        let pipe = it.path("private/pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        symlink(it.path("private"), it.path("corpus/out")).unwrap();
        symlink(it.path("private/secret"), it.path("corpus/out.wav")).unwrap();
        symlink(it.path("private/none"), it.path("corpus/dangling.wav")).unwrap();
        symlink("loop", it.path("corpus/loop")).unwrap();
        symlink("/proc/self/fd", it.path("corpus/descriptors")).unwrap();
        let outside = Outside::NotBeneath.to_string();
        for name in [
            "private/secret",
            "private",
            "private/none",
            "private/pipe",
            "private/secret/none",
            "corpusx",
            "corpus/../private/secret",
            "corpus/../private/none",
            "corpus/../none/none",
            "corpus/out",
            "corpus/out/secret",
            "corpus/out/none",
            "corpus/out/none/none",
            "corpus/out.wav",
            "corpus/out.wav/none",
            "corpus/dangling.wav",
            "corpus/loop/x",
            "corpus/descriptors/0",
            "corpus/descriptors/none",
            "/etc/passwd",
            "/proc/self/environ",
            "relative.wav",
        ] {
            assert_eq!(it.read(name), Err(outside.clone()), "{name}");
            let error = it.roots.locate(&it.path(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
        assert!(it.roots.open(Path::new("corpus/speech/a.wav")).is_err());
    }

    #[test]
    fn what_is_wrong_beneath_a_root_is_said() {
        let it = fixture();
        let kind = |name: &str| it.roots.open(&it.path(name)).unwrap_err().kind();
        assert_eq!(kind("corpus/none"), ErrorKind::NotFound);
        assert_eq!(kind("corpus/none/../none"), ErrorKind::NotFound);
        assert_eq!(kind("corpus/speech"), ErrorKind::InvalidInput);
        assert_eq!(kind("corpus"), ErrorKind::InvalidInput);
        assert_eq!(kind("corpus/speech/a.wav/none"), ErrorKind::NotADirectory);
        let pipe = it.path("corpus/pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(kind("corpus/pipe"), ErrorKind::InvalidInput);
        for wrong in ["none", "corpus/speech/a.wav"] {
            let (path, _) = CorpusRoots::beneath(&[it.path(wrong)]).unwrap_err();
            assert_eq!(path, it.path(wrong));
        }
    }

    #[test]
    fn without_a_root_nothing_is_read_and_the_programs_own_folder_is() {
        let it = fixture();
        let none = CorpusRoots::beneath(&[]).unwrap();
        for roots in [&none, &CorpusRoots::nowhere()] {
            let error = roots.open(&it.path("corpus/speech/a.wav")).unwrap_err();
            assert_eq!(error.to_string(), Outside::NoRoot.to_string());
        }
        let own = none.and(&it.path("corpus"));
        own.open(&it.path("corpus/speech/a.wav")).unwrap();
        assert!(own.open(&it.path("more/b.wav")).is_err() && !own.is_anywhere());
        // Of a path that is relative, too: tests run in the crate's folder.
        let own = none.and(Path::new("src"));
        own.open(Path::new("src/lib.rs")).unwrap();
        assert!(own.open(Path::new("Cargo.toml")).is_err());
        let anywhere = CorpusRoots::anywhere().and(&it.path("corpus"));
        assert!(anywhere.is_anywhere());
        anywhere.open(&it.path("private/secret")).unwrap();
        let root = CorpusRoots::beneath(&["/".into()]).unwrap();
        root.open(&it.path("private/secret")).unwrap();
    }

    #[test]
    fn a_link_that_is_put_in_the_way_later_is_not_followed() {
        let it = fixture();
        let root = fs::canonicalize(it.path("corpus")).unwrap();
        symlink(it.path("private"), it.path("corpus/out")).unwrap();
        symlink(it.path("private/secret"), it.path("corpus/out.wav")).unwrap();
        let walk = |rest: &str| {
            let folder = rustix::fs::openat(CWD, &root, FOLDER, Mode::empty()).unwrap();
            walk_beneath(folder, Path::new(rest))
        };
        for rest in ["out/secret", "out.wav", "../private/secret", "/etc/passwd"] {
            assert!(open_beneath(&root, Path::new(rest)).is_err(), "{rest}");
            assert!(walk(rest).is_err(), "{rest}");
        }
        for mut file in [
            open_beneath(&root, Path::new("speech/a.wav")).unwrap(),
            walk("speech/a.wav").unwrap(),
        ] {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "corpus/speech/a.wav");
        }
    }
}
