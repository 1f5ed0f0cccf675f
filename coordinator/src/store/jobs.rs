//! The jobs of a queue by id. It decides their order, which is that of their submission: ids begin with a
//! number, and are compared as numbers, so that job 10000 comes after job 9999.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::{Bound, Index},
};

use serde::{Deserialize, Serialize};

use super::JobEntry;

/// An id such as `0042-digits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Id(String);

impl Id {
    /// Digits at the beginning without leading zeros, and what follows them. Of two numbers without leading
    /// zeros the one with more digits is greater.
    fn parts(&self) -> (usize, &str, &str) {
        let end = self.0.find(|c: char| !c.is_ascii_digit());
        let (number, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        let number = number.trim_start_matches('0');
        (number.len(), number, rest)
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = self.parts().cmp(&other.parts());
        parts.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Jobs in the order of their submission.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jobs(BTreeMap<Id, JobEntry>);

impl Jobs {
    /// Jobs in the queue, those that have ended included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the queue has no job, not even one that has ended.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The job `id`, in whatever state.
    pub fn get(&self, id: &str) -> Option<&JobEntry> {
        self.0.get(&Id(id.to_owned()))
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut JobEntry> {
        self.0.get_mut(&Id(id.to_owned()))
    }

    pub(super) fn insert(&mut self, id: String, entry: JobEntry) {
        self.0.insert(Id(id), entry);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<JobEntry> {
        self.0.remove(&Id(id.to_owned()))
    }

    /// All jobs with their ids, in the order of their submission.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &JobEntry)> {
        self.0.iter().map(|(id, entry)| (id.0.as_str(), entry))
    }

    /// Those behind `id`, which need not be one of them; all, where it is empty.
    pub fn after(&self, id: &str) -> impl Iterator<Item = (&str, &JobEntry)> {
        let begin = match id {
            "" => Bound::Unbounded,
            id => Bound::Excluded(Id(id.to_owned())),
        };
        let behind = self.0.range((begin, Bound::Unbounded));
        behind.map(|(id, entry)| (id.0.as_str(), entry))
    }

    /// Takes those out that are `gone`.
    pub(super) fn take(&mut self, gone: impl Fn(&JobEntry) -> bool) -> Self {
        Self(self.0.extract_if(.., |_, entry| gone(entry)).collect())
    }

    /// Puts back what was taken out.
    pub(super) fn put_back(&mut self, jobs: Self) {
        self.0.extend(jobs.0);
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &JobEntry> {
        self.0.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut JobEntry)> {
        self.0.iter_mut().map(|(id, entry)| (id.0.as_str(), entry))
    }
}

impl<S: AsRef<str> + ?Sized> Index<&S> for Jobs {
    type Output = JobEntry;

    /// # Panics
    /// When there is no such job.
    fn index(&self, id: &S) -> &JobEntry {
        self.get(id.as_ref()).expect("the job is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::timestamp, store::JobState};

    fn jobs(ids: &[&str]) -> Jobs {
        let entry = JobEntry {
            name: "a".to_owned(),
            state: JobState::Queued,
            turn: 1,
            submitted_at: timestamp::now(),
            error: None,
            cause: None,
            permissions: 0,
            preparing: false,
            ended_preparing: 0,
        };
        let mut jobs = Jobs::default();
        for id in ids {
            jobs.insert((*id).to_owned(), entry.clone());
        }
        jobs
    }

    #[test]
    fn ids_are_compared_as_numbers() {
        let jobs = jobs(&[
            "10000-a",
            "9999-a",
            "0002-b",
            "0010-a",
            "0002-a",
            "100000-a",
            "99999999999999999999999-a",
        ]);
        let ids: Vec<&str> = jobs.iter().map(|(id, _)| id).collect();
        let ordered = [
            "0002-a",
            "0002-b",
            "0010-a",
            "9999-a",
            "10000-a",
            "100000-a",
            "99999999999999999999999-a",
        ];
        assert_eq!(ids, ordered);
        let after = |id| jobs.after(id).map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(after(""), ordered);
        assert_eq!(after("9999-a"), ordered[4..]);
        assert_eq!(after("9000-gone"), ordered[3..]);
        assert_eq!(after("no number"), ordered);
        assert!(after("99999999999999999999999-b").is_empty());
    }

    #[test]
    fn they_are_written_as_one_map_by_id() {
        let jobs = jobs(&["0001-a", "10000-b"]);
        let json = serde_json::to_value(&jobs).unwrap();
        assert_eq!(json["10000-b"]["name"], "a");
        assert_eq!(serde_json::from_value::<Jobs>(json).unwrap(), jobs);
        assert_eq!(jobs[&"0001-a".to_owned()].turn, 1);
        assert!(jobs.get("0003-a").is_none());
    }
}
