//! `train`, from a job to a model that can be used.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::fixture::{Head, json_lines, long, report, root, run, tiny_job, train};

#[test]
fn a_run_with_two_workers_leaves_a_report_and_a_model_that_works() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    // Ten steps would be over on a busy machine while the second worker still starts.
    let args = format!(
        "train tiny.toml --workers 2 --device cpu --out run -o json --set {}",
        long(Head::Keyword)
    );
    let ended = run(dir.path(), args.split(' ')).expect(0);
    let run_dir = dir.path().join("run");
    let report = report(&run_dir);
    assert_eq!(ended.json(), report);
    assert_eq!(report["status"], "succeeded");
    assert_eq!(report["steps"], 500);
    assert_eq!(report["workers"], 2);
    assert_eq!(report["synthetic"], true);
    assert_eq!(report["weights_sha256"].as_str().unwrap().len(), 64);
    assert!(
        report["compute_class"]
            .as_str()
            .unwrap()
            .starts_with("flex/")
    );
    let accuracy = report["metrics"]["accuracy"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy));

    let steps = json_lines(&run_dir.join("metrics.jsonl"));
    let counted: Vec<u64> = steps
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(counted, (1..=500).collect::<Vec<_>>());
    for key in [
        "epoch",
        "loss",
        "grad_norm",
        "clip_coef",
        "lr",
        "weight",
        "seconds",
    ] {
        assert!(steps.iter().all(|line| line[key].is_number()), "{key}");
    }
    assert!(!json_lines(&run_dir.join("events.jsonl")).is_empty());
    let chart = fs::read_to_string(run_dir.join("chart.svg")).unwrap();
    assert!(chart.contains("Gradient norm") && chart.contains("Clip coefficient"));
    assert!(
        run_dir
            .join("tensorboard/events.out.tfevents.unisono")
            .is_file()
    );
    assert!(fs::read_dir(run_dir.join("checkpoints")).unwrap().count() > 0);
    let resolved = fs::read_to_string(run_dir.join("job.toml")).unwrap();
    assert!(resolved.contains("max_norm = 0.8"), "{resolved}");

    // The model says of the held-out set what the run said of it.
    let manifest = find(&run_dir, "valid.jsonl");
    let model = run_dir.join("final");
    let evaluated = run(
        dir.path(),
        [
            "evaluate".as_ref(),
            "--model".as_ref(),
            model.as_os_str(),
            "--manifest".as_ref(),
            manifest.as_os_str(),
            "-o".as_ref(),
            "json".as_ref(),
        ],
    )
    .expect(0)
    .json();
    assert_eq!(evaluated["accuracy"], report["metrics"]["accuracy"]);
    assert_eq!(evaluated["utterances"], 12);
    assert!(evaluated["real_time_factor"].as_f64().unwrap() > 0.0);

    let heard = &json_lines(&manifest)[0];
    let wav = heard["audio_filepath"].as_str().unwrap();
    let wav = manifest.parent().unwrap().join(wav);
    let wav = wav.to_str().unwrap();
    let args = [
        "transcribe",
        "--model",
        model.to_str().unwrap(),
        wav,
        "-o",
        "json",
    ];
    let transcripts = run(dir.path(), args).expect(0).json();
    let digits = "zero one two three four five six seven eight nine";
    let said = transcripts[0]["text"].as_str().unwrap();
    assert!(digits.split(' ').any(|digit| digit == said), "{said}");
}

/// Training, dropout, clipping and ragged batches included, does not depend on who computes.
#[track_caller]
fn gives_the_same_bits_on_any_number_of_workers(head: Head) {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), head);
    let reports: Vec<Value> = ["1", "2", "3"]
        .into_iter()
        .map(|workers| {
            let out = format!("run-{workers}");
            train(dir.path(), &out, workers, &[])
        })
        .collect();
    let hashes: Vec<&str> = reports
        .iter()
        .map(|report| report["weights_sha256"].as_str().unwrap())
        .collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    for report in &reports {
        assert!(
            report["clipped_share"].as_f64().unwrap() > 0.0,
            "{report:#}"
        );
        assert_eq!(report["metrics"], reports[0]["metrics"]);
    }
}

/// Every rule that `docs/clipping.md` shows is one that a job may have.
#[test]
fn every_clipping_rule_gives_the_same_bits_on_any_number_of_workers() {
    let page = fs::read_to_string(root().join("docs/clipping.md")).unwrap();
    let rules: Vec<&str> = page
        .split("```toml\n[clip]\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(rules.len() >= 10, "{} rules", rules.len());
    let dir = tempfile::tempdir().unwrap();
    let job = fs::read_to_string(tiny_job(dir.path(), Head::Ctc)).unwrap();
    let (job, _) = job.split_once("[clip]").unwrap();
    let mut hashes = BTreeSet::new();
    for (number, rule) in rules.iter().enumerate() {
        fs::write(dir.path().join("tiny.toml"), format!("{job}[clip]\n{rule}")).unwrap();
        let [one, three] = ["1", "3"].map(|workers| {
            let out = format!("run-{number}-{workers}");
            let report = train(dir.path(), &out, workers, &[]);
            report["weights_sha256"].as_str().unwrap().to_owned()
        });
        assert_eq!(one, three, "{rule}");
        hashes.insert(one);
    }
    // In ten steps two rules may do nothing, or the same; more would be chance.
    assert!(
        hashes.len() + 3 >= rules.len(),
        "{} of {}",
        hashes.len(),
        rules.len()
    );
}

#[test]
fn a_keyword_model_has_the_same_bits_from_one_two_and_three_workers() {
    gives_the_same_bits_on_any_number_of_workers(Head::Keyword);
}

#[test]
fn a_ctc_model_has_the_same_bits_from_one_two_and_three_workers() {
    gives_the_same_bits_on_any_number_of_workers(Head::Ctc);
}

/// The file called `name` below `dir`.
pub fn find(dir: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|file| file == name) {
                return path;
            }
        }
    }
    panic!("no {name} below {}", dir.display())
}
