//! Whose turn it is in the queue of jobs: the first job that somebody who is here may compute, or else the first. A job that
//! has lacked workers of its compute class for a while is set aside until one of them is here, so that those who are
//! here work on another one meanwhile.

use std::collections::{BTreeMap, BTreeSet};

/// A job that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueuedJob<'a> {
    /// Its place in the queue: the lowest is first.
    pub turn: u64,
    /// The job's id. Of equal turns the lower id is first.
    pub id: &'a str,
}

/// The jobs that were set aside in this life of the coordinator. The queue itself is the caller's.
#[derive(Clone, Debug, Default)]
pub struct SetAside {
    /// The compute class that each of them waits for, by the job's id.
    classes: BTreeMap<String, String>,
}

impl SetAside {
    /// Sets the job `id` aside until a worker of `class` is here.
    pub fn set_aside(&mut self, id: String, class: String) {
        self.classes.insert(id, class);
    }

    /// Takes note that the job `id` has begun: it is set aside no more.
    pub fn begin(&mut self, id: &str) {
        self.classes.remove(id);
    }

    /// The compute class for which the job `id` is passed over; `None` where it was not set aside, or a worker of its
    /// class is among those `present` (the compute classes of the workers that are here).
    pub fn waits_for(&self, id: &str, present: &BTreeSet<&str>) -> Option<&str> {
        let class = self.classes.get(id)?;
        (!present.contains(class.as_str())).then_some(class)
    }

    /// The job whose turn it is; `None` where none is queued. With nobody here who may compute any of them, it is the
    /// first, so that it waits in the open and says what for.
    pub fn next<'a>(
        &self,
        queued: impl IntoIterator<Item = QueuedJob<'a>>,
        present: &BTreeSet<&str>,
    ) -> Option<&'a str> {
        let queued: BTreeSet<QueuedJob<'a>> = queued.into_iter().collect();
        let free = queued
            .iter()
            .find(|job| self.waits_for(job.id, present).is_none());
        free.or(queued.first()).map(|job| job.id)
    }

    /// Whether one of the queued jobs may begin in place of one that nobody here may compute.
    pub fn has_alternative<'a>(
        &self,
        queued: impl IntoIterator<Item = QueuedJob<'a>>,
        present: &BTreeSet<&str>,
    ) -> bool {
        let mut queued = queued.into_iter();
        queued.any(|job| self.waits_for(job.id, present).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs that were set aside, with the classes they wait for; turns of the queued ones; classes that are here; whose
    /// turn it is; whether one may begin in place of another.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static [(u64, &'static str)],
        &'static [&'static str],
        Option<&'static str>,
        bool,
    );

    #[test]
    fn jobs_that_lack_their_class_are_passed_over_and_keep_their_turn() {
        const QUEUED: &[(u64, &str)] = &[(3, "1-late"), (1, "2-first"), (2, "10-second")];
        const FIRST_ASIDE: &[(&str, &str)] = &[("2-first", "gpu")];
        const TWO_ASIDE: &[(&str, &str)] = &[("2-first", "gpu"), ("10-second", "avx2")];
        let cases: [Case; 9] = [
            (&[], &[], &["cpu"], None, false),
            // By their turns, whatever the ids are.
            (&[], QUEUED, &[], Some("2-first"), true),
            (FIRST_ASIDE, QUEUED, &["cpu"], Some("10-second"), true),
            (FIRST_ASIDE, QUEUED, &["cpu", "gpu"], Some("2-first"), true),
            (TWO_ASIDE, QUEUED, &["cpu"], Some("1-late"), true),
            (TWO_ASIDE, QUEUED, &["avx2"], Some("10-second"), true),
            // Nobody may compute any of them: the first one waits in the open.
            (
                FIRST_ASIDE,
                &[(1, "2-first")],
                &["cpu"],
                Some("2-first"),
                false,
            ),
            (FIRST_ASIDE, &[(1, "2-first")], &[], Some("2-first"), false),
            // Equal turns, as no store writes them: the lower id.
            (&[], &[(1, "b"), (1, "a")], &[], Some("a"), true),
        ];
        for (aside, queued, present, turn, alternative) in cases {
            let mut jobs = SetAside::default();
            for (id, class) in aside {
                jobs.set_aside((*id).to_owned(), (*class).to_owned());
            }
            let present: BTreeSet<&str> = present.iter().copied().collect();
            let queued = || queued.iter().map(|&(turn, id)| QueuedJob { turn, id });
            assert_eq!(jobs.next(queued(), &present), turn, "{aside:?} {present:?}");
            let found = jobs.has_alternative(queued(), &present);
            assert_eq!(found, alternative, "{aside:?} {present:?}");
        }
    }

    #[test]
    fn a_job_that_has_begun_is_set_aside_no_more() {
        let mut jobs = SetAside::default();
        jobs.set_aside("a".to_owned(), "gpu".to_owned());
        let nobody = BTreeSet::new();
        assert_eq!(jobs.waits_for("a", &nobody), Some("gpu"));
        assert_eq!(jobs.waits_for("a", &BTreeSet::from(["gpu"])), None);
        jobs.begin("a");
        assert_eq!(jobs.waits_for("a", &nobody), None);
    }
}
