//! Whose contributions may come, and those that break off.

use super::*;

#[test]
fn only_a_worker_that_was_leased_a_node_is_expected_to_send_it() {
    let mut bench = Bench::new(2);
    bench.open(4, 4);
    let (key, _) = bench.lease(1);
    assert!(bench.expects(1, &key));
    assert!(!bench.expects(2, &key));
    let attempt = key.attempt + 1;
    assert!(!bench.expects(
        1,
        &Key {
            attempt,
            ..key.clone()
        }
    ));
    // A lease that is over may still be answered.
    bench.handle(Input::GivenBack {
        worker: WorkerId(1),
        key: key.clone(),
        fatal: false,
    });
    assert!(bench.expects(1, &key));
    bench.open(5, 4);
    assert!(!bench.expects(1, &key));
}

#[test]
fn a_contribution_that_broke_off_is_counted_and_leaves_its_lease() {
    let mut bench = Bench::new(1);
    bench.open(4, 4);
    let (key, _) = bench.lease(1);
    assert_eq!(bench.handle(Input::Interrupted), []);
    assert_eq!(bench.scheduler.counters().interrupted, 1);
    assert_eq!(bench.outcome(1, &key, 1), ContributionOutcome::Accepted);
}

#[test]
fn an_idle_worker_takes_a_node_that_it_would_answer_sooner_than_its_holder() {
    let mut bench = Bench::new(2);
    // Worker 2 takes four times as long.
    bench.train(12, 16, &[100, 400]);
    let before = bench.scheduler.counters().recomputed;
    bench.open(12, 3);
    let (quick, _) = bench.lease(1);
    // Worker 1 is held up, and the other one makes itself useful.
    bench.wait(1200);
    let (slow, _) = bench.lease(2);
    bench.answer(1, &quick, 1);
    let (copy, _) = bench.lease(1);
    assert_eq!((copy.node, copy.attempt), (slow.node, 1));
    assert_eq!(bench.scheduler.counters().recomputed - before, 1);
}

#[test]
fn workers_of_one_speed_do_not_take_each_others_nodes() {
    let mut bench = Bench::new(2);
    bench.train(30, 9, &[100, 110]);
    assert_eq!(bench.scheduler.counters().recomputed, 0);
}

#[test]
fn a_pass_of_long_utterances_may_take_long_and_says_nothing_about_the_worker() {
    let mut bench = Bench::new(1);
    let times = Config::default();
    for (step, cost) in [(0, 10.0), (1, 40.0), (2, 10.0)] {
        bench.cost = cost;
        bench.open(step, 4);
        let (key, expires) = bench.lease(1);
        let takes = 100 * cost as Millis * 4;
        if step > 0 {
            let multiple = times.lease_multiple as Millis;
            assert_eq!(expires - bench.now, takes * multiple, "step {step}");
        }
        bench.wait(takes);
        bench.answer(1, &key, 0);
    }
}

#[test]
fn patience_ends_with_an_answer() {
    let mut bench = Bench::new(1);
    let worker = WorkerId(1);
    assert_eq!(
        bench.ask_until(1, bench.now),
        [Output::NothingYet { worker }]
    );
    assert_eq!(bench.ask_until(1, bench.now + 500), []);
    assert_eq!(bench.scheduler.next_deadline(), Some(bench.now + 500));
    assert_eq!(bench.wait(500), [Output::NothingYet { worker }]);
}

#[test]
fn those_who_wait_get_work_as_soon_as_there_is_some() {
    let mut bench = Bench::new(2);
    bench.ask_until(2, Millis::MAX);
    bench.ask_until(1, Millis::MAX);
    let outputs = bench.open(0, 8);
    let granted: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Granted { worker, key, .. } => Some((worker.0, key.node.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(granted, [(2, "2/0".to_owned()), (1, "2/1".to_owned())]);
}
