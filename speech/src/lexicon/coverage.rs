//! How a lexicon of pronunciations fits transcripts: words that it lacks, phones that nothing trains, utterances that are
//! too short for their phones, words that sound alike, and lines that say nothing new.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::pronunciations::{DuplicateLine, Homophones, LexiconFormat, Pronunciations};
use crate::hmm::{PhoneStates, PhoneTopology, TranscriptGraph};

/// Seconds from a frame to the next, and of a frame: what recognisers with pronunciations use.
const FRAME_SHIFT: f64 = 0.01;
const FRAME_LENGTH: f64 = 0.025;

/// A word of the transcripts that the lexicon lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingWord {
    /// The word.
    pub word: String,
    /// How often it occurs.
    pub count: u64,
    /// The first utterance that has it.
    pub utterance: String,
    /// A word of the lexicon that differs in its case alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_case: Option<String>,
}

/// A phone that stands in one line of the lexicon alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RarePhone {
    /// The phone.
    pub phone: String,
    /// The line, from 1.
    pub line: u64,
}

/// An utterance with fewer frames than its phones have states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShortUtterance {
    /// The utterance's id.
    pub utterance: String,
    /// Its frames of 25 ms, every 10 ms.
    pub frames: usize,
    /// The frames of its shortest pronunciation, with three states a phone.
    pub needed: usize,
}

/// What is looked at of an utterance.
#[derive(Clone, Copy, Debug)]
pub struct SpokenTranscript<'a> {
    /// The utterance's id.
    pub id: &'a str,
    /// Words, which white space separates.
    pub text: &'a str,
    /// The utterance's length.
    pub seconds: f64,
}

/// How a lexicon fits transcripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// How the lexicon is written.
    pub format: LexiconFormat,
    /// Words of the lexicon.
    pub lexicon_words: usize,
    /// Their pronunciations.
    pub pronunciations: usize,
    /// The phones, sorted.
    pub phones: Vec<String>,
    /// Utterances whose transcripts were looked at.
    pub utterances: u64,
    /// Words of the transcripts.
    pub words: u64,
    /// Distinct words of the transcripts.
    pub distinct_words: usize,
    /// Words without pronunciation, the most frequent first.
    pub missing: Vec<MissingWord>,
    /// Phones that no pronunciation of a word of the transcripts has, so that nothing trains them.
    pub unseen_phones: Vec<String>,
    /// Phones that stand in one line alone, which are often mistyped ones.
    pub rare_phones: Vec<RarePhone>,
    /// Utterances that are too short for their phones, so that a model of three states a phone cannot be trained on
    /// them.
    pub too_short: Vec<ShortUtterance>,
    /// Words that are pronounced alike.
    pub homophones: Vec<Homophones>,
    /// Lines that say what an earlier one has said.
    pub duplicates: Vec<DuplicateLine>,
}

impl Coverage {
    /// What the lexicon has for these utterances.
    pub fn of<'a>(
        lexicon: &Pronunciations,
        transcripts: impl IntoIterator<Item = SpokenTranscript<'a>>,
    ) -> Self {
        let (mut utterances, mut words) = (0, 0);
        let mut said: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        let mut too_short = Vec::new();
        let states = PhoneStates::new(PhoneTopology::default(), lexicon.phones().len()).ok();
        for one in transcripts {
            utterances += 1;
            for word in one.text.split_whitespace() {
                words += 1;
                said.entry(word).or_insert((0, one.id)).0 += 1;
            }
            let states = states.as_ref();
            too_short.extend(states.and_then(|states| short(lexicon, states, one)));
        }
        let lacks = |word: &&str| lexicon.of_word(word).is_empty();
        // Folding the case of a large lexicon takes a while, and is seldom needed.
        let folded: BTreeMap<String, &str> = if said.keys().any(lacks) {
            let words = lexicon.words().map(|word| (word.to_lowercase(), word));
            words.collect()
        } else {
            BTreeMap::new()
        };
        let mut missing: Vec<MissingWord> = said
            .iter()
            .filter(|(word, _)| lacks(word))
            .map(|(&word, &(count, utterance))| MissingWord {
                word: word.to_owned(),
                count,
                utterance: utterance.to_owned(),
                other_case: folded.get(&word.to_lowercase()).map(|&it| it.to_owned()),
            })
            .collect();
        // Stable: words that occur as often stay sorted.
        missing.sort_by_key(|one| std::cmp::Reverse(one.count));
        let spoken = said.keys().flat_map(|word| lexicon.of_word(word));
        let seen: BTreeSet<u32> = spoken.flat_map(|one| one.phones.iter().copied()).collect();
        let unseen = (0..).zip(lexicon.phones());
        let unseen = unseen.filter(|(number, _)| !seen.contains(number));
        Self {
            format: lexicon.format(),
            lexicon_words: lexicon.words().len(),
            pronunciations: lexicon.count(),
            phones: lexicon.phones().to_vec(),
            utterances,
            words,
            distinct_words: said.len(),
            missing,
            unseen_phones: unseen.map(|(_, phone)| phone.clone()).collect(),
            rare_phones: lexicon
                .rare_phones()
                .into_iter()
                .map(|(phone, line)| RarePhone {
                    phone: phone.to_owned(),
                    line,
                })
                .collect(),
            too_short,
            homophones: lexicon.homophones(),
            duplicates: lexicon.duplicates().to_vec(),
        }
    }
}

/// The utterance, if it is too short for its phones; not where a word has no pronunciation.
fn short(
    lexicon: &Pronunciations,
    states: &PhoneStates,
    one: SpokenTranscript,
) -> Option<ShortUtterance> {
    let transcript = TranscriptGraph::new(one.text, lexicon, states).ok()?;
    let needed = transcript.graph.least_frames()?;
    // The cast saturates.
    let frames = ((one.seconds - FRAME_LENGTH) / FRAME_SHIFT + 1.0 + 1e-9).floor() as usize;
    (frames < needed).then(|| ShortUtterance {
        utterance: one.id.to_owned(),
        frames,
        needed,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn words_without_pronunciation_and_phones_without_words_are_counted() {
        let text = "GO G OW\nON AA N\nZOO Z UW\nGO G OW\n";
        let lexicon = Pronunciations::parse(text.as_bytes(), Path::new("a.dic")).unwrap();
        let transcript = |id, text, seconds| SpokenTranscript { id, text, seconds };
        let transcripts = [
            transcript("u1", "GO on STOP", 0.01),
            transcript("u2", "STOP  GO\tSTOP up", 0.01),
            transcript("u3", "", 1.0),
            // Six states need six frames.
            transcript("u4", "GO", 0.074),
            transcript("u5", "GO", 0.075),
        ];
        let found = Coverage::of(&lexicon, transcripts);
        let missing = |word: &str, count, utterance: &str, other: Option<&str>| MissingWord {
            word: word.to_owned(),
            count,
            utterance: utterance.to_owned(),
            other_case: other.map(str::to_owned),
        };
        assert_eq!(
            found.missing,
            [
                missing("STOP", 3, "u1", None),
                missing("on", 1, "u1", Some("ON")),
                missing("up", 1, "u2", None)
            ]
        );
        assert_eq!(
            (found.utterances, found.words, found.distinct_words),
            (5, 9, 4)
        );
        assert_eq!(found.unseen_phones, ["AA", "N", "UW", "Z"]);
        assert_eq!(found.duplicates.len(), 1);
        let short = ShortUtterance {
            utterance: "u4".to_owned(),
            frames: 5,
            needed: 6,
        };
        assert_eq!(found.too_short, [short]);
        assert_eq!(found.rare_phones.len(), 6);
    }
}
