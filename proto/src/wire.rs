//! Transport precision: how elements of gradients and weights are rounded (f32, bf16) and encoded. It decides the
//! bits, and does not depend on which vectors those are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use simd::wide;

/// The number format in which gradients and weights travel between workers and coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Four bytes an element: the values as they are computed.
    #[default]
    F32,
    /// bfloat16, two bytes an element: the upper half of an `f32`. Gradients are rounded at every node of
    /// the reduction tree, so that the result does not depend on how the tree is divided among workers.
    Bf16,
}

impl Wire {
    /// Its name in jobs and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Rounds every element to what travels.
    pub fn round(self, values: &mut [f32]) {
        if self == Self::Bf16 {
            wide(
                #[inline(always)]
                || values.iter_mut().for_each(|value| *value = rounded(*value)),
            );
        }
    }

    /// Adds `right` to `left`, rounded to what travels.
    pub fn add(self, left: &mut [f32], right: &[f32]) {
        let pairs = left.iter_mut().zip(right);
        match self {
            Self::F32 => pairs.for_each(|(left, right)| *left += right),
            Self::Bf16 => wide(
                #[inline(always)]
                || pairs.for_each(|(left, right)| *left = rounded(*left + right)),
            ),
        }
    }

    /// Writes the little-endian bytes of `values`, rounded, over `bytes`, which are as many.
    pub fn encode(self, values: &[f32], bytes: &mut [u8]) {
        match self {
            Self::F32 => {
                let (elements, _) = bytes.as_chunks_mut::<4>();
                for (element, value) in elements.iter_mut().zip(values) {
                    *element = value.to_le_bytes();
                }
            }
            Self::Bf16 => wide(
                #[inline(always)]
                || {
                    let (elements, _) = bytes.as_chunks_mut::<2>();
                    for (element, value) in elements.iter_mut().zip(values) {
                        *element = to_bf16(*value).to_le_bytes();
                    }
                },
            ),
        }
    }

    /// The inverse of [`Wire::encode`], but for the rounding.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => {
                let (elements, _) = bytes.as_chunks::<4>();
                for (value, element) in values.iter_mut().zip(elements) {
                    *value = f32::from_le_bytes(*element);
                }
            }
            Self::Bf16 => wide(
                #[inline(always)]
                || {
                    let (elements, _) = bytes.as_chunks::<2>();
                    for (value, element) in values.iter_mut().zip(elements) {
                        *value = from_bf16(u16::from_le_bytes(*element));
                    }
                },
            ),
        }
    }

    /// The bytes of `values`, which are made in `room` unless memory holds them as they travel.
    pub fn bytes_of<'a>(self, values: &'a [f32], room: &'a mut Vec<u8>) -> &'a [u8] {
        if self.is_in_memory() {
            return bytemuck::cast_slice(values);
        }
        room.resize(self.bytes() * values.len(), 0);
        self.encode(values, room);
        room
    }

    /// The memory of `values`, where their bytes can be put as they came; [`Wire::decode`] them otherwise.
    pub fn bytes_in_place(self, values: &mut [f32]) -> Option<&mut [u8]> {
        self.is_in_memory()
            .then(|| bytemuck::cast_slice_mut(values))
    }

    /// Whether memory holds values as they travel.
    const fn is_in_memory(self) -> bool {
        matches!(self, Self::F32) && cfg!(target_endian = "little")
    }
}

/// The nearest bfloat16, the even one of two: what is beyond the largest becomes infinite, NaN stays NaN.
#[inline]
pub fn to_bf16(value: f32) -> u16 {
    const QUIET_NAN: u16 = 0x7fc0;
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    // A carry goes on into the exponent, as it should.
    let upper = (bits.wrapping_add(0x7fff + even) >> 16) as u16;
    if value.is_nan() { QUIET_NAN } else { upper }
}

/// The value of a bfloat16.
#[inline]
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[inline]
fn rounded(value: f32) -> f32 {
    from_bf16(to_bf16(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits of `f32` and what torch makes of them (`testdata/bfloat16.py`).
    #[test]
    fn rounding_is_torchs() {
        let golden = include_str!("../testdata/bfloat16.txt");
        let mut cases = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let (from, to) = line.split_once(' ').unwrap();
            let value = f32::from_bits(u32::from_str_radix(from, 16).unwrap());
            let expected = u16::from_str_radix(to, 16).unwrap();
            let found = to_bf16(value);
            // Which NaN, torch leaves to the processor.
            let nan = value.is_nan() && from_bf16(found).is_nan() && from_bf16(expected).is_nan();
            assert!(
                nan || found == expected,
                "{value:e} ({from}): {found:04x}, not {to}"
            );
            cases += 1;
        }
        assert!(cases > 1000, "{cases}");
    }

    proptest! {
        #[test]
        fn the_nearest_is_taken(value in -1e30f32..1e30) {
            let found = to_bf16(value);
            let error = |bits: u16| (f64::from(from_bf16(bits)) - f64::from(value)).abs();
            for other in [found.wrapping_sub(1), found.wrapping_add(1)] {
                let nearer = error(found) < error(other);
                prop_assert!(nearer || error(found) == error(other) && found.is_multiple_of(2));
            }
        }

        #[test]
        fn what_was_rounded_stays_as_it_is(values: Vec<f32>) {
            let mut once = values.clone();
            Wire::Bf16.round(&mut once);
            let mut bytes = vec![0; 2 * values.len()];
            Wire::Bf16.encode(&values, &mut bytes);
            let mut back = vec![0.0; values.len()];
            Wire::Bf16.decode(&bytes, &mut back);
            let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&once), bits(&back));
            Wire::Bf16.round(&mut back);
            prop_assert_eq!(bits(&once), bits(&back));
        }
    }

    #[test]
    fn four_bytes_are_those_of_the_number() {
        let values = [1.0, -0.0, f32::MIN_POSITIVE / 8.0];
        let expected: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(Wire::F32.bytes_of(&values, &mut Vec::new()), expected);
        let mut encoded = vec![0; 12];
        Wire::F32.encode(&values, &mut encoded);
        assert_eq!(encoded, expected);
    }

    #[test]
    fn sums_are_rounded_where_they_travel_so() {
        let (mut wide, mut narrow) = ([256.0f32], [256.0f32]);
        Wire::F32.add(&mut wide, &[1.0]);
        Wire::Bf16.add(&mut narrow, &[1.0]);
        assert_eq!((wide, narrow), ([257.0], [256.0]));
    }
}
