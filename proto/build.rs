//! Compiles the protocol with a pure-Rust compiler: building needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["workers", "tensors", "jobs"].map(|name| format!("unisono/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // `Bytes` fields are slices of the received frame: chunks are not copied out of it.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
