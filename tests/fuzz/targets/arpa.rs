//! Language models in ARPA's format.
#![no_main]

mod bounded;

use std::path::Path;

use bounded::bounded;
use libfuzzer_sys::fuzz_target;
use speech::lm::NgramModel;

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, 1024, 4 << 20, || {
        let _ = NgramModel::read_from(bytes, Path::new("lm.arpa"));
    });
});
