//! Speech Commands with all its words, and with twelve classes.

use super::*;

/// Ten speakers who say three words of the ten and two others, the last two of them for validation and
/// testing, and ten seconds of noise.
fn commands() -> TempDir {
    let folder = tree(&[
        ("validation_list.txt", ""),
        ("testing_list.txt", ""),
        ("LICENSE", "CC BY"),
        ("_background_noise_/README.md", ""),
        ("_background_noise_/pink_noise.wav", "#160000"),
    ]);
    let mut lists = [String::new(), String::new()];
    for speaker in 0..10 {
        for word in ["yes", "no", "go", "cat", "bird"] {
            let path = format!("{word}/{speaker:08x}_nohash_0.wav");
            put(&folder, &path, "#16000");
            if speaker >= 8 {
                lists[speaker - 8] += &format!("{path}\n");
            }
        }
    }
    put(&folder, "validation_list.txt", &lists[0]);
    put(&folder, "testing_list.txt", &lists[1]);
    folder
}

#[test]
fn speech_commands_has_the_splits_of_its_lists() {
    let folder = commands();
    let all = lines(CorpusFormat::SpeechCommands, folder.path());
    assert_eq!(all.len(), 50);
    assert_eq!(
        all[0],
        line(
            "bird/00000000_nohash_0",
            [0.0, 1.0],
            "bird",
            "00000000",
            "train"
        )
    );
    for (split, count) in [("train", 40), ("validation", 5), ("testing", 5)] {
        let found: Vec<&Line> = all.iter().filter(|line| line.5 == split).collect();
        assert_eq!(found.len(), count, "{split}");
    }
    assert!(
        all.iter()
            .all(|line| (line.4 == "00000009") == (line.5 == "testing"))
    );
    let wrong = |name, content| changed(CorpusFormat::SpeechCommands, &folder, name, content);
    assert_eq!(
        wrong("testing_list.txt", Some("yes/none_nohash_0.wav\n")),
        "ROOT/testing_list.txt:1: the audio ROOT/yes/none_nohash_0.wav is missing"
    );
    assert_eq!(
        wrong("testing_list.txt", Some("\nyes\n")),
        "ROOT/testing_list.txt:2: the line is not `WORD/RECORDING.wav`"
    );
    assert!(
        wrong("validation_list.txt", None)
            .starts_with("ROOT is not laid out as speech-commands is: ")
    );
    assert_eq!(
        wrong("yes/a.wav", Some("#100")),
        "ROOT/yes/a.wav: the file's name is not {speaker}_nohash_{number}.wav"
    );
}

#[test]
fn speech_commands_has_twelve_classes_with_noise_that_no_other_split_hears() {
    let folder = commands();
    let all = lines(CorpusFormat::SpeechCommands12, folder.path());
    let count = |split: &str, text: &str| {
        all.iter()
            .filter(|line| line.5 == split && line.3 == text)
            .count()
    };
    // A tenth of 24, and of 3, rounded up.
    for (split, words, tenth) in [("train", 8, 3), ("validation", 1, 1), ("testing", 1, 1)] {
        for word in ["yes", "no", "go"] {
            assert_eq!(count(split, word), words, "{split} {word}");
        }
        assert_eq!(count(split, "_unknown_"), tenth, "{split}");
        assert_eq!(count(split, "_silence_"), tenth, "{split}");
        let (start, end) = match split {
            "train" => (0.0, 8.0),
            "validation" => (8.0, 9.0),
            _ => (9.0, 10.0),
        };
        let silence = all
            .iter()
            .filter(|line| line.5 == split && line.3 == "_silence_");
        for line in silence {
            assert_eq!(line.2, 1.0);
            assert!(line.1 >= start && line.1 + 1.0 <= end, "{split}: {line:?}");
        }
    }
    assert_eq!(all.len(), 30 + 5 + 5);
    assert_eq!(lines(CorpusFormat::SpeechCommands12, folder.path()), all);
    fs::remove_dir_all(folder.path().join("_background_noise_")).unwrap();
    assert!(
        message(CorpusFormat::SpeechCommands12, &folder)
            .contains("recordings of noise in _background_noise_/, must be in it")
    );
}
