//! The wire of unisono: protobuf services and messages, and the domain types they turn into at the
//! boundary. Nothing behind the conversions knows the wire.

pub mod contribution;
pub mod convert;
pub mod crash;
pub mod lane;
pub mod pieces;
pub mod tensor;
pub mod text;
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
