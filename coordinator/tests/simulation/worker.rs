//! A simulated worker process: joins, asks, computes, pushes, and asks again whenever an answer stays
//! away. It holds nothing that cannot be lost.

use coordinator::{
    leases::{ContributionOutcome, Millis, WorkerId},
    norm_bound::NormBound,
};
use proto::{
    contribution::{Contribution, Key, PassKind},
    wire::Wire,
};
use speech::random::Stream;

use crate::{
    faults::Faults,
    network::{Admission, Reply, Request},
    toy,
};

/// How long a worker waits for an answer.
const PATIENCE: Millis = 400;

/// Pushes of one contribution before the worker gives it up.
const PUSHES: u32 = 3;

pub const HEARTBEAT: Millis = 300;

/// What can be expected of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    Honest,
    /// Tells wrong and forged answers after its own.
    Liar,
    /// Computes wrong bits now and then.
    Faulty,
    /// Acts in others' names, hands in what cannot be an answer, and gives leases back without end.
    Hostile,
}

#[derive(Debug)]
pub struct Process {
    process: usize,
    /// Counts its starts.
    pub incarnation: u32,
    pub alive: bool,
    /// SIGSTOP until then.
    pub stopped_until: Millis,
    /// Milliseconds a micro-batch.
    pub pace: Millis,
    pub character: Character,
    wire: Wire,
    pub admission: Option<Admission>,
    /// Counts its states: a timer of an earlier one is void.
    pub turn: u64,
    state: State,
    /// The next lease.
    ahead: Option<Lease>,
}

/// What a process was granted: the node, and what it is computed from.
#[derive(Debug)]
struct Lease {
    key: Key,
    weights: Vec<f32>,
    bound: Option<NormBound>,
}

#[derive(Debug)]
enum State {
    Joining,
    Asking,
    Computing(Lease),
    Pushing {
        key: Key,
        contribution: Contribution,
        pushes: u32,
    },
}

/// What a process does next: requests to send, and when its timer goes off.
#[derive(Debug, Default)]
pub struct Actions {
    pub requests: Vec<Request>,
    pub timer: Option<Millis>,
}

impl Process {
    pub fn new(process: usize, pace: Millis, character: Character, wire: Wire) -> Self {
        Self {
            process,
            incarnation: 0,
            alive: false,
            stopped_until: 0,
            pace,
            character,
            wire,
            admission: None,
            turn: 0,
            state: State::Joining,
            ahead: None,
        }
    }

    pub fn start(&mut self) -> Actions {
        self.incarnation += 1;
        self.alive = true;
        self.stopped_until = 0;
        self.join()
    }

    pub fn kill(&mut self) {
        self.alive = false;
        self.admission = None;
        self.ahead = None;
    }

    fn enter(&mut self, state: State, request: Option<Request>, timer: Millis) -> Actions {
        self.state = state;
        self.turn += 1;
        Actions {
            requests: request.into_iter().collect(),
            timer: Some(timer),
        }
    }

    fn join(&mut self) -> Actions {
        self.admission = None;
        self.ahead = None;
        let join = Request::Join {
            process: self.process,
        };
        self.enter(State::Joining, Some(join), PATIENCE)
    }

    fn ask(&mut self) -> Actions {
        match self.admission {
            Some(admission) => {
                let holds = Vec::new();
                let lease = Request::Lease { admission, holds };
                self.enter(State::Asking, Some(lease), 2 * PATIENCE)
            }
            None => self.join(),
        }
    }

    /// Begins to compute a lease, and every other time asks for the next one.
    fn compute(&mut self, lease: Lease, stream: &mut Stream) -> Actions {
        let key = &lease.key;
        let micro_batches = toy::micro_batches(key.kind, key.step);
        let size = key.node.range(micro_batches).len() as u64;
        let time = size * self.pace + stream.below(self.pace);
        let asks = self.admission.filter(|_| stream.below(2) == 0);
        let ask = asks.map(|admission| Request::Lease {
            admission,
            holds: vec![key.clone()],
        });
        self.enter(State::Computing(lease), ask, time)
    }

    /// Goes on to the next lease, which may be here.
    fn go_on(&mut self, stream: &mut Stream) -> Actions {
        match self.ahead.take() {
            Some(lease) => self.compute(lease, stream),
            None => self.ask(),
        }
    }

    fn push(&mut self, key: Key, contribution: Contribution, pushes: u32) -> Actions {
        let Some(admission) = self.admission else {
            return self.join();
        };
        let request = Request::Push {
            admission,
            key: key.clone(),
            contribution: contribution.clone(),
            forged: false,
        };
        let state = State::Pushing {
            key,
            contribution,
            pushes: pushes + 1,
        };
        self.enter(state, Some(request), PATIENCE)
    }

    /// The timer of the present turn has gone off.
    pub fn handle_timer(&mut self, stream: &mut Stream, faults: &mut Faults) -> Actions {
        match std::mem::replace(&mut self.state, State::Asking) {
            State::Joining => self.join(),
            State::Asking => self.ask(),
            State::Computing(Lease {
                key,
                weights,
                bound,
            }) => {
                let pass = (key.kind, key.step);
                let mut contribution =
                    toy::contribution(pass, key.node, &weights, self.wire, bound);
                if self.character == Character::Faulty && stream.below(3) == 0 {
                    faults.count("wrong bits");
                    contribution.loss += stream.uniform();
                }
                self.push(key, contribution, 0)
            }
            State::Pushing { pushes, .. } if pushes >= PUSHES => self.go_on(stream),
            State::Pushing {
                key,
                contribution,
                pushes,
            } => self.push(key, contribution, pushes),
        }
    }

    pub fn handle_reply(
        &mut self,
        reply: Reply,
        stream: &mut Stream,
        faults: &mut Faults,
    ) -> Actions {
        match (&self.state, reply) {
            (State::Joining, Reply::Welcome(admission)) => {
                self.admission = Some(admission);
                self.ask()
            }
            (
                State::Asking,
                Reply::Grant {
                    key,
                    weights,
                    bound,
                },
            ) if self.character == Character::Hostile && stream.below(8) > 0 => {
                let lease = Lease {
                    key,
                    weights,
                    bound,
                };
                self.attack(lease, stream, faults)
            }
            (State::Asking, Reply::Grant { key, .. }) if stream.below(60) == 0 => {
                faults.count("lease given back");
                let admission = self.admission;
                let mut actions = self.ask();
                let back = admission.map(|admission| Request::GiveBack {
                    admission,
                    key,
                    fatal: false,
                });
                actions.requests.splice(0..0, back);
                actions
            }
            (
                State::Asking,
                Reply::Grant {
                    key,
                    weights,
                    bound,
                },
            ) => {
                let lease = Lease {
                    key,
                    weights,
                    bound,
                };
                self.compute(lease, stream)
            }
            (
                State::Computing(Lease { key: own, .. }) | State::Pushing { key: own, .. },
                Reply::Grant {
                    key,
                    weights,
                    bound,
                },
            ) if self.ahead.is_none() && *own != key => {
                faults.count("lease ahead");
                self.ahead = Some(Lease {
                    key,
                    weights,
                    bound,
                });
                Actions::default()
            }
            (State::Asking, Reply::NothingYet) => self.ask(),
            (State::Asking | State::Pushing { .. }, Reply::Unknown) => self.join(),
            (_, Reply::Goodbye) => {
                self.kill();
                Actions::default()
            }
            (
                State::Pushing {
                    key: own,
                    contribution,
                    ..
                },
                Reply::Receipt { key, outcome },
            ) if *own == key => {
                let lies = match (self.character, outcome) {
                    (Character::Liar, ContributionOutcome::Accepted) => {
                        self.lies(key, contribution.clone(), faults)
                    }
                    _ => Vec::new(),
                };
                let mut actions = self.go_on(stream);
                actions.requests.splice(0..0, lies);
                actions
            }
            // An answer to an earlier question, or the second copy of one.
            _ => Actions::default(),
        }
    }

    /// Does anything with a lease but what it is for, and acts in the name of another worker.
    fn attack(&mut self, lease: Lease, stream: &mut Stream, faults: &mut Faults) -> Actions {
        let Some(admission) = self.admission else {
            return self.join();
        };
        let Lease {
            key,
            weights,
            bound,
        } = lease;
        let other = Admission {
            worker: WorkerId(1 + stream.below(8)),
            secret: admission.secret ^ u64::from(stream.below(2) == 0),
            ..admission
        };
        let mut requests = Vec::new();
        if other.worker != admission.worker {
            faults.count("in another's name");
            requests.push(match stream.below(4) {
                0 => Request::Leave(other),
                1 => Request::Lease {
                    admission: other,
                    holds: Vec::new(),
                },
                2 => Request::GiveBack {
                    admission: other,
                    key: key.clone(),
                    fatal: true,
                },
                _ => Request::Push {
                    admission: other,
                    key: key.clone(),
                    contribution: Contribution::default(),
                    forged: true,
                },
            });
        }
        if key.kind == PassKind::Gradient && stream.below(3) == 0 {
            faults.count("impossible answer");
            let pass = (key.kind, key.step);
            let mut contribution = toy::contribution(pass, key.node, &weights, self.wire, bound);
            match (stream.below(4), &mut contribution.sum) {
                (0, _) => contribution.weight = 1e308,
                (1, _) => contribution.utterances += 1,
                (2, Some(sum)) => sum[0] = f32::NAN,
                _ => contribution.weight += 1.0,
            }
            requests.push(Request::Push {
                admission,
                key,
                contribution,
                forged: true,
            });
        } else {
            faults.count("lease given back at once");
            let fatal = stream.below(2) == 0;
            requests.push(Request::GiveBack {
                admission,
                key,
                fatal,
            });
        }
        let mut actions = self.ask();
        actions.requests.splice(0..0, requests);
        actions
    }

    /// Other bits for a node that was accepted, and an answer to a lease that there never was.
    fn lies(&self, key: Key, mut contribution: Contribution, faults: &mut Faults) -> Vec<Request> {
        let Some(admission) = self.admission else {
            return Vec::new();
        };
        faults.count("lie");
        faults.count("forgery");
        // Liars do not agree with each other.
        contribution.loss += (1 + self.process) as f64;
        let never = Key {
            attempt: key.attempt + 1000,
            ..key.clone()
        };
        [(key, false), (never, true)]
            .map(|(key, forged)| Request::Push {
                admission,
                key,
                contribution: contribution.clone(),
                forged,
            })
            .into()
    }
}
