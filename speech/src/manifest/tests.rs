//! Manifests that are read, written and refused.

use std::fs;

use super::line::MAX_LINE;
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
fn problem(line: &str) -> LineError {
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
    let missing = |field| LineError::Missing { field };
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
    assert_eq!(problem(&LINE.replace("1.5", "0")), LineError::Duration(0.0));
    assert_eq!(
        problem(&LINE.replace("1.5", "-1")),
        LineError::Duration(-1.0)
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "NaN")),
        LineError::NotFinite("NaN")
    );
    assert_eq!(
        problem(&LINE.replace("1.5", "-Infinity")),
        LineError::NotFinite("Infinity")
    );
    assert_eq!(
        problem(&LINE.replace("a.wav", "")),
        LineError::EmptyField {
            field: "audio_filepath"
        }
    );
    let offset = |value| LINE.replace("1.5", &format!("1.5, \"offset\": {value}"));
    assert_eq!(problem(&offset("-1")), LineError::Offset(-1.0));
    assert_eq!(
        problem(&offset("true")).to_string(),
        "`offset` must be a number of seconds and is true"
    );
    let channel = |value| LINE.replace("1.5", &format!("1.5, \"channel\": {value}"));
    for (value, found) in [
        ("-1", "the number -1"),
        ("0.5", "the number 0.5"),
        ("65536", "the number 65536"),
        ("\"A\"", "a string"),
        ("[0]", "an array"),
    ] {
        assert_eq!(
            problem(&channel(value)).to_string(),
            format!(
                "`channel` must be a whole number from 0 (the first channel) to 65535 and is {found}"
            )
        );
    }
    assert_eq!(problem("[1]"), LineError::NotAnObject);
    assert!(matches!(
        problem(&LINE.replace("1.5", "1e999")),
        LineError::NotJson(_)
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
        problem(&LINE.replace("\"YES\"", "true")).to_string(),
        "`text` must be a string and is true"
    );
    let duplicate = problem(&LINE.replace("a.wav", "x\", \"id\": \"first"));
    assert_eq!(
        duplicate,
        LineError::DuplicateId {
            id: "first".to_owned(),
            first: 1
        }
    );
}

/// The ids of a manifest of these lines.
fn ids(lines: &[&str]) -> Vec<String> {
    let manifest = read(lines.join("\n").as_bytes()).unwrap();
    manifest.utterances.into_iter().map(|it| it.id).collect()
}

#[test]
fn lines_of_one_recording_have_ids_of_their_own() {
    let line = |rest: &str| format!(r#"{{"audio_filepath": "a.wav", "text": "yes", {rest}}}"#);
    let first = line(r#""offset": 0.5, "duration": 0.3"#);
    let second = line(r#""offset": 0.8, "duration": 0.3"#);
    let longer = line(r#""offset": 0.8, "duration": 0.4"#);
    let whole = line(r#""duration": 1.3"#);
    let sides = [0, 1].map(|channel| line(&format!(r#""duration": 1.3, "channel": {channel}"#)));
    assert_eq!(
        ids(&[&sides[0], &sides[1]]),
        ["a.wav:0@0+1.3", "a.wav:1@0+1.3"]
    );
    assert_eq!(ids(&[&first]), ["a.wav"]);
    let expected = ["a.wav@0.5+0.3", "a.wav@0.8+0.3", "a.wav@0.8+0.4"];
    assert_eq!(ids(&[&first, &second, &longer]), expected);
    // The same lines get the same ids, whatever is beside them.
    let other = LINE.replace("a.wav", "b.wav");
    assert_eq!(
        ids(&[&longer, &other, &first]),
        ["a.wav@0.8+0.4", "b.wav", "a.wav@0.5+0.3"]
    );
    // A line that is repeated to weigh more.
    assert_eq!(
        ids(&[&whole, &whole, &whole]),
        ["a.wav@0+1.3", "a.wav@0+1.3#2", "a.wav@0+1.3#3"]
    );
    // Ids that a line has keep what they are, and no made one is like them.
    let named = |id: &str| line(&format!(r#""duration": 1.3, "id": "{id}""#));
    assert_eq!(
        ids(&[&whole, &named("a.wav"), &named("a.wav@0+1.3")]),
        ["a.wav@0+1.3#1", "a.wav", "a.wav@0+1.3"]
    );
}

#[test]
fn numbers_are_read_where_a_name_or_a_text_may_be_one() {
    let line = r#"{"id": 12, "audio_filepath": "a", "duration": 1, "text": 7, "speaker": 8463}"#;
    let manifest = read(line.as_bytes()).unwrap();
    let one = &manifest.utterances[0];
    assert_eq!(
        (one.id.as_str(), one.text.as_str(), one.speaker.as_deref()),
        ("12", "7", Some("8463"))
    );
    assert_eq!(
        problem(&line.replace("8463", "[8463]")).to_string(),
        "`speaker` must be a string and is an array"
    );
    assert_eq!(
        problem(&line.replace("\"a\"", "5")).to_string(),
        "`audio_filepath` must be a string and is the number 5"
    );
}

#[test]
fn the_label_of_a_keyword_is_its_text() {
    for (fields, text) in [
        (r#""label": "yes""#, "yes"),
        (r#""command": "no""#, "no"),
        (r#""text": null, "label": 3"#, "3"),
        (r#""text": "", "label": "yes""#, ""),
    ] {
        let line = format!(r#"{{"audio_filepath": "a", "duration": 1, {fields}}}"#);
        assert_eq!(read(line.as_bytes()).unwrap().utterances[0].text, text);
    }
}

#[test]
fn a_manifest_is_the_same_packed_or_in_utf16() {
    let text = format!("{LINE}\r\n{}", LINE.replace("a.wav", "ü.wav"));
    let plain = read(text.as_bytes()).unwrap();
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    let utf16: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    let ids = |manifest: &Manifest| -> Vec<String> {
        manifest.utterances.iter().map(|it| it.id.clone()).collect()
    };
    for other in [utf16, packed.finish().unwrap()] {
        let other = read(&other).unwrap();
        assert_eq!(ids(&other), ids(&plain));
        assert_eq!(other.digest, plain.digest);
    }
    let error = read(b"\x28\xb5\x2f\xfd and more").unwrap_err().to_string();
    assert!(
        error.contains("it is packed with zstd: unpack it"),
        "{error}"
    );
}

#[test]
fn a_json_array_is_called_so() {
    let lines = [LINE; 3].join(",\n");
    let long = vec![LINE; 30_000].join(",");
    for array in [
        format!("[{lines}]"),
        format!("\n [\n{lines}\n]"),
        format!("[{long}]"),
    ] {
        let error = read(array.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("the file is a JSON array"), "{error}");
    }
}

#[test]
fn bad_lines_are_left_out_as_far_as_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.jsonl");
    let mut lines: Vec<String> = (0..100)
        .map(|n| LINE.replace("a.wav", &format!("{n}.wav")))
        .collect();
    lines[3] = "oops".to_owned();
    lines[40] = LINE.replace("1.5", "-1");
    lines[41] = LINE.replace("a.wav", "x\", \"id\": \"70");
    lines[70] = LINE.replace("a.wav", "y\", \"id\": \"70");
    lines[99] = "z".repeat(MAX_LINE + 5);
    fs::write(&path, lines.join("\n")).unwrap();
    let (manifest, bad) = Manifest::read_with(&path, MaxBad::Default).unwrap();
    assert_eq!(manifest.utterances.len(), 96);
    assert_eq!(
        bad.iter().map(|one| one.line).collect::<Vec<_>>(),
        [4, 41, 71, 100]
    );
    assert_eq!(bad[3].problem, LineError::TooLong);
    let error = Manifest::read_with(&path, MaxBad::Count(3))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("4 of 100 cannot be used, and at most 3 may be left out")
            && error.contains("m.jsonl:4: the line is not JSON"),
        "{error}"
    );
    let error = Manifest::read(&path).unwrap_err().to_string();
    assert!(error.contains("m.jsonl:4: the line is not JSON"), "{error}");
    assert!(
        error.ends_with("(and 3 lines more have something wrong with them)"),
        "{error}"
    );
    // Where nothing of a file can be used, nothing is left to go on with.
    fs::write(&path, "a\nb\n").unwrap();
    assert!(Manifest::read_with(&path, MaxBad::Count(9)).is_err());
}

#[test]
fn a_long_manifest_is_read_in_its_order() {
    let line = |n: usize| LINE.replace("a.wav", &format!("{n:0200}.wav"));
    let text: Vec<String> = (0..40_000).map(line).collect();
    let manifest = read(text.join("\n").as_bytes()).unwrap();
    assert_eq!(manifest.utterances.len(), 40_000);
    let ordered = manifest.utterances.iter().enumerate();
    ordered.for_each(|(n, it)| assert_eq!(it.id, format!("{n:0200}.wav")));
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
            problem: LineError::NotUtf8,
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
        channel: None,
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
            channel: Some(1),
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
        Err(ManifestError::Write(_))
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
