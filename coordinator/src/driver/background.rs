//! What takes long and is done on threads of its own: a run's preparation, the update, the score, a
//! checkpoint, the final model. It decides nothing: the driver says when, and hears what came of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use proto::buffer_pool::BufferPool;
use proto::contribution::{Contribution, Unusable};
use speech::{
    corpus_roots::CorpusRoots,
    decode::DecoderBundle,
    model::Head,
    score::{self, Score},
};
use tokio::sync::watch;

use super::{
    error::RunError,
    lineage::{self, Changed, Lineage},
    pass::Reduced,
    results::Hypothesis,
    training::{CheckpointState, RunState, Training},
};
use crate::{
    broadcast::{Encoded, WeightPublisher, WeightWriter},
    checkpoint::{self, Checkpoint, CheckpointError},
    corpus::{self, CorpusError, Item, Prepared},
    durable,
    job::Job,
    job_memory,
    plan::Plan,
    records::{
        events::{Journal, Offsets, Published, history},
        report::Report,
    },
    run::{RunMemory, Start},
    store::{self, StoreError},
    trainer::{
        Counts, StepOutcome, Trainer, TrainerConfig, checkpoint_average::HeldWeights,
        reduce::ReduceError,
    },
};

/// What came of some work.
#[derive(Debug)]
pub(super) enum WorkDone {
    Begun(Result<Box<PreparedRun>, RunError>),
    Reduced(Result<Reduced, ReduceError>),
    Updated(Result<Box<UpdateDone>, RunError>),
    Scored(Box<ScoreDone>),
    Checkpointed(Box<Checkpointed>),
    Finished(Result<String, RunError>),
    /// How long it took.
    Drawn(Duration),
}

/// What a run needs to begin.
#[derive(Debug)]
pub(super) struct RunPreparation {
    pub job: Job,
    pub run_dir: PathBuf,
    /// Where the job's files may lie.
    pub roots: CorpusRoots,
    pub synthetic_dir: PathBuf,
    /// Where facts about corpora are kept.
    pub cache_dir: Option<PathBuf>,
    /// See [`crate::store::JobEntry::permissions`].
    pub permissions: u64,
    /// How long a pass may come to nothing because its leases are returned.
    pub returns: Duration,
    pub abandoned: Arc<AtomicBool>,
    pub feed: watch::Sender<Published>,
}

/// A run that can go on.
#[derive(Debug)]
pub(super) struct PreparedRun {
    pub training: Training,
    pub start: Start,
    pub journal: Journal,
    /// What lies behind that in the files of lines is new, or was moved.
    pub opened: Offsets,
    pub encoded: Encoded,
    /// The checkpoint that it goes on from.
    pub resumed_from: Option<String>,
    /// What it does differently from there on.
    pub changed: Option<Changed>,
    /// Checkpoints that cannot be used, and why.
    pub damaged: Vec<String>,
}

/// Prepares the corpus and takes up the newest good checkpoint, if there is one. A changed job is the
/// run's own once it has been compared with the checkpoint; one that does not go with it is dropped.
pub(super) fn begin(beginning: RunPreparation) -> Result<PreparedRun, RunError> {
    let run_dir = beginning.run_dir.clone();
    let begun = take_up(beginning);
    if begun.as_ref().is_err_and(RunError::is_about_the_checkpoint) {
        store::dismiss(&run_dir)?;
    }
    begun
}

fn take_up(beginning: RunPreparation) -> Result<PreparedRun, RunError> {
    let RunPreparation {
        job,
        run_dir,
        roots,
        synthetic_dir,
        cache_dir,
        permissions,
        returns,
        abandoned,
        feed,
    } = beginning;
    let prepared = corpus::prepare(
        &job,
        &roots,
        &synthetic_dir,
        cache_dir.as_deref(),
        &abandoned,
    )?;
    job_memory::check(&job, prepared.spec.elements() as u64)?;
    let lengths = |items: &[Item]| items.iter().map(|item| item.frames).collect::<Vec<u64>>();
    let train = &job.train;
    let plan = Plan::new(
        lengths(&prepared.train),
        train.batching(),
        train.seed,
        u64::from(train.epochs),
    )?;
    let plan = plan.ascending(train.ascending_epochs.into());
    let config = TrainerConfig {
        optimizer: job.optimizer,
        clip: job.clip.clone(),
        schedule: job.schedule,
        total_steps: plan.total_steps(),
        ema: train.ema,
    };
    let latest = checkpoint::latest::<CheckpointState>(&checkpoints(&run_dir), &prepared.spec)?;
    let mut damaged = set_aside(&latest.damaged)?;
    if latest.found.is_none() && !damaged.is_empty() {
        damaged.push("no whole checkpoint is left: the run begins at step 0 again".to_owned());
    }
    let mut changed = None;
    let (trainer, remembered, held, resumed_from) = match latest.found {
        Some((path, checkpoint)) => {
            let Checkpoint {
                trainer,
                held,
                mut progress,
            } = checkpoint;
            let step = trainer.counts.step;
            let policy = &progress.run.policy;
            let whole = policy.held.len() == held.len();
            if progress.run_state.corpus != prepared.digest || !whole {
                return Err(RunError::Changed { step });
            }
            let drops = policy.drops();
            let lineage = &mut progress.run_state.lineage;
            changed = lineage.go_on(&job, &prepared, step, permissions)?;
            let (epochs, total) = (train.epochs, plan.total_steps());
            if step > total {
                return Err(RunError::TooFewEpochs {
                    step,
                    epochs,
                    total,
                });
            }
            let mut trainer = Trainer::restore(&prepared.spec, config, trainer)?;
            trainer.set_drops(drops);
            (trainer, progress, held, Some(name(&path)))
        }
        None => {
            let initial = lineage::read_initial(&job, &prepared)?;
            let run_state = RunState {
                corpus: prepared.digest.clone(),
                lineage: Lineage::begin(&job, permissions, initial.as_ref())?,
                ..RunState::default()
            };
            let weights = initial.map(|(weights, _)| weights);
            let weights = weights.unwrap_or_else(|| prepared.spec.initialize(train.seed));
            let trainer = Trainer::new(&prepared.spec, config, weights);
            let run = RunMemory::default();
            (
                trainer,
                CheckpointState { run, run_state },
                HeldWeights::new(),
                None,
            )
        }
    };
    let encoded = Encoded::new(trainer.weights(), train.wire);
    // Who takes this run up next opens its files.
    if abandoned.load(Ordering::Relaxed) {
        return Err(CorpusError::Abandoned.into());
    }
    store::settle(&run_dir)?;
    let CheckpointState {
        run: memory,
        mut run_state,
    } = remembered;
    let opened = run_state.offsets;
    let kept = history::keep(&run_dir, opened.events)?;
    run_state.offsets.events = kept.length;
    run_state.recall(&kept, Report::earlier(&run_dir).as_ref());
    let journal = Journal::open(&run_dir, run_state.offsets, feed)?;
    let elements = trainer.weights().len();
    let chosen = run_state.chosen.is_some();
    let training = Training::new(
        Arc::new(job),
        Arc::new(prepared),
        plan,
        trainer,
        (run_state, held),
    );
    let start = Start {
        spec: training.spec(returns),
        memory,
        step: training.counts.step,
        elements,
        chosen,
    };
    Ok(PreparedRun {
        training,
        start,
        journal,
        opened,
        encoded,
        resumed_from,
        changed,
        damaged,
    })
}

/// Puts damaged checkpoints out of the way; gives what is to be told of each.
fn set_aside(damaged: &[CheckpointError]) -> Result<Vec<String>, CheckpointError> {
    let mut told = Vec::new();
    for error in damaged {
        if let CheckpointError::Damaged { path, .. } = error {
            let aside = checkpoint::set_aside(path)?;
            told.push(format!("{error}; it is kept as {}", name(&aside)));
        }
    }
    Ok(told)
}

fn checkpoints(run_dir: &Path) -> PathBuf {
    run_dir.join("checkpoints")
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A step that was made.
#[derive(Debug)]
pub(super) struct UpdateDone {
    pub trainer: Trainer,
    /// Absent where the weights are still those of the step before.
    pub encoded: Option<Encoded>,
    pub outcome: StepOutcome,
    pub counts: Counts,
    /// The whole pass's sum, without its vector.
    pub sum: Contribution,
    pub update_s: f64,
}

/// Moves the weights and encodes them for broadcast, as far as can be while they are moved.
pub(super) fn update(
    mut trainer: Trainer,
    mut sum: Contribution,
    publisher: &WeightPublisher,
    buffers: &BufferPool,
) -> Result<UpdateDone, RunError> {
    let began = Instant::now();
    let writer = publisher.writer(trainer.weights().len());
    let outcome = match &writer {
        Some(writer) => trainer.apply_to(&mut sum, &|place, run| writer.write(place, run))?,
        None => trainer.apply_to(&mut sum, &|_, _| {})?,
    };
    let encoded = match outcome {
        StepOutcome::Applied(_) => {
            let encoded = writer.and_then(WeightWriter::finish);
            Some(encoded.unwrap_or_else(|| Encoded::new(trainer.weights(), publisher.wire())))
        }
        StepOutcome::Skipped(_) => None,
    };
    if let Some(vector) = sum.sum.take() {
        buffers.give(vector);
    }
    let update_s = began.elapsed().as_secs_f64();
    Ok(UpdateDone {
        encoded,
        counts: trainer.counts(),
        trainer,
        outcome,
        sum,
        update_s,
    })
}

/// The score over the whole validation set.
#[derive(Debug)]
pub(super) struct ScoreDone {
    pub score: Score,
    /// Mean over the utterances that have one.
    pub loss: Option<f64>,
    /// Utterances that could not be decoded, which the score leaves out.
    pub unusable: Vec<Unusable>,
}

/// Scores the utterances of the validation set that could be decoded; one without a result counts as not
/// recognised.
pub(super) fn score(prepared: &Prepared, results: &BTreeMap<u32, Hypothesis>) -> ScoreDone {
    let pairs: Vec<(&str, &str)> = (0..)
        .zip(&prepared.valid)
        .filter_map(|(index, item)| {
            let result = results.get(&index);
            let hypothesis = match result {
                Some(result) if result.unusable.is_some() => return None,
                Some(result) => result.text.as_str(),
                None => "",
            };
            Some((item.text.as_str(), hypothesis))
        })
        .collect();
    let unusable = results.values().filter_map(|result| {
        let reason = result.unusable.clone()?;
        Some(Unusable {
            utterance: result.index,
            reason,
        })
    });
    let losses: Vec<f64> = results.values().filter_map(|result| result.loss).collect();
    let loss = (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
    let score = match prepared.recipe.model.head {
        Head::Keyword => score::keyword(&pairs, &prepared.recipe.vocabulary.units),
        Head::Ctc => score::transcripts(&pairs),
    };
    ScoreDone {
        score,
        loss,
        unusable: unusable.collect(),
    }
}

/// A checkpoint that was written, or could not be.
#[derive(Debug)]
pub(super) struct Checkpointed {
    pub trainer: Trainer,
    pub step: u64,
    pub result: Result<String, RunError>,
}

/// Writes a checkpoint, once `ready` has made sure that it may, and that what it says of the run's
/// lines is durable.
pub(super) fn save(
    run_dir: &Path,
    trainer: Trainer,
    prepared: &Prepared,
    (remembered, held): (&CheckpointState, &HeldWeights),
    keep: usize,
    ready: impl FnOnce() -> Result<(), RunError>,
) -> Checkpointed {
    let step = trainer.counts().step;
    let dir = checkpoints(run_dir);
    let write = || {
        ready()?;
        let path = checkpoint::save(&dir, &prepared.spec, &trainer.state(), held, remembered)?;
        checkpoint::prune(&dir, keep, step)?;
        Ok(name(&path))
    };
    Checkpointed {
        result: write(),
        step,
        trainer,
    }
}

/// Writes `final/`: the model and what is needed to use it. Gives the weights' SHA-256.
pub(super) fn finish(
    run_dir: &Path,
    weights: &[f32],
    prepared: &Prepared,
) -> Result<String, RunError> {
    let dir = run_dir.join("final");
    std::fs::create_dir_all(&dir).map_err(|source| StoreError::Io {
        path: dir.clone(),
        source,
    })?;
    let put = |name: &str, bytes: &[u8]| {
        durable::replace(&dir.join(name), bytes).map_err(StoreError::from)
    };
    put("recipe.json", prepared.recipe.to_json().as_bytes())?;
    checkpoint::save_model(&dir.join("model.safetensors"), &prepared.spec, weights)?;
    for (name, bytes) in prepared.decoding.iter().flat_map(DecoderBundle::files) {
        put(name, &bytes)?;
    }
    Ok(checkpoint::weights_sha256(weights))
}
