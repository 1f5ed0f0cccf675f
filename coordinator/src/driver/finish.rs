//! How a run ends: its last event, its report, its state, and the word to those who follow. It
//! decides the order, so that whoever hears of the end finds everything written.

use std::{collections::BTreeMap, time::Duration};

use proto::PROGRAM_VERSION;

use speech::error_class::{Class, Classify as _};

use super::{ActiveRun, Driver, StartedRun, Stop, error::RunError, training::Training};
use crate::{
    compute_class::ComputeClassPolicy,
    leases::{Counters, Input},
    records::{
        events::{Event, Journal, Set, published},
        report::{Chosen, LeftOutOf, Report},
    },
    run::{End, Failure},
    select::Measure,
    store::{JobState, StoreError},
};

#[derive(Debug)]
pub(super) enum Ending {
    Succeeded {
        weights_sha256: String,
    },
    Failed {
        error: RunError,
        /// What is said of it to whoever submitted the job.
        told: String,
    },
    Cancelled,
}

impl Ending {
    const fn state(&self) -> JobState {
        match self {
            Self::Succeeded { .. } => JobState::Succeeded,
            Self::Failed { .. } => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
    }

    /// Why it failed, and what that calls for.
    fn error(&self) -> Option<(String, Class)> {
        match self {
            Self::Failed { error, told } => Some((told.clone(), error.class())),
            Self::Succeeded { .. } | Self::Cancelled => None,
        }
    }

    fn event(&self) -> Event {
        match self {
            Self::Succeeded { weights_sha256 } => Event::Succeeded {
                weights_sha256: weights_sha256.clone(),
            },
            Self::Failed { error, told } => Event::Failed {
                error: told.clone(),
                cause: error.class(),
            },
            Self::Cancelled => Event::Cancelled,
        }
    }
}

impl ActiveRun {
    /// The epochs whose weights are held, counted from 1.
    pub(super) fn held_epochs(&self) -> Vec<u64> {
        let memory = self.core.memory();
        let marks = memory.map_or(&[][..], |memory| &memory.policy.held);
        marks.iter().map(|mark| mark.epoch).collect()
    }

    /// What it means that the run has failed.
    fn error(&mut self, failure: Failure) -> RunError {
        let job = self.active.as_ref().map(|active| &active.training.job);
        let by = job.map_or(Measure::Score, |job| job.select.by);
        let field = job.and_then(|job| job.needs_scores()).unwrap_or_default();
        let missing = || RunError::Broken(format!("there is no reason for {failure:?}"));
        match failure {
            Failure::Reported => self.error.take().unwrap_or_else(missing),
            Failure::GivenUp => self.given_up.take().unwrap_or_else(missing),
            Failure::TooManyLeftOut { count, limit } => match self.last.left_out.take() {
                None => missing(),
                Some(last) => RunError::TooManyQuarantined {
                    count,
                    limit,
                    utterances: last.utterances.join(", "),
                    reason: last.reason,
                },
            },
            Failure::Diverged { count, limit } => match self.last.skipped.take() {
                None => missing(),
                Some(reason) => RunError::Diverges {
                    count,
                    limit,
                    reason,
                },
            },
            Failure::NoFigure => RunError::NoFigure { field, by },
            Failure::NeverFinite => RunError::NeverFinite { field, by },
            Failure::Returned { times, within } => match self.last.returned.take() {
                None => missing(),
                Some(last) => RunError::Returned {
                    worker: last.worker.0,
                    name: last.name,
                    step: last.step,
                    times,
                    within: Duration::from_millis(within),
                    reason: last.reason,
                },
            },
        }
    }
}

impl Driver {
    /// What the running job comes to.
    pub(super) fn ending(&mut self, end: End) -> Ending {
        let Some(run) = &mut self.run else {
            return Ending::Cancelled;
        };
        let failed = |error: RunError| Ending::Failed {
            told: error.told(&self.roots),
            error,
        };
        match end {
            End::Cancelled | End::Requeued => Ending::Cancelled,
            End::Failed(failure) => failed(run.error(failure)),
            End::Succeeded => match run.weights_sha256.take() {
                Some(weights_sha256) => Ending::Succeeded { weights_sha256 },
                None => failed(RunError::Broken("there is no final model".to_owned())),
            },
        }
    }

    /// Ends the running job.
    pub(super) async fn end(&mut self, ending: Ending) {
        self.tell(Input::PassClosed);
        let counters = *self.scheduler.counters();
        let Some(mut run) = self.run.take() else {
            return;
        };
        self.withdraw();
        match &ending {
            Ending::Failed { error, .. } => tracing::error!(job = run.id, "failed: {error}"),
            _ => tracing::info!(job = run.id, state = ?ending.state(), "ended"),
        }
        let report = report(&run, &ending, &counters);
        let feed = self.feeds.get(&run.id).cloned();
        let (id, dir, draw) = (run.id.clone(), run.dir.clone(), run.last_drawing());
        let (state, error, event) = (ending.state(), ending.error(), ending.event());
        self.observe_end(state, error.as_ref().map(|(_, cause)| *cause));
        let (step, active) = (report.steps, run.active.take());
        let written = self.write(move |store| {
            // A run that failed before it began has no journal yet.
            let journal = match (active, feed) {
                (Some(StartedRun { journal, .. }), _) => Some(journal),
                (None, Some(feed)) => {
                    let whole = published(&dir, false).offsets;
                    Journal::open(&dir, whole, feed).ok()
                }
                (None, None) => None,
            };
            let last = journal.and_then(|mut journal| match journal.event(step, event) {
                Ok(_) => Some(journal),
                Err(error) => {
                    tracing::error!("the last event is not written: {error}");
                    None
                }
            });
            draw();
            // On a full disk the job has ended all the same, though not well without its report.
            let reported = report.write(&dir);
            let (state, error) = match &reported {
                Err(lost) if state == JobState::Succeeded => (
                    JobState::Failed,
                    Some((lost.to_string(), Class::Infrastructure)),
                ),
                _ => (state, error),
            };
            let stated = store.set_state(&id, state, error);
            match reported.and(stated) {
                Err(fenced @ StoreError::Fenced { .. }) => return Err(fenced),
                Err(error) => tracing::error!(job = id, "the end is not written down: {error}"),
                Ok(()) => {}
            }
            Ok(last)
        });
        if let Ok(Some(mut journal)) = written.await {
            journal.end();
        }
        if let Some(feed) = self.feeds.get(&run.id) {
            feed.send_modify(|published| published.ended = true);
        }
        let view = self.view(&run.id);
        for reply in run.gave_up.drain(..) {
            let _ = reply.send(());
        }
        for reply in run.cancel.drain(..) {
            let _ = reply.send(
                view.clone()
                    .ok_or_else(|| super::Refused::UnknownJob(run.id.clone())),
            );
        }
    }

    /// Leaves the run as its checkpoint has it, and the job in the queue: nobody computes it now.
    pub(super) async fn put_away(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.withdraw();
        let id = run.id;
        let written = self.write({
            let id = id.clone();
            move |store| store.set_state(&id, JobState::Queued, None)
        });
        if let Err(error) = written.await {
            // The next start takes a job that runs, as it is written down, for one that is queued.
            tracing::warn!(job = id, "its state is not written down: {error}");
        }
    }

    /// Lets go of what workers were given to work on.
    fn withdraw(&mut self) {
        self.recheck_eligibility = true;
        self.active_job.send_replace(None);
        self.weights.send_replace(None);
        self.registry.close_lanes();
        self.buffers.clear();
    }

    /// Tells those who wait for the last goodbye that it was said.
    pub(super) fn part(&mut self) {
        if self.registry.is_dismissed() {
            for reply in self.farewells.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    /// Everything that can be taken up again is written down.
    pub(super) fn stopped(&mut self) {
        // Followers end with their feeds.
        self.feeds.clear();
        if let Stop::Asked(replies) = std::mem::replace(&mut self.stop, Stop::Done) {
            for reply in replies {
                let _ = reply.send(());
            }
        }
    }
}

fn report(run: &ActiveRun, ending: &Ending, counters: &Counters) -> Report {
    let error = ending.error();
    let weights_sha256 = match ending {
        Ending::Succeeded { weights_sha256 } => Some(weights_sha256.clone()),
        Ending::Failed { .. } | Ending::Cancelled => None,
    };
    let training = run.active.as_ref().map(|active| &active.training);
    let mut report = Report {
        id: run.id.clone(),
        name: run.name.clone(),
        status: ending.state(),
        cause: error.as_ref().map(|(_, cause)| *cause),
        error: error.map(|(error, _)| error),
        weights_sha256,
        program_version: PROGRAM_VERSION.to_owned(),
        ..Report::default()
    };
    add_faults(&mut report.faults, &run.before, counters);
    if let Some(training) = training {
        fill(&mut report, training);
        report.epochs = match training.counts.step {
            0 => 0,
            _ => run.core.epoch(),
        };
        let metrics = training.run_state.chosen.clone();
        report.chosen = metrics.map(|metrics| Chosen {
            epochs: run.held_epochs(),
            metrics,
        });
        report.quarantined = run.core.memory().map_or(0, |memory| memory.left_out);
    }
    report
}

fn fill(report: &mut Report, training: &Training) {
    let Training {
        job,
        prepared,
        counts,
        run_state,
        ..
    } = training;
    for (kind, count) in &run_state.faults {
        *report.faults.entry(kind.clone()).or_default() += count;
    }
    report.steps = counts.step;
    report.applied_steps = counts.applied_steps;
    report.total_steps = training.plan.total_steps();
    report.total_epochs = job.train.epochs;
    report.compute_class.clone_from(&run_state.compute_class);
    report.bit_identity = true;
    if job.compute_class == ComputeClassPolicy::Any {
        report.withdraw_promise("`compute_class = \"any\"` admits mixed hardware".to_owned());
    }
    if let Some(reason) = run_state.lineage.broken_promise() {
        report.withdraw_promise(reason);
    }
    report.amendments.clone_from(&run_state.lineage.amendments);
    report.init_sha256.clone_from(&run_state.lineage.init);
    report.synthetic = prepared.synthetic;
    report.metrics.clone_from(&run_state.metrics);
    report.best.clone_from(&run_state.best);
    report.loss = run_state.loss;
    report.clipped_share = training.clipped_share();
    report.clamped_share = training.clamped_share();
    let left_out = |set| run_state.undecodable.left_out(set, prepared);
    report.left_out = LeftOutOf {
        train: left_out(Set::Train),
        valid: left_out(Set::Valid),
    };
    report.unknown_text.clone_from(&prepared.unknown);
    report.workers = run_state.workers.len() as u64;
    report.lives = run_state.lives;
    report.seconds = run_state.seconds;
    report.times = run_state.times;
    report.audio_hours = run_state.audio_seconds / 3600.0;
    report.parameters = prepared.spec.elements();
    report.train_utterances = prepared.train.len();
    report.valid_utterances = prepared.valid.len();
}

/// Adds what happened between two readings of the lease scheduler's counters.
pub(super) fn add_faults(faults: &mut BTreeMap<String, u64>, before: &Counters, now: &Counters) {
    for ((kind, before), (_, now)) in before.faults().into_iter().zip(now.faults()) {
        *faults.entry(kind.to_owned()).or_default() += now - before;
    }
}
