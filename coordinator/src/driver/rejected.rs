//! Contributions that cannot be the answer to their lease. Whether one can is [`crate::contribution_check`]'s to say, and
//! what follows for its worker [`crate::leases`]'; here both are told what was leased, and people who was at fault.

use std::time::Duration;

use proto::contribution::{Contribution, Digest, Key};
use speech::{escape::escape_within, objective::Normalize};

use super::{Driver, HandedIn, MAX_REASON_CHARS, Refused, command::LeaseAnswer, command::Parting};
use crate::{
    contribution_check::{LeasedUtterance, LeasedWork, Mismatch, Weight},
    corpus::Item,
    leases::{ContributionOutcome, Input, Millis, WorkerId},
    records::{events::Event, times::Times},
};

impl Driver {
    /// Takes up a contribution that has come in whole. `finite`: no element of its vector is infinite or not a number.
    pub(super) fn contributed(
        &mut self,
        worker: WorkerId,
        key: Key,
        (contribution, times): (Box<Contribution>, Times),
        digest: Digest,
        finite: bool,
    ) -> Result<ContributionOutcome, Refused> {
        if self.awaits(worker, &key) {
            let overflows = !finite && key.node.level() > 0;
            let checked = match self.check(&key, &contribution) {
                Ok(()) if !finite && !overflows => Err(Mismatch::NotFinite),
                checked => checked,
            };
            if let Err(mismatch) = checked {
                self.reject(worker, &key, mismatch.to_string());
                return Err(Refused::Contribution(mismatch));
            }
            if overflows {
                let name = self.registry.name(worker);
                tracing::warn!(
                    worker = worker.0,
                    name,
                    node = %key.node,
                    "a sum of several micro-batches is not finite: each is leased alone"
                );
                self.tell(Input::Overflowed { worker, key });
                return Ok(ContributionOutcome::Stale);
            }
        }
        let arrived = HandedIn::Contribution(contribution, times);
        Ok(self.hand_in(worker, key, digest, arrived))
    }

    /// Whether a contribution to the open pass can be the answer to its lease.
    fn check(&self, key: &Key, contribution: &Contribution) -> Result<(), Mismatch> {
        let (Some(training), Some(pass)) = (self.training(), self.pass()) else {
            return Ok(());
        };
        let recipe = &training.prepared.recipe;
        let (objective, augment) = (recipe.objective(), &recipe.augment);
        let slowest = augment.speed.iter().copied().fold(1.0, f64::min) * augment.tempo[0].min(1.0);
        let leased = |place: &u32| {
            let item: &Item = &training.prepared.train[*place as usize];
            // A header may be inexact, and reverberation may add a tail.
            let stretch = 2.0 / slowest.max(0.01);
            let labels = || recipe.vocabulary.encode(&item.text).unwrap_or_default();
            let weight = match objective.normalize {
                Normalize::Utterances if objective.class_weights.is_empty() => Weight::Exactly(1.0),
                Normalize::Frames if objective.class_weights.is_empty() => Weight::PerFrame(1.0),
                Normalize::Frames => Weight::PerFrame(objective.weight(1, &labels())),
                Normalize::Utterances | Normalize::Labels => {
                    Weight::Exactly(objective.weight(1, &labels()))
                }
            };
            LeasedUtterance {
                place: *place,
                weight,
                max_frames: (item.frames as f64 * stretch) as u64 + 16,
                max_seconds: item.seconds * 2.0 + 1.0,
            }
        };
        let micro_batches = key.node.range(pass.micro_batches()).map(|index| {
            let utterances = pass.micro_batches[index as usize].iter();
            (index, utterances.map(leased).collect())
        });
        let work = LeasedWork {
            node: key.node,
            micro_batches: &micro_batches.collect::<Vec<_>>(),
            norms: pass.norm_bound.is_some(),
        };
        work.check(contribution)
    }

    /// A worker is at fault: what it handed in for `key` cannot be the answer.
    pub(super) fn reject(&mut self, worker: WorkerId, key: &Key, reason: String) {
        // It has not been leased this, or not any more: nothing is lost, and nothing is known of who is at fault.
        if !self.awaits(worker, key) {
            return;
        }
        let name = self.registry.name(worker);
        let reason = escape_within(&reason, MAX_REASON_CHARS);
        tracing::error!(
            worker = worker.0,
            name,
            step = key.step,
            node = %key.node,
            "a contribution is refused: {reason}"
        );
        self.note(Event::ContributionRejected {
            worker: worker.0,
            name,
            node: key.node.to_string(),
            reason,
        });
        let key = key.clone();
        self.tell(Input::Rejected { worker, key });
    }

    /// Sends a worker away that has used up the faults that its peer is forgiven.
    pub(super) fn turn_away(&mut self, worker: WorkerId, lasts: Millis) {
        let name = self.registry.name(worker);
        let seconds = Duration::from_millis(lasts).as_secs();
        tracing::error!(
            worker = worker.0,
            name,
            seconds,
            "a worker is turned away: it handed in too much that cannot be the answer to a lease"
        );
        let reason = format!(
            "too much of what you handed in cannot be the answer to a lease; you are turned away for {seconds} s"
        );
        self.answer(worker, LeaseAnswer::Goodbye(reason, Parting::Returns));
        self.forget(worker);
        self.note(Event::WorkerTurnedAway {
            worker: worker.0,
            name,
            seconds,
        });
    }
}
