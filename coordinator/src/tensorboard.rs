//! A run's metrics as an event file that TensorBoard reads: records framed as in a TFRecord file
//! (length, masked CRC-32C, `Event` message, masked CRC-32C). It decides which steps are new since
//! the file was last extended, so that TensorBoard can follow a run, and refuses to know what a
//! curve means.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use prost::Message;

use crate::curves::{Curves, CurvesError};

/// TensorBoard looks for `tfevents` in the name.
pub const FILE_NAME: &str = "events.out.tfevents.unisono";

/// Extends the event file in `dir` by what `curves` holds beyond its last step, stamped with
/// `wall_time` (seconds since 1970). A tail that a crash left incomplete is cut off first.
///
/// # Errors
/// When the folder or the file cannot be read or written.
pub fn extend(curves: &Curves, dir: &Path, wall_time: f64) -> Result<(), CurvesError> {
    let path = dir.join(FILE_NAME);
    let wrap = |source: io::Error| CurvesError::Write {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(wrap)?;
    let written = match fs::read(&path) {
        Ok(bytes) => Written::of(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Written::default(),
        Err(error) => return Err(wrap(error)),
    };
    let mut bytes = Vec::new();
    if written.bytes == 0 {
        record(
            &mut bytes,
            &Event {
                wall_time,
                step: 0,
                file_version: Some("brain.Event:2".to_owned()),
                summary: None,
            },
        );
    }
    for (step, values) in by_step(curves, &written) {
        record(
            &mut bytes,
            &Event {
                wall_time,
                step: step as i64,
                file_version: None,
                summary: Some(Summary { value: values }),
            },
        );
    }
    append(&path, written.bytes, &bytes).map_err(wrap)
}

fn append(path: &Path, kept: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(kept)?;
    file.write_all(bytes)
}

/// What is not written yet. `epoch` is where a step lies rather than something to look at.
fn by_step(curves: &Curves, written: &Written) -> BTreeMap<u64, Vec<SummaryValue>> {
    let mut steps: BTreeMap<u64, Vec<SummaryValue>> = BTreeMap::new();
    for (name, curve) in curves.iter().filter(|(name, _)| *name != "epoch") {
        let tag = name.replace('.', "/");
        let next = written.next_step.get(&tag).copied().unwrap_or_default();
        for (step, value) in curve.range(next..) {
            steps.entry(*step).or_default().push(SummaryValue {
                tag: tag.clone(),
                simple_value: Some(*value as f32),
            });
        }
    }
    steps
}

/// What an event file holds already.
#[derive(Debug, Default, PartialEq)]
struct Written {
    /// Up to the end of its last whole record.
    bytes: u64,
    /// Of each tag, the first step that may follow: an epoch's score comes after its last step.
    next_step: BTreeMap<String, u64>,
}

impl Written {
    fn of(mut bytes: &[u8]) -> Self {
        let mut written = Self::default();
        while let Some((event, rest)) = next_record(bytes) {
            written.bytes += (bytes.len() - rest.len()) as u64;
            for value in event.summary.into_iter().flat_map(|summary| summary.value) {
                let next = written.next_step.entry(value.tag).or_default();
                *next = (*next).max(event.step.cast_unsigned() + 1);
            }
            bytes = rest;
        }
        written
    }
}

/// The first record of `bytes`, when it is whole and undamaged, and what follows it.
fn next_record(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    if masked_crc(length) != u32::from_le_bytes(*length_crc) {
        return None;
    }
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (data, rest) = rest.split_at_checked(length)?;
    let (data_crc, rest) = rest.split_first_chunk::<4>()?;
    if masked_crc(data) != u32::from_le_bytes(*data_crc) {
        return None;
    }
    Some((Event::decode(data).ok()?, rest))
}

fn record(out: &mut Vec<u8>, event: &Event) {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(&data);
    out.extend_from_slice(&masked_crc(&data).to_le_bytes());
}

/// TFRecord masks its checksums, so that the checksum of data that holds checksums stays sound.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The fields of `tensorflow/core/util/event.proto` that a scalar needs.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// Of `tensorflow/core/framework/summary.proto`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional although it always is there: a zero must be written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(dir: &Path, lines: &str) -> Curves {
        fs::write(dir.join("metrics.jsonl"), lines).unwrap();
        Curves::of_run(dir).unwrap()
    }

    fn events(dir: &Path) -> Vec<Event> {
        let bytes = fs::read(dir.join(FILE_NAME)).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while let Some((event, after)) = next_record(rest) {
            events.push(event);
            rest = after;
        }
        assert!(rest.is_empty());
        events
    }

    #[test]
    fn the_check_value_of_crc32c_is_masked_as_tensorflow_masks_it() {
        // CRC-32C of "123456789" is 0xe3069283; rotated right by 15 and offset.
        let expected = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), expected);
    }

    #[test]
    fn every_step_is_written_once_however_often_the_file_is_extended() {
        let dir = tempfile::tempdir().unwrap();
        let first = curves(
            dir.path(),
            "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":0.0,\"epoch\":1}\n",
        );
        extend(&first, dir.path(), 10.0).unwrap();
        extend(&first, dir.path(), 11.0).unwrap();
        let second = curves(
            dir.path(),
            "{\"step\":2,\"loss\":0.0}\n{\"step\":3,\"loss\":0.5}\n",
        );
        extend(&second, dir.path(), 12.0).unwrap();
        let scored = "{\"step\":3,\"event\":\"evaluated\",\"score\":{\"wer\":0.25}}\n";
        fs::write(dir.path().join("events.jsonl"), scored).unwrap();
        let second = Curves::of_run(dir.path()).unwrap();
        extend(&second, dir.path(), 12.0).unwrap();
        let events = events(dir.path());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let steps: Vec<i64> = events[1..].iter().map(|event| event.step).collect();
        assert_eq!(steps, [1, 2, 3, 3]);
        let tag = |event: &Event| event.summary.as_ref().unwrap().value[0].tag.clone();
        assert_eq!([tag(&events[3]), tag(&events[4])], ["loss", "valid/wer"]);
        assert_eq!(
            events[2].summary.as_ref().unwrap().value[0].simple_value,
            Some(0.0)
        );
    }

    #[test]
    fn a_record_cut_short_by_a_crash_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let both = curves(
            dir.path(),
            "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":1.0}\n",
        );
        extend(&both, dir.path(), 10.0).unwrap();
        let path = dir.path().join(FILE_NAME);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        extend(&both, dir.path(), 10.0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
