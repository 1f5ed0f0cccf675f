//! Rooms that do not exist: what a microphone hears of a mouth in a box with walls that swallow a part of
//! the sound, by mirror images (Allen & Berkley 1979). It decides where walls, mouth and microphone are, as
//! drawn from a stream, and does not depend on what is said.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::noise::mean_square;
use crate::random::Stream;

/// The speed of sound, in metres a second.
const SPEED_OF_SOUND: f64 = 343.0;

/// A room as a filter.
pub(super) struct Room {
    /// Samples of its response.
    taps: usize,
    /// The response's spectrum, padded to the size of `fft`.
    spectrum: Vec<Complex32>,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

/// Walls, mouth and microphone, in metres.
#[derive(Clone, Copy, Debug)]
struct RoomGeometry {
    size: [f64; 3],
    mouth: [f64; 3],
    ear: [f64; 3],
}

impl RoomGeometry {
    /// A living room or an office; mouth and microphone at least half a metre from every wall.
    fn draw(stream: &mut Stream) -> Self {
        let size =
            [(3.0, 8.0), (3.0, 6.0), (2.4, 3.5)].map(|(low, high)| stream.between(low, high));
        let mut inside = || size.map(|side| stream.between(0.5, side - 0.5));
        Self {
            size,
            mouth: inside(),
            ear: inside(),
        }
    }

    fn volume(&self) -> f64 {
        self.size.iter().product()
    }

    fn surface(&self) -> f64 {
        let [x, y, z] = self.size;
        2.0 * (x * y + y * z + z * x)
    }
}

impl Room {
    /// A room with a reverberation time (T60) of `seconds`, heard at `rate` Hz.
    pub(super) fn draw(seconds: f64, rate: u32, stream: &mut Stream) -> Self {
        Self::new(&response(&RoomGeometry::draw(stream), seconds, rate))
    }

    fn new(response: &[f32]) -> Self {
        let taps = response.len();
        let size = (4 * taps).next_power_of_two();
        let mut planner = FftPlanner::new();
        let forward = planner.plan_fft_forward(size);
        let mut spectrum: Vec<Complex32> =
            response.iter().map(|&x| Complex32::new(x, 0.0)).collect();
        spectrum.resize(size, Complex32::ZERO);
        forward.process(&mut spectrum);
        Self {
            taps,
            spectrum,
            inverse: planner.plan_fft_inverse(size),
            forward,
        }
    }

    /// `samples` as they are heard in the room: as many, as loud, and no later. What sounds on after the
    /// last is cut off.
    pub(super) fn sound(&self, samples: &[f32]) -> Vec<f32> {
        let size = self.spectrum.len();
        let block = size - self.taps + 1;
        let mut heard = vec![0.0; samples.len() + size];
        let mut buffer = vec![Complex32::ZERO; size];
        // Overlap and add: a block's sound goes on into the next.
        for (n, samples) in samples.chunks(block).enumerate() {
            buffer.fill(Complex32::ZERO);
            for (value, &sample) in buffer.iter_mut().zip(samples) {
                value.re = sample;
            }
            self.forward.process(&mut buffer);
            for (value, of_room) in buffer.iter_mut().zip(&self.spectrum) {
                *value *= of_room;
            }
            self.inverse.process(&mut buffer);
            for (heard, value) in heard[n * block..].iter_mut().zip(&buffer) {
                *heard += value.re;
            }
        }
        heard.truncate(samples.len());
        let (before, after) = (mean_square(samples), mean_square(&heard));
        if after > 0.0 {
            let scale = (before / after).sqrt() as f32;
            heard.iter_mut().for_each(|sample| *sample *= scale);
        }
        heard
    }
}

/// What is heard of a click, from the moment that the direct sound arrives until `seconds` later.
///
/// All walls reflect alike, and so much that the room's T60 is `seconds` by Eyring's formula. Images arrive
/// at the nearest sample, as in the paper.
fn response(place: &RoomGeometry, seconds: f64, rate: u32) -> Vec<f32> {
    let rate = f64::from(rate);
    // 24 ln(10) / velocity: the 0.161 of Sabine's and Eyring's formulas.
    let constant = 24.0 * std::f64::consts::LN_10 / SPEED_OF_SOUND;
    let absorbed = 1.0 - (-constant * place.volume() / (place.surface() * seconds)).exp();
    let reflected = (1.0 - absorbed).sqrt();
    let direct = distance(place.mouth, place.ear);
    let reach = direct + SPEED_OF_SOUND * seconds;
    let taps = (seconds * rate).ceil() as usize + 1;
    let mut response = vec![0.0f64; taps];

    // Each axis on its own: where images lie from the microphone, and through how many walls.
    let axis = |dim: usize| -> Vec<(f64, i32)> {
        let side = place.size[dim];
        let most = (reach / (2.0 * side)).ceil() as i32 + 1;
        let mut images = Vec::new();
        for room in -most..=most {
            for mirrored in [0, 1] {
                let image =
                    f64::from(1 - 2 * mirrored) * place.mouth[dim] + 2.0 * f64::from(room) * side;
                let walls = (room - mirrored).abs() + room.abs();
                images.push((image - place.ear[dim], walls));
            }
        }
        images
    };
    let (across, along, up) = (axis(0), axis(1), axis(2));
    for &(x, walls_x) in &across {
        for &(y, walls_y) in &along {
            let flat = x * x + y * y;
            if flat > reach * reach {
                continue;
            }
            for &(z, walls_z) in &up {
                let far = (flat + z * z).sqrt();
                let at = ((far - direct) / SPEED_OF_SOUND * rate).round() as usize;
                if let Some(tap) = response.get_mut(at) {
                    *tap += reflected.powi(walls_x + walls_y + walls_z) / far.max(0.1);
                }
            }
        }
    }
    high_pass(&mut response, rate);
    response.into_iter().map(|tap| tap as f32).collect()
}

/// The paper's: images push all in one direction, and their sum below 100 Hz is no sound.
fn high_pass(response: &mut [f64], rate: f64) {
    let angle = std::f64::consts::TAU * 100.0 / rate;
    let radius = (-angle).exp();
    let (mut one, mut two) = (0.0, 0.0);
    for tap in response {
        let now = 2.0 * radius * angle.cos() * one - radius * radius * two + *tap;
        *tap = now - (1.0 + radius) * one + radius * two;
        (one, two) = (now, one);
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let squares = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: RoomGeometry = RoomGeometry {
        size: [5.0, 4.0, 3.0],
        mouth: [1.0, 1.5, 1.6],
        ear: [3.5, 2.0, 1.2],
    };

    #[test]
    fn the_first_echoes_come_from_where_the_mirrored_mouths_are() {
        let response = response(&GEOMETRY, 0.3, 16_000);
        let direct = distance(GEOMETRY.mouth, GEOMETRY.ear);
        // Behind the wall at x = 0, and below the floor.
        let images = [[-1.0, 1.5, 1.6], [1.0, 1.5, -1.6]];
        let constant = 24.0 * std::f64::consts::LN_10 / SPEED_OF_SOUND;
        let reflected = (-constant * 60.0 / (94.0 * 0.3)).exp().sqrt();
        // The high-pass filter leaves an impulse its height, and a low tail behind it.
        assert!((f64::from(response[0]) - 1.0 / direct).abs() < 1e-3 / direct);
        for image in images {
            let far = distance(image, GEOMETRY.ear);
            let at = ((far - direct) / SPEED_OF_SOUND * 16_000.0).round() as usize;
            let wanted = reflected / far;
            let found = f64::from(response[at] - response[at - 1]);
            assert!(
                (found / wanted - 1.0).abs() < 0.05,
                "{image:?}: {found}, not {wanted}"
            );
        }
    }

    #[test]
    fn sound_falls_by_sixty_decibels_in_the_time_that_was_asked_for() {
        for seconds in [0.2, 0.4] {
            let response = response(&GEOMETRY, seconds, 8000);
            // Schroeder's integral, its slope between 5 and 25 dB below the start.
            let mut left = vec![0.0; response.len() + 1];
            for n in (0..response.len()).rev() {
                left[n] = left[n + 1] + f64::from(response[n]).powi(2);
            }
            let when = |db: f64| {
                let below = |energy: &f64| 10.0 * (energy / left[0]).log10() <= -db;
                left.iter().position(below).expect("it falls") as f64 / 8000.0
            };
            let t60 = 3.0 * (when(25.0) - when(5.0));
            assert!(
                (0.7..1.4).contains(&(t60 / seconds)),
                "{t60}, not {seconds}"
            );
        }
    }

    #[test]
    fn a_room_is_a_convolution_as_loud_and_as_long() {
        let mut stream = Stream::new(3, &[]);
        let response: Vec<f32> = (0..37).map(|n| 0.9f32.powi(n)).collect();
        let samples: Vec<f32> = (0..1000)
            .map(|_| stream.between(-0.5, 0.5) as f32)
            .collect();
        let heard = Room::new(&response).sound(&samples);
        let plain: Vec<f32> = (0..samples.len())
            .map(|n| {
                (0..37.min(n + 1))
                    .map(|tap| response[tap] * samples[n - tap])
                    .sum()
            })
            .collect();
        let scale = (mean_square(&samples) / mean_square(&plain)).sqrt() as f32;
        for (heard, plain) in heard.iter().zip(&plain) {
            assert!((heard - scale * plain).abs() < 1e-5);
        }
        assert_eq!(heard.len(), samples.len());
        assert!((mean_square(&heard) / mean_square(&samples) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn drawn_rooms_hold_what_is_in_them() {
        for seed in 0..200 {
            let place = RoomGeometry::draw(&mut Stream::new(seed, &[]));
            for dim in 0..3 {
                let inside = 0.5..place.size[dim] - 0.49;
                assert!(inside.contains(&place.mouth[dim]) && inside.contains(&place.ear[dim]));
            }
        }
        assert!(
            Room::draw(0.02, 8000, &mut Stream::new(1, &[]))
                .sound(&[])
                .is_empty()
        );
    }
}
