//! Recordings of every form, whole and in part; as they come, and with their checksums made right.
#![no_main]

mod bounded;
mod checksums;

use bounded::bounded;
use checksums::mended;
use libfuzzer_sys::fuzz_target;
use speech::audio;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mended = mended(bytes);
    if mended != bytes {
        check(&mended);
    }
});

fn check(bytes: &[u8]) {
    // A byte may become 1,024 samples of four bytes, in a vector that doubles; tables of the decoders come
    // on top.
    bounded(bytes, 3 * 4096, 32 << 20, || {
        let info = audio::inspect_bytes("fuzz", bytes);
        let whole = audio::decode("fuzz", bytes);
        if let (Ok(info), Ok(whole)) = (&info, &whole) {
            assert_eq!(info.frames, whole.samples.len() as u64);
            assert_eq!(info.sample_rate, whole.sample_rate);
        }
        if let Ok(whole) = whole {
            assert!(!whole.samples.is_empty());
            let loudest = whole
                .samples
                .iter()
                .find(|sample| sample.is_nan() || sample.abs() > audio::MAX_AMPLITUDE);
            assert_eq!(loudest, None);
            let half = whole.samples.len() / 2;
            let part = audio::decode_segment("fuzz", bytes, half as u64..half as u64 + 1);
            let part = part.expect("a sample that is there");
            assert_eq!(part.samples[0].to_bits(), whole.samples[half].to_bits());
        }
    });
}
