//! What manifests that should have nothing in common have in common. Knows no audio but by its digest.

use std::collections::BTreeSet;

use super::{Suspect, Suspicion};
use crate::manifest::Utterance;

/// Words from which on a transcript is a sentence, and to meet it twice is no accident of a small task.
const SENTENCE: usize = 4;
/// Names that are told.
const TOLD: usize = 5;

/// Speakers and sentences that each two of the named manifests share.
pub fn shared(manifests: &[(&str, &[Utterance])]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for (place, (name, utterances)) in manifests.iter().enumerate() {
        for (other, others) in &manifests[place + 1..] {
            let both = [*utterances, *others];
            let [a, b] = both.map(speakers);
            let speakers: Vec<&str> = a.intersection(&b).copied().collect();
            suspects.extend(told(
                Suspicion::SharedSpeakers,
                "speakers",
                &speakers,
                [name, other],
            ));
            let [a, b] = both.map(sentences);
            let sentences: Vec<&str> = a.intersection(&b).map(String::as_str).collect();
            suspects.extend(told(
                Suspicion::SharedTexts,
                "sentences",
                &sentences,
                [name, other],
            ));
        }
    }
    suspects
}

fn told(suspicion: Suspicion, what: &str, found: &[&str], [a, b]: [&str; 2]) -> Option<Suspect> {
    let examples: Vec<String> = found
        .iter()
        .take(TOLD)
        .map(|one| format!("{one:?}"))
        .collect();
    let more = if found.len() > TOLD { ", …" } else { "" };
    (!found.is_empty()).then(|| Suspect {
        suspicion,
        utterance: None,
        why: format!(
            "{a} and {b} share {} {what}: {}{more}",
            found.len(),
            examples.join(", ")
        ),
    })
}

fn speakers(utterances: &[Utterance]) -> BTreeSet<&str> {
    utterances
        .iter()
        .filter_map(|one| one.speaker.as_deref())
        .collect()
}

/// Sentences as they are told apart: by their words, whatever their case.
fn sentences(utterances: &[Utterance]) -> BTreeSet<String> {
    utterances
        .iter()
        .map(|one| one.text.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() >= SENTENCE)
        .map(|words| words.join(" ").to_lowercase())
        .collect()
}
