//! What the operators on a GPU share: flat buffers, and how work is divided into launches. It decides sizes of
//! workgroups and how much one launch may do.
//!
//! Nothing is tuned by timing: a kernel that a clock has chosen would put the clock into the bits.

pub(crate) mod matmul;
pub(crate) mod split_product;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::device::WgpuDeviceKind;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::compute::gpu::Kernels;

/// Four values that lie side by side.
pub(crate) type Four = Vector<f32, Const<4>>;

/// A device and what suits it.
pub(crate) struct Gpu {
    pub client: Client,
    pub device: CubeDevice,
    pub plan: LaunchPlan,
}

/// How launches are cut. Two workers of a compute class have the same adapter and so the same plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaunchPlan {
    /// The adapter computes on the CPU, or its kernels were asked for ([`Kernels`]): a unit is a lane of a
    /// vector register, memory is cached, and a value common to all lanes is cheap.
    pub software: bool,
    /// The largest workgroup used.
    pub units: u32,
    /// Units that run in step.
    pub plane: u32,
}

impl Gpu {
    /// The device of a tensor.
    pub(crate) fn of(tensor: &CubeTensor) -> Self {
        let (client, device) = (tensor.client.clone(), tensor.device.clone());
        let hardware = &client.properties().hardware;
        let software = match (Kernels::asked(), &device) {
            (Ok(Some(kernels)), _) => kernels == Kernels::Software,
            (_, CubeDevice::Wgpu(device)) => device.kind == WgpuDeviceKind::Cpu,
            _ => false,
        };
        let plan = LaunchPlan {
            software,
            // WebGPU promises 256, and more than that gains nothing in kernels that wait for memory.
            units: hardware.max_units_per_cube.min(256),
            plane: hardware.plane_size_max.clamp(1, 64),
        };
        Self {
            client,
            device,
            plan,
        }
    }

    /// The same device, used as if it were hardware.
    pub(crate) fn into_hardware(mut self) -> Self {
        self.plan.software = false;
        self
    }

    /// To be told before each step of a recurrence. A launch that finds the way to the device full waits by
    /// spinning, which is no matter unless the adapter computes on the same cores: then this waits in
    /// good time, asleep, until the device has taken what was launched.
    pub(crate) fn begin_step(&self, step: usize) {
        /// Steps, of two or three launches each, that are on the way at once.
        const STEPS: usize = 8;
        if self.plan.software && step.is_multiple_of(STEPS) {
            // A launch that failed is told to whoever reads what it should have written.
            let _ = self.client.flush();
        }
    }

    /// A tensor of this shape with nothing in particular in it.
    pub(crate) fn empty<const D: usize>(&self, shape: [usize; D]) -> CubeTensor {
        let shape = Shape::new(shape);
        empty_device_contiguous_dtype(self.client.clone(), self.device.clone(), shape, DType::F32)
    }

    pub(crate) fn tensor<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> CubeTensor {
        let handle = self.client.create_from_slice(f32::as_bytes(values));
        let (client, device) = (self.client.clone(), self.device.clone());
        CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, DType::F32)
    }

    pub(crate) fn upload<E: CubeElement>(&self, values: &[E]) -> Table {
        Table {
            handle: self.client.create_from_slice(E::as_bytes(values)),
            len: values.len(),
        }
    }
}

impl LaunchPlan {
    /// Units of a workgroup over `elements` that lie side by side. It is built into the kernel, so that
    /// `elements` must follow from the model and not from the batch.
    pub(crate) fn row_of_units(&self, elements: usize) -> u32 {
        let most = self.most_units();
        let elements = u32::try_from(elements).unwrap_or(u32::MAX).min(most);
        elements.next_multiple_of(self.plane).clamp(1, self.units)
    }

    /// Workgroups and units for any number of `elements`, a unit each; kernels know their own by
    /// [`flat_position`].
    pub(crate) fn flat(&self, elements: usize) -> (CubeCount, CubeDim) {
        let units = self.most_units();
        let workgroups = word(elements).div_ceil(units);
        // A dimension holds at most 65,535 workgroups.
        let y = workgroups.div_ceil(65_535).max(1);
        let count = CubeCount::Static(workgroups.div_ceil(y), y, 1);
        (count, CubeDim::new_1d(units))
    }

    fn most_units(&self) -> u32 {
        if self.software {
            self.units.min(64)
        } else {
            self.units
        }
    }
}

/// Values on the device that a kernel only reads.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    handle: Handle,
    len: usize,
}

impl Table {
    pub(crate) fn arg(&self) -> BufferArg {
        // SAFETY: the handle was made from that many values.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.len) }
    }
}

/// The elements of a tensor in order, as a kernel takes them.
///
/// # Panics
/// If the tensor is not contiguous.
pub(crate) fn arg(tensor: &CubeTensor) -> BufferArg {
    assert!(tensor.is_contiguous(), "a contiguous tensor");
    let elements = tensor.meta.num_elements();
    // SAFETY: the tensor is contiguous, so its elements lie in the first bytes of the handle.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), elements) }
}

/// The tensor with its elements in order.
///
/// # Panics
/// If they are not `f32`.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "an f32 tensor");
    into_contiguous(tensor)
}

/// Which element a unit of a [`LaunchPlan::flat`] launch has.
#[cube]
pub(crate) fn flat_position() -> u32 {
    (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X
}

/// A size as kernels take it.
///
/// # Panics
/// From 2³² on: no buffer of a GPU is as large.
pub(crate) fn word(size: usize) -> u32 {
    u32::try_from(size).expect("a size within a GPU's buffer")
}

/// Not a number stays one.
#[cube]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + f32::exp(-x))
}

/// The builtin one may lose what is not a number.
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + f32::exp(2.0 * x))
}
