//! Transcripts that look the same and are not: other white space, characters that nobody sees, another Unicode
//! form. Each would be a class of its own.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::{Suspect, Suspicion};

/// Groups that are told.
const NAMED_LOOKALIKES: usize = 10;

/// A suspicion for each group of the distinct `texts`, which come with how often each occurs.
pub(super) fn find(texts: &BTreeMap<&str, usize>) -> Vec<Suspect> {
    let mut groups: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (text, count) in texts {
        groups.entry(seen(text)).or_default().push((text, *count));
    }
    let mut suspects = told(
        &groups,
        "transcripts that look the same differ in white space, in characters that nobody sees or in their Unicode form",
    );
    // Case says little in sentences; in the names of classes, it is a slip.
    let utterances: usize = texts.values().sum();
    if texts.len() * 2 <= utterances {
        let mut cases: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
        for (seen, group) in &groups {
            cases
                .entry(seen.to_lowercase())
                .or_default()
                .extend(group.first());
        }
        suspects.extend(told(&cases, "transcripts differ in case alone"));
    }
    suspects
}

/// A suspicion for each of the groups that have more than one text, as far as they are told one by one.
fn told(groups: &BTreeMap<String, Vec<(&str, usize)>>, what: &str) -> Vec<Suspect> {
    let suspect = |why| Suspect {
        suspicion: Suspicion::LookAlike,
        utterance: None,
        why,
    };
    let groups = groups.values().filter(|group| group.len() > 1);
    let named = |group: &Vec<(&str, usize)>| {
        let named: Vec<String> = group
            .iter()
            .map(|(text, count)| format!("{} ({count})", revealed(text)))
            .collect();
        suspect(format!("{what}: {}", named.join(", ")))
    };
    let more = groups.clone().count().saturating_sub(NAMED_LOOKALIKES);
    let mut suspects: Vec<Suspect> = groups.take(NAMED_LOOKALIKES).map(named).collect();
    if more > 0 {
        suspects.push(suspect(format!("{what}: {more} more")));
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
