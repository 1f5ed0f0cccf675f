//! Vectors of a toy, out and in.

use bytes::Bytes;
use proto::{
    tensor::{self, Assembler},
    v1::{self, receipt::Outcome, tensors_client::TensorsClient},
    wire::Wire,
};
use tonic::{Status, transport::Channel};

pub async fn pull(
    mut tensors: TensorsClient<Channel>,
    request: v1::PullRequest,
    elements: usize,
    wire: Wire,
) -> Result<Vec<f32>, Status> {
    let mut chunks = tensors.pull(request).await?.into_inner();
    let mut assembler = Assembler::new(elements as u64, elements).unwrap().of(wire);
    while let Some(chunk) = chunks.message().await? {
        assembler.push(&chunk).unwrap();
    }
    assembler
        .finish()
        .map_err(|error| Status::data_loss(error.to_string()))
}

pub async fn push(
    mut tensors: TensorsClient<Channel>,
    header: v1::ContributionHeader,
    vector: Bytes,
    wire: Wire,
) -> Result<Outcome, Status> {
    use v1::push_request::Part;
    let chunks = tensor::chunks(vector, wire).map(Part::Chunk);
    let parts = std::iter::once(Part::Header(header)).chain(chunks);
    let parts = parts.map(|part| v1::PushRequest { part: Some(part) });
    let receipt = tensors.push(tokio_stream::iter(parts)).await?;
    Ok(receipt.into_inner().outcome())
}
