//! The service that workers talk to, tensors aside.

use std::time::Duration;

use proto::{
    contribution::Key,
    convert::ConvertError,
    v1::{self, workers_server::Workers},
};
use tonic::{Request, Response, Status};

use super::{messages, refusal::Refusal};
use crate::driver::{Command, Handle, Introduction, Refused};

pub struct WorkersService(pub Handle);

type Answer<T> = Result<Response<T>, Status>;

fn key(key: Option<v1::Key>) -> Result<Key, Refusal> {
    let key = key.ok_or(ConvertError::Missing("key"))?;
    Ok(key.try_into()?)
}

impl WorkersService {
    async fn ask<T>(
        &self,
        command: impl FnOnce(crate::driver::Reply<T>) -> Command,
    ) -> Result<T, Refusal> {
        Ok(self.0.ask(command).await?)
    }
}

#[tonic::async_trait]
impl Workers for WorkersService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        let v1::JoinRequest {
            name,
            program_version,
            compute_class,
            threads,
        } = request.into_inner();
        let introduction = Introduction {
            name,
            program_version,
            compute_class,
            threads,
        };
        let joined = self
            .ask(|reply| Command::Join {
                introduction,
                reply,
            })
            .await?;
        Ok(Response::new(
            messages::join(joined).map_err(Refusal::from)?,
        ))
    }

    async fn describe_job(
        &self,
        request: Request<v1::DescribeJobRequest>,
    ) -> Answer<v1::JobDescription> {
        let job = request.into_inner().job;
        let posted = self.0.posted().filter(|posted| posted.job == job);
        let posted = posted.ok_or_else(|| Refusal::from(Refused::NotRunning(job.clone())))?;
        Ok(Response::new(v1::JobDescription {
            job,
            recipe_json: posted.recipe_json.clone(),
            voices: messages::voices(&posted.prepared.voices),
            wire: v1::Wire::from(posted.wire).into(),
        }))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Answer<v1::LeaseResponse> {
        let v1::LeaseRequest {
            worker,
            generation,
            patience_ms,
            holds,
        } = request.into_inner();
        let holds: Result<Vec<Key>, Refusal> =
            holds.into_iter().map(|one| key(Some(one))).collect();
        let holds = holds?;
        let answer = self
            .ask(|reply| Command::Lease {
                worker,
                generation,
                patience: Duration::from_millis(patience_ms.into()),
                holds,
                reply,
            })
            .await?;
        Ok(Response::new(messages::lease(answer)))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Answer<v1::HeartbeatResponse> {
        let v1::HeartbeatRequest { worker, generation } = request.into_inner();
        let known = self
            .ask(|reply| Command::Heartbeat {
                worker,
                generation,
                reply,
            })
            .await?;
        Ok(Response::new(v1::HeartbeatResponse { known }))
    }

    async fn report(&self, request: Request<v1::EvaluationReport>) -> Answer<v1::Receipt> {
        let report = request.into_inner();
        let key = key(report.key)?;
        let results = report.results.into_iter().map(Into::into).collect();
        let outcome = self
            .ask(|reply| Command::Report {
                worker: report.worker,
                key,
                results,
                reply,
            })
            .await?
            .map_err(Refusal::from)?;
        Ok(Response::new(messages::receipt(outcome)))
    }

    async fn give_back(
        &self,
        request: Request<v1::GiveBackRequest>,
    ) -> Answer<v1::GiveBackResponse> {
        let returned = request.into_inner();
        let key = key(returned.key)?;
        self.ask(|reply| Command::GiveBack {
            worker: returned.worker,
            key,
            reason: returned.reason,
            fatal: returned.fatal,
            reply,
        })
        .await?;
        Ok(Response::new(v1::GiveBackResponse {}))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveResponse> {
        let v1::LeaveRequest { worker, generation } = request.into_inner();
        self.ask(|reply| Command::Leave {
            worker,
            generation,
            reply,
        })
        .await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
