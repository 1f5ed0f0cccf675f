//! Boxes of MP4 and QuickTime (ISO/IEC 14496-12), as far as symphonia's reader passes over them: the edit list, which
//! says how much its encoder put before the sound, and the names of codecs that are not read.

/// What an MP4 file says of its first track of sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mp4Track {
    /// Where the sound begins, in ticks; 0 where no edit list says it.
    pub(super) begins: u64,
    /// Ticks a second.
    pub(super) ticks: u32,
    /// The name of its samples' form, four characters.
    pub(super) codec: [u8; 4],
}

/// The first track of sound in `bytes`; none where its boxes are not there.
pub(super) fn track(bytes: &[u8]) -> Option<Mp4Track> {
    let movie = child(bytes, b"moov")?;
    boxes(movie)
        .filter(|(name, _)| name == b"trak")
        .find_map(|(_, track)| sound(track))
}

/// Whether there is an index: without it, a recording was not finished, or the file was cut.
pub(super) fn has_index(bytes: &[u8]) -> bool {
    child(bytes, b"moov").is_some()
}

fn sound(track: &[u8]) -> Option<Mp4Track> {
    let media = child(track, b"mdia")?;
    if child(media, b"hdlr")?.get(8..12)? != b"soun" {
        return None;
    }
    let head = child(media, b"mdhd")?;
    let ticks = match head.first()? {
        1 => u32_at(head, 20)?,
        _ => u32_at(head, 12)?,
    };
    let descriptions = child(child(child(media, b"minf")?, b"stbl")?, b"stsd")?;
    let codec = *descriptions.get(12..16)?.first_chunk()?;
    let begins = child(track, b"edts")
        .and_then(|edits| child(edits, b"elst"))
        .and_then(begins);
    Some(Mp4Track {
        begins: begins.unwrap_or_default(),
        ticks,
        codec,
    })
}

/// Where the first edit with something in it begins, in the track's ticks.
fn begins(list: &[u8]) -> Option<u64> {
    let is_long = *list.first()? == 1;
    let size = if is_long { 20 } else { 12 };
    let count = u32_at(list, 4)? as usize;
    let edits = list.get(8..)?.chunks_exact(size).take(count);
    let times = edits.map(|edit| {
        if is_long {
            Some(i64::from(u32_at(edit, 8)?) << 32 | i64::from(u32_at(edit, 12)?))
        } else {
            Some(i64::from(u32_at(edit, 4)? as i32))
        }
    });
    // -1 is an edit of nothing, silence before the sound.
    times.flatten().find_map(|time| u64::try_from(time).ok())
}

fn child<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|(name, _)| name == wanted)
        .map(|(_, content)| content)
}

/// Names and contents of the boxes in `bytes`, up to one that is not all there.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = u64::from(u32_at(rest, 0)?);
        let name = *rest.get(4..8)?.first_chunk()?;
        let (head, size) = match size {
            0 => (8, rest.len() as u64),
            1 => (
                16,
                u64::from(u32_at(rest, 8)?) << 32 | u64::from(u32_at(rest, 12)?),
            ),
            size => (8, size),
        };
        let content = rest.get(head..usize::try_from(size).ok()?)?;
        rest = &rest[size as usize..];
        Some((name, content))
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|four| u32::from_be_bytes(*four))
}
