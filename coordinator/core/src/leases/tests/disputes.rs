//! Audits, disputes, quarantine.

use super::*;

/// Workers of which some compute wrong bits; every answer is confirmed by a second one.
fn audited(workers: u64) -> Bench {
    let mut bench = Bench::new(workers);
    bench.audit = 1.0;
    bench
}

#[track_caller]
fn granted(outputs: &[Output]) -> Option<Key> {
    outputs.iter().find_map(|output| match output {
        Output::Granted { key, .. } => Some(key.clone()),
        _ => None,
    })
}

fn completes(outputs: &[Output]) -> bool {
    let complete = |output: &Output| matches!(output, Output::PassComplete { .. });
    outputs.iter().any(complete)
}

fn restarts(outputs: &[Output]) -> bool {
    let restarted = |output: &Output| matches!(output, Output::PassRestarted { .. });
    outputs.iter().any(restarted)
}

fn quarantined(outputs: &[Output]) -> Vec<u64> {
    let odd = outputs.iter().filter_map(|output| match output {
        Output::Quarantined { worker, .. } => Some(worker.0),
        _ => None,
    });
    odd.collect()
}

#[test]
fn an_audited_pass_is_complete_when_another_worker_has_confirmed_it() {
    let mut bench = audited(2);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    assert!(!completes(&bench.answer(1, &key, 7)));
    // Not by the one who said it.
    let worker = WorkerId(1);
    assert_eq!(
        bench.ask_until(1, bench.now),
        [Output::NothingYet { worker }]
    );
    let (again, _) = bench.lease(2);
    assert_eq!((again.node, again.attempt), (key.node, 1));
    assert!(completes(&bench.answer(2, &again, 7)));
    assert_eq!(bench.scheduler.counters().audited, 1);
}

#[test]
fn a_share_of_the_nodes_is_audited_whoever_asks() {
    let mut bench = Bench::new(2);
    bench.audit = 0.25;
    for step in 0..200 {
        bench.open(step, 2);
        let mut open = true;
        while open {
            for worker in [1, 2] {
                if let Some(key) = granted(&bench.ask_until(worker, bench.now)) {
                    open &= !completes(&bench.answer(worker, &key, 7));
                }
            }
        }
    }
    let counters = bench.scheduler.counters();
    assert!((70..130).contains(&counters.audited), "{counters:?}");
    assert_eq!(counters.accepted, 400);
    assert_eq!(counters.unaudited, 0);
}

#[test]
fn who_is_alone_is_not_audited_unless_everything_must_be() {
    let mut bench = Bench::new(1);
    bench.audit = 0.999;
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    assert!(completes(&bench.answer(1, &key, 7)));
    assert_eq!(bench.scheduler.counters().unaudited, 1);

    let mut bench = audited(1);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    assert!(!completes(&bench.answer(1, &key, 7)));
    assert!(!completes(&bench.wait(200_000)));
    let worker = WorkerId(2);
    bench.join(worker.0);
    let (again, _) = bench.lease(2);
    assert!(completes(&bench.answer(2, &again, 7)));
}

#[test]
fn an_audit_that_nobody_takes_does_not_hold_the_pass_up_for_ever() {
    let mut bench = Bench::new(2);
    bench.audit = 0.999;
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    assert!(!completes(&bench.answer(1, &key, 7)));
    // Worker 2 is there and never asks.
    assert!(completes(
        &bench.wait(Config::default().verification_patience)
    ));
    assert_eq!(bench.scheduler.counters().unaudited, 1);
}

#[test]
fn a_lone_worker_of_a_job_that_insists_waits_for_the_ceiling_and_then_the_pass_ends() {
    let ceiling = Config::default().verification_ceiling;
    let mut bench = audited(1);
    bench.open(0, 2);
    let (key, _) = bench.lease(1);
    assert!(!bench.scheduler.is_unconfirmed());
    bench.answer(1, &key, 7);
    assert!(bench.scheduler.is_unconfirmed());
    assert!(!unconfirmed(&bench.wait(ceiling - 1)));
    assert!(unconfirmed(&bench.wait(1)));
    assert_eq!(bench.scheduler.pass(), None);
    assert!(!bench.scheduler.is_unconfirmed());
}

fn unconfirmed(outputs: &[Output]) -> bool {
    let found = |output: &Output| matches!(output, Output::Unconfirmed { .. });
    outputs.iter().any(found)
}

#[test]
fn the_ceiling_counts_only_while_somebody_is_here_and_everything_else_is_in() {
    let ceiling = Config::default().verification_ceiling;
    let mut bench = audited(1);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    bench.answer(1, &key, 7);
    bench.wait(ceiling / 2);
    let worker = WorkerId(1);
    bench.handle(Input::Left { worker });
    assert!(!bench.scheduler.is_unconfirmed());
    bench.now += 2 * ceiling;
    assert!(!unconfirmed(&bench.handle(Input::Tick)));
    for worker in [2, 3].map(WorkerId) {
        bench.join(worker.0);
    }
    assert!(!unconfirmed(&bench.wait(ceiling / 2)));
    let (again, _) = bench.lease(3);
    assert!(!bench.scheduler.is_unconfirmed(), "somebody is at it");
    assert!(completes(&bench.answer(3, &again, 7)));
}

#[test]
fn an_audit_waits_as_long_as_other_micro_batches_are_missing() {
    let patience = Config::default().verification_patience;
    let mut bench = Bench::new(2);
    bench.audit = 0.999;
    bench.open(0, 2);
    let (first, _) = bench.lease(1);
    let (second, _) = bench.lease(2);
    bench.answer(1, &first, 7);
    // Worker 2's micro-batch takes longer than an audit waits for.
    let held = [&second];
    for _ in 0..3 {
        bench.wait(patience / 2);
        bench.ask_ahead(2, &held);
    }
    assert_eq!(bench.scheduler.counters().unaudited, 0);
    bench.answer(2, &second, 7);
    let (audit, _) = bench.lease(2);
    assert_eq!(audit.node, first.node);
    bench.answer(2, &audit, 7);
    let (audit, _) = bench.lease(1);
    assert!(completes(&bench.answer(1, &audit, 7)));
    assert_eq!(bench.scheduler.counters().audited, 2);
}

#[test]
fn a_dispute_over_an_answer_that_is_older_than_the_patience_is_settled_by_a_third_worker() {
    let patience = Config::default().verification_patience;
    let mut bench = audited(3);
    bench.open(0, 1);
    let (first, _) = bench.lease(1);
    bench.answer(1, &first, 7);
    let (second, _) = bench.lease(2);
    bench.wait(patience + 5_000);
    assert_eq!(bench.outcome(2, &second, 8), ContributionOutcome::Differs);
    let (third, _) = bench.lease(3);
    let outputs = bench.answer(3, &third, 7);
    assert_eq!(quarantined(&outputs), [2]);
    assert!(completes(&outputs));
}

#[test]
fn a_dispute_waits_for_a_third_worker_that_is_busy_for_longer_than_the_patience() {
    let Config {
        verification_patience,
        verification_ceiling,
        ..
    } = Config::default();
    let (mut bench, _) = disputed(3);
    // Worker 3 is here, and at something else for minutes.
    let outputs = bench.wait(3 * verification_patience);
    assert!(
        !outputs
            .iter()
            .any(|it| matches!(it, Output::Unsettled { .. }))
    );
    let (third, _) = bench.lease(3);
    assert_eq!(quarantined(&bench.answer(3, &third, 7)), [2]);

    // One that never asks is not waited for without end.
    let (mut bench, _) = disputed(3);
    let outputs = bench.wait(verification_ceiling);
    assert!(
        outputs
            .iter()
            .any(|it| matches!(it, Output::Unsettled { .. }))
    );
}

/// Two workers have given different bits for a pass of one node, which worker 1's are accepted for.
fn disputed(workers: u64) -> (Bench, Key) {
    let mut bench = audited(workers);
    bench.open(0, 1);
    let (first, _) = bench.lease(1);
    bench.answer(1, &first, 7);
    let (second, _) = bench.lease(2);
    assert_eq!(bench.outcome(2, &second, 8), ContributionOutcome::Differs);
    (bench, first)
}

#[test]
fn a_third_opinion_that_agrees_with_the_first_sends_the_second_away() {
    let (mut bench, _) = disputed(3);
    let (third, _) = bench.lease(3);
    let outputs = bench.answer(3, &third, 7);
    assert_eq!(quarantined(&outputs), [2]);
    assert!(completes(&outputs) && !restarts(&outputs));
    assert!(!bench.scheduler.knows(WorkerId(2)));
    assert_eq!(bench.scheduler.counters().quarantined_workers, 1);
}

#[test]
fn a_third_opinion_that_agrees_with_the_second_begins_the_pass_again() {
    let (mut bench, first) = disputed(3);
    let (third, _) = bench.lease(3);
    let outputs = bench.answer(3, &third, 8);
    assert_eq!(quarantined(&outputs), [1]);
    assert!(restarts(&outputs) && !completes(&outputs));
    assert_eq!(bench.scheduler.missing(), 1);
    // What the odd one out still has on its way does not count.
    assert_eq!(bench.outcome(1, &first, 7), ContributionOutcome::Stale);
    let (key, _) = bench.lease(2);
    bench.answer(2, &key, 8);
    let (key, _) = bench.lease(3);
    assert!(completes(&bench.answer(3, &key, 8)));
}

#[test]
fn two_alone_are_asked_again_and_who_contradicts_itself_goes() {
    let (mut bench, _) = disputed(2);
    let (again, _) = bench.lease(1);
    let outputs = bench.answer(1, &again, 8);
    assert_eq!(quarantined(&outputs), [1]);
    assert!(restarts(&outputs));
}

#[test]
fn two_that_insist_end_the_pass_when_nobody_comes() {
    let (mut bench, first) = disputed(2);
    for (worker, bits) in [(1, 7), (2, 8)] {
        let (again, _) = bench.lease(worker);
        assert!(quarantined(&bench.answer(worker, &again, bits)).is_empty());
    }
    let worker = WorkerId(1);
    assert_eq!(
        bench.ask_until(1, bench.now),
        [Output::NothingYet { worker }]
    );
    let outputs = bench.wait(Config::default().verification_patience);
    let unsettled = outputs.iter().find_map(|output| match output {
        Output::Unsettled { key, workers } => Some((key.node, workers.clone())),
        _ => None,
    });
    assert_eq!(
        unsettled,
        Some((first.node, vec![WorkerId(1), WorkerId(2)]))
    );
    assert_eq!(bench.scheduler.pass(), None);
}

#[test]
fn a_dispute_goes_before_free_nodes() {
    let mut bench = audited(3);
    bench.open(0, 4);
    let (first, _) = bench.lease(1);
    bench.answer(1, &first, 7);
    let others: Vec<Key> = [2, 3].map(|worker| bench.lease(worker).0).into();
    bench.handle(Input::GivenBack {
        worker: WorkerId(3),
        key: others[1].clone(),
        fatal: false,
    });
    bench.answer(2, &others[0], 7);
    // Worker 2 says twice what cannot be true at once.
    let mut outputs = bench.answer(2, &others[0], 9);
    assert_eq!(quarantined(&outputs), [2]);
    assert!(restarts(&outputs));
    // All four are free again but for what worker 1 and 3 hold, which is nothing.
    outputs = bench.ask_until(3, bench.now);
    assert!(granted(&outputs).is_some());
    assert_eq!(bench.scheduler.missing(), 4);
}

#[test]
fn leases_that_run_are_of_use_after_a_restart() {
    let mut bench = audited(4);
    bench.open(0, 4);
    let keys: Vec<Key> = [1, 2, 3].map(|worker| bench.lease(worker).0).into();
    bench.answer(1, &keys[0], 7);
    let outputs = bench.answer(1, &keys[0], 9);
    assert!(restarts(&outputs));
    assert_eq!(bench.outcome(2, &keys[1], 7), ContributionOutcome::Accepted);
    assert_eq!(bench.outcome(3, &keys[2], 7), ContributionOutcome::Accepted);
}

#[test]
fn a_copy_that_comes_after_the_step_is_compared_all_the_same() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let (first, expires) = bench.lease(1);
    bench.wait(expires - bench.now);
    let (second, _) = bench.lease(2);
    bench.answer(1, &first, 7);
    bench.handle(Input::PassClosed);
    bench.open(1, 1);
    let outputs = bench.answer(2, &second, 8);
    let late = |output: &Output| matches!(output, Output::Differed { late: true, .. });
    assert!(outputs.iter().any(late), "{outputs:?}");
    assert!(bench.scheduler.knows(WorkerId(2)));
}

#[test]
fn where_classes_are_mixed_different_bits_are_no_finding() {
    let mut bench = Bench::new(2);
    let pass = PassId {
        job: "job".to_owned(),
        kind: PassKind::Gradient,
        step: 0,
    };
    bench.handle(Input::PassOpened {
        pass,
        micro_batches: 1,
        max_micro_batches: 1,
        cost: 1.0,
        audit_policy: AuditPolicy::None,
    });
    let (first, expires) = bench.lease(1);
    bench.wait(expires - bench.now);
    let (second, _) = bench.lease(2);
    assert!(completes(&bench.answer(1, &first, 7)));
    let outputs = bench.answer(2, &second, 8);
    assert!(
        matches!(outputs[..], [Output::Receipt { .. }]),
        "{outputs:?}"
    );
}
