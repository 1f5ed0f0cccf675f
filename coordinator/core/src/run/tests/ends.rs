//! How a run comes to rest or fails: stopped, cancelled, given up, and what it cannot survive.

use super::*;

#[test]
fn whoever_stops_comes_to_rest_at_a_checkpoint() {
    for (reason, end) in [
        (StopReason::Requeue, "end: Requeued"),
        (StopReason::Cancel, "end: Cancelled"),
        (StopReason::GiveUp, "end: Failed(GivenUp)"),
    ] {
        // In the middle of a pass: what came in is forgotten.
        let mut run = check([
            (begun(spec()), "pass 0 of epoch 1"),
            (COMPLETE, "close; update"),
            (updated(), "pass 1 of epoch 1"),
            (Input::Accepted { left_out: 2 }, "add 1"),
            (Input::Stop(reason), "abandon; checkpoint (0 epochs)"),
        ]);
        assert!(run.is_stopping());
        assert_eq!(run.memory().unwrap().left_out, 0, "they are counted anew");
        let words: Vec<String> = run.handle(0, saved(1)).iter().map(word).collect();
        assert_eq!(words, [end]);
        // Where there is a checkpoint already.
        let nothing_new = match reason {
            StopReason::Requeue => "abandon; end: Requeued",
            StopReason::Cancel => "abandon; end: Cancelled",
            StopReason::GiveUp => "abandon; end: Failed(GivenUp)",
        };
        check([
            (begun(spec()), "pass 0 of epoch 1"),
            (Input::Stop(reason), nothing_new),
        ]);
        // While the corpus is prepared.
        let preparing = match reason {
            StopReason::Requeue => "abandon the preparation; end: Requeued",
            StopReason::Cancel => "abandon the preparation; end: Cancelled",
            StopReason::GiveUp => "abandon the preparation; end: Failed(GivenUp)",
        };
        check([(Input::Stop(reason), preparing), (begun(spec()), "")]);
    }
}

#[test]
fn what_is_computed_from_a_whole_pass_is_waited_for() {
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (COMPLETE, "close; update"),
        (Input::Stop(StopReason::Requeue), ""),
        (updated(), "checkpoint (0 epochs)"),
        // Who cancels, cancels also what is to be queued again.
        (Input::Stop(StopReason::Cancel), ""),
        (Input::Stop(StopReason::Requeue), ""),
        (saved(1), "end: Cancelled"),
    ]);
}

#[test]
fn a_stop_during_a_checkpoint_and_an_evaluation_waits_for_the_checkpoint_alone() {
    check([
        (at_step(spec(), 1), "pass 1 of epoch 1"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (0 epochs); evaluation 2 of epoch 1"),
        (Input::Stop(StopReason::Requeue), "abandon"),
        (saved(2), "end: Requeued"),
    ]);
    // A score that is under way is waited for.
    check([
        (at_step(spec(), 1), "pass 1 of epoch 1"),
        (COMPLETE, "close; update"),
        (updated(), "checkpoint (0 epochs); evaluation 2 of epoch 1"),
        (saved(2), ""),
        (COMPLETE, "close; score"),
        (Input::Stop(StopReason::Requeue), ""),
        (scored(0.5), "epoch 1 ends; end: Requeued"),
    ]);
    // And a final model.
    let last = RunSpec {
        validates: false,
        ..spec()
    };
    check([
        (at_step(last, 4), "finish"),
        (Input::Stop(StopReason::Cancel), ""),
        (Input::Finished, "end: Succeeded"),
    ]);
}

#[test]
fn a_failure_ends_a_run_wherever_it_is() {
    let failed = "end: Failed(Reported)";
    check([(Input::Failed, failed)]);
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Failed, failed),
        (Input::Failed, ""),
    ]);
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Stop(StopReason::Cancel), "abandon; end: Cancelled"),
        (Input::Failed, ""),
    ]);
}

#[test]
fn skipped_steps_count_and_too_many_losses_end_the_run() {
    let skipped = |left_out| updated_as(UpdateOutcome::Skipped { left_out });
    let run = check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Accepted { left_out: 1 }, "add 0"),
        (Input::Added { attempt: 0 }, ""),
        (COMPLETE, "close; update"),
        (skipped(2), "pass 1 of epoch 1"),
        (COMPLETE, "close; update"),
        (skipped(0), "checkpoint (0 epochs); evaluation 2 of epoch 1"),
    ]);
    let memory = run.memory().unwrap();
    assert_eq!((memory.skipped_steps, memory.left_out), (2, 3));
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (COMPLETE, "close; update"),
        (skipped(4), "end: Failed(Diverged { count: 4, limit: 3 })"),
    ]);
    check([
        (begun(spec()), "pass 0 of epoch 1"),
        (Input::Accepted { left_out: 3 }, "add 0"),
        (
            Input::Accepted { left_out: 1 },
            "end: Failed(TooManyLeftOut { count: 4, limit: 3 })",
        ),
    ]);
}

#[test]
fn a_decision_that_goes_by_a_figure_which_never_comes_ends_the_run() {
    let select = SelectConfig {
        keep: Keep::Best,
        ..SelectConfig::default()
    };
    let spec = RunSpec {
        steps_per_epoch: 1,
        total_steps: 1,
        select,
        ..spec()
    };
    let none = |possible| Input::Scored {
        figure: None,
        possible,
    };
    for (input, expected) in [
        (none(false), "end: Failed(NoFigure)"),
        // The first one is held whatever it is worth.
        (none(true), "epoch 1 ends, held; end: Failed(NeverFinite)"),
        (scored(0.5), "epoch 1 ends, held; finish"),
    ] {
        check([
            (begun(spec), "pass 0 of epoch 1"),
            (COMPLETE, "close; update"),
            (updated(), "checkpoint (0 epochs); evaluation 1 of epoch 1"),
            (saved(1), ""),
            (COMPLETE, "close; score"),
            (input, expected),
        ]);
    }
}

#[test]
fn a_run_fails_when_its_leases_are_returned_for_too_long() {
    let mut run = check([(begun(spec()), "pass 0 of epoch 1")]);
    let mut words = Vec::new();
    let mut tell = |now, input| {
        let actions = run.handle(now, input);
        words.extend(actions.iter().map(word));
        words.len()
    };
    for _ in 0..100 {
        tell(0, Input::Returned);
    }
    assert_eq!(tell(999, Input::Returned), 3);
    // Something came in: the count begins anew.
    assert_eq!(tell(1000, Input::Accepted { left_out: 0 }), 4);
    for _ in 1..MIN_RETURNS {
        tell(1000, Input::Returned);
    }
    assert_eq!(tell(1999, Input::Added { attempt: 0 }), 7);
    tell(2000, Input::Returned);
    assert_eq!(words[..3], ["returned, and 0 more"; 3]);
    let end = "end: Failed(Returned { times: 24, within: 1000 })";
    assert_eq!(words.last().unwrap(), end);
}
