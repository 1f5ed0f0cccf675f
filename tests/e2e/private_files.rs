//! What is written is the user's alone, nothing is written through links that somebody put there, and files of a
//! model folder that are no regular files neither block nor fill the memory.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    fixture::{Head, run, tiny_job},
};

/// Files below `folder` that another user may reach and read.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let found = fs::symlink_metadata(folder).unwrap();
    if found.is_symlink() || found.mode() & 0o007 == 0 {
        return Vec::new();
    }
    if !found.is_dir() {
        return vec![folder.to_owned()];
    }
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| open_to_others(&path)).collect()
}

#[test]
fn runs_data_and_caches_are_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let args = "train tiny.toml --workers 1 --device cpu --out out --set train.epochs=1";
    run(dir.path(), args.split(' ')).expect(0);
    assert_eq!(open_to_others(&dir.path().join("out")), [] as [PathBuf; 0]);

    let mut cluster = Cluster::vacant("127.0.0.1:0");
    cluster.start_coordinator(None);
    cluster.hire(&["--device", "cpu", "--no-shared-files"], None);
    let cache = cluster.dir.path().join("cache-0");
    let id = cluster.submit(&dir.path().join("tiny.toml"), &["train.epochs=1"]);
    assert_eq!(cluster.wait_until_ended(&id)["status"], "succeeded");
    assert!(fs::read_dir(&cache).unwrap().count() > 0);
    for folder in [cluster.dir.path().join("data"), cache] {
        assert_eq!(open_to_others(&folder), [] as [PathBuf; 0]);
    }
}

#[test]
fn links_where_the_coordinator_writes_are_not_followed() {
    let mut cluster = Cluster::vacant("127.0.0.1:0");
    cluster.start_coordinator(None);
    cluster.end_coordinator(Signal::TERM);
    let data = cluster.dir.path().join("data");
    let victim = cluster.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let names: Vec<String> = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in names {
        let stem = name.split('.').next().unwrap();
        for planted in [format!("{stem}.tmp"), format!("{name}.tmp")] {
            let _ = symlink(&victim, data.join(planted));
        }
    }
    cluster.start_coordinator(None);
    cluster.end_coordinator(Signal::TERM);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_model_folder_may_hold_pipes_and_devices_and_each_is_named() {
    let dir = tempfile::tempdir().unwrap();
    tiny_job(dir.path(), Head::Keyword);
    let args = "train tiny.toml --workers 1 --device cpu --out out --set train.epochs=1";
    run(dir.path(), args.split(' ')).expect(0);
    let model = dir.path().join("out/final");
    let args = "corpus synthesize --out digits --train 40 --valid 10 --seed 1";
    run(dir.path(), args.split(' ')).expect(0);
    let args = "transcribe --model out/final digits/wav/valid-000000.wav --device cpu";
    run(dir.path(), args.split(' ')).expect(0);
    for name in ["recipe.json", "model.safetensors", "decode.json"] {
        let (path, aside) = (model.join(name), dir.path().join("aside"));
        let was_there = fs::rename(&path, &aside).is_ok();
        for (kind, told) in [("pipe", "a named pipe"), ("device", "a device")] {
            match kind {
                "pipe" => assert!(
                    Command::new("mkfifo")
                        .arg(&path)
                        .status()
                        .unwrap()
                        .success()
                ),
                _ => symlink("/dev/zero", &path).unwrap(),
            }
            let error = run(dir.path(), args.split(' ')).expect(78).stderr;
            assert!(error.contains(name) && error.contains(told), "{error}");
            fs::remove_file(&path).unwrap();
        }
        if was_there {
            fs::rename(&aside, &path).unwrap();
        }
    }
}
