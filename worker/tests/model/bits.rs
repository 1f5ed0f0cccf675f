//! The same bits for any number of threads and in every run.

use speech::random::Stream;

use crate::{configs, cpu, micro_gradient, network, utterances};

#[test]
fn gradients_have_the_same_bits_for_any_number_of_threads_and_in_every_run() {
    // More frames than the layers take at a time.
    let lengths = [233, 4, 233, 17, 390, 21, 8, 4, 255, 262];
    let features = utterances(&mut Stream::new(1, &[]), &lengths, 23);
    for config in configs() {
        let network = network(&config, 23, 6, &cpu());
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool")
                .install(|| micro_gradient(&network, &features))
        };
        let first = on(1);
        let bits = |values: &Option<Vec<f32>>| -> Vec<u32> {
            values
                .as_ref()
                .expect("finite")
                .iter()
                .map(|value| value.to_bits())
                .collect()
        };
        for threads in [1, 2, 3, 8] {
            let other = on(threads);
            assert!(
                bits(&first.gradient) == bits(&other.gradient),
                "{threads} threads"
            );
            assert_eq!(first.loss.to_bits(), other.loss.to_bits());
            assert_eq!(first.weight, other.weight);
        }
    }
}

#[test]
fn dropout_follows_the_seed_and_the_place_of_the_micro_batch() {
    let features = utterances(&mut Stream::new(2, &[]), &[9, 5], 4);
    for config in configs() {
        let network = network(&config, 4, 6, &cpu());
        let at = |seed: u64, step: u64, index: u32| {
            let micro = worker::gradient::MicroBatch {
                features: features.iter().collect(),
                targets: vec![crate::target(&config); 2],
                step,
                index,
            };
            worker::gradient::gradient(&network, &micro, speech::objective::Normalize::Frames, seed)
                .expect("a batch that fits")
        };
        assert_eq!(at(1, 2, 3), at(1, 2, 3));
        for other in [at(2, 2, 3), at(1, 3, 3), at(1, 2, 4)] {
            assert_ne!(at(1, 2, 3).gradient, other.gradient);
        }
        assert_eq!(at(1, 2, 3).weight, 14.0);
    }
}
