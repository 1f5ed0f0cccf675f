//! MP3 with and without a tag that counts its frames, with foreign bytes around them, joined and cut.

use super::*;

fn bytes(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/coded");
    fs::read(folder.join(name)).expect("a file of the tests")
}

/// `chirp.mp3` has a tag of LAME's, `untagged.mp3` has none.
fn tagged() -> Vec<u8> {
    bytes("chirp.mp3")
}

fn untagged() -> Vec<u8> {
    bytes("untagged.mp3")
}

fn id3(content: usize) -> Vec<u8> {
    let mut tag = b"ID3\x03\0\0\0\0".to_vec();
    tag.extend([(content >> 7) as u8, (content & 127) as u8]);
    // A picture whose bytes look like frames.
    tag.extend([0xff, 0xf3, 0x88, 0xc4].iter().cycle().take(content));
    tag
}

fn ape(content: usize) -> Vec<u8> {
    let part = |flags: u32| {
        let mut head = b"APETAGEX".to_vec();
        head.extend(2000u32.to_le_bytes());
        head.extend((content as u32 + 32).to_le_bytes());
        head.extend(1u32.to_le_bytes());
        head.extend(flags.to_le_bytes());
        head.extend([0; 8]);
        head
    };
    let mut tag = part(0xa000_0000);
    tag.extend((0..content).map(|n| (n * 89) as u8));
    tag.extend(part(0x8000_0000));
    tag
}

/// The old kind.
fn id3v1() -> Vec<u8> {
    let mut tag = b"TAG".to_vec();
    tag.resize(128, b' ');
    tag
}

/// Bytes that are nothing, among them what looks like the beginning of a frame.
fn junk(count: usize) -> Vec<u8> {
    let bytes = (0..count).map(|n| (n * n * 7 % 251) as u8);
    bytes.chain([0xff, 0xf3, 0x88, 0xc4, 3, 1]).collect()
}

/// Decodes `file` and holds that it is inspected to the same length.
fn heard(file: &[u8]) -> Vec<f32> {
    let audio = decode("t.mp3", file).expect("a good file");
    let info = inspect_bytes("t.mp3", file).expect("a good file");
    assert_eq!(info.frames, audio.samples.len() as u64);
    audio.samples
}

#[test]
fn what_stands_before_and_behind_the_frames_is_passed_over() {
    for plain in [tagged(), untagged()] {
        let wanted = heard(&plain);
        for before in [
            id3(300),
            [id3(5), id3(700)].concat(),
            ape(90),
            [id3(64), ape(10), id3(0)].concat(),
            junk(500),
            // Padding that the tag's length does not count.
            [id3(30), vec![0; 77]].concat(),
        ] {
            let file = [&before[..], &plain].concat();
            assert_eq!(heard(&file), wanted, "{} bytes before", before.len());
        }
        for behind in [
            id3v1(),
            ape(2000),
            [ape(300), id3v1()].concat(),
            id3(400),
            vec![0; 5000],
            junk(700),
            b"LYRICSBEGINand so onLYRICSEND".to_vec(),
        ] {
            let file = [&plain[..], &behind].concat();
            assert_eq!(heard(&file), wanted, "{} bytes behind", behind.len());
        }
    }
}

#[test]
fn joined_files_are_read_each_with_its_own_delay() {
    let (first, second) = (tagged(), untagged());
    let (a, b) = (heard(&first), heard(&second));
    assert_eq!(a.len(), 2000);
    let between = [id3v1(), id3(100)].concat();
    // Where a decoder is not told of the seam, its memory of the first file fades into the second.
    assert_eq!(heard(&[&first[..], &first].concat()), [&a[..], &a].concat());
    assert_eq!(
        heard(&[&first[..], &between, &first].concat()),
        [&a[..], &a].concat()
    );
    assert_eq!(
        heard(&[&second[..], &first].concat()),
        [&b[..], &a].concat()
    );
    assert_eq!(
        heard(&[&first[..], &second].concat()).len(),
        a.len() + b.len()
    );
    assert_eq!(heard(&[&second[..], &second].concat()).len(), 2 * b.len());
}

#[test]
fn only_a_count_in_a_tag_is_an_announcement() {
    // Six frames of 576 samples each in the file without a tag.
    let plain = untagged();
    let whole = heard(&plain);
    assert_eq!(whole.len(), 6 * 576);
    // What is left of a frame is passed over.
    assert_eq!(heard(&plain[..plain.len() - 1]), whole[..5 * 576]);
    let tagged = tagged();
    let frames: Vec<usize> = tagged
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four[..2] == [0xff, 0xf3] && four[2] & 0x0c == 8 && four[3] == 0xc4)
        .map(|(at, _)| at)
        .collect();
    // One frame more or less is nothing that encoders agree on, two are missing.
    let last = frames[frames.len() - 1];
    decode("t.mp3", &tagged[..last]).expect("one frame less");
    let cut = &tagged[..frames[frames.len() - 2]];
    let error = decode("t.mp3", cut).expect_err("cut short").to_string();
    assert!(error.contains("cut short"), "{error}");
    assert_eq!(
        inspect_bytes("t.mp3", cut).expect_err("cut").to_string(),
        error
    );
    // Nobody came back to count.
    let mut uncounted = tagged.clone();
    let count = tagged
        .windows(4)
        .position(|four| four == b"Info" || four == b"Xing");
    let count = count.expect("a tag") + 8;
    uncounted[count..count + 4].fill(0);
    assert_eq!(heard(&uncounted).len(), 2000);
}

#[test]
fn a_stream_that_changes_on_the_way_is_refused_wherever_it_is_read() {
    // The same frames at another sampling rate: 22,050 Hz.
    let plain = untagged();
    let mut other = Vec::new();
    for _ in 0..6 {
        let mut frame = vec![0xff, 0xf3, 0x40, 0xc4];
        frame.resize(72 * 32_000 / 22_050, 0);
        other.extend(frame);
    }
    decode("t.mp3", &other).expect("silence");
    let file = [&plain[..], &other].concat();
    let error = decode("t.mp3", &file).expect_err("changes").to_string();
    assert!(error.contains("change"), "{error}");
    assert_eq!(
        inspect_bytes("t.mp3", &file)
            .expect_err("changes")
            .to_string(),
        error
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn foreign_bytes_between_frames_change_no_length_that_is_told(
        at in any::<prop::sample::Index>(),
        foreign in prop::collection::vec(any::<u8>(), 0..300),
        is_tagged in any::<bool>(),
    ) {
        let mut file = if is_tagged { tagged() } else { untagged() };
        let at = at.index(file.len());
        file.splice(at..at, foreign);
        let info = inspect_bytes("t.mp3", &file);
        if let (Ok(info), Ok(audio)) = (info, decode("t.mp3", &file)) {
            prop_assert_eq!(info.frames, audio.samples.len() as u64);
        }
    }
}
