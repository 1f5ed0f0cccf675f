//! Graphs of emitting states, without transitions that emit nothing: what sums over paths run on.

/// A transition into a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arc {
    /// The state that it leaves.
    pub from: u32,
    /// The natural logarithm of its weight.
    pub log_weight: f64,
}

/// States that emit a frame each time they are entered, or stayed in by an arc to themselves. A path begins in a state
/// with a start weight and ends in one with an end weight; its score is the sum of the log weights on the way and of the
/// scores of the frames under the states' densities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The number of each state's probability density function.
    pdfs: Vec<u32>,
    /// Where the arcs into each state begin; they end where those of the next one do.
    first: Vec<usize>,
    arcs: Vec<Arc>,
    /// The log weight of starting in each state; −∞ where no path does.
    starts: Vec<f64>,
    /// States in which a path may end, and the log weights of that.
    ends: Vec<(u32, f64)>,
}

impl Graph {
    /// The graph of CTC (Graves et al. 2006) for `labels`: a `blank` before, between and behind them, each state with an
    /// arc to itself, and a way past the blank between two labels that differ. Label `n` is state `2 n + 1`; a state's
    /// density is the label's number.
    pub fn ctc(labels: &[u32], blank: u32) -> Self {
        let mut builder = GraphBuilder::default();
        let last = 2 * labels.len() as u32;
        for state in 0..=last {
            let label = |state: u32| labels[state as usize / 2];
            let is_label = state % 2 == 1;
            builder.state(if is_label { label(state) } else { blank });
            builder.arc(state, state, 0.0);
            if state > 0 {
                builder.arc(state - 1, state, 0.0);
            }
            if is_label && state > 1 && label(state) != label(state - 2) {
                builder.arc(state - 2, state, 0.0);
            }
        }
        builder.start(0, 0.0);
        builder.end(last, 0.0);
        if last > 0 {
            builder.start(1, 0.0);
            builder.end(last - 1, 0.0);
        }
        builder.build()
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.pdfs.len()
    }

    /// The number of a state's probability density function: the column of its scores.
    pub fn pdf(&self, state: u32) -> u32 {
        self.pdfs[state as usize]
    }

    /// The arcs into a state, in the order in which they were added.
    pub fn arcs_into(&self, state: u32) -> &[Arc] {
        let state = state as usize;
        &self.arcs[self.first[state]..self.first[state + 1]]
    }

    /// The log weight of starting in each state; −∞ where no path does.
    pub fn starts(&self) -> &[f64] {
        &self.starts
    }

    /// States in which a path may end, and the log weights of that, in the order in which they were added.
    pub fn ends(&self) -> &[(u32, f64)] {
        &self.ends
    }

    /// The frames of the shortest path; `None` where no path ends.
    pub fn least_frames(&self) -> Option<usize> {
        let mut leaving: Vec<Vec<u32>> = vec![Vec::new(); self.states()];
        for state in 0..self.states() as u32 {
            for arc in self.arcs_into(state) {
                if arc.from != state && arc.log_weight > f64::NEG_INFINITY {
                    leaving[arc.from as usize].push(state);
                }
            }
        }
        let mut is_end = vec![false; self.states()];
        for &(state, log_weight) in &self.ends {
            is_end[state as usize] |= log_weight > f64::NEG_INFINITY;
        }
        let states = (0..).zip(&self.starts);
        let starts = states.filter(|(_, log_weight)| **log_weight > f64::NEG_INFINITY);
        let mut wave: Vec<u32> = starts.map(|(state, _)| state).collect();
        let mut seen = vec![false; self.states()];
        for frames in 1.. {
            wave.retain(|&state| !std::mem::replace(&mut seen[state as usize], true));
            if wave.is_empty() {
                break;
            }
            if wave.iter().any(|&state| is_end[state as usize]) {
                return Some(frames);
            }
            wave = wave
                .iter()
                .flat_map(|&state| leaving[state as usize].iter().copied())
                .collect();
        }
        None
    }
}

/// Makes a [`Graph`]. Where several paths score the same, the order in which arcs and ends are added decides.
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    pdfs: Vec<u32>,
    /// The arcs and the states that they lead to.
    arcs: Vec<(u32, Arc)>,
    starts: Vec<(u32, f64)>,
    ends: Vec<(u32, f64)>,
}

impl GraphBuilder {
    /// Adds a state that emits by the density `pdf`, and gives its number.
    pub fn state(&mut self, pdf: u32) -> u32 {
        self.pdfs.push(pdf);
        self.pdfs.len() as u32 - 1
    }

    /// Adds an arc between states. The states need not be there yet when it is added, but when the graph is built.
    pub fn arc(&mut self, from: u32, to: u32, log_weight: f64) {
        self.arcs.push((to, Arc { from, log_weight }));
    }

    /// Has paths start in a state. Of several calls for a state, the last one counts.
    pub fn start(&mut self, state: u32, log_weight: f64) {
        self.starts.push((state, log_weight));
    }

    /// Has paths end in a state.
    pub fn end(&mut self, state: u32, log_weight: f64) {
        self.ends.push((state, log_weight));
    }

    /// The graph.
    ///
    /// # Panics
    /// When an arc, a start or an end names a state that was not added: a mistake of the caller.
    pub fn build(mut self) -> Graph {
        let states = self.pdfs.len();
        // Stable: arcs into the same state stay in their order.
        self.arcs.sort_by_key(|(to, _)| *to);
        let named = self.arcs.iter().flat_map(|(to, arc)| [*to, arc.from]);
        let named = named.chain(
            self.starts
                .iter()
                .chain(&self.ends)
                .map(|(state, _)| *state),
        );
        assert!(
            named.max().is_none_or(|most| (most as usize) < states),
            "an arc, a start or an end names a state that the graph has not"
        );
        let mut first = Vec::with_capacity(states + 1);
        first.push(0);
        for state in 1..=states as u32 {
            let from = first[first.len() - 1];
            let count = self.arcs[from..].partition_point(|(to, _)| *to < state);
            first.push(from + count);
        }
        let mut starts = vec![f64::NEG_INFINITY; states];
        for (state, log_weight) in self.starts {
            starts[state as usize] = log_weight;
        }
        Graph {
            pdfs: self.pdfs,
            first,
            arcs: self.arcs.into_iter().map(|(_, arc)| arc).collect(),
            starts,
            ends: self.ends,
        }
    }
}
