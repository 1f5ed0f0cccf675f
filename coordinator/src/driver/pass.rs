//! A pass over micro-batches as the driver holds it: what is in it, what has come in, and the sum as
//! far as it is taken. It decides when the sum is whole; it refuses to know who works on it, which is
//! the machine's.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use proto::{
    contribution::{Contribution, Digest, Key, PassKind},
    crash::{self, Place},
    tree::Node,
};

use crate::{
    driver::{
        command::{Leased, Posted},
        error::Refused,
        returns::Returned,
    },
    leases::PassId,
    norm_bound::NormBound,
    reduce::{ReduceError, Reducer},
    spares::Spares,
    times::Times,
};

/// What a model said to an utterance of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The utterance's place in the validation set.
    pub index: u32,
    pub text: String,
    pub loss: Option<f64>,
    /// Why its sound cannot be used; then it has neither text nor loss.
    pub unusable: Option<String>,
}

/// Names the bits of a node's results.
pub fn digest(results: &[Hypothesis]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for result in results {
        hasher.update(&result.index.to_le_bytes());
        hasher.update(&(result.text.len() as u64).to_le_bytes());
        hasher.update(result.text.as_bytes());
        match (result.loss, &result.unusable) {
            (Some(loss), None) => hasher.update(&[1]).update(&loss.to_le_bytes()),
            (None, None) => hasher.update(&[0]),
            (_, Some(_)) => hasher.update(&[2]),
        };
    }
    *hasher.finalize().as_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Collecting,
    /// Every micro-batch is in.
    Complete,
    /// What comes of it is being computed.
    Settling,
}

#[derive(Debug)]
pub struct Pass {
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
    /// Micro-batches that were left out of what has come in.
    pub left_out: u64,
    /// Leases returned undone since the last contribution, if there were any.
    pub returned: Option<Returned>,
    stage: Stage,
    sum: Sum,
    results: BTreeMap<u32, Hypothesis>,
}

#[derive(Debug)]
struct Sum {
    /// Counts how often it was begun.
    attempt: u32,
    elements: usize,
    spares: Spares,
    /// Absent while a thread adds with it.
    reducer: Option<Reducer>,
    pending: Vec<(Node, Contribution)>,
}

/// Additions that are due, for a thread that may take its time.
#[derive(Debug)]
pub struct Reduction {
    attempt: u32,
    reducer: Reducer,
    pending: Vec<(Node, Contribution)>,
}

impl Reduction {
    pub fn run(mut self) -> Result<Reduced, ReduceError> {
        let began = Instant::now();
        for (node, contribution) in self.pending {
            crash::pass(Place::CoordinatorReduce);
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
pub struct Reduced {
    attempt: u32,
    reducer: Reducer,
    /// That it took.
    seconds: f64,
}

impl Pass {
    /// `elements` of the vectors that a gradient pass sums; those that were added go to `spares`.
    pub fn new(
        kind: PassKind,
        step: u64,
        epoch: u32,
        micro_batches: Vec<Vec<u32>>,
        elements: usize,
        spares: Spares,
    ) -> Self {
        let reducer = Reducer::new(count(&micro_batches), elements).with(spares.clone());
        Self {
            kind,
            step,
            epoch,
            micro_batches,
            norm_bound: None,
            averaged: false,
            opened: Instant::now(),
            times: Times::default(),
            left_out: 0,
            returned: None,
            stage: Stage::Collecting,
            sum: Sum {
                attempt: 0,
                elements,
                spares,
                reducer: Some(reducer),
                pending: Vec::new(),
            },
            results: BTreeMap::new(),
        }
    }

    pub fn id(&self, job: &str) -> PassId {
        PassId {
            job: job.to_owned(),
            kind: self.kind,
            step: self.step,
        }
    }

    pub fn micro_batches(&self) -> u32 {
        count(&self.micro_batches)
    }

    /// Whether `key` is about this pass of `job`.
    pub fn is_of(&self, key: &Key, job: &str, generation: u64) -> bool {
        key.job == job
            && key.generation == generation
            && key.kind == self.kind
            && key.step == self.step
    }

    /// What is leased by `key`: the micro-batches of its node with their utterances.
    pub fn leased(&self, key: Key, posted: Arc<Posted>) -> Leased {
        let micro_batches = key.node.range(self.micro_batches());
        let micro_batches =
            micro_batches.map(|index| (index, self.micro_batches[index as usize].clone()));
        Leased {
            epoch: self.epoch,
            micro_batches: micro_batches.collect(),
            key,
            posted,
            norm_bound: self.norm_bound,
            averaged: self.averaged,
        }
    }

    /// Takes in what the machine accepted.
    pub fn accept(&mut self, node: Node, contribution: Contribution, times: &Times) {
        self.returned = None;
        self.times.add(times);
        self.left_out += contribution.quarantined.len() as u64;
        self.sum.pending.push((node, contribution));
    }

    /// Takes in the results that the machine accepted.
    pub fn accept_results(&mut self, results: Vec<Hypothesis>) {
        self.returned = None;
        let results = results.into_iter().map(|result| (result.index, result));
        self.results.extend(results);
    }

    /// Whether `results` are those of the node's utterances, each once.
    pub fn check(&self, node: Node, results: &[Hypothesis]) -> Result<(), Refused> {
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

    /// Additions to do now; there are none while others are being done.
    pub fn take_reduction(&mut self) -> Option<Reduction> {
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
    pub fn reduced(&mut self, reduced: Reduced) {
        self.times.reduce_s += reduced.seconds;
        if reduced.attempt == self.sum.attempt {
            self.sum.reducer = Some(reduced.reducer);
        }
    }

    /// Forgets all that has come in.
    pub fn restart(&mut self) {
        let (elements, spares) = (self.sum.elements, self.sum.spares.clone());
        let reducer = Reducer::new(self.micro_batches(), elements).with(spares.clone());
        self.stage = Stage::Collecting;
        self.left_out = 0;
        self.results.clear();
        self.sum = Sum {
            attempt: self.sum.attempt + 1,
            elements,
            spares,
            reducer: Some(reducer),
            pending: Vec::new(),
        };
    }

    /// An answer is in doubt: the pass is not complete before it is settled.
    pub fn doubt(&mut self) {
        if self.stage == Stage::Complete {
            self.stage = Stage::Collecting;
        }
    }

    /// Every micro-batch has come in.
    pub fn complete(&mut self) {
        self.stage = Stage::Complete;
    }

    /// Whether what comes of it can be computed now.
    pub fn is_whole(&self) -> bool {
        self.stage == Stage::Complete && self.sum.reducer.is_some() && self.sum.pending.is_empty()
    }

    /// Whether what comes of it is being computed.
    pub fn is_settling(&self) -> bool {
        self.stage == Stage::Settling
    }

    /// The sum over the pass; only of a whole one, and once.
    pub fn settle_sum(&mut self) -> Option<Contribution> {
        self.stage = Stage::Settling;
        self.sum.reducer.take().and_then(Reducer::root)
    }

    /// The results of the pass by utterance; only of a whole one, and once.
    pub fn settle_results(&mut self) -> BTreeMap<u32, Hypothesis> {
        self.stage = Stage::Settling;
        std::mem::take(&mut self.results)
    }
}

fn count(micro_batches: &[Vec<u32>]) -> u32 {
    u32::try_from(micro_batches.len()).expect("utterances are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(kind: PassKind, micro_batches: Vec<Vec<u32>>) -> Pass {
        Pass::new(kind, 3, 1, micro_batches, 1, Spares::default())
    }

    fn contribution(value: f32) -> Contribution {
        Contribution {
            sum: Some(vec![value]),
            weight: 1.0,
            ..Contribution::default()
        }
    }

    #[test]
    fn a_pass_is_whole_when_everything_is_in_and_added() {
        let mut pass = pass(PassKind::Gradient, vec![vec![0], vec![1]]);
        pass.accept(Node::leaf(1), contribution(2.0), &Times::default());
        let first = pass.take_reduction().unwrap();
        pass.accept(Node::leaf(0), contribution(1.0), &Times::default());
        assert!(pass.take_reduction().is_none(), "one thread adds at a time");
        pass.complete();
        assert!(!pass.is_whole());
        pass.reduced(first.run().unwrap());
        assert!(!pass.is_whole());
        let second = pass.take_reduction().unwrap();
        pass.reduced(second.run().unwrap());
        assert!(pass.is_whole());
        assert_eq!(pass.settle_sum().unwrap().sum, Some(vec![3.0]));
        assert!(pass.is_settling());
    }

    #[test]
    fn a_pass_that_begins_again_forgets_what_a_thread_still_adds() {
        let mut pass = pass(PassKind::Gradient, vec![vec![0], vec![1]]);
        pass.accept(Node::leaf(0), contribution(7.0), &Times::default());
        let before = pass.take_reduction().unwrap();
        pass.restart();
        for (node, value) in [(Node::leaf(0), 1.0), (Node::leaf(1), 2.0)] {
            pass.accept(node, contribution(value), &Times::default());
        }
        let after = pass.take_reduction().unwrap();
        pass.reduced(before.run().unwrap());
        pass.complete();
        assert!(!pass.is_whole(), "the thread's sum is of the first attempt");
        pass.reduced(after.run().unwrap());
        assert_eq!(pass.settle_sum().unwrap().sum, Some(vec![3.0]));
    }

    #[test]
    fn a_complete_pass_waits_while_an_answer_is_in_doubt() {
        let mut pass = pass(PassKind::Gradient, vec![vec![0]]);
        pass.accept(Node::leaf(0), contribution(1.0), &Times::default());
        let reduced = pass.take_reduction().unwrap().run().unwrap();
        pass.reduced(reduced);
        pass.complete();
        assert!(pass.is_whole());
        pass.doubt();
        assert!(!pass.is_whole());
        pass.complete();
        assert!(pass.is_whole());
    }

    #[test]
    fn results_must_be_those_of_the_node() {
        let pass = pass(PassKind::Evaluation, vec![vec![4, 2], vec![1]]);
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
