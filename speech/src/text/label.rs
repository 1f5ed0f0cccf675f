//! The name of a keyword's class: a transcript without what nobody sees in it.

use unicode_normalization::UnicodeNormalization as _;

/// Characters of no width that editors and web pages leave in text, and that are no part of any word.
const INVISIBLE: [char; 2] = ['\u{200b}', '\u{feff}'];

/// `text` in Unicode's composed form (NFC), without white space around it and with one space for white space
/// within: texts that differ in nothing else are one class.
pub fn class_label(text: &str) -> String {
    let composed: String = text.nfc().filter(|c| !INVISIBLE.contains(c)).collect();
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_one_class() {
        for text in [
            "seven",
            "seven ",
            "\tseven\r\n",
            "\u{feff}seven",
            "seven\u{a0}",
        ] {
            assert_eq!(class_label(text), "seven");
        }
        assert_eq!(class_label("turn \u{2003} on"), "turn on");
        assert_eq!(class_label("cafe\u{301}"), "caf\u{e9}");
        for text in ["Seven", "turn on", "می\u{200c}خواهم", "a\u{200d}b"] {
            assert_eq!(class_label(text), text);
        }
        assert_eq!(class_label(" \u{200b}"), "");
    }
}
