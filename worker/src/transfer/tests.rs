//! One attempt at each call, against a coordinator that follows a script.

use std::net::SocketAddr;

use proto::{
    contribution::{Contribution, PassKind},
    endpoint::Bearer,
    tree::Node,
};
use tonic::transport::Endpoint;

use super::*;
use crate::session::tests::coordinator::{Call, Coordinator, Script};

fn transfer(address: SocketAddr) -> Transfer {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    Transfer::new(Connection::new(endpoint.connect_lazy(), Bearer::default()))
}

fn key() -> Key {
    Key {
        job: "job".to_owned(),
        generation: 1,
        kind: PassKind::Gradient,
        step: 4,
        node: Node::leaf(0),
        attempt: 0,
    }
}

fn wanted(bytes: &[u8]) -> Wanted {
    Wanted {
        path: "/a.wav".into(),
        bytes: bytes.len() as u64,
        digest: *blake3::hash(bytes).as_bytes(),
    }
}

#[tokio::test]
async fn a_vector_of_several_chunks_arrives_as_it_was() {
    let mut coordinator = Coordinator::start(Script::default()).await;
    let contribution = Contribution {
        sum: Some((0..600_000).map(|i| i as f32 * 0.1).collect()),
        weight: 3.0,
        ..Contribution::default()
    };
    let vector = Vector::new(contribution.sum.clone().unwrap(), Wire::F32);
    let header = v1::ContributionHeader::new(
        &WorkerSession::default(),
        key(),
        &contribution,
        v1::Spent::default(),
    );
    let outcome = transfer(coordinator.address).push(header, vector).await;
    assert_eq!(outcome.unwrap(), Outcome::Accepted);
    let Some(Call::Push(header, vector)) = coordinator.calls.recv().await else {
        panic!("no push");
    };
    let digest = header.digest.clone();
    let arrived = header.into_contribution(Some(vector)).unwrap();
    assert_eq!(arrived, contribution);
    assert_eq!(digest.as_ref(), arrived.digest());
}

#[tokio::test]
async fn weights_of_another_length_are_refused() {
    let weights: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
    let coordinator = Coordinator::start(Script {
        weights: weights.clone(),
        ..Script::default()
    })
    .await;
    let transfer = transfer(coordinator.address);
    let pulled = transfer.pull(&key(), false, weights.len(), Wire::F32).await;
    assert_eq!(*pulled.unwrap(), *weights);
    for elements in [weights.len() - 1, weights.len() + 1, 5] {
        let error = transfer
            .pull(&key(), false, elements, Wire::F32)
            .await
            .unwrap_err();
        assert!(
            matches!(error, CallError::Nonsense { call: "Pull", .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn audio_comes_in_the_order_asked_for_and_is_verified() {
    let files: [Vec<u8>; 2] = [vec![1; 2500], vec![2; 10]];
    let mut audio: std::collections::BTreeMap<_, _> = files
        .iter()
        .map(|bytes| (wanted(bytes).digest, bytes.clone()))
        .collect();
    let lie = wanted(b"promised");
    audio.insert(lie.digest, b"breached".to_vec());
    let long = wanted(b"short");
    audio.insert(long.digest, vec![0; 3000]);
    let coordinator = Coordinator::start(Script {
        audio,
        ..Script::default()
    })
    .await;
    let transfer = transfer(coordinator.address);
    let order = [wanted(&files[1]), wanted(&files[0])];
    let found = transfer.fetch_audio("job", &order).await.unwrap();
    assert_eq!(found, [files[1].clone(), files[0].clone()]);
    for (wanted, complaint) in [(lie, "another digest"), (long, "more than its 5 bytes")] {
        let error = transfer.fetch_audio("job", &[wanted]).await.unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let absent = transfer.fetch_audio("job", &[wanted(b"absent")]).await;
    let refused = "the coordinator refused FetchAudio: no such audio (NotFound)";
    assert_eq!(absent.unwrap_err().to_string(), refused);
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost_and_not_refused() {
    let mut coordinator = Coordinator::start(Script {
        silent_pulls: true,
        ..Script::default()
    })
    .await;
    let transfer = transfer(coordinator.address);
    let pull = tokio::spawn({
        let transfer = transfer.clone();
        async move { transfer.pull(&key(), false, 1, Wire::F32).await }
    });
    assert!(matches!(
        coordinator.calls.recv().await,
        Some(Call::Pull(4))
    ));
    coordinator.kill().await;
    let error = pull.await.unwrap().unwrap_err();
    assert!(error.is_lost(), "{error}");
    let error = transfer
        .pull(&key(), false, 1, Wire::F32)
        .await
        .unwrap_err();
    assert!(error.is_lost(), "{error}");
}

#[test]
fn requests_are_bounded_and_lose_nothing() {
    let sizes = [1, FETCH_BYTES, FETCH_BYTES - 1, 1, 1, 3 * FETCH_BYTES, 2];
    let all: Vec<Wanted> = sizes
        .iter()
        .map(|&bytes| Wanted {
            bytes,
            ..wanted(b"")
        })
        .collect();
    let cut: Vec<Vec<u64>> = parts(&all)
        .map(|part| part.iter().map(|one| one.bytes).collect())
        .collect();
    assert_eq!(cut.concat(), sizes);
    let fits = |part: &Vec<u64>| part.len() == 1 || part.iter().sum::<u64>() <= FETCH_BYTES;
    assert!(cut.iter().all(fits));
    assert_eq!(cut.len(), 6);
    assert_eq!(parts(&[]).count(), 0);
}

#[test]
fn many_files_are_asked_for_in_requests_of_bounded_size() {
    let file = |bytes| Wanted {
        bytes,
        ..wanted(b"")
    };
    let sizes = |files: &[Wanted]| parts(files).map(<[Wanted]>::len).collect::<Vec<_>>();
    assert_eq!(sizes(&[]), [0; 0]);
    assert_eq!(
        sizes(&vec![file(100); 2 * FETCH_FILES + 1]),
        [FETCH_FILES, FETCH_FILES, 1]
    );
    let large = FETCH_BYTES + 1;
    assert_eq!(sizes(&[file(1), file(large), file(2), file(3)]), [1, 1, 2]);
}
