//! Whether a micro-batch can fit into this machine's memory at all, told before it is computed: whoever dies of too
//! much memory cannot say any more of what. What is counted is a lower bound (features, the outputs of the layers
//! that have weights, the losses), so that nothing is refused that would fit.

use std::fs;

use proto::contribution::PassKind;
use speech::model::{ModelSpec, Per, Row};

/// A micro-batch that cannot fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// The place of its longest utterance.
    pub longest: usize,
    /// That it takes at least, and that there are.
    pub needed: u64,
    pub limit: u64,
}

/// Bytes that are reckoned with for each layer's output and each feature: `f32`.
const VALUE: u64 = 4;
/// Bytes for each output of the model: the logit and its gradient as `f32`, its log-probability as `f64`.
const OUTPUT: u64 = 16;

/// # Errors
/// When utterances of so many `frames` take more than `limit` bytes in a pass of this kind.
pub(super) fn check(
    spec: &ModelSpec,
    kind: PassKind,
    frames: &[usize],
    limit: u64,
) -> Result<(), TooLarge> {
    let layers = spec.summary();
    let all: u64 = frames.iter().map(|&frames| frames as u64).sum();
    let needed = needed(spec, &layers, kind, all);
    if needed <= limit {
        return Ok(());
    }
    let longest = (0..frames.len()).max_by_key(|&place| (frames[place], usize::MAX - place));
    Err(TooLarge {
        longest: longest.unwrap_or(0),
        needed,
        limit,
    })
}

fn needed(spec: &ModelSpec, layers: &[Row], kind: PassKind, frames: u64) -> u64 {
    let bytes = |width: usize, rows: u64, each: u64| {
        (width as u64).saturating_mul(rows).saturating_mul(each)
    };
    let weighty = layers
        .iter()
        .filter(|row| row.per == Per::Frame && row.multiply_adds > 0)
        .map(|row| bytes(row.width, frames / row.frame_stride.max(1) as u64, VALUE));
    let outputs = match layers.last() {
        Some(head) if head.per == Per::Frame => bytes(
            spec.outputs,
            frames / head.frame_stride.max(1) as u64,
            OUTPUT,
        ),
        _ => 0,
    };
    let between = match kind {
        // All of them are kept for the backward pass.
        PassKind::Gradient => weighty.fold(0, u64::saturating_add),
        PassKind::Evaluation => weighty.max().unwrap_or(0),
    };
    bytes(spec.inputs, frames, VALUE)
        .saturating_add(between)
        .saturating_add(outputs)
}

/// Bytes of memory that this process may have: the machine's, or what its control group allows; `None` where the
/// system does not tell.
pub(super) fn limit() -> Option<u64> {
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .as_deref()
        .and_then(total);
    let groups = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let groups = groups.iter().filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        // "max" where there is no limit.
        text.trim().parse::<u64>().ok()
    });
    total.into_iter().chain(groups).min()
}

/// The total memory in the text of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use speech::model::{Head, ModelConfig};

    use super::*;

    fn spec(head: Head) -> ModelSpec {
        let config = ModelConfig {
            head,
            layers: 2,
            hidden: 100,
            ..ModelConfig::default()
        };
        ModelSpec::new(&config, 40, 30)
    }

    #[test]
    fn what_cannot_fit_is_refused_by_its_longest_utterance() {
        let frames = [1000, 6_000_000, 70, 6_000_000];
        for head in [Head::Keyword, Head::Ctc] {
            let spec = spec(head);
            for kind in [PassKind::Gradient, PassKind::Evaluation] {
                assert_eq!(check(&spec, kind, &frames, u64::MAX), Ok(()));
                let found = check(&spec, kind, &frames, 1 << 30).unwrap_err();
                assert_eq!(found.longest, 1);
                // The features alone.
                assert!(found.needed > 12_000_000 * 40 * 4);
            }
            let least = |kind| check(&spec, kind, &frames, 0).unwrap_err().needed;
            assert!(least(PassKind::Gradient) > least(PassKind::Evaluation));
            assert_eq!(
                check(&spec, PassKind::Gradient, &[2000; 16], 64 << 20),
                Ok(())
            );
        }
    }

    #[test]
    fn the_memory_of_the_machine_is_read_from_what_the_system_tells() {
        let text = "MemFree:  12 kB\nMemTotal:       16384 kB\n";
        assert_eq!(total(text), Some(16 << 20));
        assert_eq!(total("MemTotal: many"), None);
        #[cfg(target_os = "linux")]
        assert!(limit().unwrap() > 64 << 20);
    }
}
