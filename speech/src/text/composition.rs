//! NFKC as transcripts need it. Unicode decomposes an accent that stands by itself into a space and a
//! combining mark, which would cut a word in two or begin one: such accents are left as they are, or
//! joined to the letter that they are written behind.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// `text` in NFKC, accents that stand by themselves left out of it.
pub(super) fn compose(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut composed = String::with_capacity(text.len());
    let mut piece = String::new();
    for character in text.chars() {
        match marks_of_accent(character) {
            None => piece.push(character),
            Some(marks) if is_of_letter(character, piece.chars().next_back()) => {
                piece.push_str(&marks);
            }
            Some(_) => {
                composed.extend(piece.nfkc());
                piece.clear();
                // One form for what is canonically the same.
                composed.extend(std::iter::once(character).nfc());
            }
        }
    }
    composed.extend(piece.nfkc());
    composed
}

/// The marks of an accent that stands by itself; none for any other character.
fn marks_of_accent(character: char) -> Option<String> {
    // The blocks that have them.
    let may_be = matches!(
        character,
        '\u{a8}' | '\u{af}' | '\u{b4}' | '\u{b8}'
            | '\u{2d8}'..='\u{2dd}'
            | '\u{37a}'..='\u{385}'
            | '\u{1fbd}'..='\u{1ffe}'
            | '\u{2017}' | '\u{203e}'
            | '\u{309b}' | '\u{309c}'
            | '\u{fc5e}'..='\u{fc63}'
            | '\u{fe49}'..='\u{fe7f}'
            | '\u{ffe3}'
    );
    if !may_be {
        return None;
    }
    let mut parts = std::iter::once(character).nfkd();
    if parts.next() != Some(' ') {
        return None;
    }
    let marks: String = parts.collect();
    marks.starts_with(is_combining_mark).then_some(marks)
}

/// Whether an accent is that of the letter before: signs of voice in kana, vowels and doubling in Arabic.
fn is_of_letter(accent: char, before: Option<char>) -> bool {
    before.is_some_and(|before| match accent {
        '\u{309b}' | '\u{309c}' => {
            matches!(before, '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9d}')
        }
        '\u{fc5e}'..='\u{fc63}' | '\u{fe70}'..='\u{fe7f}' => {
            matches!(before, '\u{620}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{8a0}'..='\u{8ff}' | '\u{fb50}'..='\u{fefc}')
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_becomes_a_space_and_a_mark() {
        let mut accents = 0;
        for character in '\0'..=char::MAX {
            let decomposed: String = std::iter::once(character).nfkd().collect();
            let mut parts = decomposed.chars();
            let is_accent =
                parts.next() == Some(' ') && parts.next().is_some_and(is_combining_mark);
            assert_eq!(
                marks_of_accent(character).is_some(),
                is_accent,
                "U+{:04X}",
                u32::from(character)
            );
            accents += usize::from(is_accent);
            let text = format!("a{character}b");
            let composed = compose(&text);
            assert!(!is_accent || !composed.contains(' '), "{composed:?}");
            assert_eq!(compose(&composed), composed, "{text:?}");
        }
        assert!(accents > 40, "{accents}");
    }

    #[test]
    fn what_looks_the_same_is_written_the_same() {
        for (text, wanted) in [
            ("ﬁve\u{a0}① e\u{301} Ⅷ", "five 1 é VIII"),
            ("don´t ¨ x", "don´t ¨ x"),
            // Oxia and tonos.
            ("\u{1ffd}", "´"),
            ("か゛は゜ ｶﾞ", "がぱ ガ"),
            ("ﺏ\u{fe7a}", "ب\u{650}"),
        ] {
            assert_eq!(compose(text), wanted, "{text:?}");
        }
    }
}
