//! The audit log of a coordinator: who asked for a change, and who was refused, a JSON line each in `audit.jsonl`,
//! which is rotated by size. It decides how much is kept and that no call waits for it; which calls are told is the
//! server's to say.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use speech::{escape::escape_within, regular_file};

/// A line of `audit.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// When the call was answered.
    #[serde(with = "crate::records::timestamp")]
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// The address and port that the call came from.
    #[schemars(with = "String")]
    pub from: SocketAddr,
    /// The name of who called; absent where nothing says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The roles of who called, with commas between them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roles: String,
    /// What said who it is: a certificate, a token, or nothing, in plaintext.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authentication: String,
    /// The method, as `Jobs/Submit`.
    pub method: String,
    /// The job that it was about, where the call came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `ok`, or else the gRPC code of the refusal, as `permission-denied`.
    pub result: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Calls of this address that were not written since the line before, because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
    /// Lines that could not be written since the one before, because the disk or the writer did not keep up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Bytes of a file, beyond which a new one is begun.
    pub bytes: u64,
    /// Files beside the newest one: `audit.jsonl.1` and so on, the oldest with the highest number.
    pub files: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            files: 8,
        }
    }
}

/// How many calls of an address are written that somebody could flood the log with.
const BURST: u32 = 30;
const INTERVAL: Duration = Duration::from_secs(2);

/// The log, for the threads that answer calls.
#[derive(Debug)]
pub struct AuditLog {
    lines: SyncSender<AuditRecord>,
    lost: Arc<AtomicU64>,
    paces: Mutex<BTreeMap<IpAddr, Pace>>,
}

/// How often an address was written of.
#[derive(Debug)]
struct Pace {
    /// When its next call would be due, had each waited for its own time.
    due: Instant,
    suppressed: u64,
}

impl AuditLog {
    /// Begins to write to the file at `path`, on a thread of its own. What cannot be written is told to the log of
    /// the program, once.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn open(path: PathBuf, retention: Retention) -> io::Result<Self> {
        /// Lines that wait for the disk.
        const QUEUE: usize = 1024;
        let (lines, received) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path,
            retention,
            file: None,
            failing: false,
            lost: Arc::clone(&lost),
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&received))?;
        Ok(Self {
            lines,
            lost,
            paces: Mutex::default(),
        })
    }

    /// Writes a record of a call that its own cost keeps rare. Never waits.
    pub fn write(&self, mut record: AuditRecord) {
        const MAX_CHARS: usize = 500;
        for text in [&mut record.who, &mut record.job, &mut record.reason] {
            *text = text.take().map(|text| escape_within(&text, MAX_CHARS));
        }
        record.method = escape_within(&record.method, MAX_CHARS);
        if self.lines.try_send(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a record, unless there were too many of its address: then it is counted, and the next one says how
    /// many there were.
    pub fn write_paced(&self, record: AuditRecord) {
        self.write_paced_at(record, Instant::now());
    }

    fn write_paced_at(&self, mut record: AuditRecord, now: Instant) {
        /// Addresses that are remembered; the others share one place.
        const MANY: usize = 4096;
        let mut address = record.from.ip();
        // Nothing panics while it is held.
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() >= MANY && !paces.contains_key(&address) {
            paces.retain(|_, pace| pace.due > now || pace.suppressed > 0);
            if paces.len() >= MANY {
                address = IpAddr::from([0; 4]);
            }
        }
        let new = Pace {
            due: now,
            suppressed: 0,
        };
        let pace = paces.entry(address).or_insert(new);
        if pace.due > now + INTERVAL * (BURST - 1) {
            pace.suppressed += 1;
            return;
        }
        pace.due = pace.due.max(now) + INTERVAL;
        record.suppressed = std::mem::take(&mut pace.suppressed);
        drop(paces);
        self.write(record);
    }
}

/// Writes lines to a file.
struct Writer {
    path: PathBuf,
    retention: Retention,
    file: Option<(File, u64)>,
    /// The last line could not be written, which was told.
    failing: bool,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, records: &Receiver<AuditRecord>) {
        for mut record in records {
            record.lost = self.lost.swap(0, Ordering::Relaxed);
            match self.append(&record) {
                Ok(()) => self.failing = false,
                Err(error) => {
                    self.file = None;
                    self.lost.fetch_add(record.lost + 1, Ordering::Relaxed);
                    if !std::mem::replace(&mut self.failing, true) {
                        let path = self.path.display();
                        tracing::error!(%path, "the audit log cannot be written, and goes on without: {error}");
                    }
                }
            }
        }
    }

    fn append(&mut self, record: &AuditRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let (mut file, mut length) = match self.file.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if length > 0 && length + line.len() as u64 > self.retention.bytes {
            self.rotate()?;
            (file, length) = open(&self.path)?;
        }
        if let Err(error) = file.write_all(&line) {
            // A line that was cut short would spoil the next one.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.file = Some((file, length + line.len() as u64));
        Ok(())
    }

    /// Gives each file the next number; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        for number in (1..=self.retention.files).rev() {
            let older = numbered(&self.path, number);
            match number {
                1 => fs::rename(&self.path, older)?,
                _ => match fs::rename(numbered(&self.path, number - 1), older) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The file for appending, which nobody else may read, and its length. A line that was cut short by the end of the
/// program is ended.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = regular_file::append(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut length = file.metadata()?.len();
    if length > 0 && !ends_a_line(path, length)? {
        file.write_all(b"\n")?;
        length += 1;
    }
    Ok((file, length))
}

fn ends_a_line(path: &Path, length: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut last = [0];
    regular_file::open(path)?.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests;
