//! How the program ends: one place that turns what went wrong into an exit code and a message.

use std::process::ExitCode;

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
        speech::import::ImportError => |_| Code::Data,
        speech::manifest::ManifestError => of_manifest,
        speech::output_file::OutputError => of_output,
        speech::audio::AudioError => |_| Code::Data,
        speech::text::TextError => |_| Code::Data,
        speech::strict::StrictError => of_strict,
        speech::synth::SynthError => |_| Code::Data,
        speech::front_end::FrontEndError => |_| Code::Data,
        speech::recipe::RecipeError => |_| Code::Data,
        speech::model::ModelConfigError => |_| Code::Data,
        speech::lm::LmError => |_| Code::Data,
        speech::lm::TrainError => of_lm_training,
        speech::lexicon::LexiconError => |_| Code::Data,
        speech::decode::DecodeError => |_| Code::Data,
        speech::decode::KeptError => |_| Code::Data,
        speech::audio::raw::RawError => |_| Code::Data,
        worker::inference::ListenError => |_| Code::Data,
        worker::gradient::GradientError => |_| Code::Data,
        coordinator::job::JobError => of_job,
        coordinator::store::StoreError => of_store,
        coordinator::server::StartError => of_start,
        coordinator::server::Stopped => |_| Code::Infrastructure,
        coordinator::driver::Refused => |_| Code::Data,
        worker::compute::ComputeError => |_| Code::Data,
        worker::inference::ModelError => |_| Code::Data,
        worker::session::SessionError => of_session,
        std::io::Error => |_| Code::Infrastructure,
    }
    None
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
        StartError::Listen { .. } | StartError::Reflection(_) => Code::Infrastructure,
        StartError::Plaintext(_) | StartError::InUse(_) | StartError::Address(_) => Code::Data,
    }
}

fn of_session(error: &worker::session::SessionError) -> Code {
    use worker::session::Fault;
    match error.fault() {
        Fault::Infrastructure => Code::Infrastructure,
        Fault::Refused | Fault::Configuration => Code::Data,
    }
}
