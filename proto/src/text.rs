//! Text that came from another process, made fit for terminals, logs and files of lines.

/// `text` with its control characters and the characters that reorder what stands beside them escaped, cut
/// off after `most` characters. Whoever reaches the port chooses names and reasons: printed as they come,
/// they could move a cursor, forge a line of a log, or show another order of letters than there is.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most.saturating_mul(4)));
    for (count, one) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        match one {
            one if is_misleading(one) => shown.extend(one.escape_default()),
            one => shown.push(one),
        }
    }
    shown
}

/// Control characters (Unicode's category Cc) and those that set the direction of text or end a line
/// without being controls.
pub const fn is_misleading(one: char) -> bool {
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
        assert_eq!(printable("ada:4711 ünï 語 🎤", 99), "ada:4711 ünï 語 🎤");
        assert_eq!(printable("a\x1b[2Jb\nc\r\td", 99), r"a\u{1b}[2Jb\nc\r\td");
        assert_eq!(printable("x\u{9b}31m\u{202e}y", 99), r"x\u{9b}31m\u{202e}y");
        for one in ('\0'..=char::MAX).filter(|one| one.is_control()) {
            assert!(is_misleading(one), "{one:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(printable("äöü", 3), "äöü");
        assert_eq!(printable("äöüß", 3), "äöü…");
        assert_eq!(printable("", 0), "");
    }
}
