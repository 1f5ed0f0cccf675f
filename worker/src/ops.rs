//! The operators of a network. Each has a module of its own with up to three implementations of one function,
//! `apply`: `cpu` (burn's flex backend), `gpu` (cubecl on wgpu), and `reference`, plain tensor operations, which the
//! others are tested against. The operator's own `apply` chooses among them.

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Calls `apply` of the implementation that is asked for, among the modules at the place of the call.
macro_rules! dispatch {
    ($implementation:expr, $($argument:expr),+) => {
        match $implementation {
            crate::ops::Implementation::Cpu => cpu::apply($($argument),+),
            #[cfg(feature = "wgpu")]
            crate::ops::Implementation::Gpu => gpu::apply($($argument),+),
            crate::ops::Implementation::Reference => reference::apply($($argument),+),
        }
    };
}

mod autodiff;
pub(crate) mod constant;
pub(crate) mod convolution;
pub(crate) mod dropout;
mod flex;
pub(crate) mod gather;
pub(crate) mod linear;
pub(crate) mod norm;
pub mod packing;
pub(crate) mod pool;
pub mod recurrent;

/// Which implementation of the operators computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// Operators with their own backward passes on the CPU, over packed sequences.
    Cpu,
    /// The same on a GPU.
    #[cfg(feature = "wgpu")]
    Gpu,
    /// Plain tensor operations on any device, over padded sequences.
    Reference,
}

impl Implementation {
    /// The implementation for tensors of a device.
    pub fn of(device: &Device) -> Self {
        match device.as_dispatch() {
            DispatchDevice::Flex(_) => Self::Cpu,
            #[cfg(feature = "wgpu")]
            DispatchDevice::Cube(_) => Self::Gpu,
            _ => Self::Reference,
        }
    }
}
