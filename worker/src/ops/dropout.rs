//! Inverted dropout. It decides which elements are dropped, from the seed and the place in the job
//! alone: never from the worker, the device, the layout or the other utterances of a batch.

use rayon::prelude::*;
use speech::random::Stream;

use crate::ops::packing::Packing;

/// First tag of the streams that draw masks.
const DROPOUT: u64 = 0x6472_6f70;

/// The dropout of one micro-batch.
#[derive(Clone, Debug)]
pub struct Dropout {
    pub probability: f64,
    pub seed: u64,
    pub step: u64,
    pub micro_batch: u32,
    /// For each position in the batch, the utterance's position in the micro-batch as it was
    /// planned: utterances that are left out shift nobody else's mask.
    pub utterances: Vec<usize>,
}

impl Dropout {
    /// The mask of the frames after layer `layer`, laid out as the packing: 0 or 1 / (1 - p); zeros
    /// in padding.
    pub fn frames(&self, layer: usize, packing: &Packing, width: usize) -> Vec<f32> {
        let lengths: Vec<usize> = {
            let mut lengths = vec![0; packing.sequences()];
            for (place, &position) in packing.order().iter().enumerate() {
                lengths[position] = packing.length(place);
            }
            lengths
        };
        let masks: Vec<Vec<f32>> = lengths
            .par_iter()
            .enumerate()
            .map(|(position, length)| self.mask(layer, position, length * width))
            .collect();
        let views: Vec<&[f32]> = masks.iter().map(Vec::as_slice).collect();
        packing.gather(&views, width)
    }

    /// The mask of one row for each place in the packing.
    pub fn sequences(&self, layer: usize, packing: &Packing, width: usize) -> Vec<f32> {
        packing
            .order()
            .iter()
            .flat_map(|&position| self.mask(layer, position, width))
            .collect()
    }

    fn mask(&self, layer: usize, position: usize, elements: usize) -> Vec<f32> {
        let utterance = self.utterances[position] as u64;
        let tags = [
            DROPOUT,
            self.step,
            u64::from(self.micro_batch),
            layer as u64,
            utterance,
        ];
        let mut stream = Stream::new(self.seed, &tags);
        // Four draws of 16 bits from each number: the probability is rounded to 1/65536, and the
        // scale is that of the rounded one.
        let threshold = (self.probability * 65_536.0).round() as u64;
        let scale = (65_536.0 / (65_536.0 - threshold as f64)) as f32;
        let mut mask = Vec::with_capacity(elements + 3);
        while mask.len() < elements {
            let bits = stream.next_u64();
            mask.extend([0, 16, 32, 48].map(|at| {
                if bits >> at & 0xffff < threshold {
                    0.0
                } else {
                    scale
                }
            }));
        }
        mask.truncate(elements);
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout(utterances: Vec<usize>) -> Dropout {
        Dropout {
            probability: 0.3,
            seed: 1,
            step: 2,
            micro_batch: 3,
            utterances,
        }
    }

    #[test]
    fn a_mask_keeps_the_expectation_and_drops_the_share() {
        let mask = dropout(vec![0]).frames(0, &Packing::packed(&[1000]), 100);
        let mean = mask.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let dropped = mask.iter().filter(|&&x| x == 0.0).count() as f64 / 1e5;
        assert!((mean - 1.0).abs() < 0.01 && (dropped - 0.3).abs() < 0.006);
    }

    #[test]
    fn an_utterance_has_its_mask_in_any_batch_and_layout() {
        let (packed, padded) = (Packing::packed(&[2, 5, 3]), Packing::padded(&[2, 5, 3]));
        let whole = dropout(vec![0, 1, 2]);
        let of = |packing: &Packing| packing.scatter(&whole.frames(1, packing, 4), 4);
        assert_eq!(of(&packed), of(&padded));
        let alone = Packing::packed(&[3]);
        assert_eq!(
            alone.scatter(&dropout(vec![2]).frames(1, &alone, 4), 4)[0],
            of(&packed)[2]
        );
        assert_ne!(whole.frames(1, &packed, 4), whole.frames(2, &packed, 4));
    }
}
