//! Each importer on a small tree in its publisher's layout, and on what is wrong with such trees.

use std::path::Path;

use tempfile::TempDir;

use super::super::*;
use super::{all, message, write};

mod commands;
mod kaldi;
mod left_out;

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

fn lines(format: CorpusFormat, folder: &Path) -> Vec<Line> {
    all(format, folder)
        .into_iter()
        .map(
            |Imported {
                 utterance, split, ..
             }| {
                assert!(utterance.audio.exists());
                (
                    utterance.id,
                    utterance.offset,
                    utterance.duration,
                    utterance.text,
                    utterance.speaker.unwrap_or_default(),
                    split.unwrap_or_default(),
                )
            },
        )
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
fn changed(format: CorpusFormat, folder: &TempDir, name: &str, content: Option<&str>) -> String {
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
    assert_eq!(lines(CorpusFormat::LibriSpeech, folder.path()), expected);
    assert_eq!(lines(CorpusFormat::LibriSpeech, &inner), expected);
    let subset = inner.join("test-clean");
    assert_eq!(lines(CorpusFormat::LibriSpeech, &subset), expected[2..]);

    let chapter = "LibriSpeech/dev-clean/84/121123";
    let list = format!("{chapter}/84-121123.trans.txt");
    let wrong = |name: &str, content: Option<&str>| {
        let told = changed(CorpusFormat::LibriSpeech, &folder, name, content);
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
    assert!(wrong(&audio, Some("oops")).starts_with(
        "84-121123.trans.txt:2: 84-121123-0001.flac: not a form of audio that is read (WAV,"
    ));
    assert!(wrong(&list, None).starts_with("cannot read 84-121123.trans.txt: "));
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
        lines(CorpusFormat::CommonVoice, folder.path()),
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
    let wrong = |content: String| {
        changed(
            CorpusFormat::CommonVoice,
            &folder,
            "train.tsv",
            Some(&content),
        )
    };
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
        message(CorpusFormat::CommonVoice, &folder),
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
        lines(CorpusFormat::LjSpeech, folder.path()),
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
    let wrong = |content: &str| {
        changed(
            CorpusFormat::LjSpeech,
            &folder,
            "metadata.csv",
            Some(content),
        )
    };
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
        lines(CorpusFormat::Festvox, folder.path()),
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
    let alone = lines(CorpusFormat::Festvox, &folder.path().join(voice));
    assert_eq!(alone[0], line("arctic_a0001", [0.0, 1.0], first, "", ""));
    let list = format!("{voice}/etc/txt.done.data");
    let wrong = |content: &str| changed(CorpusFormat::Festvox, &folder, &list, Some(content));
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
fn an_id_that_is_a_folder_leads_nowhere() {
    // Found by fuzzing: a path of one component that ends with a slash. With `.wav` behind it, it was a file
    // in another folder.
    let told = |name: &str, content: &str| {
        let list = List::parse(Path::new(name), content.as_bytes().to_vec()).unwrap();
        let found = match name {
            "txt.done.data" => festvox::parse(&list, Path::new("wav"), None),
            "metadata.csv" => ljspeech::parse(&list, Path::new("wavs")),
            _ => common_voice::parse(&list, Path::new("clips"), None),
        };
        match found.unwrap_err() {
            ImportError::OtherLayout { first, .. } => first.to_string(),
            error => error.to_string(),
        }
    };
    for id in ["arctic_a/", "a/.", ".", ".."] {
        assert_eq!(
            told("txt.done.data", &format!("( {id}  \"Not.\" )\n")),
            format!("txt.done.data:1: the id is {id:?}, which is no file's name")
        );
        assert_eq!(
            told("metadata.csv", &format!("{id}|a\n")),
            format!("metadata.csv:1: the id is {id:?}, which is no file's name")
        );
        assert_eq!(
            told(
                "train.tsv",
                &format!("client_id\tpath\tsentence\nann\t{id}\ta\n")
            ),
            format!("train.tsv:2: `path` is {id:?}, which is no file's name")
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
        lines(CorpusFormat::Folders, folder.path()),
        [
            line("no/a", [0.0, 0.5], "no", "", ""),
            line("yes/a", [0.0, 1.0], "yes", "", ""),
        ]
    );
    let folder = tree(&[("train/yes/a.wav", "#16000"), ("test/no/a.wav", "#8000")]);
    assert_eq!(
        lines(CorpusFormat::Folders, folder.path()),
        [
            line("test/no/a", [0.0, 0.5], "no", "", "test"),
            line("train/yes/a", [0.0, 1.0], "yes", "", "train"),
        ]
    );
}

#[test]
fn each_importer_says_what_it_expects_of_a_folder_that_is_something_else() {
    let folder = tree(&[("notes.txt", "nothing of the kind")]);
    for format in CorpusFormat::ALL {
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
