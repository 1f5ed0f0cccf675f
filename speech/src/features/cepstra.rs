//! From log mel energies to cepstra: Kaldi's orthonormal DCT-II and its sine lifter (22), one matrix.

/// Kaldi's `cepstral_lifter`.
const LIFTER: f64 = 22.0;

pub(crate) struct Cepstra {
    /// `[cepstra, bands]`, lifter included.
    matrix: Vec<f32>,
    bands: usize,
}

impl Cepstra {
    pub(crate) fn new(cepstra: usize, bands: usize) -> Self {
        let entry = |k: usize, n: usize| {
            let scale = if k == 0 { 1.0 } else { 2.0 };
            let angle = std::f64::consts::PI / bands as f64 * (n as f64 + 0.5) * k as f64;
            let lift = 1.0 + 0.5 * LIFTER * (std::f64::consts::PI * k as f64 / LIFTER).sin();
            ((scale / bands as f64).sqrt() * angle.cos() * lift) as f32
        };
        let matrix = (0..cepstra)
            .flat_map(|k| (0..bands).map(move |n| entry(k, n)))
            .collect();
        Self { matrix, bands }
    }

    pub(crate) fn transform(&self, log_mel: &[f32], out: &mut [f32]) {
        for (out, row) in out.iter_mut().zip(self.matrix.chunks_exact(self.bands)) {
            *out = row.iter().zip(log_mel).map(|(a, b)| a * b).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_spectrum_has_only_its_level() {
        let mut out = [0.0; 13];
        Cepstra::new(13, 23).transform(&[2.0; 23], &mut out);
        assert!((out[0] - 2.0 * 23f32.sqrt()).abs() < 1e-5);
        assert!(out[1..].iter().all(|c| c.abs() < 1e-4), "{out:?}");
    }
}
