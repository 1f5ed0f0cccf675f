//! A layer of any cell on a GPU: a product and a launch or two for each step of a direction. Plain LSTM layers use
//! the specialised kernels in [`super::lstm`].

mod kernels;
mod passes;

use burn_cubecl::tensor::CubeTensor;

use super::{Layer, Passes};

/// A layer of any cell.
#[derive(Clone, Debug)]
pub(super) struct Cells(pub Layer);

impl Passes for Cells {
    type Activations = SavedActivations;

    fn activations(&self) -> (SavedActivations, CubeTensor) {
        let saved = self.forward();
        let output = saved.output.clone();
        (saved, output)
    }

    fn gradients(
        &self,
        saved: SavedActivations,
        output_grad: &CubeTensor,
        wanted: [bool; 2],
    ) -> [Option<CubeTensor>; 2] {
        let state_gradients = self.backward(output_grad, &saved);
        [
            wanted[0].then(|| self.input_gradient(&saved)),
            wanted[1].then(|| self.parameter_gradient(&saved, &state_gradients)),
        ]
    }
}

/// What the forward pass leaves behind, a row for each frame.
#[derive(Debug)]
pub(super) struct SavedActivations {
    /// [rows, directions, G·H]: the input's part of the sums, then the gates; after the backward pass
    /// the gradients of the former.
    gates: CubeTensor,
    /// [rows, directions, G·H]: the hidden state's part, and its gradients.
    hidden: CubeTensor,
    /// [rows, directions, H]: an LSTM's cells.
    cells: CubeTensor,
    /// [rows, directions, H]: what is projected.
    unprojected: Option<CubeTensor>,
    /// [rows, directions, S]
    output: CubeTensor,
}

/// What the backward pass leaves beside the saved activations.
struct StateGradients {
    /// [rows, directions, S]: of the hidden states.
    state_grad: CubeTensor,
    /// [rows, directions, S]: the hidden states that each frame began with.
    previous: CubeTensor,
}

/// A step of a direction: its first row and its sequences, and the same of the step before and of the
/// one after in the order of the recurrence, as far as they have sequences in common.
#[derive(Clone, Copy)]
struct StepRows {
    row: usize,
    count: usize,
    before: (usize, usize),
    after: (usize, usize),
}
