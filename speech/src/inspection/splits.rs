//! What manifests that should have nothing in common have in common: recordings, by their samples, their files
//! and their ids; speakers; and sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{SoundMeasures, Suspect, Suspicion};
use crate::manifest::{ROUNDING, Utterance};

/// Words from which on a transcript is a sentence, and to meet it twice is no accident of a small task.
const SENTENCE_WORDS: usize = 4;
/// Names that are told.
const NAMED_SUSPECTS: usize = 5;

/// A manifest that was listened to.
#[derive(Clone, Copy)]
pub struct InspectedManifest<'a> {
    /// The name of the manifest.
    pub name: &'a str,
    /// The utterances of the manifest.
    pub utterances: &'a [Utterance],
    /// The sound of each utterance, or what is wrong with its recording; empty where nobody listened.
    pub sounds: &'a [Result<SoundMeasures, String>],
}

/// What each two of the manifests share: recordings, segments of them, ids, speakers and sentences.
pub fn shared(manifests: &[InspectedManifest]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for (place, a) in manifests.iter().enumerate() {
        for b in &manifests[place + 1..] {
            suspects.extend(shared_sound(a, b));
            for (suspicion, what, of) in [
                (Suspicion::SharedSpeakers, "speakers", speakers as NamesOf),
                (Suspicion::SharedTexts, "sentences", sentences),
            ] {
                let found: Vec<String> = of(a.utterances)
                    .intersection(&of(b.utterances))
                    .cloned()
                    .collect();
                suspects.extend(told(suspicion, what, &found, [a.name, b.name]));
            }
        }
    }
    suspects
}

type NamesOf = fn(&[Utterance]) -> BTreeSet<String>;

/// What of `b` is heard in `a` as well, each of its utterances once.
fn shared_sound(a: &InspectedManifest, b: &InspectedManifest) -> Vec<Suspect> {
    let heard = |manifest: &InspectedManifest| -> Vec<Option<SoundMeasures>> {
        let sounds = manifest
            .sounds
            .iter()
            .map(|sound| sound.as_ref().ok().cloned());
        let mut sounds: Vec<Option<SoundMeasures>> = sounds.collect();
        sounds.resize(manifest.utterances.len(), None);
        sounds
    };
    let (sounds_a, sounds_b) = (heard(a), heard(b));
    let samples: BTreeSet<[u8; 32]> = sounds_a.iter().flatten().map(|it| it.digest).collect();
    let mut spans: BTreeMap<[u8; 32], Vec<(f64, f64)>> = BTreeMap::new();
    for (utterance, sound) in a.utterances.iter().zip(&sounds_a) {
        if let Some(sound) = sound {
            let spans = spans.entry(sound.recording).or_default();
            spans.push((utterance.offset, utterance.offset + sound.seconds));
        }
    }
    for spans in spans.values_mut() {
        // Each with the latest end of those that begin no later.
        spans.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut latest = 0.0f64;
        for span in spans {
            latest = latest.max(span.1);
            span.1 = latest;
        }
    }
    let files: BTreeSet<&Path> = a.utterances.iter().map(|it| it.audio.as_path()).collect();
    let ids: BTreeSet<&str> = a.utterances.iter().map(|it| it.id.as_str()).collect();
    let [mut same, mut overlapping, mut beside, mut named] = [const { Vec::new() }; 4];
    for (utterance, sound) in b.utterances.iter().zip(&sounds_b) {
        let id = utterance.id.clone();
        let of_recording = sound.as_ref().and_then(|it| spans.get(&it.recording));
        match (sound, of_recording) {
            (Some(sound), _) if samples.contains(&sound.digest) => same.push(id),
            (Some(sound), Some(spans)) => {
                let span = (utterance.offset, utterance.offset + sound.seconds);
                if overlaps(span, spans) {
                    overlapping.push(id)
                } else {
                    beside.push(id)
                }
            }
            // Another channel of it.
            (Some(_), None) if files.contains(utterance.audio.as_path()) => beside.push(id),
            _ if ids.contains(id.as_str()) => named.push(id),
            _ => {}
        }
    }
    let kinds = [
        (
            Suspicion::SharedRecordings,
            "recordings (the same samples)",
            same,
        ),
        (
            Suspicion::OverlappingSegments,
            "parts of recordings (segments that overlap)",
            overlapping,
        ),
        (
            Suspicion::SplitRecordings,
            "recordings, of which each has other segments",
            beside,
        ),
        (Suspicion::SharedIds, "ids, of other recordings", named),
    ];
    kinds
        .into_iter()
        .filter_map(|(suspicion, what, ids)| told(suspicion, what, &ids, [a.name, b.name]))
        .collect()
}

/// Whether `span` has more than rounding in common with a segment. `spans` says where each begins, in order, and
/// where the last of it and those before it ends.
fn overlaps(span: (f64, f64), spans: &[(f64, f64)]) -> bool {
    let before = spans.partition_point(|other| other.0 < span.1 - ROUNDING);
    spans[..before]
        .last()
        .is_some_and(|(_, latest)| *latest > span.0 + ROUNDING)
}

/// Which recordings each two of the named manifests share, by their files alone: a sentence for each two.
pub fn shared_files(manifests: &[(&str, &[Utterance])]) -> Vec<String> {
    let mut sentences = Vec::new();
    for (place, (name, utterances)) in manifests.iter().enumerate() {
        for (other, others) in &manifests[place + 1..] {
            let files: BTreeSet<&Path> = utterances.iter().map(|it| it.audio.as_path()).collect();
            let found: BTreeSet<String> = others
                .iter()
                .filter(|it| files.contains(it.audio.as_path()))
                .map(|it| it.audio.display().to_string())
                .collect();
            let found: Vec<String> = found.into_iter().collect();
            let what = "recordings, of which each has utterances";
            let suspect = told(Suspicion::SplitRecordings, what, &found, [name, other]);
            sentences.extend(suspect.map(|suspect| suspect.why));
        }
    }
    sentences
}

fn told(suspicion: Suspicion, what: &str, found: &[String], [a, b]: [&str; 2]) -> Option<Suspect> {
    let examples: Vec<String> = found
        .iter()
        .take(NAMED_SUSPECTS)
        .map(|one| format!("{one:?}"))
        .collect();
    let more = if found.len() > NAMED_SUSPECTS {
        ", …"
    } else {
        ""
    };
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

fn speakers(utterances: &[Utterance]) -> BTreeSet<String> {
    utterances
        .iter()
        .filter_map(|one| one.speaker.clone())
        .collect()
}

/// Sentences as they are told apart: by their words, whatever their case.
fn sentences(utterances: &[Utterance]) -> BTreeSet<String> {
    utterances
        .iter()
        .map(|one| one.text.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() >= SENTENCE_WORDS)
        .map(|words| words.join(" ").to_lowercase())
        .collect()
}
