//! Frames that are heard as they come, against whole utterances.

use proptest::prelude::*;
use speech::model::{Head, ModelConfig, ModelKind};
use speech::random::Stream;
use worker::network::outputs::log_probs;
use worker::stream::NotStreamable;

use crate::{cpu, kinds::kinds, network, utterances};

/// Every kind, made to look back only (but for windows of bounded reach).
fn looking_back() -> Vec<ModelConfig> {
    kinds()
        .into_iter()
        .map(|config| ModelConfig {
            bidirectional: false,
            head: Head::Ctc,
            ..config
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_says_what_the_whole_utterance_does_to_the_bit_however_it_is_cut(
        cuts in proptest::collection::vec(0usize..9, 0..12),
        seed in any::<u64>(),
    ) {
        for config in looking_back() {
            let network = network(&config, 11, 6, &cpu());
            let mut hearing = network.stream().expect("it looks back");
            // Twice: the second utterance begins anew.
            for utterance in 0..2 {
                let frames = cuts.iter().sum();
                let mut stream = Stream::new(seed, &[utterance]);
                let features = utterances(&mut stream, &[frames], 11).remove(0);
                let mut heard = Vec::new();
                let mut rest = &features.data[..];
                let mut pushed = 0;
                for cut in &cuts {
                    let (now, later) = rest.split_at(cut * 11);
                    heard.extend(hearing.push(now).expect("whole frames"));
                    pushed += cut;
                    rest = later;
                    // A row stands at each multiple of the stride.
                    let known = pushed
                        .saturating_sub(hearing.look_ahead())
                        .div_ceil(hearing.frame_stride());
                    assert_eq!(heard.len(), known * 6, "{config:?}");
                }
                heard.extend(hearing.finish());
                let whole = log_probs(&network, &[&features]).expect("fits").remove(0);
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&heard), bits(&whole), "{config:?}");
            }
        }
    }
}

#[test]
fn a_model_that_waits_for_the_end_says_why_it_hears_no_stream() {
    let refused = |config: &ModelConfig| network(config, 4, 3, &cpu()).stream().err();
    let config = ModelConfig {
        head: Head::Ctc,
        bidirectional: true,
        kind: ModelKind::Gru,
        ..ModelConfig::default()
    };
    assert_eq!(refused(&config), Some(NotStreamable::Bidirectional));
    let keyword = ModelConfig::default();
    assert_eq!(refused(&keyword), Some(NotStreamable::Keyword));
    let forward = ModelConfig {
        bidirectional: false,
        ..config
    };
    assert_eq!(refused(&forward), None);
    let mut stream = network(&forward, 4, 3, &cpu()).stream().expect("it can");
    assert_eq!(
        stream
            .push(&[0.0; 6])
            .expect_err("one frame and a half")
            .to_string(),
        "6 values are no whole frames of 4"
    );
}
