//! `doctor`: what this machine offers to compute with, and what would be picked.

use std::fmt::Write as _;

use serde::Serialize;
use worker::compute::{self, AdapterInfo, Compute, DeviceChoice};

use crate::{
    args,
    control_group::{self, Limit},
    cores,
    exit::Result,
    output,
};

#[derive(Debug, Serialize)]
struct DoctorReport {
    version: &'static str,
    cores: Cores,
    memory: Option<MemoryReport>,
    adapters: Vec<AdapterInfo>,
    auto: Pick,
    cpu: Pick,
    /// Absent without an adapter.
    wgpu: Option<Pick>,
    /// What `train` starts when nobody says how many.
    default_workers: usize,
    threads_each: usize,
}

#[derive(Debug, Serialize)]
struct Cores {
    physical: usize,
    logical: usize,
}

#[derive(Debug, Serialize)]
struct MemoryReport {
    total_bytes: u64,
    available_bytes: u64,
    /// What this process's control group may use, where it is bounded: a container, a unit, a batch job.
    limit_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Pick {
    compute_class: String,
    reason: String,
}

pub(super) fn run(args: args::Doctor) -> Result<()> {
    let pick = |choice| {
        let Compute { class, reason, .. } = Compute::open(choice)?;
        Ok::<_, compute::ComputeError>(Pick {
            compute_class: class,
            reason,
        })
    };
    let default_workers = cores::default_workers();
    let findings = DoctorReport {
        version: env!("CARGO_PKG_VERSION"),
        cores: Cores {
            physical: cores::physical(),
            logical: cores::logical(),
        },
        memory: memory(),
        adapters: compute::adapters(),
        auto: pick(DeviceChoice::Auto)?,
        cpu: pick(DeviceChoice::Cpu)?,
        wgpu: pick(DeviceChoice::Wgpu).ok(),
        default_workers,
        threads_each: cores::threads_each(default_workers),
    };
    output::print(args.output.format, &findings, text)
}

fn text(findings: &DoctorReport) -> String {
    let mut text = format!("unisono {}\n", findings.version);
    let Cores { physical, logical } = findings.cores;
    let _ = writeln!(text, "cores     {physical} physical, {logical} logical");
    if let Some(memory) = &findings.memory {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let allowed = memory.limit_bytes.map_or(String::new(), |limit| {
            format!(", {:.1} GiB of it allowed by the control group", gib(limit))
        });
        let _ = writeln!(
            text,
            "memory    {:.1} GiB{allowed}, {:.1} GiB free",
            gib(memory.total_bytes),
            gib(memory.available_bytes)
        );
    }
    if !compute::WITH_WGPU {
        text.push_str("adapters  not looked for: this program was built without wgpu\n");
    } else if findings.adapters.is_empty() {
        text.push_str("adapters  none that wgpu finds\n");
    }
    for adapter in &findings.adapters {
        let _ = writeln!(
            text,
            "adapter   {} ({}, {}, driver {})",
            adapter.name, adapter.backend, adapter.kind, adapter.driver
        );
    }
    let mut device = |name: &str, pick: &Pick| {
        let _ = writeln!(text, "{name:<9} {} [{}]", pick.reason, pick.compute_class);
    };
    device("auto", &findings.auto);
    device("cpu", &findings.cpu);
    if let Some(wgpu) = &findings.wgpu {
        device("wgpu", wgpu);
    }
    let _ = writeln!(
        text,
        "train     {} workers of {} threads unless told otherwise",
        findings.default_workers, findings.threads_each
    );
    text
}

fn memory() -> Option<MemoryReport> {
    let described = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = described
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes << 10)
    };
    let (total_bytes, available_bytes) = (field("MemTotal")?, field("MemAvailable")?);
    Some(bounded(
        total_bytes,
        available_bytes,
        control_group::memory_limit(),
    ))
}

/// A bound beyond what the machine has bounds nothing.
fn bounded(total_bytes: u64, available_bytes: u64, limit: Option<Limit>) -> MemoryReport {
    let limit = limit.filter(|limit| limit.bytes < total_bytes);
    let allowed = limit.map_or(u64::MAX, |limit| limit.bytes.saturating_sub(limit.used));
    MemoryReport {
        total_bytes,
        available_bytes: available_bytes.min(allowed),
        limit_bytes: limit.map(|limit| limit.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_no_more_than_the_control_group_allows() {
        let limit = |bytes, used| Some(Limit { bytes, used });
        let free = |limit| {
            let memory = bounded(1000, 800, limit);
            (memory.limit_bytes, memory.available_bytes)
        };
        assert_eq!(free(None), (None, 800));
        assert_eq!(free(limit(500, 100)), (Some(500), 400));
        assert_eq!(free(limit(950, 10)), (Some(950), 800));
        assert_eq!(free(limit(500, 600)), (Some(500), 0));
        assert_eq!(free(limit(4000, 600)), (None, 800));
    }
}
