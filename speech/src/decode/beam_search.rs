//! CTC prefix beam search (Graves 2012, chapter 7; Hannun et al. 2014): the label sequences that are most
//! probable over all their alignments, scored with shallow fusion. For each prefix two log-probabilities are
//! kept: of the alignments that end in a blank and of those that end in its last label. All sums are of logarithms in
//! `f64`; equal scores keep the order of the prefixes that they extend, then of labels.

use super::{
    BLANK,
    shallow_fusion::{FusionState, ShallowFusion},
};
use crate::hmm::sums::log_add;

/// The beam position of a prefix that is not in the beam.
const NOT_IN_BEAM: u32 = u32::MAX;
const NO_NODE: u32 = u32::MAX;

/// The limits of the beam: hypotheses, and distances in log-probability from the best.
#[derive(Clone, Copy, Debug)]
pub(super) struct BeamWidth {
    pub(super) beam: usize,
    pub(super) label_range: f64,
    pub(super) beam_range: f64,
}

/// The state of a prefix beam search over the frames of one utterance.
pub(super) struct PrefixBeamSearch<'a> {
    fusion: &'a ShallowFusion,
    /// The text of each label; the blank's is empty.
    pieces: &'a [String],
    width: BeamWidth,
    /// All prefixes that were ever in the beam, each behind the one that it extends.
    nodes: Vec<PrefixNode>,
    beam: Vec<BeamEntry>,
    // Buffers of `push`, kept to be reused.
    unextended: Vec<BeamEntry>,
    candidates: Vec<Candidate>,
}

struct PrefixNode {
    parent: u32,
    label: u32,
    /// The newest sequence that goes on from this one, and the one before it that does so from the
    /// same.
    child: u32,
    sibling: u32,
    /// Its position in the beam, or [`NOT_IN_BEAM`].
    position: u32,
    fusion_state: FusionState,
}

/// A prefix in the beam.
#[derive(Clone, Copy)]
struct BeamEntry {
    node: u32,
    /// Log-probabilities of the alignments that end in a blank, and of those that end in the last label.
    blank: f64,
    label: f64,
}

impl BeamEntry {
    fn total(&self) -> f64 {
        log_add(self.blank, self.label)
    }
}

/// A prefix that may enter the beam of the next frame.
#[derive(Clone, Copy)]
struct Candidate {
    rank: f64,
    /// The beam position of the prefix that it extends, and the label that it adds; the blank for none.
    from: u32,
    label: u32,
    /// Its node, where there is one already.
    node: u32,
    log_prob: f64,
}

/// A prefix of the final beam.
#[derive(Clone, Debug)]
pub(super) struct FoundPrefix {
    pub(super) labels: Vec<u32>,
    /// Its total log-probability over all alignments.
    pub(super) acoustic: f64,
    /// The score that shallow fusion adds; `None` where its last word is not in the lexicon.
    pub(super) fused: Option<f64>,
}

impl<'a> PrefixBeamSearch<'a> {
    pub(super) fn new(fusion: &'a ShallowFusion, pieces: &'a [String], width: BeamWidth) -> Self {
        let root = PrefixNode {
            parent: NO_NODE,
            label: BLANK,
            child: NO_NODE,
            sibling: NO_NODE,
            position: 0,
            fusion_state: fusion.start(),
        };
        let all = BeamEntry {
            node: 0,
            blank: 0.0,
            label: f64::NEG_INFINITY,
        };
        Self {
            fusion,
            pieces,
            width,
            nodes: vec![root],
            beam: vec![all],
            unextended: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Takes the log-probabilities of a frame's labels. One that is not a number counts as 0.
    pub(super) fn push(&mut self, row: &[f32]) {
        let at = |label: u32| match f64::from(row[label as usize]) {
            log if log.is_nan() => f64::NEG_INFINITY,
            log => log,
        };
        self.unextended.clear();
        self.candidates.clear();
        for entry in &self.beam {
            let last = self.nodes[entry.node as usize].label;
            self.unextended.push(BeamEntry {
                node: entry.node,
                blank: entry.total() + at(BLANK),
                label: if last == BLANK {
                    f64::NEG_INFINITY
                } else {
                    entry.label + at(last)
                },
            });
        }
        let best = (0..row.len() as u32)
            .map(at)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = best - self.width.label_range;
        let labels = (1..row.len() as u32).filter(|&label| at(label) >= floor);
        for label in labels {
            for position in 0..self.beam.len() {
                self.extend(position, label, at(label));
            }
        }
        for (position, unextended) in self.unextended.iter().enumerate() {
            let FusionState {
                word_score,
                look_ahead,
                ..
            } = self.nodes[unextended.node as usize].fusion_state;
            let log_prob = unextended.total();
            self.candidates.push(Candidate {
                rank: log_prob + word_score + look_ahead,
                from: position as u32,
                label: BLANK,
                node: unextended.node,
                log_prob,
            });
        }
        self.prune();
        self.advance();
    }

    /// Adds `label` to the sequence at `position` of the beam.
    fn extend(&mut self, position: usize, label: u32, log: f64) {
        let entry = self.beam[position];
        let node = &self.nodes[entry.node as usize];
        // A label behind itself is the same one unless a blank came between.
        let log_prob = if node.label == label {
            entry.blank
        } else {
            entry.total()
        } + log;
        if log_prob == f64::NEG_INFINITY {
            return;
        }
        let (is_first, fusion_state) = (entry.node == 0, node.fusion_state);
        let mut child = node.child;
        while child != NO_NODE && self.nodes[child as usize].label != label {
            child = self.nodes[child as usize].sibling;
        }
        let fusion_state = if child == NO_NODE {
            let piece = &self.pieces[label as usize];
            match self.fusion.extend(&fusion_state, piece, is_first) {
                Some(fusion_state) => fusion_state,
                None => return,
            }
        } else {
            let known = &self.nodes[child as usize];
            if known.position != NOT_IN_BEAM {
                let unextended = &mut self.unextended[known.position as usize];
                unextended.label = log_add(unextended.label, log_prob);
                return;
            }
            known.fusion_state
        };
        self.candidates.push(Candidate {
            rank: log_prob + fusion_state.word_score + fusion_state.look_ahead,
            from: position as u32,
            label,
            node: child,
            log_prob,
        });
    }

    /// Keeps the best candidates, in their order.
    fn prune(&mut self) {
        let order = |a: &Candidate, b: &Candidate| {
            b.rank
                .total_cmp(&a.rank)
                .then(a.from.cmp(&b.from))
                .then(a.label.cmp(&b.label))
        };
        let best = self
            .candidates
            .iter()
            .map(|candidate| candidate.rank)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = best - self.width.beam_range;
        self.candidates.retain(|candidate| candidate.rank >= floor);
        if self.candidates.len() > self.width.beam {
            self.candidates
                .select_nth_unstable_by(self.width.beam, order);
            self.candidates.truncate(self.width.beam);
        }
        self.candidates.sort_unstable_by(order);
    }

    /// Replaces the beam by the candidates that were kept.
    fn advance(&mut self) {
        for entry in &self.beam {
            self.nodes[entry.node as usize].position = NOT_IN_BEAM;
        }
        let before = std::mem::take(&mut self.beam);
        let candidates = std::mem::take(&mut self.candidates);
        for candidate in &candidates {
            let position = self.beam.len() as u32;
            if candidate.label == BLANK {
                self.nodes[candidate.node as usize].position = position;
                self.beam.push(self.unextended[candidate.from as usize]);
                continue;
            }
            let node = match candidate.node {
                NO_NODE => self.add_node(before[candidate.from as usize].node, candidate.label),
                node => node,
            };
            self.nodes[node as usize].position = position;
            self.beam.push(BeamEntry {
                node,
                blank: f64::NEG_INFINITY,
                label: candidate.log_prob,
            });
        }
        self.candidates = candidates;
    }

    fn add_node(&mut self, parent: u32, label: u32) -> u32 {
        let new = self.nodes.len() as u32;
        let PrefixNode {
            fusion_state,
            child,
            ..
        } = self.nodes[parent as usize];
        let piece = &self.pieces[label as usize];
        // It was a candidate, so that the lexicon allows it.
        let extended = self.fusion.extend(&fusion_state, piece, parent == 0);
        self.nodes.push(PrefixNode {
            parent,
            label,
            child: NO_NODE,
            sibling: child,
            position: NOT_IN_BEAM,
            fusion_state: extended.unwrap_or(fusion_state),
        });
        self.nodes[parent as usize].child = new;
        new
    }

    /// The prefixes of the beam, the best first.
    pub(super) fn found(&self) -> Vec<FoundPrefix> {
        let found = self.beam.iter().map(|entry| FoundPrefix {
            labels: self.labels(entry.node),
            acoustic: entry.total(),
            fused: self
                .fusion
                .finish(&self.nodes[entry.node as usize].fusion_state),
        });
        found.collect()
    }

    /// The label sequence that is best so far.
    pub(super) fn best(&self) -> Vec<u32> {
        self.beam
            .first()
            .map_or_else(Vec::new, |entry| self.labels(entry.node))
    }

    fn labels(&self, node: u32) -> Vec<u32> {
        let mut labels = Vec::new();
        let mut node = &self.nodes[node as usize];
        while node.parent != NO_NODE {
            labels.push(node.label);
            node = &self.nodes[node.parent as usize];
        }
        labels.reverse();
        labels
    }
}
