//! Several channels become one: their mean, or the one that was chosen. Where the mean loses the sound, because
//! channels cancel, that is noticed.

/// Energy of the mean below this share of the channels' is what is left where they cancel: 20 dB less, where
/// channels that have nothing to do with each other lose 3 dB.
const CANCELLED: f64 = 0.01;

/// Mean square of amplitudes below which there is nothing to be lost (-80 dB).
const SILENCE: f64 = 1e-8;

/// Mixes the frames of one recording, block by block.
#[derive(Clone, Debug)]
pub(super) struct Mixer {
    channels: usize,
    chosen: Option<usize>,
    /// Sums over all frames so far: the squares of the mean, and the mean of the squares.
    mean: f64,
    each: f64,
    frames: u64,
}

impl Mixer {
    /// `chosen` is below `channels`, where it is anything.
    pub(super) fn new(channels: u16, chosen: Option<u16>) -> Self {
        Self {
            channels: usize::from(channels),
            chosen: chosen.map(usize::from),
            mean: 0.0,
            each: 0.0,
            frames: 0,
        }
    }

    /// Mixes interleaved samples, `[frames, channels]` to `[frames]`.
    pub(super) fn interleaved(&mut self, samples: Vec<f32>) -> Vec<f32> {
        if self.channels == 1 {
            return samples;
        }
        let frames = samples.chunks_exact(self.channels);
        if let Some(chosen) = self.chosen {
            return frames.map(|frame| frame[chosen]).collect();
        }
        frames
            .map(|frame| {
                let value = frame.iter().sum::<f32>() / self.channels as f32;
                let squares: f64 = frame.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                self.count(value, squares)
            })
            .collect()
    }

    /// The sample `frame` of `planes`, a vector for each channel.
    pub(super) fn planar(&mut self, planes: &[Vec<f32>], frame: usize) -> f32 {
        if let Some(chosen) = self.chosen {
            return planes[chosen][frame];
        }
        let value = planes.iter().map(|plane| plane[frame]).sum::<f32>() / self.channels as f32;
        if self.channels == 1 {
            return value;
        }
        let squares = planes
            .iter()
            .map(|plane| f64::from(plane[frame]) * f64::from(plane[frame]));
        let squares = squares.sum();
        self.count(value, squares)
    }

    fn count(&mut self, value: f32, squares: f64) -> f32 {
        self.mean += f64::from(value) * f64::from(value);
        self.each += squares / self.channels as f64;
        self.frames += 1;
        value
    }

    /// Whether channels of opposite phase have cancelled in the mean.
    pub(super) fn cancels(&self) -> bool {
        self.each > SILENCE * self.frames as f64 && self.mean < CANCELLED * self.each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposite_channels_cancel_and_others_do_not() {
        let sound: Vec<f32> = (0..4000).map(|n| (n as f32 * 0.3).sin() * 0.2).collect();
        let other: Vec<f32> = (0..4000).map(|n| (n as f32 * 0.77).sin() * 0.2).collect();
        let mixed = |second: &dyn Fn(usize) -> f32| {
            let mut mixer = Mixer::new(2, None);
            let both = sound.iter().enumerate().flat_map(|(n, &x)| [x, second(n)]);
            mixer.interleaved(both.collect());
            mixer.cancels()
        };
        assert!(mixed(&|n| -sound[n]));
        // Wires that were changed lose a little on their way.
        assert!(mixed(&|n| -0.85 * sound[n]));
        assert!(!mixed(&|n| sound[n]));
        assert!(!mixed(&|n| other[n]));
        assert!(!mixed(&|_| 0.0));
        let mut silence = Mixer::new(2, None);
        silence.interleaved(vec![0.0; 800]);
        assert!(!silence.cancels());
    }

    #[test]
    fn a_channel_can_be_chosen() {
        let interleaved = vec![0.1, 0.2, 0.3, 0.4];
        assert_eq!(
            Mixer::new(2, Some(1)).interleaved(interleaved.clone()),
            [0.2, 0.4]
        );
        let planes = [vec![0.1, 0.3], vec![0.2, 0.4]];
        assert_eq!(Mixer::new(2, Some(1)).planar(&planes, 1), 0.4);
        let mut mean = Mixer::new(2, None);
        assert_eq!(mean.interleaved(interleaved)[1], mean.planar(&planes, 1));
    }
}
