//! Utterances that take no part in a run: those that the preparation left out, and those whose sound turned out
//! to be unusable when a worker decoded it. Each is named once in the run's events, counted in its report, and
//! bounded by `corpus.max_bad`; the checkpoint keeps what was found, so that a run that is taken up again names
//! none twice.

use std::{collections::BTreeSet, sync::Arc};

use proto::contribution::Unusable;
use serde::{Deserialize, Serialize};
use speech::left_out::{LeftOut, Reason};

use super::{Driver, error::RunError};
use crate::{
    corpus::{Excluded, Item, Prepared},
    records::events::{Event, Set},
};

/// What workers found of both sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Undecodable {
    train: LeftOutOfSet,
    valid: LeftOutOfSet,
}

/// What workers found of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LeftOutOfSet {
    /// Places in the set.
    places: BTreeSet<u32>,
    /// Counts of these utterances alone.
    summary: LeftOut,
}

impl Undecodable {
    fn of(&self, set: Set) -> &LeftOutOfSet {
        match set {
            Set::Train => &self.train,
            Set::Valid => &self.valid,
        }
    }

    fn of_mut(&mut self, set: Set) -> &mut LeftOutOfSet {
        match set {
            Set::Train => &mut self.train,
            Set::Valid => &mut self.valid,
        }
    }

    /// All of a set that is left out, with what the preparation left out of it.
    pub(super) fn left_out(&self, set: Set, prepared: &Prepared) -> LeftOut {
        let mut all = of(prepared, set).1.summary.clone();
        all.join(&self.of(set).summary);
        all
    }
}

fn of(prepared: &Prepared, set: Set) -> (&[Item], &Excluded) {
    let [train, valid] = &prepared.left_out;
    match set {
        Set::Train => (&prepared.train, train),
        Set::Valid => (&prepared.valid, valid),
    }
}

impl Driver {
    /// Writes the events of what the preparation found.
    pub(super) fn note_left_out(&mut self, prepared: &Prepared) {
        for excluded in &prepared.left_out {
            let set = excluded.set;
            for one in &excluded.named {
                self.note(Event::UtteranceLeftOut {
                    utterance: one.utterance.clone(),
                    set,
                    reason: one.reason.clone(),
                });
            }
            if !excluded.summary.is_empty() {
                let left_out = excluded.summary.clone();
                self.note(Event::LeftOut { set, left_out });
            }
        }
        if !prepared.unknown.is_empty() {
            let unknown = prepared.unknown.clone();
            self.note(Event::UnknownText { unknown });
        }
    }

    /// Takes note of utterances of `set` that workers could not decode in a pass whose result stands, and ends
    /// the run where they are too many. They are left out of every later pass in the same way: each worker finds
    /// the same of the same bytes.
    pub(super) fn record_unusable(&mut self, set: Set, found: Vec<Unusable>) {
        let Some(training) = self.training_mut() else {
            return;
        };
        let prepared = Arc::clone(&training.prepared);
        let (items, excluded) = of(&prepared, set);
        let known = training.run_state.undecodable.of_mut(set);
        let mut events = Vec::new();
        for Unusable { utterance, reason } in found {
            let Some(item) = items.get(utterance as usize) else {
                continue;
            };
            if known.places.insert(utterance) {
                known.summary.add(&item.id, Reason::Damaged, &reason);
                events.push(Event::UtteranceLeftOut {
                    utterance: item.id.clone(),
                    set,
                    reason,
                });
            }
        }
        if events.is_empty() {
            return;
        }
        let kept = items.len() - known.places.len();
        let all = training.run_state.undecodable.left_out(set, &prepared);
        for event in events {
            self.note(event);
        }
        if let Err(error) = excluded.judge(&all, kept) {
            self.fail(RunError::Corpus(error));
        }
    }
}
