//! Checkpoints that are whole, cut, flipped, of another model or not there.

use serde_json::{Value, json};
use speech::model::ModelConfig;
use tempfile::TempDir;

use super::*;

fn spec() -> ModelSpec {
    let config = ModelConfig {
        layers: 1,
        hidden: 3,
        ..ModelConfig::default()
    };
    ModelSpec::new(&config, 2, 4)
}

fn state(step: u64) -> TrainerState {
    let weights = spec().initialize(step);
    let vector = |factor: f32| weights.iter().map(|value| value * factor).collect();
    TrainerState {
        counts: Counts {
            step,
            applied_steps: step,
            clipped_steps: step / 2,
        },
        optimizer: vec![
            ("exp_avg".to_owned(), vector(0.5)),
            ("exp_avg_sq".to_owned(), vector(0.25)),
        ],
        ema: (step > 2).then(|| vector(0.75)),
        clip: match step {
            0 => Vec::new(),
            _ => vec![vec![0.1, f64::MIN_POSITIVE], vec![1.0 / 3.0]],
        },
        weights,
    }
}

/// Held weights, one for each step.
fn held(step: u64) -> HeldWeights {
    let vectors = (1..step).map(|step| Arc::new(state(step).weights));
    vectors.collect()
}

fn progress(step: u64) -> Value {
    json!({ "epoch": step / 10, "best": { "wer": 0.1 + 0.2, "cer": 1.0 / 3.0 } })
}

/// A folder with checkpoints of steps 1 to 3.
fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    for step in 1..=3 {
        save(
            dir.path(),
            &spec(),
            &state(step),
            &held(step),
            &progress(step),
        )
        .unwrap();
    }
    dir
}

fn newest(dir: &Path) -> PathBuf {
    dir.join("step-00000003.safetensors")
}

#[test]
fn a_checkpoint_gives_back_what_was_saved() {
    let dir = folder();
    let latest = latest::<Value>(dir.path(), &spec()).unwrap();
    assert!(latest.damaged.is_empty());
    let (path, checkpoint) = latest.found.unwrap();
    assert_eq!(path, newest(dir.path()));
    assert_eq!(checkpoint.trainer, state(3));
    assert_eq!(checkpoint.held, held(3));
    assert_eq!(checkpoint.progress, progress(3));
}

#[test]
fn the_same_state_gives_the_same_bytes() {
    let dir = TempDir::new().unwrap();
    let bytes: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            fs::read(save(dir.path(), &spec(), &state(1), &held(1), &progress(1)).unwrap()).unwrap()
        })
        .collect();
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_truncated_checkpoint_falls_back_to_the_one_before() {
    let dir = folder();
    let whole = fs::read(newest(dir.path())).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(newest(dir.path()), &whole[..length]).unwrap();
        let latest = latest::<Value>(dir.path(), &spec()).unwrap();
        assert_eq!(latest.found.unwrap().1.trainer, state(2));
        let [CheckpointError::Damaged { path, .. }] = &latest.damaged[..] else {
            panic!("{length} bytes: {:?}", latest.damaged);
        };
        assert_eq!(path, &newest(dir.path()));
    }
}

#[test]
fn any_flipped_bit_is_noticed_or_changes_nothing() {
    let dir = folder();
    let whole = fs::read(newest(dir.path())).unwrap();
    let mut unmasked = 0;
    for place in (0..whole.len()).step_by(3) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        // Some file systems sync what is written over a truncated file: five milliseconds each.
        fs::remove_file(newest(dir.path())).unwrap();
        fs::write(newest(dir.path()), &flipped).unwrap();
        match load::<Value>(&newest(dir.path()), &spec()) {
            Err(CheckpointError::Damaged { .. }) => unmasked += 1,
            Err(other) => panic!("byte {place}: {other}"),
            Ok(checkpoint) => {
                assert_eq!(checkpoint.trainer, state(3), "byte {place}");
                assert_eq!(checkpoint.progress, progress(3), "byte {place}");
            }
        }
    }
    // A flip inside the padding of the header, or between forms of one JSON value, may pass.
    assert!(
        unmasked * 3 > whole.len() * 9 / 10,
        "{unmasked} of {}",
        whole.len()
    );
}

#[test]
fn a_missing_newest_checkpoint_and_an_interrupted_write_do_no_harm() {
    let dir = folder();
    let unfinished = newest(dir.path()).with_extension(file::UNFINISHED);
    fs::rename(newest(dir.path()), &unfinished).unwrap();
    let latest = latest::<Value>(dir.path(), &spec()).unwrap();
    assert_eq!(latest.found.unwrap().1.trainer, state(2));
    assert_eq!(prune(dir.path(), 5, 2).unwrap(), [unfinished]);
}

#[test]
fn an_empty_or_missing_folder_holds_no_checkpoint() {
    let dir = TempDir::new().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        assert!(latest::<Value>(&path, &spec()).unwrap().found.is_none());
    }
}

#[test]
fn another_models_checkpoint_is_refused_and_not_passed_over() {
    let dir = folder();
    let wider = ModelSpec::new(&spec().config, 5, 4);
    let error = latest::<Value>(dir.path(), &wider).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Foreign { reason, .. } if reason.contains("weight_ih_l0")),
        "{error}"
    );
}

#[test]
fn a_header_that_claims_a_terabyte_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("step-00000001.safetensors");
    let mut bytes = (1u64 << 40).to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    fs::write(&path, bytes).unwrap();
    let error = load::<Value>(&path, &spec()).unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
}

#[test]
fn pruning_keeps_the_newest() {
    let dir = folder();
    assert_eq!(
        prune(dir.path(), 2, 3).unwrap(),
        [dir.path().join("step-00000001.safetensors")]
    );
    assert!(prune(dir.path(), 2, 3).unwrap().is_empty());
    prune(dir.path(), 0, 3).unwrap();
    assert_eq!(entries(dir.path()).unwrap(), [newest(dir.path())]);
}

#[test]
fn what_was_just_written_is_kept_whatever_has_a_later_step() {
    for keep in 1..4 {
        let dir = folder();
        // As after a restart from step 1: what lies ahead neither counts nor goes.
        save(dir.path(), &spec(), &state(2), &held(2), &progress(2)).unwrap();
        prune(dir.path(), keep, 2).unwrap();
        let left: Vec<u64> = list(dir.path())
            .unwrap()
            .iter()
            .map(|(step, _)| *step)
            .collect();
        let expected: &[u64] = if keep == 1 { &[2, 3] } else { &[1, 2, 3] };
        assert_eq!(left, expected, "keep {keep}");
    }
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_tried_no_more() {
    let dir = folder();
    for round in 0..2 {
        fs::write(newest(dir.path()), "not a checkpoint").unwrap();
        let found = latest::<Value>(dir.path(), &spec()).unwrap();
        let [CheckpointError::Damaged { path, .. }] = &found.damaged[..] else {
            panic!("round {round}: {:?}", found.damaged);
        };
        let aside = set_aside(path).unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"not a checkpoint");
        let again = latest::<Value>(dir.path(), &spec()).unwrap();
        assert!(again.damaged.is_empty());
        assert_eq!(again.found.unwrap().1.trainer, state(2));
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_an_error_and_not_damage() {
    use std::os::unix::fs::symlink;
    // A folder can be opened and not read, on any system and by root too; a link that leads nowhere
    // cannot be opened, and one that leads to itself cannot be followed.
    let make: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("nowhere", path).unwrap(),
        |path| symlink(path.file_name().unwrap(), path).unwrap(),
    ];
    for make in make {
        let dir = folder();
        fs::remove_file(newest(dir.path())).unwrap();
        make(&newest(dir.path()));
        let error = latest::<Value>(dir.path(), &spec()).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Io { path, .. } if *path == newest(dir.path())),
            "{error}"
        );
        assert_eq!(entries(dir.path()).unwrap().len(), 3, "nothing was removed");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_those_before_it() {
    // A folder is in the way of the unfinished file.
    let dir = folder();
    let target = dir.path().join("step-00000004.safetensors");
    let obstacle = target.with_extension(file::UNFINISHED);
    fs::create_dir(&obstacle).unwrap();
    let error = save(dir.path(), &spec(), &state(4), &held(4), &progress(4)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Io { path, .. } if *path == target),
        "{error}"
    );
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(entries(dir.path()).unwrap().len(), 3);
    assert_eq!(
        latest::<Value>(dir.path(), &spec())
            .unwrap()
            .found
            .unwrap()
            .1
            .trainer,
        state(3)
    );
}

#[test]
fn a_model_is_written_by_torchs_names_and_shapes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.safetensors");
    let weights = spec().initialize(1);
    save_model(&path, &spec(), &weights).unwrap();
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), spec().parameters.len());
    for parameter in &spec().parameters {
        let tensor = tensors.tensor(&parameter.name).unwrap();
        assert_eq!(tensor.shape(), parameter.shape);
        let values = weights[parameter.range()].iter();
        let expected: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(tensor.data(), expected);
    }
}

#[test]
fn the_hash_of_weights_is_sha_256_of_their_bytes() {
    // `printf '\0\0\200\77' | sha256sum`
    assert_eq!(
        weights_sha256(&[1.0]),
        "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"
    );
}
