//! Coded recordings against what libsndfile makes of them (`testdata/coded.py`), whole, in segments and damaged.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// The files in `testdata/coded`, and the greatest difference to libsndfile's samples, which are rounded to
/// 16 bits: 0 where nothing may be lost.
const FILES: [(&str, f32); 11] = [
    ("chirp.flac", 0.0),
    ("stereo.flac", 0.6 / 32_768.0),
    ("chirp.ogg", 1.1 / 32_768.0),
    ("chirp.mp3", 1.1 / 32_768.0),
    ("ulaw.wav", 0.0),
    ("alaw.wav", 0.0),
    // The sum of shifted steps in one, one product in the other; the difference adds up over a block.
    ("ima.wav", 16.0 / 32_768.0),
    // A shift in one, a division in the other.
    ("ms.wav", 16.0 / 32_768.0),
    ("extensible.wav", 0.0),
    ("double.wav", 0.6 / 32_768.0),
    ("chirp.sph", 0.0),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/coded")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("a file of the tests")
}

/// libsndfile's samples, channels averaged.
fn reference(name: &str, channels: u16) -> Vec<f32> {
    let pcm = bytes(&format!("{name}.pcm"));
    let (pairs, _) = pcm.as_chunks();
    let samples = pairs
        .iter()
        .map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0);
    mix_down(samples.collect(), usize::from(channels))
}

#[test]
fn every_form_gives_the_samples_that_libsndfile_gives() {
    for (name, tolerance) in FILES {
        let info = inspect(&path(name)).expect(name);
        let audio = read(&path(name)).expect(name);
        let wanted = reference(name, info.channels);
        assert_eq!(info.sample_rate, 16_000, "{name}");
        assert_eq!(info.frames, audio.samples.len() as u64, "{name}");
        assert_eq!(audio.samples.len(), wanted.len(), "{name}");
        let worst = audio
            .samples
            .iter()
            .zip(&wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            worst <= tolerance,
            "{name}: {} of 1/32768",
            worst * 32_768.0
        );
        assert_eq!(decode(name, &bytes(name)).expect(name), audio);
        assert_eq!(inspect_bytes(name, &bytes(name)).expect(name), info);
    }
}

#[test]
fn a_segment_is_that_part_of_the_whole_to_the_bit() {
    for (name, _) in FILES {
        let whole = read(&path(name)).expect(name).samples;
        let end = whole.len() as u64;
        for part in [0..1, 0..end, 100..333, end - 3..end] {
            let cut = &whole[part.start as usize..part.end as usize];
            let from_file = read_segment(&path(name), part.clone()).expect(name);
            assert_eq!(from_file.samples, cut, "{name} {part:?}");
            let from_memory = decode_segment(name, &bytes(name), part).expect(name);
            assert_eq!(from_memory, from_file);
        }
        for part in [5..5, 0..end + 1, end..end + 1, u64::MAX - 1..u64::MAX] {
            let error = read_segment(&path(name), part.clone()).expect_err(name);
            assert!(matches!(error, AudioError::Segment { .. }), "{error}");
            decode_segment(name, &bytes(name), part).expect_err(name);
        }
    }
}

#[test]
fn an_utterance_is_its_segment_or_all_of_its_recording() {
    let utterance = |offset, duration| Utterance {
        id: "a".to_owned(),
        audio: path("chirp.flac"),
        offset,
        duration,
        text: String::new(),
        speaker: None,
    };
    let whole = read(&path("chirp.flac")).expect("a recording").samples;
    let all = read_utterance(&utterance(0.0, 0.13)).expect("all of it");
    assert_eq!(all.samples, whole);
    let part = read_utterance(&utterance(0.05, 0.025)).expect("a part");
    assert_eq!(part.samples, whole[800..1200]);
    let error = read_utterance(&utterance(3.0, 1.0)).expect_err("behind its end");
    assert!(matches!(error, AudioError::Segment { .. }), "{error}");
}

#[test]
fn what_a_file_is_does_not_follow_from_its_name() {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, _) in FILES {
        let renamed = folder.path().join("song.txt");
        fs::write(&renamed, bytes(name)).expect("writable");
        assert_eq!(read(&renamed).expect(name), read(&path(name)).expect(name));
    }
    let mut tagged = b"ID3\x04\0\0\0\0\0\x20".to_vec();
    tagged.extend([0; 32]);
    tagged.extend(bytes("chirp.mp3"));
    let plain = decode("t", &bytes("chirp.mp3")).expect("an MP3");
    assert_eq!(decode("t", &tagged).expect("a tagged MP3"), plain);
    // A tag of the old kind, at the end.
    tagged.extend(b"TAG");
    tagged.extend([b' '; 125]);
    assert_eq!(decode("t", &tagged).expect("with two tags"), plain);
}

#[test]
fn a_file_cut_short_is_an_error_that_names_it() {
    for name in [
        "chirp.flac",
        "chirp.ogg",
        "chirp.mp3",
        "chirp.sph",
        "ima.wav",
    ] {
        let whole = bytes(name);
        for length in [1, 3, 20, 60, whole.len() / 3, whole.len() - 300] {
            if name.ends_with("mp3") && length > whole.len() / 3 {
                // One frame more or less is nothing that its header is sure of.
                continue;
            }
            let error = decode(name, &whole[..length]).expect_err(name);
            let text = error.to_string();
            assert!(text.starts_with(&format!("{name}: ")), "{text}");
            // A header of FLAC says how long it lasts, and no more is read.
            if let Ok(info) = inspect_bytes(name, &whole[..length]) {
                assert_eq!((name, info.frames), ("chirp.flac", 2000));
            }
        }
    }
}

#[test]
fn silence_that_unpacks_to_more_than_a_file_of_its_size_may_is_refused() {
    // Sixty thousand samples of silence in each frame of FLAC: one constant subframe.
    let mut file = bytes("chirp.flac");
    file.truncate(42);
    file[4] |= 0x80;
    for block in [8, 10] {
        file[block..block + 2].copy_from_slice(&60_000u16.to_be_bytes());
    }
    // How long it lasts is left open.
    file[21] &= 0xf0;
    file[22..26].fill(0);
    for number in 0..100u8 {
        // A fixed size of blocks, given behind the number in 16 bits; rate as said, mono, 16 bits.
        let mut frame = vec![0xff, 0xf8, 0x70, 0x08, number];
        frame.extend(59_999u16.to_be_bytes());
        frame.push(crc(&frame, 0x07, 8) as u8);
        frame.extend([0, 0, 0]);
        frame.extend(crc(&frame, 0x8005, 16).to_be_bytes());
        file.extend(frame);
    }
    let error = decode("silence.flac", &file).expect_err("too long");
    assert!(matches!(error, AudioError::TooLong { .. }), "{error}");
    let start = decode_segment("silence.flac", &file, 0..70_000).expect("its beginning");
    assert_eq!(start.samples, [0.0; 70_000]);
}

#[test]
fn a_flac_file_with_more_samples_than_its_header_announces_is_refused() {
    // Found by fuzzing: it was as long as its header said when inspected, and longer when it was read.
    let mut file = bytes("chirp.flac");
    file[24..26].copy_from_slice(&270u16.to_be_bytes());
    assert_eq!(inspect_bytes("f", &file).expect("a header").frames, 270);
    let message = "f: malformed: its header announces 270 samples and it holds more: write it again with another program";
    for read in [decode("f", &file), decode_segment("f", &file, 300..301)] {
        let error = read.map(|audio| audio.samples.len()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn an_mp3_file_that_unpacks_to_no_amplitudes_is_refused() {
    // Found by fuzzing: nothing in the format keeps a gain from being the greatest there is.
    let mut file = bytes("chirp.mp3");
    let headers: Vec<usize> = file
        .windows(3)
        .enumerate()
        .filter(|(_, three)| *three == [0xff, 0xf3, 0x88])
        .map(|(at, _)| at)
        .collect();
    // The first frame has no sound. Behind a frame's header: 8 bits of a place, one of anybody's, twelve
    // and nine of lengths, and then the gain.
    for at in &headers[1..] {
        file[at + 7] |= 0x03;
        file[at + 8] |= 0xfc;
    }
    let error = decode("loud.mp3", &file)
        .map(|audio| audio.samples.len())
        .unwrap_err();
    assert!(matches!(error, AudioError::BadSample { .. }), "{error}");
}

/// The checksums of FLAC: no reflection, from 0.
fn crc(bytes: &[u8], polynomial: u32, bits: u32) -> u16 {
    let top = 1 << (bits - 1);
    let mut value = 0u32;
    for byte in bytes {
        value ^= u32::from(*byte) << (bits - 8);
        for _ in 0..8 {
            let carry = value & top != 0;
            value <<= 1;
            if carry {
                value ^= polynomial;
            }
        }
        value &= (1u32 << bits) - 1;
    }
    value as u16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_damaged_file_panics_or_unpacks_without_bound(
        file in prop::sample::select(FILES.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut file = bytes(file.0);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(length.index(file.len()) + 1);
        if let Ok(audio) = decode("t", &file) {
            prop_assert!(audio.samples.len() <= 1024 * file.len() + (1 << 20));
        }
    }
}
