//! Where the words of a synthetic corpus begin and end: what alignments can be measured against. It makes no sound.

use super::{SynthError, config::SyntheticConfig, plan, recording::RecordingConditions, track};

/// A word in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct SpokenWord {
    /// The digit's word.
    pub word: &'static str,
    /// Seconds from the beginning of the recording to that of the word's first sound.
    pub start: f64,
    /// Seconds to the end of its last sound.
    pub end: f64,
}

/// An utterance of a synthetic corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct UtteranceWords {
    /// Its id in the manifest.
    pub id: String,
    /// What is said in it, in order.
    pub words: Vec<SpokenWord>,
}

/// The words of the corpus that [`generate`](super::generate) makes of a configuration: of the training part and of the
/// validation part, each in the manifest's order.
///
/// # Errors
/// When the configuration cannot be.
pub fn word_times(
    config: &SyntheticConfig,
) -> Result<(Vec<UtteranceWords>, Vec<UtteranceWords>), SynthError> {
    config.validate()?;
    let cast = plan::cast(config);
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for take in plan::takes(config) {
        // In the order in which the recording is made: what is drawn first comes first.
        let mut stream = take.stream(config.seed);
        let recording = RecordingConditions::draw(config.snr_db, &mut stream);
        let before = recording.silence[0];
        let times = track::word_times(&take.words, &cast[take.speaker], &mut stream);
        let words = take.words.iter().zip(times);
        let utterance = UtteranceWords {
            id: take.id(),
            words: words
                .map(|(digit, times)| SpokenWord {
                    word: digit.word(),
                    start: before + times.start,
                    end: before + times.end,
                })
                .collect(),
        };
        match take.part {
            plan::Split::Train => train.push(utterance),
            plan::Split::Valid => valid.push(utterance),
        }
    }
    Ok((train, valid))
}
