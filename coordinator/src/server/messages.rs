//! From the domain's answers to messages, and what of messages is for people. The way back is otherwise
//! [`proto::convert`].

use bytes::Bytes;
use proto::{pieces, v1};

use speech::error_class::Class;

use crate::{
    driver::{Hypothesis, JobView, LeaseAnswer, Parting, Refused, Welcome, WorkerView},
    leases::ContributionOutcome,
    records::{report::ReportSummary, times::Times, timestamp},
    store::JobState,
};

/// A refusal of a join is an answer like another: the call is not worth a retry. `session` gives the secret of a
/// worker's admission.
pub(super) fn join(
    joined: Result<Welcome, Refused>,
    session: impl FnOnce(u64) -> Bytes,
) -> Result<v1::JoinResponse, Refused> {
    use v1::join_response::Outcome;
    let outcome = match joined {
        Ok(welcome) => Outcome::Welcome(v1::Welcome {
            worker: welcome.worker,
            generation: welcome.generation,
            heartbeat_ms: u32::try_from(welcome.heartbeat.as_millis()).unwrap_or(u32::MAX),
            session: session(welcome.worker),
        }),
        Err(stopping @ Refused::Stopping) => return Err(stopping),
        Err(refused) => Outcome::Refusal(v1::Refusal {
            may_pass: refused.may_pass(),
            reason: refused.to_string(),
        }),
    };
    Ok(v1::JoinResponse {
        outcome: Some(outcome),
    })
}

pub(super) fn lease(answer: LeaseAnswer) -> v1::LeaseResponse {
    use v1::lease_response::Answer;
    let answer = match answer {
        LeaseAnswer::Idle(reason) => Answer::Idle(v1::Idle {
            reason: reason.unwrap_or_default(),
        }),
        LeaseAnswer::Unknown => Answer::Unknown(v1::Unknown {}),
        LeaseAnswer::Goodbye(reason, parting) => Answer::Goodbye(v1::Goodbye {
            reason,
            parting: match parting {
                Parting::Returns => v1::Parting::Returns,
                Parting::Dismissed => v1::Parting::Dismissed,
                Parting::Refused => v1::Parting::Refused,
            }
            .into(),
        }),
        LeaseAnswer::Lease(leased) => Answer::Lease(leased.into_message()),
    };
    v1::LeaseResponse {
        answer: Some(answer),
    }
}

pub(super) fn receipt(outcome: ContributionOutcome) -> v1::Receipt {
    use v1::receipt::Outcome as Wire;
    let outcome = match outcome {
        ContributionOutcome::Accepted => Wire::Accepted,
        ContributionOutcome::Duplicate => Wire::Duplicate,
        ContributionOutcome::Stale => Wire::Stale,
        ContributionOutcome::Differs => Wire::Differs,
    };
    v1::Receipt {
        outcome: outcome.into(),
    }
}

/// What a worker says it spent. A number that cannot be one counts as nothing.
pub(super) fn times(spent: Option<v1::Spent>) -> Times {
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
            unusable: result.unusable,
        }
    }
}

/// With the figures of the report of a job that has ended.
pub(super) fn job_status(view: JobView, figures: Option<ReportSummary>) -> v1::JobStatus {
    /// Bytes of a message for people: one that names utterances may be long.
    const MAX_MESSAGE_BYTES: usize = 16 << 10;
    let progress = view.progress.unwrap_or_default();
    let error = view.entry.error.unwrap_or_default();
    let mut status = v1::JobStatus {
        id: view.id,
        name: view.entry.name,
        state: state(view.entry.state).into(),
        step: progress.step,
        steps: progress.steps,
        epoch: progress.epoch,
        epochs: progress.epochs,
        loss: progress.loss,
        error: pieces::bounded(error, MAX_MESSAGE_BYTES),
        submitted_at: timestamp::text(view.entry.submitted_at),
        run_dir: view.run_dir.to_string_lossy().into_owned(),
        workers: view.workers,
        cause: cause(view.entry.cause).into(),
        faults: view.faults.into_iter().collect(),
        times: progress.times.by_name().into_iter().collect(),
        waiting_for: view.waiting_for.unwrap_or_default(),
    };
    if let Some(figures) = figures {
        status.step = figures.steps;
        status.steps = figures.total_steps;
        status.epoch = figures.epochs;
        status.epochs = figures.total_epochs;
        status.loss = figures.loss;
        status.faults = figures.faults.into_iter().collect();
        status.times = figures.times.by_name().into_iter().collect();
    }
    status
}

const fn state(state: JobState) -> v1::State {
    match state {
        JobState::Queued => v1::State::Queued,
        JobState::Running => v1::State::Running,
        JobState::Succeeded => v1::State::Succeeded,
        JobState::Failed => v1::State::Failed,
        JobState::Cancelled => v1::State::Cancelled,
    }
}

const fn cause(cause: Option<Class>) -> v1::Cause {
    match cause {
        None => v1::Cause::Unspecified,
        Some(Class::Training) => v1::Cause::Training,
        Some(Class::Data | Class::Usage) => v1::Cause::Data,
        Some(Class::Infrastructure) => v1::Cause::Infrastructure,
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
