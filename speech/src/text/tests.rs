//! Vocabularies of each kind, there and back.

use super::*;

#[test]
fn characters_are_sorted_behind_the_blank() {
    let vocabulary = Vocabulary::characters(["GO ON", "ÉGO", "𝄞"]).unwrap();
    assert_eq!(vocabulary.units, [" ", "G", "N", "O", "É", "𝄞"]);
    assert_eq!(vocabulary.outputs(), 7);
    let labels = vocabulary.encode("GO ÉON").unwrap();
    assert_eq!(labels, [2, 4, 1, 5, 4, 3]);
    assert_eq!(vocabulary.decode(&labels), "GO ÉON");
    assert_eq!(vocabulary.decode(&[0, 2, 0, 4]), "GO");
    assert_eq!(vocabulary.encode("").unwrap(), [0u32; 0]);
}

#[test]
fn classes_are_whole_transcripts_from_zero() {
    let vocabulary = Vocabulary::classes(["two", "one", "two", "new york"]).unwrap();
    assert_eq!(vocabulary.units, ["new york", "one", "two"]);
    assert_eq!(vocabulary.outputs(), 3);
    assert_eq!(vocabulary.encode("one").unwrap(), [1]);
    assert_eq!(vocabulary.decode(&[0]), "new york");
}

#[test]
fn what_a_vocabulary_lacks_is_listed_with_code_points() {
    let vocabulary = Vocabulary::characters(["ABC"]).unwrap();
    let message = vocabulary.encode("AéB\té").unwrap_err().to_string();
    assert!(
        message.contains("'\\t' (U+0009), 'é' (U+00E9)"),
        "{message}"
    );
    let message = Vocabulary::classes(["yes", "no"])
        .unwrap()
        .encode("maybe")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("\"maybe\" is none of the model's 2 classes (\"no\", \"yes\")"),
        "{message}"
    );
}

#[test]
fn a_label_out_of_range_is_shown_and_does_not_panic() {
    let vocabulary = Vocabulary::characters(["AB"]).unwrap();
    assert_eq!(
        vocabulary.decode(&[1, 3, u32::MAX, 2]),
        "A\u{fffd}\u{fffd}B"
    );
    assert_eq!(Vocabulary::classes(["a"]).unwrap().decode(&[1]), "\u{fffd}");
}

#[test]
fn nothing_to_say_is_an_error() {
    assert_eq!(Vocabulary::characters(["", ""]), Err(TextError::Empty));
    assert_eq!(Vocabulary::classes::<&str>([]), Err(TextError::Empty));
    assert_eq!(Vocabulary::classes(["", "a"]), Err(TextError::EmptyClass));
}

#[test]
fn a_written_vocabulary_is_checked_when_it_is_read() {
    let vocabulary = Vocabulary::characters(["BA"]).unwrap();
    let json = serde_json::to_string(&vocabulary).unwrap();
    assert_eq!(json, r#"{"kind":"characters","units":["A","B"]}"#);
    assert_eq!(
        serde_json::from_str::<Vocabulary>(&json).unwrap(),
        vocabulary
    );
    let error = |json: &str| {
        serde_json::from_str::<Vocabulary>(json)
            .unwrap_err()
            .to_string()
    };
    assert!(error(r#"{"kind":"characters","units":["B","A"]}"#).contains("out of order"));
    assert!(error(r#"{"kind":"characters","units":["A","A"]}"#).contains("repeats"));
    assert!(error(r#"{"kind":"characters","units":["AB"]}"#).contains("not one character"));
    assert!(error(r#"{"kind":"word","units":["AB"]}"#).contains("`word`"));
    assert!(
        error(r#"{"kind":"words","units":["AB"]}"#).contains("of words has \"AB\", which is none")
    );
    assert!(error(r#"{"kind":"words","units":[" AB"]}"#).contains("lacks \" <unk>\""));
    assert!(error(r#"{"kind":"bytepair","units":["B","A","A"]}"#).contains("repeats"));
    assert!(error(r#"{"kind":"bytepair","units":["A "]}"#).contains("of bytepair has \"A \""));
    assert!(error(r#"{"kind":"classes","units":["a"],"unit":1}"#).contains("`unit`"));
}

#[test]
fn byte_pairs_carry_their_spaces() {
    let texts = ["THE CAT", "THE THEME", "THE BAT SAT", "THE MAT"];
    let vocabulary = Vocabulary::bytepair(texts, 13).unwrap();
    assert_eq!(vocabulary.units.len(), 13);
    assert!(vocabulary.units.contains(&" THE".to_owned()));
    assert!(vocabulary.units.contains(&"AT".to_owned()));
    assert_eq!(vocabulary.outputs(), 14);
    for text in ["THE CAT", "THEME", "SMASH THE BACH", ""] {
        let labels = vocabulary.encode(text).unwrap();
        assert_eq!(vocabulary.decode(&labels), text);
        let pieces: String = labels
            .iter()
            .map(|&label| vocabulary.text_of(label))
            .collect();
        assert_eq!(pieces.trim_start(), text);
        assert!(labels.iter().all(|&label| (1..14).contains(&label)));
    }
    assert_eq!(vocabulary.encode("THE").unwrap().len(), 1);
    // Spaces are single between words, whatever was written.
    let labels = vocabulary.encode("  CAT   THE ").unwrap();
    assert_eq!(vocabulary.decode(&labels), "CAT THE");
    let message = vocabulary.encode("THE DOG").unwrap_err().to_string();
    assert!(
        message.contains("'D' (U+0044), 'G' (U+0047), 'O'"),
        "{message}"
    );
    let message = Vocabulary::bytepair(texts, 5).unwrap_err().to_string();
    assert!(
        message.contains("9 characters, and `text.size` is 5"),
        "{message}"
    );
    let json = serde_json::to_string(&vocabulary).unwrap();
    assert_eq!(
        serde_json::from_str::<Vocabulary>(&json).unwrap(),
        vocabulary
    );
}

#[test]
fn words_that_a_vocabulary_lacks_are_one_unit() {
    let texts = ["yes no", "no maybe", "no yes"];
    let vocabulary = Vocabulary::words(texts, 2).unwrap();
    assert_eq!(vocabulary.units, [" <unk>", " no", " yes"]);
    let labels = vocabulary.encode("no maybe yes").unwrap();
    assert_eq!(labels, [2, 1, 3]);
    assert_eq!(vocabulary.decode(&labels), "no <unk> yes");
    assert_eq!(vocabulary.decode(&[0, 0]), "");
    assert_eq!(Vocabulary::words(texts, 0).unwrap().outputs(), 5);
    assert_eq!(Vocabulary::words([" "], 0), Err(TextError::Empty));
    let json = serde_json::to_string(&vocabulary).unwrap();
    assert_eq!(
        serde_json::from_str::<Vocabulary>(&json).unwrap(),
        vocabulary
    );
}
