//! The life of a run: begun, pass after pass, to its final model. Each function begins one thing or
//! takes up what came of it; which one is due is [`crate::run`]'s to decide.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicBool},
};

use proto::{
    contribution::{Contribution, Key, PassKind},
    pieces::PART_BYTES,
};
use speech::escape::escape_within;

use super::{
    ADD_INLINE_ELEMENTS, ActiveRun, Driver, HandedIn, LastCauses, MAX_REASON_CHARS, StartedRun,
    active_job::ActiveJob,
    background::{self, PreparedRun, RunPreparation, UpdateDone, WorkDone},
    command::PublishedWeights,
    drawing::Drawing,
    error::RunError,
    pass::{PassData, Reduced},
};
use crate::{
    broadcast::WeightPublisher,
    leases::{Input, PassId, WorkerId},
    plan,
    records::{
        events::{Event, Set, StepMetrics},
        times::Times,
    },
    run::{self, OpenPass, Purpose, UpdateOutcome},
    store::{JobState, StoreError},
    trainer::StepOutcome,
};

impl Driver {
    /// Takes the next job from the queue; false when there is none.
    pub(super) async fn begin_next(&mut self) -> bool {
        let Some(id) = self.next_in_turn() else {
            return false;
        };
        self.set_aside.begin(&id);
        let dir = self.store().run_dir(&id);
        let synthetic_dir = self.store().synthetic_dir();
        let permissions = self.store().jobs()[&id].permissions;
        self.runs += 1;
        let abandoned = Arc::new(AtomicBool::new(false));
        let taken = id.clone();
        let job = self
            .write(move |store| {
                store.set_state(&taken, JobState::Running, None)?;
                store.job(&taken)
            })
            .await;
        let mut run = ActiveRun {
            number: self.runs,
            name: self.store().jobs()[&id].name.clone(),
            id: id.clone(),
            dir: dir.clone(),
            abandoned: Arc::clone(&abandoned),
            clock: self.clock,
            core: run::Run::default(),
            actions: VecDeque::new(),
            active: None,
            cancel: Vec::new(),
            error: None,
            given_up: None,
            last: LastCauses::default(),
            gave_up: Vec::new(),
            unaudited_told: false,
            before: *self.scheduler.counters(),
            weights_sha256: None,
            drawing: Drawing::default(),
        };
        match (job, self.feeds.get(&id)) {
            (Ok(job), Some(feed)) => {
                tracing::info!(job = id, "preparing");
                let beginning = RunPreparation {
                    job,
                    run_dir: dir,
                    roots: self.roots.clone(),
                    synthetic_dir,
                    cache_dir: self.cache_dir.clone(),
                    permissions,
                    returns: self.terms.returns,
                    abandoned,
                    feed: feed.clone(),
                };
                self.spawn(move || WorkDone::Begun(background::begin(beginning).map(Box::new)));
            }
            (Err(error), _) => run.fail(error.into()),
            (Ok(_), None) => run.fail(RunError::Broken("the job has no feed".to_owned())),
        }
        self.run = Some(run);
        true
    }

    /// Writes down that the running job is prepared.
    pub(super) async fn write_prepared(&mut self) {
        let Some(id) = self.run.as_ref().map(|run| run.id.clone()) else {
            return;
        };
        let prepared = id.clone();
        let written = self.write(move |store| store.set_prepared(&prepared)).await;
        if let Err(error) = written {
            // It goes on: what follows will say what is wrong with the disk.
            tracing::warn!(job = id, "that it is prepared is not written down: {error}");
        }
    }

    /// Takes up what another thread did for this run.
    pub(super) fn take_up(&mut self, done: WorkDone) {
        match done {
            WorkDone::Begun(Ok(begun)) => self.begun(*begun),
            WorkDone::Reduced(Ok(reduced)) => self.added(reduced),
            WorkDone::Updated(Ok(updated)) => self.updated(*updated),
            WorkDone::Scored(scored) => self.scored(*scored),
            WorkDone::Checkpointed(checkpointed) => self.checkpointed(*checkpointed),
            WorkDone::Finished(Ok(weights_sha256)) => {
                if let Some(run) = &mut self.run {
                    run.weights_sha256 = Some(weights_sha256);
                    run.advance(run::Input::Finished);
                }
            }
            WorkDone::Drawn(took) => self.drawn(took),
            WorkDone::Begun(Err(error))
            | WorkDone::Updated(Err(error))
            | WorkDone::Finished(Err(error)) => {
                self.fail(error);
            }
            WorkDone::Reduced(Err(error)) => self.fail(error.into()),
        }
    }

    pub(super) fn fail(&mut self, error: RunError) {
        if let RunError::Store(fenced @ StoreError::Fenced { .. }) = error {
            self.fenced = Some(fenced);
            return;
        }
        if let Some(run) = &mut self.run {
            run.fail(error);
        }
    }

    fn begun(&mut self, begun: PreparedRun) {
        let PreparedRun {
            mut training,
            start,
            journal,
            opened,
            encoded,
            resumed_from,
            changed,
            damaged,
        } = begun;
        let generation = self.generation();
        let Some(run) = &mut self.run else { return };
        training.run_state.lives += 1;
        let prepared = Arc::clone(&training.prepared);
        let (step, steps) = (training.counts.step, training.plan.total_steps());
        tracing::info!(job = run.id, step, steps, "running");
        let active_job = ActiveJob::new(
            run.id.clone(),
            training.job.train.wire,
            Arc::clone(&prepared),
        );
        self.weights.send_replace(Some(PublishedWeights {
            job: run.id.clone(),
            generation,
            version: step,
            encoded: Arc::new(encoded),
            averaged: None,
            publisher: Arc::new(WeightPublisher::new(training.job.train.wire)),
        }));
        self.active_job.send_replace(Some(Arc::new(active_job)));
        let suffix = if prepared.synthetic {
            " (synthetic speech)"
        } else {
            ""
        };
        let title = format!("{}{suffix}", run.name);
        run.drawing = Drawing::begin(&run.dir, title, opened);
        run.active = Some(StartedRun { training, journal });
        self.recheck_eligibility = true;

        let anew = resumed_from.is_none();
        for reason in damaged {
            tracing::warn!("a checkpoint cannot be used: {reason}");
            self.note(Event::CheckpointDamaged { reason });
        }
        self.note(Event::Started {
            generation,
            resumed_from,
        });
        if let Some(changed) = changed {
            self.note(changed.into());
        }
        if anew {
            self.note_left_out(&prepared);
            for message in &prepared.warnings {
                let message = message.clone();
                self.note(Event::Warned { message });
            }
        }
        // Told at every start: whoever follows a run from where it was taken up knows its size.
        let hours = |items: &[crate::corpus::Item]| {
            items.iter().map(|item| item.seconds).sum::<f64>() / 3600.0
        };
        self.note(Event::Prepared {
            train_utterances: prepared.train.len(),
            train_hours: hours(&prepared.train),
            valid_utterances: prepared.valid.len(),
            valid_hours: hours(&prepared.valid),
            parameters: prepared.spec.elements(),
            vocabulary: prepared.recipe.vocabulary.units.len(),
            steps,
            synthetic: prepared.synthetic,
        });
        let present: Vec<Event> = self
            .registry
            .iter()
            .map(|(worker, member)| Event::WorkerJoined {
                worker: worker.0,
                name: member.name.clone(),
                compute_class: member.compute_class.clone(),
            })
            .collect();
        for event in present {
            self.note(event);
        }
        self.advance(run::Input::Begun(Box::new(start)));
    }

    /// Opens a pass over micro-batches of the training or the validation set.
    pub(super) fn open(&mut self, opened: OpenPass) {
        let evaluation = opened.purpose != Purpose::Update;
        let averaged = evaluation && self.offer_averaged(&opened);
        let buffers = self.buffers.clone();
        let Some(run) = &mut self.run else { return };
        let Some(StartedRun { training, .. }) = &mut run.active else {
            return;
        };
        let micro_batches = if evaluation {
            let valid = training.prepared.valid.iter();
            let lengths: Vec<u64> = valid.map(|item| item.frames).collect();
            plan::evaluation(&lengths, training.job.train.batching())
        } else {
            training.micro_batches(opened.version)
        };
        let pass = PassData::new(&opened, micro_batches, averaged, buffers);
        let items = match pass.kind {
            PassKind::Gradient => &training.prepared.train,
            PassKind::Evaluation => &training.prepared.valid,
        };
        let utterances = pass.micro_batches.iter().flatten();
        let frames: u64 = utterances.map(|&place| items[place as usize].frames).sum();
        let voices = &training.prepared.voices;
        let bytes = |place: &u32| items[*place as usize].named_bytes(voices) as u64;
        let bytes = |one: &Vec<u32>| one.iter().map(bytes).sum();
        let sizes: Vec<u64> = pass.micro_batches.iter().map(bytes).collect();
        let opened = Input::PassOpened {
            pass: pass.id(&run.id),
            micro_batches: pass.micro_batches(),
            max_micro_batches: plan::most_leased(&sizes, PART_BYTES as u64),
            cost: frames as f64 / pass.micro_batches.len().max(1) as f64,
            audit_policy: training.job.audit_policy(),
        };
        training.pass = Some(pass);
        self.tell(opened);
    }

    /// What came in for the pass is not to be trusted.
    pub(super) fn restart(&mut self, id: &PassId) {
        tracing::warn!(step = id.step, "the step begins again");
        self.note(Event::StepRestarted);
        if let Some(pass) = self.pass_mut() {
            pass.restart();
        }
        self.advance(run::Input::PassRestarted);
    }

    /// Takes up what the lease scheduler has accepted.
    pub(super) fn accept(&mut self, worker: u64, key: &Key, arrived: HandedIn) {
        self.pin(WorkerId(worker));
        match arrived {
            HandedIn::Contribution(contribution, times) => {
                self.accept_contribution(worker, key, *contribution, &times);
            }
            HandedIn::Results(results) => {
                if let Some(pass) = self.pass_mut() {
                    pass.accept_results(results);
                }
                self.advance(run::Input::ResultsAccepted);
            }
        }
    }

    fn accept_contribution(
        &mut self,
        worker: u64,
        key: &Key,
        contribution: Contribution,
        times: &Times,
    ) {
        for quarantined in &contribution.quarantined {
            self.note(Event::Quarantined {
                worker,
                micro_batch: quarantined.micro_batch,
                utterances: quarantined.utterances.clone(),
                reason: escape_within(&quarantined.reason, MAX_REASON_CHARS),
            });
        }
        let Some(run) = &mut self.run else { return };
        let left_out = contribution.quarantined.len() as u64;
        if let Some(last) = contribution.quarantined.last() {
            run.last.left_out = Some(last.clone());
        }
        if let Some(pass) = self.pass_mut() {
            pass.accept(key.node, contribution, times);
        }
        self.advance(run::Input::Accepted { left_out });
    }

    /// Does the additions that are due.
    pub(super) fn add(&mut self, attempt: u32) {
        let Some(pass) = self.pass_mut().filter(|pass| pass.attempt() == attempt) else {
            return;
        };
        let small = pass.elements() < ADD_INLINE_ELEMENTS;
        match pass.take_reduction() {
            None => self.advance(run::Input::Added { attempt }),
            Some(reduction) if !small => self.spawn(move || WorkDone::Reduced(reduction.run())),
            Some(reduction) => match reduction.run() {
                Ok(reduced) => self.added(reduced),
                Err(error) => self.fail(error.into()),
            },
        }
    }

    fn added(&mut self, reduced: Reduced) {
        let attempt = reduced.attempt;
        if let Some(pass) = self.pass_mut() {
            pass.reduced(reduced);
        }
        self.advance(run::Input::Added { attempt });
    }

    /// Moves the weights by the pass's sum.
    pub(super) fn update(&mut self) {
        let Some(training) = self.training_mut() else {
            return;
        };
        let sum = training.pass.as_mut().and_then(PassData::settle_sum);
        let trainer = training.trainer.take();
        let weights = self.weights.borrow().clone();
        let (Some(sum), Some(trainer), Some(weights)) = (sum, trainer, weights) else {
            let missing = "a complete pass has no sum".to_owned();
            self.fail(RunError::Broken(missing));
            return;
        };
        let buffers = self.buffers.clone();
        self.spawn(move || {
            let updated = background::update(trainer, sum, &weights.publisher, &buffers);
            WorkDone::Updated(updated.map(Box::new))
        });
    }

    fn updated(&mut self, updated: UpdateDone) {
        if !self.may_write() {
            return;
        }
        let UpdateDone {
            trainer,
            encoded,
            outcome,
            counts,
            sum,
            update_s,
        } = updated;
        let Some(run) = &mut self.run else { return };
        let Some(StartedRun { training, journal }) = &mut run.active else {
            return;
        };
        let Some(pass) = training.pass.take() else {
            return;
        };
        self.weights.send_modify(|weights| {
            if let Some(weights) = weights {
                weights.version = trainer.step();
                weights.averaged = None;
                weights.encoded = encoded.map_or(Arc::clone(&weights.encoded), Arc::new);
            }
        });
        let elements = trainer.weights().len();
        training.trainer = Some(trainer);
        let seconds = pass.opened.elapsed().as_secs_f64();
        let mut metrics = StepMetrics {
            step: counts.step,
            epoch: pass.epoch,
            loss: None,
            grad_norm: None,
            clip_coef: None,
            clip_threshold: None,
            clipped: false,
            share_clamped: None,
            lr: None,
            weight: sum.weight,
            seconds,
            utterances: sum.utterances,
            frames: sum.frames,
            audio_seconds: sum.audio_seconds,
            audio_seconds_per_second: sum.audio_seconds / seconds.max(1e-9),
            times: Times {
                update_s,
                ..pass.times
            },
            quarantined: sum.quarantined.len() as u64,
            dominated_by: None,
        };
        let skipped = match outcome {
            StepOutcome::Applied(applied) => {
                metrics.loss = Some(applied.loss);
                metrics.grad_norm = Some(applied.grad_norm);
                metrics.clip_coef = Some(applied.clip_coef);
                metrics.clip_threshold = applied.clip_threshold;
                metrics.clipped = applied.clipped;
                metrics.share_clamped = training
                    .job
                    .clip
                    .changes_parts()
                    .then_some(applied.share_clamped);
                metrics.lr = Some(applied.lr);
                metrics.dominated_by = Some(applied.dominated_by);
                None
            }
            StepOutcome::Skipped(skipped) => {
                if skipped.is_divergence() {
                    metrics.quarantined = pass.micro_batches().into();
                }
                Some(skipped.to_string())
            }
        };
        // Those that workers left out are counted already.
        let left_out = metrics.quarantined - sum.quarantined.len() as u64;
        training.record(counts, &metrics);
        self.telemetry.record_step(&metrics, skipped.is_some());
        if let Err(error) = journal.metrics(&metrics) {
            run.fail(error.into());
        }
        // Utterances of this step alone count, whatever a worker says.
        let places: BTreeSet<u32> = if sum.unusable.is_empty() {
            BTreeSet::new()
        } else {
            pass.micro_batches.iter().flatten().copied().collect()
        };
        let mut unusable = sum.unusable;
        unusable.retain(|one| places.contains(&one.utterance));
        self.record_unusable(Set::Train, unusable);
        let mut outcome = UpdateOutcome::Applied;
        if let Some(reason) = skipped {
            outcome = UpdateOutcome::Skipped { left_out };
            tracing::warn!(step = counts.step, "a step was skipped: {reason}");
            if let Some(run) = &mut self.run {
                run.last.skipped = Some(reason.clone());
            }
            self.note(Event::StepSkipped { reason });
        }
        self.advance(run::Input::Updated(run::Updated {
            elements,
            norms: sum.norms,
            outcome,
        }));
    }
}
