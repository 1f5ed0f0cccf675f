//! One run over several lives of its coordinator: what it keeps, and who may write.

use coordinator::{
    server::{Running, Stopped},
    store::StoreError,
};

use crate::{
    site::{Site, events, metrics, within},
    toy::{Did, Toy},
};

/// A job in which everything has a memory: Adam, warm-up and decay, shuffling, the running median.
fn job_with_a_memory(site: &Site) -> String {
    let schedule = "[schedule]\nkind = \"cosine\"\nwarmup_steps = 4\n[clip]";
    let remembers = "epochs = 12\nmax_norm_ratio = 20.0\nmax_quarantined = 1000";
    let job = site.job().replace("epochs = 3", remembers);
    job.replace("[clip]", schedule)
}

/// A worker to which one utterance is beyond belief, so that the median matters.
async fn join(url: &str) -> Toy {
    let mut toy = Toy::join(url, "toy").await;
    toy.absurd = vec!["train4".to_owned()];
    toy
}

async fn steps(toy: &mut Toy, count: usize) {
    let mut done = 0;
    while done < count {
        done += usize::from(matches!(within(toy.step()).await, Ok(Did::Gradient(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_many_lives_remembers_all_that_one_of_a_single_life_does() {
    let calm = Site::new();
    let mut live = calm.start().await;
    let id = live.submit(&job_with_a_memory(&calm)).await;
    tokio::spawn(join(&live.url).await.work());
    let expected = live.succeeded(&id).await;
    assert!(expected.quarantined > 0, "the bound was never met");
    live.shutdown().await;

    let site = Site::new();
    let job = job_with_a_memory(&site);
    let mut live = site.start().await;
    let id = live.submit(&job).await;
    for (life, count) in [9, 14, 17].into_iter().enumerate() {
        let mut toy = join(&live.url).await;
        steps(&mut toy, count).await;
        drop(toy);
        match life % 2 {
            0 => live.kill().await,
            _ => live.shutdown().await,
        }
        live = site.start().await;
    }
    tokio::spawn(join(&live.url).await.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected.weights_sha256);
    assert_eq!(report.metrics, expected.metrics);
    assert_eq!(report.quarantined, expected.quarantined);
    assert_eq!(report.lives, 4);
    let lines = |site: &Site| {
        let lines = metrics(&site.path("data").join("jobs").join(&id));
        let step = lines.into_iter().map(|line| {
            (
                line.step,
                line.loss,
                line.grad_norm,
                line.lr,
                line.quarantined,
            )
        });
        step.collect::<Vec<_>>()
    };
    assert_eq!(lines(&site), lines(&calm));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_directory_was_taken_over_writes_no_more() {
    let calm = Site::new();
    let mut live = calm.start().await;
    let id = live.submit(&calm.job()).await;
    tokio::spawn(Toy::join(&live.url, "toy").await.work());
    let expected = live.succeeded(&id).await.weights_sha256;

    let site = Site::new();
    let mut first = site.start().await;
    let id = first.submit(&site.job()).await;
    let mut toy = Toy::join(&first.url, "toy").await;
    steps(&mut toy, 3).await;
    // What people do who think that a lock is stale.
    std::fs::remove_file(site.path("data").join("lock")).unwrap();
    let mut second = site.start().await;
    let left_behind = tokio::spawn(toy.work());
    let stopped = within(first.running.as_mut().map(Running::broken).unwrap()).await;
    assert!(
        matches!(
            stopped,
            Stopped::Store(StoreError::Fenced {
                generation: 1,
                newest: 2,
                ..
            })
        ),
        "{stopped}"
    );
    within(left_behind).await.unwrap();

    tokio::spawn(Toy::join(&second.url, "toy").await.work());
    let report = second.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    let dir = site.path("data").join("jobs").join(&id);
    assert_eq!(metrics(&dir).len(), 15);
    assert!(!events(&dir).is_empty());
}
