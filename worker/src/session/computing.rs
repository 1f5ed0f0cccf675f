//! The thread that computes: it holds the network, takes one lease after the other and folds the
//! micro-batches of each along the tree. It does not depend on where micro-batches come from and where
//! results go. A lease that nobody waits for any more ends with the micro-batch under way.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use burn::tensor::Device;
use proto::{
    contribution::{Contribution, PassKind, Quarantined, Unusable},
    failpoint::{self, Failpoint},
    session::WorkerSession,
    tree, v1,
};
use speech::features::Features;
use tokio::sync::{mpsc as stream, oneshot};

use super::{
    account::Before,
    error::SessionError,
    job::Job,
    lease::Lease,
    listed,
    load::{Example, Loaded},
    memory,
};
use crate::{
    gradient::{self, GradientError, MicroBatch},
    inference,
    network::{Network, WrongParameters},
    transfer::{PulledWeights, Vector},
};

/// A lease to be computed.
pub(super) struct LeaseTask {
    pub worker: WorkerSession,
    pub job: Arc<Job>,
    pub lease: Lease,
    /// New weights; `None` to go on with those that are held.
    pub weights: Option<PulledWeights>,
    /// The lease's micro-batches, in order.
    pub micro_batches: stream::Receiver<Loaded>,
    /// What went on before it was handed over, for the account of the time.
    pub before: Before,
    /// Told when the last micro-batch begins.
    pub ending: oneshot::Sender<()>,
    pub done: oneshot::Sender<Result<LeaseResult, ComputingError>>,
}

/// What came of a lease.
pub(super) enum LeaseResult {
    /// To be pushed.
    Gradient {
        header: v1::ContributionHeader,
        vector: Vector,
    },
    /// To be reported.
    Evaluation(v1::EvaluationReport),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ComputingError {
    #[error("micro-batch {micro_batch} (utterances {utterances}): {source}")]
    Compute {
        micro_batch: u32,
        utterances: String,
        source: GradientError,
    },
    #[error(
        "utterance `{utterance}` is {seconds:.1} s long: its micro-batch takes {needed} bytes of memory at least, and there \
         are {limit}; leave such utterances out with `corpus.max_seconds`, lower `train.micro_batch`, or give the worker \
         more memory"
    )]
    TooLarge {
        utterance: String,
        seconds: f64,
        needed: u64,
        limit: u64,
    },
    #[error(transparent)]
    Weights(#[from] WrongParameters),
    #[error("the lease's micro-batches did not all come")]
    Incomplete,
}

/// The way to the thread. Dropped, the thread ends with what it is at.
pub(super) struct Computing {
    tasks: mpsc::Sender<LeaseTask>,
}

impl Computing {
    /// `memory` is what there is for computing on this device, in bytes, where that is known.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(device: Device, memory: Option<u64>) -> Result<Self, SessionError> {
        let (tasks, incoming) = mpsc::channel::<LeaseTask>();
        let run = move || {
            let mut held = None;
            let mut idle_since = None;
            for task in incoming {
                let LeaseTask {
                    done,
                    micro_batches,
                    job,
                    before,
                    ending,
                    ..
                } = task;
                let mut spent = before.account(idle_since, Instant::now());
                let placing = Instant::now();
                let network = match network(&mut held, &device, &job, task.weights) {
                    Ok(network) => network,
                    Err(error) => {
                        let _ = done.send(Err(error.into()));
                        continue;
                    }
                };
                spent.pull += placing.elapsed().as_secs_f64();
                let mut work = Work {
                    worker: task.worker,
                    job: &job,
                    lease: &task.lease,
                    network,
                    micro_batches,
                    spent,
                    ending: Some(ending),
                    done: &done,
                    memory,
                };
                let outcome = work.run();
                idle_since = Some(Instant::now());
                // Nobody waits for a lease that was lost on the way.
                let _ = done.send(outcome);
            }
        };
        thread::Builder::new()
            .name("computing".to_owned())
            .spawn(run)
            .map_err(|error| SessionError::Computing {
                reason: format!("no thread can be started: {error}"),
            })?;
        Ok(Self { tasks })
    }

    /// Hands a task over; its `done` closes without an answer when the thread is gone.
    pub(super) fn hand_over(&self, task: LeaseTask) {
        // The task, and with it `done`, is dropped when nobody takes it.
        let _ = self.tasks.send(task);
    }
}

/// The network of `job` with the weights it is to have. A change of job comes with weights.
fn network<'a>(
    held: &'a mut Option<(Arc<Job>, Network)>,
    device: &Device,
    job: &Arc<Job>,
    weights: Option<PulledWeights>,
) -> Result<&'a Network, WrongParameters> {
    if held.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, job)) {
        *held = None;
    }
    let (_, network) =
        held.get_or_insert_with(|| (Arc::clone(job), Network::new(&job.spec, device)));
    if let Some(weights) = weights {
        network.load(&weights)?;
    }
    Ok(network)
}

struct Work<'a> {
    worker: WorkerSession,
    job: &'a Job,
    lease: &'a Lease,
    network: &'a Network,
    micro_batches: stream::Receiver<Loaded>,
    spent: v1::Spent,
    ending: Option<oneshot::Sender<()>>,
    /// Bytes of it, where that is known.
    memory: Option<u64>,
    done: &'a oneshot::Sender<Result<LeaseResult, ComputingError>>,
}

impl Work<'_> {
    fn run(&mut self) -> Result<LeaseResult, ComputingError> {
        match self.lease.key.kind {
            PassKind::Gradient => self.gradient(),
            PassKind::Evaluation => self.evaluation(),
        }
    }

    fn next(&mut self) -> Result<Loaded, ComputingError> {
        if self.done.is_closed() {
            return Err(ComputingError::Incomplete);
        }
        let began = Instant::now();
        let loaded = self.micro_batches.blocking_recv();
        self.spent.features += began.elapsed().as_secs_f64();
        let loaded = loaded.ok_or(ComputingError::Incomplete)?;
        if loaded.index + 1 == self.lease.end() {
            // Whoever would hear it may be gone.
            let _ = self.ending.take().map(|ending| ending.send(()));
        }
        self.check_memory(&loaded)?;
        Ok(loaded)
    }

    /// Refuses a micro-batch that cannot fit, while it can still be said which.
    fn check_memory(&self, loaded: &Loaded) -> Result<(), ComputingError> {
        let Some(limit) = self.memory else {
            return Ok(());
        };
        let frames = loaded.examples.iter().map(|one| one.features().frames);
        let frames: Vec<usize> = frames.collect();
        let kind = self.lease.key.kind;
        memory::check(self.network.spec(), kind, &frames, limit).map_err(|too_large| {
            let longest = &loaded.examples[too_large.longest];
            ComputingError::TooLarge {
                utterance: longest.utterance.id.clone(),
                seconds: longest.seconds,
                needed: too_large.needed,
                limit,
            }
        })
    }

    fn gradient(&mut self) -> Result<LeaseResult, ComputingError> {
        let (node, end) = (self.lease.key.node, self.lease.end());
        let mut leaf = |_| {
            let loaded = self.next()?;
            let started = Instant::now();
            let contribution = self.contribution(&loaded)?;
            self.spent.compute += started.elapsed().as_secs_f64();
            failpoint::reach(Failpoint::WorkerCompute);
            Ok::<_, ComputingError>(Some(contribution))
        };
        let mut sum = tree::fold(node, end, &mut leaf, &mut Contribution::merge)?
            .ok_or(ComputingError::Incomplete)?;
        let key = self.lease.key.clone();
        let vector = Vector::new(sum.sum.take().unwrap_or_default(), sum.wire);
        let elements = vector.values.len();
        let header =
            v1::ContributionHeader::unsealed(&self.worker, key, &sum, elements, self.spent);
        Ok(LeaseResult::Gradient { header, vector })
    }

    /// What one micro-batch adds. What is left out of it has a name, and weighs nothing.
    fn contribution(&self, loaded: &Loaded) -> Result<Contribution, ComputingError> {
        let examples = &loaded.examples;
        let micro_batch = MicroBatch {
            features: features(examples),
            targets: examples.iter().map(targets).collect(),
            step: self.lease.key.step,
            index: loaded.index,
        };
        let recipe = &self.job.recipe;
        let mut result =
            gradient::gradient(self.network, &micro_batch, recipe.objective(), recipe.seed)
                .map_err(|source| failed(loaded, source))?;
        let id = |position: &usize| examples[*position].utterance.id.clone();
        let leave_out = |positions: &[usize], reason: String| Quarantined {
            micro_batch: loaded.index,
            utterances: positions.iter().map(id).collect(),
            reason,
        };
        let all: Vec<usize> = (0..examples.len()).collect();
        let mut quarantined = Vec::new();
        // The plan has none that is too short by its file's header: what was decoded is shorter.
        let mut unusable = loaded.unusable.clone();
        unusable.extend(result.left_out.iter().map(|&position| {
            let Example { utterance, .. } = &examples[position];
            let frames = examples[position].features().frames;
            Unusable {
                utterance: utterance.index,
                reason: format!(
                    "{}: what was decoded gives {frames} frames, too few for the transcript",
                    utterance.audio.path.display()
                ),
            }
        }));
        if result.gradient.is_none() {
            let culprits: Vec<String> = result.not_finite.iter().map(id).collect();
            let reason = match culprits.as_slice() {
                [] => "the gradient is not finite".to_owned(),
                ids => format!("the loss of {} is not finite", listed(ids)),
            };
            quarantined.push(leave_out(&all, reason));
        }
        let bound = self.lease.norm_bound;
        let norm = bound.and_then(|_| result.norm());
        let most = bound.and_then(|bound| bound.most);
        if let (Some(norm), Some(most)) = (norm, most)
            && norm > most
        {
            let reason =
                format!("its gradient's norm is {norm:.4e}, beyond the bound of {most:.4e}");
            quarantined.push(leave_out(&all, reason));
            result.discard();
        }
        let counts =
            |position: &usize| result.gradient.is_some() && !result.left_out.contains(position);
        let kept: Vec<&Example> = (0..examples.len())
            .filter(counts)
            .map(|position| &examples[position])
            .collect();
        // Nothing learned from is skipped, not added as zeros.
        let mut sum = result.gradient.filter(|_| !kept.is_empty());
        if let Some(sum) = &mut sum {
            self.job.wire.round(sum);
        }
        // A number that only just fits into 32 bits becomes infinite in 16, and the coordinator takes none that is.
        if sum.iter().flatten().any(|value| !value.is_finite()) {
            let reason = "the gradient is not finite once it is rounded to bfloat16".to_owned();
            quarantined.push(leave_out(&all, reason));
            return Ok(Contribution {
                wire: self.job.wire,
                quarantined,
                unusable,
                norms: norm.into_iter().collect(),
                ..Contribution::default()
            });
        }
        Ok(Contribution {
            sum,
            wire: self.job.wire,
            weight: result.weight,
            loss: result.loss,
            utterances: u64::from(result.utterances),
            frames: kept.iter().map(|one| one.features().frames as u64).sum(),
            audio_seconds: kept.iter().map(|one| one.seconds).sum(),
            quarantined,
            unusable,
            norms: norm.into_iter().collect(),
        })
    }

    fn evaluation(&mut self) -> Result<LeaseResult, ComputingError> {
        let mut results = Vec::new();
        for _ in &self.lease.micro_batches {
            let loaded = self.next()?;
            let heard = inference::recognise(
                self.network,
                &self.job.recipe.vocabulary,
                &features(&loaded.examples),
            );
            let heard = heard.map_err(|source| failed(&loaded, source.into()))?;
            let labels: Vec<Option<&[u32]>> = loaded
                .examples
                .iter()
                .map(|one| one.labels.as_deref())
                .collect();
            let losses = inference::losses(self.network.spec(), &heard, &labels);
            let of_each = loaded.examples.iter().zip(heard).zip(losses);
            results.extend(of_each.map(|((example, heard), loss)| v1::UtteranceResult {
                index: example.utterance.index,
                hypothesis: heard.text,
                loss,
                unusable: None,
            }));
            let unusable = loaded.unusable.into_iter();
            results.extend(unusable.map(|one| v1::UtteranceResult {
                index: one.utterance,
                unusable: Some(one.reason),
                ..v1::UtteranceResult::default()
            }));
        }
        Ok(LeaseResult::Evaluation(v1::EvaluationReport {
            worker: self.worker.worker,
            session: self.worker.secret.clone(),
            key: Some(self.lease.key.clone().into()),
            results,
        }))
    }
}

fn features(examples: &[Example]) -> Vec<&Features> {
    examples.iter().map(Example::features).collect()
}

/// The labels of an utterance that is trained on, which always has them.
fn targets(example: &Example) -> &[u32] {
    example.labels.as_deref().unwrap_or_default()
}

fn failed(loaded: &Loaded, source: GradientError) -> ComputingError {
    // One utterance is to blame where memory cannot be had.
    let longest = match source {
        GradientError::Memory { position, .. } => loaded.examples.get(position),
        _ => None,
    };
    if let Some(longest) = longest {
        let Example {
            utterance, seconds, ..
        } = longest;
        return ComputingError::Compute {
            micro_batch: loaded.index,
            utterances: format!("`{}`, {seconds:.1} s long", utterance.id),
            source,
        };
    }
    let ids: Vec<&str> = loaded
        .examples
        .iter()
        .map(|one| one.utterance.id.as_str())
        .collect();
    ComputingError::Compute {
        micro_batch: loaded.index,
        utterances: listed(&ids),
        source,
    }
}
