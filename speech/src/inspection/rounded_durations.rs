//! Durations that were rounded down: the recordings go on for less than a second behind what the manifest says.

use crate::manifest::{ROUNDING, Utterance};

/// Seconds by which a duration may be too short and still be meant as the whole recording's.
const MAX_REST_SECONDS: f64 = 1.0;
/// Utterances that are named.
const NAMED_RECORDINGS: usize = 3;

/// What is to be said where the ends of recordings are cut off: in most of the utterances, or where every duration
/// is a number of whole seconds. Utterances come with the seconds of their recordings.
pub fn cut_ends<'a>(utterances: impl IntoIterator<Item = (&'a Utterance, f64)>) -> Option<String> {
    let mut cut = Vec::new();
    let (mut heard, mut all_whole) = (0, true);
    for (utterance, recorded) in utterances {
        heard += 1;
        all_whole &= utterance.offset == 0.0 && utterance.duration.fract() == 0.0;
        let rest = recorded - utterance.duration;
        if utterance.offset == 0.0 && rest > ROUNDING && rest < MAX_REST_SECONDS {
            cut.push((utterance.id.as_str(), rest));
        }
    }
    if cut.is_empty() || !all_whole && cut.len() * 2 <= heard {
        return None;
    }
    let mean = cut.iter().map(|(_, rest)| rest).sum::<f64>() / cut.len() as f64;
    let most = cut.iter().map(|(_, rest)| *rest).fold(0.0, f64::max);
    let named: Vec<String> = cut
        .iter()
        .take(NAMED_RECORDINGS)
        .map(|(id, _)| format!("{id:?}"))
        .collect();
    let more = if cut.len() > NAMED_RECORDINGS {
        ", …"
    } else {
        ""
    };
    let what = if all_whole {
        "every duration is a number of whole seconds, and"
    } else {
        "durations seem to be rounded down:"
    };
    Some(format!(
        "{what} {} of {heard} recordings go on behind it, for {mean:.2} s on average and {most:.2} s at most, which \
         is cut off: {}{more}",
        cut.len(),
        named.join(", ")
    ))
}
