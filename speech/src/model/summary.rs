//! What a model's layers cost: parameters, and multiply-adds for each row they compute. It does not
//! depend on how it is shown.

use super::layer::{Layer, LayerSpec, Per};
use super::{ModelSpec, Recurrent};

/// A layer as a summary shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name of the layer, as in the names of its parameters.
    pub name: String,
    /// What it does, in a few words.
    pub does: String,
    /// Values of a row that it gives.
    pub width: usize,
    /// Whether it computes a row for each frame or for each utterance.
    pub per: Per,
    /// Frames of the input from one row to the next.
    pub frame_stride: usize,
    /// The number of its parameters.
    pub parameters: usize,
    /// Multiply-adds of a row: those of products, nothing else.
    pub multiply_adds: usize,
}

impl ModelSpec {
    /// Its layers, first to last, without those that nothing is computed in.
    pub fn summary(&self) -> Vec<Row> {
        let shown = |one: &&LayerSpec| !matches!(one.layer, Layer::Keep | Layer::Dropout { .. });
        self.layers.iter().filter(shown).map(row).collect()
    }

    /// Multiply-adds a second of audio of `frames_per_second`, but for what is computed once an
    /// utterance: that is the second number.
    pub fn multiply_adds(&self, frames_per_second: f64) -> (f64, usize) {
        let (mut second, mut utterance) = (0.0, 0);
        for row in self.summary() {
            match row.per {
                Per::Frame => {
                    let rows = frames_per_second / row.frame_stride as f64;
                    second += rows * row.multiply_adds as f64;
                }
                Per::Utterance => utterance += row.multiply_adds,
            }
        }
        (second, utterance)
    }
}

fn row(one: &LayerSpec) -> Row {
    let (does, multiply_adds) = match one.layer {
        Layer::Context { left, right, .. } => (format!("{left} frames before, {right} after"), 0),
        Layer::Convolution(layer) => {
            let [frames, bands] = layer.kernel;
            let mut does = format!(
                "{frames} × {bands}, {} → {} channels, {} bands",
                layer.channels,
                layer.outputs,
                layer.output_bands()
            );
            if layer.stride != [1, 1] {
                does += &format!(", stride {} × {}", layer.stride[0], layer.stride[1]);
            }
            if layer.dilation > 1 {
                does += &format!(", dilation {}", layer.dilation);
            }
            (does, layer.width() * layer.depth())
        }
        Layer::AveragePool(layer) => (
            format!("mean of {} × {}", layer.window[0], layer.window[1]),
            0,
        ),
        Layer::Recurrent(layer) => (recurrent(layer), recurrent_products(layer)),
        Layer::Dense {
            inputs,
            outputs,
            activation,
        } => {
            let activation = match activation {
                Some(activation) => format!(", {activation:?}").to_lowercase(),
                None => String::new(),
            };
            (
                format!("{inputs} → {outputs}{activation}"),
                inputs * outputs,
            )
        }
        Layer::Norm { width } => (format!("layer norm of {width}"), 0),
        Layer::Pool { .. } => ("the frames of an utterance".to_owned(), 0),
        Layer::Add => ("what went around the block".to_owned(), 0),
        Layer::Keep | Layer::Dropout { .. } => (String::new(), 0),
    };
    Row {
        name: one.name.clone(),
        does,
        width: one.width,
        per: one.per,
        frame_stride: one.frame_stride,
        parameters: one.parameters.len(),
        multiply_adds,
    }
}

fn recurrent(layer: Recurrent) -> String {
    let mut does = format!("{} → {} {:?}", layer.inputs, layer.hidden, layer.cell).to_lowercase();
    if layer.projection > 0 {
        does += &format!(", projected to {}", layer.projection);
    }
    if layer.directions == 2 {
        does += ", both directions";
    }
    does
}

fn recurrent_products(layer: Recurrent) -> usize {
    let gates = layer.cell.gates() * layer.hidden * (layer.inputs + layer.state());
    layer.directions * (gates + layer.projection * layer.hidden)
}
