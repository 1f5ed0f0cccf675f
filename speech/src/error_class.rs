//! The class of an error, from which the exit code follows. Each error type says so where it is defined.

use std::{error::Error, io};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who has to do something before it can go well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The training itself: it ran, and failed.
    Training,
    /// Whoever typed the command line.
    Usage,
    /// Whoever made the data, the job or the configuration: the same again gives the same error.
    Data,
    /// Nobody: the network, the machine or another program stood in the way. The same again may go well.
    Infrastructure,
}

/// An error that says what it asks for.
pub trait Classify {
    /// The class of this error.
    fn class(&self) -> Class;
}

impl Classify for io::Error {
    fn class(&self) -> Class {
        if may_pass(self) {
            Class::Infrastructure
        } else {
            Class::Data
        }
    }
}

impl Classify for serde_json::Error {
    fn class(&self) -> Class {
        of_data(self)
    }
}

impl Classify for toml::ser::Error {
    fn class(&self) -> Class {
        Class::Data
    }
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

/// The class of an error about data or configuration: [`Class::Data`], unless an I/O error is behind it that may pass.
pub fn of_data(error: &(dyn Error + 'static)) -> Class {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<io::Error>() {
            return error.class();
        }
        cause = found.source();
    }
    Class::Data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the words: {0}")]
    struct Words(#[source] io::Error);

    #[test]
    fn what_may_be_different_in_a_minute_is_worth_a_retry_and_what_stays_as_it_is_is_not() {
        for (kind, class) in [
            (io::ErrorKind::NotFound, Class::Data),
            (io::ErrorKind::PermissionDenied, Class::Data),
            (io::ErrorKind::StaleNetworkFileHandle, Class::Infrastructure),
            (io::ErrorKind::TimedOut, Class::Infrastructure),
            (io::ErrorKind::StorageFull, Class::Infrastructure),
        ] {
            assert_eq!(io::Error::from(kind).class(), class, "{kind}");
            assert_eq!(of_data(&Words(kind.into())), class, "{kind}");
        }
        // EIO and EMFILE.
        for errno in [5, 24] {
            assert!(may_pass(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        assert_eq!(of_data(&std::fmt::Error), Class::Data);
    }
}
