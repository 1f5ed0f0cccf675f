//! The lists of corpora: Kaldi's four files, Common Voice's tables, LJSpeech's and Festvox's.
#![no_main]

mod bounded;

use std::path::Path;

use bounded::bounded;
use libfuzzer_sys::fuzz_target;
use speech::import::{List, common_voice, festvox, kaldi::Tables, ljspeech};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    // Every line becomes a draft of a few hundred bytes, even where it has three; what is packed with gzip may be
    // a thousand times as long.
    bounded(bytes, 4096, 1 << 20, || {
        let list = |name: &str, bytes: &[u8]| List::parse(Path::new(name), bytes.to_vec());
        match kind % 4 {
            0 => {
                // The five files, with a byte between them that no text has.
                let mut parts = rest.split(|byte| *byte == 0xff);
                let mut next = || parts.next().unwrap_or_default();
                let (Ok(wav_scp), Ok(text)) = (list("wav.scp", next()), list("text", next()))
                else {
                    return;
                };
                let tables = Tables {
                    wav_scp,
                    text,
                    segments: list("segments", next()).ok(),
                    utt2spk: list("utt2spk", next()).ok(),
                    channels: list("reco2file_and_channel", next()).ok(),
                };
                for draft in tables.drafts(None).unwrap_or_default().drafts {
                    if let Some((start, Some(end))) = draft.part {
                        assert!(start < end);
                    }
                    assert!(!draft.audio.to_string_lossy().trim_end().ends_with('|'));
                }
            }
            1 => {
                let Ok(table) = list("train.tsv", rest) else {
                    return;
                };
                let clips = Path::new("/clips");
                for draft in common_voice::parse(&table, clips, None).unwrap_or_default().drafts {
                    assert_eq!(draft.audio.parent(), Some(clips));
                }
            }
            2 => {
                let Ok(table) = list("metadata.csv", rest) else {
                    return;
                };
                let wavs = Path::new("/wavs");
                for draft in ljspeech::parse(&table, wavs).unwrap_or_default().drafts {
                    assert_eq!(draft.audio.parent(), Some(wavs));
                }
            }
            _ => {
                let Ok(table) = list("txt.done.data", rest) else {
                    return;
                };
                let wav = Path::new("/wav");
                for draft in festvox::parse(&table, wav, None).unwrap_or_default().drafts {
                    assert_eq!(draft.audio.parent(), Some(wav));
                }
            }
        }
    });
});
