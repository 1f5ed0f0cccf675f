//! CTC prefix beam search (Graves 2012, chapter 7; Hannun et al. 2014): the label sequences that are most
//! probable over all their alignments, with what is known beside the sound. For each sequence two masses
//! are kept, of alignments that end in a blank and of those that end in its last label. All sums are of
//! logarithms in `f64`; equal scores keep the order of what they grew from, then of labels.

use super::{
    BLANK,
    fusion::{Fusion, Standing},
};

/// Not among the hypotheses of this frame.
const ABSENT: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

/// How wide a search is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) beam: usize,
    pub(super) label_range: f64,
    pub(super) beam_range: f64,
}

/// A search on its way through the frames of an utterance.
pub(super) struct Search<'a> {
    fusion: &'a Fusion,
    /// The text of each label; the blank's is empty.
    pieces: &'a [String],
    width: Width,
    /// All label sequences that were followed, each behind the one it goes on from.
    nodes: Vec<Node>,
    beam: Vec<Followed>,
    // Kept for their memory.
    staying: Vec<Followed>,
    entries: Vec<Entry>,
}

struct Node {
    parent: u32,
    label: u32,
    /// The newest sequence that goes on from this one, and the one before it that does so from the
    /// same.
    child: u32,
    sibling: u32,
    /// Its place in the beam.
    place: u32,
    standing: Standing,
}

/// A label sequence that is followed.
#[derive(Clone, Copy)]
struct Followed {
    node: u32,
    /// Logarithms of the masses of alignments that end in a blank, and in the last label.
    blank: f64,
    label: f64,
}

impl Followed {
    fn total(&self) -> f64 {
        log_add(self.blank, self.label)
    }
}

/// What may be followed in the next frame.
#[derive(Clone, Copy)]
struct Entry {
    rank: f64,
    /// The place that it comes from, and the label that was added; the blank for none.
    from: u32,
    label: u32,
    /// Its node, where there is one already.
    node: u32,
    mass: f64,
}

/// A label sequence that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) labels: Vec<u32>,
    /// The logarithm of its mass.
    pub(super) acoustic: f64,
    /// What is added by all that is known beside the sound; none where its last word is not the
    /// lexicon's.
    pub(super) fused: Option<f64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(fusion: &'a Fusion, pieces: &'a [String], width: Width) -> Self {
        let root = Node {
            parent: NONE,
            label: BLANK,
            child: NONE,
            sibling: NONE,
            place: 0,
            standing: fusion.start(),
        };
        let all = Followed {
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
            staying: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Takes the log-probabilities of a frame's labels. One that is not a number counts as 0.
    pub(super) fn push(&mut self, row: &[f32]) {
        let at = |label: u32| match f64::from(row[label as usize]) {
            log if log.is_nan() => f64::NEG_INFINITY,
            log => log,
        };
        self.staying.clear();
        self.entries.clear();
        for followed in &self.beam {
            let last = self.nodes[followed.node as usize].label;
            self.staying.push(Followed {
                node: followed.node,
                blank: followed.total() + at(BLANK),
                label: if last == BLANK {
                    f64::NEG_INFINITY
                } else {
                    followed.label + at(last)
                },
            });
        }
        let best = (0..row.len() as u32)
            .map(at)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = best - self.width.label_range;
        let labels = (1..row.len() as u32).filter(|&label| at(label) >= floor);
        for label in labels {
            for place in 0..self.beam.len() {
                self.extend(place, label, at(label));
            }
        }
        for (place, staying) in self.staying.iter().enumerate() {
            let Standing { settled, lent, .. } = self.nodes[staying.node as usize].standing;
            let mass = staying.total();
            self.entries.push(Entry {
                rank: mass + settled + lent,
                from: place as u32,
                label: BLANK,
                node: staying.node,
                mass,
            });
        }
        self.prune();
        self.follow();
    }

    /// Adds `label` to the sequence at `place` of the beam.
    fn extend(&mut self, place: usize, label: u32, log: f64) {
        let followed = self.beam[place];
        let node = &self.nodes[followed.node as usize];
        // A label behind itself is the same one unless a blank came between.
        let mass = if node.label == label {
            followed.blank
        } else {
            followed.total()
        } + log;
        if mass == f64::NEG_INFINITY {
            return;
        }
        let (is_first, standing) = (followed.node == 0, node.standing);
        let mut child = node.child;
        while child != NONE && self.nodes[child as usize].label != label {
            child = self.nodes[child as usize].sibling;
        }
        let standing = if child == NONE {
            let piece = &self.pieces[label as usize];
            match self.fusion.extend(&standing, piece, is_first) {
                Some(standing) => standing,
                None => return,
            }
        } else {
            let known = &self.nodes[child as usize];
            if known.place != ABSENT {
                let staying = &mut self.staying[known.place as usize];
                staying.label = log_add(staying.label, mass);
                return;
            }
            known.standing
        };
        self.entries.push(Entry {
            rank: mass + standing.settled + standing.lent,
            from: place as u32,
            label,
            node: child,
            mass,
        });
    }

    /// Keeps the best entries, in their order.
    fn prune(&mut self) {
        let order = |a: &Entry, b: &Entry| {
            b.rank
                .total_cmp(&a.rank)
                .then(a.from.cmp(&b.from))
                .then(a.label.cmp(&b.label))
        };
        let best = self
            .entries
            .iter()
            .map(|entry| entry.rank)
            .fold(f64::NEG_INFINITY, f64::max);
        let floor = best - self.width.beam_range;
        self.entries.retain(|entry| entry.rank >= floor);
        if self.entries.len() > self.width.beam {
            self.entries.select_nth_unstable_by(self.width.beam, order);
            self.entries.truncate(self.width.beam);
        }
        self.entries.sort_unstable_by(order);
    }

    /// Makes the entries the beam.
    fn follow(&mut self) {
        for followed in &self.beam {
            self.nodes[followed.node as usize].place = ABSENT;
        }
        let before = std::mem::take(&mut self.beam);
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            let place = self.beam.len() as u32;
            if entry.label == BLANK {
                self.nodes[entry.node as usize].place = place;
                self.beam.push(self.staying[entry.from as usize]);
                continue;
            }
            let node = match entry.node {
                NONE => self.grow(before[entry.from as usize].node, entry.label),
                node => node,
            };
            self.nodes[node as usize].place = place;
            self.beam.push(Followed {
                node,
                blank: f64::NEG_INFINITY,
                label: entry.mass,
            });
        }
        self.entries = entries;
    }

    fn grow(&mut self, parent: u32, label: u32) -> u32 {
        let new = self.nodes.len() as u32;
        let Node {
            standing, child, ..
        } = self.nodes[parent as usize];
        let piece = &self.pieces[label as usize];
        // It was an entry, so that it may be.
        let extended = self.fusion.extend(&standing, piece, parent == 0);
        self.nodes.push(Node {
            parent,
            label,
            child: NONE,
            sibling: child,
            place: ABSENT,
            standing: extended.unwrap_or(standing),
        });
        self.nodes[parent as usize].child = new;
        new
    }

    /// What is followed now, the best first.
    pub(super) fn found(&self) -> Vec<Found> {
        let found = self.beam.iter().map(|followed| Found {
            labels: self.labels(followed.node),
            acoustic: followed.total(),
            fused: self
                .fusion
                .finish(&self.nodes[followed.node as usize].standing),
        });
        found.collect()
    }

    /// The label sequence that is best so far.
    pub(super) fn best(&self) -> Vec<u32> {
        self.beam
            .first()
            .map_or_else(Vec::new, |followed| self.labels(followed.node))
    }

    fn labels(&self, node: u32) -> Vec<u32> {
        let mut labels = Vec::new();
        let mut node = &self.nodes[node as usize];
        while node.parent != NONE {
            labels.push(node.label);
            node = &self.nodes[node.parent as usize];
        }
        labels.reverse();
        labels
    }
}

/// The logarithm of the sum of what `a` and `b` are logarithms of.
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY {
        return more;
    }
    more + (less - more).exp().ln_1p()
}
