//! Jobs as the verbs deal with them: read from a file, given a run's directory, shown, and judged by how they ended.

pub mod file;
pub mod outcome;
pub mod runs;
pub mod view;
