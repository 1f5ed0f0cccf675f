//! Makes what a decoder is given fit its model: words are written as the model writes them, those that
//! could never come out are taken out, and what has no effect is told.

use std::{collections::BTreeSet, sync::Arc};

use super::{BundleError, DecodeConfig, DecoderBundle, WordSource};
use crate::{
    lexicon::Lexicon,
    lm::is_mark,
    text::{TextConfig, Vocabulary},
    tolerance::MaxBad,
};

/// Words that are named of many.
const NAMED_WORDS: usize = 5;

/// What of a decoder's parts comes from somebody else than the model's training, and is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Whether the language model comes from a file.
    pub language_model: bool,
    /// Whether the lexicon comes from a file.
    pub lexicon: bool,
    /// Whether hot words are given.
    pub hot_words: bool,
}

impl Given {
    /// What a job gives: files, and hot words.
    pub fn of_job(config: &DecodeConfig) -> Self {
        Self {
            language_model: matches!(config.language_model, WordSource::File(_)),
            lexicon: matches!(config.lexicon, WordSource::File(_)),
            hot_words: true,
        }
    }
}

impl DecoderBundle {
    /// Writes the words of what is `given` by `text`, and takes out what a CTC model with `vocabulary`
    /// cannot say: words of the lexicon, of which no more than `max_bad` may be lost, and hot words. What
    /// was taken out or has no effect is told, a sentence each.
    ///
    /// # Errors
    /// When too much of the lexicon cannot be said.
    pub fn fit(
        &mut self,
        given: Given,
        text: &TextConfig,
        vocabulary: &Vocabulary,
        max_bad: MaxBad,
    ) -> Result<Vec<String>, BundleError> {
        let mut remarks = Vec::new();
        if given.lexicon {
            remarks.extend(self.fit_lexicon(text, vocabulary, max_bad)?);
        }
        if given.language_model {
            remarks.extend(self.fit_language_model(text, vocabulary));
        }
        if given.hot_words {
            remarks.extend(self.fit_hot_words(text, vocabulary));
        }
        Ok(remarks)
    }

    fn fit_lexicon(
        &mut self,
        text: &TextConfig,
        vocabulary: &Vocabulary,
        max_bad: MaxBad,
    ) -> Result<Option<String>, BundleError> {
        let Some(lexicon) = &self.lexicon else {
            return Ok(None);
        };
        let (mut fits, mut lost) = (Vec::new(), Vec::new());
        for word in lexicon.words() {
            let written = text.normalize(word);
            if is_word(&written) && vocabulary.can_say(&written) {
                fits.push(written)
            } else {
                lost.push(word.as_str())
            }
        }
        if lost.is_empty() {
            self.lexicon = Some(Lexicon::new(fits));
            return Ok(None);
        }
        let total = lexicon.words().len();
        let named = named(&lost);
        max_bad
            .check(lost.len(), total)
            .map_err(|source| BundleError::TooManyWords {
                source,
                named: named.clone(),
            })?;
        let told = format!(
            "{} of the lexicon's {total} words cannot be said by the model and are left out, {named} among them",
            lost.len()
        );
        self.lexicon = Some(Lexicon::new(fits));
        Ok(Some(told))
    }

    fn fit_language_model(&mut self, text: &TextConfig, vocabulary: &Vocabulary) -> Vec<String> {
        let Some(model) = &mut self.language_model else {
            return Vec::new();
        };
        Arc::make_mut(model).rename(|word| text.normalize(word));
        let mut remarks = Vec::new();
        for remark in model.remarks() {
            remarks.push(format!("the language model: {remark}"));
        }
        let words = || model.words().filter(|word| !is_mark(word));
        let lost: Vec<&str> = words().filter(|word| !vocabulary.can_say(word)).collect();
        if !lost.is_empty() {
            let total = words().count();
            let share = 100.0 * lost.len() as f64 / total as f64;
            remarks.push(format!(
                "{} of the {total} words of the language model ({share:.1} %) cannot be said by the model, {} among them{}",
                lost.len(),
                named(&lost),
                other_case(&lost, vocabulary)
            ));
        }
        if let Some(lexicon) = &self.lexicon {
            let all = lexicon.words();
            let unknown: Vec<&str> = all
                .iter()
                .map(String::as_str)
                .filter(|word| model.find(word).is_none())
                .collect();
            if 2 * unknown.len() > all.len() {
                remarks.push(format!(
                    "the language model lacks {} of the lexicon's {} words, {} among them: it tells these from each other by nothing",
                    unknown.len(),
                    all.len(),
                    named(&unknown)
                ));
            }
        }
        if self.config.lm_weight == 0.0 {
            remarks.push(
                "decode.lm_weight is 0: the language model tells its words from unknown ones alone"
                    .to_owned(),
            );
        }
        remarks
    }

    fn fit_hot_words(&mut self, text: &TextConfig, vocabulary: &Vocabulary) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut seen = BTreeSet::new();
        let mut fits = Vec::new();
        for phrase in &self.config.hot_words {
            let written = text.normalize(phrase);
            let words: Vec<&str> = written.split_whitespace().collect();
            if let Some(reason) = self.excludes(&words, vocabulary) {
                remarks.push(format!("the hot word {phrase:?} has no effect: {reason}"));
                continue;
            }
            let written = words.join(" ");
            if seen.insert(written.clone()) {
                fits.push(written);
            }
        }
        if !fits.is_empty() && self.config.hot_boost == 0.0 {
            remarks.push("decode.hot_boost is 0: hot words have no effect".to_owned());
        }
        self.config.hot_words = fits;
        remarks
    }

    /// Why the words cannot come out one behind the other; none if they can.
    fn excludes(&self, words: &[&str], vocabulary: &Vocabulary) -> Option<String> {
        if words.is_empty() {
            return Some("nothing is left of it as the model writes".to_owned());
        }
        if words.len() > 1 && !vocabulary.can_say_phrases() {
            return Some("the model was trained on single words and says no spaces".to_owned());
        }
        if let Some(&word) = words.iter().find(|word| !vocabulary.can_say(word)) {
            let unknown = match vocabulary.encode(word) {
                Err(error) => error.to_string(),
                Ok(_) => format!("{word:?} is none of the model's words"),
            };
            return Some(format!("{unknown}{}", other_case(&[word], vocabulary)));
        }
        let lexicon = self.lexicon.as_ref()?;
        let known = |word: &&&str| {
            let all = lexicon.words();
            all.binary_search_by(|one| one.as_str().cmp(word)).is_ok()
        };
        let word = words.iter().find(|word| !known(word))?;
        Some(format!(
            "the lexicon lacks {word:?}, and no other words than its own come out"
        ))
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn named(words: &[&str]) -> String {
    let named = words.iter().take(NAMED_WORDS);
    let named: Vec<String> = named.map(|word| format!("{word:?}")).collect();
    named.join(", ")
}

/// What to do about words of which most could be said in the other case.
fn other_case(words: &[&str], vocabulary: &Vocabulary) -> &'static str {
    let most = |change: fn(&str) -> String| {
        let fit = words
            .iter()
            .filter(|word| vocabulary.can_say(&change(word)));
        2 * fit.count() > words.len()
    };
    if most(str::to_lowercase) {
        "; in lower case, as the model writes, it could"
    } else if most(str::to_uppercase) {
        "; in upper case, as the model writes, it could"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{lm::NgramModel, text::Case};

    const ARPA: &str = "\\data\\\nngram 1=6\n\\1-grams:\n-1 <unk>\n-99 <s>\n-0.9 </s>\n-1 GO\n-0.5 go\n-0.75 STOP\n\\end\\\n";

    fn arpa(text: &str) -> Option<Arc<NgramModel>> {
        let model = NgramModel::read_from(text.as_bytes(), Path::new("lm.arpa"));
        Some(Arc::new(model.expect("an ARPA file")))
    }

    fn lower() -> TextConfig {
        TextConfig {
            case: Case::Lower,
            ..TextConfig::default()
        }
    }

    const ALL: Given = Given {
        language_model: true,
        lexicon: true,
        hot_words: true,
    };

    fn letters() -> Vocabulary {
        Vocabulary::characters(["go on", "stop"]).expect("characters")
    }

    #[test]
    fn words_are_written_as_the_model_writes() {
        let mut bundle = DecoderBundle {
            config: DecodeConfig {
                hot_words: ["GO On", "go on", "Stop"].map(str::to_owned).to_vec(),
                ..DecodeConfig::default()
            },
            language_model: arpa(ARPA),
            lexicon: Some(Lexicon::of_texts(["GO on Stop STOP"])),
        };
        let remarks = bundle.fit(ALL, &lower(), &letters(), MaxBad::Count(0));
        let remarks = remarks.expect("all fits");
        // What is written like that already stays itself; the other word of its name is left.
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].contains("1 of the 3 words of the language model (33.3 %)"));
        assert!(remarks[0].contains("\"GO\"") && remarks[0].contains("in lower case"));
        assert_eq!(bundle.config.hot_words, ["go on", "stop"]);
        assert_eq!(
            bundle.lexicon.expect("a lexicon").words(),
            ["go", "on", "stop"]
        );
        let model = bundle.language_model.expect("a model");
        let log = |word| {
            model
                .score(Default::default(), model.find(word).expect("a word"))
                .0
        };
        assert_eq!((log("go"), log("stop"), log("GO")), (-0.5, -0.75, -1.0));
    }

    #[test]
    fn of_words_that_become_one_the_most_probable_stays() {
        let arpa_of = |first, second| {
            arpa(&format!(
                "\\data\\\nngram 1=5\n\\1-grams:\n-1 <unk>\n-99 <s>\n-0.9 </s>\n{first} GO\n{second} Go\n\\end\\\n"
            ))
        };
        for (first, second, wanted) in [
            (-0.5, -0.25, -0.25),
            (-0.25, -0.5, -0.25),
            (-0.5, -0.5, -0.5),
        ] {
            let mut bundle = DecoderBundle {
                language_model: arpa_of(first, second),
                ..DecoderBundle::default()
            };
            let given = Given {
                language_model: true,
                ..Given::default()
            };
            bundle
                .fit(given, &lower(), &letters(), MaxBad::Default)
                .expect("fits");
            let model = bundle.language_model.expect("a model");
            let word = model.find("go").expect("renamed");
            assert_eq!(model.score(Default::default(), word).0, wanted);
        }
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let phrases = ["s\u{20ac}v", "GO", "go stop", "on", "!"];
        let mut bundle = DecoderBundle {
            config: DecodeConfig {
                hot_words: phrases.map(str::to_owned).to_vec(),
                hot_boost: 0.0,
                lm_weight: 0.0,
                ..DecodeConfig::default()
            },
            language_model: arpa(&ARPA.replace("go", "GOO")),
            lexicon: Some(Lexicon::of_texts(["go stop"])),
        };
        let remarks = bundle.fit(ALL, &TextConfig::default(), &letters(), MaxBad::Default);
        let told = remarks.expect("all fits").join("\n");
        for wanted in [
            "3 of the 3 words of the language model (100.0 %)",
            "lacks 2 of the lexicon's 2 words",
            "decode.lm_weight is 0",
            "\"s\u{20ac}v\" has no effect: \"s\u{20ac}v\" has characters that the model's vocabulary lacks: 'v' (U+0076), '\u{20ac}' (U+20AC)",
            "\"GO\" has no effect",
            "in lower case, as the model writes, it could",
            "\"on\" has no effect: the lexicon lacks \"on\"",
            "\"!\" has no effect",
            "decode.hot_boost is 0",
        ] {
            assert!(told.contains(wanted), "{wanted:?} is not in {told}");
        }
        assert_eq!(bundle.config.hot_words, ["go stop"]);
        // Single words have no space between them, and words are units of their own.
        let single = Vocabulary::characters(["go", "stop"]).expect("characters");
        let words = Vocabulary::words(["go on"], 1).expect("words");
        for (vocabulary, wanted) in [
            (single, "says no spaces"),
            (words, "none of the model's words"),
        ] {
            let mut bundle = DecoderBundle::default();
            bundle.config.hot_words = vec!["go on".to_owned()];
            let remarks = bundle.fit(ALL, &TextConfig::default(), &vocabulary, MaxBad::Default);
            let remarks = remarks.expect("fits");
            assert!(remarks[0].contains(wanted), "{remarks:?}");
            assert!(bundle.config.hot_words.is_empty());
        }
    }

    #[test]
    fn a_lexicon_loses_no_more_words_than_it_may() {
        let words = ["go", "on", "stop", "café", "New York"];
        let fit = |max_bad| {
            let lexicon = Some(Lexicon::new(words.map(str::to_owned)));
            let mut bundle = DecoderBundle {
                lexicon,
                ..DecoderBundle::default()
            };
            let remarks = bundle.fit(ALL, &TextConfig::default(), &letters(), max_bad)?;
            Ok::<_, BundleError>((remarks, bundle.lexicon.expect("a lexicon")))
        };
        let (remarks, lexicon) = fit(MaxBad::Default).expect("two of five");
        assert_eq!(lexicon.words(), ["go", "on", "stop"]);
        assert!(
            remarks[0].starts_with("2 of the lexicon's 5 words") && remarks[0].contains("\"café\"")
        );
        let refused = fit(MaxBad::Count(1)).expect_err("two of five").to_string();
        assert!(
            refused.contains("2 of 5 cannot be used") && refused.contains("\"New York\""),
            "{refused}"
        );
    }
}
