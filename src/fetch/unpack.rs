//! An archive to a folder. It decides what of an archive is believed: files and folders below the folder, no
//! links, no more than an archive of its size can hold.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Component, Path, PathBuf},
};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use speech::regular_file;
use tar::{Archive, EntryType};

use crate::exit::{CommandError, Context as _, Error, Result};

/// Times its size that an archive may unpack to: recordings are packed to a half or a third. A little is
/// always allowed.
const MAX_EXPANSION: u64 = 40;
const ALWAYS_ALLOWED_BYTES: u64 = 64 << 20;
const MAX_ENTRIES: u64 = 5_000_000;

/// What came out of an archive.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    pub files: u64,
    /// Entries that are not unpacked, by kind: how many, and the first of them.
    pub passed_over: BTreeMap<&'static str, (u64, PathBuf)>,
}

/// Unpacks the tar archive (gzip, bzip2 or neither, by its bytes) into `folder`, which must not exist; it
/// appears when all of it is there.
///
/// # Errors
/// [`CommandError::Data`] for what is wrong with the archive; others, such as a full disk's, leave it as good as it was.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<Unpacked> {
    let mut name = folder.as_os_str().to_owned();
    name.push(".unpacking");
    let unfinished = PathBuf::from(name);
    // What an earlier attempt left.
    let _ = fs::remove_dir_all(&unfinished);
    let unpacked = into(archive, &unfinished).inspect_err(|_| {
        let _ = fs::remove_dir_all(&unfinished);
    })?;
    fs::rename(&unfinished, folder)
        .with_context(|| format!("cannot write {}", folder.display()))?;
    Ok(unpacked)
}

fn into(archive: &Path, folder: &Path) -> Result<Unpacked> {
    let wrong = |what: String| CommandError::Data(format!("{}: {what}", archive.display()));
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let size = file.metadata()?.len();
    let mut start = [0; 3];
    let seen = (&file).read(&mut start)?;
    let packed = BufReader::with_capacity(1 << 20, start[..seen].chain(file));
    let plain: Box<dyn Read + '_> = match &start {
        [0x1f, 0x8b, _] => Box::new(MultiGzDecoder::new(packed)),
        b"BZh" => Box::new(MultiBzDecoder::new(packed)),
        _ => Box::new(packed),
    };
    let limit = size.saturating_mul(MAX_EXPANSION) + ALWAYS_ALLOWED_BYTES;
    let mut tar = Archive::new(Limited {
        from: plain,
        left: limit,
    });
    fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
    let mut unpacked = Unpacked::default();
    for (number, entry) in (1..).zip(tar.entries()?) {
        let damaged = |error: io::Error| wrong(format!("entry {number}: {error}"));
        let mut entry = entry.map_err(damaged)?;
        if number > MAX_ENTRIES {
            return Err(wrong(format!("it has more than {MAX_ENTRIES} entries")).into());
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        let kind = entry.header().entry_type();
        if let Some(kind) = not_unpacked(kind) {
            let (count, _) = unpacked.passed_over.entry(kind).or_insert((0, name));
            *count += 1;
            continue;
        }
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            // The entry belongs to the format itself.
            continue;
        }
        let path = below(folder, &name).ok_or_else(|| {
            wrong(format!(
                "entry {number}, {}, is outside of the archive",
                name.display()
            ))
        })?;
        let unwritable = |error: io::Error| {
            Error::from(error).context(format!("cannot write {}", path.display()))
        };
        if kind == EntryType::Directory {
            fs::create_dir_all(&path).map_err(unwritable)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        let mut written = regular_file::create(&path).map_err(unwritable)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    io::Write::write_all(&mut written, &buffer[..read]).map_err(unwritable)?;
                }
                Err(error) => return Err(damaged(error).into()),
            }
        }
        unpacked.files += 1;
    }
    if unpacked.files == 0 {
        return Err(wrong("it has no files; is it a tar archive?".to_owned()).into());
    }
    Ok(unpacked)
}

/// What an entry is called that is not unpacked. Links lead elsewhere, and recordings are no devices.
fn not_unpacked(kind: EntryType) -> Option<&'static str> {
    match kind {
        EntryType::Symlink => Some("symbolic links"),
        EntryType::Link => Some("hard links"),
        EntryType::Char | EntryType::Block => Some("devices"),
        EntryType::Fifo => Some("named pipes"),
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::GNUSparse
        | EntryType::Directory
        | EntryType::XGlobalHeader
        | EntryType::XHeader => None,
        _ => Some("entries of an unknown kind"),
    }
}

/// Where an entry goes; `None` where that is not below `folder`.
fn below(folder: &Path, name: &Path) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Ends with an error where an archive unpacks to more than it can honestly hold.
struct Limited<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other("it unpacks to more than an archive of its size can hold")
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, entries: &[(&str, EntryType, &[u8])]) -> PathBuf {
        let path = folder.join("a.tar");
        let mut tar = Vec::new();
        for (name, kind, content) in entries {
            // By hand: the library refuses to write such names as are to be refused here.
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.extend(header.as_bytes());
            tar.extend(*content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.extend([0; 1024]);
        fs::write(&path, tar).unwrap();
        path
    }

    #[test]
    fn files_are_unpacked_and_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(
            dir.path(),
            &[
                ("./a/", EntryType::Directory, b""),
                ("./a/b.txt", EntryType::Regular, b"hello"),
                ("c/link", EntryType::Symlink, b""),
            ],
        );
        let out = dir.path().join("out");
        let unpacked = unpack(&path, &out).unwrap();
        assert_eq!(unpacked.files, 1);
        let link = ("symbolic links", (1, PathBuf::from("c/link")));
        assert_eq!(unpacked.passed_over, BTreeMap::from([link]));
        assert_eq!(fs::read(out.join("a/b.txt")).unwrap(), b"hello");
        assert!(!out.join("c").exists());
    }

    #[test]
    fn an_entry_outside_of_the_folder_is_refused_and_nothing_is_left() {
        for name in ["../evil", "/tmp/evil", "a/../../evil"] {
            let dir = tempfile::tempdir().unwrap();
            let entries = [
                ("good", EntryType::Regular, &b"good"[..]),
                (name, EntryType::Regular, b"evil"),
            ];
            let path = archive(dir.path(), &entries);
            let error = unpack(&path, &dir.path().join("out/in")).unwrap_err();
            assert!(
                error.to_string().ends_with("is outside of the archive"),
                "{error}"
            );
            assert!(!dir.path().join("evil").exists());
            assert!(!dir.path().join("out/in").exists());
            assert!(!dir.path().join("out/in.unpacking").exists());
        }
    }

    #[test]
    fn an_archive_that_unpacks_to_far_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        let path = dir.path().join("bomb.tar.gz");
        let level = flate2::Compression::default();
        let mut gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), level);
        io::copy(&mut header.as_bytes().as_slice(), &mut gz).unwrap();
        io::copy(&mut io::repeat(0).take(160 << 20), &mut gz).unwrap();
        gz.finish().unwrap();
        let error = unpack(&path, &dir.path().join("out")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("more than an archive of its size"),
            "{error}"
        );
        assert!(!dir.path().join("out.unpacking").exists());
    }
}
