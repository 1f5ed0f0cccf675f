//! The lease scheduler by hand: one input at a time, and what it says.

mod compute_class;
mod conduct;
mod disputes;
mod prefetch;
mod pushes;

use proto::tree::Node;

use super::*;

const GENERATION: u64 = 3;

/// A lease scheduler and its time.
struct Bench {
    scheduler: LeaseScheduler,
    now: Millis,
    audit: f64,
    cost: f64,
}

impl Bench {
    fn new(workers: u64) -> Self {
        let mut bench = Self {
            scheduler: LeaseScheduler::new(GENERATION, Config::default()),
            now: 1000,
            audit: 0.0,
            cost: 1.0,
        };
        for worker in 1..=workers {
            bench.join(worker);
        }
        bench
    }

    /// A worker joins from a host of its own.
    fn join(&mut self, worker: u64) {
        self.join_from(worker, &format!("host {worker}"));
    }

    fn join_from(&mut self, worker: u64, peer: &str) {
        self.handle(Input::Joined {
            worker: WorkerId(worker),
            peer: Peer(peer.to_owned()),
        });
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.scheduler.handle(self.now, input);
        let deadline = self.scheduler.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now));
        outputs
    }

    fn open(&mut self, step: u64, micro_batches: u32) -> Vec<Output> {
        let pass = PassId {
            job: "job".to_owned(),
            kind: PassKind::Gradient,
            step,
        };
        self.handle(Input::PassOpened {
            pass,
            micro_batches,
            max_micro_batches: u32::MAX,
            cost: self.cost,
            audit_policy: AuditPolicy::Compare { audit: self.audit },
        })
    }

    fn ask_until(&mut self, worker: u64, until: Millis) -> Vec<Output> {
        let worker = WorkerId(worker);
        self.handle(Input::LeaseWanted {
            worker,
            until,
            holds: Vec::new(),
        })
    }

    /// Asks while still at work on `holds`.
    fn ask_ahead(&mut self, worker: u64, holds: &[&Key]) -> Vec<Output> {
        self.handle(Input::LeaseWanted {
            worker: WorkerId(worker),
            until: self.now + 10_000,
            holds: holds.iter().copied().cloned().collect(),
        })
    }

    /// The lease that `worker` gets for asking, and when it expires.
    #[track_caller]
    fn lease(&mut self, worker: u64) -> (Key, Millis) {
        let outputs = self.ask_until(worker, self.now);
        match &outputs[..] {
            [Output::Granted { key, expires, .. }] => (key.clone(), *expires),
            other => panic!("no lease for {worker}: {other:?}"),
        }
    }

    fn node(&mut self, worker: u64) -> String {
        self.lease(worker).0.node.to_string()
    }

    fn answer(&mut self, worker: u64, key: &Key, bits: u8) -> Vec<Output> {
        self.handle(Input::Contributed {
            worker: WorkerId(worker),
            key: key.clone(),
            digest: [bits; 32],
        })
    }

    fn expects(&self, worker: u64, key: &Key) -> bool {
        self.scheduler.expects(WorkerId(worker), key)
    }

    #[track_caller]
    fn outcome(&mut self, worker: u64, key: &Key, bits: u8) -> ContributionOutcome {
        let outputs = self.answer(worker, key, bits);
        let mut receipts = outputs.iter().filter_map(|output| match output {
            Output::Receipt { outcome, .. } => Some(*outcome),
            _ => None,
        });
        receipts.next().expect("an answer gets a receipt")
    }

    /// Time passes, and everybody is heard.
    fn wait(&mut self, milliseconds: Millis) -> Vec<Output> {
        let end = self.now + milliseconds;
        let mut outputs = Vec::new();
        while self.now < end {
            self.now = end.min(self.now + 1000);
            for worker in self.scheduler.workers().collect::<Vec<_>>() {
                let worker = worker.worker;
                outputs.extend(self.handle(Input::Heartbeat { worker }));
            }
        }
        outputs
    }

    /// Passes in which each worker takes its own time for a micro-batch; gives the time of each.
    fn train(&mut self, steps: u64, micro_batches: u32, paces: &[Millis]) -> Vec<Millis> {
        let mut times = Vec::new();
        let mut working: BTreeMap<u64, (Millis, Key)> = BTreeMap::new();
        let workers = 1..=paces.len() as u64;
        for worker in workers.clone() {
            self.ask_until(worker, Millis::MAX);
        }
        for step in 0..steps {
            let begin = self.now;
            let mut outputs = self.open(step, micro_batches);
            loop {
                let complete = outputs
                    .iter()
                    .any(|it| matches!(it, Output::PassComplete { .. }));
                for output in outputs.drain(..) {
                    if let Output::Granted { worker, key, .. } = output {
                        let size = key.node.range(micro_batches).len() as u64;
                        let end = self.now + size * paces[worker.0 as usize - 1];
                        working.insert(worker.0, (end, key));
                    }
                }
                if complete {
                    break;
                }
                let next = working.iter().min_by_key(|(_, (end, _))| *end);
                let (worker, end) = next.map(|(&worker, &(end, _))| (worker, end)).unwrap();
                let due = self.scheduler.next_deadline().unwrap();
                outputs.extend(self.wait(due.min(end).saturating_sub(self.now)));
                if end <= self.now {
                    let (_, key) = working.remove(&worker).unwrap();
                    outputs.extend(self.answer(worker, &key, 0));
                    outputs.extend(self.ask_until(worker, Millis::MAX));
                }
            }
            times.push(self.now - begin);
        }
        for worker in workers {
            self.ask_until(worker, self.now);
        }
        times
    }
}

#[test]
fn one_worker_takes_the_whole_pass() {
    for micro_batches in [1, 5, 8, 13] {
        let mut bench = Bench::new(1);
        bench.open(0, micro_batches);
        assert_eq!(bench.lease(1).0.node, Node::root(micro_batches));
    }
}

#[test]
fn two_workers_take_one_half_each() {
    for (micro_batches, halves) in [
        (4, ["1/0", "1/1"]),
        (8, ["2/0", "2/1"]),
        (16, ["3/0", "3/1"]),
    ] {
        let mut bench = Bench::new(2);
        bench.open(0, micro_batches);
        assert_eq!([bench.node(1), bench.node(2)], halves);
    }
}

#[test]
fn three_workers_share_eight_without_waiting_long() {
    let mut bench = Bench::new(3);
    // Nobody waits for more than one micro-batch: three rounds where two and two thirds are ideal.
    assert_eq!(bench.train(1, 8, &[100; 3]), [300]);
}

#[test]
fn a_slow_worker_gets_less_and_costs_no_more_than_it_must() {
    let mut bench = Bench::new(2);
    let times = bench.train(40, 16, &[100, 400]);
    // A worker of speed 1 and one of a quarter make 16 micro-batches in 1280 ms at best.
    let measured: Millis = times[10..].iter().sum::<Millis>() / 30;
    assert!(measured * 85 <= 1280 * 100, "{measured} ms a pass");
    let one_alone = 1600;
    assert!(measured < one_alone);
}

#[test]
fn workers_of_nearly_one_speed_still_get_one_node_each() {
    let mut bench = Bench::new(2);
    bench.train(20, 8, &[100, 108]);
    let before = bench.scheduler.counters().granted;
    bench.train(20, 8, &[100, 108]);
    assert_eq!(bench.scheduler.counters().granted - before, 40);
}

#[test]
fn a_lease_that_expired_is_leased_again_and_the_first_answer_wins() {
    let mut bench = Bench::new(2);
    bench.open(0, 4);
    let (late, expires) = bench.lease(1);
    let expired = bench.wait(expires - bench.now);
    let worker = WorkerId(1);
    let key = late.clone();
    assert!(expired.contains(&Output::LeaseExpired { worker, key }));
    let (again, _) = bench.lease(2);
    assert_eq!((again.node, again.attempt), (late.node, 1));
    assert_eq!(bench.outcome(1, &late, 7), ContributionOutcome::Accepted);
    assert_eq!(bench.outcome(2, &again, 7), ContributionOutcome::Duplicate);
    let counters = bench.scheduler.counters();
    assert_eq!((counters.expired, counters.retries), (1, 1));
}

#[test]
fn leases_last_as_long_as_measured_times_suggest() {
    let mut bench = Bench::new(1);
    let times = Config::default();
    bench.open(0, 8);
    let (first, expires) = bench.lease(1);
    assert_eq!(expires - bench.now, times.first_lease);
    bench.wait(16_000);
    bench.answer(1, &first, 0);
    bench.open(1, 8);
    let (_, expires) = bench.lease(1);
    assert_eq!(expires - bench.now, 16_000 * times.lease_multiple as Millis);
}

#[test]
fn an_idle_worker_gets_a_stragglers_node_and_its_answer_counts() {
    let mut bench = Bench::new(2);
    bench.train(3, 2, &[1000, 1000]);
    bench.open(3, 2);
    let (quick, _) = bench.lease(1);
    let (slow, _) = bench.lease(2);
    bench.wait(1000);
    bench.answer(1, &quick, 1);
    assert_eq!(bench.ask_until(1, bench.now + 60_000), []);
    // Twice the expected second; the deadline says so.
    let overdue = bench.scheduler.next_deadline().unwrap();
    assert_eq!(overdue - bench.now, 1000);
    let outputs = bench.wait(1000);
    let Some(Output::Granted { worker, key, .. }) = outputs.first() else {
        panic!("{outputs:?}");
    };
    assert_eq!((worker.0, key.node, key.attempt), (1, slow.node, 1));
    let key = key.clone();
    let outputs = bench.answer(1, &key, 2);
    assert!(matches!(
        outputs[..],
        [Output::Receipt { .. }, Output::PassComplete { .. }]
    ));
    assert_eq!(bench.outcome(2, &slow, 2), ContributionOutcome::Duplicate);
    assert_eq!(bench.scheduler.counters().recomputed, 1);
}

#[test]
fn different_bits_for_one_node_name_both_workers() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let (first, expires) = bench.lease(1);
    bench.wait(expires - bench.now);
    let (second, _) = bench.lease(2);
    bench.answer(1, &first, 1);
    let outputs = bench.answer(2, &second, 2);
    let differed = Output::Differed {
        key: second,
        first: WorkerId(1),
        second: WorkerId(2),
        late: false,
    };
    assert_eq!(outputs[0], differed);
    assert_eq!(bench.scheduler.counters().differed, 1);
}

#[test]
fn what_is_not_of_this_pass_is_refused_and_counted_by_kind() {
    let mut bench = Bench::new(2);
    bench.open(5, 4);
    let (key, _) = bench.lease(1);
    let foreign = [
        Key {
            generation: GENERATION - 1,
            ..key.clone()
        },
        Key {
            step: 4,
            ..key.clone()
        },
        Key {
            job: "other".to_owned(),
            ..key.clone()
        },
        Key {
            kind: PassKind::Evaluation,
            ..key.clone()
        },
        Key {
            attempt: 1,
            ..key.clone()
        },
        Key {
            node: Node::leaf(3),
            ..key.clone()
        },
        Key {
            node: Node::leaf(400),
            ..key.clone()
        },
    ];
    for foreign in &foreign {
        assert_eq!(
            bench.outcome(1, foreign, 0),
            ContributionOutcome::Stale,
            "{foreign:?}"
        );
    }
    // Nor is it worker 2 that it was leased to.
    assert_eq!(bench.outcome(2, &key, 0), ContributionOutcome::Stale);
    // One of an earlier life, two of passes that are over, the rest was never leased.
    let counters = *bench.scheduler.counters();
    assert_eq!((counters.stale, counters.late, counters.foreign), (1, 2, 5));
    assert_eq!(bench.outcome(1, &key, 0), ContributionOutcome::Accepted);
    bench.handle(Input::PassClosed);
    assert_eq!(bench.outcome(1, &key, 0), ContributionOutcome::Stale);
}

/// Worker 1 loses a node of four, whose halves workers 2 and 3 get.
fn in_pieces() -> (Bench, Key, [Key; 2]) {
    let mut bench = Bench::new(1);
    bench.open(0, 4);
    let (whole, expires) = bench.lease(1);
    bench.wait(expires - bench.now);
    for worker in [2, 3] {
        let worker = WorkerId(worker);
        bench.join(worker.0);
    }
    bench.handle(Input::Left {
        worker: WorkerId(1),
    });
    let halves = [bench.lease(2).0, bench.lease(3).0];
    assert_eq!(
        halves.clone().map(|key| key.node.to_string()),
        ["1/0", "1/1"]
    );
    (bench, whole, halves)
}

#[test]
fn a_late_answer_takes_the_place_of_its_pieces_while_none_is_answered() {
    let (mut bench, whole, halves) = in_pieces();
    let outputs = bench.answer(1, &whole, 0);
    assert!(matches!(
        outputs[..],
        [Output::Receipt { .. }, Output::PassComplete { .. }]
    ));
    for (worker, half) in [(2, &halves[0]), (3, &halves[1])] {
        assert_eq!(bench.outcome(worker, half, 0), ContributionOutcome::Stale);
    }
}

#[test]
fn a_late_answer_is_stale_once_a_piece_of_it_is_answered() {
    let (mut bench, whole, halves) = in_pieces();
    assert_eq!(
        bench.outcome(3, &halves[1], 0),
        ContributionOutcome::Accepted
    );
    assert_eq!(bench.outcome(1, &whole, 0), ContributionOutcome::Stale);
    assert_eq!(bench.scheduler.missing(), 2);
    assert_eq!(
        bench.outcome(2, &halves[0], 0),
        ContributionOutcome::Accepted
    );
    assert_eq!(bench.scheduler.missing(), 0);
}

#[test]
fn a_silent_worker_is_lost_and_its_node_goes_to_the_one_who_waits() {
    let mut bench = Bench::new(2);
    bench.open(0, 1);
    let (held, _) = bench.lease(1);
    assert_eq!(bench.ask_until(2, Millis::MAX), []);
    let timeout = Config::default().heartbeat_timeout;
    bench.now += timeout - 1;
    bench.handle(Input::Heartbeat {
        worker: WorkerId(2),
    });
    assert_eq!(bench.scheduler.next_deadline(), Some(bench.now + 1));
    bench.now += 1;
    let outputs = bench.handle(Input::Tick);
    assert_eq!(
        outputs[0],
        Output::WorkerLost {
            worker: WorkerId(1)
        }
    );
    let Output::Granted { worker, key, .. } = &outputs[1] else {
        panic!("{outputs:?}");
    };
    assert_eq!((worker.0, key.node), (2, held.node));
    let outputs = bench.ask_until(1, bench.now);
    assert_eq!(
        outputs,
        [Output::Unknown {
            worker: WorkerId(1)
        }]
    );
    assert_eq!(bench.scheduler.counters().lost, 1);
}

#[test]
fn a_lease_that_is_given_back_or_asked_past_is_free_at_once() {
    let mut bench = Bench::new(1);
    bench.open(0, 2);
    let (key, _) = bench.lease(1);
    let worker = WorkerId(1);
    bench.handle(Input::GivenBack {
        worker,
        key: key.clone(),
        fatal: false,
    });
    let (again, _) = bench.lease(1);
    // The grant was lost on its way: the worker asks again.
    let (once_more, _) = bench.lease(1);
    assert_eq!([key.attempt, again.attempt, once_more.attempt], [0, 1, 2]);
    assert_eq!(bench.scheduler.counters().given_back, 2);
    assert_eq!(
        bench.outcome(1, &once_more, 0),
        ContributionOutcome::Accepted
    );
}

#[test]
fn a_clock_that_jumps_back_stands_still() {
    let mut bench = Bench::new(1);
    bench.scheduler.handle(500, Input::Tick);
    assert_eq!(bench.scheduler.now(), 1000);
    assert!(bench.scheduler.knows(WorkerId(1)));
}

#[test]
fn a_pass_without_micro_batches_is_complete_at_once() {
    let mut bench = Bench::new(1);
    assert!(matches!(
        bench.open(0, 0)[..],
        [Output::PassComplete { .. }]
    ));
}

#[test]
fn what_is_kept_grows_with_workers_and_not_with_their_product_with_micro_batches() {
    let workers = 64;
    let mut bench = Bench::new(workers);
    bench.open(0, 4096);
    for worker in 1..=workers {
        bench.lease(worker);
    }
    // Each has one lease and one attempt; what is cut off on the way is at most a free node each.
    assert!(bench.scheduler.pass_entries() <= 3 * 64);
    for worker in bench.scheduler.workers() {
        assert!(worker.doing.is_some());
    }
}
