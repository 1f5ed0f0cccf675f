//! Transcripts that look the same and are not: other white space, characters that nobody sees, another Unicode
//! form. Each would be a class of its own.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::{Suspect, Suspicion};

/// Groups that are told.
const TOLD: usize = 10;

/// A suspicion for each group of the distinct `texts`, which come with how often each occurs.
pub(super) fn find(texts: &BTreeMap<&str, usize>) -> Vec<Suspect> {
    let mut groups: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (text, count) in texts {
        groups.entry(seen(text)).or_default().push((text, *count));
    }
    groups.retain(|_, group| group.len() > 1);
    let suspect = |why| Suspect {
        suspicion: Suspicion::LookAlike,
        utterance: None,
        why,
    };
    let mut suspects: Vec<Suspect> = groups
        .values()
        .take(TOLD)
        .map(|group| {
            let named: Vec<String> = group
                .iter()
                .map(|(text, count)| format!("{} ({count})", revealed(text)))
                .collect();
            suspect(format!(
                "transcripts that look the same differ in white space, in characters that nobody sees or in their \
                 Unicode form: {}",
                named.join(", ")
            ))
        })
        .collect();
    if groups.len() > TOLD {
        let more = groups.len() - TOLD;
        suspects.push(suspect(format!(
            "{more} more transcripts are written in ways that look the same"
        )));
    }
    suspects
}

/// What a reader sees of `text`.
fn seen(text: &str) -> String {
    let visible: String = text.nfkc().filter(|&c| !is_invisible(c)).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Format characters that have no shape of their own.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}'
    )
}

/// `text` in quotation marks, with what would not be seen written out.
fn revealed(text: &str) -> String {
    let mut shown = String::from("\"");
    for character in text.chars() {
        match character {
            ' ' => shown.push(' '),
            c if c.is_whitespace() || c.is_control() || is_invisible(c) || is_combining_mark(c) => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown + "\""
}
