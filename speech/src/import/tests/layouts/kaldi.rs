//! Kaldi's data directories, and each thing that can be wrong in one.

use super::*;

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
    let all = lines(CorpusFormat::Kaldi, &data);
    assert_eq!(all, [&[test][..], &train[..]].concat());
    let alone = lines(CorpusFormat::Kaldi, &data.join("train"));
    assert_eq!(alone.len(), 3);
    assert!(alone.iter().all(|line| line.5.is_empty()));

    // The one directory, whatever the others hold.
    let folder = tempfile::tempdir().unwrap();
    fs::rename(data.join("train"), folder.path().join("train")).unwrap();
    let wrong = |name: &str, content: Option<&str>| {
        let told = changed(
            CorpusFormat::Kaldi,
            &folder,
            &format!("train/{name}"),
            content,
        );
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
            "segments:1: the line is not `UTTERANCE RECORDING START END [CHANNEL]`",
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

/// Two channels that differ, of `frames` samples at 16 kHz.
fn write_two_channels(path: &Path, frames: i16) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for at in 0..frames {
        writer.write_sample(at).unwrap();
        writer.write_sample(-3 * at).unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn a_channel_of_several_is_named_by_segments_or_by_the_recording() {
    let folder = tree(&[
        (
            "wav.scp",
            "call-A call.wav\ncall-B call.wav\nodd call.wav\nmono mono.wav\nboth call.wav\n",
        ),
        (
            "reco2file_and_channel",
            "call-A call A\ncall-B call 2\nodd call left\nmono mono B\n",
        ),
        (
            "segments",
            "a call-A 0 -1\nb call-B 0.02 0.05\nc call-B 0 -1 0\nd odd 0 -1\ne mono 0 -1\nf both 0 -1\n\
             g both 0 -1 1\nh both 0 -1 2\ni mono 0 -1 0\n",
        ),
        ("text", "a A\nb B\nc C\nd D\ne E\nf F\ng G\nh H\ni I\n"),
        ("mono.wav", "#1600"),
    ]);
    write_two_channels(&folder.path().join("call.wav"), 1600);
    let corpus = read(CorpusFormat::Kaldi, folder.path(), Options::default()).unwrap();
    let channels: Vec<(&str, Option<u16>)> = corpus
        .utterances
        .iter()
        .map(|one| (one.utterance.id.as_str(), one.utterance.channel))
        .collect();
    assert_eq!(
        channels,
        [
            ("a", Some(0)),
            ("b", Some(1)),
            ("c", Some(0)),
            ("e", None),
            ("f", None),
            ("g", Some(1)),
            ("i", None),
        ]
    );
    let left_out: Vec<String> = corpus.left_out.iter().map(ToString::to_string).collect();
    let expected = [
        "segments:4: reco2file_and_channel says that it is channel \"left\" of its recording, which has 2",
        "segments:8: its channel is 2, counted from 0, and its recording has 2",
    ];
    for (told, expected) in left_out.iter().zip(expected) {
        assert!(told.contains(expected), "{told}");
    }
    assert_eq!(left_out.len(), expected.len());

    // What is written is heard: one channel, and the part of it.
    let path = folder.path().join("m.jsonl");
    let utterances: Vec<_> = corpus
        .utterances
        .into_iter()
        .map(|one| one.utterance)
        .collect();
    crate::manifest::Manifest::write(&path, &utterances).unwrap();
    let read = crate::manifest::Manifest::read(&path).unwrap().utterances;
    assert_eq!(read, utterances);
    let samples = |id: &str| {
        let one = read.iter().find(|one| one.id == id).unwrap();
        crate::audio::read_utterance(one).unwrap().samples
    };
    let value = |at: i16| f32::from(at) / 32_768.0;
    assert_eq!(samples("a"), (0..1600).map(value).collect::<Vec<_>>());
    let second: Vec<f32> = (320..800).map(|at| value(-3 * at)).collect();
    assert_eq!(samples("b"), second);
    assert_eq!(
        samples("f"),
        (0..1600).map(|at| value(-at)).collect::<Vec<_>>()
    );

    // Both are listened to apart, and each is known to be of the other's recording.
    let of = |id: &str| crate::manifest::Manifest {
        utterances: read.iter().filter(|one| one.id == id).cloned().collect(),
        digest: String::new(),
    };
    let (a, g) = (of("a"), of("g"));
    let (inspected, shared) = crate::inspection::inspect(&[("a", &a), ("g", &g)]);
    assert!(inspected.iter().all(|one| one.problems.is_empty()));
    let kinds: Vec<_> = shared.iter().map(|one| one.suspicion).collect();
    assert_eq!(kinds, [crate::inspection::Suspicion::SplitRecordings]);
    let mut absent = a;
    absent.utterances[0].channel = Some(2);
    let (inspected, _) = crate::inspection::inspect(&[("absent", &absent)]);
    assert!(inspected[0].problems[0].contains("channel 2 (counted from 0)"));
}
