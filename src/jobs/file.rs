//! A job as it was typed: a file, and keys laid over it.

use std::path::Path;

use coordinator::job::Job;

use crate::exit::{Context as _, Result};

/// The job at `path`, with `sets` laid over it and its paths made absolute.
pub(crate) fn read(path: &Path, sets: &[String]) -> Result<Job> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the job {}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?;
    let job = Job::parse(&text, path, sets)?;
    job.check_written(&text, path, sets)?;
    Ok(job.resolve(&folder))
}
