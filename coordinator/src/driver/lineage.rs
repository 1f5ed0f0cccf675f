//! Where a run comes from: the job of its steps so far, the weights that it began with, and what was changed
//! in it since. A checkpoint keeps it, so that a run goes on with another job only where somebody has asked
//! for that, and its report says so.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RunError;
use crate::{
    corpus::Prepared,
    initial_weights::{self, Initial},
    job::{
        Job,
        changes::{self, Change},
    },
    records::{events::Event, report::Amendment},
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lineage {
    /// The job, as TOML.
    job: String,
    /// SHA-256 of the weights that it began with, where the job names them.
    pub init: Option<String>,
    /// Resumptions with leave to change it ([`crate::store::JobEntry::permissions`]) that it has made use of.
    permissions: u64,
    /// Changes that ended the promise of equal bits.
    pub amendments: Vec<Amendment>,
    /// Whether the next worker may be of another compute class than those before.
    #[serde(skip)]
    pub may_change_class: bool,
}

/// What a run that goes on does differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub changes: Vec<Change>,
    /// Whether an undisturbed run would give the same bits.
    pub bit_identity: bool,
}

impl From<Changed> for Event {
    fn from(changed: Changed) -> Self {
        let Changed {
            changes,
            bit_identity,
        } = changed;
        Self::JobChanged {
            changes,
            bit_identity,
        }
    }
}

impl Lineage {
    /// The lineage of a run of `job` that begins, with the initial weights that the job names, if any.
    pub(super) fn begin(
        job: &Job,
        permissions: u64,
        initial: Option<&Initial>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            job: written(job)?,
            init: initial.map(|(_, digest)| digest.clone()),
            permissions,
            ..Self::default()
        })
    }

    /// Goes on with `job` after `step` steps. Gives what is different, if anything is.
    ///
    /// # Errors
    /// When the run cannot go on so, or nobody has allowed it.
    pub(super) fn go_on(
        &mut self,
        job: &Job,
        prepared: &Prepared,
        step: u64,
        permissions: u64,
    ) -> Result<Option<Changed>, RunError> {
        let before = Job::parse(&self.job, Path::new("the checkpoint's job"), &[]);
        let before = before.map_err(|error| RunError::Unreadable {
            step,
            reason: error.to_string(),
        })?;
        if job.train.init != before.train.init {
            self.check_init(job, prepared, step)?;
        }
        let found = changes::changes(&before, job);
        let allowed = permissions > self.permissions;
        changes::check(&found, allowed).map_err(|source| RunError::JobChanged { step, source })?;
        let ending = found.iter().filter(|(_, effect)| effect.ends_promise());
        let ending = ending.map(|(change, _)| Amendment {
            step,
            change: change.clone(),
        });
        let ending: Vec<Amendment> = ending.collect();
        let bit_identity = ending.is_empty();
        self.amendments.extend(ending);
        self.job = written(job)?;
        self.permissions = permissions;
        self.may_change_class = allowed;
        let changes: Vec<Change> = found.into_iter().map(|(change, _)| change).collect();
        Ok((!changes.is_empty()).then_some(Changed {
            changes,
            bit_identity,
        }))
    }

    /// Whether the model that the job names by another path is the one that the run began with.
    fn check_init(&self, job: &Job, prepared: &Prepared, step: u64) -> Result<(), RunError> {
        let named = read_initial(job, prepared)?;
        if named.map(|(_, digest)| digest) == self.init {
            Ok(())
        } else {
            Err(RunError::InitChanged { step })
        }
    }

    /// Takes note of a worker's compute class that is not the one before. Gives what the run's events say.
    pub(super) fn change_class(&mut self, step: u64, before: String, now: String) -> Changed {
        let change = Change {
            key: "the workers' compute class".to_owned(),
            before: Some(before),
            now: Some(now),
        };
        self.amendments.push(Amendment {
            step,
            change: change.clone(),
        });
        Changed {
            changes: vec![change],
            bit_identity: false,
        }
    }

    /// Why the promise of equal bits is off, if it is.
    pub(super) fn broken_promise(&self) -> Option<String> {
        let listed: Vec<String> = self
            .amendments
            .iter()
            .map(|Amendment { step, change }| format!("{change} from step {step} on"))
            .collect();
        (!listed.is_empty()).then(|| format!("changed while it went on: {}", listed.join("; ")))
    }
}

/// The weights that `job` names to begin with.
pub(super) fn read_initial(job: &Job, prepared: &Prepared) -> Result<Option<Initial>, RunError> {
    let path = job.train.init.as_ref();
    let read = path.map(|path| {
        let vocabulary = &prepared.recipe.vocabulary;
        initial_weights::read(path, &prepared.roots, &prepared.spec, vocabulary)
    });
    Ok(read.transpose()?)
}

fn written(job: &Job) -> Result<String, RunError> {
    job.to_toml()
        .map_err(|error| RunError::Broken(format!("the job cannot be written: {error}")))
}
