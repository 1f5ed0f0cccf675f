//! Sessions with a coordinator that follows a script.

mod ahead;
mod augmented;
pub(crate) mod coordinator;
mod ending;
mod long;
mod partings;
mod unusable;

use std::{collections::VecDeque, net::SocketAddr, path::Path, time::Duration};

use proto::{
    contribution::{Contribution, Key, PassKind},
    tree::Node,
    v1::lease_response::Answer,
};
use speech::{
    augment::AugmentConfig,
    error_class::{Class, Classify as _},
    features::{Features, FeaturesConfig},
    model::ModelConfig,
    objective::Normalize,
    recipe::Recipe,
    text::{TextConfig, Vocabulary},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::Status;

use super::*;
use crate::{
    compute::DeviceChoice,
    gradient::{self, MicroBatch},
    network::Network,
};
use coordinator::{Call, Coordinator, Script, tone};

/// How long a test may wait for what has to come.
const SOON: Duration = Duration::from_secs(60);

fn recipe() -> Recipe {
    Recipe {
        features: FeaturesConfig {
            sample_rate: 8000,
            ..FeaturesConfig::default()
        },
        augment: AugmentConfig::default(),
        model: ModelConfig {
            layers: 1,
            hidden: 6,
            ..ModelConfig::default()
        },
        text: TextConfig::default(),
        vocabulary: Vocabulary::classes(["no", "yes"]).unwrap(),
        stats: None,
        normalize: Normalize::Utterances,
        label_smoothing: 0.0,
        class_weights: Vec::new(),
        seed: 5,
    }
}

struct Worker {
    /// The folder of the cache.
    folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    session: JoinHandle<Result<Farewell, SessionError>>,
}

fn worker(address: SocketAddr, give_up_after: Option<Duration>) -> Worker {
    let folder = tempfile::tempdir().unwrap();
    let (stop, shutdown) = watch::channel(false);
    let config = Config {
        coordinator: address.to_string(),
        credentials: Credentials::default(),
        compute: Compute::open(DeviceChoice::Cpu).unwrap(),
        threads: 1,
        name: "test:1".to_owned(),
        cache: CacheConfig::new(folder.path().to_owned()),
        give_up_after,
        shutdown,
    };
    Worker {
        folder,
        stop,
        session: tokio::spawn(Session::run(config)),
    }
}

impl Worker {
    async fn ended(self) -> Result<Farewell, SessionError> {
        let session = timeout(SOON, self.session).await;
        session.expect("the session ends").unwrap()
    }
}

fn goodbye() -> Answer {
    Answer::Goodbye(v1::Goodbye {
        reason: "enough".to_owned(),
        parting: Parting::Dismissed.into(),
    })
}

fn dismissed() -> Farewell {
    Farewell::Dismissed("enough".to_owned())
}

fn says(leases: impl IntoIterator<Item = Answer>) -> Script {
    Script {
        leases: leases.into_iter().collect(),
        ..Script::default()
    }
}

/// A job of four utterances in micro-batches of two, and a coordinator that has its audio.
struct Job {
    script: Script,
    micro_batches: Vec<v1::MicroBatch>,
    voices: Vec<v1::Voice>,
    audio: Vec<Vec<u8>>,
}

fn job(folder: &Path) -> Job {
    let audio: Vec<Vec<u8>> = [300.0, 400.0, 500.0, 600.0]
        .map(|hertz| tone(folder, hertz))
        .into();
    let recipe = recipe();
    let utterance = |index: usize| v1::Utterance {
        index: index as u32,
        id: format!("tone{index}"),
        audio_path: format!("/nowhere/{index}.wav"),
        audio_bytes: audio[index].len() as u64,
        audio_digest: blake3::hash(&audio[index]).as_bytes().to_vec().into(),
        text: ["no", "yes"][index % 2].to_owned(),
        segment: None,
        voice: None,
        channel: None,
    };
    let micro_batches = (0..2)
        .map(|index| v1::MicroBatch {
            index: index as u32,
            utterances: vec![utterance(2 * index), utterance(2 * index + 1)],
        })
        .collect();
    Job {
        script: Script {
            recipe_json: recipe.to_json(),
            weights: recipe.model_spec().unwrap().initialize(recipe.seed),
            audio: audio
                .iter()
                .map(|bytes| (*blake3::hash(bytes).as_bytes(), bytes.clone()))
                .collect(),
            ..Script::default()
        },
        micro_batches,
        voices: Vec::new(),
        audio,
    }
}

impl Job {
    fn lease(&self, kind: PassKind, step: u64) -> Answer {
        let key = Key {
            job: "job".to_owned(),
            generation: 1,
            kind,
            step,
            node: Node::root(2),
            attempt: 0,
        };
        Answer::Lease(v1::Lease {
            key: Some(key.into()),
            micro_batches: self.micro_batches.clone(),
            voices: self.voices.clone(),
            ..v1::Lease::default()
        })
    }

    fn leases(&mut self, leases: impl IntoIterator<Item = Answer>) -> Script {
        self.script.leases = leases.into_iter().collect();
        std::mem::take(&mut self.script)
    }

    /// What one process without a network computes for the whole step.
    fn contribution(&self, step: u64) -> Contribution {
        let front_end = recipe().front_end().unwrap();
        let features = self.recordings();
        let features = features.iter().map(|audio| front_end.features(audio));
        self.contribution_of(&features.collect::<Result<Vec<_>, _>>().unwrap(), step)
    }

    fn recordings(&self) -> Vec<speech::audio::Audio> {
        let decode = |bytes: &Vec<u8>| speech::audio::decode("tone", bytes).unwrap();
        self.audio.iter().map(decode).collect()
    }

    fn contribution_of(&self, features: &[Features], step: u64) -> Contribution {
        let recipe = recipe();
        let spec = recipe.model_spec().unwrap();
        let device = Compute::open(DeviceChoice::Cpu).unwrap().device;
        let mut network = Network::new(&spec, &device);
        network.load(&spec.initialize(recipe.seed)).unwrap();
        let part = |index: usize| {
            let micro_batch = MicroBatch {
                features: features[2 * index..2 * index + 2].iter().collect(),
                targets: vec![&[0], &[1]],
                step,
                index: index as u32,
            };
            let found =
                gradient::gradient(&network, &micro_batch, recipe.normalize, recipe.seed).unwrap();
            Contribution {
                sum: found.gradient,
                weight: found.weight,
                loss: found.loss,
                utterances: 2,
                ..Contribution::default()
            }
        };
        part(0).merge(part(1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_session_with_its_reason() {
    let mut coordinator = Coordinator::start(Script {
        refusal: Some(v1::Refusal {
            reason: "the job is pinned to another class".to_owned(),
            may_pass: false,
        }),
        ..Script::default()
    })
    .await;
    let error = worker(coordinator.address, None).ended().await.unwrap_err();
    assert_eq!(error.class(), Class::Data);
    assert!(
        error.to_string().contains("pinned to another class"),
        "{error}"
    );
    let Some(Call::Join(request)) = coordinator.calls.recv().await else {
        panic!("no join");
    };
    assert_eq!(request.program_version, proto::PROGRAM_VERSION);
    assert!(request.compute_class.starts_with("flex/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_again_until_it_is_dismissed() {
    let idle = || Answer::Idle(v1::Idle::default());
    let mut coordinator = Coordinator::start(says([idle(), idle(), goodbye()])).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let mut asked = 0;
    while let Ok(call) = coordinator.calls.try_recv() {
        asked += usize::from(matches!(call, Call::Lease(asked) if asked.worker == 1));
    }
    assert_eq!(asked, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_coordinator_forgot_joins_again() {
    let unknown = Answer::Unknown(v1::Unknown {});
    let mut coordinator = Coordinator::start(says([unknown, goodbye()])).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let second = |call| matches!(call, Call::Lease(asked) if asked.worker == 2).then_some(());
    coordinator.next(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_not_known_makes_a_worker_join_again() {
    let mut coordinator = Coordinator::start(Script {
        forgotten: 1,
        ..Script::default()
    })
    .await;
    let worker = worker(coordinator.address, None);
    // The first request for a lease is never answered.
    for member in [1, 2] {
        let asked =
            |call| matches!(call, Call::Lease(found) if found.worker == member).then_some(());
        coordinator.next(asked).await;
    }
    worker.stop.send_replace(true);
    assert_eq!(worker.ended().await.unwrap(), Farewell::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_outlives_its_coordinator() {
    let mut first = Coordinator::start(says([])).await;
    let address = first.address;
    let worker = worker(address, None);
    first
        .next(|call| matches!(call, Call::Lease(_)).then_some(()))
        .await;
    first.kill().await;
    let unknown = Answer::Unknown(v1::Unknown {});
    let mut second = Coordinator::start_at(address, says([unknown, goodbye()])).await;
    assert_eq!(worker.ended().await.unwrap(), dismissed());
    second
        .next(|call| matches!(call, Call::Join(_)).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_not_there_is_named_once_patience_ends() {
    // Bound and dropped: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let patience = Some(Duration::from_millis(200));
    let error = worker(address, patience).ended().await.unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure);
    let message = error.to_string();
    assert!(
        message.contains(&format!("http://{address} cannot be reached")),
        "{message}"
    );
    assert!(message.contains("refused"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_gives_the_bits_of_a_single_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [
        job.lease(PassKind::Gradient, 7),
        job.lease(PassKind::Gradient, 7),
        job.lease(PassKind::Gradient, 8),
        goodbye(),
    ];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    let ended = worker(coordinator.address, None).ended().await;
    assert_eq!(ended.unwrap(), dismissed());
    let (mut pulled, mut fetched, mut described, mut pushed) = (vec![], 0, 0, vec![]);
    while let Ok(call) = coordinator.calls.try_recv() {
        match call {
            Call::Pull(version) => pulled.push(version),
            Call::Fetch(files) => fetched += files,
            Call::Describe => described += 1,
            Call::Push(header, vector) => pushed.push((header, vector)),
            _ => {}
        }
    }
    // Weights once a version, audio and the recipe once.
    assert_eq!((pulled, fetched, described), (vec![7, 8], 4, 1));
    assert_eq!(pushed.len(), 3);
    for (header, vector) in pushed {
        let step = header.key.as_ref().unwrap().step;
        let expected = job.contribution(step);
        assert_eq!(header.digest.as_ref(), expected.digest());
        let found = header.into_contribution(Some(vector)).unwrap();
        assert_eq!((&found.sum, found.weight), (&expected.sum, 4.0));
        assert!(found.frames > 0 && (found.audio_seconds - 2.0).abs() < 1e-9);
        assert!(found.quarantined.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_lease_is_reported_utterance_by_utterance() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [job.lease(PassKind::Evaluation, 3), goodbye()];
    let mut coordinator = Coordinator::start(job.leases(leases)).await;
    worker(coordinator.address, None).ended().await.unwrap();
    let report = coordinator.next(|call| match call {
        Call::Report(report) => Some(report),
        _ => None,
    });
    let report = report.await;
    let indices: Vec<u32> = report.results.iter().map(|result| result.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    for result in report.results {
        assert!(["no", "yes"].contains(&result.hypothesis.as_str()));
        assert!(result.loss.unwrap().is_finite());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_has_changed_is_fatal_and_audio_that_is_absent_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for (changed, expected) in [
        (true, "changed since the job began"),
        (false, "no such audio"),
    ] {
        let mut job = job(folder.path());
        let leases = [job.lease(PassKind::Gradient, 0), goodbye()];
        let mut script = job.leases(leases);
        let digest = *blake3::hash(&job.audio[1]).as_bytes();
        if changed {
            script.audio.get_mut(&digest).unwrap()[100] ^= 1;
        } else {
            script.audio.remove(&digest);
        }
        let mut coordinator = Coordinator::start(script).await;
        worker(coordinator.address, None).ended().await.unwrap();
        let back = given_back(&mut coordinator).await;
        assert_eq!(back.fatal, changed);
        assert!(back.reason.contains(expected), "{}", back.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_weights_are_gone_goes_back_and_the_next_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [
        job.lease(PassKind::Gradient, 1),
        job.lease(PassKind::Gradient, 2),
        goodbye(),
    ];
    let mut script = job.leases(leases);
    let gone = Status::failed_precondition("version 1 is over");
    // Once unavailable is no answer: the call is made again.
    script.pulls = VecDeque::from([Some(Status::unavailable("busy")), Some(gone), None]);
    let mut coordinator = Coordinator::start(script).await;
    worker(coordinator.address, None).ended().await.unwrap();
    let back = given_back(&mut coordinator).await;
    assert!(
        !back.fatal && back.reason.contains("version 1 is over"),
        "{}",
        back.reason
    );
    let pushed = |call| match call {
        Call::Push(header, _) => Some(header),
        _ => None,
    };
    assert_eq!(coordinator.next(pushed).await.key.unwrap().step, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finite_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(folder.path());
    let leases = [job.lease(PassKind::Gradient, 0), goodbye()];
    let mut script = job.leases(leases);
    script.weights[0] = f32::NAN;
    let mut coordinator = Coordinator::start(script).await;
    worker(coordinator.address, None).ended().await.unwrap();
    let pushed = |call| match call {
        Call::Push(header, vector) => Some((header, vector)),
        _ => None,
    };
    let (header, vector) = coordinator.next(pushed).await;
    assert_eq!(
        (header.elements, header.weight, header.utterances),
        (0, 0.0, 0)
    );
    assert!(vector.is_empty());
    let named: Vec<_> = header
        .quarantined
        .iter()
        .map(|one| (one.micro_batch, one.utterances.join(" ")))
        .collect();
    assert_eq!(
        named,
        [(0, "tone0 tone1".to_owned()), (1, "tone2 tone3".to_owned())]
    );
}

async fn given_back(coordinator: &mut Coordinator) -> v1::GiveBackRequest {
    let given_back = |call| match call {
        Call::GiveBack(request) => Some(request),
        _ => None,
    };
    coordinator.next(given_back).await
}
