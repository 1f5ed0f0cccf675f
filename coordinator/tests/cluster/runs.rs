//! Runs from submission to report, through cancelling, restarts and kills.

use coordinator::{
    records::{events::Event, report::Report},
    store::{Layout, Resumption},
};
use proto::v1::{self, Cause, State};

use crate::{
    site::{Live, Site, events, metrics, within},
    toy::{Did, Toy},
};

/// Works on until `steps` more gradients were taken.
pub async fn work(toy: &mut Toy, steps: usize) {
    let mut done = 0;
    while done < steps {
        if let Did::Gradient(outcome) = within(toy.step()).await.unwrap() {
            assert_eq!(outcome, v1::receipt::Outcome::Accepted);
            done += 1;
        }
    }
}

async fn run(site: &Site, workers: usize) -> (Report, Live, String) {
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    for worker in 0..workers {
        let toy = Toy::join(&live.url, &format!("toy{worker}")).await;
        tokio::spawn(toy.work());
    }
    let report = live.succeeded(&id).await;
    (report, live, id)
}

/// The hash of a run that nothing happens to.
async fn undisturbed() -> String {
    run(&Site::new(), 1).await.0.weights_sha256.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_everything_that_it_should() {
    let site = Site::new();
    let (report, mut live, id) = run(&site, 1).await;
    assert_eq!(id, "0001-tones");
    assert_eq!((report.steps, report.applied_steps), (15, 15));
    assert_eq!((report.epochs, report.total_epochs), (3, 3));
    assert_eq!(report.compute_class.as_deref(), Some(crate::toy::CLASS));
    assert!(report.bit_identity && !report.synthetic);
    assert_eq!(report.workers, 1);
    // The toy is wrong about three of seven.
    let accuracy = report.metrics.unwrap().score.accuracy.unwrap();
    assert!((accuracy - 4.0 / 7.0).abs() < 1e-9, "{accuracy}");
    assert!(report.clipped_share > 0.0 && report.clipped_share < 1.0);

    let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    let metrics = metrics(&dir);
    let steps: Vec<u64> = metrics.iter().map(|line| line.step).collect();
    assert_eq!(steps, (1..=15).collect::<Vec<_>>());
    assert_eq!(metrics[4].epoch, 1);
    assert_eq!(metrics[5].epoch, 2);
    assert!(
        metrics
            .iter()
            .all(|line| line.utterances > 0 && line.times.compute_s > 0.0)
    );
    assert!(metrics.first().unwrap().loss > metrics.last().unwrap().loss);
    let clipped = metrics.iter().filter(|line| line.clipped).count();
    assert!((report.clipped_share - clipped as f64 / 15.0).abs() < 1e-9);
    let evaluated: Vec<u32> = events(&dir)
        .into_iter()
        .filter_map(|event| match event {
            Event::Evaluated { epoch, .. } => Some(epoch),
            _ => None,
        })
        .collect();
    assert_eq!(evaluated, [1, 2, 3]);
    for file in [
        "job.toml",
        "report.json",
        "chart.svg",
        "final/model.safetensors",
        "final/recipe.json",
    ] {
        assert!(dir.join(file).is_file(), "{file}");
    }
    let model = std::fs::read(dir.join("final/model.safetensors")).unwrap();
    let model = safetensors::SafeTensors::deserialize(&model).unwrap();
    assert_eq!(model.tensor("head.weight").unwrap().shape(), [3, 3]);
    live.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_workers_gives_the_same_bits() {
    let expected = undisturbed().await;
    for workers in [2, 3] {
        let (report, ..) = run(&Site::new(), workers).await;
        assert_eq!(report.weights_sha256.as_ref(), Some(&expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_workers_gives_the_same_bits_when_vectors_travel_in_half_the_bytes() {
    let in_full = undisturbed().await;
    let mut hashes = Vec::new();
    for workers in [1, 2, 3] {
        let site = Site::new();
        let mut live = site.start().await;
        let job = site.job().replace("[train]", "[train]\nwire = \"bf16\"");
        let id = live.submit(&job).await;
        for worker in 0..workers {
            let toy = Toy::join(&live.url, &format!("toy{worker}")).await;
            tokio::spawn(toy.work());
        }
        hashes.push(live.succeeded(&id).await.weights_sha256.unwrap());
        live.shutdown().await;
    }
    assert_eq!(hashes, [&*hashes[0]; 3]);
    assert_ne!(hashes[0], in_full, "rounding reaches the bits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_and_resumed_ends_with_the_same_bits() {
    let expected = undisturbed().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 8).await;
    let request = v1::CancelRequest { id: id.clone() };
    let cancelled = within(live.jobs.cancel(request.clone())).await.unwrap();
    let cancelled = cancelled.into_inner();
    assert_eq!(cancelled.state(), State::Cancelled);
    assert!(cancelled.step >= 7, "{}", cancelled.step);
    let again = live.jobs.cancel(request).await.unwrap_err();
    assert!(again.message().contains("been cancelled"), "{again}");

    let request = v1::ResumeRequest {
        id: id.clone(),
        ..v1::ResumeRequest::default()
    };
    let resumed = live
        .jobs
        .resume(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(resumed.state(), State::Queued | State::Running));
    assert!(live.jobs.resume(request).await.is_err());
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, Some(expected));
    assert_eq!(report.lives, 2);
    let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    let steps: Vec<u64> = metrics(&dir).iter().map(|line| line.step).collect();
    assert_eq!(steps, (1..=15).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_shut_down_or_killed_goes_on_to_the_same_bits() {
    let expected = undisturbed().await;
    for kill in [false, true] {
        let site = Site::new();
        let mut live = site.start().await;
        let id = live.submit(&site.job()).await;
        let later = live.submit(&site.job()).await;
        let mut toy = Toy::join(&live.url, "toy").await;
        work(&mut toy, 6).await;
        let working = tokio::spawn(toy.work());
        if kill {
            live.kill().await
        } else {
            live.shutdown().await
        }
        within(working).await.unwrap();

        let mut live = site.start().await;
        assert_eq!(live.running.as_ref().unwrap().generation(), 2);
        let toy = Toy::join(&live.url, "toy").await;
        let working = tokio::spawn(toy.work());
        for id in [&id, &later] {
            let report = live.succeeded(id).await;
            assert_eq!(report.weights_sha256.as_ref(), Some(&expected), "{kill}");
        }
        let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
        let steps: Vec<u64> = metrics(&dir).iter().map(|line| line.step).collect();
        assert_eq!(steps, (1..=15).collect::<Vec<_>>(), "{kill}");
        let mut started = events(&dir).into_iter().filter_map(|event| match event {
            Event::Started { resumed_from, .. } => Some(resumed_from),
            _ => None,
        });
        assert!(started.next_back().unwrap().is_some(), "it began anew");
        live.shutdown().await;
        assert!(within(working).await.unwrap().contains("shutting down"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_newest_checkpoint_is_passed_over_and_named() {
    let expected = undisturbed().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 6).await;
    let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    live.shutdown().await;
    let mut checkpoints: Vec<_> = std::fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    checkpoints.sort();
    let newest = checkpoints.last().unwrap();
    let mut bytes = std::fs::read(newest).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 4;
    std::fs::write(newest, bytes).unwrap();

    let mut live = site.start().await;
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, Some(expected));
    let named = newest.to_str().unwrap();
    let damaged = |event: &Event| matches!(event, Event::CheckpointDamaged { reason } if reason.contains(named));
    assert!(events(&dir).iter().any(damaged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_directory_is_resumed_where_it_was_left() {
    let expected = undisturbed().await;
    let site = Site::new();
    let single = |resume: bool| Layout::Single {
        run_dir: site.path("run"),
        resume: resume.then(Resumption::default),
    };
    let mut live = site.try_start(single(false)).await.unwrap();
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 6).await;
    live.shutdown().await;

    let error = site.try_start(single(false)).await.err().unwrap();
    assert!(error.to_string().contains("--resume"), "{error}");
    let mut live = site.try_start(single(true)).await.unwrap();
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, Some(expected));
    assert!(site.path("run/report.json").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_that_changed_is_not_trained_on_from_the_old_checkpoint() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    work(&mut toy, 6).await;
    live.shutdown().await;
    std::fs::copy(site.path("train3.wav"), site.path("train4.wav")).unwrap();
    let mut live = site.start().await;
    let status = live.ended(&id).await;
    assert_eq!(status.state(), State::Failed);
    assert_eq!(status.cause(), Cause::Data);
    assert!(
        status
            .error
            .contains("not those that the run was begun with"),
        "{}",
        status.error
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_job_reads_every_line_once() {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let mut before = live.jobs.clone();
    let request = v1::LogsRequest {
        id: id.clone(),
        follow: true,
        begin: None,
    };
    let mut followed = before.metrics(request).await.unwrap().into_inner();
    let following = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(line) = followed.message().await.unwrap() {
            lines.push(line.json);
        }
        lines
    });
    let toy = Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    live.succeeded(&id).await;
    let run_dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    let written = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    let written: Vec<&str> = written.lines().collect();
    assert_eq!(within(following).await.unwrap(), written);
    assert_eq!(live.lines(&id, true, false).await, written);
}
