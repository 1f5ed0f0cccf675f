//! The device that a verb computes on.

use std::path::Path;

use worker::{
    compute::{Compute, DeviceChoice},
    inference::Model,
};

use crate::{args, cores, exit::Result};

/// The model in `folder` on the device that was typed, with all of the machine's cores.
pub fn open(folder: &Path, device: args::Device) -> Result<(Model, Compute)> {
    let compute = compute(device)?;
    Ok((Model::load(folder, &compute)?, compute))
}

/// The device that was typed, with all of the machine's cores; once in a program's life.
pub fn compute(device: args::Device) -> Result<Compute> {
    worker::compute::set_threads(cores::logical())?;
    Ok(Compute::open(choice(device))?)
}

pub const fn choice(device: args::Device) -> DeviceChoice {
    match device {
        args::Device::Auto => DeviceChoice::Auto,
        args::Device::Cpu => DeviceChoice::Cpu,
        args::Device::Wgpu => DeviceChoice::Wgpu,
    }
}
