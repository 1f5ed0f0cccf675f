//! From the domain's answers to messages, and what of messages is for people. The way back is otherwise
//! [`proto::convert`].

use proto::v1;
use speech::front_end::GlobalStats;

use crate::{
    corpus::Item,
    driver::{Hypothesis, JobView, LeaseAnswer, Leased, Refused, Welcome, WorkerView},
    machine::Outcome,
    report::Report,
    store::{Cause, State},
    times::Times,
};
use proto::contribution::PassKind;

/// A refusal of a join is an answer like another: it is not worth a retry.
pub fn join(joined: Result<Welcome, Refused>) -> Result<v1::JoinResponse, Refused> {
    use v1::join_response::Outcome;
    let outcome = match joined {
        Ok(welcome) => Outcome::Welcome(v1::Welcome {
            worker: welcome.worker,
            generation: welcome.generation,
            heartbeat_ms: u32::try_from(welcome.heartbeat.as_millis()).unwrap_or(u32::MAX),
        }),
        Err(stopping @ Refused::Stopping) => return Err(stopping),
        Err(refused) => Outcome::Refusal(v1::Refusal {
            reason: refused.to_string(),
        }),
    };
    Ok(v1::JoinResponse {
        outcome: Some(outcome),
    })
}

pub fn lease(answer: LeaseAnswer) -> v1::LeaseResponse {
    use v1::lease_response::Answer;
    let answer = match answer {
        LeaseAnswer::Idle => Answer::Idle(v1::Idle {}),
        LeaseAnswer::Unknown => Answer::Unknown(v1::Unknown {}),
        LeaseAnswer::Goodbye(reason) => Answer::Goodbye(v1::Goodbye { reason }),
        LeaseAnswer::Lease(leased) => Answer::Lease(leased.into()),
    };
    v1::LeaseResponse {
        answer: Some(answer),
    }
}

impl From<Leased> for v1::Lease {
    fn from(leased: Leased) -> Self {
        let Leased {
            key,
            epoch,
            micro_batches,
            posted,
            norm_bound,
            averaged,
        } = leased;
        let items = match key.kind {
            PassKind::Gradient => &posted.prepared.train,
            PassKind::Evaluation => &posted.prepared.valid,
        };
        let micro_batches = micro_batches.into_iter();
        Self {
            key: Some(key.into()),
            epoch,
            norm_bound: norm_bound.map(|bound| v1::NormBound { most: bound.most }),
            averaged,
            micro_batches: micro_batches
                .map(|(index, utterances)| v1::MicroBatch {
                    index,
                    utterances: utterances
                        .into_iter()
                        .map(|index| utterance(index, &items[index as usize]))
                        .collect(),
                })
                .collect(),
        }
    }
}

fn utterance(index: u32, item: &Item) -> v1::Utterance {
    v1::Utterance {
        index,
        id: item.id.clone(),
        audio_path: item.audio.to_string_lossy().into_owned(),
        audio_bytes: item.bytes,
        audio_digest: item.digest.to_vec().into(),
        text: item.text.clone(),
        segment: item.segment.as_ref().map(|part| v1::Segment {
            start: part.start,
            end: part.end,
        }),
        voice: item.voice,
    }
}

pub fn voices(voices: &[GlobalStats]) -> Vec<v1::Voice> {
    let voice = |stats: &GlobalStats| v1::Voice {
        mean: stats.mean.clone(),
        variance: stats.variance.clone(),
        frames: stats.frames,
    };
    voices.iter().map(voice).collect()
}

pub fn receipt(outcome: Outcome) -> v1::Receipt {
    use v1::receipt::Outcome as Wire;
    let outcome = match outcome {
        Outcome::Accepted => Wire::Accepted,
        Outcome::Duplicate => Wire::Duplicate,
        Outcome::Stale => Wire::Stale,
        Outcome::Differs => Wire::Differs,
    };
    v1::Receipt {
        outcome: outcome.into(),
    }
}

/// What a worker says it spent. A number that cannot be one counts as nothing.
pub fn times(spent: Option<v1::Spent>) -> Times {
    let spent = spent.unwrap_or_default();
    let seconds = |said: f64| if said.is_finite() { said.max(0.0) } else { 0.0 };
    Times {
        compute_s: seconds(spent.compute),
        features_s: seconds(spent.features),
        pull_s: seconds(spent.pull),
        push_s: seconds(spent.push),
        wait_s: seconds(spent.wait),
        ..Times::default()
    }
}

impl From<v1::UtteranceResult> for Hypothesis {
    fn from(result: v1::UtteranceResult) -> Self {
        Self {
            index: result.index,
            text: result.hypothesis,
            loss: result.loss.filter(|loss| loss.is_finite()),
        }
    }
}

/// `report` of a job that has ended, as it was written.
pub fn job_status(view: JobView, report: Option<String>) -> v1::JobStatus {
    let progress = view.progress.unwrap_or_default();
    let mut status = v1::JobStatus {
        id: view.id,
        name: view.entry.name,
        state: state(view.entry.state).into(),
        step: progress.step,
        steps: progress.steps,
        epoch: progress.epoch,
        epochs: progress.epochs,
        loss: progress.loss,
        error: view.entry.error.unwrap_or_default(),
        report_json: report.unwrap_or_default(),
        submitted_at: view.entry.submitted_at.to_string(),
        run_dir: view.run_dir.to_string_lossy().into_owned(),
        workers: view.workers,
        cause: cause(view.entry.cause).into(),
        faults: view.faults.into_iter().collect(),
        times: progress.times.by_name().into_iter().collect(),
    };
    if let Ok(report) = serde_json::from_str::<Report>(&status.report_json) {
        status.step = report.steps;
        status.steps = report.total_steps;
        status.epoch = report.epochs;
        status.epochs = report.total_epochs;
        status.loss = report.loss;
        status.faults = report.faults.into_iter().collect();
        status.times = report.times.by_name().into_iter().collect();
    }
    status
}

const fn state(state: State) -> v1::State {
    match state {
        State::Queued => v1::State::Queued,
        State::Running => v1::State::Running,
        State::Succeeded => v1::State::Succeeded,
        State::Failed => v1::State::Failed,
        State::Cancelled => v1::State::Cancelled,
    }
}

const fn cause(cause: Option<Cause>) -> v1::Cause {
    match cause {
        None => v1::Cause::Unspecified,
        Some(Cause::Training) => v1::Cause::Training,
        Some(Cause::Data) => v1::Cause::Data,
        Some(Cause::Infrastructure) => v1::Cause::Infrastructure,
    }
}

impl From<WorkerView> for v1::WorkerStatus {
    fn from(view: WorkerView) -> Self {
        Self {
            worker: view.worker,
            name: view.introduction.name,
            compute_class: view.introduction.compute_class,
            program_version: view.introduction.program_version,
            threads: view.introduction.threads,
            doing: view.doing,
            contributions: view.contributions,
            seconds_since_heard: view.seconds_since_heard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_that_a_worker_says_of_its_time_counts_as_nothing() {
        let spent = v1::Spent {
            compute: f64::NAN,
            wait: -3.0,
            pull: 0.5,
            ..v1::Spent::default()
        };
        let found = times(Some(spent));
        assert_eq!(
            (found.compute_s, found.wait_s, found.pull_s),
            (0.0, 0.0, 0.5)
        );
        assert_eq!(times(None), Times::default());
    }
}
