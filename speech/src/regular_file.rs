//! Opens regular files safely: without waiting for a named pipe, without reading a device for ever, and without
//! following a symbolic link where a file is made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens the file at `path` for reading; symbolic links are followed.
///
/// # Errors
/// Those of the system, and `InvalidInput` for what is no regular file: opening it might wait for ever, or do
/// something by itself.
pub fn open(path: &Path) -> io::Result<File> {
    must_be_regular(&fs::metadata(path)?)?;
    // Something else may have been put there since: opening must not wait, and what was opened is looked at.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

/// # Errors
/// `InvalidInput` for what is no regular file, with what it is.
pub(crate) fn must_be_regular(found: &fs::Metadata) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let name = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let told = format!("it is {name}, and no regular file");
    Err(io::Error::new(ErrorKind::InvalidInput, told))
}

/// The bytes of the file at `path`, `max_bytes` at most.
///
/// # Errors
/// As [`open`], and `FileTooLarge`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_bounded(&open(path)?, max_bytes)
}

/// The bytes of a file that was just opened, `max_bytes` at most.
///
/// # Errors
/// Those of the system, and `FileTooLarge`.
pub fn read_bounded(file: &File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let told = format!("it has more than the {max_bytes} bytes that it may have");
        io::Error::new(ErrorKind::FileTooLarge, told)
    };
    let size = file.metadata()?.len();
    if size > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(|_| too_large())?);
    // A file may grow, and some tell no size.
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large());
    }
    Ok(bytes)
}

/// The text of the file at `path`, `max_bytes` at most.
///
/// # Errors
/// As [`read`], and `InvalidData` for what is not UTF-8.
pub fn read_to_string(path: &Path, max_bytes: u64) -> io::Result<String> {
    String::from_utf8(read(path, max_bytes)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Makes an empty file at `path`, in the place of the file or symbolic link that is there. Nothing is
/// written through a link, whoever put it there.
///
/// # Errors
/// Those of the system.
pub fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        made => made,
    }
}

/// Opens the file at `path` for reading and writing, and makes it where there is none. A symbolic link is not
/// followed.
///
/// # Errors
/// Those of the system, and `InvalidInput` for what is no regular file.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    open_unlinked(
        OpenOptions::new().read(true).write(true).truncate(false),
        path,
    )
}

/// [`open_or_create`] for appending alone.
///
/// # Errors
/// As [`open_or_create`].
pub fn append(path: &Path) -> io::Result<File> {
    open_unlinked(OpenOptions::new().append(true), path)
}

fn open_unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let options = options.create(true);
    let file = options
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        for (path, name) in [
            (pipe.as_path(), "a named pipe"),
            (dir.path(), "a folder"),
            (&dir.path().join("socket"), "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            for error in [open(path).unwrap_err(), read(path, 9).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        let missing = open(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, u64::MAX).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        // Its size is told as 0.
        let endless = Path::new("/proc/self/smaps");
        assert!(read(endless, 10).is_err() || !endless.exists());
        fs::write(&path, b"\xff").unwrap();
        let error = read_to_string(&path, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let link = dir.path().join("link");
        symlink(&victim, &link).unwrap();
        assert!(append(&link).is_err() && open_or_create(&link).is_err());
        create(&link).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
        append(&link).unwrap().write_all(b"er").unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "newer");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
        create(&dir.path().join("dangling")).unwrap();
        assert!(!dir.path().join("nowhere").exists());
    }
}
