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
    assert_eq!(bench.machine.counters().interrupted, 1);
    assert_eq!(bench.outcome(1, &key, 1), Outcome::Accepted);
}
