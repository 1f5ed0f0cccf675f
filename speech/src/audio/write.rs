//! Recordings written: WAV of 16 bits, and the header of files with floats, for copies that lose nothing.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::{Audio, AudioError, RATES};

/// The header of a file with one channel of 32-bit floats, little-endian, `frames` of them at `sample_rate` Hz. RF64, so
/// that any number fits; what follows behind the samples is none of the recording.
pub fn float_header(sample_rate: u32, frames: u64) -> [u8; 80] {
    let bytes = frames.saturating_mul(4);
    let mut header = [0; 80];
    let fields: [(usize, &[u8]); 16] = [
        (0, b"RF64"),
        (4, &u32::MAX.to_le_bytes()),
        (8, b"WAVEds64"),
        (16, &28u32.to_le_bytes()),
        (20, &bytes.saturating_add(72).to_le_bytes()),
        (28, &bytes.to_le_bytes()),
        (36, &frames.to_le_bytes()),
        (48, b"fmt "),
        (52, &16u32.to_le_bytes()),
        (56, &3u16.to_le_bytes()),
        (58, &1u16.to_le_bytes()),
        (60, &sample_rate.to_le_bytes()),
        (64, &sample_rate.wrapping_mul(4).to_le_bytes()),
        (68, &[4, 0, 32, 0]),
        (72, b"data"),
        (76, &u32::MAX.to_le_bytes()),
    ];
    for (at, field) in fields {
        header[at..at + field.len()].copy_from_slice(field);
    }
    header
}

/// Writes 16-bit PCM. Amplitudes beyond full scale are clipped.
pub fn write_wav(path: &Path, audio: &Audio) -> Result<(), AudioError> {
    if audio.samples.is_empty() {
        return Err(AudioError::NoSamples { path: path.into() });
    }
    if !RATES.contains(&audio.sample_rate) {
        return Err(AudioError::Rate {
            path: path.into(),
            rate: audio.sample_rate,
        });
    }
    let spec = WavSpec {
        channels: 1,
        sample_rate: audio.sample_rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let write_error = |error: hound::Error| AudioError::Write {
        path: path.into(),
        source: match error {
            hound::Error::IoError(source) => source,
            other => std::io::Error::other(other),
        },
    };
    // Encoded in memory first: an error above leaves no half-written file behind.
    let mut bytes = Vec::with_capacity(44 + 2 * audio.samples.len());
    let mut writer = WavWriter::new(Cursor::new(&mut bytes), spec).map_err(write_error)?;
    for (index, &sample) in audio.samples.iter().enumerate() {
        if !sample.is_finite() {
            return Err(AudioError::BadSample {
                path: path.into(),
                index,
                value: sample,
            });
        }
        let scaled = (sample * 32_768.0).round();
        let clipped = scaled.clamp(f32::from(i16::MIN), f32::from(i16::MAX));
        writer.write_sample(clipped as i16).map_err(write_error)?;
    }
    writer.finalize().map_err(write_error)?;
    fs::write(path, &bytes).map_err(|source| AudioError::Write {
        path: path.into(),
        source,
    })
}
