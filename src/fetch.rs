//! Free corpora from where their publishers put them: got in pieces, checked, unpacked.

pub mod catalogue;
mod download;
mod unpack;

pub use download::{Download, download, sha256};
pub use unpack::unpack;
