//! The decoder of a CTC model: CTC prefix beam search with shallow fusion, and the hypotheses that are made of
//! the label sequences it finds.

use std::{ops::Range, sync::Arc};

use super::{
    align,
    beam_search::{BeamWidth, FoundPrefix, PrefixBeamSearch},
    config::{DecodeConfig, DecodeError},
    greedy,
    shallow_fusion::ShallowFusion,
    words,
};
use crate::{
    hmm::sums::log_add,
    lexicon::Lexicon,
    lm::NgramModel,
    text::{UnitKind, Vocabulary},
};

/// A recognised word.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word as the model spells it.
    pub text: String,
    /// The frames of its labels in the most probable alignment: where they are recognised, which is
    /// within the word's sound. Empty where there is no alignment.
    pub frames: Range<usize>,
    /// From 0 to 1. By beam search: the share of the hypotheses in the final beam that have the word in
    /// its place, each weighed by its score. By greedy decoding: the mean probability of the word's
    /// labels, each where it is greatest.
    pub confidence: f64,
}

/// A transcript that the decoder proposes.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The transcript as the model spells it.
    pub text: String,
    /// The natural logarithm of its probability by the sound, and all that is added beside it.
    pub score: f64,
    /// The part of the sound alone.
    pub acoustic: f64,
    /// The words of the transcript, in order.
    pub words: Vec<Word>,
}

/// Decodes a CTC model's outputs.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecodeConfig,
    vocabulary: Vocabulary,
    pieces: Vec<String>,
    fusion: ShallowFusion,
}

impl Decoder {
    /// `model` and `lexicon` are what the configuration's weights are for; with a lexicon, none but its
    /// words come out.
    ///
    /// # Errors
    /// When the configuration is out of bounds, the vocabulary is of classes, or can say none of the
    /// lexicon's words. Single words of it that cannot be said never come out.
    pub fn new(
        config: &DecodeConfig,
        vocabulary: &Vocabulary,
        model: Option<Arc<NgramModel>>,
        lexicon: Option<&Lexicon>,
    ) -> Result<Self, DecodeError> {
        config.check()?;
        let pieces = pieces(vocabulary)?;
        if let Some(lexicon) = lexicon {
            check_spellings(lexicon, vocabulary)?;
        }
        Ok(Self {
            fusion: ShallowFusion::new(config, model, lexicon),
            config: config.clone(),
            vocabulary: vocabulary.clone(),
            pieces,
        })
    }

    /// The settings that the decoder was made with.
    pub const fn config(&self) -> &DecodeConfig {
        &self.config
    }

    /// The most probable hypotheses for `frames` rows of log-probabilities, the best first, and always
    /// at least one. Rows beyond are padding and are not read.
    pub fn decode(&self, log_probs: &[f32], frames: usize, classes: usize) -> Vec<Hypothesis> {
        let rows = rows(log_probs, frames, classes);
        let mut search = self.search();
        rows.chunks_exact(classes.max(1))
            .for_each(|row| search.push(row));
        self.conclude(search.found(), rows, classes)
    }

    /// A search that takes frames as they come.
    pub fn live(&self, classes: usize) -> LiveDecoder<'_> {
        LiveDecoder {
            decoder: self,
            search: self.search(),
            classes,
            rows: Vec::new(),
        }
    }

    fn search(&self) -> PrefixBeamSearch<'_> {
        let width = BeamWidth {
            beam: self.config.beam,
            label_range: self.config.label_range,
            beam_range: self.config.beam_range,
        };
        PrefixBeamSearch::new(&self.fusion, &self.pieces, width)
    }

    /// The n best of what was found, with the words' times and confidences.
    fn conclude(
        &self,
        mut found: Vec<FoundPrefix>,
        rows: &[f32],
        classes: usize,
    ) -> Vec<Hypothesis> {
        if found.iter().all(|found| found.fused.is_none()) {
            found = self.without_last_words(&found, rows, classes);
        }
        let texts = self.texts(found);
        // Scores are shares once their sum is one.
        let best = texts.first().map_or(0.0, |best| best.score);
        let weight = |text: &ScoredText| match (text.score - best).exp() {
            weight if weight.is_nan() => 1.0,
            weight => weight,
        };
        let sum: f64 = texts.iter().map(weight).sum();
        let split: Vec<Vec<(String, Range<usize>)>> = texts
            .iter()
            .map(|text| words::split(&text.labels, &self.pieces))
            .collect();
        let all: Vec<(Vec<&str>, f64)> = split
            .iter()
            .zip(&texts)
            .map(|(words, text)| {
                let words = words.iter().map(|(word, _)| word.as_str()).collect();
                (words, weight(text) / sum)
            })
            .collect();
        let kept = texts.iter().zip(&split).zip(&all).take(self.config.n_best);
        kept.map(|((text, words), (names, _))| {
            let sure = words::confidences(names, &all);
            let spans = align::spans(rows, classes, &text.labels);
            Hypothesis {
                text: text.text.clone(),
                score: text.score,
                acoustic: text.acoustic,
                words: words::timed(words.clone(), spans.as_deref(), &sure),
            }
        })
        .collect()
    }

    /// Sequences of other labels and the same text are one hypothesis, of the sum of their probabilities and of
    /// the best one's labels. The best first; of equal scores the lesser text.
    fn texts(&self, found: Vec<FoundPrefix>) -> Vec<ScoredText> {
        let mut texts: Vec<ScoredText> = found
            .into_iter()
            .filter_map(
                |FoundPrefix {
                     labels,
                     acoustic,
                     fused,
                 }| {
                    Some(ScoredText {
                        text: self.text(&labels),
                        score: acoustic + fused?,
                        acoustic,
                        labels,
                    })
                },
            )
            .collect();
        let order = |a: &ScoredText, b: &ScoredText| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| a.labels.cmp(&b.labels))
        };
        texts.sort_by(|a, b| a.text.cmp(&b.text).then_with(|| order(a, b)));
        texts.dedup_by(|other, kept| {
            let same = other.text == kept.text;
            if same {
                let sum = log_add(kept.acoustic, other.acoustic);
                kept.score += sum - kept.acoustic;
                kept.acoustic = sum;
            }
            same
        });
        texts.sort_by(order);
        texts
    }

    /// Where every hypothesis breaks off within a word of the lexicon: those without that word.
    fn without_last_words(
        &self,
        found: &[FoundPrefix],
        rows: &[f32],
        classes: usize,
    ) -> Vec<FoundPrefix> {
        // No words at all among them: that is always one way. Each only once, or its probability would count
        // more often than once.
        let mut cut: Vec<Vec<u32>> = vec![Vec::new()];
        for FoundPrefix { labels, .. } in found {
            let ended = labels
                .iter()
                .rposition(|&label| self.pieces[label as usize].starts_with(' '));
            let labels = labels[..ended.unwrap_or(0)].to_vec();
            if !cut.contains(&labels) {
                cut.push(labels);
            }
        }
        let found = cut.into_iter().map(|labels| {
            let mut fusion_state = Some(self.fusion.start());
            for (place, &label) in labels.iter().enumerate() {
                let piece = &self.pieces[label as usize];
                fusion_state =
                    fusion_state.and_then(|before| self.fusion.extend(&before, piece, place == 0));
            }
            FoundPrefix {
                acoustic: align::forward_score(rows, classes, &labels),
                fused: fusion_state.and_then(|fusion_state| self.fusion.finish(&fusion_state)),
                labels,
            }
        });
        found.collect()
    }

    fn text(&self, labels: &[u32]) -> String {
        if self.fusion.is_closed() {
            let words = words::split(labels, &self.pieces);
            return words
                .into_iter()
                .map(|(word, _)| word)
                .collect::<Vec<_>>()
                .join(" ");
        }
        self.vocabulary.decode(labels)
    }
}

/// A text and its best label sequence, before words get their times.
struct ScoredText {
    text: String,
    labels: Vec<u32>,
    score: f64,
    acoustic: f64,
}

/// A decoder that takes frames as they come in (streaming).
pub struct LiveDecoder<'a> {
    decoder: &'a Decoder,
    search: PrefixBeamSearch<'a>,
    classes: usize,
    /// What was taken, for the words' times.
    rows: Vec<f32>,
}

impl LiveDecoder<'_> {
    /// Takes more rows of log-probabilities.
    pub fn push(&mut self, rows: &[f32]) {
        rows.chunks_exact(self.classes.max(1))
            .for_each(|row| self.search.push(row));
        self.rows.extend_from_slice(rows);
    }

    /// How many frames were taken.
    pub fn frames(&self) -> usize {
        self.rows.len() / self.classes.max(1)
    }

    /// What is most probable so far; it may change yet.
    pub fn partial(&self) -> String {
        self.decoder.text(&self.search.best())
    }

    /// As [`Decoder::decode`] of all that was taken.
    pub fn finish(self) -> Vec<Hypothesis> {
        self.decoder
            .conclude(self.search.found(), &self.rows, self.classes)
    }
}

/// The best label of every frame as a hypothesis: what [`greedy`] gives, with times and confidences. Its
/// score is the best path's.
///
/// # Errors
/// When the vocabulary is of classes.
pub fn greedy_hypothesis(
    vocabulary: &Vocabulary,
    log_probs: &[f32],
    frames: usize,
    classes: usize,
) -> Result<Hypothesis, DecodeError> {
    let pieces = pieces(vocabulary)?;
    let rows = rows(log_probs, frames, classes);
    let labels = greedy(rows, frames, classes);
    let best = |row: &[f32]| f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let score = rows.chunks_exact(classes.max(1)).map(best).sum();
    let spans = align::spans(rows, classes, &labels);
    let words = words::split(&labels, &pieces);
    let sure: Vec<f64> = words
        .iter()
        .map(|(_, places)| {
            let peak = |place: usize| {
                let spans = spans.as_deref().unwrap_or_default();
                let frames = spans.get(place).cloned().unwrap_or(0..0);
                let label = labels[place] as usize;
                let logs = frames.map(|frame| rows[frame * classes + label]);
                f64::from(logs.fold(f32::NEG_INFINITY, f32::max)).exp()
            };
            places.clone().map(peak).sum::<f64>() / places.len() as f64
        })
        .collect();
    Ok(Hypothesis {
        text: vocabulary.decode(&labels),
        score,
        acoustic: score,
        words: words::timed(words, spans.as_deref(), &sure),
    })
}

fn rows(log_probs: &[f32], frames: usize, classes: usize) -> &[f32] {
    let whole = log_probs.len() - log_probs.len() % classes.max(1);
    &log_probs[..whole.min(frames * classes)]
}

/// The text of each label; the blank's is empty.
fn pieces(vocabulary: &Vocabulary) -> Result<Vec<String>, DecodeError> {
    if vocabulary.kind == UnitKind::Classes {
        return Err(DecodeError::Classes);
    }
    let labels = 0..vocabulary.outputs() as u32;
    Ok(labels
        .map(|label| vocabulary.text_of(label).to_owned())
        .collect())
}

/// Whether any word of the lexicon can come out.
fn check_spellings(lexicon: &Lexicon, vocabulary: &Vocabulary) -> Result<(), DecodeError> {
    const NAMED_WORDS: usize = 5;
    let words = lexicon.words();
    if words.is_empty() || words.iter().any(|word| vocabulary.can_say(word)) {
        return Ok(());
    }
    let first = words.iter().take(NAMED_WORDS);
    Err(DecodeError::Unspellable {
        count: words.len(),
        first: first.map(|word| format!("{word:?}")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_words_at_all_count_once() {
        // Labels: blank, space, A, B.
        let vocabulary = Vocabulary::characters(["A B"]).expect("characters");
        let lexicon = Lexicon::of_texts(["AB"]);
        let config = DecodeConfig::default();
        let decoder = Decoder::new(&config, &vocabulary, None, Some(&lexicon)).expect("fits");
        let rows: Vec<f32> = [0.5f32, 0.1, 0.3, 0.1].map(f32::ln).repeat(3);
        // The first breaks off within its first word, the second within its second.
        let found = [vec![2], vec![2, 3, 1, 2], vec![3], vec![]].map(|labels| FoundPrefix {
            labels,
            acoustic: -1.0,
            fused: None,
        });
        let cut = decoder.without_last_words(&found, &rows, 4);
        let labels: Vec<&[u32]> = cut.iter().map(|found| found.labels.as_slice()).collect();
        assert_eq!(labels, [&[][..], &[2, 3]]);
        // Three blanks: half of the probability each.
        let texts = decoder.texts(cut);
        let none = texts.iter().find(|it| it.text.is_empty());
        let acoustic = none.map(|it| it.acoustic).unwrap_or_default();
        assert!((acoustic - 0.125f64.ln()).abs() < 1e-6, "{acoustic}");
    }
}
