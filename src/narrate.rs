//! A run's events as sentences for people.

use coordinator::{
    job::changes::listed,
    records::events::{Event, Record, Set},
};
use speech::{escape::escape, score::Score};

use crate::output::{duration, percent};

/// What happened, in a line. `synthetic` names figures that come from synthetic speech as such.
pub(crate) fn sentence(event: &Event, synthetic: bool) -> String {
    match event {
        Event::Started {
            generation,
            resumed_from: None,
        } => format!("started (generation {generation})"),
        Event::Started {
            generation,
            resumed_from: Some(file),
        } => format!("resumed: goes on from {file} (generation {generation})"),
        Event::JobChanged {
            changes,
            bit_identity,
        } => {
            let promise = if *bit_identity {
                ""
            } else {
                "; the run no longer promises the same bits as an undisturbed one"
            };
            format!("the job was changed: {}{promise}", listed(changes))
        }
        Event::CheckpointDamaged { reason } => reason.clone(),
        Event::Prepared {
            train_utterances,
            train_hours,
            valid_utterances,
            valid_hours,
            parameters,
            vocabulary,
            steps,
            synthetic,
        } => {
            let kind = if *synthetic {
                "synthetic speech"
            } else {
                "speech"
            };
            let held_out = if *valid_utterances == 0 {
                "nothing held out".to_owned()
            } else {
                format!("{valid_utterances} held out ({})", hours(*valid_hours))
            };
            format!(
                "{kind}: {train_utterances} utterances to train on ({}), {held_out}; \
                 {parameters} parameters, {vocabulary} outputs, {steps} steps",
                hours(*train_hours)
            )
        }
        Event::UtteranceLeftOut {
            utterance,
            set,
            reason,
        } => format!(
            "{} utterance {} is left out: {}",
            name(*set),
            escape(utterance),
            escape(reason)
        ),
        Event::LeftOut { set, left_out } => {
            left_out.sentence(&format!("{} utterances", name(*set)))
        }
        Event::UnknownText { unknown } => format!("validation set: {unknown}"),
        Event::Warned { message } => format!("warning: {}", escape(message)),
        Event::Pinned { compute_class } => format!("compute class {compute_class}"),
        Event::WorkerJoined {
            name,
            compute_class,
            ..
        } => format!("worker {} joined ({})", escape(name), escape(compute_class)),
        Event::WorkerLeft { name, .. } => format!("worker {} left", escape(name)),
        Event::WorkerLost { name, .. } => {
            format!(
                "worker {} was lost: no heartbeat came in time",
                escape(name)
            )
        }
        Event::Waiting { reason } => format!("waits for {}", escape(reason)),
        Event::Unaudited => {
            "a node that was to be computed by a second worker as well (`train.audit`) was not: \
             no other worker had time for it; the report counts such nodes"
                .to_owned()
        }
        Event::LeaseExpired { worker, node } => {
            format!(
                "the lease of worker {worker} for node {node} expired; another worker gets the node"
            )
        }
        Event::GivenBack {
            worker,
            node,
            reason,
            more,
        } => {
            let before = match more {
                0 => String::new(),
                more => format!(" (after {more} other returns)"),
            };
            format!(
                "worker {worker} returned node {node} undone{before}: {}",
                escape(reason)
            )
        }
        Event::Quarantined {
            worker,
            micro_batch,
            utterances,
            reason,
        } => format!(
            "micro-batch {micro_batch} ({}) was skipped by worker {worker}: {}",
            escape(&utterances.join(", ")),
            escape(reason)
        ),
        Event::StepSkipped { reason } => format!("the training step was skipped: {reason}"),
        Event::Differed {
            node,
            first,
            second,
            late,
        } => {
            let doubt = if *late {
                "; the step was over, so that the wrong one cannot be found"
            } else {
                "; other workers compute it too"
            };
            format!("workers {first} and {second} gave different bits for node {node}{doubt}")
        }
        Event::WorkerQuarantined { name, node, .. } => {
            format!(
                "worker {} is quarantined: it gave wrong bits for node {node} and gets no more work",
                escape(name)
            )
        }
        Event::ContributionRejected {
            name, node, reason, ..
        } => {
            format!(
                "what worker {} handed in for node {node} was refused: {}",
                escape(name),
                escape(reason)
            )
        }
        Event::WorkerTurnedAway { name, seconds, .. } => {
            format!(
                "worker {} is turned away for {seconds} s: too much of what it handed in was refused",
                escape(name)
            )
        }
        Event::StepRestarted => {
            "the training step starts again, without the quarantined worker".to_owned()
        }
        Event::Evaluated {
            epoch,
            loss,
            best,
            score: found,
            ..
        } => {
            let loss = loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
            let best = if *best { ", best so far" } else { "" };
            format!("epoch {epoch}: {}{loss}{best}", score(found, synthetic))
        }
        Event::RateLowered { factor } => {
            format!("no improvement: learning rate × {factor}")
        }
        Event::StoppedEarly { epoch, best_epoch } => {
            format!("early stopping after epoch {epoch}: epoch {best_epoch} is still the best")
        }
        Event::Chosen {
            epochs,
            loss,
            score: found,
        } => {
            let loss = loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
            format!(
                "the final model, {}: {}{loss}",
                of_epochs(epochs),
                score(found, synthetic)
            )
        }
        Event::Checkpointed { file } => format!("checkpoint {file}"),
        Event::Cancelled => "cancelled".to_owned(),
        Event::Failed { error, .. } => format!("failed: {error}"),
        Event::Succeeded { weights_sha256 } => format!("succeeded, weights {weights_sha256}"),
    }
}

/// What a set is called.
pub(crate) const fn name(set: Set) -> &'static str {
    match set {
        Set::Train => "training",
        Set::Valid => "validation",
    }
}

/// A log line: when, at which step, what.
pub(crate) fn log_line(record: &Record, synthetic: bool) -> String {
    format!(
        "{:.3} step {:<6} {}",
        record.time,
        record.step,
        sentence(&record.event, synthetic)
    )
}

/// The held-out rates of a score.
pub(crate) fn score(score: &Score, synthetic: bool) -> String {
    let kind = if synthetic {
        "held-out synthetic"
    } else {
        "held-out"
    };
    let rates: Vec<String> = [
        ("accuracy", score.accuracy),
        ("WER", score.wer),
        ("CER", score.cer),
    ]
    .into_iter()
    .filter_map(|(name, rate)| Some(format!("{kind} {name} {}", percent(rate?))))
    .collect();
    if rates.is_empty() {
        format!("{kind} rates undefined")
    } else {
        rates.join(", ")
    }
}

/// Whose weights a model is made of.
pub(crate) fn of_epochs(epochs: &[u64]) -> String {
    let listed: Vec<String> = epochs.iter().map(u64::to_string).collect();
    match listed.as_slice() {
        [only] => format!("the weights of epoch {only}"),
        _ => format!("the mean of the weights of epochs {}", listed.join(", ")),
    }
}

fn hours(hours: f64) -> String {
    duration(hours * 3600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_from_synthetic_speech_says_so() {
        let event = Event::Evaluated {
            epoch: 3,
            loss: Some(0.25),
            best: true,
            score: Score {
                utterances: 10,
                accuracy: Some(0.975),
                ..Score::default()
            },
            confusions: Vec::new(),
        };
        assert_eq!(
            sentence(&event, true),
            "epoch 3: held-out synthetic accuracy 97.50 %, loss 0.2500, best so far"
        );
        assert!(!sentence(&event, false).contains("synthetic"));
    }
}
