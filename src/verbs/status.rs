//! `status`: how one job stands.

use crate::{args, client, exit::Result, jobs::view, runtime};

pub(super) fn run(args: args::OneJob) -> Result<()> {
    let (job, report) = runtime::block_on(async {
        let mut client = client::connect(&args.at).await?;
        let job = client::status(&mut client, args.id.clone()).await?;
        let report = client::report(&mut client, &job.id).await?;
        Ok((job, report))
    })?;
    view::show(&job, &report, args.output.format)
}
