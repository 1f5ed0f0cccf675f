//! Free corpora from where their publishers put them: got in pieces, checked, unpacked. It refuses to know
//! what is in them.

pub mod catalogue;
mod download;
mod unpack;

pub use download::{Source, download};
pub use unpack::unpack;
