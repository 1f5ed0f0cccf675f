//! The folders that a coordinator or a worker may read files beneath, as they were typed.

use std::path::PathBuf;

use speech::corpus_roots::CorpusRoots;

use crate::exit::{CommandError, Result};

/// The roots that `--corpus-root` names.
pub(crate) fn typed(folders: &[PathBuf]) -> Result<CorpusRoots> {
    CorpusRoots::beneath(folders).map_err(|(folder, error)| {
        let folder = folder.display();
        CommandError::Usage(format!(
            "`--corpus-root {folder}` cannot be used: {error}; name a folder that is there"
        ))
        .into()
    })
}
