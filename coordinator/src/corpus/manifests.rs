//! A job's manifests: their lines, with transcripts as the job's models learn them. What cannot be used of them is
//! left out by name.

use std::path::Path;

use rayon::prelude::*;
use speech::{
    corpus_roots::CorpusRoots,
    left_out::Reason,
    manifest::{Manifest, Utterance},
    model::Head,
    text::class_label,
};

use super::{CorpusError, Excluded};
use crate::{job::Job, records::events::Set};

/// The utterances of the manifest at `path`, and what is left out of it so far.
pub(super) fn read(
    job: &Job,
    roots: &CorpusRoots,
    set: Set,
    path: &Path,
) -> Result<(Vec<Utterance>, Excluded), CorpusError> {
    let bound = job.corpus.max_bad;
    let (manifest, bad) = Manifest::read_beneath(roots, path, bound)?;
    let mut utterances = manifest.utterances;
    let mut left_out = Excluded::none(set, path, bound, utterances.len() + bad.len());
    for bad in bad {
        let told = format!("{}:{}: {}", path.display(), bad.line, bad.problem);
        left_out.add(&format!("line {}", bad.line), Reason::BadLine, told);
    }
    let is_keyword = job.model.head == Head::Keyword;
    utterances.par_iter_mut().for_each(|utterance| {
        let text = job.text.normalize(&utterance.text);
        utterance.text = if is_keyword { class_label(&text) } else { text };
    });
    if is_keyword {
        utterances.retain(|utterance| {
            let is_empty = utterance.text.is_empty();
            if is_empty {
                let told = "its transcript is empty, and a keyword is a word: give silence one of its own, such as \
                            \"silence\"";
                left_out.add(&utterance.id, Reason::NoTranscript, told.to_owned());
            }
            !is_empty
        });
    }
    Ok((utterances, left_out))
}
