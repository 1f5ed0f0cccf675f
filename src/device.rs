//! The device that a verb computes on.

use std::path::Path;

use worker::{
    compute::{Compute, DeviceChoice},
    inference::Model,
};

use crate::{cores, exit::Result};

/// The model in `folder` on the device that was typed, with all of the machine's cores.
pub(crate) fn open(folder: &Path, device: DeviceChoice) -> Result<(Model, Compute)> {
    let compute = compute(device)?;
    Ok((Model::load(folder, &compute)?, compute))
}

/// The device that was typed, with all of the machine's cores; once in a program's life.
pub(crate) fn compute(device: DeviceChoice) -> Result<Compute> {
    compute_with(device, cores::logical())
}

/// As [`compute`], with so many threads; before anything else that has threads, as reading a manifest.
pub(crate) fn compute_with(device: DeviceChoice, threads: usize) -> Result<Compute> {
    worker::compute::set_threads(threads)?;
    Ok(Compute::open(device)?)
}
