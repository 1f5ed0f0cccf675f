//! What a run makes of its epochs: means, moving averages, plateaus and early ends have the same bits
//! on any number of workers and through the deaths of coordinators.

use coordinator::records::{events::Event, report::Report};

use crate::{
    runs::work,
    site::{Live, Site, events, metrics},
    toy::Toy,
};

/// Keys of a job of six epochs, five steps each. The toy's accuracy is always the same; its loss is not.
const COURSES: [&str; 4] = [
    "[select]\nkeep = \"best\"\naverage = 3\nby = \"loss\"\n",
    "[select]\nkeep = \"last\"\naverage = 2\n[schedule]\nkind = \"plateau\"\npatience = 0\n",
    "[select]\nkeep = \"best\"\nby = \"loss\"\n",
    "[select]\nkeep = \"best\"\npatience = 2\n[schedule]\nkind = \"plateau\"\npatience = 0\n",
];

fn job(site: &Site, course: usize) -> String {
    // A moving average in half of them.
    let ema = ["", "\nema = 0.5"][course % 2];
    let epochs = format!("epochs = 6{ema}");
    site.job().replace("epochs = 3", &epochs) + COURSES[course]
}

/// The end of a run that loses its coordinator after these many steps.
async fn run(course: usize, workers: usize, kills: &[usize]) -> (Report, Vec<Event>) {
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&job(&site, course)).await;
    for &steps in kills {
        let mut toy = Toy::join(&live.url, "toy").await;
        work(&mut toy, steps).await;
        live.kill().await;
        live = site.start().await;
    }
    for worker in 0..workers {
        let toy = Toy::join(&live.url, &format!("toy{worker}")).await;
        tokio::spawn(toy.work());
    }
    let report = live.succeeded(&id).await;
    let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    let steps: Vec<u64> = metrics(&dir).iter().map(|line| line.step).collect();
    assert_eq!(steps, (1..=report.steps).collect::<Vec<_>>());
    let seen = events(&dir);
    Live::shutdown(live).await;
    (report, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_course_ends_with_the_same_bits_whoever_works_and_whatever_dies() {
    let mut hashes = std::collections::BTreeSet::new();
    for course in 0..COURSES.len() {
        let (alone, _) = run(course, 1, &[]).await;
        let (together, _) = run(course, 3, &[]).await;
        let (killed, _) = run(course, 2, &[6, 4, 3]).await;
        assert!(killed.lives > 2, "{} lives", killed.lives);
        for other in [together, killed] {
            assert_eq!(other.weights_sha256, alone.weights_sha256, "{course}");
            assert_eq!(other.chosen, alone.chosen, "{course}");
            assert_eq!(other.best, alone.best, "{course}");
        }
        hashes.insert(alone.weights_sha256);
    }
    assert_eq!(hashes.len(), COURSES.len(), "every course reaches the bits");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_final_model_is_what_the_job_asks_for_and_its_score_is_measured() {
    let (report, seen) = run(0, 1, &[]).await;
    let losses: Vec<f64> = seen
        .iter()
        .filter_map(|event| match event {
            Event::Evaluated { loss, .. } => *loss,
            _ => None,
        })
        .collect();
    assert_eq!(losses.len(), 6);
    let mut best: Vec<u64> = (1..=6).collect();
    best.sort_by(|&one, &other| losses[one as usize - 1].total_cmp(&losses[other as usize - 1]));
    best.truncate(3);
    best.sort_unstable();
    let chosen = report.chosen.unwrap();
    assert_eq!(chosen.epochs, best);
    let measured = chosen.metrics.loss.unwrap();
    assert!(losses.iter().all(|&loss| loss != measured), "it is a mean");
    // The loss is convex: that of the mean is below the mean of them.
    let mean = best
        .iter()
        .map(|&epoch| losses[epoch as usize - 1])
        .sum::<f64>()
        / 3.0;
    assert!(measured < mean, "{measured} {mean}");

    let (report, seen) = run(2, 1, &[]).await;
    if let Some(chosen) = report.chosen {
        let least = seen.iter().filter_map(|event| match event {
            Event::Evaluated { loss, .. } => *loss,
            _ => None,
        });
        let least = least.fold(f64::INFINITY, f64::min);
        assert_eq!(chosen.metrics.loss, Some(least), "the very weights again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_better_score_slows_down_and_ends_early() {
    let (report, seen) = run(3, 1, &[]).await;
    assert_eq!((report.steps, report.total_steps), (15, 30));
    assert_eq!((report.epochs, report.total_epochs), (3, 6));
    assert_eq!(report.chosen.unwrap().epochs, [1]);
    let lowered = seen.iter().filter_map(|event| match event {
        Event::RateLowered { factor } => Some(*factor),
        _ => None,
    });
    assert_eq!(lowered.collect::<Vec<_>>(), [0.5, 0.25]);
    let early = Event::StoppedEarly {
        epoch: 3,
        best_epoch: 1,
    };
    assert!(seen.contains(&early));
}
