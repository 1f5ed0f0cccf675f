//! Elements of Matroska and WebM (RFC 9559), as far as symphonia's reader passes over them: what is to be discarded at
//! the end of the last block.

/// Masters whose content is walked through.
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const GROUP: u32 = 0xa0;
const DISCARD: u32 = 0x75a2;
const BLOCK: u32 = 0xa1;
const SIMPLE_BLOCK: u32 = 0xa3;

/// Nanoseconds of the last block that are no sound.
pub(super) fn discarded(bytes: &[u8]) -> u64 {
    let mut discarded = 0;
    let mut at = 0;
    while let Some((id, size, head)) = bytes.get(at..).and_then(element) {
        at += head;
        match id {
            SEGMENT | CLUSTER | GROUP => continue,
            BLOCK | SIMPLE_BLOCK => discarded = 0,
            DISCARD if (1..=8).contains(&size) => {
                let value = bytes.get(at..at + size as usize).unwrap_or_default();
                // Negative is at a block's beginning, which no writer uses.
                let is_negative = value.first().is_some_and(|first| first & 0x80 != 0);
                let value = value
                    .iter()
                    .fold(0, |value, byte| value << 8 | u64::from(*byte));
                discarded = if is_negative { 0 } else { value };
            }
            _ => {}
        }
        let behind = usize::try_from(size)
            .ok()
            .and_then(|size| at.checked_add(size));
        let Some(behind) = behind else {
            break;
        };
        at = behind;
    }
    discarded
}

/// Whether the size of the segment, which holds everything, is left open, as browsers and other live writers leave it.
pub(super) fn is_open(bytes: &[u8]) -> bool {
    let Some((_, size, head)) = element(bytes) else {
        return false;
    };
    let segment = usize::try_from(size)
        .ok()
        .and_then(|size| bytes.get(head.checked_add(size)?..));
    matches!(segment.and_then(element), Some((SEGMENT, u64::MAX, _)))
}

/// Id, size of the content and size of the head of the element that `bytes` begin with. The size is `u64::MAX` where it
/// is left open.
fn element(bytes: &[u8]) -> Option<(u32, u64, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    if length > 4 {
        return None;
    }
    let id = bytes
        .get(..length)?
        .iter()
        .fold(0, |id, byte| id << 8 | u32::from(*byte));
    let first = *bytes.get(length)?;
    let width = first.leading_zeros() as usize + 1;
    if width > 8 {
        return None;
    }
    let content = bytes.get(length..length + width)?;
    let mask = (1u64 << (7 * width)) - 1;
    let size = content
        .iter()
        .fold(0, |size, byte| size << 8 | u64::from(*byte))
        & mask;
    let size = if size == mask { u64::MAX } else { size };
    Some((id, size, length + width))
}
