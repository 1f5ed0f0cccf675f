//! Drafts of utterances: what a corpus's lists say of them, before anybody has looked at their recordings.

use std::path::PathBuf;

use super::list::{ListPosition, SOUND_EXTENSIONS};

/// An utterance whose recording nobody has looked at yet.
#[derive(Clone, Debug, Default)]
pub struct UtteranceDraft {
    /// The id that the utterance will have in its manifest.
    pub id: String,
    /// The path of its recording.
    pub audio: PathBuf,
    /// Seconds at which it begins and ends, where it is a part of its recording; an end of `None` is the
    /// recording's.
    pub part: Option<(f64, Option<f64>)>,
    /// Which channel of its recording it is, from 0; `None` where nobody says.
    pub channel: Option<u16>,
    /// Which side of a conversation its recording is, as Kaldi's `reco2file_and_channel` has it: a letter, or a number
    /// from 1. It says something only where the recording has several channels.
    pub side: Option<String>,
    /// What its recording is called, where it may have several utterances.
    pub recording: Option<String>,
    /// The transcript as the publisher has it.
    pub text: String,
    /// The speaker's name, where the corpus has one.
    pub speaker: Option<String>,
    /// The part of the corpus that its publisher put it in.
    pub split: Option<String>,
    /// Where it is listed; `None` where the file itself is all there is.
    pub place: Option<ListPosition>,
}

/// Extensions of samples without a header, which nobody can read who is not told how they are stored.
pub(super) const HEADERLESS_EXTENSIONS: [&str; 2] = ["raw", "pcm"];

impl UtteranceDraft {
    /// Where its recording lies in another form than the layout has, as converted corpora do, that form is taken.
    pub(super) fn find_form(&mut self) {
        if self.audio.exists() {
            return;
        }
        let forms = SOUND_EXTENSIONS
            .iter()
            .filter(|form| !HEADERLESS_EXTENSIONS.contains(form));
        let other = forms
            .map(|form| self.audio.with_extension(form))
            .find(|path| path.exists());
        if let Some(other) = other {
            self.audio = other;
        }
    }
}
