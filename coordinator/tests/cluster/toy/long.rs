//! What comes to a toy, and goes from it, in several messages.

use proto::{
    pieces,
    v1::{self, workers_client::WorkersClient},
};
use tonic::{Response, Status, transport::Channel};

use super::Toy;

impl Toy {
    /// A lease with its micro-batches, which may come apart from it.
    pub(super) async fn whole(&mut self, lease: &v1::Lease) -> Result<v1::Lease, Status> {
        let mut whole = lease.clone();
        if lease.in_parts {
            let (worker, key) = (self.worker, lease.key.clone());
            let session = self.session.secret.clone();
            let request = v1::LeaseInPartsRequest {
                worker,
                key,
                session,
            };
            let mut parts = self.workers.lease_in_parts(request).await?.into_inner();
            while let Some(part) = parts.message().await? {
                assert!(pieces::encoded_len(&part) <= pieces::PART_BYTES);
                for mut next in part.micro_batches {
                    match whole.micro_batches.last_mut() {
                        Some(last) if last.index == next.index => {
                            last.utterances.append(&mut next.utterances);
                        }
                        _ => whole.micro_batches.push(next),
                    }
                }
            }
        }
        Ok(whole)
    }

    /// The recipe of a description, which may come apart from it.
    pub(super) async fn recipe_json(
        &mut self,
        described: v1::JobDescription,
    ) -> Result<String, Status> {
        if !described.recipe_json.is_empty() {
            return Ok(described.recipe_json);
        }
        let request = self.describe(&described.job);
        let mut pieces = self.workers.recipe(request).await?.into_inner();
        let mut recipe = Vec::new();
        while let Some(piece) = pieces.message().await? {
            recipe.extend_from_slice(&piece.data);
        }
        Ok(String::from_utf8(recipe).unwrap())
    }
}

/// Hands a report in, however long it is.
pub(super) async fn report(
    mut workers: WorkersClient<Channel>,
    report: v1::EvaluationReport,
) -> Result<Response<v1::Receipt>, Status> {
    match <[_; 1]>::try_from(pieces::reports(report)) {
        Ok([only]) => workers.report(only).await,
        Err(parts) => workers.report_in_parts(futures::stream::iter(parts)).await,
    }
}
