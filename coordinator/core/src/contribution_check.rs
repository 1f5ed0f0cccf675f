//! Whether a contribution can be the answer to its lease. The coordinator knows what was leased: how many utterances
//! count, what they weigh together, and how long they are at most. A worker that hands in something else is faulty or
//! hostile, and what it says does not count. Whether the vector is the right one is not known here: that takes a
//! second worker ([`crate::leases`]).

use std::collections::BTreeSet;

use proto::{contribution::Contribution, tree};
use thiserror::Error;

/// What an utterance weighs, as far as it is known before its recording is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// Exactly this: its class's weight, times its number of labels where that is the unit.
    Exactly(f64),
    /// This for each of its frames.
    PerFrame(f64),
}

/// An utterance of a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeasedUtterance {
    /// Its place in the training set.
    pub place: u32,
    /// What it weighs.
    pub weight: Weight,
    /// The most frames that it can have: those of its recording by the file's header, played as slowly as the job
    /// plays it, and some to spare for headers that are not exact.
    pub max_frames: u64,
    /// The most seconds that it can have.
    pub max_seconds: f64,
}

/// What was leased.
#[derive(Clone, Copy, Debug)]
pub struct LeasedWork<'a> {
    /// The node of the reduction tree.
    pub node: tree::Node,
    /// Its micro-batches in order, each with its place in the step and its utterances.
    pub micro_batches: &'a [(u32, Vec<LeasedUtterance>)],
    /// Whether norms of the micro-batches' gradients were asked for.
    pub norms: bool,
}

/// What is wrong with a contribution.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Mismatch {
    #[error(
        "micro-batch {0} is left out of it, and does not belong to the lease or is named twice"
    )]
    LeftOut(u32),
    #[error(
        "utterance {0} is named as unusable, and does not belong to the lease or is named twice"
    )]
    Unusable(u32),
    #[error("`utterances` is {found} where {expected} of the lease count")]
    Utterances { found: u64, expected: u64 },
    #[error("`weight` is {found} where the utterances that count weigh {expected}")]
    Weight { found: f64, expected: f64 },
    #[error("`weight` is {found} where the utterances that count weigh from {least} to {most}")]
    WeightOfFrames { found: f64, least: f64, most: f64 },
    #[error("`frames` is {found} where the utterances that count have from {least} to {most}")]
    Frames { found: u64, least: u64, most: u64 },
    #[error("`audio_seconds` is {found} where the utterances that count have {most} at most")]
    Seconds { found: f64, most: f64 },
    #[error("`norms` has {found} entries where the lease asks for {least} to {most}")]
    Norms {
        found: usize,
        least: usize,
        most: usize,
    },
    #[error("it has no vector, and {utterances} utterances count")]
    NoVector { utterances: u64 },
    #[error("it has a vector or a loss, and no utterance counts")]
    Superfluous,
    #[error(
        "the vector of a single micro-batch is not finite; a gradient that is not has to be left out by name"
    )]
    NotFinite,
}

impl LeasedWork<'_> {
    /// Whether `contribution` can be the answer. What is left out of it is named in it, and does not count.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self, contribution: &Contribution) -> Result<(), Mismatch> {
        let Contribution {
            sum,
            weight,
            loss,
            utterances,
            frames,
            audio_seconds,
            quarantined,
            unusable,
            norms,
            wire: _,
        } = contribution;
        let mut left_out = BTreeSet::new();
        for micro_batch in quarantined.iter().map(|one| one.micro_batch) {
            let leased = self
                .micro_batches
                .iter()
                .any(|(place, _)| *place == micro_batch);
            if !leased || !left_out.insert(micro_batch) {
                return Err(Mismatch::LeftOut(micro_batch));
            }
        }
        let leased = self.micro_batches.iter().flat_map(|(_, all)| all);
        let leased: BTreeSet<u32> = leased.map(|one| one.place).collect();
        let mut bad = BTreeSet::new();
        for utterance in unusable.iter().map(|one| one.utterance) {
            if !leased.contains(&utterance) || !bad.insert(utterance) {
                return Err(Mismatch::Unusable(utterance));
            }
        }
        let counts = |place: u32, all: &[LeasedUtterance]| -> Vec<LeasedUtterance> {
            let counts =
                |one: &&LeasedUtterance| !left_out.contains(&place) && !bad.contains(&one.place);
            all.iter().filter(counts).copied().collect()
        };
        let counted: Vec<(u32, Vec<LeasedUtterance>)> = self
            .micro_batches
            .iter()
            .map(|(place, all)| (*place, counts(*place, all)))
            .collect();
        let all = || counted.iter().flat_map(|(_, all)| all);
        let expected = all().count() as u64;
        if *utterances != expected {
            return Err(Mismatch::Utterances {
                found: *utterances,
                expected,
            });
        }
        match (sum, expected) {
            (None, 1..) => {
                return Err(Mismatch::NoVector {
                    utterances: expected,
                });
            }
            (Some(_), 0) => return Err(Mismatch::Superfluous),
            (None, 0) if *loss != 0.0 => return Err(Mismatch::Superfluous),
            _ => {}
        }
        let most: u64 = all().map(|one| one.max_frames).sum();
        if !(expected..=most).contains(frames) {
            return Err(Mismatch::Frames {
                found: *frames,
                least: expected,
                most,
            });
        }
        let most: f64 = all().map(|one| one.max_seconds).sum();
        if *audio_seconds > most {
            return Err(Mismatch::Seconds {
                found: *audio_seconds,
                most,
            });
        }
        self.check_weight(*weight, *frames, &counted)?;
        let most = if self.norms {
            self.micro_batches.len()
        } else {
            0
        };
        let least = counted.iter().filter(|(_, all)| all.iter().any(has_weight));
        let least = if self.norms { least.count() } else { 0 };
        if !(least..=most).contains(&norms.len()) {
            return Err(Mismatch::Norms {
                found: norms.len(),
                least,
                most,
            });
        }
        Ok(())
    }

    fn check_weight(
        &self,
        found: f64,
        frames: u64,
        counted: &[(u32, Vec<LeasedUtterance>)],
    ) -> Result<(), Mismatch> {
        let exact = |one: &LeasedUtterance| match one.weight {
            Weight::Exactly(weight) => Ok(weight),
            Weight::PerFrame(weight) => Err(weight),
        };
        let (Some((first, _)), Some((last, _))) = (counted.first(), counted.last()) else {
            return Ok(());
        };
        // Added as workers add them, so that nothing is left to rounding.
        let mut leaf = |micro_batch: u32| {
            let (_, all) = &counted[(micro_batch - first) as usize];
            all.iter().map(exact).sum::<Result<f64, f64>>().map(Some)
        };
        match tree::fold(self.node, last + 1, &mut leaf, &mut |left, right| {
            left + right
        }) {
            Ok(expected) => {
                let expected = expected.unwrap_or(0.0);
                if found == expected {
                    return Ok(());
                }
                Err(Mismatch::Weight { found, expected })
            }
            Err(_) => {
                let per_frame = counted.iter().flat_map(|(_, all)| all);
                let per_frame = per_frame.filter_map(|one| exact(one).err());
                let (least, most) = per_frame.fold((f64::INFINITY, 0f64), |(least, most), one| {
                    (least.min(one), most.max(one))
                });
                // The classes that the frames are of are not told; the sum may be rounded.
                const SLACK: f64 = 1e-9;
                let frames = frames as f64;
                let (least, most) = (
                    least * frames * (1.0 - SLACK),
                    most * frames * (1.0 + SLACK),
                );
                if (least..=most).contains(&found) {
                    return Ok(());
                }
                Err(Mismatch::WeightOfFrames { found, least, most })
            }
        }
    }
}

fn has_weight(one: &LeasedUtterance) -> bool {
    let (Weight::Exactly(weight) | Weight::PerFrame(weight)) = one.weight;
    weight > 0.0
}

#[cfg(test)]
mod tests {
    use proto::{
        contribution::{Quarantined, Unusable},
        tree::Node,
    };

    use super::*;

    fn utterance(place: u32, weight: Weight) -> LeasedUtterance {
        LeasedUtterance {
            place,
            weight,
            max_frames: 100,
            max_seconds: 1.0,
        }
    }

    /// Micro-batches 4 and 5, of two utterances each.
    fn micro_batches(weight: Weight) -> Vec<(u32, Vec<LeasedUtterance>)> {
        vec![
            (4, vec![utterance(10, weight), utterance(11, weight)]),
            (5, vec![utterance(12, weight), utterance(13, weight)]),
        ]
    }

    fn check(weight: Weight, norms: bool, contribution: &Contribution) -> Result<(), Mismatch> {
        let work = LeasedWork {
            node: Node::new(1, 2).unwrap(),
            micro_batches: &micro_batches(weight),
            norms,
        };
        work.check(contribution)
    }

    /// The honest answer where each utterance weighs 0.1.
    fn honest() -> Contribution {
        Contribution {
            sum: Some(vec![1.0]),
            weight: (0.1 + 0.1) + (0.1 + 0.1),
            loss: 3.0,
            utterances: 4,
            frames: 200,
            audio_seconds: 2.0,
            ..Contribution::default()
        }
    }

    fn leave_out(micro_batch: u32) -> Quarantined {
        Quarantined {
            micro_batch,
            utterances: Vec::new(),
            reason: String::new(),
        }
    }

    fn unusable(utterance: u32) -> Unusable {
        Unusable {
            utterance,
            reason: String::new(),
        }
    }

    #[test]
    fn an_honest_answer_fits_whatever_it_leaves_out_by_name() {
        let weight = Weight::Exactly(0.1);
        assert_eq!(check(weight, false, &honest()), Ok(()));
        let part = Contribution {
            weight: 0.1,
            utterances: 1,
            frames: 100,
            audio_seconds: 1.0,
            quarantined: vec![leave_out(4)],
            unusable: vec![unusable(10), unusable(13)],
            norms: vec![1.0],
            ..honest()
        };
        assert_eq!(check(weight, true, &part), Ok(()));
        let nothing = Contribution {
            quarantined: vec![leave_out(4), leave_out(5)],
            ..Contribution::default()
        };
        assert_eq!(check(weight, true, &nothing), Ok(()));
        let undecodable = Contribution {
            unusable: (10..14).map(unusable).collect(),
            ..Contribution::default()
        };
        assert_eq!(check(weight, true, &undecodable), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let weight = Weight::Exactly(0.1);
        let told = |change: &dyn Fn(&mut Contribution)| {
            let mut contribution = honest();
            change(&mut contribution);
            check(weight, false, &contribution).unwrap_err().to_string()
        };
        type Change<'a> = &'a dyn Fn(&mut Contribution);
        let cases: [(Change<'_>, &str); 16] = [
            (&|it| it.weight = 0.0, "`weight` is 0"),
            (&|it| it.weight = 1e308, "`weight` is 1"),
            (&|it| it.weight = 0.4 + 1e-12, "`weight` is 0.4"),
            (&|it| it.weight = f64::NAN, "`weight` is NaN"),
            (&|it| it.utterances = 5, "`utterances` is 5 where 4"),
            (&|it| it.utterances = 0, "`utterances` is 0 where 4"),
            (&|it| it.frames = u64::MAX, "from 4 to 400"),
            (&|it| it.frames = 3, "`frames` is 3"),
            (
                &|it| it.audio_seconds = 1e9,
                "`audio_seconds` is 1000000000",
            ),
            (&|it| it.norms = vec![1.0], "`norms` has 1"),
            (&|it| it.sum = None, "no vector"),
            (&|it| it.quarantined = vec![leave_out(6)], "micro-batch 6"),
            (
                &|it| it.quarantined = vec![leave_out(4), leave_out(4)],
                "named twice",
            ),
            (&|it| it.quarantined = vec![leave_out(4)], "4 where 2"),
            (&|it| it.unusable = vec![unusable(9)], "utterance 9"),
            (
                &|it| it.unusable = vec![unusable(10), unusable(10)],
                "named twice",
            ),
        ];
        for (change, said) in cases {
            let told = told(change);
            assert!(told.contains(said), "{told}");
        }
        let with_vector = Contribution {
            sum: Some(vec![0.0]),
            quarantined: vec![leave_out(4), leave_out(5)],
            ..Contribution::default()
        };
        assert_eq!(
            check(weight, false, &with_vector),
            Err(Mismatch::Superfluous)
        );
        let missing = check(weight, true, &honest());
        assert!(matches!(missing, Err(Mismatch::Norms { least: 2, .. })));
    }

    #[test]
    fn frames_weigh_what_they_are_many() {
        let weight = Weight::PerFrame(1.0);
        let right = Contribution {
            weight: 200.0,
            ..honest()
        };
        assert_eq!(check(weight, false, &right), Ok(()));
        for weight_said in [0.0, 199.0, 1e308, f64::NAN, f64::INFINITY] {
            let wrong = Contribution {
                weight: weight_said,
                ..honest()
            };
            let told = check(weight, false, &wrong);
            assert!(
                matches!(told, Err(Mismatch::WeightOfFrames { .. })),
                "{told:?}"
            );
        }
    }
}
