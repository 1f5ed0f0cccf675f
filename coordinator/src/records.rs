//! What is kept of a run for people and scripts: events and metrics as JSON lines ([`events`]), the report at its end
//! ([`report`]), and the pictures that are drawn of the metrics ([`plots`]: a chart and TensorBoard's event file).

pub mod audit_log;
pub mod chart;
pub mod curves;
pub mod events;
pub mod plots;
pub mod report;
pub mod tensorboard;
pub mod times;
pub(crate) mod timestamp;
