//! What is made of a corpus before anything is computed, and what is wrong with one.

use std::{path::Path, sync::atomic::AtomicBool};

use coordinator::{
    corpus::{Item, Prepared, prepare},
    job::Job,
    records::events::Set,
};
use proto::v1::{Cause, State};
use speech::{
    audio::float_header,
    corpus_roots::CorpusRoots,
    left_out::Reason,
    manifest::{Manifest, Utterance},
};

use crate::site::{Site, events};

fn job(site: &Site, sets: &[&str]) -> Job {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Job::parse(&site.job(), Path::new("job.toml"), &sets).unwrap()
}

fn prepared(site: &Site, sets: &[&str]) -> Result<Prepared, String> {
    let synthetic = site.path("synthetic");
    // What one preparation keeps, the next one finds.
    let cache = site.path("cache");
    let job = job(site, sets);
    let prepared = prepare(
        &job,
        &CorpusRoots::anywhere(),
        &synthetic,
        Some(&cache),
        &AtomicBool::new(false),
    );
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
    let [train, valid] = &prepared.left_out;
    let [left_out] = train.named.as_slice() else {
        panic!("one cannot be aligned: {train:?}");
    };
    assert_eq!(
        (left_out.utterance.as_str(), train.set),
        ("train5", Set::Train)
    );
    assert!(
        left_out.reason.contains("CTC needs 240"),
        "{}",
        left_out.reason
    );
    assert_eq!(
        train.summary.by_reason,
        [(Reason::TooShortForTranscript, 1)].into()
    );
    assert_eq!((train.summary.utterances, train.summary.of), (1, 26));
    assert!(valid.summary.is_empty());
}

#[test]
fn what_the_model_cannot_say_is_named_and_scored_all_the_same() {
    let site = Site::new();
    change(&site, "valid", |index, it| {
        if index >= 4 {
            it.text = "zëro".to_owned();
        }
    });
    for sets in [
        &["model.head=ctc"][..],
        &["model.head=ctc", "text.units=bytepair", "text.size=30"],
        &[],
    ] {
        let prepared = prepared(&site, sets).unwrap();
        assert_eq!(prepared.valid.len(), 7);
        let unknown = prepared.unknown;
        assert_eq!((unknown.utterances, unknown.of), (3, 7), "{sets:?}");
        assert_eq!(unknown.examples, ["valid4", "valid5", "valid6"]);
        let lacking = if sets.is_empty() { "zëro" } else { "z" };
        assert!(unknown.units.iter().any(|it| it == lacking), "{unknown:?}");
    }
}

/// A WAV file of floats, the middle one of which is no number.
fn not_a_number() -> Vec<u8> {
    let mut samples = vec![0.1f32; 1200];
    samples[600] = f32::NAN;
    let mut bytes = float_header(8000, samples.len() as u64).to_vec();
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

#[test]
fn recordings_that_cannot_be_used_are_left_out_by_name_and_bounded() {
    let site = Site::new();
    let write = |name: &str, bytes: &[u8]| std::fs::write(site.path(name), bytes).unwrap();
    write("train3.wav", b"not a recording");
    write("train9.wav", b"");
    write("valid2.wav", b"");
    std::fs::remove_file(site.path("train11.wav")).unwrap();
    std::fs::remove_file(site.path("train12.wav")).unwrap();
    std::fs::create_dir(site.path("train12.wav")).unwrap();
    change(&site, "train", |index, it| {
        if index == 20 {
            (it.offset, it.duration) = (100.0, 1.0);
        }
        if index == 21 {
            it.audio = it.audio.join("below a file.wav");
        }
    });
    let prepared = |sets: &[&str]| prepared(&site, sets);
    let found = prepared(&[]).unwrap();
    assert_eq!((found.train.len(), found.valid.len()), (20, 6));
    let [train, valid] = &found.left_out;
    let named: Vec<&str> = train.named.iter().map(|it| it.utterance.as_str()).collect();
    assert_eq!(
        named,
        [
            "train3", "train9", "train11", "train12", "train20", "train21"
        ]
    );
    assert!(
        train.named[0].reason.contains("train3.wav"),
        "{}",
        train.named[0].reason
    );
    assert_eq!(
        train.summary.by_reason,
        [
            (Reason::Missing, 2),
            (Reason::Unreadable, 1),
            (Reason::Damaged, 2),
            (Reason::Segment, 1)
        ]
        .into()
    );
    assert_eq!(valid.named[0].utterance, "valid2");

    for (bound, set) in [("0", "train"), ("5", "train"), ("10%", "train")] {
        let error = prepared(&[&format!("corpus.max_bad={bound}")]).unwrap_err();
        let wanted = [
            &format!("{set}.jsonl"),
            "6 of 26",
            "\"train3\"",
            "train3.wav",
        ];
        assert!(
            wanted.iter().all(|it| error.contains(*it)),
            "{bound}: {error}"
        );
    }
    assert!(prepared(&["corpus.max_bad=6"]).is_ok());
    // All of them, each file at another rate than the job's.
    let rates = ["features.resample=false", "features.sample_rate=16000"];
    let error = prepared(&rates).unwrap_err();
    assert!(
        error.contains("26 of 26") && error.contains("8000 Hz") && error.contains("16000 Hz"),
        "{error}"
    );
    let all = [&rates[..], &["corpus.max_bad=100%"]].concat();
    let error = prepared(&all).unwrap_err();
    assert!(error.contains("none of the 26"), "{error}");
}

#[test]
fn a_set_of_which_nothing_is_left_is_an_error_that_names_it() {
    for (name, purpose) in [("train", "trained on"), ("valid", "evaluated")] {
        let site = Site::new();
        change(&site, name, |_, it| it.duration = 0.01);
        // Segments, which are shorter than a frame.
        let error = prepared(&site, &[]).unwrap_err();
        let wanted = [
            &format!("{name}.jsonl"),
            "none of the",
            purpose,
            "too short",
        ];
        assert!(wanted.iter().all(|it| error.contains(*it)), "{error}");
    }
}

#[test]
fn utterances_that_are_too_long_are_left_out_before_they_are_tried() {
    let site = Site::new();
    let all = prepared(&site, &[]).unwrap();
    let longest = "corpus.max_seconds=0.25";
    let shorter = prepared(&site, &[longest]).unwrap();
    let expected = |items: &[Item]| items.iter().filter(|it| it.seconds <= 0.25).count();
    assert_eq!(shorter.train.len(), expected(&all.train));
    assert_eq!(shorter.valid.len(), expected(&all.valid));
    assert!(shorter.train.len() < all.train.len() && !shorter.train.is_empty());
    let [train, _] = &shorter.left_out;
    let left = all.train.len() - shorter.train.len();
    assert_eq!(
        train.summary.by_reason,
        [(Reason::TooLong, left as u64)].into()
    );
    assert!(train.named[0].reason.contains("max_seconds = 0.25"));
    // Bounded where that is asked for.
    let error = prepared(&site, &[longest, "corpus.max_bad=0"]).unwrap_err();
    assert!(error.contains("train.jsonl"), "{error}");
    for wrong in ["0", "-1", "nan", "inf"] {
        let set = [format!("corpus.max_seconds={wrong}")];
        assert!(
            Job::parse(&site.job(), Path::new("job.toml"), &set).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn statistics_are_those_of_the_recordings_that_can_be_decoded() {
    for normalization in ["global", "speaker"] {
        let set = format!("features.normalization={normalization}");
        let site = Site::new();
        for name in ["train", "valid"] {
            change(&site, name, |index, it| {
                it.speaker = Some(format!("{}", index % 2))
            });
        }
        std::fs::write(site.path("train3.wav"), not_a_number()).unwrap();
        let with = prepared(&site, &[&set]).unwrap();
        let [train, _] = &with.left_out;
        assert_eq!(train.summary.by_reason, [(Reason::Damaged, 1)].into());
        assert_eq!(train.named[0].utterance, "train3");
        let path = site.path("train.jsonl");
        let mut utterances = Manifest::read(&path).unwrap().utterances;
        utterances.remove(3);
        Manifest::write(&path, &utterances).unwrap();
        let without = prepared(&site, &[&set]).unwrap();
        assert_eq!(with.digest, without.digest, "{normalization}");
        assert!(without.left_out[0].summary.is_empty());
    }
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
    // The digest names the data; what is trained with them is compared key by key.
    let other = prepared(&site, &[global, "train.seed=2"]).unwrap();
    assert_eq!(one.digest, other.digest);
    change(&site, "train", |_, it| it.text = it.text.to_uppercase());
    let other = prepared(&site, &[global, "text.case=upper"]).unwrap();
    assert_ne!(one.digest, other.digest);
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
    let first = prepare(&job, &CorpusRoots::nowhere(), &dir, None, &never).unwrap();
    assert!(first.synthetic);
    assert_eq!((first.train.len(), first.valid.len()), (12, 4));
    assert_eq!(
        prepare(&job, &CorpusRoots::nowhere(), &dir, None, &never)
            .unwrap()
            .digest,
        first.digest
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_bad_corpus_fails_for_good_and_the_next_one_runs() {
    let site = Site::new();
    site.manifest("other", 8);
    std::fs::write(site.path("train3.wav"), "not a recording").unwrap();
    let mut live = site.start().await;
    let strict = site.job().replace("[corpus]", "[corpus]\nmax_bad = 0");
    let bad = live.submit(&strict).await;
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
