//! How weights and audio go out. It decides how long a peer may take for a chunk: whoever does not
//! read holds neither weights that are over nor a thread.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use proto::{
    CHUNK_BYTES,
    failpoint::{self, Failpoint},
    shared_memory, tensor, v1,
    wire::Wire,
};
use speech::corpus_roots::CorpusRoots;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::Status;

use crate::{corpus::Recording, server::refusal::Refusal};

pub(super) type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// An encoded vector, chunk by chunk, until none is taken for as long as `stall`: then the vector is
/// let go of, although the stream is still there.
pub(super) fn weights(encoded: Bytes, wire: Wire, stall: Duration) -> Chunks<v1::TensorChunk> {
    let held = Arc::new(Mutex::new(Some(tensor::chunks(encoded, wire))));
    let (taken, mut watched) = watch::channel(());
    let watching = Arc::clone(&held);
    tokio::spawn(async move {
        loop {
            match timeout(stall, watched.changed()).await {
                Ok(Ok(())) => {}
                // The stream is gone, and the vector with it.
                Ok(Err(_)) => return,
                Err(_) => {
                    let mut held = watching.lock().unwrap_or_else(PoisonError::into_inner);
                    *held = None;
                    return;
                }
            }
        }
    });
    let next = move |taken: Option<watch::Sender<()>>| {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = match held.as_mut() {
            Some(chunks) => chunks.next().map(Ok),
            None => Some(Err(Refusal::Unread { within: stall }.into())),
        };
        let taken = taken.filter(|_| matches!(chunk, Some(Ok(_))));
        if let Some(taken) = &taken {
            taken.send_replace(());
            failpoint::reach(Failpoint::CoordinatorBroadcast);
        }
        chunk.map(|chunk| (chunk, taken))
    };
    Box::pin(stream::unfold(Some(taken), move |taken| {
        let next = taken.and_then(|taken| next(Some(taken)));
        async { next }
    }))
}

/// Where a vector lies that its reader can get at itself.
pub(super) fn in_shared_memory(
    place: shared_memory::SharedMemoryHandle,
    number: u64,
) -> Chunks<v1::TensorChunk> {
    failpoint::reach(Failpoint::CoordinatorBroadcast);
    let chunk = v1::TensorChunk {
        in_lane: Some(v1::InLane {
            lane: Some(place.into()),
            number,
        }),
        ..v1::TensorChunk::default()
    };
    Box::pin(stream::once(async { Ok(chunk) }))
}

/// Files one after the other, a few chunks ahead of the network; each is read on a thread that may
/// wait for the disk, and that waits for nobody else.
pub(super) fn audio(
    files: Vec<Arc<Recording>>,
    roots: CorpusRoots,
    stall: Duration,
) -> Chunks<v1::AudioChunk> {
    const CHUNKS_AHEAD: usize = 2;
    let (chunks, taken) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        let outlet = Outlet {
            chunks,
            roots,
            stall,
        };
        if let Err(refusal) = outlet.send_all(files).await {
            // Whoever took no chunk in time takes no reason either, but may find the stream cut.
            let _ = outlet.put(Err(refusal)).await;
        }
    });
    Box::pin(stream::unfold(taken, async |mut taken| {
        let chunk = taken.recv().await?;
        Some((chunk.map_err(Status::from), taken))
    }))
}

struct Outlet {
    chunks: mpsc::Sender<Result<v1::AudioChunk, Refusal>>,
    /// Where the files may lie.
    roots: CorpusRoots,
    stall: Duration,
}

impl Outlet {
    async fn send_all(&self, files: Vec<Arc<Recording>>) -> Result<(), Refusal> {
        for (place, file) in (0..).zip(files) {
            self.send(place, file).await?;
        }
        Ok(())
    }

    async fn send(&self, place: u32, file: Arc<Recording>) -> Result<(), Refusal> {
        let path = file.path.clone();
        let mut left = file.bytes;
        let mut open = None;
        loop {
            let size = left.min(CHUNK_BYTES as u64);
            let (from, roots) = (path.clone(), self.roots.clone());
            let read = tokio::task::spawn_blocking(move || read(open, &roots, &from, size)).await;
            let read = read.unwrap_or_else(|broken| Err(io::Error::other(broken)));
            let (reader, data) = read.map_err(|source| Refusal::Audio {
                path: path.clone(),
                source,
            })?;
            open = Some(reader);
            if data.len() as u64 != size {
                return Err(Refusal::AudioChanged { path });
            }
            left -= size;
            let chunk = v1::AudioChunk {
                file: place,
                data: data.into(),
                last: left == 0,
            };
            self.put(Ok(chunk)).await?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    async fn put(&self, chunk: Result<v1::AudioChunk, Refusal>) -> Result<(), Refusal> {
        let unread = Refusal::Unread { within: self.stall };
        let sent = self.chunks.send_timeout(chunk, self.stall).await;
        sent.map_err(|_| unread)
    }
}

/// The next `size` bytes, or as many as there are.
fn read(
    open: Option<File>,
    roots: &CorpusRoots,
    path: &Path,
    size: u64,
) -> io::Result<(File, Vec<u8>)> {
    let mut reader = open.map_or_else(|| roots.open(path), Ok)?;
    let mut data = Vec::with_capacity(size as usize);
    reader.by_ref().take(size).read_to_end(&mut data)?;
    Ok((reader, data))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn who_stops_reading_holds_no_weights() {
        let encoded = tensor::encode(&vec![1.0; CHUNK_BYTES], Wire::F32);
        let witness = encoded.clone();
        let mut chunks = weights(encoded, Wire::F32, Duration::from_millis(30));
        let first = chunks.next().await.unwrap().unwrap();
        assert_eq!(first.data, witness[..CHUNK_BYTES]);
        drop(first);
        assert!(!witness.is_unique());
        let released = async {
            while !witness.is_unique() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), released).await.unwrap();
        let late = chunks.next().await.unwrap().unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn who_reads_gets_all_of_them() {
        let values: Vec<f32> = (0..CHUNK_BYTES / 2).map(|value| value as f32).collect();
        let mut chunks = weights(
            tensor::encode(&values, Wire::F32),
            Wire::F32,
            Duration::from_secs(30),
        );
        let mut assembler = tensor::Assembler::new(values.len() as u64, values.len()).unwrap();
        while let Some(chunk) = chunks.next().await {
            assembler.push(&chunk.unwrap()).unwrap();
        }
        assert_eq!(assembler.finish().unwrap(), values);
    }
}
