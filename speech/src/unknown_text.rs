//! Transcripts that a model cannot output, because its vocabulary lacks one of their characters or their class.
//! They are scored as any other (what cannot be said is an error), have no loss, and are counted and named here.

use std::{collections::BTreeSet, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    escape::escape,
    text::{TextError, Vocabulary},
};

/// How many transcripts of a set have what the vocabulary lacks, and the first few of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnknownText {
    /// The number of such transcripts.
    pub utterances: u64,
    /// The size of the set.
    pub of: u64,
    /// Characters, or classes, that the vocabulary lacks; the first few.
    pub units: Vec<String>,
    /// The ids of the first few utterances.
    pub examples: Vec<String>,
}

impl UnknownText {
    /// Units and examples that are kept.
    const KEPT_EXAMPLES: usize = 10;
    /// Characters of a class that are kept: a transcript may be long.
    const MAX_SHOWN_CHARACTERS: usize = 60;

    /// What the vocabulary lacks of utterances with these ids and transcripts.
    pub fn of<'a>(
        vocabulary: &Vocabulary,
        utterances: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut found = Self::default();
        let mut units = BTreeSet::new();
        for (id, text) in utterances {
            found.of += 1;
            let Err(error) = vocabulary.encode(text) else {
                continue;
            };
            found.utterances += 1;
            if found.examples.len() < Self::KEPT_EXAMPLES {
                found.examples.push(id.to_owned());
            }
            let lacking: Vec<String> = match error {
                TextError::UnknownCharacters { characters, .. } => {
                    characters.into_iter().map(String::from).collect()
                }
                _ => vec![text.chars().take(Self::MAX_SHOWN_CHARACTERS).collect()],
            };
            for unit in lacking {
                if found.units.len() < Self::KEPT_EXAMPLES && units.insert(unit.clone()) {
                    found.units.push(unit);
                }
            }
        }
        found
    }

    /// Whether every transcript can be said.
    pub fn is_empty(&self) -> bool {
        self.utterances == 0
    }
}

impl fmt::Display for UnknownText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_EXAMPLES: usize = 5;
        let shown = |all: &[String]| {
            let quoted = all.iter().take(SHOWN_EXAMPLES);
            let quoted: Vec<String> = quoted.map(|one| format!("“{}”", escape(one))).collect();
            let more = if all.len() > SHOWN_EXAMPLES {
                ", …"
            } else {
                ""
            };
            format!("{}{more}", quoted.join(", "))
        };
        write!(
            f,
            "the model cannot say {} of {} transcripts, for want of {}: they count as errors and have no loss (utterances {})",
            self.utterances,
            self.of,
            shown(&self.units),
            shown(&self.examples),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_vocabulary_lacks_is_named_and_counted() {
        let vocabulary = Vocabulary::characters(["abc"]).unwrap();
        let found = UnknownText::of(
            &vocabulary,
            [("one", "ab"), ("two", "aéé"), ("three", "é止")],
        );
        assert_eq!((found.utterances, found.of), (2, 3));
        assert_eq!(found.units, ["é", "止"]);
        assert_eq!(found.examples, ["two", "three"]);
        let told = found.to_string();
        assert!(told.contains("2 of 3") && told.contains("“止”"), "{told}");

        let classes = Vocabulary::classes(["no", "yes"]).unwrap();
        let found = UnknownText::of(&classes, [("stranger", "eleven")]);
        assert_eq!(found.units, ["eleven"]);
        assert!(UnknownText::of(&classes, [("a", "yes")]).is_empty());
    }

    #[test]
    fn a_set_of_strangers_is_summed_up() {
        let vocabulary = Vocabulary::classes(["a", "b"]).unwrap();
        let names: Vec<String> = (0..10_000).map(|at| format!("\u{7}word{at}")).collect();
        let found = UnknownText::of(
            &vocabulary,
            names.iter().map(|it| (it.as_str(), it.as_str())),
        );
        assert_eq!(found.utterances, 10_000);
        let told = found.to_string();
        assert!(
            told.len() < 500 && told.chars().all(|it| !it.is_control()),
            "{told:?}"
        );
    }
}
