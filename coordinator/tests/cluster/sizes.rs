//! What grows with a corpus, its classes or a history, at sizes that no single message could hold.

use std::fmt::Write as _;

use coordinator::{records::events::Set, store::JobState as Stored};
use proto::{
    PROGRAM_VERSION,
    pieces::{self, PART_BYTES},
    v1::{self, State},
};
use speech::manifest::{Manifest, Utterance};
use tonic::Code;

use crate::{
    site::{Live, Site, events, within},
    toy::Toy,
};

/// Gives each utterance of a manifest an id of so many bytes.
fn lengthen(site: &Site, name: &str, bytes: usize) {
    let path = site.path(&format!("{name}.jsonl"));
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    for utterance in &mut utterances {
        utterance.id += &"x".repeat(bytes - utterance.id.len());
    }
    Manifest::write(&path, &utterances).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_reports_of_any_length_come_and_go_in_messages_of_bounded_size() {
    let site = Site::new();
    // As 100,000 utterances are, with fewer and longer ones: ten megabytes in all.
    site.manifest("valid", 160);
    for name in ["train", "valid"] {
        lengthen(&site, name, 64_000);
    }
    let mut hashes = Vec::new();
    for (jobs, micro_batch) in [(1, 1), (2, 200)] {
        // With a micro-batch of 200, that alone is longer than a message.
        let job = site.job().replace(
            "batch = 6\nmicro_batch = 1",
            &format!("batch = 200\nmicro_batch = {micro_batch}"),
        );
        let mut live = site.start().await;
        let id = live.submit(&job).await;
        assert!(id.starts_with(&format!("{jobs:04}")));
        let mut toy = Toy::join(&live.url, "toy").await;
        toy.wordy = 60_000;
        tokio::spawn(toy.work());
        let report = live.succeeded(&id).await;
        let score = report.metrics.unwrap().score;
        assert_eq!(
            (score.utterances, score.accuracy),
            (160, Some(106.0 / 160.0))
        );
        hashes.push(report.weights_sha256.unwrap());
        live.shutdown().await;
    }
    assert_ne!(hashes[0], hashes[1], "other micro-batches round otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vocabulary_that_no_message_could_hold_reaches_the_workers() {
    const WORDS: usize = 45_000;
    let site = Site::new();
    let path = site.path("train.jsonl");
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    for (place, utterance) in utterances[..4].iter_mut().enumerate() {
        utterance.text = (0..WORDS).fold(String::new(), |mut text, word| {
            write!(text, "{place}-{word:018} ").unwrap();
            text
        });
    }
    Manifest::write(&path, &utterances).unwrap();
    let job = site
        .job()
        .replace("layers = 1", "head = \"ctc\"\nlayers = 1");
    let job = job + "[text]\nunits = \"words\"\n";
    let mut live = site.start().await;
    let id = live.submit(&job).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let request = toy.describe(&id);
    let described = toy.workers.describe_job(request).await.unwrap();
    assert!(described.into_inner().recipe_json.is_empty());
    let recipe = within(toy.recipe(&id)).await.unwrap();
    assert!(recipe.vocabulary.units.len() > 4 * WORDS);
    assert!(!lease.micro_batches.is_empty());
    let dir = std::path::PathBuf::from(live.status(&id).await.run_dir);
    let left_out = events(&dir).into_iter().filter(|event| {
        matches!(
            event,
            coordinator::records::events::Event::UtteranceLeftOut {
                set: Set::Train,
                ..
            }
        )
    });
    assert_eq!(left_out.count(), 4, "nobody says so many words in a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_thousands_of_speakers_travel_with_the_leases_that_need_them() {
    const SPEAKERS: usize = 3000;
    let site = Site::new();
    let path = site.path("train.jsonl");
    let before = Manifest::read(&path).unwrap().utterances;
    let utterances: Vec<_> = (0..SPEAKERS)
        .map(|speaker| Utterance {
            id: format!("utterance{speaker}"),
            speaker: Some(format!("speaker{}", speaker / 2 * 2)),
            ..before[speaker % before.len()].clone()
        })
        .collect();
    Manifest::write(&path, &utterances).unwrap();
    // 240 dimensions: all of them together take six megabytes.
    let features = "mel_bins = 80\ndeltas = 2\nnormalization = \"speaker\"";
    let job = site.job().replace("mel_bins = 4", features);
    let job = job.replace("batch = 6", &format!("batch = {SPEAKERS}"));
    let mut live = site.start().await;
    live.submit(&job).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let mut seen = 0;
    while seen < SPEAKERS {
        let lease = within(toy.lease()).await;
        assert!(pieces::encoded_len(&lease) <= PART_BYTES);
        let utterances = lease.micro_batches.iter().flat_map(|one| &one.utterances);
        let voices: Vec<u32> = utterances.map(|one| one.voice.unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = voices.iter().collect();
        assert_eq!(distinct.len(), lease.voices.len());
        assert!(lease.voices.iter().all(|voice| voice.mean.len() == 240));
        seen += voices.len();
        within(toy.fulfil(&lease)).await.unwrap();
    }
    assert_eq!(seen, SPEAKERS);
}

/// A data directory with this many ended jobs, the last `long` ones with long errors.
fn history(site: &Site, jobs: usize, long: usize) {
    let mut entries = String::new();
    for job in 1..=jobs {
        let error = if jobs - job < long {
            "e".repeat(1 << 20)
        } else {
            String::new()
        };
        let state = serde_json::to_string(&Stored::Failed).unwrap();
        let comma = if job == 1 { "" } else { "," };
        write!(
            entries,
            "{comma}\"{job:04}-old\":{{\"name\":\"old\",\"state\":{state},\"turn\":{job},\
             \"submitted_at\":\"2020-01-01T00:00:00Z\",\"error\":\"{error}\",\"cause\":\"data\"}}"
        )
        .unwrap();
    }
    let data = site.path("data");
    std::fs::create_dir(&data).unwrap();
    let state = format!(
        "{{\"generation\":1,\"next\":{},\"jobs\":{{{entries}}}}}",
        jobs + 1
    );
    std::fs::write(data.join("state.json"), state).unwrap();
}

async fn listed(live: &mut Live) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let page = live.jobs.list(v1::ListRequest { after }).await.unwrap();
        let page = page.into_inner();
        assert!(pieces::encoded_len(&page) <= PART_BYTES + 64);
        pages += 1;
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        if page.next.is_empty() {
            return (ids, pages);
        }
        after = page.next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_ended_jobs_are_listed_in_the_order_of_their_submission() {
    let site = Site::new();
    history(&site, 12_345, 80);
    let mut live = site.start().await;
    let new = live.submit(&site.job()).await;
    assert_eq!(new, "12346-tones");
    let (ids, pages) = within(listed(&mut live)).await;
    let mut expected: Vec<String> = (1..=12_345).map(|job| format!("{job:04}-old")).collect();
    expected.push(new.clone());
    assert_eq!(ids, expected);
    assert!(pages > 12, "{pages}");
    // Whoever names no job means the running one.
    let meant = live.status("").await;
    assert_eq!(meant.id, new);
    let old = live.status("12345-old").await;
    assert!(old.error.len() < 20_000 && old.error.contains("bytes more)"));
    // They are all of 2020; the new one has not ended.
    let mut prune = async |seconds| {
        let pruned = live.jobs.prune(v1::PruneRequest { seconds }).await;
        pruned.unwrap().into_inner()
    };
    assert_eq!(prune(u64::MAX).await.jobs, 0);
    let pruned = prune(0).await;
    assert_eq!(pruned.jobs, 12_345);
    assert_eq!(std::path::Path::new(&pruned.folder), site.path("data/jobs"));
    let (ids, pages) = within(listed(&mut live)).await;
    assert_eq!((ids, pages), (vec![new], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_reports_of_any_length_are_read_whole() {
    let site = Site::new();
    history(&site, 1, 0);
    let dir = site.path("data/jobs/0001-old");
    std::fs::create_dir_all(&dir).unwrap();
    let long = format!("{{\"event\":\"new\",\"ids\":\"{}\"}}", "é".repeat(5 << 20));
    let lines = ["{\"event\":\"first\"}", &long, "{\"event\":\"last\"}"];
    std::fs::write(dir.join("events.jsonl"), lines.join("\n") + "\n").unwrap();
    let report = format!("{{\"steps\":7,\"classes\":\"{}\"}}", "€".repeat(3 << 20));
    std::fs::write(dir.join("report.json"), &report).unwrap();
    let mut live = site.start().await;
    assert_eq!(within(live.lines("0001-old", false, true)).await, lines);
    assert_eq!(live.report("0001-old").await, report);
    assert_eq!(live.status("0001-old").await.state(), State::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_any_length_is_submitted_and_one_without_end_is_not() {
    let site = Site::new();
    let mut live = site.start().await;
    let submission = |bytes: usize| {
        let comment = "# ".to_owned() + &"a".repeat(bytes) + "\n";
        pieces::submission(&v1::SubmitRequest {
            job_toml: comment + &site.job(),
            program_version: PROGRAM_VERSION.to_owned(),
        })
    };
    let parts = submission(5 << 20);
    assert_eq!(parts.len(), 6);
    let submitted = live.jobs.submit_in_pieces(futures::stream::iter(parts));
    assert_eq!(submitted.await.unwrap().into_inner().id, "0001-tones");
    let parts = submission(17 << 20);
    let refused = live.jobs.submit_in_pieces(futures::stream::iter(parts));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    // What is wrong with a job fits into what a status may hold, however long its words are.
    let word = "k".repeat(200_000);
    let refused = live
        .try_submit(&format!("{}\n{word} = 1\n", site.job()))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().len() < 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_once_for_each_request() {
    let site = Site::new();
    let mut live = site.start().await;
    let job = live.submit(&site.job()).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let digest = lease.micro_batches[0].utterances[0].audio_digest.clone();
    let mut ask = async |digests: Vec<bytes::Bytes>| {
        let request = toy.fetch(&job, digests);
        toy.tensors
            .fetch_audio(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let refused = ask(vec![digest.clone(); 4096]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("twice"), "{refused}");
    let mut chunks = ask(vec![digest]).await.unwrap();
    assert!(chunks.message().await.unwrap().is_some());
}
