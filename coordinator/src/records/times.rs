//! Where the time of steps goes: what workers spent it on, and what the coordinator did meanwhile. It
//! decides the names of the figures and nothing else; none of them reaches a number that is trained.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Seconds. Those of workers are added up over them: each is a thread that computes, from the end of
/// one lease to the end of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Times {
    /// Seconds in which workers computed.
    pub compute_s: f64,
    /// Seconds in which workers waited for features.
    pub features_s: f64,
    /// Seconds in which workers waited for weights.
    pub pull_s: f64,
    /// Seconds in which workers waited for their contributions to arrive.
    pub push_s: f64,
    /// Seconds in which workers waited for work: others computed, or the weights were updated.
    pub wait_s: f64,
    /// Seconds in which the coordinator added contributions.
    pub reduce_s: f64,
    /// Seconds in which the coordinator updated the weights: division, norm, clipping, optimizer.
    pub update_s: f64,
}

impl Times {
    /// Adds each figure of `more` to the one of its name.
    pub fn add(&mut self, more: &Self) {
        for ((_, sum), (_, value)) in self.each_mut().into_iter().zip(more.each()) {
            *sum += value;
        }
    }

    /// By name, as scripts read them.
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let each = self.each();
        each.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn each(&self) -> [(&'static str, f64); 7] {
        let mut copy = *self;
        copy.each_mut().map(|(name, value)| (name, *value))
    }

    fn each_mut(&mut self) -> [(&'static str, &mut f64); 7] {
        [
            ("compute_s", &mut self.compute_s),
            ("features_s", &mut self.features_s),
            ("pull_s", &mut self.pull_s),
            ("push_s", &mut self.push_s),
            ("wait_s", &mut self.wait_s),
            ("reduce_s", &mut self.reduce_s),
            ("update_s", &mut self.update_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_fields() {
        let mut times = Times::default();
        for (place, (_, value)) in times.each_mut().into_iter().enumerate() {
            *value = place as f64;
        }
        let written = serde_json::to_value(times).unwrap();
        assert_eq!(serde_json::to_value(times.by_name()).unwrap(), written);
        let mut twice = times;
        twice.add(&times);
        assert_eq!((twice.update_s, twice.compute_s), (12.0, 0.0));
    }
}
