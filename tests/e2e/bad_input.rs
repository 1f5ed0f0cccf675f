//! Bad input: each with its own message and exit code, and nothing half-written.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use proto::v1::{self, join_response::Outcome, workers_client::WorkersClient};
use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    fixture::{Ended, Head, json_lines, run, tiny_job},
};

/// A CTC model and the manifests that it was trained and measured on, made once.
fn trained() -> &'static Path {
    static TRAINED: OnceLock<TempDir> = OnceLock::new();
    let made = TRAINED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let args = "corpus synthesize --task digit-strings --train 20 --valid 6 --speakers 2 --valid-speakers 2 --out corpus";
        run(dir.path(), args.split(' ')).expect(0);
        tiny_job(dir.path(), Head::Ctc);
        let job = fs::read_to_string(dir.path().join("tiny.toml")).unwrap();
        let job: Vec<&str> = job.lines().filter(|line| !line.starts_with("synthetic")).collect();
        let job = job.join("\n").replace(
            "[corpus]",
            "[corpus]\ntrain = \"corpus/train.jsonl\"\nvalid = \"corpus/valid.jsonl\"",
        );
        fs::write(dir.path().join("job.toml"), job).unwrap();
        let args = "train job.toml --workers 1 --device cpu --set train.epochs=1 --out run";
        run(dir.path(), args.split(' ')).expect(0);
        dir
    });
    made.path()
}

fn train(dir: &Path, job: &Path, sets: &[&str]) -> Ended {
    let mut args = vec![
        "train",
        job.to_str().unwrap(),
        "--workers",
        "1",
        "--device",
        "cpu",
        "--out",
        "run",
    ];
    for set in sets {
        args.extend(["--set", set]);
    }
    run(dir, args)
}

#[track_caller]
fn is_refused(ended: Ended, code: i32, words: &[&str]) {
    let ended = ended.expect(code);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not in: {ended:?}");
    }
    assert_eq!(ended.stdout, "");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_its_nearest_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let job = tiny_job(dir.path(), Head::Keyword);
    let text = fs::read_to_string(&job)
        .unwrap()
        .replace("epochs =", "epoch =");
    fs::write(&job, text).unwrap();
    is_refused(
        train(dir.path(), &job, &[]),
        78,
        &["tiny.toml:13", "`epoch`", "`epochs`"],
    );
    assert!(!dir.path().join("run").exists());
}

#[test]
fn impossible_values_and_settings_name_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let job = tiny_job(dir.path(), Head::Keyword);
    for (set, code, word) in [
        ("train.epochs=0", 78, "train.epochs"),
        ("optimizer.kind=adamm", 78, "adam"),
        ("features.mel_bins=100000", 78, "mel_bins"),
        ("nonsense", 2, "nonsense"),
    ] {
        is_refused(train(dir.path(), &job, &[set]), code, &[word]);
    }
    // Features that cannot be: more cepstra than bands.
    let mfcc = ["features.kind=mfcc", "features.cepstra=21"];
    is_refused(train(dir.path(), &job, &mfcc), 78, &["cepstra"]);
    assert!(!dir.path().join("run").exists());
    is_refused(
        run(dir.path(), ["train", "absent.toml"]),
        78,
        &["absent.toml"],
    );
    is_refused(run(dir.path(), ["trian"]), 2, &["train"]);
}

#[test]
fn a_manifest_that_is_missing_or_malformed_is_named_with_its_line() {
    let made = trained();
    let dir = tempfile::tempdir().unwrap();
    let job = made.join("job.toml");
    is_refused(
        train(dir.path(), &job, &["corpus.train=absent.jsonl"]),
        78,
        &["absent.jsonl"],
    );
    let good = fs::read_to_string(made.join("corpus/train.jsonl")).unwrap();
    let first = good.lines().next().unwrap();
    let path = dir.path().join("bad.jsonl");
    for (line, word) in [
        ("{\"audio_filepath\": ", "not JSON"),
        (
            "{\"audio_filepath\": \"a.wav\", \"text\": \"one\"}",
            "`duration` is missing",
        ),
        (
            "{\"audio_filepath\": \"a.wav\", \"text\": \"one\", \"duration\": -1}",
            "`duration`",
        ),
    ] {
        fs::write(&path, format!("{first}\n{line}\n")).unwrap();
        let ended = train(
            dir.path(),
            &job,
            &["corpus.train=bad.jsonl", "corpus.max_bad=0"],
        );
        is_refused(ended, 78, &["bad.jsonl:2", word]);
    }
    assert!(!dir.path().join("run").exists());
}

/// Each kind of bad recording and what is said of it.
fn bad_recordings(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let made = json_lines(&trained().join("corpus/valid.jsonl"));
    let good = made[0]["audio_filepath"].as_str().unwrap();
    let good = fs::read(trained().join("corpus").join(good)).unwrap();
    let data = good
        .windows(4)
        .position(|window| window == b"data")
        .unwrap();
    let mut zero = good[..data + 8].to_vec();
    zero[data + 4..].copy_from_slice(&0u32.to_le_bytes());
    let riff = (zero.len() as u32 - 8).to_le_bytes();
    zero[4..8].copy_from_slice(&riff);
    let mut lying = good.clone();
    // Sizes near the largest stand for a length that whoever wrote into a pipe did not know.
    lying[data + 4..data + 8].copy_from_slice(&0x0123_4560u32.to_le_bytes());
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("truncated", good[..good.len() / 2].to_vec(), "cut short"),
        ("empty", Vec::new(), "empty"),
        ("zero", zero, "zero samples"),
        (
            "text",
            b"this is a letter, not a recording\n".to_vec(),
            "not a form of audio that is read",
        ),
        ("lying", lying, "claims"),
    ];
    cases
        .into_iter()
        .map(|(name, bytes, word)| {
            let path = dir.join(format!("{name}.wav"));
            fs::write(&path, bytes).unwrap();
            (path, word)
        })
        .collect()
}

#[test]
fn recordings_that_are_no_recordings_are_told_apart() {
    let made = trained();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = made.join("run/final");
    let model = model.to_str().unwrap();
    for (path, word) in bad_recordings(dir) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let line =
            format!("{{\"audio_filepath\": \"{name}\", \"duration\": 0.5, \"text\": \"one\"}}\n");
        fs::write(dir.join("bad.jsonl"), line).unwrap();
        let ended = run(
            dir,
            ["transcribe", "--model", model, path.to_str().unwrap()],
        );
        is_refused(ended, 78, &[&name, word]);
        let ended = run(
            dir,
            ["evaluate", "--model", model, "--manifest", "bad.jsonl"],
        );
        is_refused(ended, 78, &[&name, word]);
        let out = format!("run-{name}");
        let args = [
            "train",
            made.join("job.toml").to_str().unwrap(),
            "--workers",
            "1",
            "--device",
            "cpu",
            "--set",
            "corpus.train=bad.jsonl",
            "--set",
            "corpus.valid=",
            "--out",
            &out,
        ]
        .map(str::to_owned);
        let ended = run(dir, args).expect(78);
        assert!(
            ended.stderr.contains(&name) && ended.stderr.contains(word),
            "{ended:?}"
        );
        assert!(!dir.join(out).join("final").exists());
    }
}

#[test]
fn transcripts_with_characters_outside_the_vocabulary_are_scored_and_named_at_evaluation() {
    let made = trained();
    let dir = tempfile::tempdir().unwrap();
    let valid = made.join("corpus/valid.jsonl");
    let line = &json_lines(&valid)[0];
    let wav = made
        .join("corpus")
        .join(line["audio_filepath"].as_str().unwrap());
    let text = format!(
        "{{\"id\": \"odd\", \"audio_filepath\": {wav:?}, \"duration\": 0.5, \"text\": \"Zürich\"}}\n"
    );
    fs::write(dir.path().join("odd.jsonl"), text).unwrap();
    let model = made.join("run/final");
    let args = [
        "evaluate",
        "--model",
        model.to_str().unwrap(),
        "--manifest",
        "odd.jsonl",
    ];
    let ended = run(dir.path(), args).expect(0);
    for word in ["odd.jsonl", "“odd”", "“ü”"] {
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
    assert!(ended.stdout.contains("WER"), "{ended:?}");
}

#[test]
fn a_model_that_does_not_fit_its_features_or_is_damaged_is_refused() {
    let made = trained();
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("final");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(made.join("run/final")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let valid = made.join("corpus/valid.jsonl");
    let evaluate = || {
        let args = [
            "evaluate",
            "--model",
            "final",
            "--manifest",
            valid.to_str().unwrap(),
        ];
        run(dir.path(), args)
    };
    evaluate().expect(0);
    let recipe = model.join("recipe.json");
    let text = fs::read_to_string(&recipe).unwrap();
    let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    parsed["features"]["mel_bins"] = 24.into();
    fs::write(&recipe, parsed.to_string()).unwrap();
    is_refused(evaluate(), 78, &["model.safetensors", "weight_ih_l0"]);
    fs::write(&recipe, text).unwrap();
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 10]).unwrap();
    is_refused(evaluate(), 78, &["model.safetensors"]);
    fs::remove_file(&weights).unwrap();
    is_refused(evaluate(), 78, &["model.safetensors", "`final` folder"]);
}

#[test]
fn an_unreachable_coordinator_is_worth_a_retry_and_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let words = [url.as_str(), "coordinator"];
    for verb in ["jobs", "workers", "status", "logs"] {
        is_refused(run(dir.path(), [verb, "--coordinator", &url]), 75, &words);
    }
    let job = tiny_job(dir.path(), Head::Keyword);
    let args = ["submit", job.to_str().unwrap(), "--coordinator", &url];
    is_refused(run(dir.path(), args), 75, &words);
    let args = [
        "worker",
        "--device",
        "cpu",
        "--give-up-after",
        "1",
        "--coordinator",
        &url,
    ];
    is_refused(run(dir.path(), args), 75, &words);
    is_refused(
        run(dir.path(), ["jobs", "--coordinator", "ftp://x"]),
        2,
        &["ftp://x"],
    );
}

#[test]
fn ports_directories_jobs_and_versions_that_do_not_fit_are_refused() {
    let cluster = Cluster::start(&[]);
    let dir = cluster.dir.path();
    let address = cluster.url.trim_start_matches("http://");
    let args = ["coordinator", "--listen", address, "--data-dir", "other"];
    // Whoever has the port may be about to end.
    is_refused(run(dir, args), 75, &[address, "in use"]);
    let args = [
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "data",
    ];
    is_refused(run(dir, args), 75, &["data", "process"]);
    let args = [
        "coordinator",
        "--listen",
        "0.0.0.0:0",
        "--data-dir",
        "other",
    ];
    is_refused(run(dir, args), 78, &["--allow-plaintext"]);
    is_refused(
        cluster.verb(&["status", "no-such-job"]),
        78,
        &["no-such-job"],
    );
    is_refused(cluster.verb(&["status"]), 78, &["no jobs"]);
    is_refused(
        cluster.verb(&["cancel", "no-such-job"]),
        78,
        &["no-such-job"],
    );

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reason = runtime.block_on(async {
        let mut workers = WorkersClient::connect(cluster.url.clone()).await.unwrap();
        let request = v1::JoinRequest {
            name: "stranger".to_owned(),
            program_version: "0.0.1-other".to_owned(),
            compute_class: "flex/none".to_owned(),
            threads: 1,
        };
        match workers.join(request).await.unwrap().into_inner().outcome {
            Some(Outcome::Refusal(refusal)) => refusal.reason,
            other => panic!("{other:?}"),
        }
    });
    let ours = env!("CARGO_PKG_VERSION");
    assert!(
        reason.contains("0.0.1-other") && reason.contains(ours),
        "{reason}"
    );
}

#[test]
fn a_run_is_neither_overwritten_nor_resumed_with_another_job() {
    let made = trained();
    let before = fs::read(made.join("run/report.json")).unwrap();
    let again = "train job.toml --workers 1 --device cpu --set train.epochs=1 --out run";
    is_refused(run(made, again.split(' ')), 78, &["run", "--resume"]);
    let other = format!("{again} --set train.seed=99 --resume");
    is_refused(run(made, other.split(' ')), 78, &["seed = 99"]);
    let over = format!("{again} --resume");
    is_refused(run(made, over.split(' ')), 78, &["succeeded"]);
    assert_eq!(fs::read(made.join("run/report.json")).unwrap(), before);
}

#[test]
fn an_import_writes_every_manifest_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("fsdd");
    fs::create_dir(&corpus).unwrap();
    let made = json_lines(&trained().join("corpus/valid.jsonl"));
    let wav = trained()
        .join("corpus")
        .join(made[0]["audio_filepath"].as_str().unwrap());
    for name in ["1_ada_0.wav", "2_ada_7.wav", "3_bob_1.wav"] {
        fs::copy(&wav, corpus.join(name)).unwrap();
    }
    let import = |out: &str, rules: &[&str]| {
        let mut args = vec!["corpus", "import", "--format", "fsdd", "fsdd", "--out", out];
        for rule in rules {
            args.extend(["--hold-out", rule]);
        }
        run(dir.path(), args)
    };
    is_refused(import("t.jsonl", &["every:2=v.jsonl"]), 2, &["every:2"]);
    is_refused(import("t.jsonl", &["index:5-9"]), 2, &["RULE=FILE"]);
    is_refused(import("t.jsonl", &["index:5-9=t.jsonl"]), 2, &["t.jsonl"]);
    is_refused(
        import("t.jsonl", &["speaker:eve=v.jsonl"]),
        78,
        &["eve", "ada, bob"],
    );
    is_refused(
        import("t.jsonl", &["index:5-9=no/such/folder/v.jsonl"]),
        2,
        &["no/such/folder"],
    );
    let bad = [
        "corpus", "import", "--format", "wsj", "fsdd", "--out", "t.jsonl",
    ];
    is_refused(run(dir.path(), bad), 2, &["wsj", "an4"]);
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["fsdd"]);
    import("t.jsonl", &["index:5-9=v.jsonl", "speaker:bob=b.jsonl"]).expect(0);
    let counts =
        ["t.jsonl", "v.jsonl", "b.jsonl"].map(|name| json_lines(&dir.path().join(name)).len());
    assert_eq!(counts, [1, 1, 1]);
}
