//! An LSTM layer over a batch of sequences of different lengths: how frames lie in memory, and the
//! two implementations of the layer. It decides that padding reaches neither a result nor a
//! gradient, and refuses to know what the frames mean.
//!
//! The equations are torch's (gates i, f, g, o; two biases). A layer's parameters are one flat
//! tensor in the order of [`speech::model::ModelSpec`]: for each direction `weight_ih` [4H, I],
//! `weight_hh` `[4H, H]`, `bias_ih` `[4H]`, `bias_hh` `[4H]`.

pub mod cube;
pub mod fused;
mod kernel;
pub mod reference;

use std::ops::Range;

/// Sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Features a frame.
    pub inputs: usize,
    /// Hidden units of a direction.
    pub hidden: usize,
    /// 1, or 2 with the second direction reading backwards from each sequence's own last frame.
    pub directions: usize,
}

impl LayerShape {
    /// Features of a frame of the result: the directions side by side.
    pub fn outputs(&self) -> usize {
        self.hidden * self.directions
    }

    /// Elements of the flat parameter tensor.
    pub fn elements(&self) -> usize {
        self.directions * self.direction_elements()
    }

    fn direction_elements(&self) -> usize {
        4 * self.hidden * (self.inputs + self.hidden + 2)
    }

    /// Where the parameters of a direction lie in the flat tensor.
    fn direction(&self, direction: usize) -> DirectionRanges {
        let mut end = direction * self.direction_elements();
        let mut take = |elements: usize| {
            end += elements;
            end - elements..end
        };
        let gates = 4 * self.hidden;
        DirectionRanges {
            weight_ih: take(gates * self.inputs),
            weight_hh: take(gates * self.hidden),
            bias_ih: take(gates),
            bias_hh: take(gates),
        }
    }
}

struct DirectionRanges {
    weight_ih: Range<usize>,
    weight_hh: Range<usize>,
    bias_ih: Range<usize>,
    bias_hh: Range<usize>,
}

/// How the frames of a batch lie in a tensor of rows: step by step, and within a step the sequences
/// from the longest to the shortest, so that those still running are always the first ones.
///
/// *Packed*, a step has a row for each running sequence and there is no padding at all; *padded*, a
/// step has a row for each sequence (devices that prefer equal shapes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Positions in the caller's order, longest first, ties in the caller's order.
    order: Vec<usize>,
    /// Lengths in this order.
    lengths: Vec<usize>,
    /// Running sequences of each step.
    active: Vec<usize>,
    /// First row of each step, and the number of rows at the end.
    starts: Vec<usize>,
    padded: bool,
}

impl Packing {
    pub fn packed(lengths: &[usize]) -> Self {
        Self::new(lengths, false)
    }

    pub fn padded(lengths: &[usize]) -> Self {
        Self::new(lengths, true)
    }

    fn new(lengths: &[usize], padded: bool) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&position| std::cmp::Reverse(lengths[position]));
        let lengths: Vec<usize> = order.iter().map(|&position| lengths[position]).collect();
        let steps = lengths.first().copied().unwrap_or(0);
        let active: Vec<usize> = (0..steps)
            .map(|step| lengths.partition_point(|&length| length > step))
            .collect();
        let mut starts = vec![0];
        for (step, active) in active.iter().enumerate() {
            starts.push(starts[step] + if padded { lengths.len() } else { *active });
        }
        Self {
            order,
            lengths,
            active,
            starts,
            padded,
        }
    }

    /// Rows of the tensor.
    pub fn rows(&self) -> usize {
        self.starts[self.steps()]
    }

    /// Frames of the longest sequence.
    pub fn steps(&self) -> usize {
        self.active.len()
    }

    pub fn sequences(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Frames of the sequence in place `place`.
    pub fn length(&self, place: usize) -> usize {
        self.lengths[place]
    }

    /// For each place in a step, the sequence's position in the caller's order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The row of frame `step` of the sequence in place `place`.
    pub fn row(&self, step: usize, place: usize) -> usize {
        self.starts[step] + place
    }

    /// Sequences that have a frame `step`: the first so many places.
    pub fn active(&self, step: usize) -> usize {
        self.active[step]
    }

    /// Lays out the frames of the sequences (in the caller's order, each [length, width]).
    pub fn gather(&self, sequences: &[&[f32]], width: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.rows() * width];
        for (place, &position) in self.order.iter().enumerate() {
            for step in 0..self.lengths[place] {
                let row = self.row(step, place);
                rows[row * width..][..width]
                    .copy_from_slice(&sequences[position][step * width..][..width]);
            }
        }
        rows
    }

    /// The frames of each sequence, in the caller's order, from a tensor of rows.
    pub fn scatter(&self, rows: &[f32], width: usize) -> Vec<Vec<f32>> {
        let mut sequences = vec![Vec::new(); self.sequences()];
        for (place, &position) in self.order.iter().enumerate() {
            sequences[position] = (0..self.lengths[place])
                .flat_map(|step| &rows[self.row(step, place) * width..][..width])
                .copied()
                .collect();
        }
        sequences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_batch_has_a_row_for_each_frame_and_a_padded_one_for_each_place() {
        let lengths = [2, 4, 0, 2];
        let packed = Packing::packed(&lengths);
        assert_eq!(packed.order(), [1, 0, 3, 2]);
        assert_eq!(
            (packed.steps(), packed.rows(), packed.sequences()),
            (4, 8, 4)
        );
        assert_eq!(
            (0..4).map(|step| packed.active(step)).collect::<Vec<_>>(),
            [3, 3, 1, 1]
        );
        let padded = Packing::padded(&lengths);
        assert_eq!((padded.steps(), padded.rows()), (4, 16));
        assert_eq!(padded.row(3, 2), 14);
    }

    #[test]
    fn gathering_and_scattering_are_inverse() {
        let sequences: Vec<Vec<f32>> = [3usize, 1, 0, 5, 3]
            .iter()
            .enumerate()
            .map(|(i, &length)| (0..2 * length).map(|j| (10 * i + j) as f32).collect())
            .collect();
        let views: Vec<&[f32]> = sequences.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = sequences
            .iter()
            .map(|sequence| sequence.len() / 2)
            .collect();
        for packing in [Packing::packed(&lengths), Packing::padded(&lengths)] {
            assert_eq!(packing.scatter(&packing.gather(&views, 2), 2), sequences);
        }
    }

    #[test]
    fn the_parameters_of_a_layer_lie_end_to_end() {
        let shape = LayerShape {
            inputs: 3,
            hidden: 2,
            directions: 2,
        };
        let second = shape.direction(1);
        assert_eq!(shape.direction(0).bias_hh.end, second.weight_ih.start);
        assert_eq!(second.weight_ih.len(), 24);
        assert_eq!(second.bias_hh.end, shape.elements());
    }
}
