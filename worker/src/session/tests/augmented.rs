//! What an epoch makes of recordings, in training alone; and speakers.

use speech::{
    augment::{AugmentInput, Augmenter, Occasion},
    features::Normalization,
    front_end::{FrontEnd, GlobalStats, StatsAccumulator},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_gradient_is_of_what_the_epoch_makes_of_the_recordings_and_a_score_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let mut recipe = recipe();
    recipe.augment = AugmentConfig {
        freq_masks: 1,
        speed: vec![0.9, 1.1],
        vtlp: [0.8, 1.2],
        noise: 1.0,
        noise_snr_db: [0.0, 20.0],
        reverb: 0.5,
        ..AugmentConfig::default()
    };
    job.script.recipe_json = recipe.to_json();
    let in_epoch = |job: &Job, epoch| match job.lease(PassKind::Gradient, 7) {
        Answer::Lease(lease) => Answer::Lease(v1::Lease { epoch, ..lease }),
        other => other,
    };
    let leases = [
        in_epoch(&job, 0),
        in_epoch(&job, 1),
        in_epoch(&job, 0),
        job.lease(PassKind::Evaluation, 7),
        goodbye(),
    ];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let (mut pushed, mut fetched) = (vec![], 0);
    while let Ok(call) = coordinator.calls.try_recv() {
        match call {
            Call::Push(header, _) => pushed.push(header.digest.to_vec()),
            Call::Fetch(files) => fetched += files,
            _ => {}
        }
    }
    // Once each, though the score needs other features than the gradients.
    assert_eq!(fetched, 4);

    let augmenter = Augmenter::new(&recipe.augment, &recipe.features, recipe.seed).unwrap();
    let front_end = recipe.front_end().unwrap();
    let recordings = job.recordings();
    let expected = |epoch| {
        let features = |index: usize| {
            let on = Occasion {
                epoch,
                utterance: index as u32,
            };
            let other = [recordings[index ^ 1].samples.as_slice()];
            let recording = AugmentInput {
                samples: &recordings[index].samples,
                speaker: None,
                others: &other,
            };
            let mut features = augmenter.features(&front_end, recording, on, 1).unwrap();
            augmenter.mask(&mut features, on);
            features
        };
        let features: Vec<Features> = (0..4).map(features).collect();
        let digest = job.contribution_of(&features, 7).digest();
        digest.to_vec()
    };
    assert_eq!(pushed, [expected(0), expected(1), expected(0)]);
    assert_ne!(pushed[0], pushed[1]);
}

/// A job that normalises by speakers: three recordings of one, and one of nobody.
fn job_of_a_speaker(folder: &Path) -> (Job, FrontEnd, GlobalStats) {
    let mut recipe = recipe();
    recipe.features.normalization = Normalization::Speaker;
    let front_end = recipe.front_end().unwrap();
    let mut job = job(folder);
    let mut sums = StatsAccumulator::new();
    for audio in &job.recordings()[..3] {
        sums.add(&front_end.raw_features(audio).unwrap());
    }
    let stats = sums.finish();
    job.script.recipe_json = recipe.to_json();
    job.voices = vec![v1::Voice {
        mean: stats.mean.clone(),
        variance: stats.variance.clone(),
        frames: stats.frames,
    }];
    for index in 0..3 {
        job.micro_batches[index / 2].utterances[index % 2].voice = Some(0);
    }
    (job, front_end, stats)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_normalised_as_the_job_says() {
    let folder = tempfile::tempdir().unwrap();
    let (mut job, front_end, stats) = job_of_a_speaker(folder.path());
    let leases = [job.lease(PassKind::Gradient, 7), goodbye()];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let mut pushed = vec![];
    while let Ok(call) = coordinator.calls.try_recv() {
        if let Call::Push(header, _) = call {
            pushed.push(header.digest.to_vec());
        }
    }
    let scaling = front_end.scaling(&stats).unwrap();
    let features = |(index, audio)| {
        let speaker = (index < 3).then_some(&scaling);
        front_end.features_of(audio, speaker).unwrap()
    };
    let features: Vec<Features> = job.recordings().iter().enumerate().map(features).collect();
    assert_eq!(
        pushed,
        [job.contribution_of(&features, 7).digest().to_vec()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_without_its_speakers_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let (mut job, ..) = job_of_a_speaker(folder.path());
    job.micro_batches[1].utterances[1].voice = Some(1);
    let leases = [job.lease(PassKind::Gradient, 7), goodbye()];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    worker(coordinator.address, None).ended().await.unwrap();
    let back = given_back(&mut coordinator).await;
    assert!(
        !back.fatal && back.reason.contains("`utterance.voice` is 1"),
        "{}",
        back.reason
    );
}
