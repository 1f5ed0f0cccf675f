//! The service that workers talk to, tensors aside.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use proto::{
    contribution::Key,
    convert::ConvertError,
    pieces::{self, PART_BYTES},
    v1::{self, workers_server::Workers},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    audit::Audited,
    messages,
    refusal::Refusal,
    session::{self, Claim, Sessions},
};
use crate::driver::{ActiveJob, Command, Handle, Hypothesis, Introduction, Refused};

pub(super) struct WorkersService {
    handle: Handle,
    sessions: Arc<Sessions>,
}

type Answer<T> = Result<Response<T>, Status>;
type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn key(key: Option<v1::Key>) -> Result<Key, Refusal> {
    let key = key.ok_or(ConvertError::Missing("key"))?;
    Ok(key.try_into()?)
}

impl WorkersService {
    pub(super) fn new(handle: Handle, sessions: Arc<Sessions>) -> Self {
        Self { handle, sessions }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(crate::driver::Reply<T>) -> Command,
    ) -> Result<T, Refusal> {
        Ok(self.handle.ask(command).await?)
    }

    fn active_job(&self, job: &str) -> Result<Arc<ActiveJob>, Refusal> {
        let active_job = self
            .handle
            .active_job()
            .filter(|active_job| active_job.job == job);
        active_job.ok_or_else(|| Refused::NotRunning(job.to_owned()).into())
    }

    async fn hand_in_results(
        &self,
        worker: u64,
        key: Key,
        results: Vec<Hypothesis>,
    ) -> Answer<v1::Receipt> {
        let outcome = self
            .ask(|reply| Command::Report {
                worker,
                key,
                results,
                reply,
            })
            .await?
            .map_err(Refusal::from)?;
        Ok(Response::new(messages::receipt(outcome)))
    }
}

#[tonic::async_trait]
impl Workers for WorkersService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        let identity = session::identity(&request);
        let peer = session::peer(&request);
        let audited = Audited::of(&request);
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
                peer,
                reply,
            })
            .await?;
        if let Err(refused) = &joined {
            audited.refuse(&refused.to_string());
        }
        let session = |worker| self.sessions.issue(worker, &identity);
        let joined = messages::join(joined, session).map_err(Refusal::from)?;
        Ok(Response::new(joined))
    }

    async fn describe_job(
        &self,
        request: Request<v1::DescribeJobRequest>,
    ) -> Answer<v1::JobDescription> {
        let v1::DescribeJobRequest { job, .. } = self.sessions.message_of_member(request)?;
        let active_job = self.active_job(&job)?;
        Ok(Response::new(v1::JobDescription {
            job,
            recipe_json: match active_job.recipe_json.len() {
                0..=PART_BYTES => active_job.recipe_json.clone(),
                _ => String::new(),
            },
            wire: v1::Wire::from(active_job.wire).into(),
        }))
    }

    type RecipeStream = Parts<v1::Piece>;

    async fn recipe(&self, request: Request<v1::DescribeJobRequest>) -> Answer<Self::RecipeStream> {
        let v1::DescribeJobRequest { job, .. } = self.sessions.message_of_member(request)?;
        let active_job = self.active_job(&job)?;
        let pieces = pieces::cut(active_job.recipe_json.clone().into());
        Ok(Response::new(Box::pin(stream::iter(pieces.map(Ok)))))
    }

    type LeaseInPartsStream = Parts<v1::LeasePart>;

    async fn lease_in_parts(
        &self,
        request: Request<v1::LeaseInPartsRequest>,
    ) -> Answer<Self::LeaseInPartsStream> {
        let v1::LeaseInPartsRequest {
            worker, key: named, ..
        } = self.sessions.message_of_member(request)?;
        let key = key(named)?;
        let node = key.node.to_string();
        let leased = self
            .ask(|reply| Command::LeasedNode { worker, key, reply })
            .await?;
        let parts = leased.ok_or(Refusal::NotLeased(node))?.into_parts();
        Ok(Response::new(Box::pin(stream::iter(parts.map(Ok)))))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Answer<v1::LeaseResponse> {
        let generation = request.get_ref().generation;
        let v1::LeaseRequest {
            worker,
            patience_ms,
            holds,
            ..
        } = self.sessions.message_of(request, generation)?;
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
        let generation = request.get_ref().generation;
        let v1::HeartbeatRequest { worker, .. } = self.sessions.message_of(request, generation)?;
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
        let report = self.sessions.message(request)?;
        let key = key(report.key)?;
        let results = report.results.into_iter().map(Into::into).collect();
        self.hand_in_results(report.worker, key, results).await
    }

    async fn report_in_parts(
        &self,
        request: Request<Streaming<v1::EvaluationReport>>,
    ) -> Answer<v1::Receipt> {
        let identity = session::identity(&request);
        let mut parts = request.into_inner();
        let first = parts.message().await?;
        let v1::EvaluationReport {
            worker,
            key: named,
            results,
            session: secret,
        } = first.ok_or(Refusal::Parts("there is none"))?;
        self.sessions
            .check(Claim::new(worker, &secret, &identity))?;
        let mut results: Vec<Hypothesis> = results.into_iter().map(Into::into).collect();
        while let Some(part) = parts.message().await? {
            if (part.worker, &part.key, &part.session) != (worker, &named, &secret) {
                return Err(Refusal::Parts("the worker or the key differs").into());
            }
            results.extend(part.results.into_iter().map(Hypothesis::from));
        }
        self.hand_in_results(worker, key(named)?, results).await
    }

    async fn give_back(
        &self,
        request: Request<v1::GiveBackRequest>,
    ) -> Answer<v1::GiveBackResponse> {
        let returned = self.sessions.message(request)?;
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
        let generation = request.get_ref().generation;
        let v1::LeaveRequest { worker, .. } = self.sessions.message_of(request, generation)?;
        self.ask(|reply| Command::Leave {
            worker,
            generation,
            reply,
        })
        .await?;
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
