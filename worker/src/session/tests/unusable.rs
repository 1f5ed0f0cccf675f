//! Recordings with the right bytes that cannot be decoded, and transcripts that the model cannot say.

use super::*;

/// Replaces the audio of an utterance by `bytes`, which the coordinator has.
fn replace(job: &mut Job, index: usize, bytes: Vec<u8>) {
    let digest = *blake3::hash(&bytes).as_bytes();
    let utterance = &mut job.micro_batches[index / 2].utterances[index % 2];
    utterance.audio_bytes = bytes.len() as u64;
    utterance.audio_digest = digest.to_vec().into();
    job.script.audio.insert(digest, bytes);
}

/// A WAV file of floats one of which is infinite: its header is as it should be.
fn infinite() -> Vec<u8> {
    let mut samples = vec![0.25; 2000];
    samples[1500] = f32::INFINITY;
    wav(&samples)
}

/// Shorter than a frame.
fn short() -> Vec<u8> {
    wav(&[0.25; 10])
}

fn wav(samples: &[f32]) -> Vec<u8> {
    let mut bytes = speech::audio::float_header(8000, samples.len() as u64).to_vec();
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

/// What one process computes for the utterances with these places, in their micro-batches.
fn contribution(job: &Job, kept: &[usize], augment: &AugmentConfig) -> Contribution {
    let recipe = Recipe {
        augment: augment.clone(),
        ..recipe()
    };
    let spec = recipe.model_spec().unwrap();
    let device = Compute::open(DeviceChoice::Cpu).unwrap().device;
    let mut network = Network::new(&spec, &device);
    network.load(&spec.initialize(recipe.seed)).unwrap();
    let augmenter =
        speech::augment::Augmenter::new(&recipe.augment, &recipe.features, recipe.seed).unwrap();
    let (front_end, recordings) = (recipe.front_end().unwrap(), job.recordings());
    let parts = [0, 1].map(|index: usize| {
        let of_batch: Vec<usize> = kept.iter().copied().filter(|at| at / 2 == index).collect();
        if of_batch.is_empty() {
            return Contribution::default();
        }
        let features = of_batch.iter().map(|&at| {
            let others: Vec<&[f32]> = of_batch
                .iter()
                .filter(|&&other| other != at)
                .map(|&other| recordings[other].samples.as_slice())
                .collect();
            let on = speech::augment::Occasion {
                epoch: 0,
                utterance: at as u32,
            };
            let recording = speech::augment::AugmentInput {
                samples: &recordings[at].samples,
                speaker: None,
                others: &others,
            };
            match augmenter.changes_sound() {
                true => augmenter.features(&front_end, recording, on, 1).unwrap(),
                false => front_end.features(&recordings[at]).unwrap(),
            }
        });
        let features: Vec<Features> = features.collect();
        let targets: [&[u32]; 2] = [&[0], &[1]];
        let micro_batch = MicroBatch {
            features: features.iter().collect(),
            targets: of_batch.iter().map(|at| targets[at % 2]).collect(),
            step: 3,
            index: index as u32,
        };
        let found =
            gradient::gradient(&network, &micro_batch, recipe.normalize, recipe.seed).unwrap();
        Contribution {
            sum: found.gradient,
            weight: found.weight,
            loss: found.loss,
            utterances: of_batch.len() as u64,
            ..Contribution::default()
        }
    });
    let [left, right] = parts;
    left.merge(right)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_left_out_of_a_gradient_by_name_and_of_nothing_else() {
    let cases: [(&[usize], Vec<u8>, &str); 4] = [
        (&[1], b"RIFF but no more".to_vec(), "1.wav"),
        (&[2], infinite(), "sample 1500"),
        (&[0], short(), "too short"),
        // A whole micro-batch.
        (&[0, 1], infinite(), "sample 1500"),
    ];
    let babble = AugmentConfig {
        noise: 1.0,
        noise_kinds: vec![speech::augment::NoiseKind::Babble],
        noise_snr_db: [5.0, 5.0],
        ..AugmentConfig::default()
    };
    for augment in [AugmentConfig::default(), babble] {
        for (damaged, bytes, told) in cases.clone() {
            // What is too short for features is heard as others' babble all the same.
            if told == "too short" && !augment.noise_kinds.is_empty() && augment.noise > 0.0 {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let mut job = job(folder.path());
            job.script.recipe_json = Recipe {
                augment: augment.clone(),
                ..recipe()
            }
            .to_json();
            let kept: Vec<usize> = (0..4).filter(|at| !damaged.contains(at)).collect();
            let expected = contribution(&job, &kept, &augment);
            for &index in damaged {
                replace(&mut job, index, bytes.clone());
            }
            // Once more: what could not be decoded before is met again.
            let leases = [
                job.lease(PassKind::Gradient, 3),
                job.lease(PassKind::Gradient, 3),
                goodbye(),
            ];
            let mut coordinator = Coordinator::start(job.leases(leases)).await;
            worker(coordinator.address, None).ended().await.unwrap();
            let mut pushed = 0;
            while let Ok(call) = coordinator.calls.try_recv() {
                assert!(!matches!(call, Call::GiveBack(_)), "{call:?}");
                let Call::Push(header, _) = call else {
                    continue;
                };
                pushed += 1;
                assert_eq!(header.digest.to_vec(), expected.digest(), "{damaged:?}");
                assert_eq!(header.utterances as usize, kept.len());
                assert!(header.quarantined.is_empty());
                let named: Vec<usize> = header
                    .unusable
                    .iter()
                    .map(|one| one.utterance as usize)
                    .collect();
                assert_eq!(named, damaged);
                assert!(
                    header.unusable.iter().all(|one| one.reason.contains(told)),
                    "{:?}",
                    header.unusable
                );
            }
            assert_eq!(pushed, 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_names_what_cannot_be_decoded_and_hears_what_cannot_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    replace(&mut job, 2, infinite());
    job.micro_batches[0].utterances[1].text = "perhaps".to_owned();
    let leases = [job.lease(PassKind::Evaluation, 0), goodbye()];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    worker(coordinator.address, None).ended().await.unwrap();
    let reported = |call| match call {
        Call::Report(report) => Some(report.results),
        _ => None,
    };
    let mut results = coordinator.next(reported).await;
    results.sort_by_key(|result| result.index);
    let indices: Vec<u32> = results.iter().map(|result| result.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    for result in &results {
        let is_damaged = result.index == 2;
        assert_eq!(result.unusable.is_some(), is_damaged);
        assert_eq!(result.hypothesis.is_empty(), is_damaged);
        // The model lacks the class of the second.
        assert_eq!(result.loss.is_some(), !is_damaged && result.index != 1);
    }
    assert!(
        results[2]
            .unusable
            .as_ref()
            .unwrap()
            .contains("sample 1500")
    );
}
