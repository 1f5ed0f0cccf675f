//! Samples as they are stored, one after the other, to amplitudes. Knows no headers.

use super::layout::{ByteOrder, SampleEncoding};

/// The samples in `data`, interleaved and on the scale of `[-1, 1]`; `data` is whole samples.
pub(super) fn samples(data: &[u8], encoding: SampleEncoding) -> Vec<f32> {
    use ByteOrder::{Big, Little};
    match encoding {
        SampleEncoding::Unsigned8 => {
            let centred = data.iter().map(|&byte| f32::from(byte) - 128.0);
            centred.map(|value| value * (1.0 / 128.0)).collect()
        }
        SampleEncoding::MuLaw => data.iter().map(|&code| scaled(mu_law(code))).collect(),
        SampleEncoding::ALaw => data.iter().map(|&code| scaled(a_law(code))).collect(),
        SampleEncoding::Integer { bytes: 2, order } => match order {
            Little => each(data, |bytes| scaled(i16::from_le_bytes(bytes))),
            Big => each(data, |bytes| scaled(i16::from_be_bytes(bytes))),
        },
        // Left-justified in 32 bits, so that the scale is one and the same. Only 32 bits are rounded, once, by
        // the conversion.
        SampleEncoding::Integer { bytes: 1, .. } => {
            each(data, |[a]| wide(i32::from_be_bytes([a, 0, 0, 0])))
        }
        SampleEncoding::Integer { bytes: 3, order } => match order {
            Little => each(data, |[a, b, c]| wide(i32::from_le_bytes([0, a, b, c]))),
            Big => each(data, |[a, b, c]| wide(i32::from_be_bytes([a, b, c, 0]))),
        },
        SampleEncoding::Integer { order, .. } => match order {
            Little => each(data, |bytes| wide(i32::from_le_bytes(bytes))),
            Big => each(data, |bytes| wide(i32::from_be_bytes(bytes))),
        },
        SampleEncoding::Float { bytes: 8, order } => match order {
            Little => each(data, |bytes| f64::from_le_bytes(bytes) as f32),
            Big => each(data, |bytes| f64::from_be_bytes(bytes) as f32),
        },
        SampleEncoding::Float { order, .. } => match order {
            Little => each(data, f32::from_le_bytes),
            Big => each(data, f32::from_be_bytes),
        },
    }
}

fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (whole, _) = data.as_chunks();
    whole.iter().map(|&bytes| value(bytes)).collect()
}

fn wide(value: i32) -> f32 {
    value as f32 * (1.0 / 2_147_483_648.0)
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
