//! Lexica of pronunciations, time-marked words, and what is cut by them.
#![no_main]

mod bounded;

use std::path::Path;

use bounded::bounded;
use libfuzzer_sys::fuzz_target;
use speech::{
    ctm,
    lexicon::pronunciations::Pronunciations,
    manifest::Utterance,
    word_segments::{self, WantedWords},
};

fuzz_target!(|bytes: &[u8]| {
    // A word of a few bytes is kept with its phones and its line.
    bounded(bytes, 1024, 4 << 20, || {
        if let Ok(lexicon) = Pronunciations::parse(bytes, Path::new("a.dic")) {
            for word in lexicon.words() {
                for one in lexicon.of_word(word) {
                    assert!(!one.phones.is_empty());
                    assert!(one.probability > 0.0 && one.probability <= 1.0);
                }
            }
            lexicon.homophones();
            lexicon.rare_phones();
        }
        let Ok(words) = ctm::parse(bytes, Path::new("a.ctm")) else {
            return;
        };
        let utterance = Utterance {
            id: "a".to_owned(),
            audio: "/a.wav".into(),
            offset: 1.0,
            duration: 5.0,
            channel: None,
            text: String::new(),
            speaker: None,
        };
        let cut = word_segments::cut(&[utterance], &words, &WantedWords::default(), 0.05);
        for segment in cut.utterances {
            assert!(segment.duration > 0.0 && segment.offset >= 1.0);
            assert!(segment.offset + segment.duration <= 6.0 + 1e-5);
        }
    });
});
