//! What is made of a corpus before anything is computed, and what is wrong with one.

use std::{path::Path, sync::atomic::AtomicBool};

use coordinator::{
    corpus::{Prepared, prepare},
    events::Set,
    job::Job,
};
use proto::v1::{Cause, State};
use speech::manifest::{Manifest, Utterance};

use crate::site::{Site, events};

fn job(site: &Site, sets: &[&str]) -> Job {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Job::parse(&site.job(), Path::new("job.toml"), &sets).unwrap()
}

fn prepared(site: &Site, sets: &[&str]) -> Result<Prepared, String> {
    let synthetic = site.path("synthetic");
    let prepared = prepare(&job(site, sets), &synthetic, &AtomicBool::new(false));
    prepared.map_err(|error| error.to_string())
}

/// Changes the utterances of a manifest.
fn change(site: &Site, name: &str, change: impl Fn(usize, &mut Utterance)) {
    let path = site.path(&format!("{name}.jsonl"));
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    for (index, utterance) in utterances.iter_mut().enumerate() {
        change(index, utterance);
    }
    Manifest::write(&path, &utterances).unwrap();
}

#[test]
fn the_vocabulary_follows_the_head() {
    let site = Site::new();
    let keyword = prepared(&site, &[]).unwrap();
    assert_eq!(keyword.recipe.vocabulary.units, ["one", "three", "two"]);
    assert_eq!(keyword.spec.outputs, 3);
    let ctc = prepared(&site, &["model.head=ctc"]).unwrap();
    assert_eq!(
        ctc.recipe.vocabulary.units,
        ["e", "h", "n", "o", "r", "t", "w"]
    );
    assert_eq!(ctc.spec.outputs, 8);
    assert_eq!((ctc.train.len(), ctc.valid.len()), (26, 7));
    assert!(ctc.train.iter().all(|item| item.frames > 0));
}

#[test]
fn utterances_that_ctc_cannot_align_are_left_out_by_name_and_scored_all_the_same() {
    let site = Site::new();
    let long = "oneone".repeat(40);
    change(&site, "train", |index, it| {
        if index == 5 {
            it.text.clone_from(&long);
        }
    });
    change(&site, "valid", |index, it| {
        if index == 2 {
            it.text.clone_from(&long);
        }
    });
    let prepared = prepared(&site, &["model.head=ctc"]).unwrap();
    assert_eq!((prepared.train.len(), prepared.valid.len()), (25, 7));
    let [left_out] = prepared.left_out.as_slice() else {
        panic!("one cannot be aligned: {:?}", prepared.left_out);
    };
    assert_eq!(
        (left_out.utterance.as_str(), left_out.set),
        ("train5", Set::Train)
    );
    assert!(
        left_out.reason.contains("CTC needs 240"),
        "{}",
        left_out.reason
    );
}

#[test]
fn transcripts_outside_the_vocabulary_are_an_error_that_names_the_utterance() {
    let site = Site::new();
    change(&site, "valid", |index, it| {
        if index >= 4 {
            it.text = "zëro".to_owned();
        }
    });
    let error = prepared(&site, &["model.head=ctc"]).unwrap_err();
    assert!(
        error.contains("valid4") && error.contains("U+00EB") && error.contains("2 more"),
        "{error}"
    );
    let error = prepared(&site, &[]).unwrap_err();
    assert!(
        error.contains("valid4") && error.contains("\"three\""),
        "{error}"
    );
}

#[test]
fn audio_that_cannot_be_used_is_named_with_its_utterance() {
    let site = Site::new();
    std::fs::write(site.path("train3.wav"), "not a recording").unwrap();
    std::fs::write(site.path("train9.wav"), "").unwrap();
    let error = prepared(&site, &[]).unwrap_err();
    assert!(
        error.contains("\"train3\"") && error.contains("train3.wav") && error.contains("1 more"),
        "{error}"
    );
    let error = prepared(
        &Site::new(),
        &["features.resample=false", "features.sample_rate=16000"],
    )
    .unwrap_err();
    assert!(
        error.contains("8000 Hz") && error.contains("16000 Hz"),
        "{error}"
    );
}

#[test]
fn one_class_is_nothing_to_tell_apart() {
    let site = Site::new();
    change(&site, "train", |_, it| it.text = "one".to_owned());
    change(&site, "valid", |_, it| it.text = "one".to_owned());
    let error = prepared(&site, &[]).unwrap_err();
    assert!(error.contains("every transcript is \"one\""), "{error}");
}

#[test]
fn global_statistics_and_all_else_are_the_same_on_any_number_of_threads() {
    let site = Site::new();
    let global = "features.normalization=global";
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| prepared(&site, &[global]).unwrap())
    };
    let (one, three) = (on(1), on(3));
    assert!(one.recipe.stats.is_some());
    assert_eq!(one.recipe.to_json(), three.recipe.to_json());
    assert_eq!(one.digest, three.digest);
    assert_ne!(one.digest, prepared(&site, &[]).unwrap().digest);
    assert_ne!(
        one.digest,
        prepared(&site, &[global, "train.seed=2"]).unwrap().digest
    );
}

#[test]
fn a_corpus_that_is_moved_is_the_same_corpus() {
    let site = Site::new();
    let before = prepared(&site, &[]).unwrap().digest;
    std::fs::create_dir(site.path("moved")).unwrap();
    for name in ["train", "valid"] {
        let path = site.path(&format!("{name}.jsonl"));
        let mut utterances = Manifest::read(&path).unwrap().utterances;
        for utterance in &mut utterances {
            let moved = site
                .path("moved")
                .join(utterance.audio.file_name().unwrap());
            std::fs::rename(&utterance.audio, &moved).unwrap();
            utterance.audio = moved;
        }
        Manifest::write(&path, &utterances).unwrap();
    }
    assert_eq!(prepared(&site, &[]).unwrap().digest, before);
}

#[test]
fn synthetic_speech_is_made_once_and_called_synthetic() {
    let site = Site::new();
    let text = "[corpus]\nsynthetic = { task = \"digits\", train = 12, valid = 4, speakers = 2, valid_speakers = 1 }";
    let job = Job::parse(text, Path::new("digits.toml"), &[]).unwrap();
    let dir = site.path("synthetic");
    let never = AtomicBool::new(false);
    let first = prepare(&job, &dir, &never).unwrap();
    assert!(first.synthetic);
    assert_eq!((first.train.len(), first.valid.len()), (12, 4));
    assert_eq!(prepare(&job, &dir, &never).unwrap().digest, first.digest);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_bad_corpus_fails_for_good_and_the_next_one_runs() {
    let site = Site::new();
    site.manifest("other", 8);
    std::fs::write(site.path("train3.wav"), "not a recording").unwrap();
    let mut live = site.start().await;
    let bad = live.submit(&site.job()).await;
    let good = live
        .submit(&site.job().replace("train.jsonl", "other.jsonl"))
        .await;
    let status = live.ended(&bad).await;
    assert_eq!(status.state(), State::Failed);
    assert_eq!(status.cause(), Cause::Data);
    assert!(status.error.contains("train3"), "{}", status.error);
    let events = events(Path::new(&status.run_dir));
    assert_eq!(events.len(), 1, "{events:?}");
    let toy = crate::toy::Toy::join(&live.url, "toy").await;
    tokio::spawn(toy.work());
    live.succeeded(&good).await;
}
