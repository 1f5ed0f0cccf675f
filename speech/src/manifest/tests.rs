//! Manifests that are read, written and refused.

use super::*;

const LINE: &str = r#"{"audio_filepath": "a.wav", "duration": 1.5, "text": "YES"}"#;

/// Reads a manifest of these bytes.
fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.jsonl");
    fs::write(&path, bytes).unwrap();
    Manifest::read(&path)
}

/// What is wrong with `line`, which must be named as the second.
fn problem(line: &str) -> LineProblem {
    let first = r#"{"id": "first", "audio_filepath": "f.wav", "duration": 1, "text": ""}"#;
    match read(format!("{first}\n{line}\n").as_bytes()) {
        Err(ManifestError::Line {
            line: 2, problem, ..
        }) => problem,
        other => panic!("{line} gave {other:?}"),
    }
}

#[test]
fn lines_of_nemo_are_read_as_they_are() {
    let text = format!(
        "\u{feff}{LINE}\r\n\n  \n{}",
        r#"{"audio_filepath": "/x/b.wav", "duration": 2, "text": "É", "id": "b", "speaker": "s", "label": "pc", "offset": 0.5, "pred_text": null}"#
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.jsonl");
    fs::write(&path, &text).unwrap();
    let manifest = Manifest::read(&path).unwrap();
    let [first, second] = &manifest.utterances[..] else {
        panic!("two utterances")
    };
    assert_eq!(
        (first.id.as_str(), &first.audio),
        ("a.wav", &folder.path().join("a.wav"))
    );
    assert_eq!(
        (first.duration, first.text.as_str(), &first.speaker),
        (1.5, "YES", &None)
    );
    assert_eq!(
        (second.id.as_str(), second.audio.as_path()),
        ("b", Path::new("/x/b.wav"))
    );
    assert_eq!(
        (
            second.duration,
            second.text.as_str(),
            second.speaker.as_deref()
        ),
        (2.0, "É", Some("s"))
    );
    assert_eq!((first.offset, second.offset), (0.0, 0.5));
    assert_eq!(
        manifest.digest,
        blake3::hash(text.as_bytes()).to_hex().as_str()
    );
    assert_eq!(manifest.seconds(), 3.5);
}

#[test]
fn each_thing_that_can_be_wrong_with_a_line_has_its_own_error() {
    let missing = |field| LineProblem::Missing { field };
    assert_eq!(
        problem(r#"{"duration": 1.5, "text": ""}"#),
        missing("audio_filepath")
    );
    assert_eq!(
        problem(r#"{"audio_filepath": "a", "text": ""}"#),
        missing("duration")
    );
    assert_eq!(
        problem(r#"{"audio_filepath": "a", "duration": 1}"#),
        missing("text")
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "0")),
        LineProblem::Duration(0.0)
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "-1")),
        LineProblem::Duration(-1.0)
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "NaN")),
        LineProblem::NotFinite("NaN")
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "-Infinity")),
        LineProblem::NotFinite("Infinity")
    );
    assert_eq!(
        problem(&LINE.replace("a.wav", "")),
        LineProblem::EmptyField {
            field: "audio_filepath"
        }
    );
    let offset = |value| LINE.replace("1.5", &format!("1.5, \"offset\": {value}"));
    assert_eq!(problem(&offset("-1")), LineProblem::Offset(-1.0));
    assert_eq!(
        problem(&offset("true")).to_string(),
        "`offset` must be a number of seconds and is true"
    );
    assert_eq!(problem("[1]"), LineProblem::NotAnObject);
    assert!(matches!(
        problem(&LINE.replace("1.5", "1e999")),
        LineProblem::NotJson(_)
    ));
    let text = problem(&LINE[..40]).to_string();
    assert!(
        text.starts_with("the line is not JSON: EOF while parsing")
            && text.contains("at column 39"),
        "{text}"
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "\"1.5\"")).to_string(),
        "`duration` must be a number of seconds and is a string"
    );
    assert_eq!(
        problem(&LINE.replace("\"YES\"", "7")).to_string(),
        "`text` must be a string and is the number 7"
    );
    let duplicate = problem(&LINE.replace("a.wav", "x\", \"id\": \"first"));
    assert_eq!(
        duplicate,
        LineProblem::DuplicateId {
            id: "first".to_owned(),
            first: 1
        }
    );
}

#[test]
fn what_is_no_manifest_at_all_is_refused_early() {
    let long = format!("{LINE}\n{}", "x".repeat(MAX_LINE + 10));
    assert!(read(long.as_bytes()).unwrap_err().to_string().ends_with(
        "m.jsonl:2: the line is longer than 1048576 bytes; a manifest has one JSON object a line"
    ));
    let error = read(b"RIFF\xff\xfe\x00WAVE").unwrap_err();
    assert!(matches!(
        error,
        ManifestError::Line {
            line: 1,
            problem: LineProblem::NotUtf8,
            ..
        }
    ));
    for empty in ["", "\n \n", "\u{feff}"] {
        assert!(matches!(
            read(empty.as_bytes()),
            Err(ManifestError::Empty { .. })
        ));
    }
    let error = Manifest::read(Path::new("no/such/manifest.jsonl"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the manifest no/such/manifest.jsonl: "),
        "{error}"
    );
}

fn utterance(id: &str) -> Utterance {
    Utterance {
        id: id.to_owned(),
        audio: PathBuf::from(format!("wav/{id}.wav")),
        offset: 0.0,
        duration: 0.1 + 0.2,
        text: "\"Ü\"\n".to_owned(),
        speaker: Some("s".to_owned()),
    }
}

#[test]
fn what_is_written_reads_back_with_absolute_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.jsonl");
    let utterances = [
        utterance("a"),
        Utterance {
            speaker: None,
            offset: 0.1 + 0.7,
            ..utterance("b")
        },
    ];
    Manifest::write(&path, &utterances).unwrap();
    let read = Manifest::read(&path).unwrap().utterances;
    assert_eq!(read[0].audio, std::path::absolute("wav/a.wav").unwrap());
    let relative = |utterance: &Utterance, id| Utterance {
        audio: format!("wav/{id}.wav").into(),
        ..utterance.clone()
    };
    assert_eq!(
        [relative(&read[0], "a"), relative(&read[1], "b")],
        utterances
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "only the manifest is left"
    );
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.jsonl");
    let silent = Utterance {
        duration: 0.0,
        ..utterance("b")
    };
    for wrong in [
        vec![],
        vec![utterance("a"), utterance("a")],
        vec![utterance("a"), silent],
    ] {
        assert!(Manifest::write(&path, &wrong).is_err());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        Manifest::write(&path, &[utterance("a")]),
        Err(ManifestError::Write { .. })
    ));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the file beside it is removed"
    );
}

#[test]
fn a_line_means_a_segment_when_it_says_where_or_when_it_is_shorter_than_the_recording() {
    let segment = |offset, duration| {
        let utterance = Utterance {
            offset,
            duration,
            ..utterance("a")
        };
        // Ten seconds.
        utterance.segment(80_000, 8000)
    };
    for rounded in [10.0, 9.96, 10.3, 99.0] {
        assert_eq!(segment(0.0, rounded), None, "{rounded} s");
    }
    assert_eq!(segment(0.0, 9.9), Some(0..79_200));
    assert_eq!(segment(2.5, 1.25), Some(20_000..30_000));
    assert_eq!(segment(0.00001, 9.99), Some(0..79_920));
    assert_eq!(segment(9.0, 2.0), Some(72_000..80_000));
    assert_eq!(segment(10.0, 2.0), Some(80_000..80_000));
    assert_eq!(segment(1e300, 1e300), Some(80_000..80_000));
}
