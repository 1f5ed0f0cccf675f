//! What a step costs the coordinator, by the number of workers and of micro-batches. The workers
//! compute next to nothing, so that the coordinator is asked as often as can be.

use std::time::{Duration, Instant};

use proto::{
    PROGRAM_VERSION,
    v1::{self, State, jobs_client::JobsClient},
};
use tonic::transport::Channel;

use crate::{
    child::Process,
    site::Site,
    toy::{Toy, channel},
};

const WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const MICRO_BATCHES: [usize; 2] = [256, 1024];
const STEPS_AN_EPOCH: usize = 4;
const EPOCHS: usize = 10;

/// Follows a job in a child process.
pub struct Follower {
    jobs: JobsClient<Channel>,
    pub id: String,
}

impl Follower {
    pub async fn submit(url: &str, job: String) -> Self {
        let mut jobs = JobsClient::new(channel(url).await);
        let request = v1::SubmitRequest {
            job_toml: job,
            program_version: PROGRAM_VERSION.to_owned(),
        };
        let id = jobs.submit(request).await.unwrap().into_inner().id;
        Self { jobs, id }
    }

    async fn status(&mut self) -> v1::JobStatus {
        let id = self.id.clone();
        let status = self.jobs.status(v1::StatusRequest { id }).await;
        status.unwrap().into_inner()
    }

    /// The first step that was made, once one was.
    async fn begun(&mut self) -> u64 {
        loop {
            match self.status().await.step {
                0 => tokio::time::sleep(Duration::from_millis(5)).await,
                step => return step,
            }
        }
    }

    async fn ended(&mut self) -> v1::JobStatus {
        let request = v1::LogsRequest {
            id: self.id.clone(),
            follow: true,
            begin: None,
        };
        let mut lines = self.jobs.logs(request).await.unwrap().into_inner();
        while lines.message().await.unwrap().is_some() {}
        self.status().await
    }
}

pub async fn measure() {
    println!("micro-batches  workers  coordinator ms/step  peak MiB  steps/s");
    for micro_batches in MICRO_BATCHES {
        let site = Site::new();
        site.manifest("train", micro_batches * STEPS_AN_EPOCH);
        let job = site
            .job()
            .replace("epochs = 3", &format!("epochs = {EPOCHS}"))
            .replace("batch = 6", &format!("batch = {micro_batches}"))
            .replace("checkpoint_every = 2", "checkpoint_every = 1000000");
        for workers in WORKERS {
            run(&site, &job, workers, micro_batches).await;
        }
    }
}

async fn run(site: &Site, job: &str, workers: usize, micro_batches: usize) {
    let process = Process::start(&site.path(&format!("data{workers}")));
    let mut follower = Follower::submit(&process.url, job.to_owned()).await;
    let mut working = Vec::new();
    for worker in 0..workers {
        let toy = Toy::join(&process.url, &format!("toy{worker}")).await;
        working.push(tokio::spawn(toy.work()));
    }
    let first = follower.begun().await;
    let (began, before) = (Instant::now(), process.processor_seconds());
    let ended = follower.ended().await;
    let (took, computed) = (began.elapsed(), process.processor_seconds() - before);
    assert_eq!(ended.state(), State::Succeeded, "{}", ended.error);
    let steps = (ended.steps - first) as f64;
    println!(
        "{micro_batches:>13}  {workers:>7}  {:>19.2}  {:>8.1}  {:>7.1}",
        1000.0 * computed / steps,
        process.peak_memory() as f64 / f64::from(1 << 20),
        steps / took.as_secs_f64(),
    );
    for worker in working {
        worker.abort();
    }
}
