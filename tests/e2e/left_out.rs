//! What cannot be used is left out, named and counted, and everything else goes on: in training, evaluation,
//! transcription and comparison.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Ended, json_lines, report, run};

/// A corpus of spoken digits, the model that was trained on it, and recordings of other kinds.
struct Trained {
    dir: TempDir,
    train: Vec<Value>,
    valid: Vec<Value>,
}

fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let args =
            "corpus synthesize --train 24 --valid 12 --speakers 2 --valid-speakers 2 --out corpus";
        run(dir.path(), args.split(' ')).expect(0);
        let lines = |name: &str| {
            let mut lines = json_lines(&dir.path().join(format!("corpus/{name}.jsonl")));
            for line in &mut lines {
                let audio = line["audio_filepath"].as_str().unwrap();
                line["audio_filepath"] = json!(dir.path().join("corpus").join(audio));
            }
            lines
        };
        let (train, valid) = (lines("train"), lines("valid"));
        // Its header is as it should be: nothing but decoding finds what is wrong.
        let mut samples = vec![0.1f32; 6000];
        samples[4000] = f32::NAN;
        let mut bytes = speech::audio::float_header(8000, samples.len() as u64).to_vec();
        bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        fs::write(dir.path().join("damaged.wav"), bytes).unwrap();
        let made = Trained { dir, train, valid };
        made.manifest("train.jsonl", &made.train);
        made.manifest("valid.jsonl", &made.valid);
        made.train("model", "1", &[]).expect(0);
        made
    })
}

impl Trained {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn manifest(&self, name: &str, lines: &[Value]) -> PathBuf {
        let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let path = self.path().join(name);
        fs::write(&path, text.join("\n")).unwrap();
        path
    }

    fn damaged(&self, id: &str) -> Value {
        let path = self.path().join("damaged.wav");
        json!({"id": id, "audio_filepath": path, "duration": 0.75, "text": "seven"})
    }

    fn train(&self, out: &str, workers: &str, sets: &[&str]) -> Ended {
        let job = "[corpus]\ntrain = \"train.jsonl\"\nvalid = \"valid.jsonl\"\n\
                   [features]\nsample_rate = 8000\nmel_bins = 20\nstack = 3\n\
                   [model]\nlayers = 1\nhidden = 8\n\
                   [train]\nepochs = 2\nbatch = 6\nmicro_batch = 2\n";
        fs::write(self.path().join("job.toml"), job).unwrap();
        let mut args = vec![
            "train",
            "job.toml",
            "--device",
            "cpu",
            "--workers",
            workers,
            "--threads",
            "1",
            "--out",
            out,
        ];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        run(self.path(), args)
    }

    fn evaluate(&self, manifest: &str, more: &[&str]) -> Ended {
        let args = ["evaluate", "--model", "model/final", "--device", "cpu"];
        let named = ["--manifest", manifest];
        run(self.path(), args.iter().chain(&named).chain(more))
    }
}

#[test]
fn recordings_that_turn_out_to_be_damaged_cost_no_job_and_no_bit() {
    let made = trained();
    let mut train = made.train.clone();
    train.insert(5, made.damaged("odd-one"));
    let mut valid = made.valid.clone();
    valid.insert(3, made.damaged("odd-two"));
    valid[0]["text"] = json!("eleven");
    made.manifest("odd-train.jsonl", &train);
    made.manifest("odd-valid.jsonl", &valid);
    let sets = [
        "corpus.train=odd-train.jsonl",
        "corpus.valid=odd-valid.jsonl",
    ];
    let mut hashes = Vec::new();
    for workers in ["1", "2"] {
        let out = format!("odd-{workers}");
        let ended = made.train(&out, workers, &sets).expect(0);
        let last = ended.stdout.trim_end().lines().next_back().unwrap();
        assert!(
            last.contains("1 of 25 training utterances was left out")
                && last.contains("1 of 13 validation utterances"),
            "{last}"
        );
        for name in ["odd-one", "odd-two"] {
            let named = format!("utterance {name} is left out");
            assert_eq!(ended.stderr.matches(&named).count(), 1, "{}", ended.stderr);
        }
        assert!(ended.stderr.contains("eleven"), "{}", ended.stderr);
        let report = report(&made.path().join(&out));
        assert_eq!(report["left_out"]["train"]["by_reason"]["damaged"], 1);
        assert_eq!(
            report["left_out"]["valid"]["examples"][0]["utterance"],
            "odd-two"
        );
        assert_eq!(report["unknown_text"]["units"], json!(["eleven"]));
        assert_eq!(report["metrics"]["utterances"], 12);
        hashes.push(report["weights_sha256"].clone());
    }
    assert_eq!(hashes[0], hashes[1]);

    let strict = [&sets[..], &["corpus.max_bad=0"]].concat();
    let ended = made.train("strict", "1", &strict).expect(78);
    for word in ["odd-one", "damaged.wav", "corpus.max_bad"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    // With statistics over the training set, it is found before the first step.
    let global = [&strict[..], &["features.normalization=global"]].concat();
    let ended = made.train("global", "1", &global).expect(78);
    assert!(ended.stderr.contains("odd-one"), "{}", ended.stderr);
    let steps = fs::read_to_string(made.path().join("global/metrics.jsonl"));
    assert_eq!(steps.unwrap_or_default(), "");

    // With more allowed, a run goes on that ended for it.
    let more = [&sets[..], &["corpus.max_bad=1"]].concat();
    let mut args: Vec<&str> =
        "train job.toml --device cpu --workers 1 --threads 1 --out strict --resume"
            .split(' ')
            .collect();
    args.extend(more.iter().flat_map(|set| ["--set", set]));
    run(made.path(), args).expect(0);
    let resumed = report(&made.path().join("strict"));
    assert_eq!(resumed["weights_sha256"], hashes[0]);
    assert_eq!(resumed["left_out"]["train"]["utterances"], 1);
}

#[test]
fn an_evaluation_goes_by_what_can_be_used_and_says_what_cannot() {
    let made = trained();
    let plain = made
        .evaluate("valid.jsonl", &["-o", "json"])
        .expect(0)
        .json();
    assert!(plain.get("left_out").is_none() && plain.get("unknown_text").is_none());
    let mut lines = made.valid.clone();
    lines.insert(2, made.damaged("odd"));
    let mut missing = made.damaged("gone");
    missing["audio_filepath"] = json!("nowhere.wav");
    lines.push(missing);
    made.manifest("bad.jsonl", &lines);
    let args = [
        "-o",
        "json",
        "--utterances",
        "bad.out",
        "--html",
        "bad.html",
    ];
    let ended = made.evaluate("bad.jsonl", &args).expect(0);
    let found = ended.json();
    for figure in ["utterances", "accuracy", "loss", "confusion"] {
        assert_eq!(found[figure], plain[figure], "{figure}");
    }
    assert_eq!(found["left_out"]["of"], 14);
    assert_eq!(
        found["left_out"]["by_reason"],
        json!({"missing": 1, "damaged": 1})
    );
    for word in ["odd", "damaged.wav", "gone", "nowhere.wav"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    assert_eq!(json_lines(&made.path().join("bad.out")).len(), 12);
    let page = fs::read_to_string(made.path().join("bad.html")).unwrap();
    assert!(page.contains("2 of 14 utterances were left out"));
    let text = made.evaluate("bad.jsonl", &[]).expect(0).stdout;
    let last = text.trim_end().lines().next_back().unwrap();
    assert!(last.contains("2 of 14 utterances were left out"), "{last}");
    let ended = made.evaluate("bad.jsonl", &["--max-bad", "1"]).expect(78);
    assert!(ended.stderr.contains("2 of 14"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    made.evaluate("bad.jsonl", &["--max-bad", "10%"]).expect(78);
    made.evaluate("bad.jsonl", &["--max-bad", "20%"]).expect(0);
    made.evaluate("bad.jsonl", &["--max-bad", "many"]).expect(2);
    made.manifest("only.jsonl", &[made.damaged("odd")]);
    made.evaluate("only.jsonl", &["--max-bad", "100%"])
        .expect(78);

    let mut strange = made.valid.clone();
    strange[4]["text"] = json!("eleven");
    made.manifest("strange.jsonl", &strange);
    let ended = made.evaluate("strange.jsonl", &["-o", "json"]).expect(0);
    let found = ended.json();
    assert_eq!(found["utterances"], 12);
    assert_eq!(found["unknown_text"]["utterances"], 1);
    assert!(found["accuracy"].as_f64() <= plain["accuracy"].as_f64());
    assert!(ended.stderr.contains("eleven"), "{}", ended.stderr);

    // Two of thirteen are on one side alone.
    let all = fs::read_to_string(made.path().join("bad.out")).unwrap();
    let (first, rest) = all.split_once('\n').unwrap();
    fs::write(made.path().join("fewer.out"), rest).unwrap();
    let other = first.replace("\"id\":\"", "\"id\":\"other-");
    fs::write(made.path().join("other.out"), format!("{other}\n{rest}")).unwrap();
    let compare = |other: &str, more: &[&str]| {
        let args = ["compare", "bad.out", other, "-o", "json"];
        run(made.path(), args.iter().chain(more))
    };
    let found = compare("fewer.out", &[]).expect(0).json();
    assert_eq!(found["left_out"]["by_reason"], json!({"one-side": 1}));
    assert_eq!(found["first"]["utterances"], 11);
    let found = compare("other.out", &[]).expect(0).json();
    assert_eq!(found["left_out"]["utterances"], 2);
    compare("other.out", &["--max-bad", "1"]).expect(78);
}

#[test]
fn a_recording_that_cannot_be_transcribed_costs_no_other_transcript() {
    let made = trained();
    let audio = |at: usize| {
        made.valid[at]["audio_filepath"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (one, two) = (audio(0), audio(1));
    let transcribe = |files: &[&str], more: &[&str]| {
        let args = ["transcribe", "--model", "model/final", "--device", "cpu"];
        run(made.path(), args.iter().chain(more).chain(files))
    };
    let alone = transcribe(&[&one, &two], &[]).expect(0);
    let files = ["missing.wav", &one, "damaged.wav", "model", &two];
    let ended = transcribe(&files, &[]).expect(78);
    assert_eq!(ended.stdout, alone.stdout);
    for word in [
        "missing.wav",
        "damaged.wav",
        "left out: model",
        "3 of 5 recordings",
    ] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    let json = transcribe(&files, &["-o", "json"]).expect(78);
    let entries = json.json();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 5);
    let files_of: Vec<&str> = entries
        .iter()
        .map(|it| it["file"].as_str().unwrap())
        .collect();
    assert_eq!(files_of, files);
    let whole = transcribe(&[&one, &two], &["-o", "json"]).expect(0);
    assert_eq!(entries[1], whole.json()[0]);
    let pretty = serde_json::to_string_pretty(&whole.json()).unwrap();
    assert_eq!(
        pretty.lines().count(),
        whole.stdout.trim_end().lines().count()
    );
    assert!(entries[2]["error"].as_str().unwrap().contains("4000"));
    transcribe(&files, &["--max-bad", "3"]).expect(0);
    transcribe(&files, &["--max-bad", "2"]).expect(78);
    // By itself its error is the program's.
    let ended = transcribe(&["damaged.wav"], &[]).expect(78);
    assert!(
        ended.stderr.starts_with("error: damaged.wav"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, "");
}
