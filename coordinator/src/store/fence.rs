//! Who may write: the coordinator that was started last on a data directory. The lock keeps a second
//! one out where locks work; where they do not (some network file systems, a lock file that somebody
//! removed), the fence stops the first one before it writes again. It does not depend on what is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::StoreError;
use crate::durable;

/// The permission of one start.
#[derive(Clone, Debug)]
pub struct Fence {
    path: PathBuf,
    generation: u64,
}

impl Fence {
    /// Takes the permission away from every earlier start on the directory `root`.
    pub(super) fn raise(root: &Path, generation: u64) -> Result<Self, StoreError> {
        let path = root.join("generation");
        durable::replace(&path, format!("{generation}\n").as_bytes())?;
        Ok(Self { path, generation })
    }

    /// The generation that was started last, as far as it was written down.
    pub(super) fn newest(root: &Path) -> u64 {
        read(&root.join("generation")).ok().flatten().unwrap_or(0)
    }

    /// Passes as long as no other start has raised the fence.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] otherwise; what the file system says, when it cannot be told.
    pub fn check(&self) -> Result<(), StoreError> {
        let newest = read(&self.path).map_err(|source| StoreError::Io {
            path: self.path.clone(),
            source,
        })?;
        match newest {
            Some(newest) if newest > self.generation => Err(StoreError::Fenced {
                dir: self.path.parent().unwrap_or(Path::new(".")).to_owned(),
                generation: self.generation,
                newest,
            }),
            _ => Ok(()),
        }
    }
}

/// `None` when there is no such number.
fn read(path: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_stops_the_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Fence::raise(dir.path(), 1).unwrap();
        first.check().unwrap();
        let second = Fence::raise(dir.path(), 2).unwrap();
        second.check().unwrap();
        let error = first.check().unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Fenced {
                    generation: 1,
                    newest: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}
