//! A run's metrics as an event file that TensorBoard reads: records framed as in a TFRecord file
//! (length, masked CRC-32C, `Event` message, masked CRC-32C). It is only ever extended, so that
//! TensorBoard can follow a run, and a step that a run makes again after a restart is not written twice.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use prost::Message;
use serde::{Deserialize, Serialize};
use speech::regular_file;

use crate::records::curves::LineFigures;

/// TensorBoard looks for `tfevents` in the name.
pub const FILE_NAME: &str = "events.out.tfevents.unisono";

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// How far an event file was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    bytes: u64,
    /// The first step that may follow under each tag: an epoch's score comes after its last step.
    next_step: BTreeMap<String, u64>,
}

impl Extent {
    /// Whether the file in `dir` holds what was written: another one, or one that was cut, does not.
    pub fn is_in(&self, dir: &Path) -> bool {
        let found = fs::metadata(dir.join(FILE_NAME)).map_or(0, |file| file.len());
        found >= self.bytes
    }
}

/// Extends an event file.
#[derive(Debug)]
pub struct Writer {
    file: File,
    extent: Extent,
    pending: Vec<u8>,
    /// The time that all records have, in seconds since 1970.
    wall_time: f64,
}

impl Writer {
    /// Opens the file in `dir`, which is made if it is missing, to go on behind `extent`: what lies
    /// there was left by a process that died before it could say so, and is cut off.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn open(dir: &Path, extent: Extent, wall_time: f64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(FILE_NAME);
        let file = regular_file::append(&path)?;
        file.set_len(extent.bytes)?;
        let mut writer = Self {
            file,
            extent,
            pending: Vec::new(),
            wall_time,
        };
        if writer.extent.bytes == 0 {
            writer.record(&Event {
                wall_time,
                step: 0,
                file_version: Some("brain.Event:2".to_owned()),
                summary: None,
            });
        }
        Ok(writer)
    }

    /// Adds figures that were not written yet. `epoch` is where a step lies rather than something to
    /// look at.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, figures: &LineFigures) -> io::Result<()> {
        let step = figures.step;
        let mut values = Vec::new();
        for (name, value) in figures.values.iter().filter(|(name, _)| name != "epoch") {
            let tag = name.replace('.', "/");
            let next = self.extent.next_step.entry(tag.clone()).or_default();
            if step >= *next {
                *next = step + 1;
                values.push(SummaryValue {
                    tag,
                    simple_value: Some(*value as f32),
                });
            }
        }
        if values.is_empty() {
            return Ok(());
        }
        self.record(&Event {
            wall_time: self.wall_time,
            step: step.cast_signed(),
            file_version: None,
            summary: Some(Summary { value: values }),
        });
        if self.pending.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left, and gives how far the file goes now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<Extent> {
        self.flush()?;
        Ok(self.extent)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.extent.bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn record(&mut self, event: &Event) {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        self.pending.extend_from_slice(&length);
        self.pending
            .extend_from_slice(&masked_crc(&length).to_le_bytes());
        self.pending.extend_from_slice(&data);
        self.pending
            .extend_from_slice(&masked_crc(&data).to_le_bytes());
    }
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

/// The message of `tensorflow/core/framework/summary.proto`.
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

    fn figures(step: u64, values: &[(&str, f64)]) -> LineFigures {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        LineFigures {
            step,
            values: values.collect(),
        }
    }

    fn extend(dir: &Path, extent: Extent, figures: &[LineFigures]) -> Extent {
        let mut writer = Writer::open(dir, extent, 10.0).unwrap();
        figures.iter().for_each(|one| writer.add(one).unwrap());
        writer.finish().unwrap()
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
    fn every_step_is_written_once_however_often_a_run_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = [
            figures(1, &[("loss", 2.0)]),
            figures(2, &[("epoch", 1.0), ("loss", 0.0)]),
        ];
        let extent = extend(dir.path(), Extent::default(), &first);
        let second = [
            figures(2, &[("loss", 0.0)]),
            figures(3, &[("loss", 0.5)]),
            figures(3, &[("valid.wer", 0.25)]),
        ];
        let extent = extend(dir.path(), extent, &second);
        assert!(extent.is_in(dir.path()));
        let events = events(dir.path());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let steps: Vec<i64> = events[1..].iter().map(|event| event.step).collect();
        assert_eq!(steps, [1, 2, 3, 3]);
        let values = |event: &Event| event.summary.clone().unwrap().value;
        assert_eq!(values(&events[2])[0].simple_value, Some(0.0));
        let tags = [3, 4].map(|place: usize| values(&events[place])[0].tag.clone());
        assert_eq!(tags, ["loss", "valid/wer"]);
    }

    #[test]
    fn what_a_process_that_died_left_behind_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = extend(
            dir.path(),
            Extent::default(),
            &[figures(1, &[("loss", 2.0)])],
        );
        let path = dir.path().join(FILE_NAME);
        let next = [figures(2, &[("loss", 1.0)])];
        extend(dir.path(), first.clone(), &next);
        let whole = fs::read(&path).unwrap();
        // It died in the middle of the second record, and nobody knows of either half.
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        extend(dir.path(), first.clone(), &next);
        assert_eq!(fs::read(&path).unwrap(), whole);
        fs::write(&path, "").unwrap();
        assert!(!first.is_in(dir.path()));
    }
}
