//! Beam search against brute force: every label sequence of few frames, by itself and with all that is
//! known beside the sound; and what is promised of hypotheses.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{align, *};
use crate::{lexicon::Lexicon, lm::NgramModel, random::Stream, text::Vocabulary};

const ARPA: &str = "\\data\\\nngram 1=6\nngram 2=5\n\n\\1-grams:\n-1.2\t<unk>\n-99\t<s>\t-0.3\n-0.9\t</s>\n\
-0.6\tA\t-0.2\n-0.8\tAB\t-0.4\n-1.1\tB\t-0.1\n\n\\2-grams:\n-0.2\t<s> A\n-0.3\tA B\n-0.5\tA </s>\n-0.4\tAB A\n-0.7\tB AB\n\n\\end\\\n";

fn model() -> Arc<NgramModel> {
    Arc::new(NgramModel::read_from(ARPA.as_bytes(), Path::new("toy.arpa")).unwrap())
}

/// Labels: blank, space, A, B.
fn letters() -> Vocabulary {
    Vocabulary::characters(["A B"]).unwrap()
}

/// Nothing is pruned.
fn whole() -> DecodeConfig {
    DecodeConfig {
        beam: 4096,
        n_best: 4096,
        label_range: 1000.0,
        beam_range: 1000.0,
        ..DecodeConfig::default()
    }
}

/// Log-probabilities `[frames, classes]`, the sharper the more certain.
fn drawn(seed: u64, frames: usize, classes: usize, sharpness: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, &[frames as u64, classes as u64]);
    let mut rows = Vec::new();
    for _ in 0..frames {
        let logits: Vec<f64> = (0..classes)
            .map(|_| stream.between(-sharpness, sharpness))
            .collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        rows.extend(logits.iter().map(|logit| (logit - sum.ln()) as f32));
    }
    rows
}

/// The probability of every label sequence, by going through every path.
fn probabilities(rows: &[f32], frames: usize, classes: usize) -> BTreeMap<Vec<u32>, f64> {
    let mut probabilities = BTreeMap::new();
    for code in 0..classes.pow(frames as u32) {
        let path: Vec<usize> = (0..frames)
            .map(|at| code / classes.pow(at as u32) % classes)
            .collect();
        let log: f64 = path
            .iter()
            .enumerate()
            .map(|(at, &label)| f64::from(rows[at * classes + label]))
            .sum();
        let mut labels = Vec::new();
        let mut before = 0;
        for &label in &path {
            if label != before && label != 0 {
                labels.push(label as u32);
            }
            before = label;
        }
        *probabilities.entry(labels).or_insert(0.0) += log.exp();
    }
    probabilities
}

/// What is added to a text beside the sound, by its definition.
fn beside(config: &DecodeConfig, model: Option<&NgramModel>, text: &str) -> f64 {
    let mut sum = 0.0;
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    if let Some(model) = model {
        let mut state = model.begin();
        for word in &words {
            let known = model.find(word);
            let (log, next) = model.score(state, known.unwrap_or(0));
            sum += config.lm_weight * log * 10f64.ln();
            if known.is_none() {
                sum -= config.unknown_penalty;
            }
            state = next;
        }
        sum += config.lm_weight * model.end(state) * 10f64.ln();
    }
    for hot in &config.hot_words {
        let hot: Vec<&str> = hot.split(' ').collect();
        let times = words
            .windows(hot.len())
            .filter(|window| **window == hot[..])
            .count();
        sum += times as f64 * config.hot_boost;
    }
    sum + config.word_bonus * words.len() as f64
}

fn close(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < 1e-6 || found == wanted
}

/// Compares all hypotheses with brute force.
fn check(
    config: &DecodeConfig,
    model: Option<Arc<NgramModel>>,
    lexicon: Option<&Lexicon>,
    seed: u64,
) {
    let vocabulary = letters();
    let decoder = Decoder::new(config, &vocabulary, model.clone(), lexicon).unwrap();
    let frames = 1 + (seed % 6) as usize;
    let rows = drawn(seed, frames, 4, 2.0);
    let mut texts: BTreeMap<String, f64> = BTreeMap::new();
    for (labels, probability) in probabilities(&rows, frames, 4) {
        let text = vocabulary.decode(&labels);
        // A closed lexicon has its words one space apart, and perhaps one behind.
        let (text, is_said) = match lexicon {
            None => (text.as_str(), true),
            Some(lexicon) => {
                let words = text.strip_suffix(' ').unwrap_or(&text);
                let known = |word| lexicon.words().iter().any(|one| one == word);
                (words, text.is_empty() || words.split(' ').all(known))
            }
        };
        if is_said {
            *texts.entry(text.to_owned()).or_insert(0.0) += probability;
        }
    }
    let mut wanted: Vec<(String, f64)> = texts
        .into_iter()
        .map(|(text, probability)| (text, probability.ln()))
        .map(|(text, log)| {
            let score = log + beside(config, model.as_deref(), &text);
            (text, score)
        })
        .collect();
    wanted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let found = decoder.decode(&rows, frames, 4);
    assert_eq!(found.len(), wanted.len(), "seed {seed}");
    for (found, (text, score)) in found.iter().zip(&wanted) {
        assert!(
            close(found.score, *score),
            "seed {seed}: {found:?}, wanted {text:?} {score}"
        );
        assert_eq!(&found.text, text, "seed {seed}");
    }
}

#[test]
fn without_pruning_every_hypothesis_has_its_exact_score() {
    let config = DecodeConfig {
        word_bonus: 0.0,
        ..whole()
    };
    for seed in 0..24 {
        check(&config, None, None, seed);
    }
}

#[test]
fn a_language_model_is_asked_at_ends_of_words_and_of_the_utterance() {
    let config = DecodeConfig {
        lm_weight: 0.7,
        word_bonus: 0.3,
        unknown_penalty: 1.5,
        ..whole()
    };
    for seed in 0..24 {
        check(&config, Some(model()), None, seed);
    }
}

#[test]
fn a_lexicon_lets_none_but_its_words_out() {
    let lexicon = Lexicon::of_texts(["A", "AB", "BBA"]);
    for seed in 0..24 {
        check(&whole(), None, Some(&lexicon), seed);
        check(&whole(), Some(model()), Some(&lexicon), seed);
    }
}

#[test]
fn hot_words_gain_when_they_are_whole_and_nothing_before() {
    let config = DecodeConfig {
        hot_words: vec!["AB".to_owned(), "A B".to_owned()],
        hot_boost: 2.0,
        ..whole()
    };
    for seed in 0..24 {
        check(&config, None, None, seed);
        check(&config, Some(model()), None, seed);
    }
}

#[test]
fn a_narrow_beam_finds_the_words_of_peaked_outputs() {
    let vocabulary = letters();
    let config = DecodeConfig {
        beam: 8,
        ..DecodeConfig::default()
    };
    let decoder = Decoder::new(&config, &vocabulary, Some(model()), None).unwrap();
    let exact = Decoder::new(&whole(), &vocabulary, Some(model()), None).unwrap();
    for seed in 0..40 {
        let rows = drawn(seed, 6, 4, 5.0);
        // A space more at an end is another label sequence and the same words.
        let words = |decoder: &Decoder| {
            let text = decoder.decode(&rows, 6, 4).remove(0).text;
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&decoder), words(&exact), "{seed}");
    }
}

#[test]
fn a_beam_of_one_is_greedy_where_every_frame_is_sure() {
    let vocabulary = letters();
    let config = DecodeConfig {
        beam: 1,
        word_bonus: 0.0,
        ..DecodeConfig::default()
    };
    let decoder = Decoder::new(&config, &vocabulary, None, None).unwrap();
    for seed in 0..200 {
        let mut stream = Stream::new(seed, &[1]);
        let path: Vec<usize> = (0..30).map(|_| stream.below(4) as usize).collect();
        let mut rows = vec![0.03f32.ln(); 30 * 4];
        for (frame, &label) in path.iter().enumerate() {
            rows[frame * 4 + label] = 0.91f32.ln();
        }
        let found = decoder.decode(&rows, 30, 4);
        assert_eq!(
            found[0].text,
            vocabulary.decode(&greedy(&rows, 30, 4)),
            "{seed}"
        );
    }
}

#[test]
fn the_forward_score_is_the_sum_of_all_paths() {
    for seed in 0..6 {
        let rows = drawn(seed, 5, 3, 2.0);
        for (labels, probability) in probabilities(&rows, 5, 3) {
            let found = align::forward_score(&rows, 3, &labels);
            assert!(
                (found - probability.ln()).abs() < 1e-9,
                "{labels:?}: {found} {}",
                probability.ln()
            );
        }
    }
}

#[test]
fn words_have_times_and_shares_of_the_final_beam() {
    let path = [0, 2, 3, 3, 0, 1, 0, 2, 0, 0];
    let mut rows = vec![0.01f32.ln(); path.len() * 4];
    for (frame, &label) in path.iter().enumerate() {
        rows[frame * 4 + label] = 0.97f32.ln();
    }
    // The last word may be B as well.
    rows[7 * 4 + 3] = 0.45f32.ln();
    rows[7 * 4 + 2] = 0.5f32.ln();
    let config = DecodeConfig {
        n_best: 2,
        ..DecodeConfig::default()
    };
    let decoder = Decoder::new(&config, &letters(), None, None).unwrap();
    let found = decoder.decode(&rows, path.len(), 4);
    assert_eq!([&found[0].text, &found[1].text], ["AB A", "AB B"]);
    let words = &found[0].words;
    assert_eq!(
        [words[0].frames.clone(), words[1].frames.clone()],
        [1..4, 7..8]
    );
    assert!(words[0].confidence > 0.9, "{words:?}");
    assert!((0.3..0.7).contains(&words[1].confidence), "{words:?}");
    let sure = greedy_hypothesis(&letters(), &rows, path.len(), 4).unwrap();
    assert_eq!(
        (sure.text.as_str(), sure.words[1].frames.clone()),
        ("AB A", 7..8)
    );
    assert!((sure.words[0].confidence - 0.97).abs() < 1e-6, "{sure:?}");
    assert!((sure.words[1].confidence - 0.5).abs() < 1e-6, "{sure:?}");
}

#[test]
fn a_word_that_breaks_off_is_left_out_where_there_is_no_other_way() {
    // AB is certain, and the lexicon has only AB B and longer words.
    let mut rows = vec![-30.0f32; 2 * 4];
    rows[2] = 0.0;
    rows[4 + 3] = 0.0;
    let lexicon = Lexicon::of_texts(["ABA", "BBB"]);
    let decoder = Decoder::new(&DecodeConfig::default(), &letters(), None, Some(&lexicon)).unwrap();
    let found = decoder.decode(&rows, 2, 4);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].text.as_str(), found[0].words.len()), ("", 0));
}

#[test]
fn nothing_heard_is_an_empty_hypothesis() {
    let lexicon = Lexicon::of_texts(["A"]);
    for lexicon in [None, Some(&lexicon)] {
        let decoder =
            Decoder::new(&DecodeConfig::default(), &letters(), Some(model()), lexicon).unwrap();
        assert_eq!(decoder.decode(&[], 0, 4)[0].text, "");
        assert_eq!(decoder.decode(&[f32::NAN; 8], 2, 4)[0].text, "");
        assert_eq!(decoder.decode(&[f32::NEG_INFINITY; 8], 2, 4)[0].text, "");
    }
    assert_eq!(
        greedy_hypothesis(&letters(), &[f32::NAN; 8], 2, 4)
            .unwrap()
            .text,
        ""
    );
}

#[test]
fn frames_that_come_bit_by_bit_give_the_same() {
    let decoder = Decoder::new(&DecodeConfig::default(), &letters(), Some(model()), None).unwrap();
    let rows = drawn(3, 40, 4, 4.0);
    let mut live = decoder.live(4);
    for rows in rows.chunks(3 * 4) {
        live.push(rows);
    }
    assert_eq!(live.frames(), 40);
    assert!(!live.partial().is_empty());
    assert_eq!(live.finish(), decoder.decode(&rows, 40, 4));
}

#[test]
fn a_decoder_that_cannot_be_is_refused() {
    let classes = Vocabulary::classes(["a", "b"]).unwrap();
    let refused = |vocabulary: &Vocabulary, lexicon: Option<&Lexicon>| {
        Decoder::new(&DecodeConfig::default(), vocabulary, None, lexicon).unwrap_err()
    };
    assert_eq!(refused(&classes, None), DecodeError::Classes);
    let lexicon = Lexicon::of_texts(["CAB", "CAR"]);
    let message = refused(&letters(), Some(&lexicon)).to_string();
    assert!(
        message.starts_with("none of the lexicon's 2 words can be said"),
        "{message}"
    );
    assert!(message.contains("\"CAB\""), "{message}");
    // A word that cannot be said never comes out, and the others do.
    let lexicon = Lexicon::of_texts(["AB", "CAB"]);
    let config = DecodeConfig::default();
    let decoder = Decoder::new(&config, &letters(), None, Some(&lexicon)).unwrap();
    let rows = rows(&[0, 2, 3], 4);
    assert_eq!(decoder.decode(&rows, 3, 4)[0].text, "AB");
}

/// One row a label, the label's own score the greatest.
fn rows(path: &[usize], classes: usize) -> Vec<f32> {
    let mut scores = vec![-9.0; path.len() * classes];
    for (frame, &label) in path.iter().enumerate() {
        scores[frame * classes + label] = -0.1;
    }
    scores
}

#[test]
fn repeats_collapse_and_a_blank_between_them_keeps_both() {
    let path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3];
    assert_eq!(greedy(&rows(&path, 4), path.len(), 4), [1, 1, 2, 3]);
}

#[test]
fn padding_rows_are_not_read() {
    let path = [1, 0, 2, 3, 3];
    assert_eq!(greedy(&rows(&path, 4), 3, 4), [1, 2]);
    assert_eq!(greedy(&rows(&path, 4), 0, 4), [0u32; 0]);
}

#[test]
fn ties_go_to_the_lowest_label_and_nan_never_wins() {
    assert_eq!(argmax(&[-1.0, -0.5, -0.5]), 1);
    assert_eq!(argmax(&[f32::NAN, -3.0, f32::NAN]), 1);
    assert_eq!(argmax(&[f32::NAN, f32::NAN]), 0);
    assert_eq!(greedy(&[f32::NAN; 6], 2, 3), [0u32; 0]);
}

#[test]
fn what_greedy_gives_fits_the_frames_it_came_from() {
    for code in 0..3usize.pow(6) {
        let path: Vec<usize> = (0..6).map(|at| code / 3usize.pow(at) % 3).collect();
        let labels = greedy(&rows(&path, 3), 6, 3);
        assert!(
            ctc_required_frames(&labels) <= 6,
            "{path:?} gave {labels:?}"
        );
    }
    assert_eq!(ctc_required_frames(&[]), 0);
    assert_eq!(ctc_required_frames(&[1, 2, 2, 2, 1]), 7);
}
