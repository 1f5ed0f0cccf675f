//! Devices of wgpu: the adapters of this machine, the one that is chosen, and its compute class.

use std::sync::OnceLock;

use burn::tensor::{Device, DeviceKind};
use burn_wgpu::wgpu;
use futures::FutureExt;

use super::{AdapterInfo, Compute, ComputeError, DeviceChoice, KERNELS};

/// For which kind of adapter the kernels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    Hardware,
    Software,
}

impl Kernels {
    /// What the environment asks for; `None` where it asks for nothing. It is read once.
    ///
    /// # Errors
    /// The variable's value, when it is none of the two.
    pub(crate) fn asked() -> Result<Option<Self>, String> {
        static ASKED: OnceLock<Result<Option<Kernels>, String>> = OnceLock::new();
        let read = || match std::env::var_os(KERNELS) {
            None => Ok(None),
            Some(value) => Self::named(&value.to_string_lossy()),
        };
        ASKED.get_or_init(read).clone()
    }

    fn named(value: &str) -> Result<Option<Self>, String> {
        match value {
            "" => Ok(None),
            "hardware" => Ok(Some(Self::Hardware)),
            "software" => Ok(Some(Self::Software)),
            other => Err(other.to_owned()),
        }
    }

    /// As it is written in the environment and in a compute class.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
        }
    }
}

/// Opens the adapter that suits `choice`, or says why the CPU computes instead.
///
/// # Errors
/// If an adapter was asked for and there is none, and if `UNISONO_WGPU_KERNELS` names unknown kernels.
pub(crate) fn open(choice: DeviceChoice) -> Result<Result<Compute, String>, ComputeError> {
    let kernels = Kernels::asked().map_err(ComputeError::UnknownKernels)?;
    let adapters = adapters();
    Ok(match (choice, best(&adapters)) {
        (DeviceChoice::Wgpu, None) => return Err(ComputeError::NoAdapter),
        (_, Some((kind, adapter))) if !adapter.software => {
            let reason = format!("{}, a {} GPU", adapter.name, adapter.kind);
            Ok(compute(kind, adapter, kernels, reason))
        }
        (DeviceChoice::Wgpu, Some((kind, adapter))) => {
            let reason = format!(
                "{}, a software adapter: wgpu was asked for and there is no hardware GPU (the \
                 device `cpu` is faster)",
                adapter.name
            );
            Ok(compute(kind, adapter, kernels, reason))
        }
        (_, Some((_, software))) => Err(format!(
            "the only graphics adapter is {}, which computes in software",
            software.name
        )),
        (_, None) => Err("no graphics adapter was found".to_owned()),
    })
}

fn compute(
    kind: DeviceKind,
    adapter: &AdapterInfo,
    kernels: Option<Kernels>,
    reason: String,
) -> Compute {
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
    Compute {
        device: Device::wgpu(kind),
        class,
        reason,
        hardware: !adapter.software,
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
pub(crate) fn adapters() -> Vec<AdapterInfo> {
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
            compute(DeviceKind::Cpu, &adapter, kernels, String::new()).class
        };
        let version = env!("CARGO_PKG_VERSION");
        let own = format!("wgpu/Vulkan/software/1/{version}");
        assert_eq!(class(None), own);
        let asked = format!("wgpu/Vulkan/software/1+hardware-kernels/{version}");
        assert_eq!(class(Some(Kernels::Hardware)), asked);
        assert_ne!(class(Some(Kernels::Software)), own);
    }

    #[test]
    fn kernels_are_chosen_by_name_and_another_name_is_handed_back() {
        for kernels in [Kernels::Hardware, Kernels::Software] {
            assert_eq!(Kernels::named(kernels.name()), Ok(Some(kernels)));
        }
        assert_eq!(Kernels::named(""), Ok(None));
        assert_eq!(Kernels::named("fast"), Err("fast".to_owned()));
    }
}
