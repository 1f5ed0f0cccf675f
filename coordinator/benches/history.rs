//! What a long run costs its coordinator beside training: lines appended, pictures drawn and a restart, by
//! the number of steps that lie behind. A program that prints a table; nothing fails. Ten million steps
//! take some 4 GB of disk below the temporary folder.
//!
//! `cargo bench -p coordinator --bench history [-- STEPS]`

#![allow(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use coordinator::records::{
    events::{Journal, Offsets, Published, StepMetrics, published},
    plots::Plots,
};
use tokio::sync::watch;

/// Steps between two drawings, as checkpoints are by default.
const DRAWN_EVERY: u64 = 200;

fn main() {
    let argument = std::env::args().nth(1).and_then(|steps| steps.parse().ok());
    let steps: u64 = argument.unwrap_or(10_000_000);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rows = 10;
    let mut journal = open(dir, Offsets::default());
    let mut plots = Plots::open(dir, "history".to_owned(), Offsets::default());
    println!(
        "{:>12} {:>14} {:>14} {:>12}",
        "steps", "append a step", "draw a step", "memory"
    );
    for row in 1..=rows {
        let range = steps * (row - 1) / rows + 1..=steps * row / rows;
        let count = range.clone().count() as u32;
        let (mut appending, mut drawing) = (Duration::ZERO, Duration::ZERO);
        for step in range {
            let metrics = metrics(step);
            let began = Instant::now();
            journal.metrics(&metrics).unwrap();
            appending += began.elapsed();
            if step.is_multiple_of(DRAWN_EVERY) {
                let began = Instant::now();
                plots.draw().unwrap();
                drawing += began.elapsed();
            }
        }
        let (append, draw) = (appending / count, drawing / count);
        let done = steps * row / rows;
        println!(
            "{done:>12} {append:>14.1?} {draw:>14.1?} {:>9} MiB",
            resident_mib()
        );
    }
    let offsets = journal.offsets();
    drop(journal);
    drop(plots);

    println!("\na restart behind {steps} steps");
    let time = |what: &str, work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        println!("{what:>40} {:>10.1?}", began.elapsed());
    };
    time("open the journal", &mut || drop(open(dir, offsets)));
    time("find the ends of an ended job's lines", &mut || {
        assert_eq!(published(dir, true).offsets, offsets);
    });
    time("draw", &mut || {
        Plots::open(dir, "history".to_owned(), offsets)
            .draw()
            .unwrap();
    });
    std::fs::remove_file(dir.join("plots.json")).unwrap();
    time("draw without plots.json (all lines)", &mut || {
        Plots::open(dir, "history".to_owned(), offsets)
            .draw()
            .unwrap();
    });
    println!("{:>40} {:>6} MiB", "memory", resident_mib());
}

fn open(dir: &Path, offsets: Offsets) -> Journal {
    let (feed, _) = watch::channel(Published::default());
    Journal::open(dir, offsets, feed).unwrap()
}

fn metrics(step: u64) -> StepMetrics {
    let noise = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1u32 << 24);
    let line = serde_json::json!({
        "step": step,
        "epoch": step / 10_000 + 1,
        "loss": 3.0 / (step as f64).sqrt() + noise,
        "grad_norm": 1.0 + noise,
        "clip_coef": 1.0 / (1.0 + noise),
        "clipped": true,
        "lr": 1e-3,
        "weight": 32.0,
        "seconds": 0.1 + noise,
        "utterances": 32,
        "frames": 9_600,
        "audio_seconds": 96.0,
        "audio_seconds_per_second": 960.0 * noise,
        "compute_s": noise, "features_s": noise, "pull_s": noise, "push_s": noise,
        "wait_s": noise, "reduce_s": noise, "update_s": noise,
        "quarantined": 0,
        "dominated_by": "lstm.weight_ih_l0",
    });
    serde_json::from_value(line).unwrap()
}

/// The memory of this process that is in RAM.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
