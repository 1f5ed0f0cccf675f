//! Safetensors files of `f32`, written atomically and read a chunk at a time. It decides that a
//! length is believed only after it was compared with the file's, and does not depend on what the
//! tensors are.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use proto::{
    CHUNK_BYTES,
    failpoint::{self, Failpoint},
    tensor::for_each_chunk,
};
use safetensors::{Dtype, tensor::Metadata, tensor::TensorInfo};
use speech::regular_file;

use super::CheckpointError;

/// The extension of a file that is being written.
pub(super) const UNFINISHED: &str = "unfinished";

/// Most bytes of a header: about a thousand times what a large model needs.
const HEADER_LIMIT: u64 = 64 << 20;

/// A tensor to be written.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: &'a [f32],
}

/// Finishes `hasher` with the name, shape and bytes of each tensor, as [`Reader::read`] does.
pub(super) fn checksum(mut hasher: blake3::Hasher, tensors: &[Tensor<'_>]) -> blake3::Hash {
    for tensor in tensors {
        hash_place(&mut hasher, &tensor.name, &tensor.shape);
        for_each_chunk(tensor.values, |bytes| {
            hasher.update(bytes);
        });
    }
    hasher.finalize()
}

fn hash_place(hasher: &mut blake3::Hasher, name: &str, shape: &[usize]) {
    hasher.update(format!("{name}{shape:?}").as_bytes());
}

/// Writes a file with one entry of metadata and `tensors` in order. The file appears whole or not at
/// all.
pub(super) fn write(
    path: &Path,
    (key, value): (&str, String),
    tensors: &[Tensor<'_>],
) -> io::Result<()> {
    let mut offset = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = offset;
        offset += 4 * tensor.values.len();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (start, offset),
        };
        (tensor.name.clone(), info)
    });
    let entries = HashMap::from([(key.to_owned(), value)]);
    let metadata = Metadata::new(Some(entries), infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    // Tensors begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');

    let unfinished = path.with_extension(UNFINISHED);
    let written = write_synced(&unfinished, &header, tensors)
        .inspect(|()| failpoint::reach(Failpoint::CoordinatorRename))
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| sync_parent(path));
    if written.is_err() {
        // The first error is the one to report; prune removes what stays.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_synced(path: &Path, header: &[u8], tensors: &[Tensor<'_>]) -> io::Result<()> {
    let mut file = regular_file::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header)?;
    for tensor in tensors {
        let mut written = Ok(());
        for_each_chunk(tensor.values, |bytes| {
            if written.is_ok() {
                written = file.write_all(bytes);
            }
        });
        written?;
        failpoint::reach(Failpoint::CoordinatorCheckpoint);
    }
    file.sync_all()
}

/// Makes a rename in the folder of `path` outlast a power cut.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file from front to back.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Names and shapes still to be read, the next one last.
    rest: Vec<(String, Vec<usize>)>,
}

impl Reader {
    /// Reads the header. The file is as long as it says, and holds nothing but `f32`.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |reason: &str| CheckpointError::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let at = |source| CheckpointError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(at)?;
        let length = file.metadata().map_err(at)?.len();
        let mut prefix = [0; 8];
        if length < prefix.len() as u64 {
            return Err(damaged("it ends before its header"));
        }
        file.read_exact(&mut prefix).map_err(at)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > HEADER_LIMIT || header_length > length - 8 {
            return Err(damaged("it ends before its header does"));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(at)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
        if metadata.data_len() as u64 != length - 8 - header_length {
            return Err(damaged("it is not as long as its header says"));
        }
        let names = metadata.offset_keys().into_iter().rev();
        let rest = names.filter_map(|name| {
            let info = metadata.info(&name)?;
            let shape = info.shape.clone();
            (info.dtype == Dtype::F32).then_some((name, shape))
        });
        let rest: Vec<_> = rest.collect();
        if rest.len() != metadata.tensors().len() {
            return Err(damaged("it holds tensors that are not of f32"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            metadata,
            rest,
        })
    }

    /// The metadata under `key`.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        let entries = self.metadata.metadata().as_ref()?;
        entries.get(key).map(String::as_str)
    }

    /// Name and shape of the tensor that [`Reader::read`] reads next.
    pub(super) fn next_tensor(&self) -> Option<(String, Vec<usize>)> {
        self.rest.last().cloned()
    }

    /// Reads the next tensor, if there is one, in runs of elements.
    pub(super) fn read(
        &mut self,
        hasher: &mut blake3::Hasher,
        mut visit: impl FnMut(&[f32]),
    ) -> Result<(), CheckpointError> {
        let Some((name, shape)) = self.rest.pop() else {
            return Ok(());
        };
        hash_place(hasher, &name, &shape);
        let mut left = 4 * shape.iter().product::<usize>();
        let mut bytes = vec![0; left.min(CHUNK_BYTES)];
        let mut run = Vec::with_capacity(bytes.len() / 4);
        while left > 0 {
            let bytes = &mut bytes[..left.min(CHUNK_BYTES)];
            self.file
                .read_exact(bytes)
                .map_err(|source| CheckpointError::Io {
                    path: self.path.clone(),
                    source,
                })?;
            hasher.update(bytes);
            run.clear();
            let (elements, _) = bytes.as_chunks::<4>();
            run.extend(elements.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            visit(&run);
            left -= bytes.len();
        }
        Ok(())
    }
}
