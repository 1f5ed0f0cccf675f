//! How the program ends: what went wrong becomes a message and an exit code. The errors of all crates say
//! themselves what class they are of ([`Classify`]); what does not cannot be returned from a verb.

use std::{
    fmt::{self, Display},
    process::ExitCode,
};

use speech::error_class::{Class, Classify};

use crate::signals::Signal;

/// What the verbs themselves find wrong; the crates below have errors of their own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("{0}")]
    Job(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Infrastructure(String),
    #[error("{0}")]
    Data(String),
    #[error("{told}")]
    Signal { signal: Signal, told: String },
}

impl CommandError {
    const fn ending(&self) -> ProgramEnd {
        match self {
            Self::Job(_) => ProgramEnd::Error(Class::Training),
            Self::Usage(_) => ProgramEnd::Error(Class::Usage),
            Self::Infrastructure(_) => ProgramEnd::Error(Class::Infrastructure),
            Self::Data(_) => ProgramEnd::Error(Class::Data),
            Self::Signal { signal, .. } => ProgramEnd::Signal(*signal),
        }
    }
}

/// What a verb returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb ended before its time.
#[derive(Debug)]
pub(crate) struct Error {
    ending: ProgramEnd,
    cause: anyhow::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgramEnd {
    Error(Class),
    Signal(Signal),
}

impl<E: Classify + std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            ending: ProgramEnd::Error(error.class()),
            cause: error.into(),
        }
    }
}

impl From<CommandError> for Error {
    fn from(failure: CommandError) -> Self {
        Self {
            ending: failure.ending(),
            cause: failure.into(),
        }
    }
}

impl Error {
    /// Says what was tried when the error came.
    pub(crate) fn context(self, tried: impl Display + Send + Sync + 'static) -> Self {
        Self {
            cause: self.cause.context(tried),
            ..self
        }
    }

    /// The error and what it came of, the first cause last.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        self.cause.chain()
    }

    /// The exit code of a program that ends with this.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    const fn code(&self) -> u8 {
        match self.ending {
            ProgramEnd::Error(Class::Training) => 1,
            ProgramEnd::Error(Class::Usage) => 2,
            // EX_TEMPFAIL and EX_CONFIG of sysexits.h.
            ProgramEnd::Error(Class::Infrastructure) => 75,
            ProgramEnd::Error(Class::Data) => 78,
            ProgramEnd::Signal(signal) => signal.exit_code(),
        }
    }

    /// What standard error says of it.
    pub(crate) fn message(&self) -> String {
        match self.ending {
            ProgramEnd::Signal(_) => self.to_string(),
            ProgramEnd::Error(_) => format!("error: {self}"),
        }
    }
}

/// The error and its causes in one sentence. Errors that say their cause themselves do not have it said again.
impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.cause.to_string();
        for cause in self.cause.chain().skip(1).map(ToString::to_string) {
            if !told.contains(&cause) {
                told = format!("{told}: {cause}");
            }
        }
        f.write_str(&told)
    }
}

/// Says what was tried when an error came; its class stays.
pub(crate) trait Context<T> {
    fn context(self, tried: impl Display + Send + Sync + 'static) -> Result<T>;

    fn with_context<C: Display + Send + Sync + 'static>(
        self,
        tried: impl FnOnce() -> C,
    ) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, tried: impl Display + Send + Sync + 'static) -> Result<T> {
        self.with_context(|| tried)
    }

    fn with_context<C: Display + Send + Sync + 'static>(
        self,
        tried: impl FnOnce() -> C,
    ) -> Result<T> {
        self.map_err(|error| error.into().context(tried()))
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use super::*;

    #[test]
    fn an_error_keeps_its_class_under_what_was_tried() {
        let read = |kind: io::ErrorKind| -> Error {
            let path = PathBuf::from("words.txt");
            let error = speech::lexicon::LexiconError::Read {
                path,
                source: kind.into(),
            };
            Err::<(), _>(error).context("the lexicon").unwrap_err()
        };
        assert_eq!(read(io::ErrorKind::NotFound).code(), 78);
        let full = read(io::ErrorKind::StorageFull);
        assert_eq!(full.code(), 75);
        let told = full.to_string();
        assert!(
            told.starts_with("the lexicon: ") && told.contains("words.txt"),
            "{told}"
        );
        assert_eq!(told.matches("no storage space").count(), 1, "{told}");
    }

    #[test]
    fn a_coordinator_that_cannot_have_its_address_yet_is_worth_a_retry() {
        use coordinator::server::StartError;
        let number = |error: StartError| Error::from(error).code();
        let taken = "127.0.0.1:7700".parse().unwrap();
        assert_eq!(number(StartError::InUse(taken)), 75);
        assert_eq!(number(StartError::Plaintext(taken)), 78);
        assert_eq!(number(StartError::Address("nonsense".to_owned())), 78);
        let unresolved = StartError::Resolve {
            listen: "later.example:7700".to_owned(),
            source: io::Error::other("no such host"),
            within: std::time::Duration::from_secs(10),
        };
        assert_eq!(number(unresolved), 75);
    }
}
