//! A corpus of tones, a data directory, and coordinators that live and die on it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use coordinator::{
    records::{
        events::{Event, Record, StepMetrics},
        report::Report,
    },
    server::{Config, Coordinator, Limits, Running, StartError},
    store::Layout,
};
use proto::{
    PROGRAM_VERSION,
    v1::{self, State, jobs_client::JobsClient},
};
use speech::{
    audio::{Audio, write_wav},
    corpus_roots::CorpusRoots,
    manifest::{Manifest, Utterance},
};
use tonic::{Status, transport::Channel};

use crate::toy::{Toy, channel};

/// No condition takes longer, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for what must come about.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, future).await;
    done.expect("what must come about comes about within a minute")
}

pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// 26 training and 7 validation utterances of three words.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self { dir };
        site.manifest("train", 26);
        site.manifest("valid", 7);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn manifest(&self, name: &str, utterances: usize) {
        let utterances: Vec<Utterance> = (0..utterances)
            .map(|index| {
                let audio = self.path(&format!("{name}{index}.wav"));
                let samples = 800 + 160 * (index * 7 % 11);
                let sample = |at: usize| (at as f32 * (index + 1) as f32 * 0.01).sin() * 0.5;
                let tone = Audio {
                    sample_rate: 8000,
                    samples: (0..samples).map(sample).collect(),
                };
                write_wav(&audio, &tone).unwrap();
                Utterance {
                    id: format!("{name}{index}"),
                    audio,
                    offset: 0.0,
                    duration: samples as f64 / 8000.0,
                    channel: None,
                    text: ["one", "three", "two"][index % 3].to_owned(),
                    speaker: None,
                }
            })
            .collect();
        Manifest::write(&self.path(&format!("{name}.jsonl")), &utterances).unwrap();
    }

    /// Five steps an epoch, three epochs, clipped now and then.
    pub fn job(&self) -> String {
        format!(
            "name = \"tones\"\n\
             [corpus]\ntrain = {:?}\nvalid = {:?}\n\
             [features]\nsample_rate = 8000\nmel_bins = 4\n\
             [model]\nlayers = 1\nhidden = 3\n\
             [train]\nepochs = 3\nbatch = 6\nmicro_batch = 1\ncheckpoint_every = 2\n\
             [optimizer]\nkind = \"adam\"\nlearning_rate = 0.1\n\
             [clip]\nmax_norm = 4.0\n",
            self.path("train.jsonl"),
            self.path("valid.jsonl"),
        )
    }

    pub async fn start(&self) -> Live {
        self.try_start(self.queue()).await.unwrap()
    }

    pub fn queue(&self) -> Layout {
        Layout::Queue {
            data_dir: self.path("data"),
        }
    }

    pub async fn start_within(&self, limits: Limits) -> Live {
        self.launch(self.queue(), limits).await.unwrap()
    }

    pub async fn try_start(&self, layout: Layout) -> Result<Live, StartError> {
        self.launch(layout, Limits::default()).await
    }

    /// A coordinator that tells a monitoring system how it does.
    pub async fn start_scraped(&self) -> Live {
        let config = Config {
            metrics: Some("127.0.0.1:0".to_owned()),
            ..self.config(self.queue())
        };
        self.run(config, Limits::default()).await.unwrap()
    }

    /// A coordinator that dismisses its workers when it stops, or is expected back.
    pub async fn start_to(&self, dismiss_workers: bool) -> Live {
        let config = Config {
            dismiss_workers,
            ..self.config(self.queue())
        };
        self.run(config, Limits::default()).await.unwrap()
    }

    async fn launch(&self, layout: Layout, limits: Limits) -> Result<Live, StartError> {
        self.run(self.config(layout), limits).await
    }

    fn config(&self, layout: Layout) -> Config {
        Config {
            listen: "127.0.0.1:0".to_owned(),
            layout,
            metrics: None,
            allow_plaintext: false,
            corpus_roots: CorpusRoots::beneath(&[self.dir.path().to_owned()]).unwrap(),
            tls: None,
            dismiss_workers: false,
            cache_dir: Some(self.path("cache")),
        }
    }

    async fn run(&self, config: Config, limits: Limits) -> Result<Live, StartError> {
        // A runtime of its own can be killed.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(Coordinator::start_within(config, limits));
        let started = started.await.unwrap();
        match started {
            Ok(running) => {
                let url = format!("http://{}", running.addr());
                let jobs = JobsClient::new(channel(&url).await);
                Ok(Live {
                    runtime: Some(runtime),
                    running: Some(running),
                    url,
                    jobs,
                })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }
}

/// A coordinator that runs.
pub struct Live {
    runtime: Option<tokio::runtime::Runtime>,
    pub running: Option<Running>,
    pub url: String,
    pub jobs: JobsClient<Channel>,
}

impl Live {
    /// The end without a word.
    pub async fn kill(mut self) {
        self.end();
    }

    /// Where the monitoring system asks.
    pub fn metrics(&self) -> SocketAddr {
        let running = self.running.as_ref().unwrap();
        running.metrics_addr().expect("it is scraped")
    }

    pub async fn shutdown(mut self) {
        let running = self.running.take().unwrap();
        running.shutdown(Duration::from_secs(5)).await;
    }

    fn end(&mut self) {
        // Blocking work that is under way is waited for in passing; nothing new begins.
        if let Some(runtime) = self.runtime.take() {
            let ended = std::thread::spawn(move || runtime.shutdown_timeout(DEADLINE));
            ended.join().unwrap();
        }
    }

    pub async fn submit(&mut self, job: &str) -> String {
        self.try_submit(job).await.unwrap()
    }

    pub async fn try_submit(&mut self, job: &str) -> Result<String, Status> {
        let request = v1::SubmitRequest {
            job_toml: job.to_owned(),
            program_version: PROGRAM_VERSION.to_owned(),
        };
        Ok(self.jobs.submit(request).await?.into_inner().id)
    }

    pub async fn status(&mut self, id: &str) -> v1::JobStatus {
        let request = v1::StatusRequest { id: id.to_owned() };
        self.jobs.status(request).await.unwrap().into_inner()
    }

    /// The job's lines of either kind, to its end if that is wanted.
    pub async fn lines(&mut self, id: &str, metrics: bool, follow: bool) -> Vec<String> {
        let request = v1::LogsRequest {
            id: id.to_owned(),
            follow,
            begin: None,
        };
        let lines = if metrics {
            self.jobs.metrics(request).await
        } else {
            self.jobs.logs(request).await
        };
        let mut lines = lines.unwrap().into_inner();
        let mut all = Vec::new();
        let mut begun = String::new();
        while let Some(line) = lines.message().await.unwrap() {
            begun.push_str(&line.json);
            if !line.more {
                all.push(std::mem::take(&mut begun));
            }
        }
        assert!(begun.is_empty(), "a line has no end");
        all
    }

    /// The text of the job's report; empty where there is none.
    pub async fn report(&mut self, id: &str) -> String {
        let request = v1::ReportRequest { id: id.to_owned() };
        let mut pieces = self.jobs.report(request).await.unwrap().into_inner();
        let mut report = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            report.extend_from_slice(&piece.data);
        }
        String::from_utf8(report).unwrap()
    }

    /// Follows the job to its end.
    pub async fn ended(&mut self, id: &str) -> v1::JobStatus {
        within(self.lines(id, false, true)).await;
        self.status(id).await
    }

    pub async fn succeeded(&mut self, id: &str) -> Report {
        let status = self.ended(id).await;
        assert_eq!(status.state(), State::Succeeded, "{}", status.error);
        serde_json::from_str(&self.report(id).await).unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn events(run_dir: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(run_dir.join("events.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Record>(line).unwrap().event)
        .collect()
}

pub fn metrics(run_dir: &Path) -> Vec<StepMetrics> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The weights of the site's job when nobody disturbs it.
pub async fn calm() -> Option<String> {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    live.succeeded(&id).await.weights_sha256
}
