//! The run's state machine by tables: what is said to it, and what follows.

mod ends;

use super::*;
use crate::{
    schedule::{ScheduleConfig, ScheduleKind},
    select::{Keep, SelectConfig},
};

/// Two epochs of two steps, with a validation set, and a checkpoint at the end of each epoch.
fn spec() -> RunSpec {
    RunSpec {
        steps_per_epoch: 2,
        total_steps: 4,
        checkpoint_every: 0,
        keeps_average: false,
        validates: true,
        select: SelectConfig::default(),
        schedule: ScheduleConfig::default(),
        max_norm_ratio: None,
        max_left_out: 3,
        returns_patience: 1000,
    }
}

fn at_step(spec: RunSpec, step: u64) -> Input {
    let mut memory = RunMemory::default();
    memory.policy.epochs = (step / spec.steps_per_epoch).min(step);
    Input::Begun(Box::new(Start {
        spec,
        memory,
        step,
        elements: 7,
        chosen: false,
    }))
}

fn begun(spec: RunSpec) -> Input {
    at_step(spec, 0)
}

const COMPLETE: Input = Input::PassComplete;

fn updated() -> Input {
    updated_as(UpdateOutcome::Applied)
}

fn updated_as(outcome: UpdateOutcome) -> Input {
    Input::Updated(Updated {
        elements: 7,
        norms: Vec::new(),
        outcome,
    })
}

fn scored(value: f64) -> Input {
    let figure = value.is_finite().then_some(Figure {
        value,
        rises: false,
    });
    let possible = true;
    Input::Scored { figure, possible }
}

fn saved(step: u64) -> Input {
    Input::Checkpointed { step }
}

/// An action in few words.
fn word(action: &Action) -> String {
    match action {
        Action::OpenPass(opened) => {
            let purpose = match opened.purpose {
                Purpose::Update => "pass",
                Purpose::Evaluate { average: false } => "evaluation",
                Purpose::Evaluate { average: true } => "evaluation of the average",
                Purpose::Choose => "choice",
            };
            format!("{purpose} {} of epoch {}", opened.version, opened.epoch)
        }
        Action::ClosePass => "close".to_owned(),
        Action::AbandonPass => "abandon".to_owned(),
        Action::Add { attempt } => format!("add {attempt}"),
        Action::Update => "update".to_owned(),
        Action::Score => "score".to_owned(),
        Action::EndEpoch(end) => {
            let mut word = format!("epoch {} ends", end.epoch);
            if let Some(hold) = end.outcome.hold {
                word += &match hold.replaces {
                    Some(place) => format!(", held for {place}"),
                    None => ", held".to_owned(),
                };
            }
            if end.outcome.lowered {
                word += &format!(", rate drop {}", end.drops);
            }
            if end.outcome.stopped {
                word += &format!(", stopped early after {}", end.best_epoch.unwrap_or(0));
            }
            word
        }
        Action::Checkpoint { memory } => format!("checkpoint ({} epochs)", memory.policy.epochs),
        Action::Finish => "finish".to_owned(),
        Action::TellReturn { more } => format!("returned, and {more} more"),
        Action::AbandonPreparation => "abandon the preparation".to_owned(),
        Action::End(end) => format!("end: {end:?}"),
    }
}

/// Tells a new run each input of `table`, and compares what follows.
#[track_caller]
fn check(table: impl IntoIterator<Item = (Input, &'static str)>) -> Run {
    let mut run = Run::default();
    for (place, (input, expected)) in table.into_iter().enumerate() {
        let told = format!("{place}: {input:?}");
        let words: Vec<String> = run.handle(0, input).iter().map(word).collect();
        assert_eq!(words.join("; "), expected, "{told}");
    }
    run
}

#[test]
fn a_run_goes_from_pass_to_pass_to_its_final_model() {
    let run = check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Accepted { left_out: 0 }, "add 0"),
        (COMPLETE, ""),
        (Input::Added { attempt: 0 }, "close; update"),
        (updated(), "pass 1 of epoch 1"),
        (COMPLETE, "close; update"),
        // The newest weights are scored while they are written down.
        (updated(), "checkpoint (0 epochs); evaluation 2 of epoch 1"),
        (COMPLETE, ""),
        (saved(2), "close; score"),
        (scored(0.5), "epoch 1 ends; pass 2 of epoch 2"),
        (COMPLETE, "close; update"),
        (updated(), "pass 3 of epoch 2"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (1 epochs); evaluation 4 of epoch 2"),
        (saved(4), ""),
        (Input::ResultsAccepted, ""),
        (COMPLETE, "close; score"),
        (scored(0.4), "epoch 2 ends; finish"),
        (Input::Finished, "end: Succeeded"),
        (Input::Failed, ""),
    ]);
    assert_eq!((run.step(), run.epoch(), run.elements()), (4, 2, 7));
}

#[test]
fn without_a_validation_set_an_epoch_ends_when_its_weights_are_written_down() {
    let spec = RunSpec {
        validates: false,
        total_steps: 2,
        checkpoint_every: 1,
        ..spec()
    };
    check([
        (begun(spec), "pass 0 of epoch 1"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (0 epochs); pass 1 of epoch 1"),
        // The sum is whole before the checkpoint is: the update waits.
        (COMPLETE, ""),
        (saved(1), "close; update"),
        (updated(), "checkpoint (0 epochs)"),
        (saved(2), "epoch 1 ends; finish"),
        (Input::Finished, "end: Succeeded"),
    ]);
}

#[test]
fn a_moving_average_is_evaluated_when_nobody_writes_it_down() {
    let spec = RunSpec {
        keeps_average: true,
        ..spec()
    };
    check([
        (at_step(spec, 3), "pass 3 of epoch 2"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (1 epochs)"),
        (saved(4), "evaluation of the average 4 of epoch 2"),
    ]);
}

#[test]
fn a_run_that_goes_on_at_the_end_of_an_epoch_scores_it_first() {
    let mut start = Start {
        spec: spec(),
        memory: RunMemory::default(),
        step: 2,
        elements: 7,
        chosen: false,
    };
    check([(
        Input::Begun(Box::new(start.clone())),
        "evaluation 2 of epoch 1",
    )]);
    start.memory.policy.epochs = 1;
    check([(Input::Begun(Box::new(start)), "pass 2 of epoch 2")]);
}

#[test]
fn a_pass_in_doubt_or_begun_again_is_waited_for() {
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Accepted { left_out: 0 }, "add 0"),
        // One addition at a time.
        (Input::Accepted { left_out: 2 }, ""),
        (COMPLETE, ""),
        (Input::PassDoubted, ""),
        (Input::Added { attempt: 0 }, "add 0"),
        (Input::PassRestarted, ""),
        (Input::Accepted { left_out: 2 }, "add 1"),
        // What a thread still adds to the first attempt is not waited for, nor does it count.
        (Input::Added { attempt: 0 }, ""),
        (COMPLETE, ""),
        (Input::Added { attempt: 1 }, "close; update"),
        (Input::PassDoubted, ""),
        (Input::PassRestarted, ""),
        // Nor does it count in the next pass.
        (updated(), "pass 1 of epoch 1"),
        (Input::Accepted { left_out: 0 }, "add 2"),
        (Input::Added { attempt: 0 }, ""),
        (COMPLETE, ""),
        (Input::Added { attempt: 2 }, "close; update"),
    ]);
}

#[test]
fn the_model_of_several_epochs_is_scored_before_it_is_written() {
    let select = SelectConfig {
        keep: Keep::Best,
        average: 1,
        ..SelectConfig::default()
    };
    let spec = RunSpec {
        steps_per_epoch: 1,
        total_steps: 2,
        select,
        ..spec()
    };
    let until_the_end = |second: f64, then: &'static str| {
        check([
            (begun(spec), "pass 0 of epoch 1"),
            (COMPLETE, "close; update"),
            (updated(), "checkpoint (0 epochs); evaluation 1 of epoch 1"),
            (saved(1), ""),
            (COMPLETE, "close; score"),
            (scored(0.5), "epoch 1 ends, held; pass 1 of epoch 2"),
            (COMPLETE, "close; update"),
            (updated(), "checkpoint (1 epochs); evaluation 2 of epoch 2"),
            (saved(2), ""),
            (COMPLETE, "close; score"),
            (scored(second), then),
        ])
    };
    // The last epoch is the best: its score is known.
    until_the_end(0.4, "epoch 2 ends, held for 0; finish");
    let mut run = until_the_end(0.6, "epoch 2 ends; choice 3 of epoch 2");
    let mut tell = |input| {
        let words: Vec<String> = run.handle(0, input).iter().map(word).collect();
        words.join("; ")
    };
    assert_eq!(tell(COMPLETE), "close; score");
    assert_eq!(tell(scored(0.5)), "finish");
    assert_eq!(tell(Input::Finished), "end: Succeeded");
}

#[test]
fn the_rate_falls_on_a_plateau_and_training_stops_early() {
    let spec = RunSpec {
        steps_per_epoch: 1,
        total_steps: 9,
        select: SelectConfig {
            patience: 2,
            ..SelectConfig::default()
        },
        schedule: ScheduleConfig {
            kind: ScheduleKind::Plateau,
            patience: 0,
            ..ScheduleConfig::default()
        },
        ..spec()
    };
    let run = check([
        (begun(spec), "pass 0 of epoch 1"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (0 epochs); evaluation 1 of epoch 1"),
        (saved(1), ""),
        (COMPLETE, "close; score"),
        (scored(0.5), "epoch 1 ends; pass 1 of epoch 2"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (1 epochs); evaluation 2 of epoch 2"),
        (saved(2), ""),
        (COMPLETE, "close; score"),
        (scored(0.5), "epoch 2 ends, rate drop 1; pass 2 of epoch 3"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (2 epochs); evaluation 3 of epoch 3"),
        (saved(3), ""),
        (COMPLETE, "close; score"),
        (
            scored(0.6),
            "epoch 3 ends, rate drop 2, stopped early after 1; finish",
        ),
    ]);
    assert_eq!((run.step(), run.epoch()), (3, 3));
}

#[test]
fn norms_of_earlier_steps_bound_the_next_ones() {
    let spec = RunSpec {
        max_norm_ratio: Some(3.0),
        ..spec()
    };
    let mut run = Run::default();
    let mut bound = |input| {
        let actions = run.handle(0, input);
        actions.iter().find_map(|action| match action {
            Action::OpenPass(opened) => Some(opened.norm_bound),
            _ => None,
        })
    };
    let most = |most| Some(Some(NormBound { most }));
    assert_eq!(bound(begun(spec)), most(None));
    bound(COMPLETE);
    let updated = Input::Updated(Updated {
        elements: 7,
        norms: vec![2.0; 40],
        outcome: UpdateOutcome::Applied,
    });
    assert_eq!(bound(updated), most(Some(6.0)));
}

/// As re-estimation will have it: a step is an epoch, and the weights grow where components are split.

#[test]
fn an_update_may_change_the_length_of_the_weights() {
    let spec = RunSpec {
        steps_per_epoch: 1,
        total_steps: 3,
        validates: false,
        ..spec()
    };
    let mut run = Run::default();
    let mut lengths = Vec::new();
    let mut inputs = vec![begun(spec)];
    for (step, elements) in [(1, 7), (2, 14), (3, 14)] {
        let updated = Updated {
            elements,
            norms: Vec::new(),
            outcome: UpdateOutcome::Applied,
        };
        inputs.extend([COMPLETE, Input::Updated(updated), saved(step)]);
    }
    for input in inputs {
        for action in run.handle(0, input) {
            if let Action::OpenPass(opened) = action {
                lengths.push((opened.version, opened.elements));
            }
        }
    }
    assert_eq!(lengths, [(0, 7), (1, 7), (2, 14)]);
    assert_eq!(run.elements(), 14);
}

#[test]
fn what_is_remembered_has_the_names_of_earlier_checkpoints() {
    let memory: RunMemory = serde_json::from_str(
        r#"{"course":{"epochs":2,"held":[{"epoch":1,"figure":{"value":0.5,"rises":false}}],
            "best":{"epoch":1,"figure":{"value":0.5,"rises":false}},
            "plateau":{"best":null,"bad":1,"cooldown":0,"drops":1},"stopped":false},
            "quarantined":3,"norms":[0.25,0.5],"skipped_steps":1}"#,
    )
    .unwrap();
    assert_eq!(memory.policy.best_epoch(), Some(1));
    assert_eq!((memory.left_out, memory.skipped_steps), (3, 1));
    let written = serde_json::to_value(&memory).unwrap();
    let names: Vec<&String> = written.as_object().unwrap().keys().collect();
    assert_eq!(names, ["course", "norms", "quarantined", "skipped_steps"]);
    let oldest: RunMemory = serde_json::from_str(r#"{"quarantined":0,"skipped_steps":0}"#).unwrap();
    assert_eq!(oldest, RunMemory::default());
}
