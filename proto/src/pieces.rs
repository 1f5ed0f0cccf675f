//! Messages of bounded size. What grows with a corpus, its speakers, its classes or a history is cut
//! into messages of about [`PART_BYTES`], far below [`MAX_MESSAGE_BYTES`](crate::MAX_MESSAGE_BYTES), and put together again on the
//! other side.

use std::string::FromUtf8Error;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::v1;

/// Bytes of a message beyond which it is cut, or its content goes by a stream.
pub const PART_BYTES: usize = 1 << 20;

/// The most bytes of a text that comes in pieces: a recipe, a report, a line of a log.
pub const MOST_JOINED: usize = 256 << 20;

/// Pieces that do not make a text.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum PiecesError {
    #[error("it is longer than {MOST_JOINED} bytes")]
    TooLong,
    #[error("it is not UTF-8: {0}")]
    NotUtf8(#[from] FromUtf8Error),
}

/// Bytes that `message` has on the wire.
pub fn encoded_len(message: &impl Message) -> usize {
    message.encoded_len()
}

/// The pieces of a text, which share its memory.
pub fn cut(text: Bytes) -> impl Iterator<Item = v1::Piece> + Send + 'static {
    (0..text.len()).step_by(PART_BYTES).map(move |start| {
        let end = (start + PART_BYTES).min(text.len());
        v1::Piece {
            data: text.slice(start..end),
        }
    })
}

/// A text that comes in pieces. Its memory grows with what has come.
#[derive(Debug, Default)]
pub struct Joined(Vec<u8>);

impl Joined {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When the text becomes longer than [`MOST_JOINED`].
    pub fn push(&mut self, data: &[u8]) -> Result<(), PiecesError> {
        if self.0.len() + data.len() > MOST_JOINED {
            return Err(PiecesError::TooLong);
        }
        self.0.extend_from_slice(data);
        Ok(())
    }

    /// Whether nothing has come so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole text; what was joined is empty again.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn take(&mut self) -> Result<String, PiecesError> {
        Ok(String::from_utf8(std::mem::take(&mut self.0))?)
    }
}

/// The messages of the line of a log that begins at byte `offset` of its file: one, unless the line is long.
pub fn line(offset: u64, json: &str) -> Vec<v1::LogLine> {
    let parts = split(json);
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate();
    parts
        .map(|(index, part)| v1::LogLine {
            json: part.to_owned(),
            more: index < last,
            offset,
        })
        .collect()
}

/// The messages of a submitted job: one, unless its text is long.
pub fn submission(request: &v1::SubmitRequest) -> Vec<v1::SubmitRequest> {
    let parts = split(&request.job_toml).into_iter();
    parts
        .map(|part| v1::SubmitRequest {
            job_toml: part.to_owned(),
            program_version: request.program_version.clone(),
        })
        .collect()
}

/// `text` in parts of at most [`PART_BYTES`] bytes, at least one.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > PART_BYTES {
        let (part, others) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
        parts.push(part);
        rest = others;
    }
    parts.push(rest);
    parts
}

/// The messages of a report: one, unless its results are many or long.
pub fn reports(report: v1::EvaluationReport) -> Vec<v1::EvaluationReport> {
    let v1::EvaluationReport {
        worker,
        key,
        results,
        session,
    } = report;
    let of = |results| v1::EvaluationReport {
        worker,
        key: key.clone(),
        results,
        session: session.clone(),
    };
    let mut messages = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for result in results {
        let length = result.encoded_len();
        if bytes + length > PART_BYTES && !part.is_empty() {
            messages.push(of(std::mem::take(&mut part)));
            bytes = 0;
        }
        bytes += length;
        part.push(result);
    }
    if !part.is_empty() || messages.is_empty() {
        messages.push(of(part));
    }
    messages
}

/// `text` if it has no more than `most` bytes, or else its beginning, with the number of bytes that
/// are missing: for what is shown to people within another message.
pub fn bounded(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let shown = &text[..text.floor_char_boundary(most)];
    format!("{shown} … ({} bytes more)", text.len() - shown.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_MESSAGE_BYTES;

    /// Characters of one to four bytes, so that cuts fall inside of some.
    fn long(bytes: usize) -> String {
        "aé€😀".chars().cycle().take(bytes / 10 * 4 + 3).collect()
    }

    #[test]
    fn a_text_survives_its_pieces_and_is_bounded() {
        for text in [String::new(), "short".to_owned(), long(3 * PART_BYTES)] {
            let mut joined = Joined::default();
            for piece in cut(text.clone().into()) {
                assert!(encoded_len(&piece) <= PART_BYTES + 16);
                joined.push(&piece.data).unwrap();
            }
            assert_eq!(joined.take().unwrap(), text);
            assert!(joined.is_empty());
        }
        let mut joined = Joined(vec![b'a'; MOST_JOINED]);
        joined.push(b"").unwrap();
        let error = joined.push(b"a").unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
        let mut broken = Joined::default();
        broken.push(&[0xc3]).unwrap();
        assert!(broken.take().is_err());
    }

    #[test]
    fn lines_and_jobs_of_any_length_go_in_messages_of_bounded_size() {
        for text in [String::new(), "{}".to_owned(), long(5 * PART_BYTES)] {
            let lines = line(7, &text);
            assert!(
                lines
                    .iter()
                    .all(|line| encoded_len(line) <= PART_BYTES + 16)
            );
            assert!(lines.iter().all(|line| line.offset == 7));
            let (last, first) = lines.split_last().unwrap();
            assert!(!last.more && first.iter().all(|line| line.more));
            let joined: String = lines.iter().map(|line| line.json.as_str()).collect();
            assert_eq!(joined, text);

            let request = v1::SubmitRequest {
                job_toml: text.clone(),
                program_version: "1.2.3".to_owned(),
            };
            let parts = submission(&request);
            assert!(parts.iter().all(|part| part.program_version == "1.2.3"));
            let joined: String = parts.iter().map(|part| part.job_toml.as_str()).collect();
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn a_report_of_a_million_utterances_goes_in_messages_of_bounded_size() {
        let key = Some(v1::Key {
            job: "0001-job".to_owned(),
            ..v1::Key::default()
        });
        for (count, length) in [(0, 0), (3, 10), (1_000_000, 12), (40, 900_000)] {
            let result = |index| v1::UtteranceResult {
                index,
                hypothesis: "x".repeat(length),
                loss: Some(f64::from(index)),
                unusable: None,
            };
            let report = v1::EvaluationReport {
                worker: 7,
                key: key.clone(),
                results: (0..count).map(result).collect(),
                session: Bytes::from_static(b"secret"),
            };
            let parts = reports(report.clone());
            assert!(
                parts
                    .iter()
                    .all(|part| encoded_len(part) < MAX_MESSAGE_BYTES / 2)
            );
            assert!(
                parts
                    .iter()
                    .all(|part| (part.worker, &part.key, &part.session)
                        == (7, &key, &report.session))
            );
            let joined: Vec<_> = parts.into_iter().flat_map(|part| part.results).collect();
            assert_eq!(joined, report.results);
        }
    }

    #[test]
    fn what_is_shown_to_people_is_cut_off_at_a_character() {
        assert_eq!(bounded("aé".to_owned(), 3), "aé");
        assert_eq!(bounded("aéb".to_owned(), 2), "a … (3 bytes more)");
    }
}
