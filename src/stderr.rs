//! Standard error, written by a thread of its own. Whoever reads it may stop (a terminal at Ctrl-S, `| less`, a
//! log driver that hangs): then messages are lost and counted, and nothing else of the program waits.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Bytes that wait for the reader at most; what comes on top is lost.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Bytes that may wait when a frame of a moving line is shown: an old one is of no use.
const MAX_QUEUED_FOR_FRAMES: usize = 4 << 10;

/// Texts on their way to a writer that may stand still.
#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    texts: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Texts that found no room since the last one that did.
    lost: u64,
    /// A text is being written.
    writing: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for the reader.
    fn put(&self, text: Vec<u8>, most: usize) {
        let mut state = self.lock();
        if state.bytes + text.len() > most && state.bytes > 0 {
            state.lost += u64::from(most == MAX_QUEUED_BYTES);
            return;
        }
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            let told = format!("({lost} messages were lost: nobody read standard error)\n");
            state.bytes += told.len();
            state.texts.push_back(told.into_bytes());
        }
        state.bytes += text.len();
        state.texts.push_back(text);
        self.changed.notify_all();
    }

    /// Writes what comes, for as long as the program runs.
    fn write_on(&self, mut write: impl FnMut(&[u8])) {
        let mut state = self.lock();
        loop {
            let Some(text) = state.texts.pop_front() else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            write(&text);
            state = self.lock();
            state.writing = false;
            state.bytes -= text.len();
            self.changed.notify_all();
        }
    }

    /// Whether everything was written before `patience` had passed.
    fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        while state.writing || !state.texts.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// `None` where the system has no thread for it.
fn pipe() -> Option<&'static Arc<Pipe>> {
    static PIPE: OnceLock<Option<Arc<Pipe>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| {
        let pipe = Arc::new(Pipe::default());
        let writer = Arc::clone(&pipe);
        let thread = thread::Builder::new().name("stderr".to_owned());
        let started = thread.spawn(move || writer.write_on(write_through));
        started.ok().map(|_| pipe)
    });
    pipe.as_ref()
}

/// Writes to standard error itself. Whether it is still read is no reason to stop; one that was set not to
/// block by whoever shares it is tried again.
fn write_through(mut text: &[u8]) {
    const RETRY_PAUSE: Duration = Duration::from_millis(20);
    while !text.is_empty() {
        match io::stderr().write(text) {
            Ok(0) => return,
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(_) => return,
        }
    }
}

fn put(text: &[u8], most: usize) {
    if text.is_empty() {
        return;
    }
    match pipe() {
        Some(pipe) => pipe.put(text.to_vec(), most),
        None => write_through(text),
    }
}

/// Sends `text` to standard error as it is.
pub(crate) fn write(text: &[u8]) {
    put(text, MAX_QUEUED_BYTES);
}

/// Sends a frame of a moving line, unless much waits already.
pub(crate) fn write_frame(text: &[u8]) {
    put(text, MAX_QUEUED_FOR_FRAMES);
}

/// Waits until everything is written, for `patience` at most.
pub(crate) fn flush(patience: Duration) {
    if let Some(pipe) = pipe() {
        pipe.flush(patience);
    }
}

/// Standard error as a writer that never waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pipe whose reader takes a text only when it is told to.
    fn stuck() -> (Arc<Pipe>, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let pipe = Arc::new(Pipe::default());
        let (go_on, wait) = mpsc::channel::<()>();
        let (seen, read) = mpsc::channel();
        let writer = Arc::clone(&pipe);
        thread::spawn(move || {
            writer.write_on(|text| {
                // The test is over when this fails.
                let _ = wait.recv();
                let _ = seen.send(text.to_vec());
            });
        });
        (pipe, go_on, read)
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stopped_and_what_is_lost_is_counted() {
        let (pipe, go_on, read) = stuck();
        for _ in 0..1000 {
            pipe.put(vec![b'x'; 10_000], MAX_QUEUED_BYTES);
        }
        let held = pipe.lock().bytes;
        assert!(
            held <= MAX_QUEUED_BYTES && held > MAX_QUEUED_BYTES - 20_000,
            "{held}"
        );
        assert!(!pipe.flush(Duration::from_millis(1)));
        let kept = MAX_QUEUED_BYTES / 10_000;
        for _ in 0..kept {
            go_on.send(()).unwrap();
        }
        assert!(pipe.flush(Duration::from_secs(60)));
        pipe.put(b"after\n".to_vec(), MAX_QUEUED_BYTES);
        for _ in 0..2 {
            go_on.send(()).unwrap();
        }
        assert!(pipe.flush(Duration::from_secs(60)));
        let seen: Vec<Vec<u8>> = read.try_iter().collect();
        assert_eq!(seen.len(), kept + 2);
        let told = String::from_utf8(seen[kept].clone()).unwrap();
        assert!(
            told.contains(&format!("({} messages were lost", 1000 - kept)),
            "{told}"
        );
        assert_eq!(seen[kept + 1], b"after\n");
    }

    #[test]
    fn frames_are_dropped_while_others_wait_and_do_not_count_as_lost() {
        let (pipe, _go_on, _read) = stuck();
        for _ in 0..1000 {
            pipe.put(vec![b'-'; 100], MAX_QUEUED_FOR_FRAMES);
        }
        let state = pipe.lock();
        assert!(state.bytes <= MAX_QUEUED_FOR_FRAMES, "{}", state.bytes);
        assert_eq!(state.lost, 0);
    }

    #[test]
    fn texts_come_in_order_and_a_single_long_one_is_not_lost() {
        let (pipe, go_on, read) = stuck();
        pipe.put(vec![b'a'; 2 * MAX_QUEUED_BYTES], MAX_QUEUED_BYTES);
        go_on.send(()).unwrap();
        assert!(pipe.flush(Duration::from_secs(60)));
        for text in ["one", "two", "three"] {
            pipe.put(text.as_bytes().to_vec(), MAX_QUEUED_BYTES);
            go_on.send(()).unwrap();
        }
        assert!(pipe.flush(Duration::from_secs(60)));
        let seen: Vec<Vec<u8>> = read.try_iter().collect();
        assert_eq!(seen[0].len(), 2 * MAX_QUEUED_BYTES);
        assert_eq!(
            seen[1..],
            [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]
        );
    }
}
