//! From errors to gRPC codes, once and exhaustively. Messages go out as they are: they are written
//! for whoever asked.

use std::{path::PathBuf, time::Duration};

use proto::{convert::ConvertError, identity::Role, pieces, tensor::AssembleError};
use thiserror::Error;
use tonic::{Code, Status};

use crate::{
    driver::Refused, job::JobError, job_memory::NoMemory, records::events::JournalError,
    store::StoreError,
};

/// Why a call was not carried out.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("the coordinator does not know who makes this call: {0}")]
    Unauthenticated(String),
    #[error("{caller} may not do this: it needs the role `{needed}`, and has `{roles}`")]
    Role {
        caller: String,
        roles: String,
        needed: Role,
    },
    #[error(transparent)]
    Driver(#[from] Refused),
    #[error(transparent)]
    Message(#[from] ConvertError),
    #[error(transparent)]
    Vector(#[from] AssembleError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Memory(#[from] NoMemory),
    #[error("{} cannot be read on the coordinator's host: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the path {} is relative; a submitted job names its files by absolute paths on the coordinator's host", path.display()
    )]
    Relative { path: PathBuf },
    #[error("the job has more than {most} bytes of text, which is more than a job may have")]
    LongJob { most: usize },
    #[error("the parts are not of one report: {0}")]
    Parts(&'static str),
    #[error(
        "the call does not carry the session of worker {worker} of this coordinator; a worker has to join again"
    )]
    NoSession { worker: u64 },
    #[error("node {0} is not leased to this worker any more")]
    NotLeased(String),
    #[error("a push begins with its header")]
    NoHeader,
    #[error("the vector that arrived does not have the digest that was announced")]
    Digest,
    #[error("this worker has no lane; send the vector in chunks")]
    NoLane,
    #[error("the lane cannot be read: {0}")]
    Lane(std::io::Error),
    #[error("the request was not whole within {within:?}")]
    Incomplete { within: Duration },
    #[error("less than a chunk arrived within {within:?}")]
    Stalled { within: Duration },
    #[error("no chunk was taken within {within:?}")]
    Unread { within: Duration },
    #[error("what this address has under way fills what it may have; try again later")]
    TooMuch,
    #[error("this address makes such calls too often; try again later")]
    TooOften,
    #[error("a message of {bytes} bytes is announced, and this call's have {most} at most")]
    LongMessage { bytes: usize, most: usize },
    #[error("this call takes one message, and another one followed")]
    SecondMessage,
    #[error("the answer was not read for too long")]
    Hung,
    #[error("the stream broke off: {0}")]
    Broken(String),
    #[error("the same worker began another push")]
    Superseded,
    #[error("version {wanted} of the weights is over; the newest is {newest}")]
    WeightsGone { wanted: u64, newest: u64 },
    #[error("no job has weights now")]
    NoWeights,
    #[error(
        "the job has no audio file of digest {0} that belongs to an utterance leased to this worker"
    )]
    NoAudio(String),
    #[error("{count} files were asked for at once, and {most} is the most")]
    TooManyFiles { count: usize, most: usize },
    #[error("the audio file of digest {0} was asked for twice at once")]
    FileTwice(String),
    #[error("{} cannot be read: {source}", path.display())]
    Audio {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has changed since the job began", path.display())]
    AudioChanged { path: PathBuf },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Refusal {
    const fn code(&self) -> Code {
        match self {
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Role { .. } => Code::PermissionDenied,
            Self::Driver(refused) => code(refused),
            Self::Message(_)
            | Self::Vector(_)
            | Self::Job(_)
            | Self::File { .. }
            | Self::Memory(_)
            | Self::Relative { .. }
            | Self::NoHeader
            | Self::LongJob { .. }
            | Self::Parts(_)
            | Self::FileTwice(_)
            | Self::SecondMessage
            | Self::TooManyFiles { .. } => Code::InvalidArgument,
            Self::Digest => Code::DataLoss,
            Self::Incomplete { .. } | Self::Stalled { .. } | Self::Unread { .. } | Self::Hung => {
                Code::DeadlineExceeded
            }
            Self::LongMessage { .. } => Code::OutOfRange,
            Self::TooMuch | Self::TooOften => Code::Unavailable,
            Self::Superseded | Self::Broken(_) => Code::Aborted,
            Self::WeightsGone { .. } | Self::NoWeights | Self::NoLane | Self::NotLeased(_) => {
                Code::FailedPrecondition
            }
            Self::NoAudio(_) => Code::NotFound,
            Self::NoSession { .. } => Code::Unauthenticated,
            Self::Lane(_) | Self::Audio { .. } | Self::AudioChanged { .. } | Self::Journal(_) => {
                Code::Internal
            }
        }
    }
}

const fn code(refused: &Refused) -> Code {
    match refused {
        Refused::UnknownJob(_) | Refused::NoJobs | Refused::NotRunning(_) => Code::NotFound,
        Refused::Ended { .. }
        | Refused::NotResumable { .. }
        | Refused::Version { .. }
        | Refused::Class { .. }
        | Refused::Quarantined(_) => Code::FailedPrecondition,
        Refused::BadResults(_) => Code::InvalidArgument,
        // Nobody but who was leased the work may hand it in, and as it was leased.
        Refused::Contribution(_) | Refused::TurnedAway { .. } => Code::PermissionDenied,
        Refused::Stopping => Code::Unavailable,
        Refused::Store(
            StoreError::Changed { .. } | StoreError::RunEnded { .. } | StoreError::Job { .. },
        ) => Code::FailedPrecondition,
        Refused::Store(_) => Code::Internal,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        /// A status travels in headers, percent-encoded, of which clients take 16 KiB.
        const MAX_STATUS_BYTES: usize = 4 << 10;
        let message = pieces::bounded(refusal.to_string(), MAX_STATUS_BYTES);
        Self::new(refusal.code(), message)
    }
}
