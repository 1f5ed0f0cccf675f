//! The words of a sentence as language models count them, and the marks that stand around it in some
//! texts and files.

use super::{BEGIN_WORD, END_WORD, UNKNOWN_WORD};
use crate::text_file::BYTE_ORDER_MARK;

/// The word, or the mark that it is another way to write: capitals are usual (`<S>`, `</S>`, `<UNK>`).
pub(super) fn canonical(word: &str) -> &str {
    [UNKNOWN_WORD, BEGIN_WORD, END_WORD]
        .into_iter()
        .find(|mark| mark.eq_ignore_ascii_case(word))
        .unwrap_or(word)
}

/// Whether language models keep `word` for themselves.
pub fn is_mark(word: &str) -> bool {
    [UNKNOWN_WORD, BEGIN_WORD, END_WORD].contains(&canonical(word))
}

/// The words of a sentence: what white space separates. A mark of its beginning before them and one of
/// its end behind them are left out, and so is a byte order mark.
pub fn sentence_words(sentence: &str) -> impl Iterator<Item = &str> + Clone {
    let is = |word: &str, mark: &str| word.eq_ignore_ascii_case(mark);
    let mut rest = sentence.trim_start_matches(BYTE_ORDER_MARK).trim();
    let first = rest.split_whitespace().next().unwrap_or_default();
    if is(first, BEGIN_WORD) {
        rest = &rest[first.len()..];
    }
    let last = rest.split_whitespace().next_back().unwrap_or_default();
    if is(last, END_WORD) {
        rest = &rest[..rest.trim_end().len() - last.len()];
    }
    rest.split_whitespace()
}

/// The first word of a sentence that language models keep for themselves.
pub fn reserved_word(sentence: &str) -> Option<&str> {
    sentence_words(sentence).find(|word| is_mark(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_around_a_sentence_are_none_of_its_words() {
        let found = |sentence| sentence_words(sentence).collect::<Vec<_>>();
        for sentence in ["a b", "<s> a b </s>", "\u{feff}<S>  a b", " a b </S> "] {
            assert_eq!(found(sentence), ["a", "b"], "{sentence:?}");
        }
        assert_eq!(found("<s> </s>"), [""; 0]);
        assert_eq!(found("<s>"), [""; 0]);
        assert_eq!(reserved_word("<s> a </s>"), None);
        assert_eq!(reserved_word("a <UNK> b"), Some("<UNK>"));
        assert_eq!(reserved_word("a </s> b </s>"), Some("</s>"));
    }
}
