//! What is too long for one message: recipes, leases and reports that come and go in several. It decides
//! when that is so on this side, and puts together what the coordinator has cut.

use std::time::Duration;

use proto::{
    endpoint::Connection,
    pieces::{self, Joined},
    session::WorkerSession,
    v1::{self, workers_client::WorkersClient},
};
use tonic::Streaming;

use super::PATIENCE;
use crate::transfer::{CallError, SILENCE, answer};

/// Time for all of a report to arrive and be judged.
const REPORTING: Duration = Duration::from_secs(60);

/// What is known of a job, its recipe included however long it is.
///
/// # Errors
/// See [`CallError`].
pub(super) async fn describe(
    mut control: WorkersClient<Connection>,
    session: WorkerSession,
    job: String,
) -> Result<v1::JobDescription, CallError> {
    const CALL: &str = "Recipe";
    let request = v1::DescribeJobRequest {
        job,
        worker: session.worker,
        session: session.secret,
    };
    let described = control.describe_job(request.clone());
    let described = answer("DescribeJob", PATIENCE, described).await?;
    let mut description = described.into_inner();
    if description.recipe_json.is_empty() {
        let recipe = answer(CALL, SILENCE, control.recipe(request)).await?;
        let mut pieces = recipe.into_inner();
        let mut joined = Joined::default();
        while let Some(piece) = next(CALL, &mut pieces).await? {
            let pushed = joined.push(&piece.data);
            pushed.map_err(|error| CallError::nonsense(CALL, error))?;
        }
        let recipe = joined.take();
        description.recipe_json = recipe.map_err(|error| CallError::nonsense(CALL, error))?;
    }
    Ok(description)
}

/// A lease with its micro-batches, which may come apart from it.
///
/// # Errors
/// See [`CallError`].
pub(super) async fn whole_lease(
    mut control: WorkersClient<Connection>,
    session: WorkerSession,
    lease: v1::Lease,
) -> Result<v1::Lease, CallError> {
    const CALL: &str = "LeaseInParts";
    if !lease.in_parts {
        return Ok(lease);
    }
    let key = lease.key.clone();
    let request = v1::LeaseInPartsRequest {
        worker: session.worker,
        session: session.secret,
        key,
    };
    let parts = answer(CALL, SILENCE, control.lease_in_parts(request)).await?;
    let mut parts = parts.into_inner();
    let mut whole = lease;
    while let Some(part) = next(CALL, &mut parts).await? {
        append(&mut whole, part);
    }
    Ok(whole)
}

/// Adds what comes next of a lease.
fn append(lease: &mut v1::Lease, part: v1::LeasePart) {
    let before = lease.voices.len() as u32;
    lease.voices.extend(part.voices);
    for mut micro_batch in part.micro_batches {
        for utterance in &mut micro_batch.utterances {
            // Checked with the whole lease.
            utterance.voice = utterance.voice.map(|voice| voice.saturating_add(before));
        }
        match lease.micro_batches.last_mut() {
            Some(last) if last.index == micro_batch.index => {
                last.utterances.append(&mut micro_batch.utterances);
            }
            _ => lease.micro_batches.push(micro_batch),
        }
    }
}

/// Hands the results of an evaluation in.
///
/// # Errors
/// See [`CallError`].
pub(super) async fn report(
    mut control: WorkersClient<Connection>,
    report: v1::EvaluationReport,
) -> Result<v1::Receipt, CallError> {
    let mut parts = pieces::reports(report);
    let receipt = match parts.pop() {
        Some(only) if parts.is_empty() => answer("Report", PATIENCE, control.report(only)).await?,
        last => {
            parts.extend(last);
            let sent = control.report_in_parts(futures::stream::iter(parts));
            answer("ReportInParts", REPORTING, sent).await?
        }
    };
    Ok(receipt.into_inner())
}

/// Why a lease is returned, in a message of bounded size: it may name many utterances.
pub(super) fn shown(reason: String) -> String {
    const MOST: usize = 64 << 10;
    pieces::bounded(reason, MOST)
}

async fn next<T>(call: &'static str, messages: &mut Streaming<T>) -> Result<Option<T>, CallError> {
    answer(call, SILENCE, messages.message()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An utterance's place and that of its speaker.
    type Named = (u32, Option<u32>);

    #[test]
    fn a_micro_batch_that_was_cut_is_whole_again_with_its_speakers() {
        let utterance = |index, voice| v1::Utterance {
            index,
            voice,
            ..v1::Utterance::default()
        };
        let part = |micro_batches: &[(u32, &[Named])], voices| v1::LeasePart {
            micro_batches: micro_batches
                .iter()
                .map(|(index, utterances)| v1::MicroBatch {
                    index: *index,
                    utterances: utterances.iter().map(|(i, v)| utterance(*i, *v)).collect(),
                })
                .collect(),
            voices: vec![v1::Voice::default(); voices],
        };
        let mut lease = v1::Lease::default();
        append(&mut lease, part(&[(4, &[(7, Some(1)), (8, None)])], 2));
        append(
            &mut lease,
            part(&[(4, &[(9, Some(0))]), (5, &[(1, Some(2))])], 3),
        );
        append(&mut lease, part(&[], 0));
        assert_eq!(lease.voices.len(), 5);
        let found: Vec<(u32, Vec<Named>)> = lease
            .micro_batches
            .iter()
            .map(|one| {
                let utterances = one.utterances.iter();
                (
                    one.index,
                    utterances.map(|it| (it.index, it.voice)).collect(),
                )
            })
            .collect();
        let first = vec![(7, Some(1)), (8, None), (9, Some(2))];
        assert_eq!(found, [(4, first), (5, vec![(1, Some(4))])]);
    }
}
