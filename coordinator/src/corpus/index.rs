//! What earlier starts found out about recordings: the digest and the header's facts of each file, so that a
//! restart does not read a corpus of a thousand hours again. It is a cache: a file is known by its path for as
//! long as inode, size and times stay the same, and what is not known, not whole or not sure is read anew.
//!
//! Each manifest has an index file of its own: a head, records of [`RECORD_BYTES`] bytes in the order of their keys, and
//! BLAKE3 of both at the end. Numbers are little-endian.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use speech::{audio::AudioInfo, corpus_roots::CorpusRoots};

use super::cache;

/// Bytes of a record: key, inode, size, two times, digest, sampling rate, channels, frames.
const RECORD_BYTES: usize = 16 + 4 * 8 + 32 + 4 + 2 + 8;
const MAGIC: &[u8; 32] = b"unisono: recordings, version 1 \n";
/// Magic and digest of the program.
const HEADER_BYTES: usize = 64;
const CHECKSUM_BYTES: usize = 32;
/// Recordings of a manifest beyond which the others are not kept: an index is read into memory whole.
const MAX_RECORDINGS: usize = 4 << 20;

/// What stays the same while a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileStamp {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    /// Nanoseconds since 1970 of the last change of its contents, and of anything about it.
    changed: [i64; 2],
}

impl FileStamp {
    /// The stamp of a regular file; `None` for anything else, and where the file system keeps no times.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let time = |seconds: i64, nanoseconds: i64| {
            seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
        };
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: [
                time(found.mtime(), found.mtime_nsec())?,
                time(found.ctime(), found.ctime_nsec())?,
            ],
        })
    }

    /// Whether the file at `path`, which had this stamp at `now` and was read since, still has it, and would not
    /// if it had changed meanwhile.
    pub(super) fn holds(&self, path: &Path, now: SystemTime) -> bool {
        self.is_settled(now) && Self::of(path).as_ref() == Some(self)
    }

    /// Whether a change after `now` would show. File systems keep times in steps: a file that is changed
    /// again within one looks the same. Where a time has no fraction, steps may be two seconds long.
    fn is_settled(&self, now: SystemTime) -> bool {
        let fine = self.changed.iter().all(|time| time % 1_000_000_000 != 0);
        let step = Duration::from_millis(if fine { 100 } else { 2100 });
        let Ok(now) = now.duration_since(UNIX_EPOCH) else {
            return false;
        };
        let latest = u128::try_from(self.changed[0].max(self.changed[1])).unwrap_or_default();
        latest + step.as_nanos() < now.as_nanos()
    }
}

/// What is known of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub digest: [u8; 32],
    /// `None` where only another build of the program has read the header.
    pub info: Option<AudioInfo>,
}

/// A recording to be known at the next start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record([u8; RECORD_BYTES]);

impl Record {
    pub(super) fn new(path: &Path, stamp: &FileStamp, digest: &[u8; 32], info: &AudioInfo) -> Self {
        let mut bytes = [0; RECORD_BYTES];
        let mut rest = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        };
        put(&key(path));
        put(&stamp.described());
        put(digest);
        put(&info.sample_rate.to_le_bytes());
        put(&info.channels.to_le_bytes());
        put(&info.frames.to_le_bytes());
        Self(bytes)
    }
}

impl FileStamp {
    fn described(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (words, _) = bytes.as_chunks_mut::<8>();
        words[0] = self.inode.to_le_bytes();
        words[1] = self.bytes.to_le_bytes();
        words[2] = self.changed[0].to_le_bytes();
        words[3] = self.changed[1].to_le_bytes();
        bytes
    }
}

fn key(path: &Path) -> [u8; 16] {
    let hash = blake3::hash(path.as_os_str().as_bytes());
    let (key, _) = hash.as_bytes().split_at(16);
    key.try_into().expect("it was cut so")
}

/// The recordings of a manifest that are known.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Records by key.
    records: Vec<u8>,
    /// Whether this build of the program wrote them.
    own: bool,
    /// Where they are kept, and the program that keeps them.
    place: Option<(PathBuf, [u8; 32])>,
}

impl Index {
    /// What is known of the recordings of `manifest`, kept in `folder`; nothing where there is no folder, or no
    /// whole index in it.
    pub(super) fn load(folder: Option<&Path>, manifest: &Path) -> Self {
        let Some((folder, program)) = folder.zip(cache::program()) else {
            return Self::default();
        };
        let manifest = std::path::absolute(manifest).unwrap_or_else(|_| manifest.to_owned());
        let name = blake3::hash(manifest.as_os_str().as_bytes()).to_hex();
        let path = folder.join(format!("{}.recordings", &name[..32]));
        let (records, own) = match read(&path) {
            Some((records, wrote)) => (records, wrote == program),
            None => (Vec::new(), true),
        };
        Self {
            records,
            own,
            place: Some((path, program)),
        }
    }

    /// Recordings that are known.
    pub(super) fn len(&self) -> usize {
        self.records.len() / RECORD_BYTES
    }

    /// What is known of the file at `path`, if that is as it was.
    pub(super) fn find(&self, path: &Path, stamp: &FileStamp) -> Option<Facts> {
        let key = key(path);
        let (records, _) = self.records.as_chunks::<RECORD_BYTES>();
        let place = records
            .binary_search_by(|record| record[..16].cmp(&key))
            .ok()?;
        let (described, facts) = records[place][16..].split_at(32);
        if described != stamp.described() {
            return None;
        }
        let (digest, header) = facts.split_at(32);
        let number = |range: std::ops::Range<usize>| {
            let bytes = header[range].iter().rev();
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let info = AudioInfo {
            sample_rate: number(0..4) as u32,
            channels: number(4..6) as u16,
            frames: number(6..14),
        };
        Some(Facts {
            digest: digest.try_into().ok()?,
            info: self.own.then_some(info),
        })
    }

    /// Keeps `records`, all there are of the manifest, for the next start, if they are not what is kept
    /// already. That it cannot is said and does no harm.
    pub(super) fn keep(self, mut records: Vec<Record>) {
        let Some((path, program)) = self.place else {
            return;
        };
        records.sort_unstable_by_key(|record| record.0);
        records.dedup_by(|a, b| a.0[..16] == b.0[..16]);
        records.truncate(MAX_RECORDINGS);
        let known = self.records.as_chunks::<RECORD_BYTES>().0.iter();
        if self.own && known.eq(records.iter().map(|record| &record.0)) {
            return;
        }
        drop(self.records);
        let parts = [MAGIC.as_slice(), &program];
        let records = records.iter().map(|record| record.0.as_slice());
        cache::write(&path, parts.into_iter().chain(records));
    }
}

/// Records and the program that wrote them.
fn read(path: &Path) -> Option<(Vec<u8>, [u8; 32])> {
    let most = (HEADER_BYTES + MAX_RECORDINGS * RECORD_BYTES + CHECKSUM_BYTES) as u64;
    let mut bytes = cache::read(path, most)?;
    let head = bytes.get(..HEADER_BYTES)?;
    let program = head[MAGIC.len()..].try_into().ok()?;
    if &head[..MAGIC.len()] != MAGIC || !(bytes.len() - HEADER_BYTES).is_multiple_of(RECORD_BYTES) {
        return None;
    }
    bytes.drain(..HEADER_BYTES);
    Some((bytes, program))
}

/// Size and BLAKE3 of a file beneath `roots`.
pub(super) fn digest_file(roots: &CorpusRoots, path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut roots.open(path)?, &mut hasher)?;
    Ok((bytes, *hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: AudioInfo = AudioInfo {
        sample_rate: 16_000,
        channels: 2,
        frames: 0x0102_0304_0506,
    };

    /// A settled file with these contents, and what is known of it.
    fn file(folder: &Path, name: &str, contents: &[u8]) -> (PathBuf, FileStamp) {
        let path = folder.join(name);
        fs::write(&path, contents).unwrap();
        let stamp = FileStamp::of(&path).unwrap();
        (path, stamp)
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    fn known(cache: &Path, manifest: &Path, files: &[(PathBuf, FileStamp)]) -> Index {
        let index = Index::load(Some(cache), manifest);
        let record = |(path, stamp): &(PathBuf, FileStamp)| {
            let holds = stamp.holds(path, later());
            holds.then(|| Record::new(path, stamp, &[stamp.bytes as u8; 32], &INFO))
        };
        index.keep(files.iter().filter_map(record).collect());
        Index::load(Some(cache), manifest)
    }

    #[test]
    fn what_was_read_is_known_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let manifest = folder.path().join("train.jsonl");
        let files: Vec<_> = (1..50)
            .map(|size| file(folder.path(), &format!("{size}.wav"), &vec![7; size]))
            .collect();
        let index = known(&cache, &manifest, &files);
        for (path, stamp) in &files {
            let facts = index.find(path, stamp).unwrap();
            assert_eq!(facts.digest, [stamp.bytes as u8; 32]);
            assert_eq!(facts.info, Some(INFO));
            assert_eq!(FileStamp::of(path).as_ref(), Some(stamp));
        }
        let (path, before) = &files[3];
        // The same bytes and times in another file are another file; so is the file changed in place.
        let (other, _) = file(folder.path(), "other", &[7; 4]);
        fs::rename(&other, path).unwrap();
        let now = FileStamp::of(path).unwrap();
        assert_ne!(now.inode, before.inode);
        assert_eq!(index.find(path, &now), None);
        let (path, before) = &files[5];
        fs::write(path, [8; 6]).unwrap();
        let handle = fs::File::options().write(true).open(path).unwrap();
        let modified = UNIX_EPOCH + Duration::from_nanos(before.changed[0] as u64);
        handle.set_modified(modified).unwrap();
        let now = FileStamp::of(path).unwrap();
        assert_eq!(
            (now.bytes, now.changed[0]),
            (before.bytes, before.changed[0])
        );
        assert_eq!(index.find(path, &now), None, "the time of the change tells");
        // The index of another manifest is empty, and so is one without a folder.
        let other = Index::load(Some(&cache), &folder.path().join("valid.jsonl"));
        assert_eq!(other.find(&files[0].0, &files[0].1), None);
        let none = Index::load(None, &manifest);
        assert_eq!(none.find(&files[0].0, &files[0].1), None);
        none.keep(Vec::new());
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stamp) = file(folder.path(), "a.wav", &[1; 9]);
        assert!(!stamp.holds(&path, SystemTime::now()));
        assert!(stamp.holds(&path, later()));
        assert!(!stamp.holds(&path, UNIX_EPOCH), "a clock that is set back");
        let whole = FileStamp {
            changed: [1_000_000_000_000, 1_000_000_000_000],
            ..stamp
        };
        let at =
            |seconds: u64, millis: u64| UNIX_EPOCH + Duration::from_millis(1000 * seconds + millis);
        assert!(!whole.is_settled(at(1001, 900)), "steps of two seconds");
        assert!(whole.is_settled(at(1002, 200)));
        // It changed while it was read.
        fs::write(&path, [2; 10]).unwrap();
        assert!(!stamp.holds(&path, later()));
    }

    #[test]
    fn an_index_that_is_not_whole_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let manifest = folder.path().join("train.jsonl");
        let files = [file(folder.path(), "a.wav", &[1; 5])];
        known(&cache, &manifest, &files);
        let (path, stamp) = &files[0];
        let kept = Index::load(Some(&cache), &manifest).place.unwrap().0;
        let whole = fs::read(&kept).unwrap();
        assert_eq!(whole.len(), HEADER_BYTES + RECORD_BYTES + CHECKSUM_BYTES);
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(&kept, &damaged).unwrap();
            let index = Index::load(Some(&cache), &manifest);
            assert_eq!(index.find(path, stamp), None, "byte {at}");
        }
        for length in [0, 31, HEADER_BYTES, whole.len() - 1] {
            fs::write(&kept, &whole[..length]).unwrap();
            let index = Index::load(Some(&cache), &manifest);
            assert_eq!(index.find(path, stamp), None, "{length} bytes");
        }
        // An index that another build wrote keeps its digests and loses its headers.
        let foreign: Vec<u8> = [
            MAGIC.as_slice(),
            &[9; 32],
            &whole[HEADER_BYTES..HEADER_BYTES + RECORD_BYTES],
        ]
        .concat();
        cache::write(&kept, [foreign.as_slice()].into_iter());
        let facts = Index::load(Some(&cache), &manifest).find(path, stamp);
        assert_eq!(facts.map(|facts| facts.info), Some(None));
    }
}
