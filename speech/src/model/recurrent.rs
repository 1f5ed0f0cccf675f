//! Stacks of recurrent layers: LSTM, GRU and plain ones. It decides where normalisation and dropout
//! lie among them.

use super::config::{Activation, ModelConfig, ModelKind};
use super::layer::{Builder, Cell, Layer, Recurrent, uniform};

/// The hidden layers of `config`, each with its normalisation after it and dropout between them.
pub(super) fn stack(builder: &mut Builder, config: &ModelConfig) {
    let (cell, prefix) = match (config.kind, config.activation()) {
        (ModelKind::Gru, _) => (Cell::Gru, "gru"),
        (ModelKind::Rnn, Activation::Relu) => (Cell::Relu, "rnn"),
        (ModelKind::Rnn, _) => (Cell::Tanh, "rnn"),
        _ => (Cell::Lstm, "lstm"),
    };
    for (index, hidden) in config.hidden_widths().into_iter().enumerate() {
        if index > 0 {
            builder.dropout();
        }
        let layer = Recurrent {
            cell,
            inputs: builder.width,
            hidden,
            projection: config.projection,
            directions: if config.bidirectional { 2 } else { 1 },
        };
        push(builder, prefix, index, layer);
        if config.layer_norm {
            builder.norm();
        }
    }
}

/// Parameters as torch names them: `lstm.weight_ih_l0`, …, `lstm.bias_hh_l0_reverse`.
fn push(builder: &mut Builder, prefix: &str, index: usize, layer: Recurrent) {
    let gates = layer.cell.gates() * layer.hidden;
    let initializer = uniform(layer.hidden);
    let mut parameters = Vec::new();
    for suffix in &["", "_reverse"][..layer.directions] {
        let mut push = |name: &str, shape: Vec<usize>| {
            let name = format!("{prefix}.{name}_l{index}{suffix}");
            parameters.push((name, shape, initializer));
        };
        push("weight_ih", vec![gates, layer.inputs]);
        push("weight_hh", vec![gates, layer.state()]);
        push("bias_ih", vec![gates]);
        push("bias_hh", vec![gates]);
        if layer.projection > 0 {
            push("weight_hr", vec![layer.projection, layer.hidden]);
        }
    }
    let name = format!("{prefix}.{index}");
    builder.push(&name, Layer::Recurrent(layer), layer.outputs(), parameters);
}
