//! Jobs as the verbs deal with them: read from a file, given a run's directory, shown, and judged by how they ended.

pub(crate) mod file;
pub(crate) mod outcome;
pub(crate) mod runs;
pub(crate) mod view;
