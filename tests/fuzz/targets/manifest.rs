//! Manifests: what is read is written and read again as the same.
#![no_main]

mod bounded;

use std::path::Path;

use bounded::bounded;
use libfuzzer_sys::fuzz_target;
use speech::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    // Lines are read in blocks of some mebibytes, which what is packed may fill; each is taken apart as JSON, and
    // kept as an utterance.
    bounded(bytes, 256, 1 << 26, || {
        let Ok(manifest) = Manifest::parse(bytes, Path::new("/corpus/m.jsonl")) else {
            return;
        };
        assert!(!manifest.utterances.is_empty());
        for utterance in &manifest.utterances {
            assert!(utterance.duration > 0.0 && utterance.offset >= 0.0);
            if let Some(part) = utterance.segment(80_000, 16_000) {
                assert!(part.start <= part.end && part.end <= 80_000);
            }
        }
    });
});
