//! Dense layers: those of a `dnn` over windows of frames, and those before the output of any model.

use super::config::ModelConfig;
use super::layer::{Builder, Layer};

/// Windows of frames, and the hidden layers of `config` on each.
pub(super) fn stack(builder: &mut Builder, config: &ModelConfig) {
    let (left, right) = (config.context_left, config.context_right);
    if left + right > 0 {
        let inputs = builder.width;
        let layer = Layer::Context {
            inputs,
            left,
            right,
        };
        builder.push("context", layer, inputs * (left + 1 + right), Vec::new());
    }
    for (index, width) in config.hidden_widths().into_iter().enumerate() {
        if index > 0 {
            builder.dropout();
        }
        builder.hidden_dense(width, config.activation());
        if config.layer_norm {
            builder.norm();
        }
    }
}

/// The dense layers before the output, each with dropout after it.
pub(super) fn before_output(builder: &mut Builder, config: &ModelConfig) {
    for &width in &config.dense {
        builder.hidden_dense(width, config.activation());
        if config.layer_norm {
            builder.norm();
        }
        builder.dropout();
    }
}
