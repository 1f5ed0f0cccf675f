//! Who says what: the list of utterances of a synthetic corpus. It makes no sound.

use super::config::{SyntheticConfig, Task};
use super::digit::Digit;
use super::speaker::{Speaker, VoiceType};
use super::{CAST, SPEAKER, UTTERANCE, WORDS};
use crate::random::Stream;

/// The two parts of a corpus. They share no speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    Train,
    Valid,
}

impl Split {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
        }
    }
}

/// One utterance to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Take {
    pub part: Split,
    /// Its place within its part.
    pub index: usize,
    /// Training speakers come first, then those of validation.
    pub speaker: usize,
    pub words: Vec<Digit>,
}

impl Take {
    pub(super) fn id(&self) -> String {
        format!("{}-{:06}", self.part.name(), self.index)
    }

    /// The random numbers of this utterance alone, whoever makes it and when.
    pub(super) fn stream(&self, seed: u64) -> Stream {
        Stream::new(seed, &[UTTERANCE, self.part as u64, self.index as u64])
    }
}

/// The name of a speaker in manifests.
pub(super) fn speaker_name(number: usize) -> String {
    format!("synthetic-{number:04}")
}

/// The cast, by number.
pub(super) fn cast(config: &SyntheticConfig) -> Vec<Speaker> {
    (0..config.speakers + config.valid_speakers)
        .map(|number| {
            // Both parts begin with a man, so that even a few speakers are a mixed company.
            let place = number.checked_sub(config.speakers).unwrap_or(number);
            let mut stream = Stream::new(config.seed, &[SPEAKER, number as u64]);
            Speaker::draw(VoiceType::of(place as u64), &mut stream)
        })
        .collect()
}

/// All utterances, training first.
///
/// Speakers and digits are dealt like cards: every deck holds each once, is shuffled, and is used up
/// before the next. So counts differ by at most one.
pub(super) fn takes(config: &SyntheticConfig) -> Vec<Take> {
    let mut takes = Vec::with_capacity(config.train + config.valid);
    for (part, utterances, first, speakers) in [
        (Split::Train, config.train, 0, config.speakers),
        (
            Split::Valid,
            config.valid,
            config.speakers,
            config.valid_speakers,
        ),
    ] {
        let mut cast = Deck::new(speakers, [CAST, part as u64], config.seed);
        let mut digits = Deck::new(10, [WORDS, part as u64], config.seed);
        for index in 0..utterances {
            let speaker = first + cast.deal(index);
            let words = match config.task {
                Task::Digits => Digit::new(digits.deal(index) as u64).into_iter().collect(),
                Task::DigitStrings => {
                    let tags = [WORDS, part as u64, index as u64];
                    string(config, &mut Stream::new(config.seed, &tags))
                }
            };
            takes.push(Take {
                part,
                index,
                speaker,
                words,
            });
        }
    }
    takes
}

fn string(config: &SyntheticConfig, stream: &mut Stream) -> Vec<Digit> {
    let choices = (config.max_digits - config.min_digits + 1) as u64;
    let length = config.min_digits as u64 + stream.below(choices);
    (0..length)
        .filter_map(|_| Digit::new(stream.below(10)))
        .collect()
}

/// Cards `0..size`, shuffled anew each time round.
struct Deck {
    cards: Vec<usize>,
    tags: [u64; 2],
    seed: u64,
}

impl Deck {
    fn new(size: usize, tags: [u64; 2], seed: u64) -> Self {
        Self {
            cards: (0..size).collect(),
            tags,
            seed,
        }
    }

    /// The card at `index`; to be asked for in order.
    fn deal(&mut self, index: usize) -> usize {
        let (round, place) = (index / self.cards.len(), index % self.cards.len());
        if place == 0 {
            let [kind, part] = self.tags;
            Stream::new(self.seed, &[kind, part, round as u64]).shuffle(&mut self.cards);
        }
        self.cards[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn classes_and_speakers_are_balanced_within_each_part() {
        let config = SyntheticConfig {
            train: 203,
            valid: 57,
            speakers: 7,
            valid_speakers: 3,
            ..SyntheticConfig::default()
        };
        for part in [Split::Train, Split::Valid] {
            let mut digits = BTreeMap::new();
            let mut speakers = BTreeMap::new();
            for take in takes(&config).iter().filter(|take| take.part == part) {
                *digits.entry(take.words[0]).or_insert(0) += 1;
                *speakers.entry(take.speaker).or_insert(0) += 1;
            }
            assert_eq!(digits.len(), 10);
            for counts in [
                digits.into_values().collect::<Vec<_>>(),
                speakers.into_values().collect(),
            ] {
                let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(high - low <= 1, "{counts:?}");
            }
        }
    }

    #[test]
    fn speakers_of_validation_never_occur_in_training() {
        let config = SyntheticConfig::default();
        let of = |part| -> BTreeSet<usize> {
            let takes = takes(&config);
            takes
                .iter()
                .filter(|take| take.part == part)
                .map(|take| take.speaker)
                .collect()
        };
        let (train, valid) = (of(Split::Train), of(Split::Valid));
        assert_eq!((train.len(), valid.len()), (40, 10));
        assert!(train.is_disjoint(&valid));
    }

    #[test]
    fn strings_have_every_allowed_length_and_no_other() {
        let config = SyntheticConfig {
            task: Task::DigitStrings,
            min_digits: 2,
            max_digits: 5,
            ..SyntheticConfig::default()
        };
        let lengths: BTreeSet<usize> = takes(&config).iter().map(|take| take.words.len()).collect();
        assert_eq!(lengths, BTreeSet::from([2, 3, 4, 5]));
    }

    #[test]
    fn a_larger_corpus_begins_with_the_smaller_one() {
        let small = SyntheticConfig::default();
        let large = SyntheticConfig {
            train: 3000,
            ..small.clone()
        };
        assert_eq!(takes(&small)[..1500], takes(&large)[..1500]);
    }
}
