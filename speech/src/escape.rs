//! Escapes text that came from outside (files, other processes), so that it is fit for terminals, logs and files of lines.

use std::borrow::Cow;

/// `text` on one line, with its control characters and the characters that reorder what stands beside them escaped.
/// Whoever writes a file or reaches the port chooses names and reasons: printed as they come, they could move a cursor,
/// forge a line of a log, or show another order of letters than there is.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(is_misleading) {
        Cow::Owned(escape_within(text, usize::MAX))
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`escape`], cut off after `max_characters` characters of `text`; an ellipsis says that it was.
pub fn escape_within(text: &str, max_characters: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max_characters.saturating_mul(4)));
    for (count, character) in text.chars().enumerate() {
        if count == max_characters {
            escaped.push('…');
            break;
        }
        if is_misleading(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Control characters (Unicode's category Cc) and those that set the direction of text or end a line
/// without being controls.
const fn is_misleading(one: char) -> bool {
    matches!(
        one,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_forges_a_line_or_turns_text_around_is_escaped() {
        assert!(matches!(escape("ünï 語 🎤"), Cow::Borrowed("ünï 語 🎤")));
        assert_eq!(escape("a\x1b[2Jb\nc"), r"a\u{1b}[2Jb\nc");
        assert_eq!(
            escape_within("ada:4711 ünï 語 🎤", 99),
            "ada:4711 ünï 語 🎤"
        );
        assert_eq!(
            escape_within("a\x1b[2Jb\nc\r\td", 99),
            r"a\u{1b}[2Jb\nc\r\td"
        );
        assert_eq!(
            escape_within("x\u{9b}31m\u{202e}y", 99),
            r"x\u{9b}31m\u{202e}y"
        );
        for one in ('\0'..=char::MAX).filter(|one| one.is_control()) {
            assert!(is_misleading(one), "{one:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(escape_within("äöü", 3), "äöü");
        assert_eq!(escape_within("äöüß", 3), "äöü…");
        assert_eq!(escape_within("", 0), "");
    }
}
