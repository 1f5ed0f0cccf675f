//! The device that a verb computes on.

use std::path::Path;

use worker::{
    compute::{Compute, DeviceChoice},
    inference::Model,
};

use crate::{cores, exit::Result};

/// The model in `folder` on the device that was typed, with all of the machine's cores.
pub(crate) fn open(folder: &Path, device: DeviceChoice) -> Result<(Model, Compute)> {
    open_with(folder, device, None)
}

/// As [`open`], with so many threads.
pub(crate) fn open_with(
    folder: &Path,
    device: DeviceChoice,
    threads: Option<usize>,
) -> Result<(Model, Compute)> {
    worker::compute::set_threads(threads.unwrap_or_else(cores::logical))?;
    let compute = Compute::open(device)?;
    Ok((Model::load(folder, &compute)?, compute))
}

/// The device that was typed, with all of the machine's cores; once in a program's life.
pub(crate) fn compute(device: DeviceChoice) -> Result<Compute> {
    worker::compute::set_threads(cores::logical())?;
    Ok(Compute::open(device)?)
}
