//! What `[model]` may say.

use super::*;

fn of(kind: ModelKind) -> ModelConfig {
    ModelConfig {
        kind,
        pooling: Pooling::Mean,
        ..ModelConfig::default()
    }
}

#[test]
fn every_kind_can_be_what_it_is_by_default() {
    for kind in [
        ModelKind::Lstm,
        ModelKind::Gru,
        ModelKind::Rnn,
        ModelKind::Dnn,
        ModelKind::Cnn,
    ] {
        assert_eq!(of(kind).check(), Ok(()));
        let ctc = ModelConfig {
            head: Head::Ctc,
            pooling: Pooling::Last,
            ..of(kind)
        };
        assert_eq!(ctc.check(), Ok(()));
    }
}

#[test]
fn a_key_of_another_kind_is_an_error_that_names_its_kind() {
    let change = |kind, change: fn(&mut ModelConfig)| {
        let mut config = of(kind);
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    for (error, found) in [
        (
            "model.projection is a key of \"lstm\", and model.kind is \"gru\"",
            change(ModelKind::Gru, |config| config.projection = 8),
        ),
        (
            "model.bidirectional is a key of \"lstm\", \"gru\" and \"rnn\", and model.kind is \"dnn\"",
            change(ModelKind::Dnn, |config| config.bidirectional = true),
        ),
        (
            "model.context_left is a key of \"dnn\", and model.kind is \"rnn\"",
            change(ModelKind::Rnn, |config| config.context_left = 1),
        ),
        (
            "model.residual is a key of \"cnn\", and model.kind is \"lstm\"",
            change(ModelKind::Lstm, |config| config.residual.blocks = 2),
        ),
        (
            "model.projection is 128, but has to be below the 128 units that it projects",
            change(ModelKind::Lstm, |config| config.projection = 128),
        ),
        (
            "model.activation is \"sigmoid\", and a plain recurrent layer has \"tanh\" or \"relu\"",
            change(ModelKind::Rnn, |config| {
                config.activation = Some(Activation::Sigmoid);
            }),
        ),
        (
            "model.activation is that of dense layers, and this lstm has none (model.dense)",
            change(ModelKind::Lstm, |config| {
                config.activation = Some(Activation::Relu);
            }),
        ),
        (
            "model.widths says what `layers` and `hidden` say: leave those out",
            change(ModelKind::Gru, |config| {
                config.layers = 3;
                config.widths = vec![8];
            }),
        ),
        (
            "model.pooling is \"last\", but the last frame of a dnn knows nothing of the others: \
             write pooling = \"mean\"",
            change(ModelKind::Dnn, |config| config.pooling = Pooling::Last),
        ),
        (
            "model.conv.kernel is 4, but has to be odd: a kernel has a middle",
            change(ModelKind::Gru, |config| config.conv.kernel = [3, 4]),
        ),
        (
            "model.conv.stride is 0, but has to be between 1 and 8",
            change(ModelKind::Gru, |config| config.conv.stride = [0, 1]),
        ),
    ] {
        assert_eq!(found, error);
    }
    assert!(change(ModelKind::Cnn, |config| config.hidden = 64).contains("[model.residual]"));
}

#[test]
fn what_is_left_out_of_the_text_is_as_it_was() {
    let config: ModelConfig = toml::from_str("head = \"ctc\"\nhidden = 64").unwrap();
    let expected = ModelConfig {
        head: Head::Ctc,
        hidden: 64,
        ..ModelConfig::default()
    };
    assert_eq!(config, expected);
    let text = "kind = \"rnn\"\nactivation = \"relu\"\nlayer_norm = true\n[conv]\nchannels = [8]\nstride = [2, 1]";
    let config: ModelConfig = toml::from_str(text).unwrap();
    assert_eq!(config.activation(), Activation::Relu);
    assert_eq!(config.conv.kernel, [3, 3]);
    assert_eq!(config.frame_stride(), 2);
}
