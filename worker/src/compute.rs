//! The choice of a compute device, its compute class, and the reason for the choice. It does not depend on what is
//! computed.

#[cfg(feature = "wgpu")]
pub(crate) mod gpu;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use speech::error_class::{self, Class, Classify};

use crate::cpu::Level;

#[cfg(feature = "wgpu")]
use gpu::open as open_gpu;

/// Whether this program was built with wgpu.
pub const WITH_WGPU: bool = cfg!(feature = "wgpu");

/// The environment variable by which a person chooses between the kernels for hardware and those for
/// adapters that compute on the CPU: `hardware` or `software`. Without it the kind of the adapter decides.
#[cfg(feature = "wgpu")]
const KERNELS: &str = "UNISONO_WGPU_KERNELS";

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// A hardware GPU when there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU, by burn's flex backend.
    Cpu,
    /// A GPU through wgpu; a software adapter when there is nothing else.
    Wgpu,
}

impl FromStr for DeviceChoice {
    type Err = ComputeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            _ => Err(ComputeError::UnknownChoice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
        })
    }
}

/// Why nothing can be computed as was asked for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum ComputeError {
    #[error("unknown device `{0}`: expected auto, cpu or wgpu")]
    UnknownChoice(String),
    #[error(
        "no wgpu adapter on this machine: install a GPU driver with Vulkan, or Mesa's software \
         adapter (Debian and Ubuntu: mesa-vulkan-drivers), or use the device `cpu`"
    )]
    NoAdapter,
    #[error(
        "this program was built without wgpu (Cargo's `--no-default-features`): use the device \
         `cpu`, or build it with the feature `wgpu`"
    )]
    NotBuilt,
    #[cfg(feature = "wgpu")]
    #[error(
        "the environment variable {name} is {0:?}: expected hardware or software, or leave it out",
        name = KERNELS
    )]
    UnknownKernels(String),
    #[error("cannot use {threads} threads: {source}")]
    Threads {
        threads: usize,
        source: rayon::ThreadPoolBuildError,
    },
}

impl Classify for ComputeError {
    fn class(&self) -> Class {
        error_class::of_data(self)
    }
}

/// A graphics adapter that wgpu offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// What the driver calls it.
    pub name: String,
    /// The graphics API: Vulkan, Metal, Dx12 or Gl.
    pub backend: String,
    /// discrete, integrated, virtual, software or other.
    pub kind: String,
    /// The driver and its version.
    pub driver: String,
    /// Computes on the CPU.
    pub software: bool,
}

/// A device to compute on.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device in burn's terms.
    pub device: Device,
    /// Two workers of the same class give the same bits: backend, adapter and driver or CPU feature
    /// level, and program version.
    pub class: String,
    /// Which device and why, in one sentence.
    pub reason: String,
    /// A hardware GPU.
    pub hardware: bool,
}

/// Says why the CPU computes in a program without wgpu.
#[cfg(not(feature = "wgpu"))]
fn open_gpu(choice: DeviceChoice) -> Result<Result<Compute, String>, ComputeError> {
    match choice {
        DeviceChoice::Wgpu => Err(ComputeError::NotBuilt),
        _ => Ok(Err("this program was built without wgpu".to_owned())),
    }
}

/// The adapters of the graphics API that burn uses on this machine: the first API with a GPU, otherwise
/// the first with anything. None in a program without wgpu.
pub fn adapters() -> Vec<AdapterInfo> {
    #[cfg(feature = "wgpu")]
    return gpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

impl Compute {
    /// Opens the device of `choice`.
    ///
    /// # Errors
    /// `wgpu` on a machine without any adapter or in a program without it, and kernels that are not there
    /// (`UNISONO_WGPU_KERNELS`).
    pub fn open(choice: DeviceChoice) -> Result<Self, ComputeError> {
        if choice == DeviceChoice::Cpu {
            return Ok(Self::cpu("the CPU, as asked".to_owned()));
        }
        Ok(open_gpu(choice)?.unwrap_or_else(|reason| {
            let level = Level::detect().name();
            Self::cpu(format!("the CPU ({level}): {reason}"))
        }))
    }

    fn cpu(reason: String) -> Self {
        let level = Level::detect().name();
        let class = format!(
            "flex/{}+{level}/{}",
            std::env::consts::ARCH,
            env!("CARGO_PKG_VERSION")
        );
        Self {
            device: Device::flex(),
            class,
            reason,
            hardware: false,
        }
    }
}

/// Gives the CPU operators `threads` threads. To be called once, before anything is computed.
///
/// # Errors
/// If the threads were set before or cannot be started.
pub fn set_threads(threads: usize) -> Result<(), ComputeError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|source| ComputeError::Threads { threads, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written_and_a_wrong_one_is_named() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Wgpu] {
            assert_eq!(
                choice.to_string().parse::<DeviceChoice>().expect("reads"),
                choice
            );
        }
        let error = "gpu"
            .parse::<DeviceChoice>()
            .expect_err("no such device")
            .to_string();
        assert!(error.contains("`gpu`") && error.contains("auto, cpu or wgpu"));
    }

    #[test]
    fn the_class_of_the_cpu_names_backend_features_and_version() {
        let compute = Compute::open(DeviceChoice::Cpu).expect("there is a CPU");
        let parts: Vec<&str> = compute.class.split('/').collect();
        assert_eq!((parts[0], parts[2]), ("flex", env!("CARGO_PKG_VERSION")));
        assert!(parts[1].ends_with(Level::detect().name()) && !compute.hardware);
    }
}
