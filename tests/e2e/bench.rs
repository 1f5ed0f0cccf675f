//! What `bench` measures is not tested; that it measures, and says so in the fields that scripts read, is.

use std::path::Path;

use crate::fixture::run;

const SMALL: [&str; 16] = [
    "bench",
    "step",
    "--batch",
    "4",
    "--frames",
    "12",
    "--features",
    "5",
    "--hidden",
    "6",
    "--outputs",
    "7",
    "--labels",
    "2",
    "--repeats",
    "3",
];

#[test]
fn a_step_is_timed_in_its_parts() {
    for more in [
        &["--device", "cpu"][..],
        &["--device", "cpu", "--bidirectional", "--ragged"],
        &["--device", "cpu", "--head", "keyword", "--threads", "2"],
    ] {
        let args = SMALL.iter().chain(more).chain(&["-o", "json"]);
        let step = run(Path::new("."), args).expect(0).json();
        let figure = |name: &str| step[name].as_f64().unwrap_or_else(|| panic!("{step:#}"));
        let parts = figure("forward_s") + figure("backward_s") + figure("update_s");
        assert!(parts > 0.0 && figure("step_s") > 0.0, "{step:#}");
        let rate = 4.0 / figure("step_s");
        assert!((figure("utterances_per_s") / rate - 1.0).abs() < 1e-9);
        assert!(figure("gflops") > 0.0 && figure("parameters") > 0.0);
    }
}

#[test]
fn features_are_timed_on_the_recordings_of_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let synthesize =
        "corpus synthesize --out speech --train 6 --valid 3 --speakers 2 --valid-speakers 1";
    run(dir.path(), synthesize.split(' ')).expect(0);
    let bench = "bench features --manifest speech/train.jsonl --repeats 2 -o json";
    let speed = run(dir.path(), bench.split(' ')).expect(0).json();
    assert_eq!(speed["utterances"], 6);
    let seconds = speed["audio_seconds"].as_f64().unwrap();
    assert!(seconds > 0.0);
    let rate = seconds / speed["seconds"].as_f64().unwrap();
    assert!((speed["audio_s_per_s"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9);
}

#[test]
fn an_exchange_is_timed_between_processes() {
    for (wire, bytes) in [("f32", 4.0), ("bf16", 2.0)] {
        exchange(wire, bytes);
    }
}

/// Vectors whose elements travel as so many bytes.
fn exchange(wire: &str, bytes: f64) {
    let bench = "bench exchange --parameters 5000 --workers 3 --repeats 2 -o json --wire";
    let args = bench.split(' ').chain([wire]);
    let exchange = run(Path::new("."), args).expect(0).json();
    let figure = |name: &str| {
        exchange[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{exchange:#}"))
    };
    assert_eq!(
        (&exchange["workers"], &exchange["wire"]),
        (&3.into(), &wire.into())
    );
    // A lane for each worker and two for weights: the vectors did move through memory.
    let shared = figure("coordinator_shared_bytes");
    assert!(shared > 5.0 * bytes * figure("parameters"), "{exchange:#}");
    assert!(
        shared < 5.0 * (bytes * figure("parameters") + 8192.0 + 4096.0),
        "{exchange:#}"
    );
    assert!((figure("parameters") / 5000.0 - 1.0).abs() < 0.1);
    for part in ["push_s", "reduce_update_s", "pull_s"] {
        assert!(
            figure(part) > 0.0 && figure(part) < figure("sync_s"),
            "{exchange:#}"
        );
    }
    let floor = figure("coordinator_floor_bytes");
    assert!(figure("coordinator_peak_bytes") > floor);
    assert_eq!(floor, 4.0 * 6.0 * figure("parameters"));
}

#[test]
fn shapes_that_cannot_be_are_refused_with_a_reason() {
    let few = "bench step --frames 3 --labels 40 --batch 1 --hidden 2 --features 2 --device cpu";
    let ended = run(Path::new("."), few.split(' ')).expect(78);
    assert!(ended.stderr.contains("labels do not fit"), "{ended:?}");
    let ended = run(Path::new("."), "bench step --batch 0".split(' ')).expect(2);
    assert!(ended.stderr.contains("--batch"), "{ended:?}");
}
