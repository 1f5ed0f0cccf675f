//! Corpora of which each recording has two channels, and an utterance is one of them.

use std::{path::Path, sync::atomic::AtomicBool};

use coordinator::{
    corpus::{Item, Prepared, prepare},
    job::Job,
};
use speech::{
    audio,
    corpus_roots::CorpusRoots,
    left_out::Reason,
    manifest::{Manifest, Utterance},
};

use crate::site::Site;

fn prepared(site: &Site, sets: &[&str]) -> Result<Prepared, String> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let job = Job::parse(&site.job(), Path::new("job.toml"), &sets).unwrap();
    let cache = site.path("cache");
    let synthetic = site.path("synthetic");
    let prepared = prepare(
        &job,
        &CorpusRoots::anywhere(),
        &synthetic,
        Some(&cache),
        &AtomicBool::new(false),
    );
    prepared.map_err(|error| error.to_string())
}

/// 16-bit PCM at 8 kHz, the shorter channel padded with zeros.
fn write_two_channels(path: &Path, channels: [&[f32]; 2]) {
    let frames = channels[0].len().max(channels[1].len());
    let bytes = 4 * frames as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    file.extend(8000u32.to_le_bytes());
    file.extend(32_000u32.to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(bytes.to_le_bytes());
    for at in 0..frames {
        for channel in channels {
            let value = channel.get(at).copied().unwrap_or_default();
            file.extend(((value * 32_768.0) as i16).to_le_bytes());
        }
    }
    std::fs::write(path, file).unwrap();
}

/// Puts the recordings of each two utterances into one.
fn pair(site: &Site, name: &str) {
    let path = site.path(&format!("{name}.jsonl"));
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    for (number, pair) in utterances.chunks_mut(2).enumerate() {
        let sound = |one: &Utterance| audio::read_utterance(one).unwrap().samples;
        let sounds: Vec<Vec<f32>> = pair.iter().map(sound).collect();
        let both = site.path(&format!("{name}-pair{number}.wav"));
        let second = sounds.get(1).map_or(&[][..], Vec::as_slice);
        write_two_channels(&both, [&sounds[0], second]);
        for (channel, one) in (0..).zip(pair) {
            one.audio = both.clone();
            one.channel = Some(channel);
        }
    }
    Manifest::write(&path, &utterances).unwrap();
}

#[test]
fn channels_are_prepared_as_recordings_of_their_own_would_be() {
    let sets = ["features.normalization=speaker"];
    let site = Site::new();
    let path = site.path("train.jsonl");
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    for (index, one) in utterances.iter_mut().enumerate() {
        one.speaker = Some(["ann", "bob"][index % 2].to_owned());
    }
    Manifest::write(&path, &utterances).unwrap();
    let apart = ["global", "speaker"]
        .map(|kind| prepared(&site, &[&format!("features.normalization={kind}")]).unwrap());
    pair(&site, "train");
    let paired = ["global", "speaker"]
        .map(|kind| prepared(&site, &[&format!("features.normalization={kind}")]).unwrap());
    for (apart, paired) in apart.iter().zip(&paired) {
        assert_eq!(paired.recipe.stats, apart.recipe.stats);
        assert_eq!(paired.voices, apart.voices);
        let seen = |items: &[Item]| -> Vec<(String, u64, f64)> {
            let items = items.iter();
            items
                .map(|it| (it.id.clone(), it.frames, it.seconds))
                .collect()
        };
        assert_eq!(seen(&paired.train), seen(&apart.train));
        let channels: Vec<Option<u16>> = paired.train.iter().map(|it| it.channel).collect();
        assert_eq!(channels[..3], [Some(0), Some(1), Some(0)]);
    }

    // Which channel is meant is part of what a corpus is, and so is what is kept of it.
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    let both = utterances[0].duration.min(utterances[1].duration);
    for (one, channel) in utterances.iter_mut().zip([1, 0]) {
        (one.duration, one.channel) = (both, Some(channel));
    }
    let digest = |utterances: &[Utterance]| {
        Manifest::write(&path, utterances).unwrap();
        let prepared = prepared(&site, &sets).unwrap();
        (prepared.digest, prepared.voices)
    };
    let turned = digest(&utterances);
    for (one, channel) in utterances.iter_mut().zip([0, 1]) {
        one.channel = Some(channel);
    }
    let straight = digest(&utterances);
    assert_ne!(turned.0, straight.0);
    assert_ne!(turned.1, straight.1);
    // The only channel of a recording is the recording.
    let digest = |channel| {
        let path = site.path("valid.jsonl");
        let mut utterances = Manifest::read(&path).unwrap().utterances;
        for one in &mut utterances {
            one.channel = channel;
        }
        Manifest::write(&path, &utterances).unwrap();
        prepared(&site, &sets).unwrap().digest
    };
    assert_eq!(digest(Some(0)), digest(None));
}

#[test]
fn a_channel_that_is_not_there_is_left_out_or_refused_by_name() {
    let site = Site::new();
    let path = site.path("train.jsonl");
    let mut utterances = Manifest::read(&path).unwrap().utterances;
    utterances[4].channel = Some(1);
    Manifest::write(&path, &utterances).unwrap();
    let [train, _] = prepared(&site, &[]).unwrap().left_out;
    assert_eq!(train.summary.by_reason, [(Reason::NoChannel, 1)].into());
    assert_eq!(train.named[0].utterance, "train4");
    let error = prepared(&site, &["corpus.max_bad=0"]).unwrap_err();
    let wanted = ["train4", "train4.wav", "channel 1 (counted from 0)"];
    assert!(wanted.iter().all(|it| error.contains(it)), "{error}");
}
