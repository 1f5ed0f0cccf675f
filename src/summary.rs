//! The summary of a run at its end, from its report.

use std::collections::BTreeMap;

use coordinator::records::{
    events::Set,
    report::{Amendment, LeftOutOf, Report},
};

use crate::{
    narrate,
    output::{duration, percent},
};

/// What came of a run, for a person; `place` is where its files are.
pub(crate) fn text(report: &Report, place: &str) -> String {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name:<12} {value}"));
    if let Some(metrics) = &report.metrics {
        say("result", narrate::score(&metrics.score, report.synthetic));
    }
    if let Some(best) = &report.best
        && best.epoch < report.epochs
    {
        let value = percent(best.value);
        say(
            "best epoch",
            format!("{} ({} {value})", best.epoch, best.metric),
        );
    }
    if let Some(chosen) = &report.chosen {
        let score = narrate::score(&chosen.metrics.score, report.synthetic);
        let made_of = narrate::of_epochs(&chosen.epochs);
        say("final model", format!("{made_of}: {score}"));
    }
    let hours = report.audio_hours;
    say(
        "trained",
        format!(
            "{} steps, {} epochs, {hours:.2} h of audio, {} parameters, in {}",
            report.steps,
            report.epochs,
            report.parameters,
            duration(report.seconds)
        ),
    );
    if let Some(times) = times(&report.times.by_name(), report.steps) {
        say("time", times);
    }
    if let Some(loss) = report.loss {
        let clipped = percent(report.clipped_share);
        let clamped = report.clamped_share.map(|share| {
            let share = percent(share);
            format!(", {share} of the gradient's elements changed in a step")
        });
        let clamped = clamped.unwrap_or_default();
        say(
            "last loss",
            format!("{loss:.4} ({clipped} of the steps clipped{clamped})"),
        );
    }
    if report.quarantined > 0 {
        say(
            "left out",
            format!(
                "{} micro-batches, for gradients that are not finite or too large",
                report.quarantined
            ),
        );
    }
    if let Some(hash) = &report.weights_sha256 {
        say("weights", format!("sha256 {hash}"));
    }
    if let Some(class) = &report.compute_class {
        let promise = if report.bit_identity {
            "the same bits on any workers of this class"
        } else if report.amendments.is_empty() {
            "mixed classes allowed: other workers may give other bits"
        } else {
            "no promise of the same bits: see below"
        };
        say("computed on", format!("{class} ({promise})"));
    }
    for Amendment { step, change } in &report.amendments {
        say("changed", format!("at step {step}: {change}"));
    }
    if let Some(faults) = faults(&report.faults) {
        say("seen", faults);
    }
    if !report.unknown_text.is_empty() {
        say("unknown", report.unknown_text.to_string());
    }
    say("run", place.to_owned());
    lines.extend(left_out(&report.left_out));
    lines.join("\n")
}

/// How many utterances took no part; `None` where all did.
fn left_out(sets: &LeftOutOf) -> Option<String> {
    let named = [(Set::Train, &sets.train), (Set::Valid, &sets.valid)];
    let told: Vec<String> = named
        .into_iter()
        .filter(|(_, left_out)| !left_out.is_empty())
        .map(|(set, left_out)| left_out.sentence(&format!("{} utterances", narrate::name(set))))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Where the time of `steps` steps went, from seconds by name: the workers' in shares, the
/// coordinator's in milliseconds a step. `None` before anything was computed.
pub(crate) fn times(seconds: &BTreeMap<String, f64>, steps: u64) -> Option<String> {
    let of = |name: &str| seconds.get(name).copied().unwrap_or_default();
    let workers = [
        ("computing", of("compute_s")),
        ("features", of("features_s")),
        ("pulling", of("pull_s")),
        ("pushing", of("push_s")),
        ("waiting", of("wait_s")),
    ];
    let whole: f64 = workers.iter().map(|(_, seconds)| seconds).sum();
    if whole <= 0.0 || steps == 0 {
        return None;
    }
    let share = |(name, seconds): &(&str, f64)| format!("{name} {}", percent(seconds / whole));
    let shares: Vec<String> = workers.iter().map(share).collect();
    let each = |name| 1e3 * of(name) / steps as f64;
    Some(format!(
        "workers: {}; coordinator: reducing {:.1} ms, updating {:.1} ms a step",
        shares.join(", "),
        each("reduce_s"),
        each("update_s"),
    ))
}

/// Counts by kind, those above 0, for a person; `None` when there are none.
pub(crate) fn faults(counts: &BTreeMap<String, u64>) -> Option<String> {
    let seen = counts.iter().filter(|(_, count)| **count > 0);
    let seen: Vec<String> = seen
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    (!seen.is_empty()).then(|| seen.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shares_of_the_workers_and_milliseconds_of_the_coordinator() {
        let seconds = [
            ("compute_s", 9.0),
            ("wait_s", 0.75),
            ("push_s", 0.25),
            ("update_s", 0.5),
        ];
        let seconds = seconds.map(|(name, value)| (name.to_owned(), value)).into();
        let told = times(&seconds, 100).unwrap();
        assert!(told.contains("computing 90"), "{told}");
        assert!(told.contains("waiting 7.5"), "{told}");
        assert!(
            told.ends_with("reducing 0.0 ms, updating 5.0 ms a step"),
            "{told}"
        );
        assert_eq!(times(&BTreeMap::new(), 100), None);
    }
}
