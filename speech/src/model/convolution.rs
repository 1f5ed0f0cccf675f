//! Convolutions: the front before other layers, and the residual network for keywords. It decides
//! where the latter normalises.
//!
//! Tang and Lin (2018) normalise over the batch. That would make what an utterance contributes depend
//! on those beside it, so that the sum over micro-batches would no longer be the sum over utterances,
//! and the way a step is cut would change the model. Each frame is normalised by itself instead, over
//! its bands and channels, in the same places.

use super::Initializer;
use super::config::{Activation, ModelConfig, ResidualConfig};
use super::layer::{AveragePool, Builder, Convolution, Layer, uniform};

/// Convolutions with a ReLU, and a normalisation after each where the model has them.
pub(super) fn front(builder: &mut Builder, model: &ModelConfig) {
    let config = &model.conv;
    let (mut bands, mut channels) = (builder.width, 1);
    for (index, &outputs) in config.channels.iter().enumerate() {
        let layer = Convolution {
            bands,
            channels,
            outputs,
            kernel: config.kernel,
            stride: config.stride,
            dilation: 1,
            bias: true,
            activation: Some(Activation::Relu),
        };
        push(builder, &format!("conv.{index}"), layer);
        if model.layer_norm {
            builder.norm();
        }
        (bands, channels) = (layer.output_bands(), outputs);
    }
}

/// One convolution and an average over windows; then blocks of two convolutions around which their
/// input is led, each normalised; at last the mean over the bands. Convolutions have no bias.
pub(super) fn residual(builder: &mut Builder, config: &ResidualConfig) {
    let channels = config.channels;
    let first = Convolution {
        bands: builder.width,
        channels: 1,
        outputs: channels,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: 1,
        bias: false,
        activation: Some(Activation::Relu),
    };
    push(builder, "residual.0", first);
    let bands = average(builder, first.bands, channels, config.pool);
    // What goes around a block is the sum before it was normalised, as in the authors' program.
    builder.plain("keep", Layer::Keep);
    for index in 1..=2 * config.blocks {
        let layer = Convolution {
            bands,
            channels,
            dilation: if config.dilated { 1 << (index / 3) } else { 1 },
            ..first
        };
        push(builder, &format!("residual.{index}"), layer);
        if index % 2 == 0 {
            builder.plain("add", Layer::Add);
            if index < 2 * config.blocks {
                builder.plain("keep", Layer::Keep);
            }
        }
        builder.norm();
    }
    average(builder, bands, channels, [1, bands]);
}

/// The mean over windows, if they are any; returns the bands that are left.
fn average(builder: &mut Builder, bands: usize, channels: usize, window: [usize; 2]) -> usize {
    let layer = AveragePool {
        bands,
        channels,
        window,
    };
    if window != [1, 1] {
        let width = layer.output_bands() * channels;
        builder.push("average", Layer::AveragePool(layer), width, Vec::new());
    }
    layer.output_bands()
}

fn push(builder: &mut Builder, name: &str, layer: Convolution) {
    let Convolution {
        channels,
        outputs,
        kernel: [frames, bands],
        ..
    } = layer;
    let initializer: Initializer = uniform(layer.depth());
    let mut parameters = vec![(
        format!("{name}.weight"),
        vec![outputs, channels, frames, bands],
        initializer,
    )];
    if layer.bias {
        parameters.push((format!("{name}.bias"), vec![outputs], initializer));
    }
    builder.push(name, Layer::Convolution(layer), layer.width(), parameters);
}
