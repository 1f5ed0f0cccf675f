//! Jobs over long roads, roads that break, and roads on which nothing moves.

use std::time::Duration;

use coordinator::server::Limits;
use proto::{contribution::Key, v1::receipt::Outcome};

use crate::{
    proxy::{Proxy, Road, Way},
    site::{Live, Site, within},
    toy::{Did, Toy},
};

/// The hash of a run of the job with nothing in the way.
async fn calm(job: impl Fn(&Site) -> String) -> Option<String> {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&job(&site)).await;
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    live.succeeded(&id).await.weights_sha256
}

/// One epoch, so that a long road does not make a long test.
fn short(site: &Site) -> String {
    site.job().replace("epochs = 3", "epochs = 1")
}

/// One epoch with vectors of more than a megabyte.
fn large(site: &Site) -> String {
    short(site).replace("hidden = 3", "hidden = 256")
}

/// A worker that does not give up, by way of `road`.
async fn patient(road: &Proxy, name: &str) -> Toy {
    let mut toy = Toy::join(&road.url, name).await;
    toy.patient = true;
    toy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_road_changes_no_bit() {
    let expected = calm(short).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&short(&site)).await;
    let road = Road {
        delay: Duration::from_millis(50),
        twice: true,
        ..Road::default()
    };
    let road = Proxy::start(&live.url, road).await;
    for name in ["one", "two"] {
        tokio::spawn(patient(&road, name).await.work());
    }
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(
        road.accepted(),
        4,
        "two connections a worker, each made once"
    );
    assert_eq!(report.faults["interrupted"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_break_off_again_and_again_are_counted_and_change_no_bit() {
    const BREAKS: u32 = 6;
    let expected = calm(large).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&large(&site)).await;
    let road = Proxy::start(&live.url, Road::default()).await;
    road.cut_after(Way::Up, 600_000, BREAKS);
    for name in ["one", "two"] {
        tokio::spawn(patient(&road, name).await.work());
    }
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(road.trapped(), u64::from(BREAKS));
    let interrupted = report.faults["interrupted"];
    assert!(
        (1..=u64::from(BREAKS)).contains(&interrupted),
        "{interrupted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_road_that_is_cut_at_any_time_changes_no_bit() {
    let expected = calm(|site| site.job()).await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let road = Proxy::start(&live.url, Road::default()).await;
    for name in ["one", "two"] {
        tokio::spawn(patient(&road, name).await.work());
    }
    // Once at each step, wherever the workers are.
    for step in 1..15 {
        reach(&mut live, &id, step).await;
        road.cut();
    }
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert!(road.accepted() > 4, "nobody had to connect again");
}

/// Waits until so many steps were made.
async fn reach(live: &mut Live, id: &str, step: u64) {
    within(async {
        while live.status(id).await.step < step {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn until_lost(live: &mut Live, id: &str) {
    within(async {
        while live.status(id).await.faults["lost"] == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_cut_off_without_a_word_is_lost_and_comes_too_late() {
    let expected = calm(|site| site.job()).await;
    let site = Site::new();
    let limits = Limits {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(1500),
        ..Limits::default()
    };
    let mut live = site.start_within(limits).await;
    let id = live.submit(&site.job()).await;
    let road = Proxy::start(&live.url, Road::default()).await;
    let mut frozen = patient(&road, "frozen").await;
    let mut other = Toy::join(&live.url, "other").await;
    let lease = within(frozen.lease()).await;
    let contribution = within(frozen.compute(&lease)).await.unwrap();
    road.freeze();
    let key = Key::try_from(lease.key.clone().unwrap()).unwrap();
    let late = tokio::spawn(async move { frozen.push(key, &contribution).await });
    until_lost(&mut live, &id).await;
    while live.status(&id).await.step < 2 {
        within(other.step()).await.unwrap();
    }
    assert!(!late.is_finished());
    road.thaw();
    let outcome = within(late).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Stale);
    tokio::spawn(other.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    let faults = report.faults;
    assert_eq!((faults["lost"], faults["late"]), (1, 1), "{faults:?}");
    assert!(faults["retries"] + faults["recomputed"] > 0, "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_road_carries_a_push_that_is_slow_but_comes() {
    let expected = calm(large).await;
    let site = Site::new();
    let limits = Limits {
        stall: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut live = site.start_within(limits).await;
    let id = live.submit(&large(&site)).await;
    // A chunk takes a quarter of a second: half a minute's worth would not be waited for.
    let road = Road {
        bandwidth: Some(4e6),
        ..Road::default()
    };
    let road = Proxy::start(&live.url, road).await;
    let mut toy = patient(&road, "slow").await;
    let did = within(toy.step()).await.unwrap();
    assert_eq!(did, Did::Gradient(Outcome::Accepted));
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(report.faults["interrupted"], 0);
}
