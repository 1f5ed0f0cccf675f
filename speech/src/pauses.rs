//! Cuts long recordings at pauses, so that no piece is longer than a model and the memory can take. It decides by
//! energy alone: of each stretch that is as long as a piece may be, it takes the quietest third of a second that
//! leaves the piece long enough. A recording that is short enough stays whole. Where pieces end does not depend on
//! how the samples come. It does not depend on what is said.

use std::ops::Range;

use thiserror::Error;

/// Seconds over which energy is measured, and those of a pause.
const FRAME: f64 = 0.01;
const PAUSE_FRAMES: usize = 30;

/// Seconds of the shortest piece and of the longest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// Seconds of the shortest piece.
    pub shortest: f64,
    /// Seconds of the longest piece.
    pub longest: f64,
}

impl Default for Lengths {
    fn default() -> Self {
        Self {
            shortest: 8.0,
            longest: 24.0,
        }
    }
}

/// Lengths in which no pause can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error(
    "pieces of {shortest} to {longest} seconds cannot be cut: the longest is from 1 to 3600 seconds, and longer than the shortest by half a second"
)]
pub struct LengthsError {
    shortest: f64,
    longest: f64,
}

impl Lengths {
    /// Pieces of up to `longest` seconds, and of a third of that at least.
    ///
    /// # Errors
    /// When that is not from 1 to 3600 seconds.
    pub fn up_to(longest: f64) -> Result<Self, LengthsError> {
        let shortest = longest / 3.0;
        if (1.0..=3600.0).contains(&longest) && longest - shortest >= 0.5 {
            return Ok(Self { shortest, longest });
        }
        Err(LengthsError { shortest, longest })
    }
}

/// Part of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Samples of the recording before it.
    pub start: u64,
    /// The samples of the piece.
    pub samples: Vec<f32>,
}

/// Cuts a recording as it comes in.
#[derive(Clone, Debug)]
pub struct Cutter {
    frame: usize,
    shortest: usize,
    longest: usize,
    start: u64,
    samples: Vec<f32>,
}

impl Cutter {
    /// Cuts a recording with `rate` samples a second.
    pub fn new(rate: u32, lengths: Lengths) -> Self {
        let samples = |seconds: f64| (seconds * f64::from(rate)) as usize;
        Self {
            frame: samples(FRAME).max(1),
            shortest: samples(lengths.shortest),
            longest: samples(lengths.longest).max(1),
            start: 0,
            samples: Vec::new(),
        }
    }

    /// Takes samples and gives the pieces that end among them.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Piece> {
        self.samples.extend_from_slice(samples);
        let mut pieces = Vec::new();
        // A recording that ends here stays whole.
        while self.samples.len() > self.longest {
            let end = self.quietest();
            let rest = self.samples.split_off(end);
            let samples = std::mem::replace(&mut self.samples, rest);
            pieces.push(Piece {
                start: self.start,
                samples,
            });
            self.start += end as u64;
        }
        pieces
    }

    /// What is left when nothing follows.
    pub fn finish(self) -> Option<Piece> {
        (!self.samples.is_empty()).then_some(Piece {
            start: self.start,
            samples: self.samples,
        })
    }

    /// The middle of the quietest pause that may end a piece; of equally quiet ones the first.
    fn quietest(&self) -> usize {
        let window: Range<usize> = self.shortest..self.longest;
        let energies: Vec<f64> = self.samples[window.clone()]
            .chunks_exact(self.frame)
            .map(energy)
            .collect();
        let pauses = energies
            .windows(PAUSE_FRAMES)
            .map(|pause| pause.iter().sum::<f64>());
        let quietest = pauses.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        match quietest {
            Some((first, _)) => window.start + (first + PAUSE_FRAMES / 2) * self.frame,
            None => window.end,
        }
    }
}

/// Without the offset that a sound card adds.
fn energy(samples: &[f32]) -> f64 {
    let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / samples.len() as f64;
    samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const RATE: u32 = 1000;

    /// Noise but for pauses, in seconds.
    fn recording(seconds: f64, pauses: &[Range<f64>]) -> Vec<f32> {
        let mut stream = Stream::new(1, &[]);
        (0..(seconds * f64::from(RATE)) as usize)
            .map(|at| {
                let time = at as f64 / f64::from(RATE);
                let loud = !pauses.iter().any(|pause| pause.contains(&time));
                0.3 + stream.between(-1.0, 1.0) as f32 * if loud { 0.5 } else { 0.001 }
            })
            .collect()
    }

    fn cut(samples: &[f32], at_once: usize) -> Vec<Piece> {
        let mut cutter = Cutter::new(RATE, Lengths::default());
        let mut pieces: Vec<Piece> = samples
            .chunks(at_once)
            .flat_map(|some| cutter.push(some))
            .collect();
        pieces.extend(cutter.finish());
        pieces
    }

    #[test]
    fn a_long_recording_is_cut_in_its_pauses_and_nothing_is_lost() {
        let pauses = [3.0..3.5, 12.0..12.4, 30.0..30.5, 44.0..44.4];
        let samples = recording(60.0, &pauses);
        let pieces = cut(&samples, 700);
        let starts: Vec<f64> = pieces
            .iter()
            .map(|piece| piece.start as f64 / f64::from(RATE))
            .collect();
        assert_eq!(pieces.len(), 4, "{starts:?}");
        for (start, pause) in starts[1..].iter().zip(&pauses[1..]) {
            assert!(pause.contains(start), "{starts:?}");
        }
        let joined: Vec<f32> = pieces
            .iter()
            .flat_map(|piece| piece.samples.clone())
            .collect();
        assert_eq!(joined, samples);
        for at_once in [1, 999, 60_000] {
            assert_eq!(cut(&samples, at_once), pieces, "{at_once}");
        }
    }

    #[test]
    fn a_recording_that_is_short_enough_stays_whole() {
        let samples = recording(24.0, &[10.0..11.0]);
        assert_eq!(cut(&samples, 100).len(), 1);
        assert!(cut(&[], 1).is_empty());
    }

    #[test]
    fn lengths_have_room_for_a_pause() {
        assert_eq!(Lengths::up_to(24.0), Ok(Lengths::default()));
        for longest in [0.5, -1.0, f64::NAN, 4000.0] {
            assert!(Lengths::up_to(longest).is_err());
        }
    }
}
