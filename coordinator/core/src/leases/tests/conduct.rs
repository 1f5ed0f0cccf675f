//! Workers that do not do what they were leased.

use super::*;

fn give_back(bench: &mut Bench, worker: u64, key: &Key, fatal: bool) -> Vec<Output> {
    bench.handle(Input::GivenBack {
        worker: WorkerId(worker),
        key: key.clone(),
        fatal,
    })
}

fn reject(bench: &mut Bench, worker: u64, key: &Key) -> Vec<Output> {
    bench.handle(Input::Rejected {
        worker: WorkerId(worker),
        key: key.clone(),
    })
}

fn blames(outputs: &[Output]) -> bool {
    let blames = |output: &Output| matches!(output, Output::DataAtFault { .. });
    outputs.iter().any(blames)
}

#[test]
fn who_gives_leases_back_without_end_rests_and_the_others_do_the_pass() {
    let mut bench = Bench::new(2);
    bench.open(0, 4);
    let mut returned = 0;
    let mut granted = bench.ask_until(1, bench.now);
    while let [Output::Granted { key, .. }] = &granted[..] {
        let key = key.clone();
        give_back(&mut bench, 1, &key, false);
        returned += 1;
        granted = bench.ask_until(1, bench.now);
    }
    assert_eq!(returned, Config::default().budget.returns);
    assert_eq!(
        granted,
        [Output::NothingYet {
            worker: WorkerId(1)
        }]
    );
    // Another worker of the same peer gains nothing, and one of another has the whole pass.
    bench.join_from(3, "host 1");
    assert_eq!(
        bench.ask_until(3, bench.now),
        [Output::NothingYet {
            worker: WorkerId(3)
        }]
    );
    while bench.scheduler.missing() > 0 {
        let (key, _) = bench.lease(2);
        assert_eq!(bench.outcome(2, &key, 7), ContributionOutcome::Accepted);
    }
    // It is served again when it has rested.
    bench.open(1, 4);
    assert_eq!(bench.ask_until(1, Millis::MAX), []);
    let granted = bench.wait(Config::default().budget.rest);
    let to_first =
        |output: &Output| matches!(output, Output::Granted { worker, .. } if worker.0 == 1);
    assert!(granted.iter().any(to_first), "{granted:?}");
}

#[test]
fn a_lease_that_was_not_held_is_not_given_back() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    for worker in [2, 99] {
        assert!(!blames(&give_back(&mut bench, worker, &key, true)));
    }
    assert_eq!(bench.scheduler.counters().given_back, 0);
    assert_eq!(bench.outcome(1, &key, 7), ContributionOutcome::Accepted);
}

#[test]
fn the_data_is_at_fault_when_a_second_worker_says_so_too() {
    let mut bench = Bench::new(3);
    bench.open(0, 1);
    for _ in 0..3 {
        let (key, _) = bench.lease(1);
        assert!(!blames(&give_back(&mut bench, 1, &key, true)));
    }
    let (key, _) = bench.lease(2);
    assert!(blames(&give_back(&mut bench, 2, &key, true)));
    // Where nobody else is here, the one is believed.
    let mut bench = Bench::new(1);
    bench.open(0, 1);
    let (key, _) = bench.lease(1);
    assert!(blames(&give_back(&mut bench, 1, &key, true)));
    // Two workers of one peer are one voice, as long as another one is here.
    let mut bench = Bench::new(1);
    bench.join_from(2, "same");
    bench.join_from(3, "same");
    bench.open(0, 1);
    for worker in [2, 3] {
        let (key, _) = bench.lease(worker);
        assert!(!blames(&give_back(&mut bench, worker, &key, true)));
    }
    bench.handle(Input::Left {
        worker: WorkerId(1),
    });
    let (key, _) = bench.lease(3);
    assert!(blames(&give_back(&mut bench, 3, &key, true)));
}

#[test]
fn what_cannot_be_an_answer_is_counted_and_who_sends_it_is_turned_away_for_a_time() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let faults = u64::from(Config::default().budget.faults);
    let mut outputs = Vec::new();
    for worker in 3..3 + faults {
        // Each time it joins anew.
        bench.join_from(worker, "bad");
        let (key, _) = bench.lease(worker);
        outputs = reject(&mut bench, worker, &key);
        bench.handle(Input::Left {
            worker: WorkerId(worker),
        });
    }
    let lasts = Config::default().budget.turned_away;
    let worker = WorkerId(2 + faults);
    assert!(
        outputs.contains(&Output::TurnedAway { worker, lasts }),
        "{outputs:?}"
    );
    assert!(!bench.scheduler.knows(worker));
    let bad = Peer("bad".to_owned());
    assert_eq!(bench.scheduler.turned_away(bench.now, &bad), Some(lasts));
    let good = Peer("host 1".to_owned());
    assert_eq!(bench.scheduler.turned_away(bench.now, &good), None);
    let counters = bench.scheduler.counters();
    assert_eq!((counters.rejected, counters.turned_away), (faults, 1));
    // The others go on.
    let (key, _) = bench.lease(1);
    assert_eq!(bench.outcome(1, &key, 7), ContributionOutcome::Accepted);
}

#[test]
fn a_sum_that_overflows_is_leased_again_in_single_micro_batches() {
    let mut bench = Bench::new(1);
    bench.open(0, 4);
    let (key, _) = bench.lease(1);
    assert_eq!(key.node, Node::root(4));
    bench.handle(Input::Overflowed {
        worker: WorkerId(1),
        key,
    });
    for leaf in 0..4 {
        let (key, _) = bench.lease(1);
        assert_eq!(key.node, Node::leaf(leaf));
        bench.answer(1, &key, 7);
    }
    assert_eq!(bench.scheduler.missing(), 0);
    // The next pass is leased as ever.
    bench.open(1, 4);
    assert_eq!(bench.lease(1).0.node, Node::root(4));
}
