//! Output files, each written whole or not at all, and several of one command all of them or none. It decides
//! what may be replaced: a regular file is written beside its place and renamed into it; a symbolic link
//! stays, and the file that it points to is replaced; what is no regular file (a named pipe, a device) is
//! written into as it is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};
use thiserror::Error;

use crate::error_class::{self, Class, Classify};

/// Writes what a file is to hold.
pub type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Symbolic links that are followed, one behind the other; as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Why output files cannot be written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum OutputError {
    #[error("two outputs would be written to one file: {} and {}; give each a file of its own", first.display(), second.display())]
    Same { first: PathBuf, second: PathBuf },
    #[error("{} is read by this command and would be overwritten: name another output", path.display())]
    Input { path: PathBuf },
    #[error("{} is a folder: name a file in it", path.display())]
    Folder { path: PathBuf },
    #[error("cannot write {}: there is no folder {}: make it first", path.display(), folder.display())]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
}

impl Classify for OutputError {
    fn class(&self) -> Class {
        match self {
            Self::Write { error, .. } if error_class::may_pass(error) => Class::Infrastructure,
            // Another command line puts the output elsewhere.
            _ => Class::Usage,
        }
    }
}

/// The output files of one command, found to be writable and distinct before anything is written.
#[derive(Debug)]
pub struct OutputFiles {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    /// As the user named it.
    named: PathBuf,
    place: OutputTarget,
}

#[derive(Debug)]
enum OutputTarget {
    /// A regular file, there or not yet, at the path behind all symbolic links.
    File {
        path: PathBuf,
        /// The permissions of the file that is replaced.
        permissions: Option<Permissions>,
    },
    /// A pipe, a device, or a file that is known by its descriptor alone.
    Special,
    /// What this process has as its standard output.
    StandardOutput,
}

/// What tells files apart, however they are spelled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Path(PathBuf),
    /// Device and inode.
    Inode(u64, u64),
}

impl OutputFiles {
    /// Looks at where each of `paths` leads, and whether it can be written. `inputs` are files that the
    /// command reads.
    ///
    /// # Errors
    /// When one is a folder, lies in no folder or cannot be written, when two are one file, and when one is
    /// an input. Nothing has been written then.
    pub fn plan<'a>(
        paths: impl IntoIterator<Item = &'a Path>,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, OutputError> {
        let mut targets = Vec::new();
        let mut seen: BTreeMap<Identity, PathBuf> = BTreeMap::new();
        for path in paths {
            let place = OutputTarget::of(path)?;
            for identity in place.identities(path) {
                if let Some(first) = seen.insert(identity, path.to_owned()) {
                    let second = path.to_owned();
                    return Err(OutputError::Same { first, second });
                }
            }
            targets.push(Target {
                named: path.to_owned(),
                place,
            });
        }
        for input in inputs {
            let Ok(found) = fs::metadata(input) else {
                // Whoever reads it says what is wrong with it.
                continue;
            };
            let identity = Identity::Inode(found.dev(), found.ino());
            if let Some(path) = seen.get(&identity).filter(|_| found.is_file()) {
                return Err(OutputError::Input { path: path.clone() });
            }
        }
        let planned = Self { targets };
        planned.probe()?;
        Ok(planned)
    }

    /// Whether one of them is standard output, so that nothing else should be printed there.
    pub fn on_standard_output(&self) -> bool {
        let is = |target: &Target| matches!(target.place, OutputTarget::StandardOutput);
        self.targets.iter().any(is)
    }

    /// Writes the files, `contents` in the order of the paths. Regular files appear when all are whole.
    ///
    /// # Errors
    /// The first file that could not be written, by name; every regular file is then as it was before. What
    /// went into a pipe or a device cannot be taken back.
    pub fn write(&self, contents: &[Content]) -> Result<(), OutputError> {
        debug_assert_eq!(self.targets.len(), contents.len());
        let mut staged = Vec::new();
        for (target, content) in self.targets.iter().zip(contents) {
            if let OutputTarget::File { path, permissions } = &target.place {
                let made = stage(path, permissions.as_ref(), content);
                staged.push((
                    target,
                    path,
                    made.map_err(|error| target.unwritable(error))?,
                ));
            }
        }
        // Before the renames: these can fail more easily.
        for (target, content) in self.targets.iter().zip(contents) {
            target
                .write_into(content)
                .map_err(|error| target.unwritable(error))?;
        }
        let several = staged.len() > 1;
        let mut placed: Vec<Undo> = Vec::new();
        for (target, path, made) in staged {
            let undo = several.then(|| Undo::of(path));
            if let Err(error) = made.persist(path) {
                for undo in placed.into_iter().rev() {
                    undo.take_back();
                }
                return Err(target.unwritable(error.error));
            }
            placed.extend(undo);
            sync_folder(path);
        }
        Ok(())
    }

    /// As [`Self::write`], of contents that are there already.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_bytes(&self, contents: &[impl AsRef<[u8]>]) -> Result<(), OutputError> {
        let writers: Vec<_> = contents
            .iter()
            .map(|bytes| move |out: &mut dyn Write| out.write_all(bytes.as_ref()))
            .collect();
        let contents: Vec<Content> = writers.iter().map(|writer| writer as Content).collect();
        self.write(&contents)
    }

    /// Makes a file in the folder of each, and removes it, so that hours of work do not end with a folder
    /// that cannot be written.
    fn probe(&self) -> Result<(), OutputError> {
        for target in &self.targets {
            if let OutputTarget::File { path, permissions } = &target.place {
                let there = permissions.is_some();
                beside(path)
                    .and_then(|_| match there {
                        // As any program that opens its output finds out.
                        true => OpenOptions::new().write(true).open(path).map(drop),
                        false => Ok(()),
                    })
                    .map_err(|error| target.unwritable(error))?;
            }
        }
        Ok(())
    }
}

/// Writes one file, as [`OutputFiles`] does.
///
/// # Errors
/// Those of [`OutputFiles::plan`] and [`OutputFiles::write`].
pub fn write(path: &Path, content: Content) -> Result<(), OutputError> {
    OutputFiles::plan([path], [])?.write(&[content])
}

impl Target {
    fn unwritable(&self, error: io::Error) -> OutputError {
        OutputError::Write {
            path: self.named.clone(),
            error,
        }
    }

    /// Writes what is no regular file.
    fn write_into(&self, content: Content) -> io::Result<()> {
        let into = |out: &mut dyn Write| {
            let mut out = BufWriter::new(out);
            content(&mut out)?;
            out.flush()
        };
        match &self.place {
            OutputTarget::File { .. } => Ok(()),
            // Behind what others have written through a descriptor; for pipes and devices it means nothing.
            OutputTarget::Special => into(&mut OpenOptions::new().append(true).open(&self.named)?),
            OutputTarget::StandardOutput => into(&mut io::stdout().lock()),
        }
    }
}

impl OutputTarget {
    fn of(path: &Path) -> Result<Self, OutputError> {
        let unwritable = |error| OutputError::Write {
            path: path.to_owned(),
            error,
        };
        let folder = || OutputError::Folder {
            path: path.to_owned(),
        };
        let chain = links(path).map_err(unwritable)?;
        if chain.iter().any(|one| is_standard_output(one)) {
            return Ok(Self::StandardOutput);
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(folder()),
            Ok(found) if !found.is_file() => Ok(Self::Special),
            // Whoever has the descriptor would go on with the old file.
            Ok(_) if chain.iter().any(|one| is_descriptor(one)) => Ok(Self::Special),
            Ok(found) => Ok(Self::File {
                path: fs::canonicalize(path).map_err(unwritable)?,
                permissions: Some(found.permissions()),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let last = chain.last().map_or(path, PathBuf::as_path);
                let slash = last.as_os_str().as_encoded_bytes().ends_with(b"/");
                let name = last.file_name().filter(|_| !slash).ok_or_else(folder)?;
                let parent = match last.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let parent = fs::canonicalize(parent).ok().filter(|it| it.is_dir());
                let parent = parent.ok_or_else(|| OutputError::NoFolder {
                    path: path.to_owned(),
                    folder: last.parent().unwrap_or(last).to_owned(),
                })?;
                Ok(Self::File {
                    path: parent.join(name),
                    permissions: None,
                })
            }
            Err(error) => Err(unwritable(error)),
        }
    }

    /// By which two outputs are found to be one. None of a character device such as `/dev/null`, into which
    /// any number of outputs may go.
    fn identities(&self, named: &Path) -> Vec<Identity> {
        let inode = fs::metadata(named).ok();
        let device = |found: &fs::Metadata| found.file_type().is_char_device();
        if inode.as_ref().is_some_and(device) {
            return Vec::new();
        }
        let inode = inode.map(|found| Identity::Inode(found.dev(), found.ino()));
        let path = match self {
            Self::File { path, .. } => Some(Identity::Path(path.clone())),
            Self::Special | Self::StandardOutput => None,
        };
        path.into_iter().chain(inode).collect()
    }
}

/// `path` and what the symbolic links at its end lead to, one after the other.
fn links(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut chain = vec![path.to_owned()];
    while let Some(last) = chain.last()
        && let Ok(to) = fs::read_link(last)
    {
        if chain.len() > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        let next = last.parent().unwrap_or(Path::new("")).join(to);
        chain.push(next);
    }
    Ok(chain)
}

fn is_standard_output(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
        .iter()
        .any(|name| path == Path::new(name))
}

/// Whether `path` names an open file of a process.
fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path.starts_with("/proc")
}

/// A new file in the folder of `path`, which goes away when it is dropped.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".unisono-")
        .suffix(".tmp")
        // What the user's mask leaves of it, as of any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

fn stage(
    path: &Path,
    permissions: Option<&Permissions>,
    content: Content,
) -> io::Result<NamedTempFile> {
    let mut made = beside(path)?;
    let mut out = BufWriter::new(made.as_file_mut());
    content(&mut out)?;
    out.flush()?;
    drop(out);
    if let Some(permissions) = permissions {
        made.as_file().set_permissions(permissions.clone())?;
    }
    made.as_file().sync_all()?;
    Ok(made)
}

/// So that the name survives a power cut as the bytes do. Not every file system can.
fn sync_folder(path: &Path) {
    let folder = path.parent().unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// How a file that was put into its place is taken back.
enum Undo {
    /// Nothing was there.
    Remove(PathBuf),
    /// The file that was there, under another name.
    Restore(TempPath, PathBuf),
    /// The file system has no hard links: the old file is gone.
    Impossible,
}

impl Undo {
    fn of(path: &Path) -> Self {
        if fs::symlink_metadata(path).is_err() {
            return Self::Remove(path.to_owned());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let kept = tempfile::Builder::new()
            .prefix(".unisono-")
            .suffix(".tmp")
            .make_in(folder, |kept| fs::hard_link(path, kept));
        match kept {
            Ok(kept) => Self::Restore(kept.into_temp_path(), path.to_owned()),
            Err(_) => Self::Impossible,
        }
    }

    fn take_back(self) {
        // The error that is told is the one that brought this about.
        match self {
            Self::Remove(path) => drop(fs::remove_file(path)),
            Self::Restore(kept, path) => drop(kept.persist(path)),
            Self::Impossible => {}
        }
    }
}

#[cfg(test)]
mod tests;
