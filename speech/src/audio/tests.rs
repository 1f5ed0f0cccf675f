//! WAV files of every kind that is read and of every kind that is refused, made here byte by byte.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod coded;
mod mpeg;
mod plain;

/// A RIFF WAVE file of one fmt chunk and `data`, with the sizes that it really has.
fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits.div_ceil(8);
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(rate.to_le_bytes());
    fmt.extend((rate * u32::from(block)).to_le_bytes());
    fmt.extend(block.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    riff(&[(b"fmt ", &fmt), (b"data", data)])
}

fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WAVE".to_vec();
    for (name, bytes) in chunks {
        body.extend(*name);
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(*bytes);
        body.extend(&[0][..bytes.len() % 2]);
    }
    let mut file = b"RIFF".to_vec();
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}

fn pcm16(samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    wav(1, 1, 16_000, 16, &data)
}

fn decoded(bytes: &[u8]) -> Vec<f32> {
    decode("t.wav", bytes).expect("a good file").samples
}

fn refused(bytes: &[u8]) -> AudioError {
    let error = decode("dir/t.wav", bytes).expect_err("a bad file");
    let text = error.to_string();
    assert!(text.starts_with("dir/t.wav: "), "no path: {text}");
    // A file says the same as the bytes in memory, and its header alone says as much where samples are
    // not looked at.
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("t.wav");
    fs::write(&path, bytes).expect("writable");
    let from_file = read(&path).expect_err("a bad file").to_string();
    assert_eq!(
        from_file.rsplit("t.wav: ").next(),
        text.rsplit("t.wav: ").next()
    );
    if !matches!(error, AudioError::BadSample { .. }) {
        inspect(&path).expect_err("a bad header");
    }
    error
}

#[test]
fn every_width_of_integers_and_floats_is_read_on_one_scale() {
    assert_eq!(
        decoded(&wav(1, 1, 8000, 8, &[0, 64, 128, 192])),
        [-1.0, -0.5, 0.0, 0.5]
    );
    assert_eq!(
        decoded(&pcm16(&[i16::MIN, -16384, 0, 16384])),
        [-1.0, -0.5, 0.0, 0.5]
    );
    let bytes24 = [0, 0, 0x80, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0x40];
    assert_eq!(
        decoded(&wav(1, 1, 8000, 24, &bytes24)),
        [-1.0, -0.5, 0.0, 0.5]
    );
    let bytes32: Vec<u8> = [i32::MIN, -(1 << 30), 0, 1 << 30]
        .iter()
        .flat_map(|s: &i32| s.to_le_bytes())
        .collect();
    assert_eq!(
        decoded(&wav(1, 1, 8000, 32, &bytes32)),
        [-1.0, -0.5, 0.0, 0.5]
    );
    let floats: Vec<u8> = [-1.0f32, -0.5, 0.0, 0.5]
        .iter()
        .flat_map(|s| s.to_le_bytes())
        .collect();
    assert_eq!(
        decoded(&wav(3, 1, 8000, 32, &floats)),
        [-1.0, -0.5, 0.0, 0.5]
    );
}

#[test]
fn channels_are_averaged_however_many_there_are() {
    let data: Vec<u8> = [100i16, 300, -8, 0]
        .iter()
        .flat_map(|s| s.to_le_bytes())
        .collect();
    assert_eq!(
        decoded(&wav(1, 2, 44_100, 16, &data)),
        [200.0 / 32768.0, -4.0 / 32768.0]
    );
    assert_eq!(decoded(&wav(1, 4, 44_100, 16, &data)), [98.0 / 32768.0]);
    let nine = wav(1, 9, 44_100, 8, &[228; 18]);
    assert_eq!(decoded(&nine), [100.0 / 128.0; 2]);
}

#[test]
fn an_extensible_header_is_read_and_fewer_valid_bits_are_left_justified() {
    let mut fmt = wav(0xfffe, 1, 8000, 32, &[])[20..36].to_vec();
    fmt.extend(22u16.to_le_bytes());
    fmt.extend(24u16.to_le_bytes());
    fmt.extend(4u32.to_le_bytes());
    fmt.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    let data = (1i32 << 30).to_le_bytes();
    assert_eq!(decoded(&riff(&[(b"fmt ", &fmt), (b"data", &data)])), [0.5]);
}

#[test]
fn foreign_chunks_are_stepped_over_even_of_odd_length() {
    let plain = pcm16(&[1, 2, 3]);
    let (fmt, data) = (&plain[20..36], &plain[44..]);
    let file = riff(&[
        (b"LIST", b"odd"),
        (b"fmt ", fmt),
        (b"fact", b"eight by"),
        (b"data", data),
        (b"id3 ", b"tags"),
    ]);
    assert_eq!(decoded(&file), decoded(&plain));
}

#[test]
fn a_header_is_inspected_without_its_samples() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("a.wav");
    fs::write(&path, wav(1, 2, 22_050, 16, &[0; 400])).expect("writable");
    let info = inspect(&path).expect("a good header");
    let wanted = AudioInfo {
        sample_rate: 22_050,
        channels: 2,
        frames: 100,
    };
    assert_eq!(info, wanted);
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("a.wav");
    let audio = Audio {
        sample_rate: 11_025,
        samples: (-300..300).map(|n| (n * 109) as f32 / 32768.0).collect(),
    };
    write_wav(&path, &audio).expect("writable");
    assert_eq!(read(&path).expect("just written"), audio);
    let loud = Audio {
        sample_rate: 8000,
        samples: vec![2.0, -2.0],
    };
    write_wav(&path, &loud).expect("writable");
    assert_eq!(
        read(&path).expect("just written").samples,
        [32767.0 / 32768.0, -1.0]
    );
}

#[test]
fn a_header_of_floats_leads_to_these_floats_and_no_further() {
    let samples = [0.1f32, -0.3, 1.5, 0.0];
    let mut file = float_header(22_050, 4).to_vec();
    file.extend(samples.iter().flat_map(|value| value.to_le_bytes()));
    file.extend([7; 32]);
    assert_eq!(decoded(&file), samples);
    let info = inspect_bytes("t.wav", &file).expect("a header");
    assert_eq!((info.frames, info.sample_rate), (4, 22_050));
    // Beyond what 32 bits count, and cut.
    let long = float_header(16_000, 1 << 40);
    assert!(matches!(refused(&long), AudioError::Truncated { .. }));
}

#[test]
fn what_cannot_be_written_leaves_no_file() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("a.wav");
    let write = |sample_rate, samples| {
        write_wav(
            &path,
            &Audio {
                sample_rate,
                samples,
            },
        )
    };
    assert!(matches!(
        write(8000, vec![]),
        Err(AudioError::NoSamples { .. })
    ));
    assert!(matches!(
        write(0, vec![0.0]),
        Err(AudioError::Rate { rate: 0, .. })
    ));
    let nan = write(8000, vec![0.0, f32::NAN]);
    assert!(matches!(nan, Err(AudioError::BadSample { index: 1, .. })));
    assert!(!path.exists());
    let nowhere = folder.path().join("no/such/folder/a.wav");
    let audio = Audio {
        sample_rate: 8000,
        samples: vec![0.0],
    };
    assert!(matches!(
        write_wav(&nowhere, &audio),
        Err(AudioError::Write { .. })
    ));
}

#[test]
fn a_missing_file_and_a_folder_are_told_apart() {
    let folder = TempDir::new().expect("a temporary folder");
    let missing = folder.path().join("missing.wav");
    let error = read(&missing).expect_err("missing");
    assert!(matches!(error, AudioError::Missing { .. }));
    assert!(
        error.to_string().contains("missing.wav: no such file"),
        "{error}"
    );
    assert!(matches!(inspect(&missing), Err(AudioError::Missing { .. })));
    assert!(matches!(
        read(folder.path()),
        Err(AudioError::NotAFile { .. })
    ));
}

#[test]
fn an_empty_file_and_a_recording_without_samples_are_told_apart() {
    assert!(matches!(refused(b""), AudioError::Empty { .. }));
    assert!(matches!(refused(&pcm16(&[])), AudioError::NoSamples { .. }));
}

#[test]
fn a_file_that_is_no_recording_is_named_for_what_it_is() {
    let found = |bytes: &[u8]| match refused(bytes) {
        AudioError::NotAudio { found, .. } => found,
        other => panic!("{other}"),
    };
    assert_eq!(found(b"six\n"), "a text file");
    assert_eq!(found(b"hello, this is the transcript\n"), "a text file");
    assert_eq!(
        found("\u{fe}\u{0}binary".as_bytes()),
        "a file of an unknown kind"
    );
    assert_eq!(found(b"#!AMR\n\x3c\x01"), "an AMR file");
    assert_eq!(
        found(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6"),
        "a WMA file (ASF)"
    );
    let tagged = b"ID3\x04\0\0\0\0\0\x02..what is this?";
    assert_eq!(found(tagged), "something unknown behind a tag");
    assert_eq!(found(b"RIFF\x04\0\0\0AVI "), "an AVI file");
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_in_its_samples_a_truncation() {
    let whole = pcm16(&[7; 1000]);
    for length in 1..whole.len() {
        let error = decode("t.wav", &whole[..length]).expect_err("cut");
        match error {
            AudioError::Truncated {
                held, announced, ..
            } => {
                assert_eq!(held, length as u64);
                assert!(announced > held);
            }
            other => panic!("cut at {length}: {other}"),
        }
    }
    assert!(matches!(
        refused(&whole[..500]),
        AudioError::Truncated {
            announced: 2044,
            held: 500,
            ..
        }
    ));
}

#[test]
fn a_header_that_claims_more_than_the_file_holds_is_not_believed() {
    let mut lying = pcm16(&[7; 100]);
    lying[40..44].copy_from_slice(&4_000_000u32.to_le_bytes());
    assert!(matches!(
        refused(&lying),
        AudioError::ClaimsMore {
            claimed: 4_000_000,
            held: 200,
            ..
        }
    ));
}

#[test]
fn sizes_that_pipes_write_are_not_lengths() {
    let whole = pcm16(&[7; 100]);
    // ffmpeg, GStreamer; sox; arecord; others, less their header.
    for size in [
        u32::MAX,
        u32::MAX - 36,
        0x7fff_f000,
        0x7fff_ffff,
        0x8000_0000,
        0,
    ] {
        for outer in [size, size.wrapping_add(36)] {
            let mut piped = whole.clone();
            piped[4..8].copy_from_slice(&outer.to_le_bytes());
            piped[40..44].copy_from_slice(&size.to_le_bytes());
            assert_eq!(decoded(&piped), decoded(&whole), "{size:#x}");
            let info = inspect_bytes("t.wav", &piped).expect("a header");
            assert_eq!(info.frames, 100, "{size:#x}");
            // A last frame that is not whole.
            piped.push(1);
            assert_eq!(decoded(&piped), decoded(&whole), "{size:#x}");
        }
    }
    // Nothing, and nothing but other chunks.
    let mut none = pcm16(&[]);
    none[4..8].fill(0);
    assert!(matches!(refused(&none), AudioError::NoSamples { .. }));
    let fmt = whole[20..36].to_vec();
    let listed = riff(&[(b"fmt ", &fmt), (b"data", b""), (b"LIST", b"INFOISFT")]);
    assert!(matches!(refused(&listed), AudioError::NoSamples { .. }));
}

#[test]
fn what_is_left_of_a_frame_at_the_end_is_passed_over() {
    for (channels, bits) in [(1, 16), (2, 16), (1, 24), (2, 24), (1, 32), (3, 8)] {
        let frame = usize::from(channels * bits / 8);
        let data: Vec<u8> = (0..10 * frame).map(|n| (n * 37) as u8).collect();
        let whole = wav(1, channels, 8000, bits, &data);
        for more in 1..frame {
            let mut data = data.clone();
            data.resize(10 * frame + more, 9);
            let odd = wav(1, channels, 8000, bits, &data);
            assert_eq!(decoded(&odd), decoded(&whole), "{channels} of {bits}");
        }
    }
}

#[test]
fn the_bits_and_not_the_block_align_say_how_samples_are_stored() {
    for bits in [8, 12, 16, 20, 24, 32] {
        let bytes = usize::from(bits).div_ceil(8);
        let data: Vec<u8> = (0..24 * bytes).map(|n| (n * 37) as u8).collect();
        let right = wav(1, 1, 8000, bits, &data);
        assert_eq!(decoded(&right).len(), 24);
        for block in [0, 1, 2, 3, 4, 6, 8] {
            let mut wrong = right.clone();
            wrong[32] = block;
            assert_eq!(decoded(&wrong), decoded(&right), "{bits} in {block}");
        }
    }
}

#[test]
fn rifx_is_wav_with_its_bytes_turned() {
    let plain = pcm16(&[1, -2, 300]);
    let mut file = b"RIFX".to_vec();
    file.extend(42u32.to_be_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_be_bytes());
    file.extend([0, 1, 0, 1]);
    file.extend(16_000u32.to_be_bytes());
    file.extend(32_000u32.to_be_bytes());
    file.extend([0, 2, 0, 16]);
    file.extend(b"data");
    file.extend(6u32.to_be_bytes());
    file.extend([1i16, -2, 300].iter().flat_map(|s| s.to_be_bytes()));
    assert_eq!(decoded(&file), decoded(&plain));
}

#[test]
fn a_channel_can_be_read_alone_and_cancelling_ones_are_noticed() {
    let data: Vec<u8> = (0..400)
        .map(|n| ((n * n * 31) % 20_000) as i16 - 10_000)
        .flat_map(|s| [s, -s])
        .flat_map(i16::to_le_bytes)
        .collect();
    let file = wav(1, 2, 8000, 16, &data);
    let mean = decode_part("t.wav", &file, None, None).expect("a good file");
    assert!(mean.cancels && mean.audio.samples.iter().all(|x| *x == 0.0));
    let left = decode_part("t.wav", &file, Some(3..9), Some(0)).expect("a channel");
    let right = decode_part("t.wav", &file, Some(3..9), Some(1)).expect("a channel");
    assert!(!left.cancels && !right.cancels);
    assert_eq!(left.audio.samples.len(), 6);
    let turned: Vec<f32> = left.audio.samples.iter().map(|x| -x).collect();
    assert_eq!(right.audio.samples, turned);
    let error = decode_part("t.wav", &file, None, Some(2)).expect_err("no third");
    assert!(error.to_string().contains("channel 2"), "{error}");
    let mut blocks = AudioBlocks::of_bytes("t.wav", file, None).expect("a good file");
    while blocks.read().expect("sound").is_some() {}
    assert!(blocks.cancels());
}

#[test]
fn other_encodings_are_named() {
    let encoding = |tag, bits| match refused(&wav(tag, 1, 8000, bits, &[0; 64])) {
        AudioError::Unsupported { encoding, .. } => encoding,
        other => panic!("{other}"),
    };
    assert_eq!(encoding(0x31, 8), "WAV with GSM 6.10");
    assert_eq!(encoding(7, 16), "WAV with 16-bit G.711");
    assert_eq!(encoding(3, 16), "WAV with 16-bit float");
    assert_eq!(encoding(1, 64), "WAV with 64-bit PCM");
    assert_eq!(encoding(0x161, 16), "WAV with WMA");
    assert_eq!(
        encoding(0x1234, 16),
        "WAV with an encoding with the tag 0x1234"
    );
}

#[test]
fn a_header_that_contradicts_itself_is_malformed() {
    let reason = |bytes: &[u8]| match refused(bytes) {
        AudioError::Malformed { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert!(reason(&wav(1, 0, 8000, 16, &[0; 4])).contains("zero channels"));
    assert!(reason(&wav(1, 1, 8000, 0, &[0; 6])).contains("zero bits"));
    let plain = pcm16(&[1, 2]);
    let (fmt, data) = (&plain[20..36], &plain[44..]);
    assert!(reason(&riff(&[(b"data", data), (b"fmt ", fmt)])).contains("before the fmt"));
    assert!(reason(&riff(&[(b"fmt ", fmt)])).contains("no data chunk"));
    assert!(reason(&riff(&[(b"fmt ", &fmt[..14]), (b"data", data)])).contains("14 bytes"));
    for rate in [0, 999, 500_000] {
        let error = refused(&wav(1, 1, rate, 16, &[0; 4]));
        assert!(matches!(error, AudioError::Rate { rate: named, .. } if named == rate));
    }
}

#[test]
fn a_float_that_is_no_amplitude_is_found() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let data: Vec<u8> = [0.0, 0.5, value]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let error = refused(&wav(3, 1, 8000, 32, &data));
        assert!(
            matches!(error, AudioError::BadSample { index: 2, .. }),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_damaged_header_panics_or_yields_more_samples_than_there_are_bytes(
        at in prop::collection::vec((0usize..60, any::<u8>()), 1..6),
        length in 0usize..120,
    ) {
        let mut file = pcm16(&[1234; 40]);
        for (at, byte) in at {
            file[at] = byte;
        }
        file.truncate(length);
        if let Ok(audio) = decode("t.wav", &file) {
            prop_assert!(audio.samples.len() <= file.len());
            prop_assert!(audio.samples.iter().all(|&x| is_amplitude(x)));
        }
    }
}
