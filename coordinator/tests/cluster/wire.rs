//! What is worth a contribution, and what is served, byte for byte.

use proto::{
    contribution::Key,
    v1::{self, receipt::Outcome},
};
use tonic::Code;

use crate::{
    site::{Live, Site, within},
    toy::{Did, Toy, key, spent},
};

async fn running(site: &Site) -> (Live, String, Toy) {
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let toy = Toy::join(&live.url, "toy").await;
    (live, id, toy)
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_late_and_foreign_contributions_are_told_apart_and_never_added() {
    let site = Site::new();
    let expected = {
        let (mut live, id, toy) = running(&site).await;
        tokio::spawn(toy.work());
        live.succeeded(&id).await.weights_sha256
    };

    let site = Site::new();
    let (mut live, id, mut toy) = running(&site).await;
    let mut other = Toy::join(&live.url, "other").await;
    let lease = within(toy.lease()).await;
    // With a second worker about, nobody gets a whole step.
    let waiting = within(other.lease()).await;
    let contribution = toy.compute(&lease).await.unwrap();
    let push = |toy: &Toy, key: Key| {
        let (mut toy, contribution) = (toy.clone(), contribution.clone());
        async move { toy.push(key, &contribution).await.unwrap() }
    };
    assert_eq!(push(&toy, key(&lease)).await, Outcome::Accepted);
    assert_eq!(push(&toy, key(&lease)).await, Outcome::Duplicate);
    let mut foreign = key(&lease);
    foreign.generation += 1;
    assert_eq!(push(&toy, foreign).await, Outcome::Stale);
    let mut foreign = key(&lease);
    foreign.job.push('x');
    assert_eq!(push(&toy, foreign).await, Outcome::Stale);
    let mut foreign = key(&lease);
    foreign.step += 1;
    assert_eq!(push(&toy, foreign).await, Outcome::Stale);

    let did = other.fulfil(&waiting).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Accepted));
    other.leave().await;
    let finished = tokio::spawn(toy.clone().work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(push(&toy, key(&lease)).await, Outcome::Stale);
    for (kind, count) in [("duplicates", 1), ("stale", 1), ("foreign", 1), ("late", 1)] {
        assert_eq!(report.faults[kind], count, "{kind}");
    }
    assert_eq!(report.faults["leaves"], 1);
    live.shutdown().await;
    within(finished).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_not_what_it_announces_is_refused_and_costs_nothing() {
    let site = Site::new();
    let (live, _, mut toy) = running(&site).await;
    let lease = within(toy.lease()).await;
    let contribution = toy.compute(&lease).await.unwrap();
    let sum = contribution.sum.clone().unwrap();
    let header = v1::ContributionHeader::new(&toy.session, key(&lease), &contribution, spent());

    let code = |result: Result<Outcome, tonic::Status>| result.unwrap_err().code();
    let announced = v1::ContributionHeader {
        elements: 1 << 60,
        ..header.clone()
    };
    assert_eq!(
        code(toy.push_parts(announced, &sum).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(toy.push_parts(header.clone(), &sum[1..]).await),
        Code::InvalidArgument
    );
    let mut flipped = sum.clone();
    flipped[0] += 1.0;
    assert_eq!(
        code(toy.push_parts(header.clone(), &flipped).await),
        Code::DataLoss
    );
    let negative = v1::ContributionHeader {
        weight: -1.0,
        ..header.clone()
    };
    assert_eq!(
        code(toy.push_parts(negative, &sum).await),
        Code::InvalidArgument
    );
    let without = v1::ContributionHeader {
        key: None,
        ..header.clone()
    };
    assert_eq!(
        code(toy.push_parts(without, &sum).await),
        Code::InvalidArgument
    );
    assert_eq!(
        toy.push_parts(header, &sum).await.unwrap(),
        Outcome::Accepted
    );
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_weights_can_be_pulled() {
    let site = Site::new();
    let (live, id, mut toy) = running(&site).await;
    let lease = within(toy.lease()).await;
    let mut wanted = key(&lease);
    wanted.step += 1;
    let request = v1::PullRequest {
        averaged: false,
        job: id,
        generation: toy.generation,
        version: 1,
        boot_id: String::new(),
        worker: toy.worker,
        session: toy.session.secret.clone(),
    };
    let refused = toy.tensors.pull(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the newest is 0"), "{refused}");
    let request = v1::PullRequest {
        averaged: false,
        job: "0007-other".to_owned(),
        ..request
    };
    let refused = toy.tensors.pull(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_is_served_by_digest_and_by_nothing_else() {
    let site = Site::new();
    let (live, id, mut toy) = running(&site).await;
    let lease = within(toy.lease()).await;
    let utterances: Vec<v1::Utterance> = lease
        .micro_batches
        .iter()
        .flat_map(|micro_batch| micro_batch.utterances.clone())
        .collect();
    let digests = utterances.iter().map(|it| it.audio_digest.clone());
    let request = toy.fetch(&id, digests.collect());
    let mut chunks = toy.tensors.fetch_audio(request).await.unwrap().into_inner();
    let mut files = vec![Vec::new(); utterances.len()];
    let mut ended = 0;
    while let Some(chunk) = within(chunks.message()).await.unwrap() {
        assert_eq!(chunk.file as usize, ended, "files come one after the other");
        files[chunk.file as usize].extend_from_slice(&chunk.data);
        ended += usize::from(chunk.last);
    }
    assert_eq!(ended, files.len());
    for (utterance, file) in utterances.iter().zip(&files) {
        assert_eq!(*file, std::fs::read(&utterance.audio_path).unwrap());
        assert_eq!(utterance.audio_bytes, file.len() as u64);
        assert_eq!(
            blake3::hash(file).as_bytes()[..],
            utterance.audio_digest[..]
        );
    }

    for unknown in [vec![7; 32], b"/etc/passwd".to_vec(), Vec::new()] {
        let request = toy.fetch(&id, vec![unknown.into()]);
        let refused = toy.tensors.fetch_audio(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
    let request = toy.fetch(&id, vec![utterances[0].audio_digest.clone(); 5000]);
    let refused = toy.tensors.fetch_audio(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let site = Site::new();
    let live = site.start().await;
    let channel = crate::toy::channel(&live.url).await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["Workers", "Tensors", "Jobs"] {
        let request = HealthCheckRequest {
            service: format!("unisono.v1.{service}"),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(tokio_stream::once(request));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("services were asked for: {answer:?}");
    };
    let names: Vec<String> = services.service.into_iter().map(|it| it.name).collect();
    assert!(names.contains(&"unisono.v1.Jobs".to_owned()), "{names:?}");
    live.shutdown().await;
}
