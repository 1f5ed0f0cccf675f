//! The last words on a run, from its report.

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
                "{} micro-batches with gradients that are not finite",
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
    let faults: Vec<String> = report
        .faults
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.replace('_', " ")))
        .collect();
    if !faults.is_empty() {
        say("seen", faults.join(", "));
    }
    say("run", place.to_owned());
    lines.join("\n")
}
