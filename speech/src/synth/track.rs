//! From words to the synthesiser's control parameters over time: durations, formant movements, levels
//! and pitch. It decides how the words are said and does not depend on how sound is made.
//!
//! Targets are joined by smooth transitions. Across a border, each sound reaches into the other by its
//! own amount, limited to half of the other's duration: fast speech therefore misses its targets
//! (undershoot) without a rule for it.

use super::digit::Digit;
use super::phoneme::{Manner, NASAL_POLE, Phone, Targets};
use super::speaker::{Speaker, decibels, factor};
use crate::random::Stream;
use std::ops::Range;

/// Seconds between two sets of control parameters.
pub(super) const FRAME: f64 = 0.002;

/// What the synthesiser does during one [`FRAME`]. Amplitudes are linear.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Controls {
    pub formants: [f64; 3],
    pub bandwidths: [f64; 3],
    pub nasal_zero: f64,
    pub voicing: f64,
    pub aspiration: f64,
    pub friction: [f64; 6],
    pub pitch_hz: f64,
}

/// A sound of this speaker at its place in the utterance, in seconds.
struct Placed {
    targets: Targets,
    start: f64,
    end: f64,
}

/// The middle of a word's loudest vowel, where its accent lies.
struct Accent {
    at: f64,
    semitones: f64,
}

/// The utterance as a sequence of [`Controls`].
pub(super) fn track(words: &[Digit], speaker: &Speaker, stream: &mut Stream) -> Vec<Controls> {
    let (sounds, accents, _) = place(words, speaker, stream);
    let length = sounds.last().map_or(0.0, |sound| sound.end);
    let melody = Melody::draw(length, accents, speaker, stream);
    let mut current = 0;
    (0..(length / FRAME) as usize)
        .map(|frame| {
            let time = (frame as f64 + 0.5) * FRAME;
            while current + 1 < sounds.len() && time >= sounds[current].end {
                current += 1;
            }
            let mut controls = articulate(&sounds, current, time);
            controls.pitch_hz = speaker.pitch_hz * melody.factor(time);
            controls
        })
        .collect()
}

/// Where each word begins and ends in what [`track`] makes of the same arguments, in seconds.
pub(super) fn word_times(
    words: &[Digit],
    speaker: &Speaker,
    stream: &mut Stream,
) -> Vec<Range<f64>> {
    place(words, speaker, stream).2
}

/// Lays the sounds one after the other; the last part is where the words begin and end.
fn place(
    words: &[Digit],
    speaker: &Speaker,
    stream: &mut Stream,
) -> (Vec<Placed>, Vec<Accent>, Vec<Range<f64>>) {
    // A string of digits is said faster than a single one.
    let pace = speaker.pace * factor(stream, 0.1) * if words.len() > 1 { 0.85 } else { 1.0 };
    let carelessness = speaker.centralising * stream.between(0.5, 1.5);
    let (mut sounds, mut accents, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let mut time = 0.0;
    let mut push = |phone: Phone, duration: f64, stream: &mut Stream| {
        let targets = own(phone, speaker, carelessness, stream);
        sounds.push(Placed {
            targets,
            start: time,
            end: time + duration,
        });
        time += duration;
        time
    };
    // Silence at both ends: the first sound builds up and the last one dies away in it.
    let mut at = push(Phone::Pause, 0.03, stream);
    for (index, word) in words.iter().enumerate() {
        let last = index + 1 == words.len();
        let pause = match stream.uniform() {
            _ if last => 0.1,
            u if u < 0.45 => 0.0,
            _ => stream.between(0.04, 0.22),
        };
        let phones = word.phones(speaker, stream);
        let mut accented: Option<Accent> = None;
        let begun = at;
        for (place, &phone) in phones.iter().enumerate() {
            let targets = phone.targets();
            let elasticity = match targets.manner {
                Manner::Vowel => 1.0,
                Manner::Sonorant | Manner::Noise => 0.7,
                Manner::Stop | Manner::Silence => 0.4,
            };
            // The last two sounds before a pause are drawn out (Klatt 1976, JASA 59(5)).
            let drawn_out = match targets.manner {
                Manner::Vowel if pause > 0.0 && place + 1 == phones.len() => 1.45,
                Manner::Vowel | Manner::Sonorant if pause > 0.0 && place + 2 >= phones.len() => {
                    1.25
                }
                _ => 1.0,
            };
            let duration = targets.duration / 1000.0
                * (pace.ln() * elasticity).exp()
                * drawn_out
                * factor(stream, 0.18);
            let end = push(phone, duration, stream);
            at = end;
            if targets.manner == Manner::Vowel && accented.is_none() {
                accented = Some(Accent {
                    at: end - duration / 2.0,
                    semitones: 0.0,
                });
            }
        }
        if let Some(mut accent) = accented {
            accent.semitones = stream.between(0.5, 3.5) * speaker.liveliness;
            accents.push(accent);
        }
        times.push(begun..at);
        if pause > 0.0 {
            at = push(Phone::Pause, pause, stream);
        }
    }
    (sounds, accents, times)
}

/// The targets of a sound in this speaker's mouth, this time.
fn own(phone: Phone, speaker: &Speaker, carelessness: f64, stream: &mut Stream) -> Targets {
    const NEUTRAL: [f64; 3] = [500.0, 1450.0, 2500.0];
    let mut targets = phone.targets();
    let slip = [0.06, 0.05, 0.04].map(|spread| factor(stream, spread));
    // The phases of a stop are one gesture.
    let slip = if targets.manner == Manner::Stop {
        [1.0; 3]
    } else {
        slip
    };
    let accent = &speaker.accent[phone.gesture() as usize];
    for formants in &mut targets.formants {
        for (k, hz) in formants.iter_mut().enumerate() {
            if targets.manner == Manner::Vowel {
                *hz += carelessness * (NEUTRAL[k] - *hz);
            }
            if phone == Phone::Er {
                *hz += (1.0 - speaker.rhotic) * (NEUTRAL[k] - *hz);
            }
            *hz *= speaker.tract[k] * accent[k] * slip[k];
        }
        // Formants keep their order and a distance, whatever was drawn.
        for k in 1..3 {
            formants[k] = formants[k].max(formants[k - 1] + 150.0);
        }
    }
    for bandwidth in &mut targets.bandwidths {
        *bandwidth *= speaker.bandwidth;
    }
    targets.nasal_zero = if targets.nasal_zero == NASAL_POLE {
        NASAL_POLE * speaker.tract[0]
    } else {
        targets.nasal_zero * speaker.tract[0] * slip[0]
    };
    targets
}

/// Smooth from 0 to 1 while `x` goes from 0 to 1.
fn ease(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// The shape of the tract (formants, bandwidths, nasal zero) that a sound asks for at `time`.
fn shape(sound: &Placed, time: f64) -> [f64; 7] {
    let targets = &sound.targets;
    let part = (time - sound.start) / (sound.end - sound.start);
    let [start, end] = &targets.formants;
    let mut shape = [0.0; 7];
    for k in 0..3 {
        shape[k] = start[k] + part * (end[k] - start[k]);
        shape[3 + k] = targets.bandwidths[k];
    }
    shape[6] = targets.nasal_zero;
    shape
}

/// The amplitudes of a sound: voicing, aspiration, friction.
fn levels(targets: &Targets) -> [f64; 8] {
    let mut levels = [0.0; 8];
    levels[0] = decibels(targets.voicing);
    levels[1] = decibels(targets.aspiration);
    for (to, &from) in levels[2..].iter_mut().zip(&targets.friction) {
        *to = decibels(from);
    }
    levels
}

fn mix<const N: usize>(from: [f64; N], to: [f64; N], part: f64) -> [f64; N] {
    std::array::from_fn(|k| from[k] + part * (to[k] - from[k]))
}

/// How far `by` reaches into `sound`, in seconds.
fn reach(by: &Placed, sound: &Placed) -> f64 {
    (by.targets.reach / 1000.0).min(0.5 * (sound.end - sound.start))
}

/// The controls at `time`, inside the sound `current`, but for the pitch.
fn articulate(sounds: &[Placed], current: usize, time: f64) -> Controls {
    let sound = &sounds[current];
    let before = current.checked_sub(1).map(|index| &sounds[index]);
    let after = sounds.get(current + 1);
    // Silence has no shape of its own: the tract is already set for the sound that comes, or still for
    // the one that was.
    let before_shape = before.filter(|other| other.targets.manner != Manner::Silence);
    let after_shape = after.filter(|other| other.targets.manner != Manner::Silence);
    let from = sound.start + before_shape.map_or(0.0, |other| reach(other, sound));
    let to = sound.end - after_shape.map_or(0.0, |other| reach(other, sound));

    let shape = if sound.targets.manner == Manner::Silence {
        match (before_shape, after_shape) {
            (_, Some(next)) if time > 0.5 * (sound.start + sound.end) || before_shape.is_none() => {
                shape(next, next.start)
            }
            (Some(last), _) => shape(last, last.end),
            (None, _) => shape(sound, time),
        }
    } else if let Some(last) = before_shape.filter(|_| time < from) {
        let begun = sound.start - reach(sound, last);
        let part = ease((time - begun) / (from - begun));
        mix(shape(last, begun), shape(sound, from), part)
    } else if let Some(next) = after_shape.filter(|_| time > to) {
        let done = sound.end + reach(sound, next);
        let part = ease((time - to) / (done - to));
        mix(shape(sound, to), shape(next, done), part)
    } else {
        shape(sound, time)
    };

    let mut levels_now = levels(&sound.targets);
    // A ramp lies around the border, as long as the quicker of the two sounds allows. Into silence a
    // voice dies away slowly; a stop does not.
    let ramp = |from: &Placed, to: &Placed| {
        let shorter = (from.end - from.start).min(to.end - to.start);
        let wanted = match (from.targets.manner, to.targets.manner) {
            (Manner::Stop, _) | (_, Manner::Stop) => from.targets.ramp.min(to.targets.ramp),
            (_, Manner::Silence) => to.targets.ramp,
            (Manner::Silence, _) => 1.5 * to.targets.ramp,
            _ => from.targets.ramp.min(to.targets.ramp),
        };
        (wanted / 1000.0).min(shorter)
    };
    if let Some(other) = before {
        let width = ramp(other, sound);
        let part = 0.5 + (time - sound.start) / width;
        if part < 1.0 {
            levels_now = mix(levels(&other.targets), levels_now, ease(part));
        }
    }
    if let Some(other) = after {
        let width = ramp(sound, other);
        let part = 0.5 - (sound.end - time) / width;
        if part > 0.0 {
            levels_now = mix(levels_now, levels(&other.targets), ease(part));
        }
    }
    let [f1, f2, f3, b1, b2, b3, nasal_zero] = shape;
    let [voicing, aspiration, friction @ ..] = levels_now;
    Controls {
        formants: [f1, f2, f3],
        bandwidths: [b1, b2, b3],
        nasal_zero,
        voicing,
        aspiration,
        friction,
        pitch_hz: 0.0,
    }
}

/// The movement of pitch over an utterance, in semitones around the speaker's own.
struct Melody {
    length: f64,
    declination: f64,
    accents: Vec<Accent>,
    /// The fall, or now and then the rise, at the end.
    ending: f64,
    wobble: [(f64, f64); 2],
}

impl Melody {
    fn draw(length: f64, accents: Vec<Accent>, speaker: &Speaker, stream: &mut Stream) -> Self {
        let ending = if stream.uniform() < 0.2 {
            stream.between(1.0, 4.0)
        } else {
            stream.between(-6.0, -2.0)
        };
        Self {
            length,
            declination: stream.between(1.0, 4.0) * speaker.liveliness,
            accents,
            ending: ending * speaker.liveliness,
            wobble: [(); 2].map(|()| (stream.between(2.0, 6.0), stream.uniform())),
        }
    }

    fn factor(&self, time: f64) -> f64 {
        const ACCENT_SECONDS: f64 = 0.13;
        const ENDING_SECONDS: f64 = 0.25;
        let mut semitones = self.declination * (0.5 - time / self.length);
        for accent in &self.accents {
            let away = (time - accent.at) / ACCENT_SECONDS;
            semitones += accent.semitones * (-away * away).exp();
        }
        semitones += self.ending * ease(1.0 - (self.length - time) / ENDING_SECONDS);
        for (hz, phase) in self.wobble {
            semitones += 0.25 * (std::f64::consts::TAU * (hz * time + phase)).sin();
        }
        // A voice breaks before it leaves this range.
        let semitones = semitones.clamp(-8.0, 10.0);
        (semitones * (std::f64::consts::LN_2 / 12.0)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::super::speaker::VoiceType;
    use super::*;

    fn digits(values: &[u64]) -> Vec<Digit> {
        values.iter().filter_map(|&v| Digit::new(v)).collect()
    }

    fn said(values: &[u64], voice: VoiceType, seed: u64) -> Vec<Controls> {
        let speaker = Speaker::draw(voice, &mut Stream::new(seed, &[0]));
        track(&digits(values), &speaker, &mut Stream::new(seed, &[1]))
    }

    #[test]
    fn formants_move_without_jumps() {
        for seed in 0..20 {
            let track = said(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], VoiceType::Woman, seed);
            for pair in track.windows(2) {
                // Within silence the tract is set anew.
                if pair[1].voicing < 0.05 || pair[0].voicing < 0.05 {
                    continue;
                }
                for k in 0..3 {
                    let step = (pair[1].formants[k] - pair[0].formants[k]).abs();
                    assert!(step < 220.0, "seed {seed}: F{} jumps by {step} Hz", k + 1);
                }
            }
        }
    }

    #[test]
    fn controls_stay_within_what_a_tract_can_do() {
        for seed in 0..100 {
            for voice in [VoiceType::Man, VoiceType::Woman, VoiceType::Child] {
                for c in said(&[seed % 10, (seed / 10) % 10], voice, seed) {
                    let [f1, f2, f3] = c.formants;
                    assert!(150.0 < f1 && f1 + 100.0 < f2 && f2 + 100.0 < f3 && f3 < 6500.0);
                    assert!((50.0..900.0).contains(&c.pitch_hz), "{}", c.pitch_hz);
                    assert!((0.0..=1.0).contains(&c.voicing));
                    assert!(c.friction.iter().all(|&a| (0.0..=2.0).contains(&a)));
                }
            }
        }
    }

    #[test]
    fn an_utterance_begins_and_ends_in_silence() {
        for value in 0..10 {
            let track = said(&[value], VoiceType::Man, value);
            for c in [track.first(), track.last()].into_iter().flatten() {
                let friction: f64 = c.friction.iter().sum();
                assert!(c.voicing + c.aspiration + friction < 1e-3, "{value}: {c:?}");
            }
        }
    }

    #[test]
    fn the_diphthong_of_nine_glides_and_the_nasal_opens_its_zero() {
        let speaker = Speaker::draw(VoiceType::Man, &mut Stream::new(5, &[0]));
        let track = track(&digits(&[9]), &speaker, &mut Stream::new(5, &[1]));
        let voiced: Vec<&Controls> = track.iter().filter(|c| c.voicing > 0.9).collect();
        let (first, last) = (voiced[voiced.len() / 5], voiced[voiced.len() * 4 / 5]);
        assert!(last.formants[1] > 1.2 * first.formants[1]);
        assert!(last.formants[0] < 0.9 * first.formants[0]);
        let shut = NASAL_POLE * speaker.tract[0];
        let open = track.iter().map(|c| c.nasal_zero).fold(0.0, f64::max);
        assert!(open > 1.3 * shut);
    }

    #[test]
    fn a_child_has_a_shorter_tract_and_a_higher_voice_than_a_man() {
        let mean = |voice, of: fn(&Controls) -> f64| {
            let all: Vec<f64> = (0..20)
                .flat_map(|seed| said(&[1, 5, 9], voice, seed))
                .filter(|c| c.voicing > 0.5)
                .map(|c| of(&c))
                .collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let formant =
            mean(VoiceType::Child, |c| c.formants[1]) / mean(VoiceType::Man, |c| c.formants[1]);
        assert!((1.2..1.45).contains(&formant), "{formant}");
        let pitch = mean(VoiceType::Child, |c| c.pitch_hz) / mean(VoiceType::Man, |c| c.pitch_hz);
        assert!((1.8..2.8).contains(&pitch), "{pitch}");
    }
}
