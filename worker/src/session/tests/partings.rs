//! How a coordinator parts from a worker, and what the worker makes of it.

use super::*;

fn parting(parting: Parting) -> Answer {
    Answer::Goodbye(v1::Goodbye {
        reason: "enough".to_owned(),
        parting: parting.into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stops_and_is_expected_back_is_waited_for_and_joined_again() {
    let mut first = Coordinator::start(says([parting(Parting::Returns)])).await;
    let address = first.address;
    let worker = worker(address, None);
    first
        .next(|call| matches!(call, Call::Lease(_)).then_some(()))
        .await;
    first.kill().await;
    let mut second = Coordinator::start_at(address, says([goodbye()])).await;
    assert_eq!(worker.ended().await.unwrap(), dismissed());
    second
        .next(|call| matches!(call, Call::Join(_)).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_wanted_as_it_is_ends_with_the_reason_and_not_well() {
    let coordinator = Coordinator::start(says([parting(Parting::Refused)])).await;
    let error = worker(coordinator.address, None).ended().await.unwrap_err();
    assert_eq!(error.class(), Class::Data);
    assert!(error.to_string().contains("enough"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_of_an_older_coordinator_dismisses() {
    let coordinator = Coordinator::start(says([parting(Parting::Unspecified)])).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_may_pass_is_worth_a_retry_and_is_printed_without_its_controls() {
    let coordinator = Coordinator::start(Script {
        refusal: Some(v1::Refusal {
            reason: "another version\x1b[2J".to_owned(),
            may_pass: true,
        }),
        ..Script::default()
    })
    .await;
    let error = worker(coordinator.address, None).ended().await.unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure);
    let told = error.to_string();
    assert!(told.contains(r"another version\u{1b}[2J"), "{told}");
}
