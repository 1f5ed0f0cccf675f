//! How a job ended: printed, and as the program's own success or failure.

use coordinator::records::report::Report;
use proto::v1::{Cause, JobStatus, State};

use crate::{
    exit::{CommandError, Result},
    output::{self, OutputFormat},
    summary,
};

/// Prints what came of a job, by the text of its report, and turns a job that did not succeed into an
/// error.
pub(crate) fn conclude(job: &JobStatus, report: &str, format: OutputFormat) -> Result<()> {
    let report = serde_json::from_str::<Report>(report);
    if let Ok(report) = &report {
        output::print(format, report, |report| summary::text(report, &job.run_dir))?;
    }
    Ok(judge(job)?)
}

/// A job that did not succeed as an error, by what it calls for.
pub(crate) fn judge(job: &JobStatus) -> Result<(), CommandError> {
    match job.state() {
        State::Succeeded => Ok(()),
        State::Cancelled => Err(CommandError::Job(format!("job {} was cancelled", job.id))),
        _ => Err(match job.cause() {
            Cause::Infrastructure => CommandError::Infrastructure(job.error.clone()),
            Cause::Data => CommandError::Data(job.error.clone()),
            Cause::Training | Cause::Unspecified => CommandError::Job(job.error.clone()),
        }),
    }
}
