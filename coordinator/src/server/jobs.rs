//! The service that people talk to: jobs submitted, watched, cancelled and resumed.

use std::path::Path;

use futures::{Stream, StreamExt as _, stream};
use proto::{
    PROGRAM_VERSION,
    v1::{self, jobs_server::Jobs},
};
use tonic::{Request, Response, Status};

use super::{messages, refusal::Refusal};
use crate::{
    driver::{Command, Handle, JobView, Refused},
    events::{Follower, Lines},
    job::Job,
};

pub struct JobsService(pub Handle);

type Answer<T> = Result<Response<T>, Status>;
type LogLines = std::pin::Pin<Box<dyn Stream<Item = Result<v1::LogLine, Status>> + Send>>;

/// A submitted job, checked as far as that goes without preparing it.
fn check(toml: &str) -> Result<Job, Refusal> {
    let job = Job::parse(toml, Path::new("job.toml"), &[])?;
    for path in [&job.corpus.train, &job.corpus.valid].into_iter().flatten() {
        if path.is_relative() {
            return Err(Refusal::Relative { path: path.clone() });
        }
        std::fs::File::open(path).map_err(|source| Refusal::Manifest {
            path: path.clone(),
            source,
        })?;
    }
    Ok(job)
}

/// A view as a message; of a job that has ended, with the report beside it.
async fn status(view: JobView) -> v1::JobStatus {
    let report = match view.entry.state.has_ended() {
        true => tokio::fs::read_to_string(view.run_dir.join("report.json"))
            .await
            .ok(),
        false => None,
    };
    messages::job_status(view, report)
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
        let checked = tokio::task::spawn_blocking(move || check(&request.job_toml));
        let job = Box::new(checked.await.expect("checking a job does not panic")?);
        Ok(self.0.ask(|reply| Command::Submit { job, reply }).await??)
    }

    async fn view(
        &self,
        command: impl FnOnce(crate::driver::Reply<Result<JobView, Refused>>) -> Command,
    ) -> Answer<v1::JobStatus> {
        let view = self.0.ask(command).await.map_err(Refusal::from)?;
        let view = view.map_err(Refusal::from)?;
        Ok(Response::new(status(view).await))
    }

    async fn follow(&self, request: v1::LogsRequest, lines: Lines) -> Answer<LogLines> {
        let v1::LogsRequest { id, follow } = request;
        let found = self.0.ask(|reply| Command::Follow { id, reply }).await;
        let (run_dir, feed) = found.map_err(Refusal::from)?.map_err(Refusal::from)?;
        let follower = Follower::new(&run_dir, lines, feed, follow);
        let batches = stream::try_unfold(follower, |mut follower| async move {
            let lines = follower.next().await.map_err(Refusal::from)?;
            Ok::<_, Status>(lines.map(|lines| (lines, follower)))
        });
        let lines = batches.flat_map(|batch| {
            stream::iter(match batch {
                Ok(lines) => lines
                    .into_iter()
                    .map(|json| Ok(v1::LogLine { json }))
                    .collect(),
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

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let id = self.submit_job(request.into_inner()).await?;
        Ok(Response::new(v1::SubmitResponse { id }))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListResponse> {
        let views = self.0.ask(|reply| Command::List { reply }).await;
        let views = stream::iter(views.map_err(Refusal::from)?);
        let jobs = views.then(status).collect().await;
        Ok(Response::new(v1::ListResponse { jobs }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::JobStatus> {
        let id = request.into_inner().id;
        self.view(|reply| Command::Status { id, reply }).await
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<LogLines> {
        self.follow(request.into_inner(), Lines::Events).await
    }

    async fn metrics(&self, request: Request<v1::LogsRequest>) -> Answer<LogLines> {
        self.follow(request.into_inner(), Lines::Metrics).await
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::JobStatus> {
        let id = request.into_inner().id;
        self.view(|reply| Command::Cancel { id, reply }).await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::JobStatus> {
        let id = request.into_inner().id;
        self.view(|reply| Command::Resume { id, reply }).await
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Answer<v1::ListWorkersResponse> {
        let workers = self.0.ask(|reply| Command::Workers { reply }).await;
        let workers = workers.map_err(Refusal::from)?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: workers.into_iter().map(Into::into).collect(),
        }))
    }
}
