//! Layouts, sizes and initial values of models.

use super::*;

fn names(spec: &ModelSpec) -> Vec<(&str, &[usize])> {
    spec.parameters
        .iter()
        .map(|one| (one.name.as_str(), one.shape.as_slice()))
        .collect()
}

#[test]
fn parameters_lie_end_to_end_in_the_flat_vector() {
    let config = ModelConfig {
        bidirectional: true,
        ..ModelConfig::default()
    };
    let spec = ModelSpec::new(&config, 40, 10);
    let mut end = 0;
    for parameter in &spec.parameters {
        assert_eq!(parameter.offset, end);
        end = parameter.range().end;
    }
    let layer = |inputs: usize| 2 * 4 * 128 * (inputs + 128 + 2);
    assert_eq!(spec.elements(), layer(40) + layer(256) + 10 * 256 + 10);
    assert_eq!(spec.initialize(1).len(), spec.elements());
}

#[test]
fn initial_values_follow_the_seed_and_stay_in_bounds() {
    let spec = ModelSpec::new(&ModelConfig::default(), 13, 10);
    assert_eq!(spec.initialize(5), spec.initialize(5));
    assert_ne!(spec.initialize(5), spec.initialize(6));
    let bound = 1.0 / 128f32.sqrt();
    assert!(spec.initialize(5).iter().all(|value| value.abs() <= bound));
}

#[test]
fn the_layers_of_every_kind_own_the_flat_vector_between_them() {
    for (config, widths) in [
        (
            ModelConfig {
                kind: ModelKind::Gru,
                conv: ConvConfig {
                    channels: vec![4, 8],
                    ..ConvConfig::default()
                },
                layer_norm: true,
                dropout: 0.1,
                dense: vec![7],
                ..ModelConfig::default()
            },
            // Bands 13 → 7 → 4.
            vec![
                28, 28, 32, 32, 128, 128, 128, 128, 128, 128, 128, 7, 7, 7, 10,
            ],
        ),
        (
            ModelConfig {
                kind: ModelKind::Dnn,
                widths: vec![256, 64],
                context_left: 2,
                context_right: 1,
                pooling: Pooling::Mean,
                ..ModelConfig::default()
            },
            vec![52, 256, 64, 64, 10],
        ),
        (
            ModelConfig {
                kind: ModelKind::Lstm,
                projection: 16,
                bidirectional: true,
                head: Head::Ctc,
                ..ModelConfig::default()
            },
            vec![32, 32, 10],
        ),
        (
            ModelConfig {
                kind: ModelKind::Cnn,
                pooling: Pooling::Mean,
                residual: ResidualConfig {
                    channels: 6,
                    blocks: 1,
                    ..ResidualConfig::default()
                },
                ..ModelConfig::default()
            },
            // 13 bands, then 5; keep, two convolutions, the sum, a mean over bands and one over frames.
            vec![78, 30, 30, 30, 30, 30, 30, 30, 6, 6, 10],
        ),
    ] {
        config.check().unwrap();
        let spec = ModelSpec::new(&config, 13, 10);
        let found: Vec<usize> = spec.layers.iter().map(|one| one.width).collect();
        assert_eq!(found, widths, "{:?}", spec.layers);
        let mut end = 0;
        for layer in &spec.layers {
            assert_eq!(layer.parameters.start, end);
            end = layer.parameters.end;
        }
        assert_eq!(end, spec.elements());
        assert_eq!(spec.initialize(1).len(), end);
        let parameters: usize = spec.summary().iter().map(|row| row.parameters).sum();
        assert_eq!(parameters, end);
    }
}

/// `torch.nn.LSTM(3, 5, proj_size=2)`'s `named_parameters()`, and `torch.nn.GRU(2, 5)`'s.
#[test]
fn recurrent_parameters_have_the_names_shapes_and_order_of_torch() {
    let config = ModelConfig {
        widths: vec![5],
        projection: 2,
        ..ModelConfig::default()
    };
    assert_eq!(
        names(&ModelSpec::new(&config, 3, 4))[..6],
        [
            ("lstm.weight_ih_l0", &[20, 3][..]),
            ("lstm.weight_hh_l0", &[20, 2]),
            ("lstm.bias_ih_l0", &[20]),
            ("lstm.bias_hh_l0", &[20]),
            ("lstm.weight_hr_l0", &[2, 5]),
            ("head.weight", &[4, 2]),
        ]
    );
    let config = ModelConfig {
        kind: ModelKind::Gru,
        widths: vec![5],
        ..ModelConfig::default()
    };
    assert_eq!(
        names(&ModelSpec::new(&config, 2, 4))[..4],
        [
            ("gru.weight_ih_l0", &[15, 2][..]),
            ("gru.weight_hh_l0", &[15, 5]),
            ("gru.bias_ih_l0", &[15]),
            ("gru.bias_hh_l0", &[15]),
        ]
    );
}

/// Tang and Lin (2018), table 1: res8 has 110 thousand parameters, res15 with one convolution more
/// than whole blocks has 238 thousand. Both count no normalisation.
#[test]
fn the_residual_networks_are_as_large_as_their_authors_say() {
    let products = |residual: ResidualConfig| -> usize {
        let config = ModelConfig {
            kind: ModelKind::Cnn,
            residual,
            ..ModelConfig::default()
        };
        let spec = ModelSpec::new(&config, 40, 12);
        let weights = spec.parameters.iter();
        let weights = weights.filter(|one| !one.name.starts_with("norm."));
        weights.map(ParameterSpec::elements).sum()
    };
    let res8 = products(ResidualConfig::default());
    assert_eq!(res8, 45 * 9 + 6 * 45 * 45 * 9 + 45 * 12 + 12);
    assert!((109_000..112_000).contains(&res8), "{res8}");
    let res15 = products(ResidualConfig {
        blocks: 6,
        pool: [1, 1],
        dilated: true,
        ..ResidualConfig::default()
    });
    assert!((res15 + 45 * 45 * 9).abs_diff(238_000) < 2_000, "{res15}");
}

#[test]
fn strides_shorten_what_comes_out_and_the_shortest_input_follows() {
    let config = ModelConfig {
        conv: ConvConfig {
            channels: vec![4, 4],
            stride: [3, 1],
            ..ConvConfig::default()
        },
        ..ModelConfig::default()
    };
    let spec = ModelSpec::new(&config, 8, 3);
    assert_eq!(config.frame_stride(), 9);
    for frames in 0..60 {
        // Layer by layer, torch's (n + 2·1 - 3) / 3 + 1, where there is a frame at all.
        let once = |frames: usize| if frames == 0 { 0 } else { (frames - 1) / 3 + 1 };
        let out = spec.output_frames(frames);
        assert_eq!(out, once(once(frames)));
        let least = config.input_frames(out);
        assert!(least <= frames && spec.output_frames(least) == out);
        assert!(least == 0 || spec.output_frames(least - 1) < out);
    }
    assert_eq!(spec.layers.last().map(|one| one.frame_stride), Some(9));
}

#[test]
fn multiply_adds_are_those_of_the_products() {
    let config = ModelConfig {
        kind: ModelKind::Gru,
        widths: vec![6],
        conv: ConvConfig {
            channels: vec![4],
            ..ConvConfig::default()
        },
        ..ModelConfig::default()
    };
    let spec = ModelSpec::new(&config, 8, 3);
    // Half as many frames after the convolution, 4 bands of 4 channels of 3 × 3.
    let frame = 16 * 9 + 3 * 6 * (16 + 6);
    assert_eq!(spec.multiply_adds(100.0), (50.0 * f64::from(frame), 6 * 3));
}

#[test]
fn the_parameters_of_a_recurrent_layer_lie_end_to_end() {
    for (cell, projection) in [
        (Cell::Lstm, 0),
        (Cell::Lstm, 1),
        (Cell::Gru, 0),
        (Cell::Tanh, 0),
    ] {
        let layer = Recurrent {
            cell,
            inputs: 3,
            hidden: 2,
            projection,
            directions: 2,
        };
        let (first, second) = (layer.direction(0), layer.direction(1));
        assert_eq!(first.weight_ih.len(), cell.gates() * 2 * 3);
        assert_eq!(first.bias_hh.end, first.weight_hr.start);
        assert_eq!(first.weight_hr.end, second.weight_ih.start);
        assert_eq!(second.weight_hr.end, layer.elements());
    }
}
