//! The service that people talk to: jobs submitted, watched, cancelled and resumed.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use proto::{
    PROGRAM_VERSION,
    pieces::{self, MOST_JOINED, PART_BYTES},
    v1::{self, jobs_server::Jobs},
};
use speech::{corpus_roots::CorpusRoots, decode::WordSource, regular_file};
use tonic::{Request, Response, Status, Streaming};

use super::{audit::Audited, caller::Caller, messages, refusal::Refusal};
use crate::{
    driver::{Command, Handle, JobView, Refused},
    job::Job,
    job_memory,
    records::{
        events::{Begin, Follower, LineFile},
        report::{REPORT, ReportSummary},
    },
    store::Resumption,
};

pub(super) struct JobsService {
    pub handle: Handle,
    /// Where the files of submitted jobs may lie.
    pub roots: CorpusRoots,
}

type Answer<T> = Result<Response<T>, Status>;
type LogLines = Pin<Box<dyn Stream<Item = Result<v1::LogLine, Status>> + Send>>;
type Pieces = Pin<Box<dyn Stream<Item = Result<v1::Piece, Status>> + Send>>;

/// A submitted job, checked as far as that goes without preparing it: the files that it names lie beneath `roots`.
fn check(toml: &str, roots: &CorpusRoots) -> Result<Job, Refusal> {
    let job = Job::parse(toml, Path::new("job.toml"), &[])?;
    job_memory::check_submitted(&job)?;
    for path in files(&job) {
        if path.is_relative() {
            return Err(Refusal::Relative {
                path: path.to_owned(),
            });
        }
        let refused = |source| Refusal::File {
            path: path.to_owned(),
            source,
        };
        // A model to begin with may be a folder.
        let is_model = Some(path) == job.train.init.as_deref();
        if is_model && roots.locate(path).map_err(refused)?.is_dir() {
            continue;
        }
        roots.open(path).map_err(refused)?;
    }
    Ok(job)
}

/// The files that a job names.
fn files(job: &Job) -> impl Iterator<Item = &Path> {
    let manifests = [&job.corpus.train, &job.corpus.valid, &job.train.init];
    let manifests = manifests.into_iter().flatten().map(PathBuf::as_path);
    let decode = job.decode.iter();
    let words = decode.flat_map(|decode| [&decode.language_model, &decode.lexicon]);
    manifests.chain(words.filter_map(|source| match source {
        WordSource::File(path) => Some(path.as_path()),
        WordSource::None | WordSource::Train => None,
    }))
}

/// A view as a message; of a job that has ended, with the figures of its report. Reads a file.
fn status(view: JobView) -> v1::JobStatus {
    let ended = view.entry.state.has_ended();
    let figures = ended.then(|| ReportSummary::read(&view.run_dir)).flatten();
    messages::job_status(view, figures)
}

/// As many of `views`, from the first on, as one message should have. `all` says that there are no others
/// behind them.
fn page(views: Vec<JobView>, all: bool) -> v1::ListResponse {
    let (mut jobs, mut bytes, mut all) = (Vec::with_capacity(views.len()), 0, all);
    for view in views {
        let job = status(view);
        bytes += pieces::encoded_len(&job);
        if bytes > PART_BYTES && !jobs.is_empty() {
            all = false;
            break;
        }
        jobs.push(job);
    }
    let last = jobs.last().filter(|_| !all);
    let next = last.map_or(String::new(), |job| job.id.clone());
    v1::ListResponse { jobs, next }
}

/// Does what reads files where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|broken| Refusal::Broken(broken.to_string()))
}

impl JobsService {
    async fn submit_job(&self, request: v1::SubmitRequest) -> Result<String, Refusal> {
        if request.program_version != PROGRAM_VERSION {
            return Err(Refused::Version {
                what: "this program".to_owned(),
                theirs: request.program_version,
                ours: PROGRAM_VERSION,
            }
            .into());
        }
        let checked = {
            let roots = self.roots.clone();
            tokio::task::spawn_blocking(move || check(&request.job_toml, &roots))
        };
        let job = Box::new(checked.await.expect("checking a job does not panic")?);
        Ok(self
            .handle
            .ask(|reply| Command::Submit { job, reply })
            .await??)
    }

    async fn view(
        &self,
        command: impl FnOnce(crate::driver::Reply<Result<JobView, Refused>>) -> Command,
    ) -> Answer<v1::JobStatus> {
        let view = self.handle.ask(command).await.map_err(Refusal::from)?;
        let view = view.map_err(Refusal::from)?;
        Ok(Response::new(blocking(move || status(view)).await?))
    }

    async fn follow(&self, request: v1::LogsRequest, lines: LineFile) -> Answer<LogLines> {
        let v1::LogsRequest { id, follow, begin } = request;
        let begin = match begin {
            None | Some(v1::logs_request::Begin::CurrentStart(false)) => Begin::First,
            Some(v1::logs_request::Begin::CurrentStart(true)) => Begin::CurrentStart,
            Some(v1::logs_request::Begin::Offset(offset)) => Begin::Offset(offset),
        };
        let found = self.handle.ask(|reply| Command::Follow { id, reply }).await;
        let (run_dir, feed) = found.map_err(Refusal::from)?.map_err(Refusal::from)?;
        let follower = Follower::new(&run_dir, lines, feed, follow, begin);
        let batches = stream::try_unfold(follower, |mut follower| async move {
            let lines = follower.next().await.map_err(Refusal::from)?;
            Ok::<_, Status>(lines.map(|lines| (lines, follower)))
        });
        let lines = batches.flat_map(|batch| {
            stream::iter(match batch {
                Ok(lines) => {
                    let messages = lines
                        .iter()
                        .flat_map(|line| pieces::line(line.offset, &line.text));
                    messages.map(Ok).collect()
                }
                Err(status) => vec![Err(status)],
            })
        });
        Ok(Response::new(Box::pin(lines)))
    }
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type LogsStream = LogLines;
    type MetricsStream = LogLines;
    type ReportStream = Pieces;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let caller = Caller::of(&request);
        let audited = Audited::of(&request);
        let id = self.submit_job(request.into_inner()).await?;
        audited.name_job(&id);
        tracing::info!(%caller, job = id, "submitted");
        Ok(Response::new(v1::SubmitResponse { id }))
    }

    async fn submit_in_pieces(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Answer<v1::SubmitResponse> {
        /// The longest text of a job, in bytes. Parsing it takes several times as much memory.
        const MAX_JOB_BYTES: usize = 16 << 20;
        let caller = Caller::of(&request);
        let audited = Audited::of(&request);
        let mut pieces = request.into_inner();
        let mut whole = v1::SubmitRequest::default();
        while let Some(piece) = pieces.message().await? {
            if whole.job_toml.len() + piece.job_toml.len() > MAX_JOB_BYTES {
                return Err(Refusal::LongJob {
                    most: MAX_JOB_BYTES,
                }
                .into());
            }
            whole.job_toml.push_str(&piece.job_toml);
            whole.program_version = piece.program_version;
        }
        let id = self.submit_job(whole).await?;
        audited.name_job(&id);
        tracing::info!(%caller, job = id, "submitted");
        Ok(Response::new(v1::SubmitResponse { id }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        /// Jobs that are looked at for a page; a message may have fewer.
        const MAX_PAGE_JOBS: usize = 1000;
        let after = request.into_inner().after;
        let views = self.handle.ask(|reply| Command::List {
            after,
            most: MAX_PAGE_JOBS,
            reply,
        });
        let views = views.await.map_err(Refusal::from)?;
        let all = views.len() < MAX_PAGE_JOBS;
        Ok(Response::new(blocking(move || page(views, all)).await?))
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Answer<Self::ReportStream> {
        let id = request.into_inner().id;
        let view = self.handle.ask(|reply| Command::Status { id, reply }).await;
        let view = view.map_err(Refusal::from)?.map_err(Refusal::from)?;
        let ended = view.entry.state.has_ended();
        let path = view.run_dir.join(REPORT);
        let read = move || regular_file::read(&path, MOST_JOINED as u64).ok();
        let report = blocking(move || ended.then(read).flatten()).await?;
        let pieces = pieces::cut(report.unwrap_or_default().into());
        Ok(Response::new(Box::pin(stream::iter(pieces.map(Ok)))))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::JobStatus> {
        let id = request.into_inner().id;
        self.view(|reply| Command::Status { id, reply }).await
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<LogLines> {
        self.follow(request.into_inner(), LineFile::Events).await
    }

    async fn metrics(&self, request: Request<v1::LogsRequest>) -> Answer<LogLines> {
        self.follow(request.into_inner(), LineFile::Metrics).await
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::JobStatus> {
        Audited::of(&request).name_job(&request.get_ref().id);
        let id = request.into_inner().id;
        self.view(|reply| Command::Cancel { id, reply }).await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::JobStatus> {
        Audited::of(&request).name_job(&request.get_ref().id);
        let v1::ResumeRequest {
            id,
            sets,
            allow_change,
        } = request.into_inner();
        let resumption = Resumption {
            job: None,
            sets,
            allow_change,
        };
        self.view(|reply| Command::Resume {
            id,
            resumption,
            reply,
        })
        .await
    }

    async fn prune(&self, request: Request<v1::PruneRequest>) -> Answer<v1::PruneResponse> {
        let age = Duration::from_secs(request.into_inner().seconds);
        let pruned = self.handle.ask(|reply| Command::Prune { age, reply }).await;
        let (jobs, folder) = pruned.map_err(Refusal::from)?.map_err(Refusal::from)?;
        let folder = folder.to_string_lossy().into_owned();
        Ok(Response::new(v1::PruneResponse { jobs, folder }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Answer<v1::ListWorkersResponse> {
        let workers = self.handle.ask(|reply| Command::Workers { reply }).await;
        let workers = workers.map_err(Refusal::from)?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(Into::into).collect(),
        }))
    }
}
