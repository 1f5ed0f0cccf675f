//! One pass's micro-batches: each is free, leased, or in an accepted answer. It decides how nodes are
//! cut and what an answer is worth, and does not depend on why somebody should get a node.

mod verifications;

use std::collections::BTreeMap;

use proto::{contribution::Key, tree::Node};

use super::{
    Millis, PassId, WorkerId,
    vote::{Answer, Verification},
};

#[derive(Debug)]
pub(super) struct LeasedPass {
    pub(super) id: PassId,
    micro_batches: u32,
    /// Nodes that nobody has, by their first micro-batch. Nodes are cut and never joined again, so a
    /// node that was leased is still free, leased or answered as it is or in pieces of it.
    free: BTreeMap<u32, FreeNode>,
    /// Leases that run, by node and attempt.
    leases: BTreeMap<(Node, u32), Lease>,
    /// All leases there were of a node, in order.
    attempts: BTreeMap<Node, Vec<Attempt>>,
    /// Accepted answers, by their first micro-batch. No two overlap.
    done: BTreeMap<u32, AcceptedNode>,
    missing: u32,
    /// Answered nodes for which one answer is not enough.
    verifications: BTreeMap<Node, Verification>,
    /// When the newest answer came that was accepted or is an opinion in a check.
    last_progress: Millis,
    /// It was said that everything is in.
    announced: bool,
}

#[derive(Clone, Copy, Debug)]
struct FreeNode {
    node: Node,
    /// Whether it was leased before.
    returned: bool,
}

#[derive(Debug)]
struct Lease {
    worker: WorkerId,
    /// When the worker should begin it.
    begins: Millis,
    expires: Millis,
}

#[derive(Debug)]
struct Attempt {
    worker: WorkerId,
    /// Answers to it do not count: its lease had ended when the pass was restarted, so that others may have parts of
    /// its node, or the worker may not compute for the job.
    void: bool,
}

#[derive(Debug)]
struct AcceptedNode {
    node: Node,
    answer: Answer,
}

/// A lease was granted.
pub(super) struct Granted {
    pub(super) attempt: u32,
    /// Micro-batches of it were leased before and came back.
    pub(super) retry: bool,
    /// Somebody else has it too.
    pub(super) copy: bool,
}

/// What an answer is worth.
pub(super) enum Assessment {
    Accepted,
    Duplicate,
    /// Its micro-batches came by way of other nodes.
    Late,
    /// It was never leased to this worker.
    Foreign,
    Differs {
        first: WorkerId,
    },
}

impl LeasedPass {
    pub(super) fn new(id: PassId, micro_batches: u32) -> Self {
        let root = Node::root(micro_batches);
        let whole = FreeNode {
            node: root,
            returned: false,
        };
        Self {
            id,
            micro_batches,
            free: root
                .exists(micro_batches)
                .then_some((0, whole))
                .into_iter()
                .collect(),
            leases: BTreeMap::new(),
            attempts: BTreeMap::new(),
            done: BTreeMap::new(),
            missing: micro_batches,
            verifications: BTreeMap::new(),
            last_progress: 0,
            announced: false,
        }
    }

    pub(super) fn key(&self, generation: u64, node: Node, attempt: u32) -> Key {
        Key {
            job: self.id.job.clone(),
            generation,
            kind: self.id.kind,
            step: self.id.step,
            node,
            attempt,
        }
    }

    /// Whether `key` is one of this pass.
    pub(super) fn names(&self, generation: u64, key: &Key) -> bool {
        let PassId { job, kind, step } = &self.id;
        key.generation == generation && (&key.job, &key.kind, &key.step) == (job, kind, step)
    }

    /// Micro-batches of `node`.
    pub(super) fn size(&self, node: Node) -> u32 {
        node.range(self.micro_batches).len() as u32
    }

    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// Micro-batches that nobody has.
    pub(super) fn free(&self) -> u32 {
        self.free.values().map(|free| self.size(free.node)).sum()
    }

    pub(super) fn entries(&self) -> usize {
        let attempts: usize = self.attempts.values().map(Vec::len).sum();
        let kept = self.free.len() + self.leases.len() + self.done.len();
        kept + attempts + self.verifications.len()
    }

    /// The largest free node, or part of one, of at most `limit` micro-batches; of equals the first.
    pub(super) fn largest(&self, limit: u32) -> Option<Node> {
        if limit == 0 {
            return None;
        }
        let mut best: Option<(u32, Node)> = None;
        for free in self.free.values() {
            let node = self.cut(free.node, limit);
            let size = self.size(node);
            if best.is_none_or(|(largest, _)| size > largest) {
                best = Some((size, node));
            }
        }
        best.map(|(_, node)| node)
    }

    fn cut(&self, mut node: Node, limit: u32) -> Node {
        while self.size(node) > limit
            && let Some((left, _)) = node.children()
        {
            node = left;
        }
        node
    }

    /// Leases `node`, which is free, part of a free node, or leased to somebody else.
    pub(super) fn lease(
        &mut self,
        node: Node,
        worker: WorkerId,
        begins: Millis,
        expires: Millis,
    ) -> Granted {
        let retry = self.split_off(node);
        let copy = self.is_leased(node);
        let attempts = self.attempts.entry(node).or_default();
        let attempt = attempts.len() as u32;
        attempts.push(Attempt {
            worker,
            void: false,
        });
        let lease = Lease {
            worker,
            begins,
            expires,
        };
        self.leases.insert((node, attempt), lease);
        Granted {
            attempt,
            retry,
            copy,
        }
    }

    /// Takes `node` out of the free node that holds it, if there is one; the rest stays free. Says
    /// whether that was leased before.
    fn split_off(&mut self, node: Node) -> bool {
        let start = node.range(self.micro_batches).start;
        let Some((
            &place,
            &FreeNode {
                node: whole,
                returned,
            },
        )) = self.free.range(..=start).next_back()
        else {
            return false;
        };
        if !whole.contains(node) {
            return false;
        }
        self.free.remove(&place);
        let mut part = whole;
        while part != node
            && let Some((left, right)) = part.children()
        {
            let (inside, outside) = if left.contains(node) {
                (left, right)
            } else {
                (right, left)
            };
            self.insert_free(outside, returned);
            part = inside;
        }
        returned
    }

    fn insert_free(&mut self, node: Node, returned: bool) {
        let range = node.range(self.micro_batches);
        if !range.is_empty() {
            self.free.insert(range.start, FreeNode { node, returned });
        }
    }

    fn is_leased(&self, node: Node) -> bool {
        self.leases
            .range((node, 0)..=(node, u32::MAX))
            .next()
            .is_some()
    }

    /// Leases of nodes that one worker alone has: node, worker, when it should begin.
    pub(super) fn lone_leases(&self) -> impl Iterator<Item = (Node, WorkerId, Millis)> {
        let copies = |node: Node| self.leases.range((node, 0)..=(node, u32::MAX)).count();
        self.leases
            .iter()
            .filter(move |((node, _), _)| copies(*node) == 1)
            .map(|((node, _), lease)| (*node, lease.worker, lease.begins))
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    pub(super) fn expiries(&self) -> impl Iterator<Item = Millis> {
        self.leases.values().map(|lease| lease.expires)
    }

    /// Whether `attempt` of `node` was leased to `worker`, and counts.
    pub(super) fn was_granted(&self, worker: WorkerId, node: Node, attempt: u32) -> bool {
        let attempts = self.attempts.get(&node);
        let attempt = attempts.and_then(|attempts| attempts.get(attempt as usize));
        attempt.is_some_and(|attempt| attempt.worker == worker && !attempt.void)
    }

    /// Answers of such workers to what they were granted so far do not count any more.
    pub(super) fn void(&mut self, workers: impl Fn(WorkerId) -> bool) {
        for attempt in self.attempts.values_mut().flatten() {
            attempt.void |= workers(attempt.worker);
        }
    }

    /// Frees what has run out by `now`: node, attempt and worker of each.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<(Node, u32, WorkerId)> {
        self.end_leases(|_, lease| lease.expires <= now)
    }

    /// Those that it does not hold; how many there were.
    pub(super) fn free_leases_of(&mut self, worker: WorkerId, holds: &[(Node, u32)]) -> u64 {
        let lost = |place, lease: &Lease| lease.worker == worker && !holds.contains(&place);
        self.end_leases(lost).len() as u64
    }

    /// Whether there was such a lease.
    pub(super) fn give_back(&mut self, worker: WorkerId, node: Node, attempt: u32) -> bool {
        let ended =
            self.end_leases(|place, lease| place == (node, attempt) && lease.worker == worker);
        !ended.is_empty()
    }

    fn end_leases(
        &mut self,
        mut ends: impl FnMut((Node, u32), &Lease) -> bool,
    ) -> Vec<(Node, u32, WorkerId)> {
        let ended = self
            .leases
            .extract_if(.., |&place, lease| ends(place, lease));
        let ended: Vec<_> = ended
            .map(|((node, attempt), lease)| (node, attempt, lease.worker))
            .collect();
        for &(node, ..) in &ended {
            // What is answered was leased to be checked.
            if !self.is_leased(node) && self.done_at(node).is_none() {
                self.insert_free(node, true);
            }
        }
        ended
    }

    /// The accepted answer that has micro-batches of `node`.
    fn done_at(&self, node: Node) -> Option<&AcceptedNode> {
        let range = node.range(self.micro_batches);
        let (_, done) = self.done.range(..range.end).next_back()?;
        (done.node.range(self.micro_batches).end > range.start).then_some(done)
    }

    /// Judges an answer to a lease, and takes note of it if it is the first, or of an answer that is
    /// checked. With `compare`, one that differs from the first begins a check.
    pub(super) fn answer(
        &mut self,
        node: Node,
        answer: Answer,
        compare: bool,
        now: Millis,
    ) -> Assessment {
        let Answer {
            worker, attempt, ..
        } = answer;
        if !self.was_granted(worker, node, attempt) {
            return Assessment::Foreign;
        }
        let Some(done) = self.done_at(node) else {
            self.accept(node, answer);
            self.last_progress = now;
            return Assessment::Accepted;
        };
        if done.node != node {
            // Equal micro-batches by way of other nodes have other sums.
            return Assessment::Late;
        }
        let first = done.answer;
        let differs = first.digest != answer.digest;
        if differs && compare {
            let check = || Verification::new(first, now);
            self.verifications.entry(node).or_insert_with(check);
            self.announced = false;
        }
        if let Some(check) = self.verifications.get_mut(&node) {
            check.record(answer, now);
            self.last_progress = now;
            self.leases.remove(&(node, attempt));
        }
        if differs {
            Assessment::Differs {
                first: first.worker,
            }
        } else {
            Assessment::Duplicate
        }
    }

    fn accept(&mut self, node: Node, answer: Answer) {
        let range = node.range(self.micro_batches);
        self.free.retain(|_, free| !node.contains(free.node));
        self.leases.retain(|(leased, _), _| !node.contains(*leased));
        self.missing -= range.len() as u32;
        self.done.insert(range.start, AcceptedNode { node, answer });
    }
}
