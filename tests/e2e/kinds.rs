//! Models of every kind: trained to the same bits by one worker and by two, and shown.

use serde_json::Value;

use crate::fixture::{Head, root, run, tiny_job};

#[test]
fn a_model_of_every_kind_is_trained_to_the_same_bits_by_one_worker_and_by_two() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let mut hashes = Vec::new();
    for (name, sets) in [
        ("gru", &["model.kind=gru", "model.conv.channels=[4]"][..]),
        ("rnn", &["model.kind=rnn", "model.dense=[9]"]),
        (
            "projected",
            &["model.projection=5", "model.layer_norm=true"],
        ),
        (
            "dnn",
            &[
                "model.kind=dnn",
                "model.pooling=mean",
                "model.context_left=2",
            ],
        ),
        (
            "cnn",
            &[
                "model.kind=cnn",
                "model.pooling=mean",
                "model.residual.channels=4",
                "model.hidden=128",
                "model.layers=2",
            ],
        ),
    ] {
        let args = format!("verify tiny.toml --workers 1,2 --device cpu -o json --out {name}");
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let found = run(dir.path(), args.split(' ').chain(sets))
            .expect(0)
            .json();
        assert_eq!(found["equal"], true, "{name}: {found:#}");
        hashes.push(found["reference_sha256"].to_string());
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5, "each kind is another model");
}

#[test]
fn a_job_and_what_became_of_it_show_the_same_layers() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Ctc);
    let show = |args: &str| -> Value { run(dir.path(), args.split(' ')).expect(0).json() };
    let args = "train tiny.toml --workers 1 --device cpu --set train.epochs=1 --out run";
    run(dir.path(), args.split(' ')).expect(0);
    let trained = show("model run/final -o json");
    let outputs = &trained["outputs"];
    let planned = show(&format!("model tiny.toml --outputs {outputs} -o json"));
    assert_eq!(trained, planned);
    let width = |index: usize| planned["layers"][index]["width"].as_u64();
    assert_eq!((width(0), width(1)), (Some(16), outputs.as_u64()));
    // 100 frames a second, three of them stacked.
    let rate = planned["frames_per_second"].as_f64().unwrap();
    assert!((rate - 100.0 / 3.0).abs() < 0.1, "{rate}");

    let text = run(dir.path(), ["model", "tiny.toml", "--outputs", "7"]).expect(0);
    assert!(text.stdout.contains("both directions"), "{}", text.stdout);
    let missing = run(dir.path(), ["model", "tiny.toml"]).expect(2);
    assert!(missing.stderr.contains("--outputs"), "{}", missing.stderr);
}

#[test]
fn every_example_says_what_its_model_is() {
    for entry in root().join("examples").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let args = [
                "model",
                path.to_str().unwrap(),
                "--outputs",
                "10",
                "-o",
                "json",
            ];
            let shown = run(root(), args).expect(0).json();
            assert!(shown["parameters"].as_u64() > Some(1000), "{shown:#}");
        }
    }
}
