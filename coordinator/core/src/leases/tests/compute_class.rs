//! Workers that may not compute for the running job: they are here, and nobody counts on them.

use super::*;

fn fits(bench: &mut Bench, worker: u64, eligible: bool) -> Vec<Output> {
    let worker = WorkerId(worker);
    bench.handle(Input::Eligibility { worker, eligible })
}

#[test]
fn who_does_not_fit_waits_without_work_and_gets_some_once_it_fits() {
    let mut bench = Bench::new(1);
    fits(&mut bench, 1, false);
    bench.open(0, 2);
    assert_eq!(bench.ask_until(1, bench.now + 60_000), []);
    // It is neither lost nor forgotten.
    assert_eq!(bench.wait(30_000), []);
    let outputs = fits(&mut bench, 1, true);
    assert!(
        matches!(outputs[..], [Output::Granted { .. }]),
        "{outputs:?}"
    );
}

#[test]
fn patience_ends_for_those_who_do_not_fit_as_for_others() {
    let mut bench = Bench::new(1);
    fits(&mut bench, 1, false);
    bench.open(0, 1);
    let worker = WorkerId(1);
    bench.ask_until(1, bench.now + 500);
    assert_eq!(bench.wait(500), [Output::NothingYet { worker }]);
}

#[test]
fn the_others_take_the_whole_pass() {
    let mut bench = Bench::new(2);
    fits(&mut bench, 2, false);
    bench.open(0, 8);
    assert_eq!(bench.lease(1).0.node, Node::root(8));
}

#[test]
fn what_a_worker_holds_is_free_when_it_does_not_fit_any_more() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let (key, _) = bench.lease(2);
    assert_eq!(bench.ask_until(1, Millis::MAX), []);
    let outputs = fits(&mut bench, 2, false);
    let Some(Output::Granted {
        worker, key: again, ..
    }) = outputs.first()
    else {
        panic!("{outputs:?}");
    };
    assert_eq!((worker.0, again.node), (1, key.node));
}

#[test]
fn who_does_not_fit_is_no_second_worker_for_an_audit() {
    let mut bench = Bench::new(2);
    bench.audit = 0.999;
    fits(&mut bench, 2, false);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    let outputs = bench.answer(1, &key, 7);
    let complete = |output: &Output| matches!(output, Output::PassComplete { .. });
    assert!(outputs.iter().any(complete), "{outputs:?}");
    assert_eq!(bench.scheduler.counters().unaudited, 1);
}

#[test]
fn an_answer_of_a_worker_that_does_not_fit_any_more_does_not_count() {
    let mut bench = Bench::new(2);
    bench.open(0, 2);
    let (first, _) = bench.lease(1);
    let (second, _) = bench.lease(2);
    bench.answer(1, &first, 7);
    fits(&mut bench, 2, false);
    let outputs = bench.answer(2, &second, 7);
    let stale = |output: &Output| {
        let Output::Receipt { outcome, .. } = output else {
            return false;
        };
        *outcome == ContributionOutcome::Stale
    };
    assert!(outputs.iter().any(stale), "{outputs:?}");
    assert_eq!(bench.scheduler.counters().foreign, 1);
}

#[test]
fn an_answer_of_a_worker_that_left_before_the_class_was_decided_does_not_count() {
    let mut bench = Bench::new(2);
    bench.open(0, 2);
    let (first, _) = bench.lease(1);
    let (second, _) = bench.lease(2);
    let worker = WorkerId(2);
    bench.handle(Input::Left { worker });
    bench.answer(1, &first, 7);
    bench.handle(Input::ClassDecided);
    bench.answer(2, &second, 7);
    assert_eq!(bench.scheduler.counters().foreign, 1);
    assert_eq!(bench.scheduler.missing(), 1);
}
