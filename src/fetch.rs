//! Free corpora from where their publishers put them: got in pieces, checked, unpacked.

pub(crate) mod catalogue;
mod download;
mod unpack;

pub(crate) use download::{Download, download, sha256};
pub(crate) use unpack::unpack;
