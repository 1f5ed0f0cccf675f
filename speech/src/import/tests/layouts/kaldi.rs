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
