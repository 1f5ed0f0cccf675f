//! Plain samples of random lengths, rates and encodings in every container that has them: all of them are read alike.

use super::*;

/// An encoding that a container has: its bytes from values on the scale of 32 bits, and whether they are big-endian.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Width {
    Integer(usize),
    Float,
}

fn samples(values: &[i32], width: Width, is_big: bool) -> Vec<u8> {
    let one = |value: &i32| match (width, is_big) {
        (Width::Integer(bytes), true) => value.to_be_bytes()[..bytes].to_vec(),
        (Width::Integer(bytes), false) => value.to_le_bytes()[4 - bytes..].to_vec(),
        (Width::Float, true) => (*value as f32 / 2_147_483_648.0).to_be_bytes().to_vec(),
        (Width::Float, false) => (*value as f32 / 2_147_483_648.0).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(one).collect()
}

fn bits(width: Width) -> u16 {
    match width {
        Width::Integer(bytes) => 8 * bytes as u16,
        Width::Float => 32,
    }
}

struct Sound<'a> {
    values: &'a [i32],
    channels: u16,
    rate: u32,
    width: Width,
}

impl Sound<'_> {
    fn block(&self) -> u16 {
        self.channels * bits(self.width) / 8
    }

    fn format(&self, is_big: bool) -> Vec<u8> {
        let tag: u16 = if self.width == Width::Float { 3 } else { 1 };
        let fields = [
            (u32::from(tag), 2),
            (u32::from(self.channels), 2),
            (self.rate, 4),
            (self.rate * u32::from(self.block()), 4),
            (u32::from(self.block()), 2),
            (u32::from(bits(self.width)), 2),
        ];
        let field = |(value, bytes): (u32, usize)| {
            if is_big {
                value.to_be_bytes()[4 - bytes..].to_vec()
            } else {
                value.to_le_bytes()[..bytes].to_vec()
            }
        };
        fields.into_iter().flat_map(field).collect()
    }

    fn riff(&self) -> Vec<u8> {
        let data = samples(self.values, self.width, false);
        riff(&[(b"fmt ", &self.format(false)), (b"data", &data)])
    }

    fn rifx(&self) -> Vec<u8> {
        let data = samples(self.values, self.width, true);
        let mut file = b"RIFX".to_vec();
        file.extend((36 + data.len() as u32).to_be_bytes());
        file.extend(b"WAVEfmt \0\0\0\x10");
        file.extend(self.format(true));
        file.extend(b"data");
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(data);
        file
    }

    fn rf64(&self, magic: &[u8; 4]) -> Vec<u8> {
        let data = samples(self.values, self.width, false);
        let mut file = magic.to_vec();
        file.extend(u32::MAX.to_le_bytes());
        file.extend(b"WAVEds64\x1c\0\0\0");
        file.extend((72 + data.len() as u64).to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        file.extend([0; 12]);
        file.extend(b"fmt \x10\0\0\0");
        file.extend(self.format(false));
        file.extend(b"data\xff\xff\xff\xff");
        file.extend(data);
        file.extend(b"LIST\x04\0\0\0INFO");
        file
    }

    fn wave64(&self) -> Vec<u8> {
        let tail = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a";
        let chunk = |name: &[u8; 4], content: &[u8]| {
            let mut chunk = [&name[..], tail].concat();
            chunk.extend((24 + content.len() as u64).to_le_bytes());
            chunk.extend(content);
            chunk.resize(chunk.len().next_multiple_of(8), 0);
            chunk
        };
        let mut body = [&b"wave"[..], tail].concat();
        body.extend(chunk(b"junk", b"of any length"));
        body.extend(chunk(b"fmt ", &self.format(false)));
        body.extend(chunk(b"data", &samples(self.values, self.width, false)));
        let mut file = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0".to_vec();
        file.extend((24 + body.len() as u64).to_le_bytes());
        file.extend(body);
        file
    }

    fn aiff(&self, kind: &[u8; 4]) -> Vec<u8> {
        let is_big = kind != b"sowt";
        let data = samples(self.values, self.width, is_big);
        let frames = self.values.len() as u32 / u32::from(self.channels);
        let mut common = self.channels.to_be_bytes().to_vec();
        common.extend(frames.to_be_bytes());
        common.extend(bits(self.width).to_be_bytes());
        // 80 bits: the rate's highest bit at the top of the fraction.
        let shift = self.rate.leading_zeros();
        common.extend((16_383 + 31 - shift as u16).to_be_bytes());
        common.extend((self.rate << shift).to_be_bytes());
        common.extend([0; 4]);
        let is_plain = kind == b"NONE";
        if !is_plain {
            common.extend(kind);
            common.extend([0, 0]);
        }
        let mut body = if is_plain { b"AIFF" } else { b"AIFC" }.to_vec();
        for (name, content) in [
            (b"COMM", common),
            (b"ANNO", b"odd".to_vec()),
            (b"SSND", [&[0; 8][..], &data].concat()),
        ] {
            body.extend(name);
            body.extend((content.len() as u32).to_be_bytes());
            body.extend(&content);
            body.extend(&[0][..content.len() % 2]);
        }
        let mut file = b"FORM".to_vec();
        file.extend((body.len() as u32).to_be_bytes());
        file.extend(body);
        file
    }

    fn caf(&self, is_big: bool, is_open: bool) -> Vec<u8> {
        let data = samples(self.values, self.width, is_big);
        let flags = u32::from(self.width == Width::Float) | if is_big { 0 } else { 2 };
        let mut file = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
        file.extend(f64::from(self.rate).to_be_bytes());
        file.extend(b"lpcm");
        let fields = [
            flags,
            u32::from(self.block()),
            1,
            u32::from(self.channels),
            u32::from(bits(self.width)),
        ];
        file.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
        file.extend(b"data");
        let size = if is_open { -1 } else { data.len() as i64 + 4 };
        file.extend(size.to_be_bytes());
        file.extend([0; 4]);
        file.extend(data);
        file
    }

    fn au(&self) -> Vec<u8> {
        let data = samples(self.values, self.width, true);
        let kind = match self.width {
            Width::Integer(bytes) => bytes as u32 + 1,
            Width::Float => 6,
        };
        let mut file = b".snd".to_vec();
        for field in [
            32,
            data.len() as u32,
            kind,
            self.rate,
            u32::from(self.channels),
        ] {
            file.extend(field.to_be_bytes());
        }
        file.extend([0; 8]);
        file.extend(data);
        file
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_container_gives_the_same_samples(
        values in prop::collection::vec(any::<i32>(), 4..400),
        channels in 1u16..4,
        rate in 1_000u32..200_000,
        width in prop::sample::select(vec![
            Width::Integer(2), Width::Integer(3), Width::Integer(4), Width::Float,
        ]),
        piece in any::<prop::sample::Index>(),
    ) {
        let frames = values.len() / usize::from(channels);
        let values = &values[..frames * usize::from(channels)];
        let sound = Sound { values, channels, rate, width };
        let wanted = decode("t", &sound.riff()).expect("a good file");
        prop_assert_eq!(wanted.samples.len(), frames);
        let start = piece.index(frames) as u64;
        let part = start..frames as u64;
        let kinds: &[&[u8; 4]] = match width {
            Width::Float => &[b"fl32"],
            Width::Integer(_) => &[b"NONE", b"twos", b"sowt"],
        };
        let mut files = vec![
            sound.rifx(), sound.rf64(b"RF64"), sound.rf64(b"BW64"), sound.wave64(), sound.caf(true, false),
            sound.caf(false, true), sound.au(),
        ];
        files.extend(kinds.iter().map(|kind| sound.aiff(kind)));
        for file in files {
            let name = String::from_utf8_lossy(&file[..4]).into_owned();
            let found = decode("t", &file).expect(&name);
            prop_assert_eq!(&found, &wanted, "{}", name);
            let info = inspect_bytes("t", &file).expect(&name);
            prop_assert_eq!((info.frames, info.channels, info.sample_rate), (frames as u64, channels, rate));
            let cut = decode_segment("t", &file, part.clone()).expect(&name);
            prop_assert_eq!(&cut.samples, &wanted.samples[start as usize..]);
            // A file that was cut is not a shorter recording, unless it says that it is open at its end.
            let is_open = name == "caff" && file[56..64] == [0xff; 8];
            let is_padded = name == "RF64" || name == "BW64" || name == "riff";
            if !is_open && !is_padded {
                prop_assert!(decode("t", &file[..file.len() - usize::from(sound.block())]).is_err(), "{}", name);
            }
        }
    }
}
