//! Each importer on a small tree in its publisher's layout, and on what is wrong with such trees.

use std::path::Path;

use tempfile::TempDir;

use super::super::*;
use super::{message, write};

/// A folder of these files; a text that says how many samples (`#16000`) is a recording at 16 kHz.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        put(&folder, name, content);
    }
    folder
}

fn put(folder: &TempDir, name: &str, content: &str) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match content.strip_prefix('#') {
        Some(samples) => write(&path, 16_000, samples.parse().unwrap()),
        None => fs::write(&path, content).unwrap(),
    }
}

/// Id, offset, duration, text, speaker and split of each.
type Line = (String, f64, f64, String, String, String);

fn lines(format: Format, folder: &Path) -> Vec<Line> {
    let imported = read(format, folder).unwrap_or_else(|error| panic!("{error}"));
    imported
        .into_iter()
        .map(|Imported { utterance, split }| {
            assert!(utterance.audio.exists());
            (
                utterance.id,
                utterance.offset,
                utterance.duration,
                utterance.text,
                utterance.speaker.unwrap_or_default(),
                split.unwrap_or_default(),
            )
        })
        .collect()
}

fn line(id: &str, [offset, duration]: [f64; 2], text: &str, speaker: &str, split: &str) -> Line {
    let owned = str::to_owned;
    (
        owned(id),
        offset,
        duration,
        owned(text),
        owned(speaker),
        owned(split),
    )
}

/// What is said of the tree once `name` holds `content`, or nothing at all.
fn changed(format: Format, folder: &TempDir, name: &str, content: Option<&str>) -> String {
    let path = folder.path().join(name);
    let before = fs::read(&path).ok();
    match content {
        Some(content) => put(folder, name, content),
        None => fs::remove_file(&path).unwrap(),
    }
    let told = message(format, folder);
    match before {
        Some(before) => fs::write(&path, before).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    told
}

#[test]
fn librispeech_has_its_subsets_as_splits() {
    let trans = "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE MINUTES\n";
    let folder = tree(&[
        ("LibriSpeech/README.TXT", "LibriSpeech"),
        ("LibriSpeech/SPEAKERS.TXT", "84 | F | dev-clean"),
        ("LibriSpeech/dev-clean/84/121123/84-121123.trans.txt", trans),
        (
            "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac",
            "#16000",
        ),
        (
            "LibriSpeech/dev-clean/84/121123/84-121123-0001.flac",
            "#8000",
        ),
        (
            "LibriSpeech/test-clean/61/70968/61-70968.trans.txt",
            "61-70968-0000 HE BEGAN A CONFUSED COMPLAINT\n",
        ),
        ("LibriSpeech/test-clean/61/70968/61-70968-0000.flac", "#400"),
    ]);
    let expected = [
        line(
            "84-121123-0000",
            [0.0, 1.0],
            "GO DO YOU HEAR",
            "84",
            "dev-clean",
        ),
        line(
            "84-121123-0001",
            [0.0, 0.5],
            "BUT IN LESS THAN FIVE MINUTES",
            "84",
            "dev-clean",
        ),
        line(
            "61-70968-0000",
            [0.0, 0.025],
            "HE BEGAN A CONFUSED COMPLAINT",
            "61",
            "test-clean",
        ),
    ];
    let inner = folder.path().join("LibriSpeech");
    assert_eq!(lines(Format::LibriSpeech, folder.path()), expected);
    assert_eq!(lines(Format::LibriSpeech, &inner), expected);
    let subset = inner.join("test-clean");
    assert_eq!(lines(Format::LibriSpeech, &subset), expected[2..]);

    let chapter = "LibriSpeech/dev-clean/84/121123";
    let list = format!("{chapter}/84-121123.trans.txt");
    let wrong = |name: &str, content: Option<&str>| {
        let told = changed(Format::LibriSpeech, &folder, name, content);
        told.replace("ROOT/LibriSpeech/dev-clean/84/121123/", "")
    };
    let bad = |content: &str| wrong(&list, Some(content));
    assert_eq!(
        bad("84-121123-0000\n"),
        "84-121123.trans.txt:1: the line is not `ID WORDS`"
    );
    assert_eq!(
        bad(&trans.replace("84-121123-0001", "84-121124-0001")),
        "84-121123.trans.txt:2: the id \"84-121124-0001\" is not one of chapter 84-121123"
    );
    assert_eq!(
        bad(&format!("{trans}84-121123-0000 AGAIN\n")),
        "84-121123.trans.txt:3: the id \"84-121123-0000\" is already that of 84-121123.trans.txt:1"
    );
    assert_eq!(
        bad(trans.lines().next().unwrap()),
        "84-121123-0001.flac: 84-121123.trans.txt has no transcript of it"
    );
    let audio = format!("{chapter}/84-121123-0001.flac");
    assert_eq!(
        wrong(&audio, None),
        "84-121123.trans.txt:2: the audio 84-121123-0001.flac is missing"
    );
    assert!(
        wrong(&audio, Some("oops")).starts_with(
            "84-121123.trans.txt:2: 84-121123-0001.flac: not WAV, FLAC, MP3, Ogg Vorbis or SPHERE, but a text file"
        )
    );
    assert!(wrong(&list, None).starts_with("cannot read 84-121123.trans.txt: "));
}

#[test]
fn kaldi_data_directories_are_read_with_segments_and_without() {
    let folder = tree(&[
        (
            "data/train/wav.scp",
            "rec1 wav/rec1.wav\nrec2 wav/rec2.wav \n",
        ),
        (
            "data/train/segments",
            "s1-rec1-1 rec1 0.00 0.50\ns1-rec1-2 rec1 0.5 1.25\ns2-rec2-1 rec2 0.25 -1\n",
        ),
        (
            "data/train/text",
            "s1-rec1-1 HELLO  WORLD\ns1-rec1-2\ns2-rec2-1 YES\n",
        ),
        (
            "data/train/utt2spk",
            "s1-rec1-1 s1\ns1-rec1-2 s1\ns2-rec2-1 s2\n",
        ),
        ("data/train/wav/rec1.wav", "#32000"),
        ("data/train/wav/rec2.wav", "#8000"),
        ("data/test/wav.scp", "t1 t1.wav\n"),
        ("data/test/text", "t1 NO\n"),
        ("data/test/t1.wav", "#160"),
    ]);
    let data = folder.path().join("data");
    let train = [
        line("s1-rec1-1", [0.0, 0.5], "HELLO WORLD", "s1", "train"),
        line("s1-rec1-2", [0.5, 0.75], "", "s1", "train"),
        line("s2-rec2-1", [0.25, 0.25], "YES", "s2", "train"),
    ];
    let test = line("t1", [0.0, 0.01], "NO", "", "test");
    let all = lines(Format::Kaldi, &data);
    assert_eq!(all, [&[test][..], &train[..]].concat());
    let alone = lines(Format::Kaldi, &data.join("train"));
    assert_eq!(alone.len(), 3);
    assert!(alone.iter().all(|line| line.5.is_empty()));

    // The one directory, whatever the others hold.
    let folder = tempfile::tempdir().unwrap();
    fs::rename(data.join("train"), folder.path().join("train")).unwrap();
    let wrong = |name: &str, content: Option<&str>| {
        let told = changed(Format::Kaldi, &folder, &format!("train/{name}"), content);
        told.replace("ROOT/train/", "")
    };
    for (name, content, told) in [
        (
            "wav.scp",
            "rec1 wav/rec1.wav\nrec2 sph2pipe -f wav rec2.sph |\n",
            "wav.scp:2: \"sph2pipe -f wav rec2.sph |\" is a command, and commands are not run: write its output to files and name these",
        ),
        (
            "wav.scp",
            "rec1 wav/rec1.wav\nrec2 raw_wav.1.ark:1234\n",
            "wav.scp:2: \"raw_wav.1.ark:1234\" is a place in an archive: write the recordings to files (`wav-copy`) and name these",
        ),
        (
            "wav.scp",
            "rec1 -\n",
            "wav.scp:1: standard input is no recording: name a file",
        ),
        ("wav.scp", "rec1\n", "wav.scp:1: nothing follows \"rec1\""),
        (
            "wav.scp",
            "rec1 wav/rec1.wav\nrec1 wav/rec2.wav\n",
            "wav.scp:2: \"rec1\" is already in line 1",
        ),
        (
            "wav.scp",
            "rec1 wav/rec1.wav\n",
            "segments:3: \"s2-rec2-1\" has no recording: \"rec2\" is not in wav.scp",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0.00\n",
            "segments:1: the line is not `UTTERANCE RECORDING START END`",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0.00 x\n",
            "segments:1: \"x\" is no number of seconds",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0.50 0.50\n",
            "segments:1: the segment does not end after it starts",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0 0.5\ns1-rec1-2 rec1 2.5 2.6\ns2-rec2-1 rec2 0.25 -1\n",
            "segments:2: the segment from 2.5 to 2.6 s is not in its recording, which ends at 2.000 s",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0 0.5\ns1-rec1-2 rec1 0.5 2.6\ns2-rec2-1 rec2 0.25 -1\n",
            "segments:2: the segment from 0.5 to 2.6 s is not in its recording, which ends at 2.000 s",
        ),
        (
            "segments",
            "s1-rec1-1 rec1 0 0.5\n",
            "text:2: \"s1-rec1-2\" is not in segments",
        ),
        (
            "text",
            "s1-rec1-1 HELLO\ns2-rec2-1 YES\n",
            "segments:2: \"s1-rec1-2\" has no line in text",
        ),
        (
            "utt2spk",
            "s1-rec1-1 s1\ns1-rec1-2 s1\n",
            "segments:3: \"s2-rec2-1\" has no line in utt2spk",
        ),
    ] {
        assert_eq!(wrong(name, Some(content)), told);
    }
    assert_eq!(
        wrong("wav/rec2.wav", None),
        "segments:3: the audio wav/rec2.wav is missing"
    );
}

#[test]
fn common_voice_is_read_by_the_names_of_its_columns() {
    let header = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n";
    let row = |client: &str, path: &str, sentence: &str| {
        format!("{client}\t{path}\t9f\t{sentence}\t\t2\t0\t\t\t\t\ten\t\n")
    };
    let train = format!(
        "{header}{}{}",
        row("ann", "common_voice_en_1.mp3", "\"Hello,\" he said."),
        row("bob", "common_voice_en_2.mp3", "Ça va?"),
    );
    let test = format!("{header}{}", row("cy", "common_voice_en_3", "No."));
    let folder = tree(&[
        ("train.tsv", &train),
        ("test.tsv", &test),
        ("invalidated.tsv", "nobody looks here"),
        ("clips/common_voice_en_1.mp3", "#16000"),
        ("clips/common_voice_en_2.mp3", "#8000"),
        ("clips/common_voice_en_3.mp3", "#4000"),
    ]);
    assert_eq!(
        lines(Format::CommonVoice, folder.path()),
        [
            line(
                "common_voice_en_1",
                [0.0, 1.0],
                "\"Hello,\" he said.",
                "ann",
                "train"
            ),
            line("common_voice_en_2", [0.0, 0.5], "Ça va?", "bob", "train"),
            line("common_voice_en_3", [0.0, 0.25], "No.", "cy", "test"),
        ]
    );
    let wrong =
        |content: String| changed(Format::CommonVoice, &folder, "train.tsv", Some(&content));
    assert_eq!(
        wrong(train.replace("sentence\t", "text\t")),
        "ROOT/train.tsv:1: there is no column `sentence`"
    );
    assert_eq!(
        wrong(train.replace("\ten\t\nbob", "\ten\nbob")),
        "ROOT/train.tsv:2: the line has 12 fields where the first has 13"
    );
    assert_eq!(
        wrong(train.replace("common_voice_en_2.mp3", "../secret.mp3")),
        "ROOT/train.tsv:3: `path` is \"../secret.mp3\", which is no file's name"
    );
    assert_eq!(
        wrong(train.replace("common_voice_en_2", "common_voice_en_4")),
        "ROOT/train.tsv:3: the audio ROOT/clips/common_voice_en_4.mp3 is missing"
    );
    assert_eq!(
        wrong(train.replace("common_voice_en_2", "common_voice_en_1")),
        "ROOT/train.tsv:3: the id \"common_voice_en_1\" is already that of ROOT/train.tsv:2"
    );
    fs::write(
        folder.path().join("train.tsv"),
        [header.as_bytes(), b"x\xff\n"].concat(),
    )
    .unwrap();
    assert_eq!(
        message(Format::CommonVoice, &folder),
        "ROOT/train.tsv:2: the line is not UTF-8"
    );
}

#[test]
fn ljspeech_is_read_as_it_is_spoken() {
    let metadata = "LJ001-0001|Printing, in 1455|Printing, in fourteen fifty-five\nLJ001-0002|\"modern\".|\"modern\".\n";
    let folder = tree(&[
        ("metadata.csv", metadata),
        ("README", "LJ Speech"),
        ("wavs/LJ001-0001.wav", "#16000"),
        ("wavs/LJ001-0002.wav", "#8000"),
    ]);
    assert_eq!(
        lines(Format::LjSpeech, folder.path()),
        [
            line(
                "LJ001-0001",
                [0.0, 1.0],
                "Printing, in fourteen fifty-five",
                "LJ",
                ""
            ),
            line("LJ001-0002", [0.0, 0.5], "\"modern\".", "LJ", ""),
        ]
    );
    let wrong = |content: &str| changed(Format::LjSpeech, &folder, "metadata.csv", Some(content));
    assert_eq!(
        wrong("LJ001-0001|a|a\nLJ001-0002\n"),
        "ROOT/metadata.csv:2: the line is not `ID|TEXT|TEXT AS IT IS READ`"
    );
    assert_eq!(
        wrong("../x|a|a\n"),
        "ROOT/metadata.csv:1: the id is \"../x\", which is no file's name"
    );
    assert_eq!(
        wrong("LJ001-0009|a|a\n"),
        "ROOT/metadata.csv:1: the audio ROOT/wavs/LJ001-0009.wav is missing"
    );
}

#[test]
fn festvox_voices_are_read_alone_and_together() {
    let data = "( arctic_a0001 \"Author of the danger trail, Philip Steels, etc.\" )\n( arctic_a0002 \"Not \\\"that\\\".\" )\n";
    let folder = tree(&[
        ("cmu_us_slt_arctic/etc/txt.done.data", data),
        ("cmu_us_slt_arctic/wav/arctic_a0001.wav", "#16000"),
        ("cmu_us_slt_arctic/wav/arctic_a0002.wav", "#8000"),
    ]);
    let first = "Author of the danger trail, Philip Steels, etc.";
    let voice = "cmu_us_slt_arctic";
    assert_eq!(
        lines(Format::Festvox, folder.path()),
        [
            line(
                &format!("{voice}/arctic_a0001"),
                [0.0, 1.0],
                first,
                voice,
                ""
            ),
            line(
                &format!("{voice}/arctic_a0002"),
                [0.0, 0.5],
                "Not \"that\".",
                voice,
                ""
            ),
        ]
    );
    let alone = lines(Format::Festvox, &folder.path().join(voice));
    assert_eq!(alone[0], line("arctic_a0001", [0.0, 1.0], first, "", ""));
    let list = format!("{voice}/etc/txt.done.data");
    let wrong = |content: &str| changed(Format::Festvox, &folder, &list, Some(content));
    for bad in [
        "arctic_a0001 \"a\"",
        "( arctic_a0001 a )",
        "( arctic_a0001 \"a\" b )",
        "( arctic_a0001 \"a )",
        "( \"a\" )",
    ] {
        assert_eq!(
            wrong(&format!("{}\n{bad}\n", data.lines().next().unwrap())),
            format!("ROOT/{list}:2: the line is not `( ID \"TEXT\" )`")
        );
    }
}

#[test]
fn folders_are_classes_and_folders_of_them_splits() {
    let folder = tree(&[
        ("yes/a.wav", "#16000"),
        ("yes/notes.txt", "not a recording"),
        ("no/a.wav", "#8000"),
        ("readme.md", ""),
    ]);
    assert_eq!(
        lines(Format::Folders, folder.path()),
        [
            line("no/a", [0.0, 0.5], "no", "", ""),
            line("yes/a", [0.0, 1.0], "yes", "", ""),
        ]
    );
    fs::create_dir(folder.path().join("maybe")).unwrap();
    assert_eq!(
        message(Format::Folders, &folder),
        "ROOT/maybe: the folder of a class has no recordings"
    );
    let folder = tree(&[("train/yes/a.wav", "#16000"), ("test/no/a.wav", "#8000")]);
    assert_eq!(
        lines(Format::Folders, folder.path()),
        [
            line("test/no/a", [0.0, 0.5], "no", "", "test"),
            line("train/yes/a", [0.0, 1.0], "yes", "", "train"),
        ]
    );
}

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
    let all = lines(Format::SpeechCommands, folder.path());
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
    let wrong = |name, content| changed(Format::SpeechCommands, &folder, name, content);
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
    let all = lines(Format::SpeechCommands12, folder.path());
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
    assert_eq!(lines(Format::SpeechCommands12, folder.path()), all);
    fs::remove_dir_all(folder.path().join("_background_noise_")).unwrap();
    assert!(
        message(Format::SpeechCommands12, &folder)
            .contains("recordings of noise in _background_noise_/, must be in it")
    );
}

#[test]
fn each_importer_says_what_it_expects_of_a_folder_that_is_something_else() {
    let folder = tree(&[("notes.txt", "nothing of the kind")]);
    for format in Format::ALL {
        let told = message(format, &folder);
        let start = format!("ROOT is not laid out as {format} is: ");
        let other = "ROOT is not laid out as speech-commands is: ";
        assert!(
            told.starts_with(&start) || told.starts_with(other),
            "{told}"
        );
        assert!(told.contains("must be in it"), "{told}");
    }
}
