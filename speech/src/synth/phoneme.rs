//! The sounds of the ten digits: what each one asks of the synthesiser. It knows a man's reference
//! vocal tract only; speakers and timing are applied elsewhere.
//!
//! Formants and bandwidths are those of Klatt (1980), "Software for a cascade/parallel formant
//! synthesizer", JASA 67(3), tables II (vowels) and III (consonants); they agree with Peterson & Barney
//! (1952) to within the spread among their speakers. Noise levels follow table III's A2-A6 and AB,
//! restated as the gain at each resonance's peak.

/// Nothing at all, in decibels.
pub(super) const OFF: f64 = f64::NEG_INFINITY;

/// Where the nasal pole lies, and the nasal zero when the nasal tract is shut: they cancel.
pub(super) const NASAL_POLE: f64 = 270.0;

/// Vowel-like, noise, closure: how a sound gives way when speech is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Vowel,
    Sonorant,
    Noise,
    Stop,
    Silence,
}

/// One steady or gliding stretch of sound. A stop is several: closure, burst, breath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Phone {
    Iy,
    Ih,
    Ey,
    Eh,
    Ah,
    Ax,
    Ao,
    Ow,
    Uw,
    Ay,
    Er,
    W,
    R,
    N,
    F,
    V,
    Th,
    S,
    Z,
    TClosure,
    TBurst,
    TBreath,
    KClosure,
    KBurst,
    Pause,
}

impl Phone {
    pub(super) const COUNT: usize = Self::Pause as usize + 1;

    /// The sound that stands for all phases of the same movement of the tongue.
    pub(super) fn gesture(self) -> Self {
        match self {
            Self::TBurst | Self::TBreath => Self::TClosure,
            Self::KBurst => Self::KClosure,
            other => other,
        }
    }
}

/// A sound's targets. Frequencies and bandwidths in Hz, levels in dB below a vowel's voicing (for
/// noise: below the loudest friction), times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    pub manner: Manner,
    pub duration: f64,
    /// F1-F3 at the beginning and at the end; they differ in diphthongs.
    pub formants: [[f64; 3]; 2],
    pub bandwidths: [f64; 3],
    pub nasal_zero: f64,
    pub voicing: f64,
    pub aspiration: f64,
    /// Friction in the branches F2-F6 and past them all.
    pub friction: [f64; 6],
    /// How far its formants reach into a neighbour.
    pub reach: f64,
    /// How long its levels take to build up or die away.
    pub ramp: f64,
}

const QUIET: [f64; 6] = [OFF; 6];

fn vowel(duration: f64, formants: [[f64; 3]; 2], bandwidths: [f64; 3]) -> Targets {
    Targets {
        manner: Manner::Vowel,
        duration,
        formants,
        bandwidths,
        nasal_zero: NASAL_POLE,
        voicing: 0.0,
        aspiration: OFF,
        friction: QUIET,
        reach: 22.0,
        ramp: 24.0,
    }
}

fn sonorant(duration: f64, formants: [f64; 3], bandwidths: [f64; 3], voicing: f64) -> Targets {
    Targets {
        manner: Manner::Sonorant,
        voicing,
        reach: 75.0,
        ramp: 30.0,
        ..vowel(duration, [formants; 2], bandwidths)
    }
}

fn fricative(
    duration: f64,
    formants: [f64; 3],
    bandwidths: [f64; 3],
    voicing: f64,
    friction: [f64; 6],
) -> Targets {
    Targets {
        manner: Manner::Noise,
        voicing,
        friction,
        reach: 45.0,
        ramp: 26.0,
        ..vowel(duration, [formants; 2], bandwidths)
    }
}

fn stop(duration: f64, formants: [f64; 3], bandwidths: [f64; 3], friction: [f64; 6]) -> Targets {
    Targets {
        manner: Manner::Stop,
        voicing: OFF,
        friction,
        reach: 40.0,
        ramp: 4.0,
        ..vowel(duration, [formants; 2], bandwidths)
    }
}

const T: ([f64; 3], [f64; 3]) = ([400.0, 1600.0, 2600.0], [300.0, 120.0, 250.0]);
const K: ([f64; 3], [f64; 3]) = ([300.0, 1990.0, 2850.0], [250.0, 160.0, 330.0]);

impl Phone {
    pub(super) fn targets(self) -> Targets {
        match self {
            Self::Iy => vowel(
                130.0,
                [[310.0, 2020.0, 2960.0], [290.0, 2070.0, 2960.0]],
                [50.0, 200.0, 400.0],
            ),
            Self::Ih => vowel(
                95.0,
                [[400.0, 1800.0, 2570.0], [470.0, 1600.0, 2600.0]],
                [50.0, 100.0, 140.0],
            ),
            Self::Ey => vowel(
                170.0,
                [[480.0, 1720.0, 2520.0], [330.0, 2020.0, 2600.0]],
                [60.0, 100.0, 200.0],
            ),
            Self::Eh => vowel(
                115.0,
                [[530.0, 1680.0, 2500.0], [620.0, 1530.0, 2530.0]],
                [60.0, 90.0, 200.0],
            ),
            Self::Ah => vowel(150.0, [[620.0, 1220.0, 2550.0]; 2], [80.0, 50.0, 140.0]),
            Self::Ax => vowel(65.0, [[500.0, 1400.0, 2450.0]; 2], [100.0, 80.0, 160.0]),
            Self::Ao => vowel(
                150.0,
                [[600.0, 990.0, 2570.0], [630.0, 1040.0, 2600.0]],
                [90.0, 100.0, 80.0],
            ),
            Self::Ow => vowel(
                170.0,
                [[540.0, 1100.0, 2300.0], [450.0, 900.0, 2300.0]],
                [80.0, 70.0, 70.0],
            ),
            Self::Uw => vowel(
                150.0,
                [[350.0, 1250.0, 2200.0], [320.0, 900.0, 2200.0]],
                [65.0, 110.0, 140.0],
            ),
            Self::Ay => vowel(
                215.0,
                [[660.0, 1200.0, 2550.0], [400.0, 1880.0, 2500.0]],
                [90.0, 70.0, 200.0],
            ),
            Self::Er => Targets {
                reach: 60.0,
                ..vowel(
                    110.0,
                    [[470.0, 1270.0, 1540.0], [420.0, 1310.0, 1540.0]],
                    [100.0, 60.0, 110.0],
                )
            },
            Self::W => sonorant(75.0, [290.0, 610.0, 2150.0], [50.0, 80.0, 60.0], -4.0),
            Self::R => sonorant(75.0, [310.0, 1060.0, 1380.0], [70.0, 100.0, 120.0], -3.0),
            Self::N => Targets {
                nasal_zero: 450.0,
                reach: 45.0,
                ramp: 14.0,
                ..sonorant(90.0, [480.0, 1340.0, 2470.0], [40.0, 300.0, 300.0], -6.0)
            },
            Self::F => fricative(
                110.0,
                [340.0, 1100.0, 2080.0],
                [200.0, 120.0, 150.0],
                OFF,
                [OFF, OFF, OFF, OFF, OFF, -22.0],
            ),
            Self::V => fricative(
                75.0,
                [220.0, 1100.0, 2080.0],
                [60.0, 90.0, 120.0],
                -9.0,
                [OFF, OFF, OFF, OFF, OFF, -29.0],
            ),
            Self::Th => fricative(
                100.0,
                [320.0, 1290.0, 2540.0],
                [200.0, 90.0, 200.0],
                OFF,
                [OFF, OFF, OFF, OFF, -24.0, -28.0],
            ),
            Self::S => fricative(
                125.0,
                [320.0, 1390.0, 2530.0],
                [200.0, 80.0, 200.0],
                OFF,
                [OFF, OFF, -28.0, -13.0, -10.0, OFF],
            ),
            Self::Z => fricative(
                85.0,
                [240.0, 1390.0, 2530.0],
                [70.0, 60.0, 180.0],
                -9.0,
                [OFF, OFF, -34.0, -19.0, -16.0, OFF],
            ),
            Self::TClosure => stop(70.0, T.0, T.1, QUIET),
            Self::TBurst => stop(14.0, T.0, T.1, [OFF, -26.0, -12.0, -4.0, -4.0, OFF]),
            Self::TBreath => Targets {
                aspiration: -20.0,
                ramp: 14.0,
                ..stop(50.0, T.0, T.1, [OFF, OFF, -28.0, -20.0, -20.0, OFF])
            },
            Self::KClosure => stop(70.0, K.0, K.1, QUIET),
            Self::KBurst => Targets {
                aspiration: -26.0,
                ramp: 6.0,
                ..stop(24.0, K.0, K.1, [-14.0, -8.0, -18.0, -18.0, -22.0, OFF])
            },
            Self::Pause => Targets {
                manner: Manner::Silence,
                voicing: OFF,
                reach: 0.0,
                ramp: 90.0,
                ..vowel(0.0, [[500.0, 1500.0, 2500.0]; 2], [80.0, 100.0, 150.0])
            },
        }
    }
}
