//! How transcripts are written before anything is learned from them or scored: the `[text]` section's
//! Unicode, digits, case and punctuation, in that order. It decides what counts as the same text. As it is
//! by default, text is left as the corpus writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{boundaries, composition, language::Language, marked, numbers};

/// The `[text]` section of a job: how transcripts are normalised, before training and before scoring alike, and
/// the units of a CTC model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// The output units of a CTC model. The classes of a keyword model are whole transcripts.
    pub units: Units,
    /// The number of units with `"bytepair"` (required, each character that occurs included), or the most
    /// frequent words that are kept with `"words"` (0: all words).
    #[schemars(range(max = MAX_UNITS), example = 256)]
    pub size: usize,
    /// Unicode normalisation.
    pub unicode: Unicode,
    /// Whether digits are written out as words.
    pub digits: Digits,
    /// A language tag such as `"en"`, `"tr"` or `"pt-BR"`, whose rules for upper and lower case and for word
    /// boundaries apply. Digits are spelled in `"en"` alone.
    #[schemars(example = &"en-GB")]
    pub language: String,
    /// Upper or lower case.
    pub case: Case,
    /// Whether punctuation is removed.
    pub punctuation: Punctuation,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            units: Units::Characters,
            size: 0,
            unicode: Unicode::Keep,
            digits: Digits::Keep,
            language: "en".to_owned(),
            case: Case::Keep,
            punctuation: Punctuation::Keep,
        }
    }
}

/// What a CTC model's labels stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// Every character that occurs in the training transcripts.
    Characters,
    /// Byte-pair encoding, learned on the training transcripts (Sennrich et al. 2016).
    Bytepair,
    /// Whole words.
    Words,
}

/// How Unicode text is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unicode {
    /// Text stays as it is.
    Keep,
    /// NFKC: compatibility decomposition, then canonical composition. Standalone accents stay, and a space
    /// separates digits of another kind (½, ², ①) from the digits beside them.
    Nfkc,
}

/// What becomes of digits and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Digits {
    /// Digits stay as they are.
    Keep,
    /// Numbers become words: decimals, ordinals, fractions, powers, per cent and circled numbers too.
    Spell,
}

/// What becomes of upper and lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Case stays as it is.
    Keep,
    /// Upper case.
    Upper,
    /// Lower case.
    Lower,
}

/// What becomes of punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Punctuation {
    /// Punctuation stays as it is.
    Keep,
    /// Punctuation becomes a space, except inside a word as Unicode's word boundaries (UAX #29) define it.
    /// Invisible characters are removed, and runs of spaces become one. A full stop between letters ends a
    /// word, because the letters of an abbreviation are said one by one.
    Strip,
}

/// A field of `[text]` that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("text.{field} {reason}")]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub struct TextConfigError {
    pub field: &'static str,
    pub reason: String,
}

impl TextConfig {
    /// Checks that the settings fit each other.
    ///
    /// # Errors
    /// Fails with the setting that does not.
    pub fn check(&self) -> Result<(), TextConfigError> {
        let refuse = |field, reason| Err(TextConfigError { field, reason });
        let language = Language::of(&self.language);
        let depends = self.digits == Digits::Spell
            || self.case != Case::Keep
            || self.punctuation == Punctuation::Strip;
        if depends && language.is_none() {
            let reason = format!(
                "is {:?}, which is no language's tag: write the code of two or three letters, for \
                 instance \"en\", \"tr\" or \"pt-BR\"",
                self.language
            );
            return refuse("language", reason);
        }
        if self.digits == Digits::Spell && !language.is_some_and(|one| one.is_english()) {
            let reason = format!(
                "is {:?}, and digits are spelled in \"en\" alone: write them out in the transcripts, \
                 or set text.digits = \"keep\"",
                self.language
            );
            return refuse("language", reason);
        }
        match (self.units, self.size) {
            (Units::Bytepair, 0) => refuse(
                "size",
                "is missing: say how many units there are to be, for instance 256".to_owned(),
            ),
            (Units::Characters, 1..) => refuse(
                "size",
                "stands beside characters, which are all that occur: leave it out, or set text.units"
                    .to_owned(),
            ),
            (_, size) if size > MAX_UNITS => {
                refuse("size", format!("is {size}, but has to be at most {MAX_UNITS}"))
            }
            _ => Ok(()),
        }
    }

    /// `text` as it is learned and scored. Normalised text is not changed any more.
    pub fn normalize(&self, text: &str) -> String {
        /// More than any text has needed. Text that is normal already takes one, and ordinary text two.
        const TURNS: usize = 16;
        // A tag that is none was not refused where nothing depends on it.
        let language = Language::of(&self.language).unwrap_or_default();
        let mut text = text.to_owned();
        // What is left when a mark has gone may be read otherwise beside its new neighbours.
        for _ in 0..TURNS {
            let next = self.normalize_once(&text, &language);
            if next == text {
                break;
            }
            text = next;
        }
        text
    }

    fn normalize_once(&self, text: &str, language: &Language) -> String {
        let spells = self.digits == Digits::Spell;
        let composed = |text: String| match self.unicode {
            Unicode::Keep => text,
            Unicode::Nfkc => composition::compose(&text),
        };
        let mut text = match (spells, self.unicode) {
            (true, _) => marked::spell(text),
            (false, Unicode::Nfkc) => marked::set_apart(text),
            (false, Unicode::Keep) => text.to_owned(),
        };
        text = composed(text);
        if spells {
            text = numbers::spell(&text);
        }
        match self.case {
            Case::Keep => {}
            Case::Upper => text = language.upper(&text),
            Case::Lower => text = language.lower(&text),
        }
        if self.punctuation == Punctuation::Strip {
            text = boundaries::strip(&text, language);
        }
        // A mark may stand behind another letter now.
        composed(text)
    }
}

/// A model's last layer has a row for each.
const MAX_UNITS: usize = 100_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> TextConfig {
        TextConfig {
            unicode: Unicode::Nfkc,
            digits: Digits::Spell,
            case: Case::Lower,
            punctuation: Punctuation::Strip,
            ..TextConfig::default()
        }
    }

    #[test]
    fn by_default_text_is_as_the_corpus_writes_it() {
        let text = "  It's 5 o'Clock, ﬁne…\t";
        assert_eq!(TextConfig::default().normalize(text), text);
    }

    #[test]
    fn each_key_does_one_thing() {
        let with = |change: fn(&mut TextConfig), text: &str| {
            let mut config = TextConfig::default();
            change(&mut config);
            config.normalize(text)
        };
        assert_eq!(
            with(|c| c.unicode = Unicode::Nfkc, "ﬁve\u{a0}① e\u{301}"),
            "five 1 é"
        );
        assert_eq!(with(|c| c.case = Case::Upper, "Straße, é"), "STRASSE, É");
        assert_eq!(with(|c| c.case = Case::Lower, "ÉT 4"), "ét 4");
        assert_eq!(
            with(|c| c.digits = Digits::Spell, "I have 21."),
            "I have twenty one."
        );
        let strip = |text| with(|c| c.punctuation = Punctuation::Strip, text);
        assert_eq!(
            strip("«Well-known», isn’t it?  'Tis -- the dogs' "),
            "Well known isn't it Tis the dogs"
        );
        assert_eq!(strip("नमस्ते, दुनिया।"), "नमस्ते दुनिया");
        assert_eq!(strip("…"), "");
    }

    #[test]
    fn together_they_meet_what_people_write() {
        assert_eq!(
            all().normalize("On the 3rd, Dr. O’Hara paid $1,250.50 – 20% off!"),
            "on the third dr o'hara paid one thousand two hundred fifty point five zero twenty percent off"
        );
    }

    #[test]
    fn numbers_of_other_kinds_and_accents_survive_nfkc() {
        for (text, wanted) in [
            ("1½ cups", "one and a half cups"),
            ("2¾ and ⑤6", "two and three quarters and five six"),
            ("5 %, .5 mm", "five percent point five mm"),
            ("don´t ´x´", "don't x"),
            ("か゛", "が"),
        ] {
            assert_eq!(all().normalize(text), wanted, "{text}");
        }
        let kept = TextConfig {
            digits: Digits::Keep,
            ..all()
        };
        assert_eq!(kept.normalize("1½, 10² m²"), "1 1⁄2 10 2 m2");
        assert_eq!(kept.normalize("3.5, 1,250!"), "3.5 1,250");
    }

    #[test]
    fn case_follows_the_language() {
        let turkish = TextConfig {
            case: Case::Lower,
            language: "TR".to_owned(),
            ..TextConfig::default()
        };
        assert_eq!(turkish.normalize("İstanbul IŞIK"), "istanbul ışık");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = |change: fn(&mut TextConfig)| {
            let mut config = TextConfig::default();
            change(&mut config);
            config.check().expect_err("refused").to_string()
        };
        assert_eq!(all().check(), Ok(()));
        assert!(refused(|c| c.units = Units::Bytepair).starts_with("text.size is missing"));
        assert!(refused(|c| c.size = 30).starts_with("text.size stands beside characters"));
        let language = refused(|c| {
            c.digits = Digits::Spell;
            c.language = "de".to_owned();
        });
        assert!(
            language.starts_with("text.language is \"de\""),
            "{language}"
        );
        let language = refused(|c| {
            c.case = Case::Lower;
            c.language = "turkish".to_owned();
        });
        assert!(
            language.starts_with("text.language is \"turkish\", which is no language's tag"),
            "{language}"
        );
        for (digits, tag) in [(Digits::Spell, "EN-us"), (Digits::Keep, "tr_TR")] {
            let language = tag.to_owned();
            let config = TextConfig {
                digits,
                language,
                ..all()
            };
            assert_eq!(config.check(), Ok(()), "{tag}");
        }
        let size = refused(|c| {
            c.units = Units::Words;
            c.size = 100_001;
        });
        assert!(size.starts_with("text.size is 100001"));
    }

    proptest! {
        #[test]
        fn normalised_text_is_normal(text in any::<String>()) {
            let once = all().normalize(&text);
            prop_assert_eq!(all().normalize(&once), once.clone());
            prop_assert!(!once.contains("  ") && once.trim() == once);
        }

        #[test]
        fn in_every_combination(
            text in "[a-zİIıéßΣς \u{301}\u{307}½²①٣5,.%'’\"´ʼ·־׳״אבש\u{200c}\u{200d}\u{ad}\u{200b}ക്ന്か゛ﹰ日-]{0,16}",
            language in prop::sample::select(vec!["en", "tr", "lt", "uz", "sv"]),
            which in 0u32..36,
        ) {
            let config = TextConfig {
                unicode: [Unicode::Keep, Unicode::Nfkc][(which % 2) as usize],
                punctuation: [Punctuation::Keep, Punctuation::Strip][(which / 2 % 2) as usize],
                case: [Case::Keep, Case::Lower, Case::Upper][(which / 4 % 3) as usize],
                digits: [Digits::Keep, Digits::Keep, Digits::Spell][(which / 12) as usize],
                language: language.to_owned(),
                ..TextConfig::default()
            };
            let once = config.normalize(&text);
            prop_assert_eq!(config.normalize(&once), once.clone());
        }

        #[test]
        fn of_usual_text_too(text in "[a-zA-Z0-9 .,'%$-]{0,40}") {
            let once = all().normalize(&text);
            prop_assert_eq!(all().normalize(&once), once.clone());
            prop_assert!(once.chars().all(|c| c.is_ascii_lowercase() || c == ' ' || c == '\''), "{}", once);
        }
    }
}
