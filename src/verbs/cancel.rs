//! `cancel`: takes a job out of the queue, or stops it at a checkpoint.

use proto::v1::CancelRequest;

use crate::{args, client, exit::Result, jobs::view, runtime};

pub(super) fn run(args: args::NamedJob) -> Result<()> {
    let (job, report) = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let request = CancelRequest {
            id: args.id.clone(),
        };
        let job = client.cancel(request).await;
        let job = job.map_err(|status| client::refused(&status))?.into_inner();
        let report = client::report(&mut client, &job.id).await?;
        Ok((job, report))
    })?;
    view::show(&job, &report, args.output.format)
}
