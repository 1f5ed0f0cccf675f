//! A pass over micro-batches as the driver holds it: what is in it, what has come in, and the sum as far as it is
//! taken. When something is added and when the sum is whole is [`crate::run`]'s to decide, and who works on it
//! [`crate::leases`]'.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use proto::{
    buffer_pool::BufferPool,
    contribution::{Contribution, Key, PassKind},
    failpoint::{self, Failpoint},
    tree::Node,
};

use crate::{
    driver::{active_job::ActiveJob, command::LeasedNode, error::Refused, results::Hypothesis},
    leases::PassId,
    norm_bound::NormBound,
    records::times::Times,
    run::{OpenPass, Purpose},
    trainer::reduce::{ReduceError, Reducer},
};

#[derive(Debug)]
pub(super) struct PassData {
    pub purpose: Purpose,
    pub kind: PassKind,
    /// The version of the weights.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u32,
    pub micro_batches: Vec<Vec<u32>>,
    /// Where the job bounds the norms of micro-batches.
    pub norm_bound: Option<NormBound>,
    /// Its weights are not those that gradients are computed from.
    pub averaged: bool,
    pub opened: Instant,
    /// Where the time of what came in went.
    pub times: Times,
    sum: Sum,
    results: BTreeMap<u32, Hypothesis>,
}

#[derive(Debug)]
struct Sum {
    /// See [`OpenPass::attempt`].
    attempt: u32,
    elements: usize,
    buffers: BufferPool,
    /// Absent while a thread adds with it.
    reducer: Option<Reducer>,
    pending: Vec<(Node, Contribution)>,
}

/// Additions that are due, for a thread that may take its time.
#[derive(Debug)]
pub(super) struct Reduction {
    attempt: u32,
    reducer: Reducer,
    pending: Vec<(Node, Contribution)>,
}

impl Reduction {
    pub(super) fn run(mut self) -> Result<Reduced, ReduceError> {
        let began = Instant::now();
        for (node, contribution) in self.pending {
            failpoint::reach(Failpoint::CoordinatorReduce);
            self.reducer.insert(node, contribution)?;
        }
        Ok(Reduced {
            attempt: self.attempt,
            reducer: self.reducer,
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}

/// What came of a [`Reduction`].
#[derive(Debug)]
pub(super) struct Reduced {
    pub attempt: u32,
    reducer: Reducer,
    /// That it took.
    seconds: f64,
}

impl PassData {
    /// What was added goes to `buffers`. With `averaged`, it is computed from [`super::PublishedWeights::averaged`].
    pub(super) fn new(
        opened: &OpenPass,
        micro_batches: Vec<Vec<u32>>,
        averaged: bool,
        buffers: BufferPool,
    ) -> Self {
        let elements = opened.elements;
        let reducer = Reducer::new(count(&micro_batches), elements).with(buffers.clone());
        Self {
            purpose: opened.purpose,
            kind: match opened.purpose {
                Purpose::Update => PassKind::Gradient,
                Purpose::Evaluate { .. } | Purpose::Choose => PassKind::Evaluation,
            },
            step: opened.version,
            epoch: opened.epoch,
            micro_batches,
            norm_bound: opened.norm_bound,
            averaged,
            opened: Instant::now(),
            times: Times::default(),
            sum: Sum {
                attempt: opened.attempt,
                elements,
                buffers,
                reducer: Some(reducer),
                pending: Vec::new(),
            },
            results: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self, job: &str) -> PassId {
        PassId {
            job: job.to_owned(),
            kind: self.kind,
            step: self.step,
        }
    }

    pub(super) fn micro_batches(&self) -> u32 {
        count(&self.micro_batches)
    }

    /// Whether `key` is about this pass of `job`.
    pub(super) fn is_of(&self, key: &Key, job: &str, generation: u64) -> bool {
        key.job == job
            && key.generation == generation
            && key.kind == self.kind
            && key.step == self.step
    }

    /// What is leased by `key`: the micro-batches of its node with their utterances.
    pub(super) fn leased(&self, key: Key, active_job: Arc<ActiveJob>) -> LeasedNode {
        let micro_batches = key.node.range(self.micro_batches());
        let micro_batches =
            micro_batches.map(|index| (index, self.micro_batches[index as usize].clone()));
        LeasedNode {
            epoch: self.epoch,
            micro_batches: micro_batches.collect(),
            key,
            active_job,
            norm_bound: self.norm_bound,
            averaged: self.averaged,
        }
    }

    /// Takes in what the lease scheduler accepted.
    pub(super) fn accept(&mut self, node: Node, contribution: Contribution, times: &Times) {
        self.times.add(times);
        self.sum.pending.push((node, contribution));
    }

    /// Takes in the results that the lease scheduler accepted.
    pub(super) fn accept_results(&mut self, results: Vec<Hypothesis>) {
        let results = results.into_iter().map(|result| (result.index, result));
        self.results.extend(results);
    }

    /// Whether `results` are those of the node's utterances, each once.
    pub(super) fn check(&self, node: Node, results: &[Hypothesis]) -> Result<(), Refused> {
        let mut wanted: Vec<u32> = node
            .range(self.micro_batches())
            .flat_map(|index| self.micro_batches[index as usize].iter().copied())
            .collect();
        wanted.sort_unstable();
        if wanted.iter().eq(results.iter().map(|result| &result.index)) {
            return Ok(());
        }
        Err(Refused::BadResults(format!(
            "node {node} has {} utterances, and these are {} results for other ones or out of order",
            wanted.len(),
            results.len()
        )))
    }

    /// The length of the vectors that it sums.
    pub(super) fn elements(&self) -> usize {
        self.sum.elements
    }

    /// The present attempt at the sum, see [`OpenPass::attempt`].
    pub(super) fn attempt(&self) -> u32 {
        self.sum.attempt
    }

    /// The additions that are due; `None` where nothing is left to add.
    pub(super) fn take_reduction(&mut self) -> Option<Reduction> {
        if self.sum.pending.is_empty() {
            return None;
        }
        let reducer = self.sum.reducer.take()?;
        let pending = std::mem::take(&mut self.sum.pending);
        let attempt = self.sum.attempt;
        Some(Reduction {
            attempt,
            reducer,
            pending,
        })
    }

    /// Takes the sum back from a thread; one that was begun again meanwhile is not waited for.
    pub(super) fn reduced(&mut self, reduced: Reduced) {
        self.times.reduce_s += reduced.seconds;
        if reduced.attempt == self.sum.attempt {
            self.sum.reducer = Some(reduced.reducer);
        }
    }

    /// Forgets all that has come in.
    pub(super) fn restart(&mut self) {
        let (elements, buffers) = (self.sum.elements, self.sum.buffers.clone());
        let reducer = Reducer::new(self.micro_batches(), elements).with(buffers.clone());
        self.results.clear();
        self.sum = Sum {
            attempt: self.sum.attempt + 1,
            elements,
            buffers,
            reducer: Some(reducer),
            pending: Vec::new(),
        };
    }

    /// The sum over the pass; only of a whole one, and once.
    pub(super) fn settle_sum(&mut self) -> Option<Contribution> {
        self.sum.reducer.take().and_then(Reducer::root)
    }

    /// The results of the pass by utterance; only of a whole one, and once.
    pub(super) fn settle_results(&mut self) -> BTreeMap<u32, Hypothesis> {
        std::mem::take(&mut self.results)
    }
}

fn count(micro_batches: &[Vec<u32>]) -> u32 {
    u32::try_from(micro_batches.len()).expect("utterances are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(purpose: Purpose, micro_batches: Vec<Vec<u32>>) -> PassData {
        let opened = OpenPass {
            purpose,
            version: 3,
            epoch: 1,
            elements: 1,
            attempt: 5,
            norm_bound: None,
        };
        PassData::new(&opened, micro_batches, false, BufferPool::default())
    }

    fn contribution(value: f32) -> Contribution {
        Contribution {
            sum: Some(vec![value]),
            weight: 1.0,
            ..Contribution::default()
        }
    }

    #[test]
    fn a_pass_that_begins_again_forgets_what_a_thread_still_adds() {
        let mut pass = pass(Purpose::Update, vec![vec![0], vec![1]]);
        pass.accept(Node::leaf(0), contribution(7.0), &Times::default());
        let before = pass.take_reduction().unwrap();
        pass.restart();
        assert_eq!(pass.attempt(), 6);
        for (node, value) in [(Node::leaf(0), 1.0), (Node::leaf(1), 2.0)] {
            pass.accept(node, contribution(value), &Times::default());
        }
        let after = pass.take_reduction().unwrap();
        assert!(pass.take_reduction().is_none(), "all is being added");
        pass.reduced(after.run().unwrap());
        pass.reduced(before.run().unwrap());
        assert_eq!(pass.settle_sum().unwrap().sum, Some(vec![3.0]));
    }

    #[test]
    fn results_must_be_those_of_the_node() {
        let pass = pass(Purpose::Choose, vec![vec![4, 2], vec![1]]);
        let results = |indices: &[u32]| -> Vec<Hypothesis> {
            let result = |&index| Hypothesis {
                index,
                text: String::new(),
                loss: None,
                unusable: None,
            };
            indices.iter().map(result).collect()
        };
        let check = |indices| pass.check(Node::leaf(0), &results(indices));
        assert!(check(&[2, 4]).is_ok());
        assert!(check(&[2]).is_err());
        assert!(check(&[2, 2, 4]).is_err());
        assert!(check(&[1, 2]).is_err());
    }
}
