//! `bench exchange`: the time from the last gradient to new weights in every worker. A coordinator and
//! workers are processes of this program on this machine; what is handed in is made up, how it is
//! handed in, summed, applied and fetched is as in training. Memory is the coordinator's peak.

mod figures;
pub(super) mod member;
mod processes;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use coordinator::job::Job;
use proto::v1::SubmitRequest;
use speech::{
    audio::{Audio, write_wav},
    manifest::{Manifest, Utterance},
    model::{ModelConfig, ModelSpec},
};

use crate::{
    args, client,
    exit::{CommandError, Context as _, Result},
    output, runtime,
};
use figures::{ExchangeTimes, Round, Setting};
use member::Said;
use processes::{Processes, TempFolder};

/// Exchanges that are not counted: memory is touched for the first time.
const WARM_UP: usize = 2;
/// No exchange takes longer.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// What a gradient would take: in a step that takes no time, every delay is a straggler's.
const COMPUTING: Duration = Duration::from_millis(150);
const MEL_BINS: usize = 4;
const CLASSES: [&str; 2] = ["one", "two"];

pub(super) fn run(args: args::BenchExchange) -> Result<()> {
    let folder = TempFolder::new()?;
    let exchange = runtime::block_on(async {
        let hidden = hidden(args.parameters as usize);
        let setting = Setting {
            parameters: elements(hidden),
            workers: args.workers as usize,
            wire: args.wire,
        };
        let mut processes = Processes::start(folder.path(), setting, args.tls).await?;
        let job = job(folder.path(), &args, hidden)?;
        let mut jobs = client::connect_with(processes.url(), &processes.credentials()).await?;
        let request = SubmitRequest {
            job_toml: job,
            program_version: proto::PROGRAM_VERSION.to_owned(),
        };
        let submitted = jobs.submit(request).await;
        submitted.map_err(|status| client::refused(&status))?;
        let measured = measure(&mut processes, setting, args.repeats as usize).await;
        processes.end().await;
        measured
    })?;
    output::print(args.output.format, &exchange, ExchangeTimes::text)
}

async fn measure(
    processes: &mut Processes,
    setting: Setting,
    repeats: usize,
) -> Result<ExchangeTimes> {
    let mut rounds = Vec::new();
    let mut step = gather(processes, setting.workers, 0).await?;
    for round in 0..WARM_UP + repeats {
        tokio::time::sleep(COMPUTING).await;
        let began = Instant::now();
        processes.go().await?;
        let after = gather(processes, setting.workers, step.step + 1).await?;
        let sync_s = began.elapsed().as_secs_f64();
        if round >= WARM_UP {
            rounds.push(Round {
                sync_s,
                push_s: longest(&after.pushes),
                // The last to hand in waits for nothing but the sum and the update.
                reduce_update_s: after.waits.iter().copied().fold(f64::INFINITY, f64::min),
                pull_s: longest(&after.pulls),
            });
        }
        step = after;
    }
    let memory = processes.memory()?;
    Ok(ExchangeTimes::new(&rounds, setting, memory))
}

/// What the workers said of their way to a step.
#[derive(Default)]
struct StepReports {
    step: u64,
    pushes: Vec<f64>,
    waits: Vec<f64>,
    pulls: Vec<f64>,
}

/// Waits until every worker has the weights of `step` and a gradient to hand in.
async fn gather(processes: &mut Processes, workers: usize, step: u64) -> Result<StepReports> {
    let mut gathered = StepReports {
        step,
        ..StepReports::default()
    };
    while gathered.pulls.len() < workers {
        let said = tokio::time::timeout(ROUND_TIMEOUT, processes.next()).await;
        let said = said.map_err(|_| {
            let told = format!(
                "step {step} is not there after {} s",
                ROUND_TIMEOUT.as_secs()
            );
            CommandError::Infrastructure(told)
        })??;
        match said {
            Said::Joined => {}
            Said::Pushed { push_s } => gathered.pushes.push(push_s),
            Said::Ready {
                step: found,
                micro_batches,
                wait_s,
                pull_s,
            } => {
                // One micro-batch a worker: the coordinator has no reason to do otherwise.
                if (found, micro_batches) != (step, 1) {
                    let told = format!(
                        "a worker was leased {micro_batches} micro-batches of step {found} where one of step {step} was due; try again"
                    );
                    return Err(CommandError::Infrastructure(told).into());
                }
                gathered.waits.push(wait_s);
                gathered.pulls.push(pull_s);
            }
        }
    }
    Ok(gathered)
}

fn longest(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(0.0, f64::max)
}

/// A job that has a model of about as many parameters, and a micro-batch for each worker in each step.
fn job(folder: &Path, args: &args::BenchExchange, hidden: usize) -> Result<String> {
    let steps = WARM_UP + args.repeats as usize + 2;
    let manifest = folder.join("train.jsonl");
    let audio = folder.join("tone.wav");
    let samples = (0..800).map(|at| (at as f32 * 0.03).sin() * 0.5).collect();
    let tone = Audio {
        sample_rate: 8000,
        samples,
    };
    write_wav(&audio, &tone)?;
    let utterances: Vec<Utterance> = (0..steps * args.workers as usize)
        .map(|index| Utterance {
            id: format!("tone{index}"),
            audio: audio.clone(),
            offset: 0.0,
            duration: 0.1,
            channel: None,
            text: CLASSES[index % CLASSES.len()].to_owned(),
            speaker: None,
        })
        .collect();
    Manifest::write(&manifest, &utterances)?;
    let text = format!(
        "name = \"exchange\"\n\
         [corpus]\ntrain = {manifest:?}\n\
         [features]\nsample_rate = 8000\nmel_bins = {MEL_BINS}\n\
         [model]\nlayers = 1\nhidden = {}\n\
         [train]\nepochs = 1\nbatch = {}\nmicro_batch = 1\ncheckpoint_every = 1000000\n\
         wire = \"{}\"\n\
         [optimizer]\nkind = \"adam\"\n",
        hidden,
        args.workers,
        args.wire.name(),
    );
    let job = Job::parse(&text, &folder.join("exchange.toml"), &[])?;
    job.to_toml().context("the job cannot be written")
}

fn elements(hidden: usize) -> usize {
    let config = ModelConfig {
        layers: 1,
        hidden,
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, MEL_BINS, CLASSES.len()).elements()
}

/// Hidden units of the model whose number of parameters comes nearest.
fn hidden(parameters: usize) -> usize {
    // 4 · hidden² and little more.
    let guess = ((parameters / 4) as f64).sqrt() as usize;
    let near = guess.saturating_sub(4).max(1)..guess + 2;
    near.min_by_key(|&hidden| elements(hidden).abs_diff(parameters))
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_about_as_many_parameters_is_found() {
        for parameters in [100, 5_000, 1_000_000, 50_000_000] {
            let found = elements(hidden(parameters));
            let apart = found.abs_diff(parameters) as f64 / parameters as f64;
            assert!(
                apart < 2.0 / (parameters as f64).sqrt(),
                "{parameters}: {found}"
            );
        }
    }
}
