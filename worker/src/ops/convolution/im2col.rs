//! Convolutions as a gather (im2col, the patches under the kernel of all frames at once) and a linear layer, both of
//! the implementation that is asked for.

use burn::tensor::Tensor;
use speech::model::Convolution;

use super::Packings;
use crate::cpu::convolution::each_weight;
use crate::ops::gather::{self, RowGather};
use crate::ops::{Implementation, linear};

/// [`super::apply`] on any device and for any packing.
pub(super) fn apply(
    implementation: Implementation,
    x: Tensor<2>,
    parameters: Tensor<1>,
    shape: Convolution,
    packings: &Packings,
) -> Tensor<2> {
    let patches = RowGather::patches(&packings.input, &packings.output, &shape);
    let rows = packings.output.rows();
    let bands = shape.output_bands();
    let patches = gather::apply(implementation, x, patches).reshape([rows * bands, shape.depth()]);
    let [elements] = parameters.dims();
    let order = linear_order(&shape);
    let count = order.shape[0];
    let parameters = parameters.reshape([elements, 1]);
    let parameters = gather::apply(implementation, parameters, order).reshape([count]);
    let (outputs, activation) = (shape.outputs, shape.activation);
    linear::apply(implementation, patches, parameters, outputs, activation)
        .reshape([rows, shape.width()])
}

/// From the parameters of a convolution to those of the linear layer over patches that it is.
fn linear_order(shape: &Convolution) -> RowGather {
    let weights = shape.outputs * shape.depth();
    let mut order = vec![0; weights];
    each_weight(shape, |torch, patch| order[patch] = torch as u32);
    let mut order: Vec<Option<u32>> = order.into_iter().map(Some).collect();
    let bias = (0..shape.outputs).map(|k| shape.bias.then_some((weights + k) as u32));
    order.extend(bias);
    let elements = weights + if shape.bias { shape.outputs } else { 0 };
    RowGather::order(&order, elements)
}
