//! What of the frames a keyword head sees.

pub(crate) mod cpu;
#[cfg(feature = "wgpu")]
pub(crate) mod gpu;
pub(crate) mod reference;

use burn::tensor::Tensor;
use speech::model::Pooling;

use crate::ops::Implementation;
use crate::ops::packing::Packing;

/// Rows `frames` [rows, width] to [sequences, width].
///
/// # Panics
/// If `frames` are not of the shape that `pool` was made for.
pub(crate) fn apply(implementation: Implementation, frames: Tensor<2>, pool: Pool) -> Tensor<2> {
    assert_eq!(frames.dims(), [pool.rows, pool.width()], "frames to pool");
    dispatch!(implementation, frames, pool)
}

/// A row for each sequence as a weighted sum of the rows of its frames, each direction's columns
/// with rows of their own.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// `sources[direction][place]`: rows and their common weight.
    sources: Vec<Vec<(Vec<usize>, f32)>>,
    rows: usize,
    /// Columns of a direction.
    hidden: usize,
}

impl Pool {
    /// How `pooling` sees frames whose `directions`, of `hidden` values each, lie side by side.
    pub(crate) fn new(
        pooling: Pooling,
        hidden: usize,
        directions: usize,
        packing: &Packing,
    ) -> Self {
        let sources = (0..directions)
            .map(|direction| {
                (0..packing.sequences())
                    .map(|place| match (pooling, packing.length(place)) {
                        (_, 0) => (Vec::new(), 0.0),
                        (Pooling::Last, length) => {
                            let step = if direction == 0 { length - 1 } else { 0 };
                            (vec![packing.row(step, place)], 1.0)
                        }
                        (Pooling::Mean, length) => {
                            let rows = (0..length).map(|step| packing.row(step, place)).collect();
                            (rows, 1.0 / length as f32)
                        }
                    })
                    .collect()
            })
            .collect();
        Self {
            sources,
            rows: packing.rows(),
            hidden,
        }
    }

    fn places(&self) -> usize {
        self.sources[0].len()
    }

    fn width(&self) -> usize {
        self.hidden * self.sources.len()
    }

    /// Calls `f` with each place, row, first column and weight.
    fn each(&self, mut f: impl FnMut(usize, usize, usize, f32)) {
        for (direction, sources) in self.sources.iter().enumerate() {
            for (place, (rows, weight)) in sources.iter().enumerate() {
                for &row in rows {
                    f(place, row, direction * self.hidden, *weight);
                }
            }
        }
    }
}
