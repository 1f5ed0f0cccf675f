//! What a language changes in how text is written: its own rules of upper and lower case (Unicode's
//! SpecialCasing.txt), and the characters that it writes inside of words.

use unicode_normalization::char::canonical_combining_class;

const DOT_ABOVE: char = '\u{307}';

/// A language, by its tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Language {
    /// The code of ISO 639, in lower case: two letters where the languages below have such a code. Empty for none.
    code: String,
}

impl Language {
    /// The language of a tag such as "tr", "TR", "tr-TR", "tur" or a locale's name ("tr_TR.UTF-8"); none where it
    /// is not one.
    pub(super) fn of(tag: &str) -> Option<Self> {
        let tag = tag.split(['.', '@']).next().unwrap_or_default();
        let mut parts = tag.split(['-', '_']);
        let code = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_code = (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase());
        let is_subtag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if !is_code || !parts.all(is_subtag) {
            return None;
        }
        let code = match code.as_str() {
            "eng" => "en",
            "tur" => "tr",
            "aze" | "azj" | "azb" => "az",
            "lit" => "lt",
            "swe" => "sv",
            "fin" => "fi",
            "uzb" | "uzn" | "uzs" => "uz",
            other => other,
        };
        Some(Self {
            code: code.to_owned(),
        })
    }

    pub(super) fn is_english(&self) -> bool {
        self.code == "en"
    }

    /// Whether i with and i without a dot are two letters: Turkish, Azerbaijani, Crimean Tatar, Gagauz.
    fn has_dotless_i(&self) -> bool {
        ["tr", "az", "crh", "gag"].contains(&self.code.as_str())
    }

    fn is_lithuanian(&self) -> bool {
        self.code == "lt"
    }

    /// Whether a colon joins a word and its ending ("EU:n"): CLDR's word boundaries have it for Finnish
    /// and Swedish.
    pub(super) fn has_colons_in_words(&self) -> bool {
        ["fi", "sv"].contains(&self.code.as_str())
    }

    /// Whether an apostrophe behind `letter` is part of that letter: o and g in Uzbek.
    pub(super) fn has_apostrophe_letter(&self, letter: char) -> bool {
        self.code == "uz" && ['o', 'O', 'g', 'G'].contains(&letter)
    }

    pub(super) fn lower(&self, text: &str) -> String {
        if self.has_dotless_i() {
            return lower_with_dotless_i(text).to_lowercase();
        }
        if self.is_lithuanian() {
            return lower_lithuanian(text).to_lowercase();
        }
        text.to_lowercase()
    }

    pub(super) fn upper(&self, text: &str) -> String {
        if self.has_dotless_i() {
            // Somebody else's lower case may have left a dot beside the letter.
            let text = text.replace("i\u{307}", "İ");
            return text.replace('i', "İ").to_uppercase();
        }
        if self.is_lithuanian() {
            return without_soft_dots(text).to_uppercase();
        }
        text.to_uppercase()
    }
}

fn lower_with_dotless_i(text: &str) -> String {
    let mut lowered = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            'İ' => lowered.push('i'),
            'I' => match before_mark(rest.as_str(), |mark| mark == DOT_ABOVE) {
                None => lowered.push('ı'),
                Some(between) => {
                    lowered.push('i');
                    lowered.push_str(between);
                    rest = rest.as_str()[between.len() + DOT_ABOVE.len_utf8()..].chars();
                }
            },
            other => lowered.push(other),
        }
    }
    lowered
}

/// The dot of i and j is written where accents stand above it.
fn lower_lithuanian(text: &str) -> String {
    let mut lowered = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let (letter, accent) = match character {
            'I' => ('i', None),
            'J' => ('j', None),
            'Į' => ('į', None),
            'Ì' => ('i', Some('\u{300}')),
            'Í' => ('i', Some('\u{301}')),
            'Ĩ' => ('i', Some('\u{303}')),
            other => {
                lowered.push(other);
                continue;
            }
        };
        lowered.push(letter);
        let is_above = |mark| canonical_combining_class(mark) == 230;
        if accent.is_some() || before_mark(rest.as_str(), is_above).is_some() {
            lowered.push(DOT_ABOVE);
        }
        lowered.extend(accent);
    }
    lowered
}

/// Capitals have no dot of their own.
fn without_soft_dots(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut dotted = false;
    for character in text.chars() {
        if character == DOT_ABOVE && dotted {
            dotted = false;
            continue;
        }
        dotted = match canonical_combining_class(character) {
            0 => ['i', 'j', 'į'].contains(&character),
            230 => false,
            _ => dotted,
        };
        bare.push(character);
    }
    bare
}

/// The marks before the first one above the letter, if that is `wanted`.
fn before_mark(text: &str, wanted: impl Fn(char) -> bool) -> Option<&str> {
    let (at, mark) = text
        .char_indices()
        .find(|&(_, mark)| [0, 230].contains(&canonical_combining_class(mark)))?;
    (canonical_combining_class(mark) == 230 && wanted(mark)).then(|| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(tag: &str) -> Language {
        Language::of(tag).expect("a tag")
    }

    #[test]
    fn a_tag_is_known_however_it_is_written() {
        for tag in ["tr", "TR", "tr-TR", "tr_TR.UTF-8", "tur", "Tr-Latn-TR"] {
            assert_eq!(language(tag), language("tr"), "{tag}");
        }
        assert!(language("en-US").is_english() && language("ENG").is_english());
        for wrong in ["", "turkish", "t", "t1", "tr-", "türk", "tr-toolongsubtag"] {
            assert_eq!(Language::of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dotted_and_dotless_i_are_two_letters_where_a_language_has_both() {
        for tag in ["tr", "az", "crh", "gag"] {
            let language = language(tag);
            for (upper, lower) in [
                ("İSTANBUL", "istanbul"),
                ("IŞIK", "ışık"),
                ("Iğdır", "ığdır"),
            ] {
                assert_eq!(language.lower(upper), lower, "{tag}");
            }
            assert_eq!(language.upper("istanbul ışık"), "İSTANBUL IŞIK");
            assert_eq!(
                language.lower("I\u{307}zmir I\u{323}\u{307}"),
                "izmir i\u{323}"
            );
            assert_eq!(language.lower("I\u{301}"), "ı\u{301}");
            assert_eq!(language.upper("i\u{307}"), "İ");
        }
        assert_eq!(language("en").lower("IŞIK"), "işik");
        assert_eq!(language("de").upper("Straße"), "STRASSE");
        assert_eq!(language("el").lower("ΣΟΦΟΣ ΑΣ"), "σοφος ας");
    }

    #[test]
    fn lithuanian_keeps_the_dot_below_accents() {
        let lithuanian = language("lt");
        assert_eq!(lithuanian.lower("RIBA"), "riba");
        assert_eq!(
            lithuanian.lower("Ì Í Ĩ"),
            "i\u{307}\u{300} i\u{307}\u{301} i\u{307}\u{303}"
        );
        assert_eq!(
            lithuanian.lower("I\u{300} J\u{301} Į\u{303} I\u{328}\u{301}"),
            "i\u{307}\u{300} j\u{307}\u{301} į\u{307}\u{303} i\u{307}\u{328}\u{301}"
        );
        assert_eq!(lithuanian.upper("i\u{307}\u{300} riba"), "I\u{300} RIBA");
        assert_eq!(lithuanian.upper("e\u{307}"), "E\u{307}");
    }
}
