//! Importers on small trees in their publishers' layouts.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

mod layouts;

/// Nothing may be left out.
const STRICT: Options = Options {
    max_bad: MaxBad::Count(0),
    splits_apart: false,
};

/// All that is there.
fn all(format: CorpusFormat, folder: &Path) -> Vec<Imported> {
    let corpus = read(format, folder, STRICT).unwrap_or_else(|error| panic!("{error}"));
    corpus.utterances
}

/// The utterances alone.
fn utterances(format: CorpusFormat, folder: &Path) -> Vec<Utterance> {
    let imported = all(format, folder).into_iter();
    imported.map(|one| one.utterance).collect()
}

/// A WAV file of `frames` 16-bit samples.
fn write(path: &Path, rate: u32, frames: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    (0..frames).for_each(|_| writer.write_sample(1i16).unwrap());
    writer.finalize().unwrap();
}

fn an4(ids: &str, transcription: &str, part: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join(format!("{part}.fileids")), ids).unwrap();
    fs::write(etc.join(format!("{part}.transcription")), transcription).unwrap();
    for id in ids.lines() {
        write(&folder.path().join(format!("wav/{id}.wav")), 16000, 24000);
    }
    folder
}

/// The first thing that is wrong, where nothing may be left out.
fn message(format: CorpusFormat, folder: &TempDir) -> String {
    let root = folder.path().display().to_string();
    let told = match read(format, folder.path(), STRICT).unwrap_err() {
        ImportError::TooManyBad { first, .. } | ImportError::NothingLeft { first } => {
            first[0].clone()
        }
        ImportError::OtherLayout { first, .. } => first.to_string(),
        error => error.to_string(),
    };
    told.replace(&root, "ROOT")
}

const IDS: &str = "an4_clstk/fash/an251-fash-b\nan4_clstk/menk/cen1-menk-b\n";
const TEXT: &str = "<s> YES </s> (an251-fash-b)\nP I T T  SBURGH </s> (cen1-menk-b)\n";

#[test]
fn an4_is_read_in_the_order_of_its_lists() {
    let folder = an4(IDS, TEXT, "an4_train");
    let utterances = utterances(CorpusFormat::An4, folder.path());
    let [first, second] = &utterances[..] else {
        panic!("two utterances")
    };
    assert_eq!(
        *first,
        Utterance {
            id: "an4_clstk/fash/an251-fash-b".to_owned(),
            audio: folder.path().join("wav/an4_clstk/fash/an251-fash-b.wav"),
            offset: 0.0,
            duration: 1.5,
            channel: None,
            text: "YES".to_owned(),
            speaker: Some("fash".to_owned()),
        }
    );
    assert_eq!(
        (second.text.as_str(), second.speaker.as_deref()),
        ("P I T T SBURGH", Some("menk"))
    );
}

#[test]
fn an4_with_its_test_part_has_both_and_the_test_part_can_be_held_out() {
    let folder = an4(IDS, TEXT, "an4_train");
    let test = an4(
        "an4test_clstk/fcaw/an406-fcaw-b\n",
        "<s> RUBOUT </s> (an406-fcaw-b)\n",
        "an4_test",
    );
    assert_eq!(all(CorpusFormat::An4, test.path()).len(), 1);
    for file in ["etc/an4_test.fileids", "etc/an4_test.transcription"] {
        fs::copy(test.path().join(file), folder.path().join(file)).unwrap();
    }
    write(
        &folder
            .path()
            .join("wav/an4test_clstk/fcaw/an406-fcaw-b.wav"),
        16000,
        160,
    );
    for rule in ["id:an4test_clstk/", "split:test"] {
        let all = all(CorpusFormat::An4, folder.path());
        let (rest, held) = split(all, &[HoldOut::parse(rule).unwrap()]).unwrap();
        let text = held[0][0].utterance.text.as_str();
        assert_eq!((rest.len(), held[0].len(), text), (2, 1, "RUBOUT"));
    }
    let all = all(CorpusFormat::An4, folder.path());
    let error = split(all, &[HoldOut::parse("split:dev").unwrap()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hold-out rule \"split:dev\": the corpus has no such split; its publisher made test, train"
    );
}

#[test]
fn an4_errors_name_the_file_and_the_line() {
    let folder = an4(
        IDS,
        &TEXT.replace("(cen1-menk-b)", "(cen2-menk-b)"),
        "an4_train",
    );
    assert_eq!(
        message(CorpusFormat::An4, &folder),
        "ROOT/etc/an4_train.transcription:2: the transcript is that of \"cen2-menk-b\", but line 2 of \
         ROOT/etc/an4_train.fileids is \"an4_clstk/menk/cen1-menk-b\""
    );
    let folder = an4(IDS, &TEXT.replace(" (cen1-menk-b)", ""), "an4_train");
    assert_eq!(
        message(CorpusFormat::An4, &folder),
        "ROOT/etc/an4_train.transcription:2: the line is not `<s> WORDS </s> (file-id)`"
    );
    let folder = an4(IDS, "YES (an251-fash-b)\n", "an4_train");
    assert!(
        message(CorpusFormat::An4, &folder)
            .contains("fileids has 2 utterances and the transcription 1;")
    );

    let folder = an4(IDS, TEXT, "an4_train");
    let audio = folder.path().join("wav/an4_clstk/menk/cen1-menk-b.wav");
    fs::remove_file(&audio).unwrap();
    let missing = "ROOT/etc/an4_train.fileids:2: the audio ROOT/wav/an4_clstk/menk/cen1-menk-b.wav is missing";
    assert_eq!(message(CorpusFormat::An4, &folder), missing);
    fs::write(audio.with_extension("raw"), "samples").unwrap();
    assert_eq!(
        message(CorpusFormat::An4, &folder),
        format!("{missing} (there is a .raw: samples without a header, convert them to WAV first)")
    );
    fs::write(&audio, "samples").unwrap();
    let told = message(CorpusFormat::An4, &folder);
    assert!(
        told.starts_with(
            "ROOT/etc/an4_train.fileids:2: ROOT/wav/an4_clstk/menk/cen1-menk-b.wav: not a form of audio that is read (WAV,"
        ),
        "{told}"
    );
    // As it was published.
    fs::remove_file(&audio).unwrap();
    let sphere = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/coded/chirp.sph");
    fs::copy(sphere, audio.with_extension("sph")).unwrap();
    assert_eq!(
        utterances(CorpusFormat::An4, folder.path())[1].duration,
        500.0 / 16_000.0
    );
    fs::remove_file(folder.path().join("etc/an4_train.transcription")).unwrap();
    assert!(
        message(CorpusFormat::An4, &folder)
            .starts_with("cannot read ROOT/etc/an4_train.transcription: ")
    );
}

#[test]
fn fsdd_is_read_from_its_file_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, frames) in [("7_theo_12", 4000), ("0_de_vries_5", 8000)] {
        write(
            &folder.path().join(format!("recordings/{name}.wav")),
            8000,
            frames,
        );
    }
    fs::write(
        folder.path().join("recordings/._7_theo_12.wav"),
        "what a Mac leaves",
    )
    .unwrap();
    fs::write(folder.path().join("recordings/README.md"), "").unwrap();
    let expected = |root: &Path, id: &str, duration, text: &str, speaker: &str| Utterance {
        id: id.to_owned(),
        audio: root.join(format!("{id}.wav")),
        offset: 0.0,
        duration,
        channel: None,
        text: text.to_owned(),
        speaker: Some(speaker.to_owned()),
    };
    let inner = folder.path().join("recordings");
    let both = |root: &Path| {
        [
            expected(root, "0_de_vries_5", 1.0, "zero", "de_vries"),
            expected(root, "7_theo_12", 0.5, "seven", "theo"),
        ]
    };
    assert_eq!(utterances(CorpusFormat::Fsdd, folder.path()), both(&inner));
    assert_eq!(utterances(CorpusFormat::Fsdd, &inner), both(&inner));
}

#[test]
fn what_is_not_the_corpus_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let fsdd = "ROOT is not laid out as fsdd is: {digit}_{speaker}_{index}.wav must be in it";
    assert!(message(CorpusFormat::Fsdd, &folder).starts_with(fsdd));
    assert!(
        message(CorpusFormat::An4, &folder)
            .starts_with("ROOT is not laid out as an4 is: etc/an4_train.fileids,")
    );
    for name in [
        "seven_theo_1",
        "7_theo",
        "7__1",
        "7_theo_x",
        "7_theo_+1",
        "17_theo_1",
        "7_theo_99999999999",
    ] {
        let audio = folder.path().join(format!("{name}.wav"));
        write(&audio, 8000, 10);
        assert!(
            message(CorpusFormat::Fsdd, &folder)
                .ends_with(".wav: the file's name is not {digit}_{speaker}_{index}.wav")
        );
        fs::remove_file(audio).unwrap();
    }
    let error = read(CorpusFormat::Fsdd, &PathBuf::from("no/such/corpus"), STRICT)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot read no/such/corpus: "), "{error}");
}

#[test]
fn formats_are_known_by_name() {
    for format in CorpusFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    let error = "timit".parse::<CorpusFormat>().unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown corpus format \"timit\"; known: an4, common-voice, festvox, folders, fsdd, kaldi, librispeech, \
         ljspeech, speech-commands, speech-commands-12"
    );
}
