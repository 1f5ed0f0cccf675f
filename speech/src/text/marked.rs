//! Numbers that Unicode has as other characters than digits: fractions, powers and indices, circled
//! numbers, squared units. Compatibility decomposition makes plain digits of them, which would be read
//! together with those beside them: "1½" as eleven halves, "10²" as a hundred and two. They are set apart
//! from digits here, or spelled, before anything is decomposed.

use unicode_normalization::UnicodeNormalization as _;

use super::numbers;

/// `text` with such numbers in words, as they are read in English: fractions, squares and cubes as such,
/// all others digit by digit or as the number that they are.
pub(super) fn spell(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut spelled = Apart::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = first.len_utf8();
        let (taken, behind) = rest.split_at(length);
        rest = behind;
        if first.is_ascii() {
            spelled.text(taken);
        } else if let Some(kind) = raised(first) {
            let run = text_of_run(kind, taken, &mut rest);
            spelled.raised(kind, &run);
        } else if is_group_separator(first) && spelled.goes_on(rest) {
            // The three digits behind it belong to the same number.
            spelled.text(&rest[..3]);
            spelled.grouped = spelled.text.len();
            rest = &rest[3..];
        } else if is_presentation(first) && spelled.ends_with_digit() {
            // A keycap: the digit is all that is said.
        } else if let Some(value) = decomposed(first) {
            match fraction(&value) {
                Some(fraction) => rest = spelled.fraction(fraction, rest),
                None => spelled.number(&numbers::spell(&value)),
            }
        } else {
            spelled.text(taken);
        }
    }
    spelled.text
}

/// `text` with a space between such a number and the digits beside it.
pub(super) fn set_apart(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut apart = String::with_capacity(text.len());
    // What the character before is to the one behind it, and whether it ends with a digit.
    let mut before = (CharacterKind::Other, false);
    for character in text.chars() {
        let (kind, value) = if character.is_ascii_digit() || is_plain(character) {
            (CharacterKind::Digits, None)
        } else if let Some(kind) = raised(character) {
            (CharacterKind::Raised(kind), decomposed(character))
        } else if let Some(value) = decomposed(character) {
            (CharacterKind::Marked, Some(value))
        } else {
            (CharacterKind::Other, None)
        };
        let ends = |digit: Option<char>| digit.is_some_and(|c| c.is_ascii_digit());
        let (begins, ends) = match (kind, &value) {
            (CharacterKind::Digits, _) => (true, true),
            (_, Some(value)) => (ends(value.chars().next()), ends(value.chars().next_back())),
            _ => (false, false),
        };
        let is_one_number = kind == before.0 && kind != CharacterKind::Marked;
        if before.1 && begins && !is_one_number {
            apart.push(' ');
        }
        apart.push(character);
        before = (kind, ends);
    }
    apart
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    Digits,
    Raised(Raised),
    Marked,
    Other,
}

/// Digits above or below the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Raised {
    Above,
    Below,
}

fn raised(character: char) -> Option<Raised> {
    match character {
        '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{207b}' => Some(Raised::Above),
        '\u{2080}'..='\u{208b}' => Some(Raised::Below),
        _ => None,
    }
}

/// What a run of digits above or below the line says; the first of it is `taken`, and `rest` goes on behind it.
fn text_of_run(kind: Raised, taken: &str, rest: &mut &str) -> String {
    let end = rest.find(|c| raised(c) != Some(kind)).unwrap_or(rest.len());
    let (more, behind) = rest.split_at(end);
    *rest = behind;
    let run = taken.chars().chain(more.chars());
    run.nfkc().collect()
}

/// Digits of another width or style are digits.
fn is_plain(character: char) -> bool {
    matches!(character, '\u{ff10}'..='\u{ff19}' | '\u{1d7ce}'..='\u{1d7ff}' | '\u{1fbf0}'..='\u{1fbf9}')
}

/// What a character with digits in it decomposes to, where it is more than a digit of another style.
fn decomposed(character: char) -> Option<String> {
    if character.is_ascii() || is_plain(character) {
        return None;
    }
    let value: String = std::iter::once(character).nfkc().collect();
    value
        .contains(|c: char| c.is_ascii_digit())
        .then_some(value)
}

/// Spaces that separate thousands in print: they are narrow, and no line is broken there.
const fn is_group_separator(character: char) -> bool {
    matches!(character, '\u{202f}' | '\u{2009}')
}

/// The frame of a keycap, and what says how a digit in one is drawn.
const fn is_presentation(character: char) -> bool {
    matches!(character, '\u{fe0e}' | '\u{fe0f}' | '\u{20e3}')
}

/// Numerator and denominator.
fn fraction(value: &str) -> Option<(u64, u64)> {
    let (numerator, denominator) = value.split_once('\u{2044}')?;
    Some((numerator.parse().ok()?, denominator.parse().ok()?))
}

/// Text in which words of numbers touch no letters and digits.
#[derive(Default)]
struct Apart {
    text: String,
    /// Whether what was written last is words of a number.
    words: bool,
    /// Where the last group of thousands ended.
    grouped: usize,
}

impl Apart {
    fn text(&mut self, text: &str) {
        if self.words && text.starts_with(char::is_alphanumeric) {
            self.text.push(' ');
        }
        self.words = false;
        self.text.push_str(text);
    }

    fn number(&mut self, words: &str) {
        if self.text.ends_with(char::is_alphanumeric) && words.starts_with(char::is_alphanumeric) {
            self.text.push(' ');
        }
        self.text.push_str(words);
        self.words = words.ends_with(char::is_alphanumeric);
    }

    fn ends_with_digit(&self) -> bool {
        self.text.ends_with(|c: char| c.is_ascii_digit())
    }

    /// Whether the number at the end goes on with the three digits that `rest` begins with.
    fn goes_on(&self, rest: &str) -> bool {
        let is_digit = |c: char| c.is_ascii_digit();
        let digits = self.text.len() - self.text.trim_end_matches(is_digit).len();
        let begun = (1..=3).contains(&digits) || digits > 3 && self.grouped == self.text.len();
        begun && rest.find(|c| !is_digit(c)).unwrap_or(rest.len()) == 3
    }

    fn raised(&mut self, kind: Raised, run: &str) {
        let is_power = kind == Raised::Above
            && self
                .text
                .ends_with(|c: char| c.is_alphanumeric() || c == ')');
        match run {
            "2" if is_power => self.number(" squared"),
            "3" if is_power => self.number(" cubed"),
            run => self.number(&numbers::spell(run)),
        }
    }

    /// Writes a fraction, which belongs to the number before, and gives what is left of the text behind it.
    fn fraction<'a>(&mut self, (numerator, denominator): (u64, u64), rest: &'a str) -> &'a str {
        let whole = self.text.strip_suffix(' ').unwrap_or(&self.text);
        let mut words = numbers::fraction(numerator, denominator);
        if whole.ends_with(|c: char| c.is_ascii_digit()) {
            self.text.truncate(whole.len());
            let article = if denominator == 8 { "an" } else { "a" };
            words = match words.strip_prefix("one ") {
                Some(part) => format!(" and {article} {part}"),
                None => format!(" and {words}"),
            };
        } else if let Some(before) = numbers::before_minus(&self.text) {
            self.text.truncate(before);
            self.text.push_str("minus ");
        }
        let (share, length) = numbers::share(rest);
        words.push_str(share);
        self.number(&words);
        &rest[length..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a job with NFKC and spelled digits writes it.
    fn read(text: &str) -> String {
        numbers::spell(&spell(text).nfkc().collect::<String>())
    }

    #[test]
    fn fractions_are_read_with_the_number_before_them() {
        for (text, wanted) in [
            ("1½ cups", "one and a half cups"),
            (
                "2¾, 3 ⅓, 10⅛",
                "two and three quarters, three and a third, ten and an eighth",
            ),
            (
                "½ cup, -¼ x⅔y",
                "one half cup, minus one quarter x two thirds y",
            ),
            ("½ % of 1½%", "one half percent of one and a half percent"),
            ("↉ ⅒ ⅟3", "zero thirds one tenth one\u{2044}three"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn no_other_number_is_read_with_the_digits_beside_it() {
        for (text, wanted) in [
            ("10² x³ (a)²", "ten squared x cubed (a) squared"),
            (
                "10⁻³ 10¹² 2²³",
                "ten minus three ten twelve two twenty three",
            ),
            ("H₂O CO₂5", "H two O CO two five"),
            ("①5 5① ⑳ ⑴⑵ ⒈x", "one five five one twenty (one)(two) one.x"),
            ("5㎡ 3㏠", "five m two three one 日"),
            ("①②", "one two"),
            ("1\u{fe0f}\u{20e3}2", "twelve"),
            (
                "1\u{202f}250\u{202f}000 1\u{2009}25 12345\u{202f}678",
                "one million two hundred fifty thousand one twenty five twelve thousand three hundred forty five six hundred seventy eight",
            ),
            ("１２ 𝟏𝟐", "twelve twelve"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn unspelled_they_are_set_apart_from_digits() {
        let written = |text: &str| set_apart(text).nfkc().collect::<String>();
        for (text, wanted) in [
            ("1½ cups ½", "1 1\u{2044}2 cups 1\u{2044}2"),
            ("10² 2³⁴ m² H₂O", "10 2 2 34 m2 H2O"),
            ("①5 5① ①②", "1 5 5 1 1 2"),
            ("12 １２ ⅟3", "12 12 1\u{2044}3"),
        ] {
            assert_eq!(written(text), wanted, "{text}");
        }
    }
}
