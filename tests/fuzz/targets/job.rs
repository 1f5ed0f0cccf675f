//! Job files: what is accepted is written and accepted again.
#![no_main]

mod bounded;

use std::path::Path;

use bounded::bounded;
use coordinator::job::Job;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // TOML is parsed into a table, then into the job; an error shows the line.
    bounded(bytes, 4096, 4 << 20, || {
        if let Ok(job) = Job::parse(text, Path::new("job.toml"), &[]) {
            let written = job.to_toml().expect("what was read");
            let again = Job::parse(&written, Path::new("job.toml"), &[]);
            assert_eq!(again.expect("what was written"), job);
        }
    });
});
