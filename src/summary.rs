//! The last words on a run, from its report.

use std::collections::BTreeMap;

use coordinator::report::Report;

use crate::{
    narrate,
    output::{duration, percent},
};

/// What came of a run, for a person; `place` is where its files are.
pub fn text(report: &Report, place: &str) -> String {
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
    if let Some(loss) = report.loss {
        let clipped = percent(report.clipped_share);
        say(
            "last loss",
            format!("{loss:.4} ({clipped} of the steps clipped)"),
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
        } else {
            "mixed classes allowed: other workers may give other bits"
        };
        say("computed on", format!("{class} ({promise})"));
    }
    if let Some(faults) = faults(&report.faults) {
        say("seen", faults);
    }
    say("run", place.to_owned());
    lines.join("\n")
}

/// Counts by kind, those above 0, for a person; `None` when there are none.
pub fn faults(counts: &BTreeMap<String, u64>) -> Option<String> {
    let seen = counts.iter().filter(|(_, count)| **count > 0);
    let seen: Vec<String> = seen
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    (!seen.is_empty()).then(|| seen.join(", "))
}
