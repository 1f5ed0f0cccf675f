//! Products with constants that come from the CPU: dropout's mask, and the gradient that a backward pass begins with.

#[cfg(feature = "wgpu")]
pub(crate) mod gpu;
mod reference;

use burn::tensor::{Gradients, Tensor};

use crate::ops::Implementation;

/// `x` times as many constants, element by element.
///
/// # Panics
/// If there are not as many constants as elements.
pub(crate) fn multiply(
    implementation: Implementation,
    x: Tensor<2>,
    constants: Vec<f32>,
) -> Tensor<2> {
    assert_eq!(x.dims().iter().product::<usize>(), constants.len());
    match implementation {
        #[cfg(feature = "wgpu")]
        Implementation::Gpu => gpu::multiply(x, constants),
        Implementation::Cpu | Implementation::Reference => reference::multiply(x, constants),
    }
}

/// The gradients of a loss whose gradient with respect to `outputs` [rows, columns] is `output_grad`, laid out
/// likewise.
///
/// # Panics
/// If `output_grad` has not as many elements as `outputs`.
pub(crate) fn differentiate(
    implementation: Implementation,
    outputs: Tensor<2>,
    output_grad: Vec<f32>,
) -> Gradients {
    assert_eq!(outputs.dims().iter().product::<usize>(), output_grad.len());
    match implementation {
        #[cfg(feature = "wgpu")]
        Implementation::Gpu => gpu::seed_backward(outputs, output_grad).backward(),
        // The gradient of the sum over outputs · output_grad, the second factor a constant, is that. The sum need
        // not be taken: what is differentiated is the sum of the elements.
        Implementation::Cpu | Implementation::Reference => {
            reference::multiply(outputs, output_grad).backward()
        }
    }
}
