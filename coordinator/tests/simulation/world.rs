//! The simulated world: processes, network, disk and clock under one seed. Time jumps from event to
//! event.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::{
    leases::{Millis, WorkerId},
    run,
};
use speech::random::Stream;

use crate::{
    coordinator::{Bug, Life, Replies, Roles, Violation},
    disk::Disk,
    faults::{Fault, Faults},
    network::{Admission, Event, Network, Queue, Reply, Request},
    toy::{self, End},
    work::Work,
    worker::{Actions, Character, HEARTBEAT, Process},
};

/// After this, no new fault is injected, so that a run can end; the network stays as bad as it is.
const CALM: Millis = 6000;

/// Milliseconds a micro-batch of the slowest worker.
const SLOWEST: Millis = 2000;

/// No run takes this long, unless it hangs.
const LIMIT: Millis = 3_600_000;

/// How a run ended, and what it went through.
#[derive(Debug)]
pub struct Report {
    pub end: End,
    pub faults: Faults,
    pub milliseconds: Millis,
}

#[derive(Debug)]
struct World {
    now: Millis,
    /// What the coordinator's clock shows beyond `now`.
    skew: i64,
    queue: Queue,
    network: Network,
    stream: Stream,
    processes: Vec<Process>,
    bug: Bug,
    roles: Roles,
    disk: Disk,
    life: Option<Life>,
    /// Which process was admitted as what, in this life.
    admitted: BTreeMap<WorkerId, (usize, u32)>,
    /// What the coordinator's threads work on, in this life.
    work: BTreeMap<u64, Work>,
    /// Counts it.
    works: u64,
    /// The earliest deadline that is in the queue for this life.
    deadline: Option<Millis>,
    faults: Faults,
}

/// Runs the job to its end under `seed`.
pub fn run(seed: u64, bug: Bug) -> Result<Report, Violation> {
    let mut stream = Stream::new(seed, &[1]);
    let rules = toy::rules(seed);
    let count = 1 + stream.below(6) as usize;
    // With less than two honest ones, a run that insists on audits could not go on.
    let audit = match stream.below(3) {
        0 if count > 1 => 1.0,
        1 => 0.3,
        _ => 0.0,
    };
    let impatient = stream.below(2) == 0;
    let processes: Vec<Process> = (0..count)
        .map(|process| {
            let pace = 5 + stream.below(60);
            let character = match stream.below(5) {
                _ if process < 2 => Character::Honest,
                0 => Character::Liar,
                2 => Character::Hostile,
                1 if audit == 1.0 => Character::Faulty,
                _ => Character::Honest,
            };
            Process::new(process, pace, character, rules.wire)
        })
        .collect();
    let honest: BTreeSet<usize> = (0..count)
        .filter(|&process| processes[process].character == Character::Honest)
        .collect();
    let hostile = (0..count)
        .filter(|&process| processes[process].character == Character::Hostile)
        .collect();
    let roles = Roles {
        audit,
        honest,
        hostile,
        rules,
        impatient,
    };
    let mut world = World {
        now: 0,
        skew: 1_000_000,
        queue: Queue::default(),
        network: Network::new(Stream::new(seed, &[2])),
        processes,
        stream,
        bug,
        roles,
        disk: Disk::new(Stream::new(seed, &[3]), rules),
        life: None,
        admitted: BTreeMap::new(),
        work: BTreeMap::new(),
        works: 0,
        deadline: None,
        faults: Faults::default(),
    };
    world.schedule();
    world.run()
}

impl World {
    fn schedule(&mut self) {
        self.queue.at(0, Event::CoordinatorStarts);
        for process in 0..self.processes.len() {
            // Some join late, in the middle of a step.
            let start = match self.stream.below(3) {
                0 => self.stream.below(2000),
                _ => self.stream.below(20),
            };
            self.queue.at(start, Event::WorkerStarts(process));
        }
        for _ in 0..self.stream.below(12) {
            let time = self.stream.below(CALM);
            let fault = Fault::draw(&mut self.stream, self.processes.len());
            self.queue.at(time, Event::Inject(fault));
        }
    }

    fn run(mut self) -> Result<Report, Violation> {
        while let Some((time, event)) = self.queue.pop() {
            if time > LIMIT {
                let scheduler = self.life.as_ref().map(|life| &life.scheduler);
                let processes = &self.processes;
                return Err(format!(
                    "still running after {LIMIT} ms: {processes:#?} {scheduler:#?}"
                ));
            }
            self.now = time;
            self.handle(event)?;
            self.begin_work()?;
            if let Some(end) = self.take_end()? {
                return Ok(Report {
                    end,
                    faults: self.faults,
                    milliseconds: self.now,
                });
            }
            self.watch_deadline();
        }
        Err("nothing is left to happen, and the job has not ended".to_owned())
    }

    /// What the coordinator's clock shows.
    fn clock(&self) -> Millis {
        self.now.saturating_add_signed(self.skew)
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        let clock = self.clock();
        match event {
            Event::ToCoordinator { process, request } => {
                let Some(life) = &mut self.life else {
                    return Ok(());
                };
                let joins = matches!(request, Request::Join { .. });
                let replies = life.handle_request(clock, request, &mut self.faults)?;
                if joins && let Some((worker, Reply::Welcome(_))) = replies.first() {
                    let incarnation = self.processes[process].incarnation;
                    self.admitted.insert(*worker, (process, incarnation));
                }
                // An answer to somebody of an earlier life goes to whoever asked.
                self.reply(replies, process);
            }
            Event::Deadline { generation } => {
                self.deadline = None;
                if let Some(life) = &mut self.life
                    && life.scheduler.generation() == generation
                {
                    let replies = life.tick(clock, &mut self.faults)?;
                    self.reply(replies, usize::MAX);
                }
            }
            Event::WorkDone { generation, number } => {
                let Some(work) = self.work.remove(&number) else {
                    return Ok(());
                };
                if let Some(life) = &mut self.life
                    && life.scheduler.generation() == generation
                {
                    let replies = life.done(clock, work, &mut self.faults)?;
                    self.reply(replies, usize::MAX);
                }
            }
            Event::CoordinatorStarts if self.life.is_none() => {
                self.roles.impatient &= self.now < CALM;
                let (life, replies) = Life::start(
                    clock,
                    &mut self.disk,
                    self.bug,
                    &self.roles,
                    &mut self.faults,
                )?;
                self.life = Some(life);
                self.admitted.clear();
                self.work.clear();
                self.deadline = None;
                self.reply(replies, usize::MAX);
            }
            Event::CoordinatorStarts => {}
            Event::WorkerStarts(process) if !self.processes[process].alive => {
                let actions = self.processes[process].start();
                let incarnation = self.processes[process].incarnation;
                let beat = Event::Heartbeat {
                    process,
                    incarnation,
                };
                self.queue.at(self.now + HEARTBEAT, beat);
                self.carry_out(process, actions);
            }
            Event::WorkerStarts(_) => {}
            Event::Inject(fault) => self.inject(fault)?,
            Event::ToWorker {
                process,
                incarnation,
                ..
            }
            | Event::Timer {
                process,
                incarnation,
                ..
            }
            | Event::Heartbeat {
                process,
                incarnation,
            } => {
                let worker = &self.processes[process];
                if !worker.alive || worker.incarnation != incarnation {
                    return Ok(());
                }
                match worker.stopped_until {
                    until if until > self.now => self.queue.at(until, event),
                    _ => self.wake(process, event),
                }
            }
        }
        Ok(())
    }

    /// Something happens to a worker that runs.
    fn wake(&mut self, process: usize, event: Event) {
        let worker = &mut self.processes[process];
        let actions = match event {
            Event::ToWorker { reply, .. } => {
                worker.handle_reply(reply, &mut self.stream, &mut self.faults)
            }
            Event::Timer { turn, .. } if turn == worker.turn => {
                worker.handle_timer(&mut self.stream, &mut self.faults)
            }
            Event::Heartbeat { .. } => {
                let beat = worker.admission.map(Request::Heard);
                self.queue.at(self.now + HEARTBEAT, event);
                Actions {
                    requests: beat.into_iter().collect(),
                    timer: None,
                }
            }
            _ => return,
        };
        self.carry_out(process, actions);
    }

    fn carry_out(&mut self, process: usize, actions: Actions) {
        for request in actions.requests {
            self.send(process, Event::ToCoordinator { process, request });
        }
        if let Some(after) = actions.timer {
            let worker = &self.processes[process];
            let timer = Event::Timer {
                process,
                incarnation: worker.incarnation,
                turn: worker.turn,
            };
            self.queue.at(self.now + after, timer);
        }
    }

    fn reply(&mut self, replies: Replies, asker: usize) {
        for (worker, reply) in replies {
            let admitted = self.admitted.get(&worker).copied();
            let asker = || Some((asker, self.processes.get(asker)?.incarnation));
            let Some((process, incarnation)) = admitted.or_else(asker) else {
                continue;
            };
            let event = Event::ToWorker {
                process,
                incarnation,
                reply,
            };
            self.send(process, event);
        }
    }

    fn send(&mut self, process: usize, event: Event) {
        let (now, queue) = (self.now, &mut self.queue);
        self.network
            .send(now, process, event, queue, &mut self.faults);
    }

    fn inject(&mut self, fault: Fault) -> Result<(), Violation> {
        let until = self.now + Fault::duration(&mut self.stream);
        match fault {
            Fault::KillWorker(process) if self.processes[process].alive => {
                self.faults.count("worker killed");
                self.processes[process].kill();
                self.queue.at(until, Event::WorkerStarts(process));
            }
            Fault::Leave(process) => {
                let worker = &mut self.processes[process];
                let admission: Option<Admission> = worker.admission;
                if let Some(admission) = admission {
                    self.faults.count("worker left");
                    worker.kill();
                    let request = Request::Leave(admission);
                    self.send(process, Event::ToCoordinator { process, request });
                    self.queue.at(until, Event::WorkerStarts(process));
                }
            }
            Fault::Stop(process) => {
                self.faults.count("worker stopped");
                self.processes[process].stopped_until = until;
            }
            Fault::Slow(process) => {
                self.faults.count("worker slowed");
                let pace = &mut self.processes[process].pace;
                *pace = (*pace * 8).min(SLOWEST);
            }
            Fault::Partition(process) => self.network.partition(process, until),
            Fault::KillCoordinator if self.life.is_some() => {
                self.faults.count("coordinator killed");
                self.bury();
                let now = self.now;
                self.disk.crash(now, &mut self.faults);
                self.queue.at(until, Event::CoordinatorStarts);
            }
            Fault::ClockForward => {
                self.faults.count("clock forward");
                self.skew += self.stream.below(20_000) as i64;
            }
            Fault::ClockBack => {
                self.faults.count("clock back");
                self.skew -= self.stream.below(5_000) as i64;
            }
            Fault::Stopped(reason) => self.come_to_rest(reason)?,
            Fault::KillWorker(_) | Fault::KillCoordinator => {}
        }
        // The timer was set by the old clock.
        self.deadline = None;
        Ok(())
    }

    fn come_to_rest(&mut self, reason: run::StopReason) -> Result<(), Violation> {
        let clock = self.clock();
        if let Some(life) = &mut self.life {
            let replies = life.come_to_rest(clock, reason, &mut self.faults)?;
            self.reply(replies, usize::MAX);
        }
        Ok(())
    }

    /// Schedules what the coordinator has begun, each for its time.
    fn begin_work(&mut self) -> Result<(), Violation> {
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        for work in life.begun.drain(..) {
            let time = 1 + match (self.stream.below(8), &work) {
                (0, _) => self.stream.below(1000),
                (_, Work::Checkpoint { .. }) => self.stream.below(200),
                _ => self.stream.below(10),
            };
            let done = self.now + time;
            if let Work::Checkpoint {
                trainer,
                progress,
                held,
            } = &work
            {
                self.disk.save(done, &trainer.state(), (progress, held))?;
            }
            self.works += 1;
            self.work.insert(self.works, work);
            let generation = life.scheduler.generation();
            let number = self.works;
            self.queue.at(done, Event::WorkDone { generation, number });
        }
        Ok(())
    }

    /// What the run came to, once it has succeeded. One that ended otherwise is resumed by a person, or by the next
    /// start of the coordinator.
    fn take_end(&mut self) -> Result<Option<End>, Violation> {
        let Some(over) = self.life.as_ref().and_then(|life| life.over) else {
            return Ok(None);
        };
        let end = self.life.as_mut().and_then(|life| life.end.take());
        self.faults.count(match over {
            run::End::Succeeded => "end: succeeded",
            run::End::Cancelled => "end: cancelled",
            run::End::Requeued => "end: requeued",
            run::End::Failed(run::Failure::GivenUp) => "end: given up",
            run::End::Failed(run::Failure::Reported) => "end: failed",
            run::End::Failed(failure) => return Err(format!("the run failed: {failure:?}")),
        });
        if over != run::End::Succeeded {
            self.check_rest(over)?;
            self.bury();
            self.queue.at(self.now + 500, Event::CoordinatorStarts);
            return Ok(None);
        }
        self.bury();
        Ok(Some(end.ok_or("the run succeeded without a final model")?))
    }

    /// A run that comes to rest does so at its newest checkpoint, with its trainer at hand.
    fn check_rest(&self, over: run::End) -> Result<(), Violation> {
        let Some(life) = &self.life else {
            return Ok(());
        };
        if over == run::End::Failed(run::Failure::Reported) {
            return Ok(());
        }
        let step = life.trainer.as_ref().map(|trainer| trainer.step());
        let saved = self.disk.newest_step();
        if step == Some(saved) {
            Ok(())
        } else {
            Err(format!("at rest at {step:?}, with a checkpoint of {saved}"))
        }
    }

    /// The coordinator's life has ended.
    fn bury(&mut self) {
        if let Some(life) = self.life.take() {
            self.faults.add_counters(life.scheduler.counters());
        }
    }

    /// Sees to it that the lease scheduler is called at its deadline.
    fn watch_deadline(&mut self) {
        let Some(life) = &self.life else { return };
        let Some(deadline) = life.scheduler.next_deadline() else {
            return;
        };
        let time = deadline.saturating_add_signed(-self.skew).max(self.now + 1);
        if self.deadline.is_none_or(|set| time < set) {
            let generation = life.scheduler.generation();
            self.queue.at(time, Event::Deadline { generation });
            self.deadline = Some(time);
        }
    }
}
