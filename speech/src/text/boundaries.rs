//! What is left of text without punctuation. Unicode's word boundaries (UAX #29) say which characters
//! stand inside of a word; what is no letter, digit or mark there is kept, written in one way, or taken
//! out, and elsewhere becomes a space.

use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};
use unicode_segmentation::UnicodeSegmentation as _;

use super::language::Language;

const ZERO_WIDTH_SPACE: char = '\u{200b}';
const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const MONGOLIAN_VOWEL_SEPARATOR: char = '\u{180e}';

/// `text` as its words with a space between them. Apostrophes, geresh and gershayim have one form each.
pub(super) fn strip(text: &str, language: &Language) -> String {
    let characters = placed(text);
    let mut stripped = String::with_capacity(text.len());
    let mut before = Preceding {
        last: ' ',
        letter: ' ',
    };
    for (place, &(character, within)) in characters.iter().enumerate() {
        let behind = || {
            let mut behind = characters[place + 1..].iter().map(|one| one.0);
            behind.find(|&c| !is_unseen(c) && !is_joiner(c))
        };
        match becomes(character, within, before, behind, language) {
            Becomes::Nothing => {}
            Becomes::Space => {
                if before.last != ' ' {
                    stripped.push(' ');
                }
                (before.last, before.letter) = (' ', ' ');
            }
            Becomes::Kept(kept) => {
                stripped.push(kept);
                before.last = kept;
                if !is_combining_mark(kept) && kept.is_alphanumeric() {
                    before.letter = kept;
                }
            }
        }
    }
    stripped.truncate(stripped.trim_end().len());
    stripped
}

/// What was kept last, and the last letter or digit of the word, its marks passed over.
#[derive(Clone, Copy)]
struct Preceding {
    last: char,
    letter: char,
}

enum Becomes {
    Kept(char),
    Nothing,
    Space,
}

fn becomes(
    character: char,
    within: bool,
    before: Preceding,
    behind: impl Fn() -> Option<char>,
    language: &Language,
) -> Becomes {
    let between = |fits: fn(char) -> bool| {
        fits(before.letter) && is_of_word(before.last) && behind().is_some_and(fits)
    };
    let is_l = |c: char| c == 'l' || c == 'L';
    let kept_if = |kept: bool, as_what: char| {
        if kept {
            Becomes::Kept(as_what)
        } else {
            Becomes::Space
        }
    };
    match character {
        // A letter by itself, and typed for an apostrophe within words.
        '\u{2bc}' if !between(is_of_word) => Becomes::Kept(character),
        c if is_apostrophe(c) => {
            // Behind a Hebrew letter it is a geresh, which ends words too (WB7a).
            let of_letter = is_of_word(before.last)
                && (is_hebrew(before.letter) || language.has_apostrophe_letter(before.letter));
            kept_if(of_letter || between(is_of_word), '\'')
        }
        '\u{5f3}' => kept_if(is_of_word(before.last) && is_hebrew(before.letter), '\''),
        // Gershayim, and what is typed for it (WB7b, WB7c).
        '\u{5f4}' | '"' | '\u{201c}' | '\u{201d}' => kept_if(between(is_hebrew), '"'),
        '\u{b7}' | '\u{387}' => kept_if(within && between(is_of_word), '\u{b7}'),
        '\u{2027}' if within && !between(is_l) => Becomes::Nothing,
        // What is typed for the dot of Catalan's l·l.
        '\u{2027}' | '\u{2022}' | '\u{2219}' | '\u{22c5}' => kept_if(between(is_l), '\u{b7}'),
        ':' | '\u{fe55}' | '\u{ff1a}' => kept_if(within && language.has_colons_in_words(), ':'),
        // Armenian marks of stress, question and exclamation stand over a letter.
        '\u{55b}' | '\u{55c}' | '\u{55e}' => Becomes::Nothing,
        '\u{55f}' if within => Becomes::Nothing,
        c if is_number_mark(c) => kept_if(within && between(char::is_numeric), c),
        c if is_joiner(c) => {
            let changes_letters = canonical_combining_class(before.last) == VIRAMA
                || changes_shape(before.letter) && between(is_of_word);
            if changes_letters {
                Becomes::Kept(c)
            } else {
                Becomes::Nothing
            }
        }
        c if is_unseen(c) => Becomes::Nothing,
        // An accent of no letter begins no word.
        c if before.last == ' ' && is_combining_mark(c) && !c.is_alphanumeric() => Becomes::Nothing,
        c if is_of_word(c) => Becomes::Kept(c),
        _ => Becomes::Space,
    }
}

/// Each character, and whether the word that UAX #29 has there goes on before and behind it.
fn placed(text: &str) -> Vec<(char, bool)> {
    let mut placed = Vec::with_capacity(text.len());
    for segment in text.split_word_bounds() {
        let first = segment.find(is_of_word).unwrap_or(segment.len());
        let last = segment.rfind(is_of_word).unwrap_or(0);
        let within = segment
            .char_indices()
            .map(|(at, character)| (character, first < at && at < last));
        placed.extend(within);
    }
    placed
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// The apostrophe as it is typed and as it is set, and accents and primes that are typed for it.
fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '\u{2018}'
            | '\u{2019}'
            | '\u{201b}'
            | '\u{2bc}'
            | '\u{ff07}'
            | '`'
            | '\u{b4}'
            | '\u{2032}'
            | '\u{55a}'
            | '\u{1fbd}'
            | '\u{1fbf}'
    )
}

fn is_hebrew(c: char) -> bool {
    matches!(c, '\u{5d0}'..='\u{5f2}' | '\u{fb1d}'..='\u{fb4f}')
}

/// Decimal points, separators of thousands and fraction bars between digits.
fn is_number_mark(c: char) -> bool {
    matches!(
        c,
        '.' | ',' | '\u{66b}' | '\u{66c}' | '\u{2044}' | '\u{ff0c}' | '\u{ff0e}'
    )
}

fn is_joiner(c: char) -> bool {
    [
        ZERO_WIDTH_NON_JOINER,
        ZERO_WIDTH_JOINER,
        MONGOLIAN_VOWEL_SEPARATOR,
    ]
    .contains(&c)
}

/// The canonical combining class of signs that take a consonant's vowel away. A joiner behind one decides
/// which letter is written: chillus in Malayalam, conjuncts in Sinhala.
const VIRAMA: u8 = 9;

/// Whether `letter` is of a script whose letters have other shapes at a joiner: Arabic, Syriac, N'Ko, the
/// scripts of India and what came of them, Mongolian, Adlam.
fn changes_shape(letter: char) -> bool {
    matches!(
        letter,
        '\u{600}'..='\u{109f}'
            | '\u{1700}'..='\u{18af}'
            | '\u{1900}'..='\u{1cff}'
            | '\u{a800}'..='\u{a95f}'
            | '\u{a980}'..='\u{abff}'
            | '\u{fb50}'..='\u{fdff}'
            | '\u{fe70}'..='\u{fefe}'
            | '\u{10a00}'..='\u{10fff}'
            | '\u{11000}'..='\u{11fff}'
            | '\u{1e900}'..='\u{1e95f}'
    )
}

/// Characters that nobody sees, and words go on through them (WB4): soft hyphens, word joiners, marks of
/// direction. What says how the character before is drawn counts with them: variants for text and emoji,
/// keycaps.
fn is_unseen(c: char) -> bool {
    match c {
        // It separates words where no space is written.
        ZERO_WIDTH_SPACE => false,
        // Signs before numbers, which are seen.
        '\u{600}'..='\u{605}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'
        | '\u{891}'
        | '\u{8e2}'
        | '\u{110bd}'
        | '\u{110cd}' => false,
        '\u{fe0e}' | '\u{fe0f}' | '\u{34f}' | '\u{20e3}' => true,
        ..='\u{ac}' => false,
        c => c.general_category() == GeneralCategory::Format,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        stripped_in("en", text)
    }

    fn stripped_in(tag: &str, text: &str) -> String {
        strip(text, &Language::of(tag).expect("a tag"))
    }

    #[test]
    fn apostrophes_stay_within_words_and_have_one_form() {
        for apostrophe in ["'", "’", "‘", "‛", "ʼ", "＇", "`", "´", "′"] {
            let text = format!("isn{apostrophe}t п{apostrophe}ять l{apostrophe}11");
            assert_eq!(stripped(&text), "isn't п'ять l'11", "{apostrophe}");
        }
        assert_eq!(
            stripped("«Well-known», 'tis -- the dogs' "),
            "Well known tis the dogs"
        );
        // A letter at the beginning of a word.
        assert_eq!(stripped("ʼéí"), "ʼéí");
        assert_eq!(stripped_in("uz", "tog‘ o‘zbek"), "tog' o'zbek");
        assert_eq!(stripped("tog‘"), "tog");
    }

    #[test]
    fn what_is_inside_of_a_word_ends_none() {
        for (text, wanted) in [
            // Persian and Hindi joiners, Malayalam's chillu and Sinhala's conjunct.
            ("می‌خواهم کتاب‌ها", "می‌خواهم کتاب‌ها"),
            ("क्‍ष, क्‌ष", "क्‍ष क्‌ष"),
            ("അവന്‍.", "അവന്‍"),
            ("ශ්‍රී ලංකා", "ශ්‍රී ලංකා"),
            ("র‍্যাব", "র‍্যাব"),
            // Not where they have no effect.
            ("Auf‌lage‍ ‌x", "Auflage x"),
            // Hebrew, as it is set and as it is typed.
            ("צה״ל צה\"ל צה”ל", "צה\"ל צה\"ל צה\"ל"),
            ("צ׳יפס צ'יפס ג׳ורג׳", "צ'יפס צ'יפס ג'ורג'"),
            // One geresh, not two, behind a letter.
            ("ש'׳", "ש'"),
            ("\"שלום\" אמר", "שלום אמר"),
            // Catalan.
            (
                "col·lecció paral•lel novel‧la",
                "col·lecció paral·lel novel·la",
            ),
            ("syl‧la‧ble • item · x", "syl·lable item x"),
            // Armenian: a question mark over a letter, and an abbreviation.
            ("ի՞նչ, ո՞վ", "ինչ ով"),
            // Nobody sees these.
            (
                "Zu\u{ad}sammen a\u{2060}b \u{feff}c \u{200e}d\u{200f}",
                "Zusammen ab c d",
            ),
            ("1\u{fe0f}\u{20e3} ✌\u{fe0f}", "1"),
            // Words without spaces between them stay as they are; a space of no width is one.
            ("你好，世界。", "你好 世界"),
            ("กินข้าว\u{200b}แล้ว", "กินข้าว แล้ว"),
            ("卡尔·马克思", "卡尔 马克思"),
        ] {
            assert_eq!(stripped(text), wanted, "{text:?}");
            assert_eq!(stripped(wanted), wanted, "{text:?} twice");
        }
    }

    #[test]
    fn marks_of_a_language_follow_its_tag() {
        assert_eq!(stripped_in("sv", "EU:s Obs: nej"), "EU:s Obs nej");
        assert_eq!(stripped_in("en", "a:b"), "a b");
    }

    #[test]
    fn numbers_keep_their_points_and_letters_do_not() {
        assert_eq!(
            stripped("3.5, 1,250. x.5 U.S.A. 10:30"),
            "3.5 1,250 x 5 U S A 10 30"
        );
        assert_eq!(stripped("٣٫٥ 1⁄2 1;2"), "٣٫٥ 1⁄2 1 2");
    }
}
