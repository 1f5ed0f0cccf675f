//! What people ask about jobs: submitted, looked at, followed, cancelled and resumed. It decides
//! which of these a job's state allows.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{
    ActiveRun, Driver, JobView, Refused, Stop, WorkerView, command::Reply, finish::add_faults,
    registry,
};
use crate::{
    job::Job,
    records::events::{Published, published},
    run,
    store::{JobState, Resumption, Store},
};

/// A feed for each job that the store knows.
pub(super) fn feeds(store: &Store) -> BTreeMap<String, watch::Sender<Published>> {
    let jobs = store.jobs().iter();
    jobs.map(|(id, entry)| {
        // What a job that goes on has written is read once it is cut off at its checkpoint.
        let published = if entry.state.has_ended() {
            published(&store.run_dir(id), true)
        } else {
            Published::default()
        };
        (id.to_owned(), watch::channel(published).0)
    })
    .collect()
}

impl Driver {
    pub(super) async fn submit(&mut self, job: Job) -> Result<String, Refused> {
        if !matches!(self.stop, Stop::No) {
            return Err(Refused::Stopping);
        }
        let id = self.write(move |store| store.add(&job)).await?;
        tracing::info!(job = id, "submitted");
        let feed = watch::channel(Published::default()).0;
        self.feeds.insert(id.clone(), feed);
        Ok(id)
    }

    pub(super) fn view(&self, id: &str) -> Option<JobView> {
        let entry = self.store().jobs().get(id)?.clone();
        let run = self.run.as_ref().filter(|run| run.id == id);
        let training = run.and_then(|run| run.active.as_ref());
        Some(JobView {
            id: id.to_owned(),
            run_dir: self.store().run_dir(id),
            progress: training.map(|active| active.training.progress.clone()),
            workers: match run {
                Some(_) => u32::try_from(self.registry.len()).unwrap_or(u32::MAX),
                None => 0,
            },
            waiting_for: match run {
                Some(run) => self.waits_for(run),
                None => self.is_set_aside_for(id),
            },
            faults: run.map(|run| self.faults(run)).unwrap_or_default(),
            entry,
        })
    }

    /// What was counted for a run, in all its lives.
    fn faults(&self, run: &ActiveRun) -> BTreeMap<String, u64> {
        let active = run.active.as_ref();
        let mut faults = active.map_or_else(BTreeMap::new, |active| {
            active.training.run_state.faults.clone()
        });
        add_faults(&mut faults, &run.before, self.scheduler.counters());
        faults
    }

    /// At most `most` jobs behind `after`.
    pub(super) fn views(&self, after: &str, most: usize) -> Vec<JobView> {
        let behind = self.store().jobs().after(after).take(most);
        behind.filter_map(|(id, _)| self.view(id)).collect()
    }

    /// The job `id`, or where that is empty the running one, or else the newest.
    pub(super) fn status(&self, id: &str) -> Result<JobView, Refused> {
        let id = match id {
            "" => self.likely_meant().ok_or(Refused::NoJobs)?,
            id => id,
        };
        self.view(id)
            .ok_or_else(|| Refused::UnknownJob(id.to_owned()))
    }

    fn likely_meant(&self) -> Option<&str> {
        if let Some(run) = &self.run {
            return Some(&run.id);
        }
        let newest = self.store().jobs().iter().next_back();
        newest.map(|(id, _)| id)
    }

    pub(super) fn follow(
        &self,
        id: &str,
    ) -> Result<(PathBuf, watch::Receiver<Published>), Refused> {
        // Its feeds are gone before it is: who asks again finds the job when it is back.
        if !matches!(self.stop, Stop::No) {
            return Err(Refused::Stopping);
        }
        let feed = self.feeds.get(id);
        let feed = feed.ok_or_else(|| Refused::UnknownJob(id.to_owned()))?;
        Ok((self.store().run_dir(id), feed.subscribe()))
    }

    pub(super) async fn cancel(&mut self, id: String, reply: Reply<Result<JobView, Refused>>) {
        let state = self.store().jobs().get(&id).map(|entry| entry.state);
        let refused = match state {
            None => Refused::UnknownJob(id),
            Some(state) if state.has_ended() => Refused::Ended { id, state },
            Some(_) => {
                if let Some(run) = self.run.as_mut().filter(|run| run.id == id) {
                    run.cancel.push(reply);
                    run.advance(run::Input::Stop(run::StopReason::Cancel));
                    return;
                }
                let (cancelled, dir) = (id.clone(), self.store().run_dir(&id));
                let written = self
                    .write(move |store| {
                        store.set_state(&cancelled, JobState::Cancelled, None)?;
                        Ok(published(&dir, true))
                    })
                    .await;
                let written = written.map(|published| {
                    if let Some(feed) = self.feeds.get(&id) {
                        feed.send_replace(published);
                    }
                });
                let view = match written {
                    Ok(()) => self.status(&id),
                    Err(error) => Err(error.into()),
                };
                let _ = reply.send(view);
                return;
            }
        };
        let _ = reply.send(Err(refused));
    }

    pub(super) async fn resume(
        &mut self,
        id: String,
        resumption: Resumption,
    ) -> Result<JobView, Refused> {
        if !matches!(self.stop, Stop::No) {
            return Err(Refused::Stopping);
        }
        let state = self.status(&id)?.entry.state;
        if !state.has_ended() {
            return Err(Refused::NotResumable { id, state });
        }
        let requeued = id.clone();
        self.write(move |store| store.resume(&requeued, resumption))
            .await?;
        if let Some(feed) = self.feeds.get(&id) {
            feed.send_replace(Published::default());
        }
        self.status(&id)
    }

    pub(super) async fn prune(&mut self, age: Duration) -> Result<(u64, PathBuf), Refused> {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let time = crate::records::timestamp::now().saturating_sub(age);
        let time = time.unwrap_or(Timestamp::MIN);
        let gone = self.write(move |store| store.forget(time)).await?;
        for (id, _) in gone.iter() {
            self.feeds.remove(id);
        }
        tracing::info!(jobs = gone.len(), "ended jobs are off the list");
        Ok((gone.len() as u64, self.store().jobs_dir()))
    }

    pub(super) fn worker_views(&self) -> Vec<WorkerView> {
        let now = self.now();
        let workers = self.scheduler.workers();
        workers
            .filter_map(|view| {
                Some(WorkerView {
                    worker: view.worker.0,
                    introduction: self.registry.get(view.worker)?.clone(),
                    doing: registry::doing(view.doing.as_ref()),
                    contributions: view.contributions,
                    seconds_since_heard: now.saturating_sub(view.last_heard) as f64 / 1000.0,
                })
            })
            .collect()
    }
}
