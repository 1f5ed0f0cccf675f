//! The least edits between two sequences, and which of equally few are counted. There are often
//! several ways to need the fewest edits, with other numbers of substitutions; the choice made here
//! is that of RapidFuzz, which jiwer counts with, so that published figures can be compared.

use super::ErrorCounts;

/// What became of a word, or a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<T> {
    /// A token of the reference that was recognised.
    Kept(T),
    /// A token of the reference, and what stands in its place.
    Substituted(T, T),
    /// A token of the reference with nothing in its place.
    Deleted(T),
    /// A token of the hypothesis that the reference lacks.
    Inserted(T),
}

/// The edits that turn `reference` into `hypothesis`, counted.
pub(super) fn errors<T: PartialEq + Copy>(reference: &[T], hypothesis: &[T]) -> ErrorCounts {
    let mut counts = ErrorCounts {
        reference: reference.len() as u64,
        ..ErrorCounts::default()
    };
    backwards(reference, hypothesis, |edit| match edit {
        Edit::Kept(_) => {}
        Edit::Substituted(..) => counts.substitutions += 1,
        Edit::Deleted(_) => counts.deletions += 1,
        Edit::Inserted(_) => counts.insertions += 1,
    });
    counts
}

/// The same edits, in order.
pub(super) fn edits<T: PartialEq + Copy>(reference: &[T], hypothesis: &[T]) -> Vec<Edit<T>> {
    let mut edits = Vec::with_capacity(reference.len().max(hypothesis.len()));
    backwards(reference, hypothesis, |edit| edits.push(edit));
    edits.reverse();
    edits
}

/// Meets every edit from the last to the first.
fn backwards<T: PartialEq + Copy>(
    reference: &[T],
    hypothesis: &[T],
    mut meet: impl FnMut(Edit<T>),
) {
    // What both begin and end with is never an edit; leaving it out also decides between ties.
    let prefix = reference
        .iter()
        .zip(hypothesis)
        .take_while(|(r, h)| r == h)
        .count();
    let (same, reference) = reference.split_at(prefix);
    let hypothesis = &hypothesis[prefix..];
    let suffix = reference
        .iter()
        .rev()
        .zip(hypothesis.iter().rev())
        .take_while(|(r, h)| r == h)
        .count();
    let (reference, end) = reference.split_at(reference.len() - suffix);
    let hypothesis = &hypothesis[..hypothesis.len() - suffix];
    end.iter().rev().for_each(|&one| meet(Edit::Kept(one)));

    let steps = Steps::new(reference, hypothesis);
    let (mut row, mut column) = (reference.len(), hypothesis.len());
    while row > 0 && column > 0 {
        if steps.falls_upwards(row, column) {
            row -= 1;
            meet(Edit::Deleted(reference[row]));
        } else if steps.rises_upwards(row, column - 1) {
            column -= 1;
            meet(Edit::Inserted(hypothesis[column]));
        } else {
            row -= 1;
            column -= 1;
            meet(match (reference[row], hypothesis[column]) {
                (one, other) if one == other => Edit::Kept(one),
                (one, other) => Edit::Substituted(one, other),
            });
        }
    }
    let deleted = reference[..row].iter().rev();
    deleted.for_each(|&one| meet(Edit::Deleted(one)));
    let inserted = hypothesis[..column].iter().rev();
    inserted.for_each(|&one| meet(Edit::Inserted(one)));
    same.iter().rev().for_each(|&one| meet(Edit::Kept(one)));
}

/// How the distance changes from each cell of the matrix (Wagner & Fischer 1974) to the one above
/// it: all that walking back takes, in two bits a cell (Hyyrö 2003).
struct Steps {
    rows: usize,
    /// The cell above is one less.
    falls: Vec<u64>,
    /// The cell above is one more.
    rises: Vec<u64>,
}

impl Steps {
    fn new<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Self {
        let rows = reference.len();
        let words = (rows * (hypothesis.len() + 1)).div_ceil(64);
        let mut steps = Self {
            rows,
            falls: vec![0; words],
            rises: vec![0; words],
        };
        // distances[i] is that of the first i of the reference from what was read of the hypothesis.
        let mut distances: Vec<usize> = (0..=rows).collect();
        steps.record(0, &distances);
        for (word, column) in hypothesis.iter().zip(1..) {
            let mut diagonal = distances[0];
            distances[0] = column;
            for row in 1..=rows {
                let replaced = diagonal + usize::from(reference[row - 1] != *word);
                diagonal = distances[row];
                distances[row] = replaced.min(1 + diagonal.min(distances[row - 1]));
            }
            steps.record(column, &distances);
        }
        steps
    }

    fn record(&mut self, column: usize, distances: &[usize]) {
        for row in 1..=self.rows {
            let (word, bit) = self.place(row, column);
            self.falls[word] |= u64::from(distances[row] > distances[row - 1]) << bit;
            self.rises[word] |= u64::from(distances[row] < distances[row - 1]) << bit;
        }
    }

    fn falls_upwards(&self, row: usize, column: usize) -> bool {
        let (word, bit) = self.place(row, column);
        self.falls[word] >> bit & 1 == 1
    }

    fn rises_upwards(&self, row: usize, column: usize) -> bool {
        let (word, bit) = self.place(row, column);
        self.rises[word] >> bit & 1 == 1
    }

    /// The word and bit of a cell; rows count from 1, for nothing lies above the first.
    fn place(&self, row: usize, column: usize) -> (usize, usize) {
        let cell = column * self.rows + row - 1;
        (cell / 64, cell % 64)
    }
}
