//! Shared memory of two processes on one host: a sealed memfd that its maker holds open and another process opens
//! through `/proc/PID/fd/N`. Both map it and copy into it and out of it; neither borrows from it, so that whatever
//! the other side does to it in the meantime is wrong bytes and nothing worse.
//!
//! The data are protected by a sequence number (a seqlock with one writer): the writer calls [`SharedMemory::begin`],
//! writes, and [`SharedMemory::commit`]s a number; [`SharedMemory::read_version`] copies what a number stands for.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, PermissionsExt as _},
    },
    process, ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use crate::seqlock;

/// The bytes before a file's data: its token, then the number of what is in it.
const HEADER: u64 = 4096;
/// Where the number is.
const NUMBER: usize = size_of::<Token>();
const NAME: &str = "unisono-lane";

/// Tells shared memory from every other file. It is no secret: who may open it, the system decides.
pub type Token = [u8; 32];

/// How another process finds shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedMemoryHandle {
    /// The process that holds it open.
    pub process: u32,
    /// Its file descriptor in that process.
    pub descriptor: u32,
    /// What the memory begins with.
    pub token: Token,
    /// The length of its data.
    pub bytes: u64,
}

/// Shared memory.
#[derive(Debug)]
pub struct SharedMemory {
    map: MmapRaw,
    /// Whether the map may be written.
    writable: bool,
    handle: SharedMemoryHandle,
    #[allow(dead_code, reason = "held open so that it can be found")]
    file: File,
}

impl SharedMemory {
    /// Makes a file for `bytes` of data; it is never larger. Others of this user may write it as well
    /// if `writable`.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn create(bytes: u64, writable: bool) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create(NAME, flags)?);
        file.set_len(HEADER + bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mode = if writable { 0o600 } else { 0o400 };
        file.set_permissions(Permissions::from_mode(mode))?;
        let descriptor = file.as_raw_fd().unsigned_abs();
        let token = token(descriptor);
        file.write_all_at(&token, 0)?;
        let handle = SharedMemoryHandle {
            process: process::id(),
            descriptor,
            token,
            bytes,
        };
        Ok(Self {
            map: MmapOptions::new().map_raw(&file)?,
            writable: true,
            handle,
            file,
        })
    }

    /// Opens another process's file.
    ///
    /// # Errors
    /// When it cannot be reached, or is another one: in a container, for instance, where processes have
    /// other numbers.
    pub fn open(handle: SharedMemoryHandle, writable: bool) -> io::Result<Self> {
        let path = format!("/proc/{}/fd/{}", handle.process, handle.descriptor);
        let another = || io::Error::new(io::ErrorKind::NotFound, format!("{path} is another file"));
        let link = fs::read_link(&path)?;
        if link.to_str() != Some(&format!("/memfd:{NAME} (deleted)")) {
            return Err(another());
        }
        let file = OpenOptions::new().read(true).write(writable).open(&path)?;
        let mut token = Token::default();
        file.read_exact_at(&mut token, 0)?;
        let whole = HEADER.checked_add(handle.bytes);
        // A file that could shrink under the map would take this process with it.
        let sealed = fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        if token != handle.token || Some(file.metadata()?.len()) != whole || !sealed {
            return Err(another());
        }
        let options = MmapOptions::new();
        Ok(Self {
            map: match writable {
                true => options.map_raw(&file)?,
                false => options.map_raw_read_only(&file)?,
            },
            writable,
            handle,
            file,
        })
    }

    /// How another process finds it.
    pub fn handle(&self) -> SharedMemoryHandle {
        self.handle
    }

    /// Copies data out.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = self.start(bytes.len(), offset)?;
        // SAFETY: the range lies within the map, which is private to nobody and overlaps no memory of
        // this process's own. Any byte is a value; which one it is, if the other side writes at the same
        // time, the caller finds out by the number.
        unsafe {
            let from = self.map.as_ptr().add(start);
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    /// Copies data in.
    ///
    /// # Errors
    /// When there is no room for so many, or the file was opened to be read.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = self.start(bytes.len(), offset)?;
        self.check_writable()?;
        // SAFETY: the range lies within the map, which is writable, as was checked. No reference into it exists, here or
        // in the other process: both copy, and what was torn, the reader finds out by the number.
        unsafe {
            let to = self.map.as_mut_ptr().add(start);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        Ok(())
    }

    /// Where in the map `length` bytes of data at `offset` begin.
    fn start(&self, length: usize, offset: u64) -> io::Result<usize> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.handle.bytes) {
            let told = format!("shared memory has no {length} bytes at {offset}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        usize::try_from(HEADER + offset).map_err(io::Error::other)
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn counter(&self) -> &AtomicU64 {
        // SAFETY: the header is mapped, aligned to a page, and this part of it is only ever touched as an
        // atomic number, by either process.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(NUMBER).cast()) }
    }

    /// Says that the data are not to be used: they are about to change.
    ///
    /// # Errors
    /// When it was opened to be read.
    pub fn begin(&self) -> io::Result<()> {
        self.check_writable()?;
        seqlock::begin(self.counter());
        Ok(())
    }

    /// Says that the data are whole, and number `number` of what was ever in this memory. Numbers are not
    /// used twice, and never 0.
    ///
    /// # Errors
    /// When it was opened to be read.
    pub fn commit(&self, number: u64) -> io::Result<()> {
        self.check_writable()?;
        seqlock::commit(self.counter(), number);
        Ok(())
    }

    /// The number of the data; 0 while they change. Data that were read before are those of this number, if they
    /// were its data when reading began.
    pub fn number(&self) -> u64 {
        seqlock::current(self.counter())
    }

    /// What `copy` makes of the data, by [`SharedMemory::read`]; `None` when they are not, or not any more, those of
    /// `number`.
    ///
    /// # Errors
    /// Those of `copy`.
    pub fn read_version<T>(
        &self,
        number: u64,
        copy: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        seqlock::read(self.counter(), number, copy)
    }
}

/// Names this host and its kernel since they were started; `None` where that cannot be told.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

fn token(descriptor: u32) -> Token {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut hasher = blake3::Hasher::new();
    hasher.update(boot_id().unwrap_or_default().as_bytes());
    hasher.update(&process::id().to_le_bytes());
    hasher.update(&descriptor.to_le_bytes());
    hasher.update(&now.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let made = SharedMemory::create(10_000, true).unwrap();
        let found = SharedMemory::open(made.handle(), true).unwrap();
        found.write(&[7; 100], 9_900).unwrap();
        let mut read = [0; 101];
        made.read(&mut read, 9_899).unwrap();
        assert_eq!((read[0], &read[1..]), (0, &[7; 100][..]));
        found.commit(5).unwrap();
        assert_eq!(made.number(), 5);
        made.begin().unwrap();
        assert_eq!(found.number(), 0);
    }

    #[test]
    fn it_neither_grows_nor_shrinks() {
        let made = SharedMemory::create(100, true).unwrap();
        let found = SharedMemory::open(made.handle(), true).unwrap();
        assert!(found.write(&[1; 2], 99).is_err());
        assert!(found.file.set_len(5).is_err());
        assert!(found.read(&mut [0; 2], 99).is_err());
        assert_eq!(made.file.metadata().unwrap().len(), HEADER + 100);
        assert!(found.write(&[1], u64::MAX).is_err());
        let reading = SharedMemory::open(made.handle(), false).unwrap();
        assert!(reading.write(&[1], 0).is_err() && reading.commit(1).is_err());
    }

    #[test]
    fn another_file_is_not_taken_for_it() {
        let made = SharedMemory::create(100, false).unwrap();
        let handle = made.handle();
        let other = File::open("/dev/null").unwrap();
        for wrong in [
            SharedMemoryHandle {
                token: [1; 32],
                ..handle
            },
            SharedMemoryHandle {
                bytes: 101,
                ..handle
            },
            SharedMemoryHandle {
                descriptor: other.as_raw_fd().unsigned_abs(),
                ..handle
            },
            SharedMemoryHandle {
                process: u32::MAX,
                ..handle
            },
        ] {
            assert!(SharedMemory::open(wrong, false).is_err(), "{wrong:?}");
        }
        assert!(SharedMemory::open(handle, false).is_ok());
    }
}
