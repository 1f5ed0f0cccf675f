//! SpecAugment (Park et al. 2019): bands and stretches of normalised features set to zero, their mean.
//! Which ones is a function of the stream alone. It does not depend on when it is applied: training, never scoring.

use super::AugmentConfig;
use crate::features::Features;
use crate::random::Stream;

/// Masks `features`, whose rows are `stack` joined frames: a frequency mask covers the same dimensions of
/// each joined frame, a time mask whole rows.
///
/// A mask's width is uniform between 0 and the widest, its place uniform among those where it fits. A time
/// mask may cover one row at least, however short the utterance.
pub fn spec_augment(
    features: &mut Features,
    config: &AugmentConfig,
    stack: usize,
    stream: &mut Stream,
) {
    let (frames, dims) = (features.frames, features.dims);
    let base = dims / stack.max(1);
    if frames == 0 || base == 0 {
        return;
    }
    for _ in 0..config.freq_masks {
        let (start, width) = place(config.freq_width.min(base), base, stream);
        for frame in features.data.chunks_exact_mut(base) {
            frame[start..start + width].fill(0.0);
        }
    }
    let widest = ((config.time_fraction * frames as f64) as usize).clamp(1, frames);
    for _ in 0..config.time_masks {
        let (start, width) = place(widest, frames, stream);
        features.data[start * dims..(start + width) * dims].fill(0.0);
    }
}

/// Start and width of a mask of at most `widest` in `room`.
fn place(widest: usize, room: usize, stream: &mut Stream) -> (usize, usize) {
    let width = stream.below(widest as u64 + 1) as usize;
    let start = stream.below((room - width) as u64 + 1) as usize;
    (start, width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ones(frames: usize, dims: usize) -> Features {
        Features {
            frames,
            dims,
            data: vec![1.0; frames * dims],
        }
    }

    fn masked(
        frames: usize,
        base: usize,
        stack: usize,
        config: &AugmentConfig,
        seed: u64,
    ) -> Features {
        let mut features = ones(frames, base * stack);
        spec_augment(&mut features, config, stack, &mut Stream::new(seed, &[]));
        features
    }

    #[test]
    fn without_masks_nothing_changes_and_nothing_is_drawn() {
        let mut stream = Stream::new(1, &[]);
        let mut features = ones(20, 40);
        spec_augment(&mut features, &AugmentConfig::default(), 1, &mut stream);
        assert_eq!(features, ones(20, 40));
        assert_eq!(stream.next_u64(), Stream::new(1, &[]).next_u64());
    }

    #[test]
    fn masks_depend_on_the_stream_and_reach_their_full_width() {
        let config = AugmentConfig {
            freq_masks: 1,
            freq_width: 9,
            ..AugmentConfig::default()
        };
        let zeros = |seed| {
            let features = masked(50, 40, 3, &config, seed);
            features.data[..40].iter().filter(|&&x| x == 0.0).count()
        };
        let widths: Vec<usize> = (0..200).map(zeros).collect();
        assert_eq!(widths.iter().max(), Some(&9));
        assert_eq!(widths.iter().min(), Some(&0));
        assert_eq!(masked(50, 40, 3, &config, 5), masked(50, 40, 3, &config, 5));
    }

    proptest! {
        #[test]
        fn what_is_masked_is_whole_rows_and_the_same_dimensions_of_every_joined_frame(
            frames in 1usize..60,
            base in 1usize..50,
            stack in 1usize..4,
            freq_masks in 0usize..3,
            freq_width in 0usize..60,
            time_masks in 0usize..4,
            time_fraction in 0.0f64..=1.0,
            seed: u64,
        ) {
            let config = AugmentConfig { freq_masks, freq_width, time_masks, time_fraction, ..AugmentConfig::default() };
            let features = masked(frames, base, stack, &config, seed);
            let rows: Vec<&[f32]> = features.rows().collect();
            let gone: Vec<bool> = rows.iter().map(|row| row.iter().all(|&x| x == 0.0)).collect();
            let widest = ((time_fraction * frames as f64) as usize).max(1) * time_masks;
            let Some(kept) = gone.iter().position(|gone| !gone) else {
                return Ok(());
            };
            prop_assert!(gone.iter().filter(|&&gone| gone).count() <= widest);
            let pattern = &rows[kept][..base];
            prop_assert!(pattern.iter().filter(|&&x| x == 0.0).count() <= freq_width * freq_masks);
            for (row, gone) in rows.iter().zip(&gone) {
                prop_assert!(*gone || row.chunks(base).all(|frame| frame == pattern));
            }
        }
    }
}
