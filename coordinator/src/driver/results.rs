//! The results of an evaluation, as workers hand them in.

use proto::contribution::Digest;

/// What a model said to an utterance of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    /// The utterance's place in the validation set.
    pub index: u32,
    pub text: String,
    pub loss: Option<f64>,
    /// Why its sound cannot be used; then it has neither text nor loss.
    pub unusable: Option<String>,
}

/// Names the bits of a node's results.
pub(super) fn digest(results: &[Hypothesis]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for result in results {
        hasher.update(&result.index.to_le_bytes());
        hasher.update(&(result.text.len() as u64).to_le_bytes());
        hasher.update(result.text.as_bytes());
        match (result.loss, &result.unusable) {
            (Some(loss), None) => hasher.update(&[1]).update(&loss.to_le_bytes()),
            (None, None) => hasher.update(&[0]),
            (_, Some(_)) => hasher.update(&[2]),
        };
    }
    *hasher.finalize().as_bytes()
}
