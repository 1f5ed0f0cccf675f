//! `train`: a run on this machine, from a job to its report. The coordinator is in this process, the
//! workers are processes of their own, and they speak gRPC over loopback as in a cluster.

mod plan;

use std::{path::PathBuf, time::Duration};

use coordinator::{
    records::report::REPORT,
    server::{Config, Coordinator, Running},
};
use proto::v1::JobStatus;
use speech::{corpus_roots::CorpusRoots, error_class::Class};

use crate::{
    args, cache_folder, client,
    exit::{CommandError, Context as _, Result},
    fleet::{self, Fleet},
    follow::{self, Since, What},
    jobs::{outcome, runs::RunStart},
    output,
    progress::ProgressView,
    runtime,
    signals::Signals,
    summary,
};
use plan::TrainPlan;

/// From Ctrl-C to the last checkpoint; with the workers' farewell it stays below five seconds.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(3500);
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn run(args: args::Train) -> Result<()> {
    let plan = TrainPlan::new(&args)?;
    let format = args.output.format;
    if let RunStart::Finished(dir) = &plan.start {
        output::message(&format!(
            "{} has been trained in {} already",
            plan.job.name,
            dir.display()
        ));
        return match plan.report() {
            Some(report) => output::print(format, &report, |report| {
                summary::text(report, &dir.display().to_string())
            }),
            None => Ok(()),
        };
    }
    let cache = cache_folder(&args);
    // Where digests of recordings are kept for the next run on the same corpus.
    let corpora = match &args.cache_dir {
        Some(named) => Some(named.join("corpora")),
        None => cache
            .as_ref()
            .map(|workers| workers.with_file_name("corpora")),
    };
    let status = runtime::block_on(async {
        let mut signals = Signals::listen()?;
        let running = Coordinator::start(Config {
            listen: "127.0.0.1:0".to_owned(),
            metrics: None,
            layout: plan.layout(),
            allow_plaintext: false,
            // Nobody else submits a job to it.
            corpus_roots: CorpusRoots::nowhere(),
            tls: None,
            cache_dir: corpora,
            dismiss_workers: true,
        })
        .await
        .inspect_err(|_| {
            // Nothing but a directory that is still empty goes.
            if plan.is_fresh() && args.out.is_none() {
                let _ = std::fs::remove_dir(plan.run_dir());
            }
        })?;
        output::message(&plan.announcement());
        lead(&plan, &args, cache, running, &mut signals).await
    })?;
    let report = std::fs::read_to_string(plan.run_dir().join(REPORT)).unwrap_or_default();
    let concluded = outcome::conclude(&status, &report, format);
    if let Some(command) = plan.slower_command(&args, &status) {
        output::message(&format!(
            "to go on from the last checkpoint with a lower rate:\n  {command}"
        ));
    }
    concluded
}

async fn lead(
    plan: &TrainPlan,
    args: &args::Train,
    cache: Option<PathBuf>,
    mut running: Running,
    signals: &mut Signals,
) -> Result<JobStatus> {
    if plan.is_fresh() {
        running.submit(plan.job.clone()).await?;
    }
    let url = format!("http://{}", running.addr());
    let mut jobs = client::connect_local(&url).await?;
    let id = client::status(&mut jobs, None).await?.id;
    let mut fleet = Fleet::start(fleet::FleetSpec {
        coordinator: url,
        jobs: jobs.clone(),
        cache,
        workers: plan.workers,
        threads: plan.threads,
        device: args.device,
    })
    .context("cannot start the workers")?;
    let mut progress = ProgressView::new(plan.job.train.epochs);
    let since = if plan.is_fresh() {
        Since::FirstLine
    } else {
        Since::CurrentStart
    };
    let ended = tokio::select! {
        ended = watch(&mut jobs, &id, since, &mut fleet, &mut progress, signals) => ended,
        stopped = running.broken() => {
            progress.finish();
            fleet.end(Duration::ZERO).await;
            return Err(stopped.into());
        }
    };
    progress.finish();
    if let Err(CommandError::Signal { signal, .. }) = &ended {
        output::message(&format!(
            "{signal}: writing a checkpoint; once more ends at once"
        ));
        fleet.dismiss();
        tokio::select! {
            () = running.shutdown(CHECKPOINT_TIMEOUT) => fleet.end(FAREWELL_TIMEOUT).await,
            _ = signals.insisted() => fleet.end(Duration::ZERO).await,
        }
        let told = format!("interrupted; go on with\n  {}", plan.resume_command(args));
        return Err(CommandError::Signal {
            signal: *signal,
            told,
        }
        .into());
    }
    if let Err(lost @ (CommandError::Infrastructure(_) | CommandError::Data(_))) = &ended {
        let cause = match lost {
            CommandError::Data(_) => Class::Data,
            _ => Class::Infrastructure,
        };
        // So that the run is written down as one that failed, with the reason, and not as one that goes on. One that
        // has ended already stays as it is.
        let given_up = running.give_up(lost.to_string(), cause);
        let _ = tokio::time::timeout(CHECKPOINT_TIMEOUT, given_up).await;
    }
    // The coordinator's goodbye ends the workers.
    running.shutdown(CHECKPOINT_TIMEOUT).await;
    fleet.end(FAREWELL_TIMEOUT).await;
    Ok(ended?)
}

/// Where the workers keep features: found once for all of them, so that a warning comes once.
fn cache_folder(args: &args::Train) -> Option<PathBuf> {
    if args.cache_dir.is_some() {
        return args.cache_dir.clone();
    }
    let found = cache_folder::find();
    if let Some(warning) = found.warning {
        output::message(&format!("warning: {warning}"));
    }
    found.folder
}

/// Shows what goes on until the job ends, or something ends it.
async fn watch(
    jobs: &mut client::CoordinatorClient,
    id: &str,
    since: Since,
    fleet: &mut Fleet,
    progress: &mut ProgressView,
    signals: &mut Signals,
) -> Result<JobStatus, CommandError> {
    let (sender, mut news) = tokio::sync::mpsc::unbounded_channel();
    let wanted = follow::FollowRequest {
        what: What::Everything,
        since,
        patience: Duration::ZERO,
    };
    let mut following = std::pin::pin!(follow::follow(jobs, id, wanted, |one| {
        // The receiver lives as long as this future.
        let _ = sender.send(one);
    }));
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                return Err(CommandError::Signal { signal, told: String::new() });
            }
            Some(one) = news.recv() => progress.show(one),
            one = fleet.next() => match one {
                fleet::FleetEvent::Said(text) => progress.message(&text),
                fleet::FleetEvent::Lost(failure) => return Err(failure),
            },
            ended = &mut following => {
                while let Ok(one) = news.try_recv() {
                    progress.show(one);
                }
                return ended;
            }
        }
    }
}
