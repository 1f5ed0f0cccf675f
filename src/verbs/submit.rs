//! `submit`: gives a job to a coordinator and follows it; leaving it does not stop it.

use proto::v1::SubmitRequest;
use serde_json::json;

use crate::{
    args, client,
    exit::{CommandError, Context as _, Result},
    follow::{self, MAX_COORDINATOR_ABSENCE, Since, What},
    jobs::{file, outcome},
    output,
    progress::ProgressView,
    runtime,
    signals::Signals,
};

pub(super) fn run(args: args::Submit) -> Result<()> {
    let job = file::read(&args.job, &args.sets)?;
    let epochs = job.train.epochs;
    let request = SubmitRequest {
        job_toml: job.to_toml().context("the job cannot be written")?,
        program_version: proto::PROGRAM_VERSION.to_owned(),
    };
    runtime::block_on(async move {
        let mut client = client::connect(&args.at).await?;
        let submitted = client::submit(&mut client, request).await;
        let submitted = submitted.map_err(|status| client::refused(&status))?;
        let id = submitted.into_inner().id;
        if args.no_wait {
            return output::print(args.output.format, &json!({ "id": id }), |_| id.clone());
        }
        output::message(&format!("submitted {id}"));
        let mut signals = Signals::listen()?;
        let mut progress = ProgressView::new(epochs);
        let wanted = follow::FollowRequest {
            what: What::Everything,
            since: Since::FirstLine,
            patience: MAX_COORDINATOR_ABSENCE,
        };
        let ended = tokio::select! {
            ended = follow::follow(&mut client, &id, wanted, |news| progress.show(news)) => ended,
            signal = signals.next() => Err(CommandError::Signal {
                signal,
                told: format!(
                    "job {id} goes on without you: `unisono logs -f {id}` follows it, `unisono cancel {id}` stops it"
                ),
            }),
        };
        progress.finish();
        drop(signals);
        let ended = ended?;
        let report = client::report(&mut client, &id).await?;
        outcome::conclude(&ended, &report, args.output.format)
    })
}
