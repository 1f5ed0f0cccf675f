//! Error counts and confusions by hand and against jiwer.

use std::path::Path;

use proptest::prelude::*;

use super::*;

#[derive(Deserialize)]
struct Golden {
    reference: String,
    hypothesis: String,
    words: [u64; 3],
    characters: [u64; 3],
}

fn goldens() -> Vec<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/edits.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn counts(of: ErrorCounts) -> [u64; 3] {
    [of.substitutions, of.deletions, of.insertions]
}

#[test]
fn counts_are_those_of_jiwer() {
    let goldens = goldens();
    assert!(goldens.len() > 300);
    for golden in &goldens {
        let (reference, hypothesis) = (&golden.reference, &golden.hypothesis);
        let words = counts(word_errors(reference, hypothesis));
        assert_eq!(
            words, golden.words,
            "words of {reference:?} and {hypothesis:?}"
        );
        let characters = counts(char_errors(reference, hypothesis));
        assert_eq!(
            characters, golden.characters,
            "characters of {reference:?} and {hypothesis:?}"
        );
    }
}

/// The distance by its recursive definition.
fn distance(a: &[u8], b: &[u8]) -> u64 {
    match (a, b) {
        ([], rest) | (rest, []) => rest.len() as u64,
        ([x, a @ ..], [y, b @ ..]) if x == y => distance(a, b),
        ([_, shorter @ ..], [_, rest @ ..]) => {
            1 + distance(shorter, rest)
                .min(distance(shorter, b))
                .min(distance(a, rest))
        }
    }
}

proptest! {
    #[test]
    fn errors_are_the_least_number_of_edits(a in "[abc]{0,7}", b in "[abc]{0,7}") {
        let errors = char_errors(&a, &b);
        prop_assert_eq!(errors.errors(), distance(a.as_bytes(), b.as_bytes()));
        prop_assert_eq!(errors.reference, a.len() as u64);
        let lengths = a.len() as u64 + errors.insertions;
        prop_assert_eq!(lengths, b.len() as u64 + errors.deletions);
    }
}

#[test]
fn rates_are_over_the_whole_set_and_not_a_mean_of_rates() {
    let score = transcripts(&[("a", "b"), ("a b c d e f g h i", "a b c d e f g h i")]);
    assert_eq!((score.utterances, score.wer), (2, Some(0.1)));
    assert_eq!(score.cer, Some(1.0 / 18.0));
    assert_eq!(score.word_errors.map(counts), Some([1, 0, 0]));
    assert_eq!((score.accuracy, score.confusion), (None, None));
}

#[test]
fn an_empty_reference_adds_errors_and_no_words() {
    let score = transcripts(&[("", "uh huh"), ("yes no", "yes no")]);
    assert_eq!(score.wer, Some(1.0));
    assert_eq!(
        score.word_errors,
        Some(ErrorCounts {
            insertions: 2,
            reference: 2,
            ..ErrorCounts::default()
        })
    );
    let score = transcripts(&[("", "uh")]);
    assert_eq!((score.wer, score.cer), (None, None));
    assert!(
        score
            .to_string()
            .contains("undefined  1 of 0 words: 0 substituted, 0 deleted, 1 inserted")
    );
    assert_eq!(transcripts::<&str, &str>(&[]).wer, None);
}

#[test]
fn keywords_are_counted_by_class_and_strangers_do_no_harm() {
    let classes = ["no".to_owned(), "yes".to_owned()];
    let pairs = [
        ("no", "no"),
        ("no", "yes"),
        ("yes", "yes"),
        ("yes", "\u{fffd}"),
        ("perhaps", "no"),
    ];
    let score = keyword(&pairs, &classes);
    assert_eq!(
        (score.utterances, score.accuracy, score.wer),
        (5, Some(0.4), None)
    );
    let confusion = score.confusion.as_ref().unwrap();
    let counts = [("no", "no"), ("no", "yes"), ("yes", "no"), ("yes", "yes")];
    let counts = counts.map(|(reference, hypothesis)| confusion.count(reference, hypothesis));
    assert_eq!(counts, [1, 1, 0, 1]);
    let outside: Vec<_> = confusion.outside.iter().collect();
    assert_eq!(
        (outside, confusion.unknown),
        (vec![(&"yes".to_owned(), &1)], 1)
    );
    assert_eq!(confusion.commonest(5)[0].hypothesis, "yes");
    assert_eq!(confusion.mistakes(), [("no", "yes", 1)]);
    assert_eq!(
        score.to_string(),
        "5 utterances\n\
         accuracy    40.00 %\n\
         said  recognised as\n      \
               no  yes\n\
         no     1    1\n\
         yes    .    1\n\
         1 of yes recognised as none of the classes\n\
         1 utterances whose reference is none of the classes"
    );
    assert_eq!(keyword::<&str, &str>(&[], &[]).accuracy, None);
}

#[test]
fn many_classes_show_the_commonest_confusions() {
    let classes: Vec<String> = (0..40).map(|class| format!("word{class}")).collect();
    let pairs = [
        ("word3", "word5"),
        ("word1", "word2"),
        ("word3", "word5"),
        ("word4", "word4"),
    ];
    let text = keyword(&pairs, &classes).to_string();
    assert!(
        text.ends_with("utterances)\n  word3 -> word5: 2\n  word1 -> word2: 1"),
        "{text}"
    );
}

#[test]
fn confusions_take_as_much_room_as_there_are_utterances_and_classes() {
    let classes: Vec<String> = (0..10_000).map(|class| format!("word{class}")).collect();
    let of = |at: usize| classes[at * 7919 % classes.len()].as_str();
    let pairs: Vec<(&str, &str)> = (0..20_000).map(|at| (of(at), of(at + at % 2))).collect();
    let score = keyword(&pairs, &classes);
    let json = serde_json::to_string(&score).unwrap();
    assert!(json.len() < 1_000_000, "{} bytes", json.len());
    assert_eq!(serde_json::from_str::<Score>(&json).unwrap(), score);
    let confusion = score.confusion.unwrap();
    let counted: u64 = confusion
        .counts
        .values()
        .flat_map(|counts| counts.values())
        .sum();
    assert_eq!(counted, 20_000);
}

#[test]
fn a_score_is_json_without_what_it_lacks() {
    let score = transcripts(&[("a b", "a")]);
    let json = serde_json::to_string(&score).unwrap();
    assert_eq!(
        json,
        r#"{"utterances":1,"wer":0.5,"cer":0.6666666666666666,"word_errors":{"substitutions":0,"deletions":1,"insertions":0,"reference":2},"char_errors":{"substitutions":0,"deletions":2,"insertions":0,"reference":3}}"#
    );
    assert_eq!(serde_json::from_str::<Score>(&json).unwrap(), score);
    assert_eq!(
        score.to_string(),
        "1 utterances\n\
         WER         50.00 %  1 of 2 words: 0 substituted, 1 deleted, 0 inserted\n\
         CER         66.67 %  2 of 3 characters: 0 substituted, 2 deleted, 0 inserted"
    );
}
