//! Which processor computes: the choice of a device, its compute class and the reasons to tell a
//! person. It does not depend on what is computed.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, DeviceKind};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use speech::error_class::{self, Class, Classify};

use crate::cpu::Level;
use crate::gpu::Kernels;

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// A hardware GPU when there is one, otherwise the CPU.
    #[default]
    Auto,
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

#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    #[error("unknown device `{0}`: expected auto, cpu or wgpu")]
    UnknownChoice(String),
    #[error(
        "no wgpu adapter on this machine: install a GPU driver with Vulkan, or Mesa's software \
         adapter (Debian and Ubuntu: mesa-vulkan-drivers), or use the device `cpu`"
    )]
    NoAdapter,
    #[error(
        "the environment variable {name} is {0:?}: expected hardware or software, or leave it out",
        name = crate::gpu::KERNELS
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
    pub device: Device,
    /// Two workers of the same class give the same bits: backend, adapter and driver or CPU feature
    /// level, and program version.
    pub class: String,
    /// Which device and why, in one sentence.
    pub reason: String,
    /// A hardware GPU.
    pub hardware: bool,
}

impl Compute {
    /// Opens the device of `choice`.
    ///
    /// # Errors
    /// `wgpu` on a machine without any adapter, and kernels that are not there (`UNISONO_WGPU_KERNELS`).
    pub fn open(choice: DeviceChoice) -> Result<Self, ComputeError> {
        if choice == DeviceChoice::Cpu {
            return Ok(Self::cpu("the CPU, as asked".to_owned()));
        }
        let kernels = Kernels::asked().map_err(ComputeError::UnknownKernels)?;
        let adapters = adapters();
        match (choice, best(&adapters)) {
            (DeviceChoice::Wgpu, None) => Err(ComputeError::NoAdapter),
            (_, Some((kind, adapter))) if !adapter.software => {
                let reason = format!("{}, a {} GPU", adapter.name, adapter.kind);
                Ok(Self::gpu(kind, adapter, kernels, reason))
            }
            (DeviceChoice::Wgpu, Some((kind, adapter))) => {
                let reason = format!(
                    "{}, a software adapter: wgpu was asked for and there is no hardware GPU (the \
                     device `cpu` is faster)",
                    adapter.name
                );
                Ok(Self::gpu(kind, adapter, kernels, reason))
            }
            (_, found) => {
                let level = Level::detect().name();
                let reason = match found {
                    Some((_, software)) => format!(
                        "the CPU ({level}): the only graphics adapter is {}, which computes in \
                         software",
                        software.name
                    ),
                    None => format!("the CPU ({level}): no graphics adapter was found"),
                };
                Ok(Self::cpu(reason))
            }
        }
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

    fn gpu(
        kind: DeviceKind,
        adapter: &AdapterInfo,
        kernels: Option<Kernels>,
        reason: String,
    ) -> Self {
        let AdapterInfo {
            name,
            backend,
            driver,
            ..
        } = adapter;
        // Other kernels add in another order.
        let kernels = kernels.map_or(String::new(), |kernels| {
            format!("+{}-kernels", kernels.name())
        });
        let class = format!(
            "wgpu/{backend}/{name}/{driver}{kernels}/{}",
            env!("CARGO_PKG_VERSION")
        );
        Self {
            device: Device::wgpu(kind),
            class,
            reason,
            hardware: !adapter.software,
        }
    }
}

/// The best of `adapters` and how burn calls it, which counts each kind in the order of the list:
/// discrete before integrated before virtual before software.
fn best(adapters: &[AdapterInfo]) -> Option<(DeviceKind, &AdapterInfo)> {
    [
        ("discrete", DeviceKind::DiscreteGpu(0)),
        ("integrated", DeviceKind::IntegratedGpu(0)),
        ("virtual", DeviceKind::VirtualGpu(0)),
        ("software", DeviceKind::Cpu),
    ]
    .into_iter()
    .find_map(|(kind, device)| {
        adapters
            .iter()
            .find(|adapter| adapter.kind == kind)
            .map(|adapter| (device, adapter))
    })
}

/// The adapters of the graphics API that burn uses on this machine: the first one with a GPU,
/// otherwise the first with anything.
pub fn adapters() -> Vec<AdapterInfo> {
    let apis: &[wgpu::Backends] = if cfg!(target_os = "macos") {
        &[wgpu::Backends::METAL]
    } else {
        &[
            wgpu::Backends::VULKAN,
            wgpu::Backends::DX12,
            wgpu::Backends::GL,
        ]
    };
    let mut software = Vec::new();
    for &api in apis {
        let found = adapters_of(api);
        if found.iter().any(|adapter| !adapter.software) {
            return found;
        }
        if software.is_empty() {
            software = found;
        }
    }
    software
}

fn adapters_of(api: wgpu::Backends) -> Vec<AdapterInfo> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    // Ready at once everywhere but in a browser.
    let found = instance
        .enumerate_adapters(api)
        .now_or_never()
        .unwrap_or_default();
    found
        .iter()
        .map(|adapter| {
            let info = adapter.get_info();
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "software",
                wgpu::DeviceType::Other => "other",
            };
            AdapterInfo {
                name: info.name,
                backend: format!("{:?}", info.backend),
                kind: kind.to_owned(),
                driver: format!("{} {}", info.driver, info.driver_info)
                    .trim()
                    .to_owned(),
                software: info.device_type == wgpu::DeviceType::Cpu,
            }
        })
        .collect()
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

    fn adapter(kind: &str) -> AdapterInfo {
        AdapterInfo {
            name: kind.to_owned(),
            backend: "Vulkan".to_owned(),
            kind: kind.to_owned(),
            driver: "1".to_owned(),
            software: kind == "software",
        }
    }

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
    fn a_discrete_gpu_goes_before_an_integrated_one_and_software_comes_last() {
        let list = ["software", "other", "integrated", "discrete"].map(adapter);
        assert_eq!(best(&list).expect("found").1.kind, "discrete");
        assert_eq!(best(&list[..3]).expect("found").1.kind, "integrated");
        assert_eq!(best(&list[..2]).expect("found").1.kind, "software");
        assert!(best(&list[1..2]).is_none());
    }

    #[test]
    fn kernels_that_were_asked_for_are_part_of_the_class() {
        let class = |kernels| {
            let adapter = adapter("software");
            Compute::gpu(DeviceKind::Cpu, &adapter, kernels, String::new()).class
        };
        let version = env!("CARGO_PKG_VERSION");
        let own = format!("wgpu/Vulkan/software/1/{version}");
        assert_eq!(class(None), own);
        let asked = format!("wgpu/Vulkan/software/1+hardware-kernels/{version}");
        assert_eq!(class(Some(Kernels::Hardware)), asked);
        assert_ne!(class(Some(Kernels::Software)), own);
    }

    #[test]
    fn the_class_of_the_cpu_names_backend_features_and_version() {
        let compute = Compute::open(DeviceChoice::Cpu).expect("there is a CPU");
        let parts: Vec<&str> = compute.class.split('/').collect();
        assert_eq!((parts[0], parts[2]), ("flex", env!("CARGO_PKG_VERSION")));
        assert!(parts[1].ends_with(Level::detect().name()) && !compute.hardware);
    }
}
