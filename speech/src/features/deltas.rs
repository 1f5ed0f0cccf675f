//! Time derivatives of features: Kaldi's `DeltaFeatures`, regression over two frames to either side.

use super::Features;

const WINDOW: usize = 2;

/// Appends `orders` derivatives to each frame: `[frames, dims]` to `[frames, dims * (orders + 1)]`.
///
/// As in Kaldi, the weights of an order are those of the one below convolved with the regression's and are
/// applied to the features themselves, whose first and last frame go on beyond the ends.
pub(crate) fn append(features: &Features, orders: usize) -> Features {
    let Features { frames, dims, .. } = *features;
    let row = |frame: usize| &features.data[frame * dims..(frame + 1) * dims];
    let mut data = Vec::with_capacity(features.data.len() * (orders + 1));
    let weights: Vec<Vec<f32>> = (1..=orders).map(weights).collect();
    for frame in 0..frames {
        data.extend_from_slice(row(frame));
        for weights in &weights {
            let start = data.len();
            data.resize(start + dims, 0.0);
            let reach = weights.len() / 2;
            for (offset, &weight) in weights.iter().enumerate() {
                let other = (frame + offset).saturating_sub(reach).min(frames - 1);
                for (out, &x) in data[start..].iter_mut().zip(row(other)) {
                    *out += weight * x;
                }
            }
        }
    }
    Features {
        frames,
        dims: dims * (orders + 1),
        data,
    }
}

/// How many frames to either side the derivatives of a frame depend on.
pub(crate) const fn reach(orders: usize) -> usize {
    WINDOW * orders
}

/// The weights of one order, over `4 * order + 1` frames.
fn weights(order: usize) -> Vec<f32> {
    // The regression's slope: offset / (sum of squared offsets).
    let slope: Vec<f64> = (-(WINDOW as i32)..=WINDOW as i32)
        .map(|offset| f64::from(offset) / 10.0)
        .collect();
    let mut weights = vec![1.0];
    for _ in 0..order {
        let mut next = vec![0.0; weights.len() + 2 * WINDOW];
        for (i, a) in weights.iter().enumerate() {
            for (j, b) in slope.iter().enumerate() {
                next[i + j] += a * b;
            }
        }
        weights = next;
    }
    weights.into_iter().map(|weight| weight as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: impl IntoIterator<Item = f32>) -> Features {
        let data: Vec<f32> = values.into_iter().collect();
        Features {
            frames: data.len(),
            dims: 1,
            data,
        }
    }

    fn order(features: &Features, order: usize) -> Vec<f32> {
        features.rows().map(|row| row[order]).collect()
    }

    #[test]
    fn a_parabola_has_its_derivatives_away_from_the_ends() {
        let features = append(&column((0..12).map(|t| (t * t) as f32)), 2);
        assert_eq!((features.frames, features.dims), (12, 3));
        for t in 4..8 {
            assert!((order(&features, 1)[t] - 2.0 * t as f32).abs() < 1e-4);
            assert!((order(&features, 2)[t] - 2.0).abs() < 1e-4);
        }
    }

    #[test]
    fn beyond_the_ends_the_outer_frames_go_on() {
        // By hand: at t = 0 of 0, 1, 2, 3, ... the slope is (1*1 + 2*2 - 1*0 - 2*0) / 10.
        let features = append(&column((0..6).map(|t| t as f32)), 1);
        let slope = order(&features, 1);
        for (value, wanted) in slope.iter().zip([0.5, 0.8, 1.0, 1.0, 0.8, 0.5]) {
            assert!((value - wanted).abs() < 1e-6, "{slope:?}");
        }
    }

    #[test]
    fn a_single_frame_does_not_move() {
        let features = append(&column([3.0]), 2);
        assert_eq!(features.data[0], 3.0);
        assert!(features.data[1..].iter().all(|x| x.abs() < 1e-6));
    }
}
