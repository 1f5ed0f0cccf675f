//! Jobs as the commands handle them: read from a file, given a run directory, shown, and judged by how they ended.

pub(crate) mod file;
pub(crate) mod outcome;
pub(crate) mod runs;
pub(crate) mod view;
