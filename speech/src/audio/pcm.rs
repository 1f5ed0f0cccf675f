//! Samples as they are stored, one after the other, to amplitudes. Knows no headers.

use hound::WavReader;
use std::io::Read;

use super::layout::{Encoding, Layout};

/// The samples in `data`, interleaved and on the scale of `[-1, 1]`; `layout` says how they are stored,
/// and `data` is whole frames of it.
///
/// hound sees a canonical header before the data: it stumbles over foreign chunks of odd length, and its
/// lengths are then those that were checked.
pub(super) fn samples(data: &[u8], layout: &Layout) -> Result<Vec<f32>, hound::Error> {
    match layout.encoding {
        // What most recordings are, and too many for a call for each sample.
        Encoding::Integer { bytes: 2 } => Ok(sixteen(data, i16::from_le_bytes)),
        Encoding::Big => Ok(sixteen(data, i16::from_be_bytes)),
        Encoding::MuLaw => Ok(data.iter().map(|&code| scaled(mu_law(code))).collect()),
        Encoding::ALaw => Ok(data.iter().map(|&code| scaled(a_law(code))).collect()),
        Encoding::Double => {
            let (eights, _) = data.as_chunks();
            Ok(eights
                .iter()
                .map(|&bytes| f64::from_le_bytes(bytes) as f32)
                .collect())
        }
        // Not stored one after the other.
        Encoding::Adpcm => Err(hound::Error::Unsupported),
        Encoding::Float => reader(data, layout)?.into_samples::<f32>().collect(),
        Encoding::Integer { bytes } => {
            // A power of two: only 32-bit integers are rounded, once, by the conversion to f32.
            let scale = 1.0 / (1u32 << (8 * bytes - 1)) as f32;
            let scaled = |sample: Result<i32, _>| sample.map(|value| value as f32 * scale);
            reader(data, layout)?
                .into_samples::<i32>()
                .map(scaled)
                .collect()
        }
    }
}

fn reader<'a>(
    data: &'a [u8],
    layout: &Layout,
) -> Result<WavReader<impl Read + use<'a>>, hound::Error> {
    let header = layout.canonical_header(data.len());
    WavReader::new(std::io::Cursor::new(header).chain(data))
}

fn sixteen(data: &[u8], value: fn([u8; 2]) -> i16) -> Vec<f32> {
    let (pairs, _) = data.as_chunks();
    pairs.iter().map(|&pair| scaled(value(pair))).collect()
}

fn scaled(value: i16) -> f32 {
    f32::from(value) * (1.0 / 32_768.0)
}

/// G.711 µ-law, expanded to 16 bits.
fn mu_law(code: u8) -> i16 {
    const BIAS: i16 = 0x84;
    let code = !code;
    let exponent = code >> 4 & 7;
    let magnitude = ((i16::from(code & 0x0f) << 3) + BIAS) << exponent;
    match code & 0x80 {
        0 => magnitude - BIAS,
        _ => BIAS - magnitude,
    }
}

/// G.711 A-law, expanded to 16 bits.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let mantissa = (i16::from(code & 0x0f) << 4) + 8;
    let magnitude = match code >> 4 & 7 {
        0 => mantissa,
        exponent => (mantissa + 0x100) << (exponent - 1),
    };
    match code & 0x80 {
        0 => -magnitude,
        _ => magnitude,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_has_the_values_of_its_tables() {
        // ITU-T G.711, tables 1a, 1b, 2a and 2b, at the ends and beside zero, on 16 bits.
        for (code, value) in [
            (0x80, 32_124),
            (0x00, -32_124),
            (0xff, 0),
            (0x7f, 0),
            (0xfe, 8),
        ] {
            assert_eq!(mu_law(code), value, "{code:#x}");
        }
        for (code, value) in [(0xaa, 32_256), (0x2a, -32_256), (0xd5, 8), (0x55, -8)] {
            assert_eq!(a_law(code), value, "{code:#x}");
        }
    }
}
