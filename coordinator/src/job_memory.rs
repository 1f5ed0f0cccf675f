//! How much memory a job's model takes of the coordinator, and how much there is: a job that cannot fit is refused
//! by name before anything of its size is allocated, because an allocation that fails ends the process. It does not
//! depend on how the memory is used.

use std::fs;

use rustix::process::{Resource, getrlimit};
use speech::{
    front_end::{FrontEnd, FrontEndError},
    model::ModelSpec,
};
use thiserror::Error;

use crate::job::Job;

/// A job whose model the coordinator has no memory for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the model has {} million parameters, for which the coordinator needs {} MB of memory (weights, optimizer, averages, and gradients on their way), and {} MB are {}; make the model smaller (`model.hidden`, `model.layers`), or give the coordinator's host more memory", parameters / 1_000_000, needed / 1_000_000, there_are / 1_000_000, what.told()
)]
pub struct NoMemory {
    parameters: u64,
    needed: u64,
    there_are: u64,
    what: Memory,
}

/// Which memory is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// All that this process could ever have.
    All,
    /// What is free now.
    Free,
}

impl Memory {
    const fn told(self) -> &'static str {
        match self {
            Self::All => "all that it can have",
            Self::Free => "free",
        }
    }

    /// In bytes, as far as the system tells.
    fn bytes(self) -> u64 {
        let of_machine = of_machine(self);
        let of_group = of_control_group(self);
        let of_process = of_process(self);
        let known = [of_machine, of_group, of_process].into_iter().flatten();
        known.min().unwrap_or(u64::MAX)
    }
}

/// Bytes that the model of `job` takes while it is trained, when it has `parameters`: for each vector of its size 4
/// bytes a parameter.
pub fn needed(job: &Job, parameters: u64) -> u64 {
    /// The weights, two vectors of the optimizer, the sum of the gradients and one that is added to it, and the
    /// weights as they are sent.
    const VECTORS: u64 = 6;
    let averaged = u64::from(job.train.ema.is_some());
    let held = job.select.held() as u64;
    let vectors = VECTORS + averaged + held;
    parameters.saturating_mul(4 * vectors)
}

/// Passes when the memory that is free is enough for a model of `parameters`.
///
/// # Errors
/// Otherwise how much is missing.
pub fn check(job: &Job, parameters: u64) -> Result<(), NoMemory> {
    check_within(job, parameters, Memory::Free)
}

/// Passes when `job` may fit once it is begun: its model, as far as that is known before its vocabulary is, takes no
/// more than all of the memory that this process can have.
///
/// # Errors
/// Otherwise how much is missing.
///
/// # Panics
/// Never for a job that was parsed: its features are checked then.
pub fn check_submitted(job: &Job) -> Result<(), NoMemory> {
    let parameters = least_parameters(job).unwrap_or_default();
    check_within(job, parameters, Memory::All)
}

/// Parameters of the model of `job` with the smallest vocabulary.
fn least_parameters(job: &Job) -> Result<u64, FrontEndError> {
    let inputs = FrontEnd::new(&job.features, None)?.dims();
    Ok(ModelSpec::new(&job.model, inputs, 2).elements() as u64)
}

fn check_within(job: &Job, parameters: u64, what: Memory) -> Result<(), NoMemory> {
    let (needed, there_are) = (needed(job, parameters), what.bytes());
    if needed <= there_are {
        return Ok(());
    }
    Err(NoMemory {
        parameters,
        needed,
        there_are,
        what,
    })
}

/// What the machine has, swap included.
fn of_machine(what: Memory) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let names = match what {
        Memory::All => ["MemTotal:", "SwapTotal:"],
        Memory::Free => ["MemAvailable:", "SwapFree:"],
    };
    let [memory, swap] = names.map(|name| kilobytes(&text, name));
    Some(1024 * (memory? + swap.unwrap_or_default()))
}

/// The number of the line that begins with `name`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What the control group, such as a container's, may take.
fn of_control_group(what: Memory) -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    // "max" where there is no limit, which is no number.
    let most = number("memory.max")?;
    match what {
        Memory::All => Some(most),
        // What the page cache takes is given back when it is needed.
        Memory::Free => {
            let cached = fs::read_to_string(folder.join("memory.stat")).ok()?;
            let cached = cached.lines().find_map(|line| line.strip_prefix("file "));
            let cached: u64 = cached.and_then(|text| text.parse().ok()).unwrap_or(0);
            let used = number("memory.current")?.saturating_sub(cached);
            Some(most.saturating_sub(used))
        }
    }
}

/// What the process may take, whose address space may be limited.
fn of_process(what: Memory) -> Option<u64> {
    let most = getrlimit(Resource::As).current?;
    match what {
        Memory::All => Some(most),
        Memory::Free => {
            let text = fs::read_to_string("/proc/self/status").ok()?;
            Some(most.saturating_sub(kilobytes(&text, "VmSize:")? * 1024))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn job(model: &str) -> Job {
        try_job(model).unwrap()
    }

    fn try_job(model: &str) -> Result<Job, crate::job::JobError> {
        let text = format!("[corpus]\ntrain = \"/data/train.jsonl\"\n{model}");
        Job::parse(&text, Path::new("job.toml"), &[])
    }

    #[test]
    fn the_system_tells_how_much_there_is() {
        let (all, free) = (Memory::All.bytes(), Memory::Free.bytes());
        assert!((1 << 26..u64::MAX).contains(&all), "{all}");
        assert!(free <= all && free > 1 << 20, "{free}");
    }

    #[test]
    fn a_model_that_no_host_can_hold_is_refused_by_its_size_and_others_are_not() {
        let giant = job("[model]\nlayers = 16\nhidden = 8192\nbidirectional = true");
        let refused = check_submitted(&giant).unwrap_err();
        assert!(refused.parameters > 10_000_000_000, "{refused}");
        assert!(refused.to_string().contains("model.hidden"), "{refused}");
        check_submitted(&job("")).unwrap();
        check(&job(""), 1_000_000).unwrap();
        assert!(check(&job(""), u64::MAX).is_err());
    }

    #[test]
    fn averages_count() {
        let plain = needed(&job(""), 1000);
        let held = needed(&job("[select]\naverage = 5"), 1000);
        let ema = needed(&job("[train]\nema = 0.9"), 1000);
        assert_eq!((held - plain, ema - plain), (20_000, 4000));
    }

    /// Numbers that may be, most of them, and numbers at the ends of that and beyond.
    fn number() -> impl Strategy<Value = u64> {
        let usual = prop::sample::select(vec![1, 3, 5, 7, 16]);
        let ends = prop::sample::select(vec![
            0,
            2,
            17,
            64,
            256,
            1024,
            4096,
            8192,
            8193,
            100_000,
            1 << 24,
            1 << 32,
            u64::MAX >> 1,
        ]);
        prop_oneof![3 => usual, 1 => ends]
    }

    /// Keys of a section, which a model of the kind may have.
    fn keys(kind: &str) -> Vec<(&'static str, &'static [&'static str])> {
        let mut keys: Vec<(_, &[_])> = vec![
            ("features", &["mel_bins", "stack", "stride"]),
            (
                "train",
                &["epochs", "batch", "micro_batch", "keep_checkpoints"],
            ),
            ("select", &["average"]),
        ];
        match kind {
            "lstm" => keys.push(("model", &["layers", "hidden", "projection"])),
            "dnn" => keys.push((
                "model",
                &["layers", "hidden", "context_left", "context_right"],
            )),
            "cnn" => keys.push(("model", &[])),
            _ => keys.push(("model", &["layers", "hidden"])),
        }
        match kind {
            "cnn" => keys.push(("model.residual", &["channels", "blocks", "pool[]"])),
            _ => keys.push(("model.conv", &["channels[]", "kernel[]", "stride[]"])),
        }
        keys
    }

    /// The sections of a job with any numbers, of which some are left out.
    fn sections() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec!["lstm", "gru", "rnn", "dnn", "cnn"]);
        let values = prop::collection::vec(prop::option::weighted(0.25, number()), 16);
        let dense = prop::option::weighted(0.2, prop::collection::vec(number(), 1..18));
        (kind, any::<bool>(), values, dense, any::<bool>()).prop_map(
            |(kind, ctc, values, dense, both)| {
                let mut values = values.into_iter();
                let mut text = String::new();
                for (section, keys) in keys(kind) {
                    text += &format!("[{section}]\n");
                    if section == "model" {
                        text += &format!("kind = \"{kind}\"\n");
                        text += match (ctc, kind) {
                            (true, _) => "head = \"ctc\"\n",
                            (false, "dnn" | "cnn") => "pooling = \"mean\"\n",
                            (false, _) => "",
                        };
                        if both && matches!(kind, "lstm" | "gru" | "rnn") {
                            text += "bidirectional = true\n";
                        }
                        if let Some(dense) = &dense {
                            text += &format!("dense = {dense:?}\n");
                        }
                    }
                    for key in keys {
                        let Some(value) = values.next().flatten() else {
                            continue;
                        };
                        text += &match key.strip_suffix("[]") {
                            Some(key) => format!("{key} = [{value}, {value}]\n"),
                            None => format!("{key} = {value}\n"),
                        };
                    }
                }
                text
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Nothing of the size that a job asks for is taken before its size is known: this would end the process.
        #[test]
        fn any_job_is_sized_without_taking_what_it_asks_for(text in sections()) {
            if let Ok(job) = try_job(&text) {
                let inputs = FrontEnd::new(&job.features, None).unwrap().dims();
                for outputs in [2, 100_000] {
                    let spec = ModelSpec::new(&job.model, inputs, outputs);
                    let parameters = spec.elements() as u64;
                    // In numbers that cannot overflow.
                    let counted: u128 = spec.parameters.iter().map(|parameter| {
                        parameter.shape.iter().map(|&size| size as u128).product::<u128>()
                    }).sum();
                    prop_assert_eq!(u128::from(parameters), counted);
                    prop_assert!(needed(&job, parameters) >= 24 * parameters);
                }
                if least_parameters(&job).unwrap() > 1 << 40 {
                    prop_assert!(check_submitted(&job).is_err());
                }
            }
        }
    }

    #[test]
    fn random_jobs_are_often_jobs() {
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
        let mut runner = TestRunner::deterministic();
        let made = (0..2000).filter(|_| {
            let text = sections().new_tree(&mut runner).unwrap().current();
            try_job(&text).is_ok()
        });
        let made = made.count();
        assert!(made > 200, "{made} of 2000");
    }
}
