//! The real state machines, reducer and trainer under a simulated network, clock, disk and set of
//! workers, all from one seed. Whatever happens, a run must end with the bits of the serial one.
//! `UNISONO_SIMULATION_SEEDS=FROM..TO` runs other seeds than the usual ones.

mod coordinator;
mod disk;
mod faults;
mod network;
mod toy;
mod work;
mod worker;
mod world;

use std::ops::Range;

use coordinator::Bug;
use faults::Faults;
use rayon::prelude::*;

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("UNISONO_SIMULATION_SEEDS") else {
        return 0..2000;
    };
    let bounds = asked.split_once("..").and_then(|(from, to)| {
        let from = from.parse().ok()?;
        Some(from..to.parse().ok()?)
    });
    bounds.unwrap_or_else(|| panic!("UNISONO_SIMULATION_SEEDS={asked} is not FROM..TO"))
}

/// What the runs of seeds by their rules must end like.
type Serial = Vec<toy::End>;

fn serial() -> Serial {
    let seeds = 0..toy::KINDS;
    seeds.map(|seed| toy::serial(&toy::rules(seed))).collect()
}

/// What is wrong with the run of `seed`, or what it went through.
fn outcome(seed: u64, bug: Bug, serial: &Serial) -> Result<Faults, String> {
    let report = world::run(seed, bug)?;
    let serial = &serial[(seed % toy::KINDS) as usize];
    if report.end != *serial {
        return Err(format!("ended with {:?} instead of {serial:?}", report.end));
    }
    Ok(report.faults)
}

#[test]
fn any_fault_leaves_the_bits_of_the_serial_run() {
    let serial = serial();
    let hashes: std::collections::BTreeSet<&str> =
        serial.iter().map(|end| &*end.weights_sha256).collect();
    assert_eq!(hashes.len(), serial.len(), "every rule reaches the bits");
    let steps: Vec<u64> = serial.iter().map(|end| end.steps).collect();
    assert!(steps.iter().any(|&steps| steps < toy::STEPS), "{steps:?}");
    let policies = serial.iter().map(|end| &end.progress.memory.policy);
    let drops = policies.map(|policy| policy.drops());
    assert!(drops.max() > Some(0), "no rate ever fell");
    let outcomes: Vec<(u64, Result<Faults, String>)> = seeds()
        .into_par_iter()
        .map(|seed| (seed, outcome(seed, Bug::None, &serial)))
        .collect();
    let mut faults = Faults::default();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(seen) => faults.merge(&seen),
            Err(violation) => panic!(
                "{violation}\nreplay with UNISONO_SIMULATION_SEEDS={seed}..{}",
                seed + 1
            ),
        }
    }
    for kind in Faults::KINDS {
        println!("{:>9} {kind}", faults.of(kind));
    }
    if seeds().count() >= 2000 {
        for kind in Faults::KINDS {
            assert!(faults.of(kind) > 0, "never happened: {kind}");
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let runs = [world::run(seed, Bug::None), world::run(seed, Bug::None)].map(|run| {
            let run = run.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            (run.milliseconds, run.faults.total(), run.end)
        });
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    let serial = serial();
    for bug in [
        Bug::ArrivalOrder,
        Bug::CountDuplicates,
        Bug::ForgetGeneration,
        Bug::CompleteFirst,
        Bug::ForgetAttempt,
    ] {
        let caught = (0..600).find_map(|seed| {
            let violation = outcome(seed, bug, &serial).err()?;
            Some((seed, violation))
        });
        let (seed, violation) = caught.unwrap_or_else(|| panic!("{bug:?} was not caught"));
        println!("{bug:?}: seed {seed}: {violation}");
    }
}
