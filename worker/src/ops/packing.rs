//! How the frames of a batch of sequences of different lengths lie in memory. It does not depend on what
//! the frames mean.

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
    /// Sequences of these lengths without padding.
    pub fn packed(lengths: &[usize]) -> Self {
        Self::new(lengths, false)
    }

    /// Sequences of these lengths, padded to the longest.
    pub fn padded(lengths: &[usize]) -> Self {
        Self::new(lengths, true)
    }

    fn new(lengths: &[usize], padded: bool) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&position| std::cmp::Reverse(lengths[position]));
        let lengths = order.iter().map(|&position| lengths[position]).collect();
        Self::in_order(order, lengths, padded)
    }

    /// `lengths` in the order of the places, longest first.
    fn in_order(order: Vec<usize>, lengths: Vec<usize>, padded: bool) -> Self {
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

    /// The packing of what a layer gives that makes one frame of `stride`, the last of them where
    /// there are fewer: the places stay as they are.
    pub fn strided(&self, stride: usize) -> Self {
        let lengths = self.lengths.iter().map(|length| length.div_ceil(stride));
        Self::in_order(self.order.clone(), lengths.collect(), self.padded)
    }

    /// Rows of the tensor.
    pub fn rows(&self) -> usize {
        self.starts[self.steps()]
    }

    /// Frames of the longest sequence.
    pub fn steps(&self) -> usize {
        self.active.len()
    }

    /// Sequences of the batch.
    pub fn sequences(&self) -> usize {
        self.lengths.len()
    }

    /// Whether a step has a row for each sequence.
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

    /// Step and place of each row.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize)> {
        self.starts
            .windows(2)
            .enumerate()
            .flat_map(|(step, starts)| (0..starts[1] - starts[0]).map(move |place| (step, place)))
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
    fn a_strided_packing_keeps_the_places_and_rounds_lengths_up() {
        // By their own lengths, [1, 1, 1] would lie in another order than [2, 4, 3] by theirs.
        let packing = Packing::packed(&[2, 4, 3, 0]).strided(4);
        assert_eq!(packing.order(), [1, 2, 0, 3]);
        assert_eq!(
            (0..4)
                .map(|place| packing.length(place))
                .collect::<Vec<_>>(),
            [1, 1, 1, 0]
        );
        assert_eq!((packing.steps(), packing.rows()), (1, 3));
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
}
