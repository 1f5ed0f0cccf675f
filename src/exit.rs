//! How the program ends: one place that turns what went wrong into an exit code and a message.

use std::{io, process::ExitCode};

use speech::import::{HoldOutError, UnknownFormat};

use crate::{output, signals::Signal};

/// What an error asks of whoever started the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The job ran, and failed.
    Job,
    /// Another command line.
    Usage,
    /// The same again, later.
    Infrastructure,
    /// Another job or other data.
    Data,
    Signal(Signal),
}

impl Code {
    pub const fn number(self) -> u8 {
        match self {
            Self::Job => 1,
            Self::Usage => 2,
            // EX_TEMPFAIL and EX_CONFIG of sysexits.h.
            Self::Infrastructure => 75,
            Self::Data => 78,
            Self::Signal(signal) => signal.exit_code(),
        }
    }
}

/// What the verbs themselves find wrong; the crates below have errors of their own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
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

impl Failure {
    const fn code(&self) -> Code {
        match self {
            Self::Job(_) => Code::Job,
            Self::Usage(_) => Code::Usage,
            Self::Infrastructure(_) => Code::Infrastructure,
            Self::Data(_) => Code::Data,
            Self::Signal { signal, .. } => Code::Signal(*signal),
        }
    }
}

/// Names the error on standard error and gives its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    match code {
        Code::Signal(_) => output::message(&told(error)),
        _ => output::message(&format!("error: {}", told(error))),
    }
    ExitCode::from(code.number())
}

/// The error and its causes in one sentence. Errors that say their cause themselves do not have it
/// said again.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// The code of the first error in the chain that has one.
fn code(error: &anyhow::Error) -> Code {
    error.chain().find_map(of_cause).unwrap_or(Code::Job)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    macro_rules! decide {
        ($($kind:ty => $code:expr,)*) => {
            $(if let Some(error) = cause.downcast_ref::<$kind>() {
                #[allow(clippy::redundant_closure_call)]
                return Some(($code)(error));
            })*
        };
    }
    decide! {
        Failure => Failure::code,
        UnknownFormat => |_| Code::Usage,
        proto::crash::UnknownPlace => |_| Code::Usage,
        HoldOutError => of_hold_out,
        speech::import::ImportError => of_import,
        speech::manifest::ManifestError => of_manifest,
        speech::output_file::OutputError => of_output,
        speech::audio::AudioError => of_data,
        speech::text::TextError => of_data,
        speech::strict::StrictError => of_strict,
        speech::synth::SynthError => of_data,
        speech::front_end::FrontEndError => of_data,
        speech::recipe::RecipeError => of_data,
        speech::model::ModelConfigError => of_data,
        speech::lm::LmError => of_data,
        speech::lm::TrainError => of_lm_training,
        speech::lexicon::LexiconError => of_data,
        speech::decode::DecodeError => of_data,
        speech::decode::KeptError => of_data,
        speech::audio::raw::RawError => of_data,
        worker::inference::ListenError => of_data,
        worker::gradient::GradientError => of_data,
        coordinator::job::JobError => of_job,
        coordinator::store::StoreError => of_store,
        coordinator::server::StartError => of_start,
        coordinator::server::Stopped => |_| Code::Infrastructure,
        coordinator::driver::Refused => of_refused,
        worker::compute::ComputeError => of_data,
        worker::inference::ModelError => of_data,
        worker::session::SessionError => of_session,
        io::Error => |_| Code::Infrastructure,
    }
    None
}

/// Whether what the system says may be different in a minute, with the same command and the same files: a full disk, a
/// network file system that is away, too many open files. A file that is not there, or may not be read, stays so.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    !matches!(
        error.kind(),
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::AlreadyExists
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::DirectoryNotEmpty
            | Kind::ReadOnlyFilesystem
            | Kind::InvalidInput
            | Kind::InvalidData
            | Kind::InvalidFilename
            | Kind::UnexpectedEof
            | Kind::FileTooLarge
            | Kind::ArgumentListTooLong
            | Kind::Unsupported
    )
}

/// Bad data, or bad configuration, unless the system stood in the way and may not do so again.
fn of_data<E: std::error::Error + 'static>(error: &E) -> Code {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<io::Error>() {
            return of_io(error);
        }
        cause = found.source();
    }
    Code::Data
}

fn of_io(error: &io::Error) -> Code {
    match may_pass(error) {
        true => Code::Infrastructure,
        false => Code::Data,
    }
}

fn of_import(error: &speech::import::ImportError) -> Code {
    match error {
        speech::import::ImportError::Read { error, .. } => of_io(error),
        other => of_data(other),
    }
}

fn of_refused(refused: &coordinator::driver::Refused) -> Code {
    use coordinator::driver::Refused;
    match refused {
        Refused::Store(error) => of_store(error),
        Refused::Stopping => Code::Infrastructure,
        _ => Code::Data,
    }
}

fn of_hold_out(error: &HoldOutError) -> Code {
    match error {
        HoldOutError::Rule { .. } | HoldOutError::Fractions => Code::Usage,
        _ => Code::Data,
    }
}

fn of_manifest(error: &speech::manifest::ManifestError) -> Code {
    match error {
        speech::manifest::ManifestError::Write(error) => of_output(error),
        speech::manifest::ManifestError::Read { error, .. } => of_io(error),
        _ => Code::Data,
    }
}

/// An output that another command line would put elsewhere, or a disk that may have room later.
fn of_output(error: &speech::output_file::OutputError) -> Code {
    match error.may_pass() {
        true => Code::Infrastructure,
        false => Code::Usage,
    }
}

fn of_lm_training(error: &speech::lm::TrainError) -> Code {
    match error {
        speech::lm::TrainError::Order(_) => Code::Usage,
        _ => Code::Data,
    }
}

fn of_strict(error: &speech::strict::StrictError) -> Code {
    match error {
        speech::strict::StrictError::Override { .. } => Code::Usage,
        _ => Code::Data,
    }
}

fn of_job(error: &coordinator::job::JobError) -> Code {
    match error {
        coordinator::job::JobError::Strict(error) => of_strict(error),
        _ => Code::Data,
    }
}

fn of_store(error: &coordinator::store::StoreError) -> Code {
    use coordinator::store::StoreError;
    match error {
        StoreError::Held { .. } | StoreError::Fenced { .. } | StoreError::Io { .. } => {
            Code::Infrastructure
        }
        _ => Code::Data,
    }
}

fn of_start(error: &coordinator::server::StartError) -> Code {
    use coordinator::server::StartError;
    match error {
        StartError::Store(error) => of_store(error),
        // A port may be in use because whoever had it has not ended yet.
        StartError::Listen { .. }
        | StartError::Resolve { .. }
        | StartError::InUse(_)
        | StartError::Reflection(_) => Code::Infrastructure,
        StartError::Plaintext(_) | StartError::Address(_) => Code::Data,
    }
}

fn of_session(error: &worker::session::SessionError) -> Code {
    use worker::session::Fault;
    match error.fault() {
        Fault::Infrastructure => Code::Infrastructure,
        Fault::Refused | Fault::Configuration => Code::Data,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use speech::manifest::ManifestError;

    use super::*;

    #[test]
    fn what_may_be_different_in_a_minute_is_75_and_what_stays_as_it_is_78() {
        let manifest = |kind: io::ErrorKind| {
            let (path, error) = (PathBuf::from("train.jsonl"), kind.into());
            code(&ManifestError::Read { path, error }.into()).number()
        };
        assert_eq!(manifest(io::ErrorKind::NotFound), 78);
        assert_eq!(manifest(io::ErrorKind::PermissionDenied), 78);
        assert_eq!(manifest(io::ErrorKind::StaleNetworkFileHandle), 75);
        assert_eq!(manifest(io::ErrorKind::TimedOut), 75);
        // EIO and EMFILE.
        for errno in [5, 24] {
            assert!(may_pass(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        let lexicon = |kind: io::ErrorKind| {
            let (path, source) = (PathBuf::from("words.txt"), kind.into());
            code(&speech::lexicon::LexiconError::Read { path, source }.into()).number()
        };
        assert_eq!(lexicon(io::ErrorKind::NotFound), 78);
        assert_eq!(lexicon(io::ErrorKind::StorageFull), 75);
    }

    #[test]
    fn a_coordinator_that_cannot_have_its_address_yet_is_worth_a_retry() {
        use coordinator::server::StartError;
        let number = |error: StartError| code(&error.into()).number();
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
