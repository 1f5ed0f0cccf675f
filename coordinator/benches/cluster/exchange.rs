//! How fast a vector of ten million parameters is pushed and pulled, next door and far away. Far away,
//! no more than a window can be under way in a round trip: that is the bound. What is allowed far away
//! is one round trip, and then the speed of the loopback or the bound, whichever is less.

use std::time::{Duration, Instant};

use proto::{
    STREAM_WINDOW,
    contribution::{Contribution, Key},
    v1::receipt::Outcome,
};

use crate::{
    child::Process,
    proxy::{Proxy, Road},
    site::Site,
    steps::Follower,
    toy::Toy,
};

const ONE_WAY: Duration = Duration::from_millis(20);
const EXCHANGES: usize = 7;

/// Bytes a second, each the median of some.
struct Speeds {
    bytes: usize,
    push: f64,
    pull: f64,
}

pub async fn measure() {
    let site = Site::new();
    let job = site
        .job()
        .replace("epochs = 3", "epochs = 100")
        .replace("batch = 6", "batch = 1")
        .replace("hidden = 3", "hidden = 1580")
        .replace("checkpoint_every = 2", "checkpoint_every = 1000000")
        .replace("kind = \"adam\"", "kind = \"sgd\"");
    let near = exchange(&site, &job, "near", None).await;
    let road = Road {
        delay: ONE_WAY,
        ..Road::default()
    };
    let proxied = exchange(&site, &job, "proxied", Some(Road::default())).await;
    let far = exchange(&site, &job, "far", Some(road)).await;
    let round_trip = 2.0 * ONE_WAY.as_secs_f64();
    let bound = f64::from(STREAM_WINDOW) / round_trip;
    let bytes = near.bytes as f64;
    let mega = 1e-6;
    println!(
        "\n{:.1} MB each way; MB/s, medians of {EXCHANGES}",
        bytes * mega
    );
    println!(
        "       loopback  through a proxy  20 ms away  bound  of the lesser  of what is allowed"
    );
    for (name, near, proxied, far) in [
        ("push", near.push, proxied.push, far.push),
        ("pull", near.pull, proxied.pull, far.pull),
    ] {
        let lesser = near.min(bound);
        let allowed = bytes / (round_trip + bytes / lesser);
        println!(
            "{name:<5}  {:>8.0}  {:>15.0}  {:>10.0}  {:>5.0}  {:>13.2}  {:>18.2}",
            near * mega,
            proxied * mega,
            far * mega,
            bound * mega,
            far / lesser,
            far / allowed,
        );
    }
}

async fn exchange(site: &Site, job: &str, name: &str, road: Option<Road>) -> Speeds {
    let process = Process::start(&site.path(name));
    let follower = Follower::submit(&process.url, job.to_owned()).await;
    let proxy = match road {
        Some(road) => Some(Proxy::start(&process.url, road).await),
        None => None,
    };
    let url = proxy.as_ref().map_or(&process.url, |proxy| &proxy.url);
    measured(Toy::join(url, name).await, &follower).await
}

async fn measured(mut toy: Toy, follower: &Follower) -> Speeds {
    // The job is described once it is prepared.
    toy.lease().await;
    let elements = toy
        .recipe(&follower.id)
        .await
        .unwrap()
        .model_spec()
        .unwrap()
        .elements();
    let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
    while pushes.len() < EXCHANGES {
        let lease = toy.lease().await;
        let utterances = lease
            .micro_batches
            .iter()
            .map(|one| one.utterances.len() as u64);
        let utterances: u64 = utterances.sum();
        let key = Key::try_from(lease.key.unwrap()).unwrap();
        let began = Instant::now();
        let weights = toy.pull(&key, false, elements).await.unwrap();
        pulls.push(began.elapsed());
        let contribution = Contribution {
            sum: Some(weights),
            weight: utterances as f64,
            loss: 1.0,
            utterances,
            frames: utterances,
            ..Contribution::default()
        };
        let (header, vector) = toy.wrap(key, &contribution);
        let began = Instant::now();
        let outcome = toy.send(header, vector).await.unwrap();
        pushes.push(began.elapsed());
        assert_eq!(outcome, Outcome::Accepted);
    }
    let bytes = 4 * elements;
    let speed = |mut times: Vec<Duration>| {
        times.sort();
        bytes as f64 / times[times.len() / 2].as_secs_f64()
    };
    Speeds {
        bytes,
        push: speed(pushes),
        pull: speed(pulls),
    }
}
