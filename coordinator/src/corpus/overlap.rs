//! Recordings that the training and the validation set have in common: a score on what was trained on says
//! little. They are told apart by their bytes, whatever their files are called.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::Item;

/// Utterances that are named.
const MAX_NAMED_UTTERANCES: usize = 5;

/// How many utterances of the validation set are heard in training too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRecordings {
    /// Whose recording, or segment of it, is trained on as well.
    pub same: u64,
    /// Validation utterances that overlap a segment that is trained on.
    pub overlapping: u64,
    /// Validation utterances in whose recording other segments are trained on.
    pub beside: u64,
    /// The size of the validation set.
    pub of: u64,
    /// The first of them, those that are trained on before the others.
    pub examples: Vec<String>,
}

/// What `valid` shares with `train`; `None` where that is nothing.
pub(super) fn find(train: &[Item], valid: &[Item]) -> Option<SharedRecordings> {
    let wanted: BTreeSet<[u8; 32]> = valid.iter().map(|item| item.recording.digest).collect();
    let mut spans: BTreeMap<[u8; 32], Channels<Vec<(u64, u64)>>> = BTreeMap::new();
    for item in train {
        let digest = item.recording.digest;
        if wanted.contains(&digest) {
            let channels = spans.entry(digest).or_default();
            channels.entry(item.channel).or_default().push(span(item));
        }
    }
    if spans.is_empty() {
        return None;
    }
    let mut trained: BTreeMap<[u8; 32], Channels<TrainedSpans>> = BTreeMap::new();
    for (digest, channels) in spans {
        let channels = channels.into_iter();
        let channels = channels.map(|(channel, spans)| (channel, TrainedSpans::new(spans)));
        trained.insert(digest, channels.collect());
    }
    let mut shared = SharedRecordings {
        of: valid.len() as u64,
        ..SharedRecordings::default()
    };
    let mut named: [Vec<&str>; 3] = Default::default();
    for item in valid {
        let Some(trained) = trained.get(&item.recording.digest) else {
            continue;
        };
        let (count, named) = match overlap(trained, item) {
            Overlap::Whole => (&mut shared.same, &mut named[0]),
            Overlap::Part => (&mut shared.overlapping, &mut named[1]),
            Overlap::Nothing => (&mut shared.beside, &mut named[2]),
        };
        *count += 1;
        if named.len() < MAX_NAMED_UTTERANCES {
            named.push(&item.id);
        }
    }
    let examples = named.iter().flatten().take(MAX_NAMED_UTTERANCES);
    shared.examples = examples.map(|id| (*id).to_owned()).collect();
    Some(shared)
}

impl fmt::Display for SharedRecordings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            same,
            overlapping,
            beside,
            of,
            examples,
        } = self;
        let named: Vec<String> = examples.iter().map(|id| format!("{id:?}")).collect();
        let more = if same + overlapping + beside > examples.len() as u64 {
            ", …"
        } else {
            ""
        };
        write!(
            f,
            "training and validation share recordings: {same} of {of} validation utterances are trained on, {overlapping} \
             in part, and of {beside} other segments of the same recording; what the model makes of them says little: {}{more}",
            named.join(", ")
        )
    }
}

/// The samples of an item's recording that it has.
fn span(item: &Item) -> (u64, u64) {
    match &item.segment {
        Some(part) => (part.start, part.end),
        None => (0, u64::MAX),
    }
}

/// By channel of a recording; `None` is the mean of all.
type Channels<T> = BTreeMap<Option<u16>, T>;

/// How much of `item` is trained on, of its recording. The mean of the channels has something of each, and one
/// channel nothing of another.
fn overlap(trained: &Channels<TrainedSpans>, item: &Item) -> Overlap {
    let mut most = Overlap::Nothing;
    for (channel, trained) in trained {
        let is_same = *channel == item.channel;
        if !is_same && channel.is_some() && item.channel.is_some() {
            continue;
        }
        match trained.holds(span(item)) {
            Overlap::Whole if is_same => return Overlap::Whole,
            Overlap::Whole | Overlap::Part => most = Overlap::Part,
            Overlap::Nothing => {}
        }
    }
    most
}

/// The spans of a recording that are trained on.
struct TrainedSpans {
    exact: BTreeSet<(u64, u64)>,
    /// Where each begins, in order, and where the last of it and those before it ends.
    latest: Vec<(u64, u64)>,
}

/// How much of a span is trained on.
enum Overlap {
    Whole,
    Part,
    Nothing,
}

impl TrainedSpans {
    fn new(mut spans: Vec<(u64, u64)>) -> Self {
        let exact = spans.iter().copied().collect();
        spans.sort_unstable();
        let mut end = 0;
        for span in &mut spans {
            end = end.max(span.1);
            span.1 = end;
        }
        Self {
            exact,
            latest: spans,
        }
    }

    fn holds(&self, span: (u64, u64)) -> Overlap {
        if self.exact.contains(&span) {
            return Overlap::Whole;
        }
        let before = self.latest.partition_point(|other| other.0 < span.1);
        match self.latest[..before].last() {
            Some((_, end)) if *end > span.0 => Overlap::Part,
            _ => Overlap::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, sync::Arc};

    use super::*;
    use crate::corpus::Recording;

    fn item(id: &str, recording: u8, segment: Option<Range<u64>>) -> Item {
        Item {
            id: id.to_owned(),
            recording: Arc::new(Recording {
                path: format!("{id}.wav").into(),
                bytes: 1,
                digest: [recording; 32],
            }),
            segment,
            channel: None,
            text: String::new(),
            speaker: None,
            voice: None,
            frames: 1,
            seconds: 1.0,
        }
    }

    #[test]
    fn what_both_sets_hear_is_counted_by_how_much_of_it() {
        let train = [
            item("a", 1, None),
            item("b", 2, Some(0..100)),
            item("c", 2, Some(10..20)),
            item("d", 3, Some(50..60)),
        ];
        let valid = [
            item("v", 3, Some(60..70)),
            item("w", 2, Some(90..120)),
            item("x", 2, Some(100..120)),
            item("y", 1, None),
            item("z", 4, None),
            item("d", 3, Some(50..60)),
            item("e", 3, None),
        ];
        let shared = find(&train, &valid).unwrap();
        assert_eq!(
            shared,
            SharedRecordings {
                same: 2,
                overlapping: 2,
                beside: 2,
                of: 7,
                examples: ["y", "d", "w", "e", "v"].map(str::to_owned).to_vec(),
            }
        );
        assert_eq!(
            shared.to_string(),
            "training and validation share recordings: 2 of 7 validation utterances are trained on, 2 in part, and of 2 \
             other segments of the same recording; what the model makes of them says little: \"y\", \"d\", \"w\", \"e\", \
             \"v\", …"
        );
        assert_eq!(find(&train, &valid[4..5]), None);
        assert_eq!(find(&train, &[]), None);

        let channel = |id: &str, channel| Item {
            channel,
            ..item(id, 1, Some(10..20))
        };
        let train = [channel("a", Some(0))];
        let valid = [Some(0), Some(1), None].map(|it| channel("v", it));
        let shared = find(&train, &valid).unwrap();
        assert_eq!(
            [shared.same, shared.overlapping, shared.beside],
            [1, 1, 1],
            "the same channel, the mean that it is part of, and the other one"
        );
    }
}
