//! What is left out of a corpus and what is passed over: each is told, and bounded.

use super::*;
use crate::import::tests::STRICT;

fn options(max_bad: MaxBad) -> Options {
    Options { max_bad, ..STRICT }
}

/// Ids of the utterances, what was left out, and what was passed over, without the folder's name.
fn told(
    format: CorpusFormat,
    folder: &TempDir,
    options: Options,
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let corpus = read(format, folder.path(), options).unwrap_or_else(|error| panic!("{error}"));
    let root = format!("{}/", folder.path().display());
    let ids = corpus.utterances.into_iter().map(|one| one.utterance.id);
    let left_out = corpus
        .left_out
        .iter()
        .map(|one| one.to_string().replace(&root, ""));
    let passed_over = corpus.passed_over.into_iter().map(|one| {
        let examples: Vec<String> = one
            .examples
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        format!("{} {}: {}", one.count, one.kind, examples.join(", "))
    });
    (ids.collect(), left_out.collect(), passed_over.collect())
}

const HEADER: &str = "client_id\tpath\tsentence\tup_votes\n";

#[test]
fn bad_recordings_and_lines_are_left_out_by_name_as_far_as_they_may() {
    let rows: String = (0..20)
        .map(|n| format!("ann\tx{n}.mp3\tYes.\t2\n"))
        .collect();
    let folder = tree(&[("train.tsv", &format!("{HEADER}{rows}"))]);
    (0..20).for_each(|n| put(&folder, &format!("clips/x{n}.mp3"), "#1600"));
    put(&folder, "clips/x3.mp3", "");
    put(&folder, "clips/x5.mp3", "not a recording");
    fs::remove_file(folder.path().join("clips/x7.mp3")).unwrap();
    let (ids, left_out, passed_over) = told(CorpusFormat::CommonVoice, &folder, Options::default());
    assert_eq!(ids.len(), 17);
    assert_eq!(passed_over, Vec::<String>::new());
    assert_eq!(
        left_out[0],
        "train.tsv:5: clips/x3.mp3: the file is empty (0 bytes): copy or record it again"
    );
    assert!(
        left_out[1].starts_with("train.tsv:7: clips/x5.mp3: not "),
        "{left_out:?}"
    );
    assert_eq!(
        left_out[2],
        "train.tsv:9: the audio clips/x7.mp3 is missing"
    );
    assert_eq!(
        told(
            CorpusFormat::CommonVoice,
            &folder,
            options(MaxBad::Count(3))
        )
        .0
        .len(),
        17
    );
    // All that is wrong is told at once.
    for bound in [MaxBad::Count(2), MaxBad::Count(0), MaxBad::Share(0.1)] {
        let error = read(CorpusFormat::CommonVoice, folder.path(), options(bound)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("3 of 20 cannot be used, and at most "),
            "{error}"
        );
        for clip in ["x3.mp3", "x5.mp3", "x7.mp3"] {
            assert!(error.contains(clip), "{error}");
        }
    }
    // Where nothing of a corpus is left, not even a generous bound makes a manifest.
    fs::remove_dir_all(folder.path().join("clips")).unwrap();
    let error = read(
        CorpusFormat::CommonVoice,
        folder.path(),
        options(MaxBad::Count(1000)),
    )
    .unwrap_err();
    assert!(
        matches!(error, ImportError::NothingLeft { ref first } if first.len() == 6),
        "{error}"
    );
}

#[test]
fn fields_of_common_voice_are_unquoted_where_they_were_written_as_csv() {
    let read = |rows: &str| {
        let text = format!("{HEADER}{rows}");
        let list = List::parse(Path::new("train.tsv"), text.into_bytes()).unwrap();
        let found = common_voice::parse(&list, Path::new("clips"), None).unwrap();
        let texts: Vec<String> = found.drafts.into_iter().map(|draft| draft.text).collect();
        (
            texts,
            found
                .bad
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    let row = |name: &str, sentence: &str| format!("ann\t{name}.mp3\t{sentence}\t2\n");
    let all = [
        row("a", r#""""Good-bye,"" said the boy.""#),
        row("b", r#""How dare you!"#),
        row("c", r#"How dare "you"!"#),
        row("d", r#""Yes.""#),
        row("e", "\"Hello\tthere.\""),
        row("f", "\"One\n\ttwo \"\"three\"\"\""),
        row("g", r#""""#),
        row("h", "the last"),
    ];
    let (texts, bad) = read(&all.concat());
    assert_eq!(bad, Vec::<String>::new());
    assert_eq!(
        texts,
        [
            r#""Good-bye," said the boy."#,
            r#""How dare you!"#,
            r#"How dare "you"!"#,
            r#""Yes.""#,
            "Hello there.",
            r#"One two "three""#,
            r#""""#,
            "the last",
        ]
    );
    // A tab as it is makes one line wrong, and no other, also behind a mark that does not end.
    let (texts, bad) = read(
        &[
            row("a", "Yes\tno."),
            row("b", "\"Ye\ts."),
            row("c", "No."),
            row("d", "So."),
        ]
        .concat(),
    );
    assert_eq!(texts, ["No.", "So."]);
    assert_eq!(
        bad,
        [2, 3].map(|line| format!("train.tsv:{line}: the line has 5 fields where the first has 4"))
    );
    // Everything quoted, the columns' names too.
    let quoted = "\"client_id\"\t\"path\"\t\"sentence\"\n\"ann\"\t\"a.mp3\"\t\"Yes.\"\n";
    let list = List::parse(Path::new("train.tsv"), quoted.into()).unwrap();
    let found = common_voice::parse(&list, Path::new("clips"), None).unwrap();
    let draft = &found.drafts[0];
    assert_eq!(
        (
            draft.id.as_str(),
            draft.text.as_str(),
            draft.speaker.as_deref()
        ),
        ("a", "Yes.", Some("ann"))
    );
}

#[test]
fn most_lines_wrong_is_another_layout_whatever_may_be_left_out() {
    let folder = tree(&[
        ("metadata.csv", "a|a\nb,b\nc,c\n"),
        ("wavs/a.wav", "#160"),
        ("wavs/b.wav", "#160"),
    ]);
    let error = read(
        CorpusFormat::LjSpeech,
        folder.path(),
        options(MaxBad::Share(1.0)),
    )
    .unwrap_err();
    assert_eq!(
        error
            .to_string()
            .replace(&folder.path().display().to_string(), "ROOT"),
        "ROOT/metadata.csv:2: the line is not `ID|TEXT|TEXT AS IT IS READ`; 2 of the 3 lines of the file are not as they \
         should be: it seems to be laid out otherwise"
    );
}

#[test]
fn lists_are_read_packed_and_in_utf16_and_bytes_of_another_encoding_name_their_line() {
    let text = "LJ001-0001|ein Häuschen\nLJ001-0002|zwei\nLJ001-0003|drei\n";
    let read = |bytes: Vec<u8>| {
        let list = List::parse(Path::new("metadata.csv"), bytes).unwrap();
        let found = ljspeech::parse(&list, Path::new("wavs")).unwrap();
        let texts: Vec<String> = found.drafts.into_iter().map(|draft| draft.text).collect();
        (
            texts,
            found
                .bad
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    let expected = (
        ["ein Häuschen", "zwei", "drei"].map(str::to_owned).to_vec(),
        Vec::new(),
    );
    let utf16 = std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_be_bytes);
    for bytes in [
        text.into(),
        format!("\u{feff}{text}").into_bytes(),
        utf16.collect(),
    ] {
        assert_eq!(read(bytes), expected);
    }
    let latin1 = text.chars().map(|c| c as u8).collect();
    assert_eq!(
        read(latin1),
        (
            expected.0[1..].to_vec(),
            vec!["metadata.csv:1: the line is not UTF-8".to_owned()]
        )
    );
}

#[test]
fn recordings_are_known_by_their_bytes_and_nothing_is_passed_over_without_a_word() {
    let folder = tree(&[
        ("yes/a.wav", "#1600"),
        ("yes/a.flac", "#1600"),
        ("yes/b.WAVE", "#1600"),
        ("yes/c", "#1600"),
        ("yes/notes.txt", "not a recording"),
        ("yes/notes", "not a recording"),
        ("yes/.DS_Store", "what a Mac leaves"),
        ("yes/deeper/d.wav", "#1600"),
        ("no/broken.m4a", "\0\0\0\u{18}ftypM4A \0\0\0\0"),
        ("no/e.wav", "#1600"),
        ("maybe/picture.png", "not a recording"),
        ("f.wav", "#1600"),
        ("LICENSE", "CC BY"),
    ]);
    let (ids, left_out, passed_over) = told(CorpusFormat::Folders, &folder, Options::default());
    assert_eq!(ids, ["no/e", "yes/a", "yes/a.wav", "yes/b", "yes/c"]);
    assert_eq!(left_out.len(), 1);
    assert!(left_out[0].starts_with("no/broken.m4a: "), "{left_out:?}");
    assert_eq!(
        passed_over,
        [
            "1 folders without recordings: maybe",
            "1 other files (.png): maybe/picture.png",
            "1 other files (.txt): yes/notes.txt",
            "2 other files (a text file): LICENSE, yes/notes",
            "2 recordings that are in no list, or not where the layout has them: f.wav, yes/deeper/d.wav",
        ]
    );
}

#[test]
fn folders_of_splits_may_lie_beside_others() {
    let folder = tree(&[
        ("train/yes/a.wav", "#1600"),
        ("test/yes/a.wav", "#1600"),
        ("docs/readme.md", ""),
        ("extra/yes/b.wav", "#1600"),
    ]);
    let (ids, _, passed_over) = told(CorpusFormat::Folders, &folder, STRICT);
    assert_eq!(ids, ["test/yes/a", "train/yes/a"]);
    assert_eq!(
        passed_over,
        [
            "1 other files (.md): docs/readme.md",
            "1 recordings that are in no list, or not where the layout has them: extra/yes/b.wav",
        ]
    );
    // Called as splits are, but classes.
    let folder = tree(&[("train/a.wav", "#1600"), ("test/a.wav", "#1600")]);
    assert_eq!(
        told(CorpusFormat::Folders, &folder, STRICT).0,
        ["test/a", "train/a"]
    );
}

#[test]
fn what_no_list_names_is_counted() {
    let train = format!("{HEADER}ann\tx1.mp3\tYes.\t2\n");
    let folder = tree(&[("train.tsv", &train), ("clips/x1.mp3", "#1600")]);
    (2..10).for_each(|n| put(&folder, &format!("clips/x{n}.mp3"), "#1600"));
    let (_, _, passed_over) = told(CorpusFormat::CommonVoice, &folder, STRICT);
    assert_eq!(
        passed_over,
        [
            "8 recordings that are in no list, or not where the layout has them: clips/x2.mp3, clips/x3.mp3, clips/x4.mp3, \
          clips/x5.mp3, clips/x6.mp3"
        ]
    );
    // The same recordings as they were published.
    let folder = tree(&[
        ("metadata.csv", "a|yes\n"),
        ("wavs/a.wav", "#1600"),
        ("wavs/a.flac", "#1600"),
    ]);
    let (_, _, passed_over) = told(CorpusFormat::LjSpeech, &folder, STRICT);
    assert_eq!(
        passed_over,
        ["1 recordings that are imported in another form: wavs/a.flac"]
    );
}

#[test]
fn recordings_may_be_in_another_form_than_the_layout_has() {
    let folder = tree(&[
        ("metadata.csv", "a|yes\nb|no\n"),
        ("wavs/a.FLAC", "#1600"),
        ("wavs/a.opus", "#1600"),
        ("wavs/a.flac", "#1600"),
        ("wavs/b.raw", "samples"),
    ]);
    let (ids, left_out, _) = told(CorpusFormat::LjSpeech, &folder, Options::default());
    assert_eq!(ids, ["a"]);
    assert_eq!(
        left_out,
        [
            "metadata.csv:2: the audio wavs/b.wav is missing (there is a .raw: samples without a header, convert them to \
          WAV first)"
        ]
    );
    let corpus = read(CorpusFormat::LjSpeech, folder.path(), Options::default()).unwrap();
    assert!(
        corpus.utterances[0]
            .utterance
            .audio
            .ends_with("wavs/a.flac")
    );
}

#[test]
fn kaldi_segments_have_channels_and_subsets_share_ids() {
    let segments = |channel: &str| format!("u1 r 0 0.05 {channel}\nu2 r 0.05 -1\n");
    let folder = tree(&[
        ("data/train/wav.scp", "r r.wav\n"),
        ("data/train/segments", &segments("0")),
        ("data/train/text", "u1 YES\nu2 NO\n"),
        ("data/train/r.wav", "#1600"),
        ("data/train_1k/wav.scp", "r ../train/r.wav\n"),
        ("data/train_1k/segments", "u1 r 0 0.05 0\n"),
        ("data/train_1k/text", "u1 YES\n"),
        ("data/train_1k/spk2utt", "not needed\n"),
    ]);
    let data = folder.path().join("data");
    let apart = Options {
        splits_apart: true,
        ..STRICT
    };
    let corpus = read(CorpusFormat::Kaldi, &data, apart).unwrap();
    let ids = |split: &str| -> Vec<&str> {
        let of_split = corpus
            .utterances
            .iter()
            .filter(|one| one.split.as_deref() == Some(split));
        of_split.map(|one| one.utterance.id.as_str()).collect()
    };
    assert_eq!(
        (ids("train"), ids("train_1k")),
        (vec!["u1", "u2"], vec!["u1"])
    );
    assert_eq!(corpus.passed_over, []);
    let error = read(CorpusFormat::Kaldi, &data, STRICT)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the id \"u1\" is already that of"),
        "{error}"
    );

    let channel = |channel: &str| {
        put(&folder, "data/train/segments", &segments(channel));
        let train = data.join("train");
        let corpus = read(CorpusFormat::Kaldi, &train, Options::default()).unwrap();
        corpus
            .left_out
            .iter()
            .map(|one| {
                one.to_string()
                    .rsplit("segments:")
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(channel("A"), Vec::<String>::new());
    assert_eq!(
        channel("1"),
        ["1: its channel is 1, counted from 0, and its recording has 1"]
    );
    // Once, though its transcript has no segment either.
    assert_eq!(
        channel("left"),
        ["1: the channel \"left\" is no number; they count from 0"]
    );
}

#[test]
fn a_share_takes_recordings_and_not_their_segments() {
    let mut scp = String::new();
    let (mut segments, mut text) = (String::new(), String::new());
    let folder = tree(&[]);
    for recording in 0..40 {
        scp += &format!("r{recording} r{recording}.wav\n");
        put(&folder, &format!("r{recording}.wav"), "#1600");
        for part in 0..5 {
            let start = f64::from(part) * 0.02;
            segments += &format!(
                "r{recording}-{part} r{recording} {start} {}\n",
                start + 0.02
            );
            text += &format!("r{recording}-{part} YES\n");
        }
    }
    put(&folder, "wav.scp", &scp);
    put(&folder, "segments", &segments);
    put(&folder, "text", &text);
    let (rest, held) = split(
        all(CorpusFormat::Kaldi, folder.path()),
        &[HoldOut::Fraction(0.3)],
    )
    .unwrap();
    let recordings = |part: &[Imported]| -> std::collections::BTreeSet<String> {
        part.iter()
            .map(|one| one.recording.clone().unwrap())
            .collect()
    };
    assert!((5..20).contains(&recordings(&held[0]).len()));
    assert!(recordings(&rest).is_disjoint(&recordings(&held[0])));
}

#[test]
fn names_of_files_move_no_cursor() {
    let folder = tree(&[
        ("yes/a.wav", "#1600"),
        ("yes/\u{1b}[2J\nleft out: nothing.wav", ""),
    ]);
    let corpus = read(
        CorpusFormat::Folders,
        folder.path(),
        options(MaxBad::Count(1)),
    )
    .unwrap();
    let told = escape(&corpus.left_out[0].to_string()).into_owned();
    assert!(
        told.contains("\\u{1b}[2J\\nleft out: nothing.wav"),
        "{told}"
    );
    let error = read(CorpusFormat::Folders, folder.path(), STRICT)
        .unwrap_err()
        .to_string();
    assert!(
        !error.contains('\u{1b}') && error.lines().count() == 2,
        "{error:?}"
    );
}
