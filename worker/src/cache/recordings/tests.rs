//! Segments and channels of plain and packed recordings: found, verified and found again.

use speech::corpus_roots::CorpusRoots;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    audio: AudioCache,
    recordings: Recordings,
    wanted: Wanted,
    samples: Vec<f32>,
}

/// A recording of 1,000 samples at a path that the coordinator shares: WAV, or FLAC-like packed where
/// `packed` (ADPCM, as the tests can write it).
fn fixture(packed: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let config = CacheConfig {
        shared_files: CorpusRoots::beneath(&[dir.path().to_owned()]).unwrap(),
        ..CacheConfig::new(dir.path().join("cache"))
    };
    let path = dir.path().join("long.wav");
    if packed {
        fs::write(&path, ima_adpcm()).unwrap();
    } else {
        let samples = (0..1000).map(|at| at as f32 / 32_768.0).collect();
        let sound = Audio {
            sample_rate: 8000,
            samples,
        };
        audio::write_wav(&path, &sound).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    Fixture {
        audio: AudioCache::open(&config).unwrap(),
        recordings: Recordings::open(&config).unwrap(),
        samples: audio::read(&path).unwrap().samples,
        wanted: Wanted {
            path,
            bytes: bytes.len() as u64,
            digest: *blake3::hash(&bytes).as_bytes(),
        },
        dir,
    }
}

/// Two blocks of IMA ADPCM, 505 samples each.
fn ima_adpcm() -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x14\0\0\0\x11\0\x01\0".to_vec();
    file.extend(8000u32.to_le_bytes());
    file.extend(4055u32.to_le_bytes());
    file.extend([0, 1, 4, 0, 2, 0]);
    file.extend(505u16.to_le_bytes());
    file.extend(b"data");
    file.extend(512u32.to_le_bytes());
    for block in 0..2u8 {
        file.extend([0, block, 20, 0]);
        file.extend((0..252).map(|at: u8| at.wrapping_mul(29) ^ block));
    }
    let size = (file.len() as u32 - 8).to_le_bytes();
    file[4..8].copy_from_slice(&size);
    file
}

impl Fixture {
    fn find(&self, part: Range<u64>) -> Option<Vec<f32>> {
        self.find_channel(part, None)
    }

    fn find_channel(&self, samples: Range<u64>, channel: Option<u16>) -> Option<Vec<f32>> {
        let part = Part { samples, channel };
        let found = self.recordings.find(&self.audio, &self.wanted, &part);
        found.unwrap().map(|heard| heard.samples)
    }

    fn expect(&self, part: Range<u64>) {
        let samples = &self.samples[part.start as usize..part.end as usize];
        assert_eq!(self.find(part).as_deref(), Some(samples));
    }

    fn known(&self) -> PathBuf {
        let entry = self.recordings.entry(&self.wanted.digest);
        let known = entry.lock().unwrap();
        known.as_ref().unwrap().path.clone()
    }
}

#[test]
fn a_plain_recording_is_sought_where_it_lies_and_verified_again_when_it_changes() {
    let fixture = fixture(false);
    fixture.expect(100..200);
    assert_eq!(fixture.known(), fixture.wanted.path);
    fixture.expect(900..1000);
    // Bytes that a second reading in full would find changed and a reading of the segment would not.
    let mut other = fs::read(&fixture.wanted.path).unwrap();
    let last = other.len() - 1;
    other[last] ^= 1;
    fs::write(&fixture.wanted.path, &other).unwrap();
    assert_eq!(fixture.find(100..200), None);
    other[last] ^= 1;
    fs::write(&fixture.wanted.path, &other).unwrap();
    fixture.expect(100..200);
}

#[test]
fn a_packed_recording_is_unpacked_once_and_its_copy_is_verified() {
    let fixture = fixture(true);
    assert_eq!(fixture.samples.len(), 1010);
    fixture.expect(300..700);
    let copy = fixture.known();
    assert!(copy.starts_with(fixture.dir.path().join("cache")));
    // From the copy alone.
    fs::remove_file(&fixture.wanted.path).unwrap();
    fixture.expect(0..1010);
    let config = CacheConfig::new(fixture.dir.path().join("cache"));
    let again = Fixture {
        recordings: Recordings::open(&config).unwrap(),
        ..fixture
    };
    again.expect(1..2);
    let mut damaged = fs::read(&copy).unwrap();
    damaged[60] ^= 1;
    fs::write(&copy, damaged).unwrap();
    let once_more = Fixture {
        recordings: Recordings::open(&config).unwrap(),
        ..again
    };
    assert_eq!(once_more.find(1..2), None);
}

#[test]
fn channels_are_told_apart_in_plain_and_packed_recordings() {
    let coded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../speech/testdata/coded");
    let packed = fs::read(coded.join("stereo.flac")).unwrap();
    let channel = |bytes: &[u8], channel| {
        let heard = audio::decode_part("t", bytes, None, channel);
        heard.map(|heard| heard.audio)
    };
    let [left, right] = [0, 1].map(|it| channel(&packed, Some(it)).unwrap().samples);
    assert_ne!(left, right);
    let mut plain = audio::float_header(8000, 2 * left.len() as u64).to_vec();
    plain[58] = 2;
    plain[60 + 4..60 + 8].copy_from_slice(&64_000u32.to_le_bytes());
    plain[68] = 8;
    plain[36..44].copy_from_slice(&(left.len() as u64).to_le_bytes());
    plain.extend(
        left.iter()
            .zip(&right)
            .flat_map(|(left, right)| [left.to_le_bytes(), right.to_le_bytes()].concat()),
    );
    for bytes in [packed, plain] {
        let mean = channel(&bytes, None).unwrap().samples;
        let mut fixture = fixture(false);
        fs::write(&fixture.wanted.path, &bytes).unwrap();
        fixture.wanted.bytes = bytes.len() as u64;
        fixture.wanted.digest = *blake3::hash(&bytes).as_bytes();
        // The second time from what was kept, also by another process.
        for _ in 0..2 {
            for (channel, samples) in [(None, &mean), (Some(0), &left), (Some(1), &right)] {
                for _ in 0..2 {
                    let found = fixture.find_channel(3..40, channel);
                    assert_eq!(found.as_deref(), Some(&samples[3..40]), "{channel:?}");
                }
            }
            let part = Part {
                samples: 3..40,
                channel: Some(2),
            };
            let error = fixture
                .recordings
                .find(&fixture.audio, &fixture.wanted, &part)
                .unwrap_err();
            assert!(matches!(error, AudioError::NoChannel { .. }), "{error}");
            let config = CacheConfig::new(fixture.dir.path().join("cache"));
            fixture.recordings = Recordings::open(&config).unwrap();
        }
    }
}

#[test]
fn what_lies_before_the_damage_of_a_packed_recording_is_heard() {
    let mut fixture = fixture(true);
    let coded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../speech/testdata/coded");
    let mut bytes = fs::read(coded.join("chirp.mp3")).unwrap();
    let whole = audio::decode("chirp.mp3", &bytes).unwrap().samples;
    // The side information of the last frame announces more values than a frame has.
    let headers = bytes.windows(2);
    let last = headers.rev().position(|two| two == [0xff, 0xf3]);
    let last = bytes.len() - 2 - last.unwrap();
    bytes[last + 4..last + 13].fill(0xff);
    fs::write(&fixture.wanted.path, &bytes).unwrap();
    fixture.wanted.bytes = bytes.len() as u64;
    fixture.wanted.digest = *blake3::hash(&bytes).as_bytes();
    assert!(audio::decode("chirp.mp3", &bytes).is_err());
    assert_eq!(fixture.find(3..40).as_deref(), Some(&whole[3..40]));
    let behind = Part {
        samples: whole.len() as u64 - 1..whole.len() as u64,
        channel: None,
    };
    let found = fixture
        .recordings
        .find(&fixture.audio, &fixture.wanted, &behind);
    assert!(found.is_err());
}

#[test]
fn what_was_fetched_is_sought_in_the_cache() {
    let fixture = fixture(false);
    let bytes = fs::read(&fixture.wanted.path).unwrap();
    fs::remove_file(&fixture.wanted.path).unwrap();
    assert_eq!(fixture.find(5..10), None);
    fixture.audio.keep(&fixture.wanted, &bytes);
    let part = Part {
        samples: 5..10,
        channel: None,
    };
    let heard = fixture
        .recordings
        .decode(&fixture.audio, &fixture.wanted, &bytes, &part)
        .unwrap();
    assert_eq!(heard.samples, fixture.samples[5..10]);
    assert_eq!(fixture.known(), fixture.audio.kept_path(&fixture.wanted));
    fixture.expect(10..20);
}
