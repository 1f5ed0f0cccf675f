//! Coded recordings against what libsndfile makes of them (`testdata/coded.py`), or ffmpeg (`testdata/containers.py`),
//! whole, in segments and damaged.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// The files in `testdata/coded`, and the greatest difference to the samples of others, which are rounded to
/// 16 bits: 0 where nothing may be lost.
const FILES: [(&str, f32); 31] = [
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
    ("rf64.wav", 0.0),
    ("wave64.w64", 0.0),
    ("chirp.aiff", 0.0),
    ("sowt.aifc", 0.0),
    ("float.aifc", 0.0),
    ("chirp.caf", 0.0),
    ("mulaw.caf", 0.0),
    ("chirp.au", 0.0),
    ("mp3.wav", 1.1 / 32_768.0),
    ("chirp.mp2", 1.1 / 32_768.0),
    ("untagged.mp3", 1.1 / 32_768.0),
    // Integers in one, floats in the other.
    ("chirp.opus", 12.0 / 32_768.0),
    ("opus.webm", 12.0 / 32_768.0),
    ("opus-live.webm", 12.0 / 32_768.0),
    ("vorbis.webm", 1.1 / 32_768.0),
    ("flac.oga", 0.0),
    ("chirp.m4a", 1.1 / 32_768.0),
    ("alac.m4a", 0.0),
    ("alac.caf", 0.0),
    ("chirp.aac", 1.1 / 32_768.0),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/coded")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("a file of the tests")
}

/// The samples of others, channels averaged.
fn reference(name: &str, channels: u16) -> Vec<f32> {
    let pcm = bytes(&format!("{name}.pcm"));
    let (pairs, _) = pcm.as_chunks();
    let samples = pairs
        .iter()
        .map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0);
    let samples: Vec<f32> = samples.collect();
    let frames = samples.chunks_exact(usize::from(channels));
    frames
        .map(|frame| frame.iter().sum::<f32>() / f32::from(channels))
        .collect()
}

#[test]
fn every_form_gives_the_samples_that_other_decoders_give() {
    for (name, tolerance) in FILES {
        let info = inspect(&path(name)).expect(name);
        let audio = read(&path(name)).expect(name);
        let mut wanted = reference(name, info.channels);
        if name == "chirp.m4a" {
            // ffmpeg leaves there what the encoder put behind the end.
            wanted.truncate(2000);
        }
        let rate = if name.contains("opus") {
            48_000
        } else {
            16_000
        };
        assert_eq!(info.sample_rate, rate, "{name}");
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
        channel: None,
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
            inspect_bytes(name, &whole[..length]).expect_err(name);
        }
    }
}

#[test]
fn blocks_are_the_recording_one_behind_the_other() {
    for (name, _) in FILES {
        let whole = read(&path(name)).expect(name);
        let mut from_file = AudioBlocks::open(&path(name), None).expect(name);
        let mut from_memory = AudioBlocks::of_bytes(name, bytes(name), Some(0)).expect(name);
        assert_eq!(from_file.rate(), whole.sample_rate);
        let mut samples = Vec::new();
        while let Some(block) = from_file.read().expect(name) {
            samples.extend(block);
        }
        assert_eq!(samples, whole.samples, "{name}");
        let mut first = 0;
        while let Some(block) = from_memory.read().expect(name) {
            first += block.len();
        }
        assert_eq!(first, samples.len(), "{name}");
    }
}

#[test]
fn segments_of_one_recording_are_its_parts_in_any_order() {
    for (name, _) in FILES {
        let file = path(name);
        let whole = read(&file).expect(name).samples;
        let end = whole.len() as u64;
        let parts = [end - 5..end, 0..10, 100..333, 7..8, 50..end];
        let segments = Segments::of(parts.iter().map(|_| (file.as_path(), None)));
        for part in parts {
            let heard = segments.read(&file, Some(part.clone()), None).expect(name);
            let wanted = &whole[part.start as usize..part.end as usize];
            assert_eq!(heard.audio.samples, wanted, "{name} {part:?}");
        }
        let segments = Segments::of([(file.as_path(), None); 3]);
        let error = segments
            .read(&file, Some(0..end + 1), None)
            .expect_err(name);
        assert!(matches!(error, AudioError::Segment { .. }), "{error}");
        assert_eq!(
            segments.read(&file, None, None).expect(name).audio.samples,
            whole
        );
    }
}

#[test]
fn of_a_damaged_recording_the_segments_before_the_damage_are_read() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("damaged.opus");
    let whole = bytes("chirp.opus");
    // Not marked as the last.
    let damaged = changed(&whole, |page, is_last| {
        page[5] &= if is_last { 0xfb } else { 0xff }
    });
    let whole = decode("whole", &whole).expect("a recording").samples;
    fs::write(&file, damaged).expect("writable");
    let segments = Segments::of([(file.as_path(), None); 3]);
    let heard = segments
        .read(&file, Some(10..20), None)
        .expect("its beginning");
    assert_eq!(heard.audio.samples, whole[10..20]);
    segments.read(&file, None, None).expect_err("all of it");
}

#[test]
fn files_of_ogg_that_were_joined_are_read_one_behind_the_other() {
    for name in ["chirp.ogg", "chirp.opus", "flac.oga"] {
        let once = decode(name, &bytes(name)).expect(name).samples;
        // Streams of a file have a number each, which the checksum of a page covers.
        let twice = [bytes(name), renumbered(&bytes(name))].concat();
        let both = decode(name, &twice).expect(name).samples;
        assert_eq!(both, [&once[..], &once].concat(), "{name}");
        let info = inspect_bytes(name, &twice).expect(name);
        assert_eq!(info.frames, both.len() as u64, "{name}");
    }
    let error = decode("mixed", &[bytes("chirp.ogg"), bytes("chirp.opus")].concat());
    let error = error.expect_err("two forms").to_string();
    assert!(error.contains("several recordings"), "{error}");
}

/// An Ogg file with another number for its stream.
fn renumbered(file: &[u8]) -> Vec<u8> {
    changed(file, |page, _| page[14] ^= 0x55)
}

/// An Ogg file whose pages `change` has changed, with the right checksums; it is told which is the last.
fn changed(file: &[u8], change: impl Fn(&mut [u8], bool)) -> Vec<u8> {
    let mut file = file.to_vec();
    let starts: Vec<usize> = file
        .windows(5)
        .enumerate()
        .filter(|(_, five)| *five == b"OggS\0")
        .map(|(at, _)| at)
        .collect();
    for (index, &at) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied();
        let stop = end.unwrap_or(file.len());
        let page = &mut file[at..stop];
        change(page, end.is_none());
        page[22..26].fill(0);
        let sum = page.iter().fold(0u32, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
                (sum << 1) ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
            })
        });
        page[22..26].copy_from_slice(&sum.to_le_bytes());
    }
    file
}

#[test]
fn flac_is_read_to_its_last_announced_sample_whatever_stands_behind() {
    let plain = bytes("chirp.flac");
    let wanted = decode("f", &plain).expect("a recording");
    let mut tag = b"TAG".to_vec();
    tag.resize(128, b' ');
    for behind in [tag, vec![0; 3000], b"APETAGEX and more".to_vec()] {
        let file = [&plain[..], &behind].concat();
        assert_eq!(decode("f", &file).expect("with a tag behind"), wanted);
        let info = inspect_bytes("f", &file).expect("a header");
        assert_eq!(info.frames, wanted.samples.len() as u64);
    }
    let mut flipped = plain.clone();
    let middle = plain.len() / 2;
    flipped[middle] ^= 0x10;
    let error = decode("f", &flipped).expect_err("damaged").to_string();
    assert!(
        error.contains("damaged") && !error.contains("cut short"),
        "{error}"
    );
}

#[test]
fn forms_that_are_not_read_are_named_wherever_they_are_met() {
    let ogg = |packet: &[u8]| {
        let mut page = b"OggS\0\x02".to_vec();
        page.resize(26, 0);
        page.extend([1, packet.len() as u8]);
        page.extend(packet);
        page
    };
    let boxed = |name: &[u8; 4], content: &[u8]| {
        let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(content);
        bytes
    };
    let amr = {
        let entry = boxed(b"samr", &[0; 28]);
        let described = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat();
        let table = boxed(b"stbl", &boxed(b"stsd", &described));
        let handler = [&[0; 8][..], b"soun", &[0; 12]].concat();
        let media = [
            boxed(b"mdhd", &[0; 24]),
            boxed(b"hdlr", &handler),
            boxed(b"minf", &table),
        ];
        let movie = boxed(b"moov", &boxed(b"trak", &boxed(b"mdia", &media.concat())));
        [boxed(b"ftyp", b"3gp4\0\0\0\0"), movie].concat()
    };
    for (file, name) in [
        (ogg(b"Speex   1.2rc1 and more"), "Ogg Speex"),
        (ogg(b"\x80theora and more"), "Ogg Theora video"),
        (amr, "MP4 with AMR"),
        (wav(0x31, 1, 8000, 8, &[0; 65]), "WAV with GSM 6.10"),
    ] {
        let error = decode("t", &file).expect_err(name).to_string();
        assert!(error.contains(&format!("t: {name} is not read")), "{error}");
        let inspected = inspect_bytes("t", &file).expect_err(name).to_string();
        assert_eq!(inspected, error);
    }
    let unfinished = boxed(b"ftyp", b"M4A \0\0\0\0mp42");
    let error = decode("t", &unfinished).expect_err("no index").to_string();
    assert!(error.contains("not finished"), "{error}");
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
    let message = "f: malformed: its header announces 270 samples and it holds more: write it again with another program";
    for read in [decode("f", &file), decode_segment("f", &file, 300..301)] {
        let error = read.map(|audio| audio.samples.len()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = inspect_bytes("f", &file).expect_err("more than its header says");
    assert_eq!(error.to_string(), message);
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
        let info = inspect_bytes("t", &file);
        if let Ok(audio) = decode("t", &file) {
            prop_assert!(audio.samples.len() <= 1024 * file.len() + (1 << 20));
            // What can be read can be inspected, to the same length.
            let info = info.map(|info| info.frames);
            prop_assert_eq!(info.expect("a header"), audio.samples.len() as u64);
        }
    }
}
