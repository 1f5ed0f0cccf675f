//! Downloads free corpora from their publishers: in pieces, verified and unpacked.

pub(crate) mod catalogue;
mod download;
mod unpack;

pub(crate) use download::{Download, download, sha256};
pub(crate) use unpack::unpack;
