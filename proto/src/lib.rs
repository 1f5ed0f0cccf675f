//! The wire of unisono: protobuf services and messages, and the domain types they turn into at the
//! boundary. Nothing behind the conversions knows the wire.
//!
//! The main types: [`tree::Node`] (a node of the reduction tree), [`contribution::Contribution`] (the sum that a
//! worker sends for a node) with its [`contribution::Key`], [`wire::Wire`] (the number format in which vectors
//! travel), [`convert`] (messages to domain types, checked once), and `v1`, the generated messages and services.
//!
//! The order of additions follows from the tree alone, not from who adds or when:
//!
//! ```
//! use proto::tree::{Node, fold};
//!
//! let mut leaf = |micro_batch: u32| Ok::<_, std::convert::Infallible>(Some(micro_batch.to_string()));
//! let sum = fold(Node::root(5), 5, &mut leaf, &mut |left, right| format!("({left}+{right})"))?;
//! assert_eq!(sum.as_deref(), Some("(((0+1)+(2+3))+4)"));
//! # Ok::<(), std::convert::Infallible>(())
//! ```

#![warn(unreachable_pub, missing_docs)]

pub mod buffer_pool;
pub mod certificate;
pub mod contribution;
pub mod convert;
pub mod endpoint;
pub mod failpoint;
pub mod identity;
pub mod pieces;
mod seqlock;
pub mod session;
pub mod shared_memory;
pub mod tensor;
pub mod tls;
pub mod tree;
pub mod wire;

/// Generated messages, clients and servers. Only [`convert`], the tonic services and the clients
/// mention them.
pub mod v1 {
    #![allow(missing_docs, clippy::unwrap_used, unused_qualifications)]
    // A header comes once in a push, and nobody holds many.
    #![allow(clippy::large_enum_variant)]
    tonic::include_proto!("unisono.v1");

    /// The compiled protocol, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Both sides must run the same program: bits are promised within one version.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// HTTP/2 flow-control windows of every connection, both ends. The defaults (64 KiB) throttle any
/// real round trip: 128 MiB at 10 ms took six times as long. A window is opened again by halves, so it
/// has to hold more than is under way: 40 MB at 40 ms took two fifths longer with half of this.
pub const STREAM_WINDOW: u32 = 64 << 20;
/// See [`STREAM_WINDOW`].
pub const CONNECTION_WINDOW: u32 = 128 << 20;

/// The largest message either side accepts. Tonic reserves what a message declares before its body
/// arrives, so this bounds what a stranger can make us allocate.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Bytes of a chunk of a tensor or of audio.
pub const CHUNK_BYTES: usize = 1 << 20;
