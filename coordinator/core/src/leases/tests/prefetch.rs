//! The next lease, asked for while the one before is at work.

use super::*;

#[test]
fn who_asks_ahead_keeps_what_it_holds() {
    let mut bench = Bench::new(2);
    bench.open(0, 8);
    let (first, _) = bench.lease(1);
    assert_eq!(first.node.to_string(), "2/0");
    let outputs = bench.ask_ahead(1, &[&first]);
    // The other half is left to the other worker, which will ask at once.
    assert_eq!(outputs, []);
    assert_eq!(bench.scheduler.counters().given_back, 0);
    assert_eq!(bench.outcome(1, &first, 1), ContributionOutcome::Accepted);
}

#[test]
fn the_next_lease_comes_before_the_first_is_done() {
    let mut bench = Bench::new(1);
    // Two workers are known, and one of them takes thrice as long: its share comes in pieces.
    bench.join(2);
    bench.train(12, 16, &[100, 300]);
    bench.open(12, 16);
    let (slow, _) = bench.lease(2);
    let (quick, _) = bench.lease(1);
    let outputs = bench.ask_ahead(1, &[&quick]);
    let [
        Output::Granted {
            worker, key: next, ..
        },
    ] = &outputs[..]
    else {
        panic!("there is more to do: {outputs:?}");
    };
    assert_eq!(*worker, WorkerId(1));
    assert!(!next.node.contains(slow.node) && !next.node.contains(quick.node));
    // No third one: what is held is waited for.
    assert_eq!(bench.ask_ahead(1, &[&quick, next]), []);
    let next = next.clone();
    for (worker, key) in [(1, &quick), (1, &next), (2, &slow)] {
        assert_eq!(bench.outcome(worker, key, 1), ContributionOutcome::Accepted);
    }
}

#[test]
fn what_is_not_held_any_more_is_free() {
    let mut bench = Bench::new(1);
    bench.open(0, 4);
    let (lost, _) = bench.lease(1);
    let outputs = bench.ask_ahead(1, &[]);
    let [Output::Granted { key, .. }] = &outputs[..] else {
        panic!("the lease that did not arrive is granted anew: {outputs:?}");
    };
    assert_eq!((key.node, key.attempt), (lost.node, lost.attempt + 1));
    assert_eq!(bench.scheduler.counters().given_back, 1);
}

#[test]
fn a_straggler_is_relieved_by_the_idle_and_not_by_the_busy() {
    let mut bench = Bench::new(2);
    bench.train(6, 4, &[100, 100]);
    bench.open(6, 4);
    let (slow, _) = bench.lease(1);
    let (own, _) = bench.lease(2);
    assert_eq!(bench.ask_ahead(2, &[&own]), []);
    assert_eq!(bench.wait(3_000), []);
    let outputs = bench.answer(2, &own, 1);
    let relieved = outputs.iter().any(|output| {
        matches!(output, Output::Granted { worker: WorkerId(2), key, .. } if key.node == slow.node)
    });
    assert!(relieved, "{outputs:?}");
}

#[test]
fn the_time_of_a_lease_begins_when_the_one_before_is_done() {
    let mut bench = Bench::new(2);
    bench.train(12, 16, &[100, 300]);
    bench.open(12, 16);
    bench.lease(2);
    let (first, _) = bench.lease(1);
    let outputs = bench.ask_ahead(1, &[&first]);
    let [Output::Granted { key: next, .. }] = &outputs[..] else {
        panic!("there is more to do: {outputs:?}");
    };
    let next = next.clone();
    let size = |key: &Key| Millis::from(key.node.range(16).len() as u32);
    bench.wait(100 * size(&first));
    bench.answer(1, &first, 1);
    bench.wait(100 * size(&next));
    bench.answer(1, &next, 1);
    let worker = &bench.scheduler.workers[&WorkerId(1)];
    let pace = worker.speeds[&PassKind::Gradient].milliseconds().unwrap();
    assert!((pace - 100.0).abs() < 1.0, "{pace}");
}

#[test]
fn no_lease_has_more_micro_batches_than_the_pass_allows() {
    for (micro_batches, most) in [(1000, 64), (37, 1), (9, 4), (5, 3)] {
        let mut bench = Bench::new(1);
        let pass = PassId {
            job: "job".to_owned(),
            kind: PassKind::Evaluation,
            step: 0,
        };
        bench.handle(Input::PassOpened {
            pass,
            micro_batches,
            max_micro_batches: most,
            cost: 1.0,
            audit_policy: AuditPolicy::None,
        });
        let mut seen = 0;
        while seen < micro_batches {
            let (lease, _) = bench.lease(1);
            let size = lease.node.range(micro_batches).len() as u32;
            assert!((1..=most).contains(&size), "{size} of {micro_batches}");
            seen += size;
            assert_eq!(bench.outcome(1, &lease, 1), ContributionOutcome::Accepted);
        }
        assert_eq!((seen, bench.scheduler.missing()), (micro_batches, 0));
    }
}
