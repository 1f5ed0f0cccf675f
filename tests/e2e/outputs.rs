//! Where commands write: into whatever is there, all files of a command or none, and nothing that it reads.

use std::{fs, os::unix::fs::symlink, path::Path, thread};

use speech::audio::{Audio, write_wav};

use crate::fixture::{Ended, run};

/// Four recordings in FSDD's layout, in the folder `corpus`.
fn corpus(dir: &Path) {
    fs::create_dir(dir.join("corpus")).unwrap();
    for index in 0..4 {
        let audio = Audio {
            sample_rate: 8000,
            samples: (0..800).map(|at| (at as f32 * 0.1).sin() * 0.5).collect(),
        };
        write_wav(&dir.join(format!("corpus/7_ann_{index}.wav")), &audio).unwrap();
    }
}

/// Imports them to `out`, with two held out into `held`.
fn import(dir: &Path, out: &str, held: &str) -> Ended {
    let rule = format!("index:0-1={held}");
    let args = [
        "corpus", "import", "--format", "fsdd", "corpus", "--out", out,
    ];
    run(dir, args.into_iter().chain(["--hold-out", &rule]))
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

/// The names in `dir` but for the corpus.
fn left(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "corpus")
        .collect();
    names.sort();
    names
}

#[test]
fn manifests_are_written_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(dir);
    for held in ["a.jsonl", "./a.jsonl", "corpus/../a.jsonl"] {
        let ended = import(dir, "a.jsonl", held).expect(2);
        assert!(
            ended
                .stderr
                .contains("two outputs would be written to one file"),
            "{ended:?}"
        );
        assert!(ended.stderr.contains(held), "{ended:?}");
        assert_eq!(left(dir), Vec::<String>::new());
    }
    fs::create_dir(dir.join("blocked")).unwrap();
    for (held, told) in [
        ("blocked", "blocked is a folder"),
        ("no/such/b.jsonl", "there is no folder no/such"),
    ] {
        let ended = import(dir, "a.jsonl", held).expect(2);
        assert!(ended.stderr.contains(told), "{ended:?}");
        assert_eq!(left(dir), ["blocked"]);
    }
    // The names of a folder's manifests are known only when the corpus was read.
    let ended = import(dir, "out/", "out/all.jsonl").expect(2);
    assert!(ended.stderr.contains("two outputs"), "{ended:?}");
    assert_eq!(left(dir), ["blocked"]);
    import(dir, "out/", "out/held.jsonl").expect(0);
    assert_eq!(lines(&dir.join("out/all.jsonl")), 2);
    import(dir, "a.jsonl", "b.jsonl").expect(0);
    assert_eq!(left(dir), ["a.jsonl", "b.jsonl", "blocked", "out"]);
}

#[test]
fn links_pipes_and_standard_output_are_written_into() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(dir);
    fs::write(dir.join("real.jsonl"), "old\n").unwrap();
    symlink("real.jsonl", dir.join("link.jsonl")).unwrap();
    let pipe = dir.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    import(dir, "link.jsonl", "pipe").expect(0);
    assert_eq!(reader.join().unwrap().lines().count(), 2);
    assert!(
        fs::symlink_metadata(dir.join("link.jsonl"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(lines(&dir.join("real.jsonl")), 2);
    let ended = import(dir, "/dev/stdout", "held.jsonl").expect(0);
    let printed: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(printed.len(), 2);
    assert!(
        ended.stderr.contains("/dev/stdout: 2 utterances"),
        "{ended:?}"
    );
}

#[test]
fn what_a_command_reads_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("text"), "yes no\nno yes yes\n").unwrap();
    let train = |out: &str| {
        let args = [
            "lm", "train", "--text", "text", "--order", "2", "--out", out,
        ];
        run(dir, args)
    };
    let ended = train("./text").expect(2);
    assert!(
        ended
            .stderr
            .contains("is read by this command and would be overwritten"),
        "{ended:?}"
    );
    assert_eq!(lines(&dir.join("text")), 2);
    train("lm.arpa").expect(0);
    let ended = train("/dev/stdout").expect(0);
    assert_eq!(
        ended.stdout,
        fs::read_to_string(dir.join("lm.arpa")).unwrap()
    );
    let args = [
        "evaluate",
        "--model",
        "none",
        "--manifest",
        "text",
        "--html",
        "text",
    ];
    let ended = run(dir, args).expect(2);
    assert!(ended.stderr.contains("would be overwritten"), "{ended:?}");
}
