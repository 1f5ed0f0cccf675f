//! `train` on directories that hold something: a run to go on with, moved, renamed, made longer or finished,
//! or somebody's own files.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{DEADLINE, Head, Process, json_lines, report, run, tiny_job, unisono, until};

/// Trains in `dir` until some steps are made, then interrupts it.
fn interrupted(dir: &Path, args: &str) {
    let mut command = unisono();
    command.current_dir(dir).args(args.split(' '));
    let process = Process::start(command);
    let metrics = dir.join("run/metrics.jsonl");
    let steps = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    assert!(until(DEADLINE, || steps() > 5), "{}", process.stderr());
    process.signal(Signal::INT);
    process.wait().expect(130);
}

/// A keyword job on manifests in `dir`.
fn job_on_manifests(dir: &Path) {
    let made =
        "corpus synthesize --out corpus --train 46 --valid 12 --speakers 4 --valid-speakers 2";
    fs::create_dir_all(dir).unwrap();
    run(dir, made.split(' ')).expect(0);
    let path = tiny_job(dir, Head::Keyword);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("synthetic = ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let manifests = "train = \"corpus/train.jsonl\"\nvalid = \"corpus/valid.jsonl\"";
    let text = format!("{before}{manifests}\n{after}");
    // The name is the file's then.
    fs::write(path, text.replace("name = \"tiny\"\n", "")).unwrap();
}

#[test]
fn one_command_begins_goes_on_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let command =
        "train tiny.toml --workers 1 --device cpu --out run --set train.epochs=60 -o json";
    let command = format!("{command} --resume auto");
    interrupted(dir, &command);
    let report_of = || run(dir, command.split(' ')).expect(0).json();
    let (went_on, done) = (report_of(), report_of());
    assert_eq!(went_on["lives"], 2);
    assert_eq!(went_on, done, "nothing is computed again");

    // The same run made longer, then with another rate, which has to be asked for.
    let longer = command.replace("epochs=60", "epochs=62");
    let longer = run(dir, longer.split(' ')).expect(0).json();
    assert_eq!(
        (longer["steps"].as_u64(), &longer["bit_identity"]),
        (Some(310), &Value::Bool(true))
    );
    let other = command.replace("epochs=60", "epochs=64 --set optimizer.learning_rate=0.001");
    let refused = run(dir, other.split(' ')).expect(78);
    assert!(refused.stderr.contains("--allow-change"), "{refused:?}");
    let other = format!("{other} --allow-change");
    let other = run(dir, other.split(' ')).expect(0).json();
    assert_eq!(other["bit_identity"], false);
    assert_eq!(other["amendments"][0]["key"], "optimizer.learning_rate");
    let ends = json_lines(&dir.join("run/events.jsonl"));
    let ends = ends.iter().filter(|event| event["event"] == "succeeded");
    assert_eq!(ends.count(), 3, "every end stays on record");
}

#[test]
fn a_moved_project_with_a_renamed_job_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    job_on_manifests(&before);
    let train = "train tiny.toml --workers 1 --device cpu --set train.epochs=40 --out";
    run(&before, format!("{train} calm").split(' ')).expect(0);
    interrupted(&before, &format!("{train} run"));
    fs::rename(&before, &after).unwrap();
    fs::rename(after.join("corpus"), after.join("speech")).unwrap();
    let text = fs::read_to_string(after.join("tiny.toml")).unwrap();
    fs::write(
        after.join("renamed.toml"),
        text.replace("corpus/", "speech/"),
    )
    .unwrap();
    // From another working directory.
    let resumed = "train after/renamed.toml --workers 1 --device cpu --set train.epochs=40";
    let resumed = format!("{resumed} --out after/run --resume");
    run(dir.path(), resumed.split(' ')).expect(0);
    let [calm, moved] = ["calm", "run"].map(|name| report(&after.join(name)));
    assert_eq!(moved["weights_sha256"], calm["weights_sha256"]);
    assert_eq!(
        (&moved["name"], &moved["lives"]),
        (&"tiny".into(), &2.into())
    );
}

#[test]
fn a_directory_with_somebodys_files_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    fs::create_dir_all(dir.join("models/final")).unwrap();
    fs::write(dir.join("models/final/model.safetensors"), "mine").unwrap();
    fs::write(dir.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("models", dir.join("link")).unwrap();
    let before = fs::read(dir.join("tiny.toml")).unwrap();
    for out in [".", "models", "models/final", "file", "link"] {
        for more in ["", " --resume=auto"] {
            let args = format!("train tiny.toml --workers 1 --device cpu --out {out}{more}");
            let refused = run(dir, args.split(' ')).expect(78);
            assert!(refused.stderr.contains("--out"), "{out}{more}: {refused:?}");
        }
        let args = format!("verify tiny.toml --workers 1 --out {out}");
        run(dir, args.split(' ')).expect(78);
    }
    assert_eq!(fs::read(dir.join("tiny.toml")).unwrap(), before);
    let model = fs::read_to_string(dir.join("models/final/model.safetensors"));
    assert_eq!(model.unwrap(), "mine");
    let left = |folder: &str| fs::read_dir(dir.join(folder)).unwrap().count();
    assert_eq!((left("."), left("models"), left("models/final")), (4, 1, 1));
}

#[test]
fn a_run_begins_from_another_ones_weights() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    tiny_job(dir, Head::Keyword);
    let train = "train tiny.toml --workers 1 --device cpu --out";
    run(dir, format!("{train} first").split(' ')).expect(0);
    run(
        dir,
        format!("{train} second --init-from first/final").split(' '),
    )
    .expect(0);
    let [first, second] = ["first", "second"].map(|name| report(&dir.join(name)));
    assert_eq!(second["init_sha256"], first["weights_sha256"]);
    assert_ne!(second["weights_sha256"], first["weights_sha256"]);
    let other = format!("{train} third --init-from first/final --set model.hidden=13");
    let refused = run(dir, other.split(' ')).expect(78);
    assert!(refused.stderr.contains("train.init"), "{refused:?}");
}
