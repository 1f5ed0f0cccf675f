//! MPEG audio, layers I to III (MP3), taken apart into frames: what a file holds is what is counted from its frames.
//! Only the count of a Xing, Info or VBRI tag is an announcement; no length is guessed from bit rates. Tags and any
//! other bytes before, between and behind the frames are passed over, and files joined one behind the other are
//! read each with its own delay and padding.

use std::ops::Range;

/// What a frame's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 1 to 3.
    pub(super) layer: u8,
    /// In Hz.
    pub(super) rate: u32,
    pub(super) channels: u16,
    /// Samples of one channel.
    pub(super) samples: u64,
    /// The length of the whole frame.
    bytes: usize,
    /// Behind the header and the checksum of layer III: where a tag may be.
    side: Range<usize>,
    /// Version, layer and sampling rate, which stay the same in a stream.
    kind: u32,
}

/// Bit rates in kbit/s by MPEG 1's three layers and those of MPEG 2, I and then II and III.
const RATES: [[u16; 15]; 5] = [
    [
        0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ],
    [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
    ],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// Frames in a row that a stream has to begin with behind foreign bytes.
const FRAMES_IN_A_ROW: usize = 3;

impl Header {
    /// The header of the frame that `bytes` begin with; `None` where they are none, or of a bit rate that is left open.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = u32::from_be_bytes(*bytes.first_chunk()?);
        let (version, layer) = (word >> 19 & 3, word >> 17 & 3);
        let (bit_rate, rate) = ((word >> 12 & 15) as usize, (word >> 10 & 3) as usize);
        if word >> 21 != 0x7ff
            || version == 1
            || layer == 0
            || bit_rate == 0
            || bit_rate == 15
            || rate == 3
        {
            return None;
        }
        let layer = 4 - layer as u8;
        let is_first = version == 3;
        let row = match (is_first, layer) {
            (true, layer) => usize::from(layer) - 1,
            (false, 1) => 3,
            (false, _) => 4,
        };
        let bit_rate = u32::from(RATES[row][bit_rate]) * 1000;
        // MPEG 2 halves the rates, and 2.5 halves them again.
        let rate = [44_100, 48_000, 32_000][rate] >> [2, 2, 1, 0][version as usize];
        let padding = word >> 9 & 1;
        let is_mono = word >> 6 & 3 == 3;
        let (samples, bytes) = match layer {
            1 => (384, (12 * bit_rate / rate + padding) * 4),
            3 if !is_first => (576, 72 * bit_rate / rate + padding),
            _ => (1152, 144 * bit_rate / rate + padding),
        };
        let checksum = if word >> 16 & 1 == 0 { 2 } else { 0 };
        let side = match (is_first, is_mono) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        };
        Some(Self {
            layer,
            rate,
            channels: if is_mono { 1 } else { 2 },
            samples,
            bytes: bytes as usize,
            side: 4 + checksum..4 + side,
            kind: word & 0x1e_0c00,
        })
    }
}

/// What a tag in the place of a stream's first frame says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tag {
    /// Frames that follow.
    frames: Option<u64>,
    /// Samples that encoder and decoder put before the beginning, and behind the end.
    delay: u64,
    padding: u64,
}

impl Tag {
    /// The tag in `frame`, if there is no more sound in it than in an empty one, and a tag instead.
    fn of(frame: &[u8], header: &Header) -> Option<Self> {
        if header.layer != 3 {
            return None;
        }
        let is_empty = |until: usize| {
            let side = frame.get(header.side.start..until);
            side.is_some_and(|side| side.iter().all(|byte| *byte == 0))
        };
        let at = header.side.end;
        if matches!(frame.get(at..at + 4), Some(b"Xing" | b"Info")) && is_empty(at) {
            return Self::xing(&frame[at + 4..]);
        }
        if frame.get(36..40) == Some(b"VBRI") && is_empty(36) {
            let frames = frame.get(50..54)?.first_chunk()?;
            let frames = Some(u64::from(u32::from_be_bytes(*frames))).filter(|frames| *frames > 0);
            return Some(Self {
                frames,
                ..Self::default()
            });
        }
        None
    }

    /// What stands behind the name of a Xing or Info tag, with LAME's extension.
    fn xing(tag: &[u8]) -> Option<Self> {
        let flags = u32::from_be_bytes(*tag.first_chunk()?);
        let mut at = 4;
        let mut found = Self::default();
        if flags & 1 != 0 {
            let frames = tag.get(at..at + 4)?.first_chunk()?;
            // Zero is what is left where nobody came back to count.
            found.frames =
                Some(u64::from(u32::from_be_bytes(*frames))).filter(|frames| *frames > 0);
            at += 4;
        }
        // Bytes, a table of contents, quality.
        at += [4, 100, 4]
            .iter()
            .zip([2, 4, 8])
            .filter(|(_, flag)| flags & flag != 0)
            .map(|(size, _)| size)
            .sum::<usize>();
        let known = |name: &[u8]| [&b"LAME"[..], b"Lavf", b"Lavc"].contains(&name);
        if let Some(lame) = tag.get(at..at + 24)
            && known(&lame[..4])
        {
            // 12 bits each. A decoder is 529 samples late.
            let both = u64::from(u32::from_be_bytes([0, lame[21], lame[22], lame[23]]));
            found.delay = (both >> 12) + 529;
            found.padding = (both & 0xfff).saturating_sub(529);
        }
        Some(found)
    }
}

/// A run of frames that one encoder wrote, or what cannot be told apart from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MpegRun {
    /// Its frames among those of the file.
    pub(super) frames: Range<usize>,
    /// Which of its samples are sound.
    pub(super) sound: Range<u64>,
    /// Whether its tag says that a decoder begins anew.
    pub(super) is_tagged: bool,
}

/// The frames of a file.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    pub(super) header: Header,
    /// Where each frame lies.
    starts: Vec<u64>,
    sizes: Vec<u16>,
    pub(super) parts: Vec<MpegRun>,
}

/// Why `bytes` cannot be read as one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MpegFault {
    /// No frames.
    None,
    /// Sampling rate or number of channels change on the way.
    Changes,
    /// A tag announces this many frames, and fewer are there.
    CutShort { announced: u64, held: u64 },
}

impl Frames {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, MpegFault> {
        let mut scan = Scan {
            bytes,
            at: 0,
            known: None,
        };
        let mut frames: Option<Self> = None;
        let mut tags: Vec<(usize, Option<Tag>)> = Vec::new();
        while let Some((at, header)) = scan.next()? {
            let frames = frames.get_or_insert_with(|| Self {
                header: header.clone(),
                starts: Vec::new(),
                sizes: Vec::new(),
                parts: Vec::new(),
            });
            if header.channels != frames.header.channels {
                return Err(MpegFault::Changes);
            }
            let tag = Tag::of(&bytes[at..at + header.bytes], &header);
            if tag.is_some() || tags.is_empty() {
                tags.push((frames.starts.len(), tag));
            }
            if tag.is_none() {
                frames.starts.push(at as u64);
                frames.sizes.push(header.bytes as u16);
            }
        }
        let mut frames = frames.ok_or(MpegFault::None)?;
        for (index, (first, tag)) in tags.iter().enumerate() {
            let end = tags
                .get(index + 1)
                .map_or(frames.starts.len(), |(next, _)| *next);
            frames.part(*first..end, *tag)?;
        }
        Ok(frames)
    }

    /// Adds the part of the frames `range`, whose tag is `tag`.
    fn part(&mut self, range: Range<usize>, tag: Option<Tag>) -> Result<(), MpegFault> {
        let each = self.header.samples;
        let held = range.len() as u64;
        let Some(tag) = tag else {
            self.parts.push(MpegRun {
                sound: 0..held * each,
                frames: range,
                is_tagged: false,
            });
            return Ok(());
        };
        let announced = tag.frames.unwrap_or(held);
        // Encoders do and do not count the frame that the tag is in.
        if held + 1 < announced {
            return Err(MpegFault::CutShort { announced, held });
        }
        let own = range.start + announced.min(held) as usize;
        let padded = (announced * each)
            .saturating_sub(tag.padding)
            .min(announced.min(held) * each);
        let sound = tag.delay.min(padded)..padded;
        self.parts.push(MpegRun {
            frames: range.start..own,
            sound,
            is_tagged: true,
        });
        // More frames than were announced: a file without a tag that was joined to this one.
        if own < range.end {
            self.part(own..range.end, None)?;
        }
        Ok(())
    }

    /// Where the frame lies in the file.
    pub(super) fn at(&self, index: usize) -> Range<usize> {
        let start = self.starts[index] as usize;
        start..start + usize::from(self.sizes[index])
    }
}

/// Where the first frame of a stream lies in `bytes`, behind whatever is before it.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    let found = Scan {
        bytes,
        at: 0,
        known: None,
    }
    .search();
    found.map(|(at, _)| at)
}

/// Finds one frame behind the other.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What is known from the frames so far.
    known: Option<u32>,
}

impl Scan<'_> {
    /// The next frame and where it is; none at the end. What is left of a frame there is passed over.
    fn next(&mut self) -> Result<Option<(usize, Header)>, MpegFault> {
        self.skip_tags();
        let here = self.header(self.at);
        let found = match (self.known, here) {
            // In step: a frame where the last one ends.
            (Some(kind), Some(header)) if header.kind == kind => Some((self.at, header)),
            _ => self.search(),
        };
        let Some((at, header)) = found else {
            return Ok(None);
        };
        if self.known.is_some_and(|kind| kind != header.kind) {
            return Err(MpegFault::Changes);
        }
        self.known = Some(header.kind);
        self.at = at + header.bytes;
        Ok(Some((at, header)))
    }

    /// The next place where frames begin: so many in a row, or all that follow up to the end or a tag. Without
    /// that, any two bytes of a picture or a text might be taken for one.
    fn search(&mut self) -> Option<(usize, Header)> {
        let mut at = self.at;
        while at < self.bytes.len() {
            if let Some(behind) = behind_tag(&self.bytes[at..]) {
                at += behind;
                continue;
            }
            if self.bytes[at] == 0xff
                && let Some(header) = self.header(at)
                && self.convinces(at, &header)
            {
                return Some((at, header));
            }
            at += 1;
        }
        None
    }

    fn convinces(&self, mut at: usize, first: &Header) -> bool {
        let is_known = self.known == Some(first.kind);
        for count in 0..FRAMES_IN_A_ROW {
            let rest = self.bytes.get(at..).unwrap_or_default();
            match self.header(at) {
                Some(header) if header.kind == first.kind => at += header.bytes,
                // Another stream is one for good only where it goes on.
                _ if count == 0 || (self.known.is_some() && !is_known) => return false,
                // The end, or what stands there; a frame that is not all there has a header at least.
                _ => {
                    return rest.is_empty()
                        || behind_tag(rest).is_some()
                        || (count > 1 || is_known) && is_begun(rest, first);
                }
            }
        }
        true
    }

    /// The header of a frame that is all there.
    fn header(&self, at: usize) -> Option<Header> {
        let rest = self.bytes.get(at..)?;
        Header::parse(rest).filter(|header| header.bytes <= rest.len())
    }

    fn skip_tags(&mut self) {
        while let Some(behind) = self.bytes.get(self.at..).and_then(behind_tag) {
            self.at += behind;
        }
    }
}

/// Whether `rest` is the beginning of another frame of `first`'s stream.
fn is_begun(rest: &[u8], first: &Header) -> bool {
    match Header::parse(rest) {
        Some(header) => header.kind == first.kind,
        None => rest.len() < 4 && rest[0] == 0xff,
    }
}

/// Bytes of the tag that `bytes` begin with: ID3 of both kinds, APE, Lyrics3. One that reaches beyond the end has
/// what is left.
pub(super) fn behind_tag(bytes: &[u8]) -> Option<usize> {
    let size = match bytes {
        [b'I', b'D', b'3', ..] => id3(bytes)?,
        [b'T', b'A', b'G', b'+', ..] => 227,
        [b'T', b'A', b'G', ..] => 128,
        [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', ..] => ape(bytes)?,
        [
            b'L',
            b'Y',
            b'R',
            b'I',
            b'C',
            b'S',
            b'B',
            b'E',
            b'G',
            b'I',
            b'N',
            ..,
        ] => {
            let ends = bytes
                .windows(9)
                .position(|nine| nine == b"LYRICSEND" || nine == b"LYRICS200");
            ends.map_or(bytes.len() as u64, |end| end as u64 + 9)
        }
        _ => return None,
    };
    Some(size.min(bytes.len() as u64) as usize)
}

/// Bytes of the ID3v2 tag that `bytes` begin with.
pub(super) fn id3(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..10)?;
    if &head[..3] != b"ID3"
        || head[3] == 0xff
        || head[4] == 0xff
        || head[6..].iter().any(|byte| byte & 0x80 != 0)
    {
        return None;
    }
    // Four times seven bits, the head of ten bytes and perhaps a foot of as many.
    let size = head[6..]
        .iter()
        .fold(0, |size, byte| size << 7 | u64::from(*byte));
    let foot = if head[5] & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + foot)
}

/// Bytes of the APE tag whose head or foot `bytes` begin with.
pub(super) fn ape(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..32)?;
    if &head[..8] != b"APETAGEX" {
        return None;
    }
    let [size, flags] =
        [12, 20].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    // The size counts the items and the foot, which may be all there is.
    let is_head = flags & 1 << 29 != 0;
    Some(if is_head { 32 + u64::from(size) } else { 32 })
}
