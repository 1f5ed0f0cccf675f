//! Utterances and recordings that are left out: why, how many, and the first few by name. One account for the
//! preparation of jobs, training, evaluation, comparison and transcription; how many there may be is [`MaxBad`]'s
//! to say.

use std::{collections::BTreeMap, fmt, io::ErrorKind};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    audio::AudioError,
    escape::escape,
    front_end::FrontEndError,
    tolerance::{MaxBad, TooManyBad},
};

/// Why an utterance takes no part.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The line of the manifest says nothing that can be used.
    BadLine,
    /// The transcript is empty, where a keyword has to be.
    NoTranscript,
    /// There is no file of that name.
    Missing,
    /// The file may not be read, or is no regular file.
    Unreadable,
    /// What is in the file cannot be decoded to samples.
    Damaged,
    /// The recording has another sampling rate, and resampling is off.
    SamplingRate,
    /// The manifest's offset and duration lie outside of the recording.
    Segment,
    /// The recording does not have the channel that the manifest names.
    NoChannel,
    /// It is on one side of a comparison alone.
    OneSide,
    /// It is shorter than one frame of features.
    TooShort,
    /// CTC needs more frames for its transcript than it has.
    TooShortForTranscript,
    /// It is longer than `corpus.max_seconds`.
    TooLong,
    /// Its transcript has characters that the model's vocabulary lacks.
    UnknownCharacters,
    /// No alignment of its transcript has a probability.
    NoAlignment,
}

impl Reason {
    /// Whether the data are at fault, so that [`MaxBad`] bounds how often it may occur. What merely does not
    /// fit the settings is bounded only where a bound was set explicitly.
    pub const fn is_bad(self) -> bool {
        match self {
            Self::BadLine
            | Self::NoTranscript
            | Self::Missing
            | Self::Unreadable
            | Self::Damaged
            | Self::SamplingRate
            | Self::Segment
            | Self::NoChannel
            | Self::OneSide
            | Self::UnknownCharacters
            | Self::NoAlignment => true,
            Self::TooShort | Self::TooShortForTranscript | Self::TooLong => false,
        }
    }

    /// What an error of reading audio means for the utterance; `None` for a failure of the system (a disk, a
    /// network, too many open files), which says nothing about the recording and may have passed in a minute.
    pub fn of_audio(error: &AudioError) -> Option<Self> {
        match error {
            AudioError::Missing { .. } => Some(Self::Missing),
            AudioError::NotAFile { .. } => Some(Self::Unreadable),
            AudioError::Read { source, .. } => Self::of_io(source.kind()),
            AudioError::Write { .. } => None,
            AudioError::Segment { .. } => Some(Self::Segment),
            AudioError::NoChannel { .. } => Some(Self::NoChannel),
            _ => Some(Self::Damaged),
        }
    }

    /// What it means that a file cannot be opened or read; `None` as for [`Reason::of_audio`].
    pub const fn of_io(kind: ErrorKind) -> Option<Self> {
        match kind {
            ErrorKind::PermissionDenied => Some(Self::Unreadable),
            // The last three: a path that no file can have.
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput => Some(Self::Missing),
            _ => None,
        }
    }

    /// What an error of computing features means for the utterance; `None` where the settings are wrong, or as
    /// [`Reason::of_audio`].
    pub fn of_front_end(error: &FrontEndError) -> Option<Self> {
        match error {
            FrontEndError::TooShort { .. } => Some(Self::TooShort),
            FrontEndError::Rate { .. } => Some(Self::SamplingRate),
            FrontEndError::BadSample { .. } => Some(Self::Damaged),
            FrontEndError::Audio(error) => Self::of_audio(error),
            FrontEndError::Config(_)
            | FrontEndError::Stats { .. }
            | FrontEndError::MissingStats => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadLine => "in a line that cannot be used",
            Self::NoTranscript => "without a transcript",
            Self::Missing => "missing",
            Self::Unreadable => "not readable",
            Self::Damaged => "damaged",
            Self::SamplingRate => "at another sampling rate",
            Self::Segment => "with a segment outside of the recording",
            Self::NoChannel => "with a channel that the recording does not have",
            Self::OneSide => "on one side alone",
            Self::TooShort => "shorter than a frame",
            Self::TooShortForTranscript => "too short for the transcript",
            Self::TooLong => "too long",
            Self::UnknownCharacters => "with characters that the model lacks",
            Self::NoAlignment => "without an alignment",
        })
    }
}

/// One that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The utterance's id.
    pub utterance: String,
    /// What is wrong with it.
    pub reason: String,
}

/// How many of a set are left out, by reason, and the first few by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The number of utterances that were left out.
    pub utterances: u64,
    /// The size of the set.
    pub of: u64,
    /// The number for each reason.
    pub by_reason: BTreeMap<Reason, u64>,
    /// The first few of them.
    pub examples: Vec<Example>,
}

/// More of a set are left out than may be; the first few are named.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{bound}{}", named(examples))]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct TooManyLeftOut {
    pub bound: TooManyBad,
    pub examples: Vec<Example>,
}

impl LeftOut {
    /// Examples that are kept.
    const EXAMPLES: usize = 10;
    /// Characters that are kept of a reason: it may come from a peer.
    const MAX_REASON_CHARACTERS: usize = 400;

    /// None, of a set of `total`.
    pub fn of(total: usize) -> Self {
        Self {
            of: total as u64,
            ..Self::default()
        }
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.utterances == 0
    }

    /// Counts `utterance`, of which `told` says what is wrong.
    pub fn add(&mut self, utterance: &str, reason: Reason, told: &str) {
        self.utterances += 1;
        *self.by_reason.entry(reason).or_default() += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(Example {
                utterance: utterance.to_owned(),
                reason: told.chars().take(Self::MAX_REASON_CHARACTERS).collect(),
            });
        }
    }

    /// Counts those of `other`, which are of the same set.
    pub fn join(&mut self, other: &Self) {
        self.utterances += other.utterances;
        for (reason, count) in &other.by_reason {
            *self.by_reason.entry(*reason).or_default() += count;
        }
        let room = Self::EXAMPLES.saturating_sub(self.examples.len());
        self.examples
            .extend(other.examples.iter().take(room).cloned());
    }

    /// Those whose data are at fault ([`Reason::is_bad`]).
    pub fn bad(&self) -> u64 {
        let bad = self.by_reason.iter().filter(|(reason, _)| reason.is_bad());
        bad.map(|(_, count)| count).sum()
    }

    /// # Errors
    /// When more are left out than `bound` allows: of those whose data are at fault, or where the bound was set
    /// explicitly, of all.
    pub fn check(&self, bound: MaxBad) -> Result<(), TooManyLeftOut> {
        let counted = if bound.is_default() {
            self.bad()
        } else {
            self.utterances
        };
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        bound
            .check(size(counted), size(self.of))
            .map_err(|bound| TooManyLeftOut {
                bound,
                examples: self.examples.clone(),
            })
    }

    /// The sentence for people: of `what` ("training utterances") how many were left out, and why.
    pub fn sentence(&self, what: &str) -> String {
        let reasons = self.by_reason.iter();
        let reasons: Vec<String> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let were = if self.utterances == 1 { "was" } else { "were" };
        format!(
            "{} of {} {what} {were} left out ({})",
            self.utterances,
            self.of,
            reasons.join(", ")
        )
    }
}

/// The first few, for the end of a sentence.
fn named(examples: &[Example]) -> String {
    const NAMED_EXAMPLES: usize = 5;
    let named: Vec<String> = examples
        .iter()
        .take(NAMED_EXAMPLES)
        .map(|one| format!("{:?}: {}", one.utterance, escape(&one.reason)))
        .collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(". The first: {}", named.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    fn read(kind: ErrorKind) -> AudioError {
        AudioError::Read {
            path: PathBuf::from("a.wav"),
            source: io::Error::from(kind),
        }
    }

    #[test]
    fn a_failure_of_the_system_is_no_fault_of_a_recording() {
        for kind in [
            ErrorKind::TimedOut,
            ErrorKind::StaleNetworkFileHandle,
            ErrorKind::Other,
        ] {
            assert_eq!(Reason::of_audio(&read(kind)), None, "{kind}");
        }
        // EIO and EMFILE have kinds without a name.
        for code in [5, 24] {
            let error = AudioError::Read {
                path: PathBuf::new(),
                source: io::Error::from_raw_os_error(code),
            };
            assert_eq!(Reason::of_audio(&error), None, "{code}");
        }
        let denied = Reason::of_audio(&read(ErrorKind::PermissionDenied));
        assert_eq!(denied, Some(Reason::Unreadable));
        let path = PathBuf::from("a.wav");
        let empty = Reason::of_audio(&AudioError::Empty { path });
        assert_eq!(empty, Some(Reason::Damaged));
    }

    #[test]
    fn what_does_not_fit_the_settings_is_bounded_only_where_a_bound_is_set() {
        let mut left_out = LeftOut::of(20);
        for at in 0..12 {
            let reason = if at < 9 {
                Reason::TooShortForTranscript
            } else {
                Reason::Damaged
            };
            left_out.add(&format!("u{at}"), reason, "it is so");
        }
        assert_eq!((left_out.utterances, left_out.bad()), (12, 3));
        assert_eq!(left_out.examples.len(), 10);
        assert!(left_out.check(MaxBad::Default).is_ok());
        assert!(left_out.check(MaxBad::Count(12)).is_ok());
        let error = left_out.check(MaxBad::Count(11)).unwrap_err().to_string();
        assert!(
            error.contains("12 of 20") && error.contains("\"u0\": it is so"),
            "{error}"
        );
        assert_eq!(
            left_out.sentence("utterances"),
            "12 of 20 utterances were left out (3 damaged, 9 too short for the transcript)"
        );
    }

    #[test]
    fn names_from_outside_steer_no_terminal() {
        let mut left_out = LeftOut::of(1);
        left_out.add("a\u{1b}[2J", Reason::Damaged, "b\u{7}\u{9b}31m");
        let error = left_out.check(MaxBad::Default).unwrap_err().to_string();
        assert!(error.chars().all(|one| !one.is_control()), "{error:?}");
    }

    #[test]
    fn an_account_survives_json() {
        let mut left_out = LeftOut::of(3);
        left_out.add("a", Reason::TooLong, "long");
        let text = serde_json::to_string(&left_out).unwrap();
        assert!(text.contains("\"too-long\":1"), "{text}");
        assert_eq!(serde_json::from_str::<LeftOut>(&text).unwrap(), left_out);
    }
}
