//! CMVN (zero mean and unit variance for each dimension), frame stacking and frame subsampling, on feature matrices.

use crate::features::Features;

/// A dimension that hardly varies is not blown up: below this, variances count as this. The log energies
/// of speech vary by more than a hundred times as much.
const VARIANCE_FLOOR: f64 = 1e-5;

/// `(x - mean) * scale` for each dimension.
#[derive(Clone, Debug)]
pub struct Scaling {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaling {
    pub(super) fn new(mean: &[f64], variance: &[f64]) -> Self {
        Self {
            mean: mean.iter().map(|&mean| mean as f32).collect(),
            scale: variance
                .iter()
                .map(|&variance| (1.0 / variance.max(VARIANCE_FLOOR).sqrt()) as f32)
                .collect(),
        }
    }

    /// The scaling that gives `features` zero mean and unit variance; they have at least one frame.
    pub(super) fn of(features: &Features) -> Self {
        let frames = features.frames as f64;
        let mut mean = vec![0.0; features.dims];
        for row in features.rows() {
            for (mean, &x) in mean.iter_mut().zip(row) {
                *mean += f64::from(x);
            }
        }
        mean.iter_mut().for_each(|mean| *mean /= frames);
        let mut variance = vec![0.0; features.dims];
        for row in features.rows() {
            for ((variance, mean), &x) in variance.iter_mut().zip(&mean).zip(row) {
                let distance = f64::from(x) - mean;
                *variance += distance * distance;
            }
        }
        variance.iter_mut().for_each(|variance| *variance /= frames);
        Self::new(&mean, &variance)
    }

    pub(super) fn apply(&self, features: &mut Features) {
        self.apply_to(&mut features.data);
    }

    /// To rows of as many values as there are means.
    pub(super) fn apply_to(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = (*x - mean) * scale;
            }
        }
    }
}

/// Frame stacking: joins each `stack` frames into one; the last is filled up with copies of the last frame.
pub(super) fn stack(mut features: Features, stack: usize) -> Features {
    let frames = features.frames.div_ceil(stack);
    let last = features.data.len() - features.dims;
    for _ in features.frames..frames * stack {
        features.data.extend_from_within(last..last + features.dims);
    }
    Features {
        frames,
        dims: features.dims * stack,
        data: features.data,
    }
}

/// Frame subsampling: keeps the first of each `stride` frames.
pub(super) fn subsample(features: Features, stride: usize) -> Features {
    if stride == 1 {
        return features;
    }
    let Features { frames, dims, data } = features;
    let kept = data.chunks_exact(dims).step_by(stride);
    Features {
        frames: frames.div_ceil(stride),
        dims,
        data: kept.flatten().copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(frames: usize, dims: usize) -> Features {
        Features {
            frames,
            dims,
            data: (0..frames * dims).map(|n| n as f32).collect(),
        }
    }

    #[test]
    fn the_last_stack_repeats_the_last_frame() {
        let stacked = stack(features(5, 2), 3);
        assert_eq!((stacked.frames, stacked.dims), (2, 6));
        assert_eq!(
            stacked.data,
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 8.0, 9.0]
        );
        assert_eq!(stack(features(4, 2), 2).data, features(4, 2).data);
        assert_eq!(stack(features(3, 2), 1), features(3, 2));
        assert_eq!(stack(features(1, 1), 4).data, [0.0; 4]);
    }

    #[test]
    fn one_frame_in_so_many_is_kept() {
        let kept = subsample(features(5, 2), 2);
        assert_eq!((kept.frames, kept.dims), (3, 2));
        assert_eq!(kept.data, [0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(subsample(features(4, 2), 1), features(4, 2));
        assert_eq!(subsample(features(4, 2), 9).data, [0.0, 1.0]);
    }

    #[test]
    fn a_dimension_that_does_not_vary_becomes_zero() {
        let mut features = Features {
            frames: 3,
            dims: 2,
            data: vec![-15.942385, 1.0, -15.942385, 2.0, -15.942385, 3.0],
        };
        Scaling::of(&features).apply(&mut features);
        let column: Vec<f32> = features.rows().map(|row| row[0]).collect();
        assert!(column.iter().all(|x| x.abs() < 1e-3), "{column:?}");
    }
}
