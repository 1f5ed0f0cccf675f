//! The names of a manifest's utterances: each line's own, or one made of what the line says.

use std::collections::HashMap;

use super::line::ParsedLine;
use super::{BadLine, LineError, Utterance};

/// The ids seen, with the line of each.
#[derive(Default)]
pub(super) struct Ids(HashMap<String, usize>);

impl Ids {
    pub(super) fn add(&mut self, id: &str, line: usize) -> Result<(), LineError> {
        match self.0.get(id) {
            None => {
                self.0.insert(id.to_owned(), line);
                Ok(())
            }
            Some(&first) => Err(LineError::DuplicateId {
                id: id.to_owned(),
                first,
            }),
        }
    }

    fn is_free(&self, id: &str) -> bool {
        !self.0.contains_key(id)
    }
}

/// The utterances of the numbered `lines`, in their order, and the lines whose own id is another one's.
///
/// A line without an id is called as its recording is. Where several lines are of one recording (NeMo writes
/// segments so), their ids have its path, the channel where one is named, the offset and the duration, and behind these the number of the line
/// where all are the same.
pub(super) fn name(lines: Vec<(usize, ParsedLine)>) -> (Vec<Utterance>, Vec<BadLine>) {
    let mut ids = Ids::default();
    let mut bad = Vec::new();
    let mut unnamed: HashMap<&str, usize> = HashMap::new();
    for (number, line) in &lines {
        if !line.has_id {
            *unnamed.entry(&line.utterance.id).or_default() += 1;
        } else if let Err(problem) = ids.add(&line.utterance.id, *number) {
            let line = *number;
            bad.push(BadLine { line, problem });
        }
    }
    let shared: Vec<bool> = lines
        .iter()
        .map(|(_, line)| {
            unnamed
                .get(line.utterance.id.as_str())
                .is_some_and(|&count| count > 1)
        })
        .collect();
    let mut repeated = bad.iter().map(|one| one.line).peekable();
    let mut utterances = Vec::with_capacity(lines.len());
    for ((number, line), shared) in lines.into_iter().zip(shared) {
        let ParsedLine {
            mut utterance,
            has_id,
        } = line;
        if repeated.next_if_eq(&number).is_some() {
            continue;
        }
        if !has_id {
            if shared || !ids.is_free(&utterance.id) {
                let Utterance {
                    id,
                    offset,
                    duration,
                    channel,
                    ..
                } = &utterance;
                let channel = channel.map_or(String::new(), |channel| format!(":{channel}"));
                utterance.id = format!("{id}{channel}@{offset}+{duration}");
            }
            while !ids.is_free(&utterance.id) {
                utterance.id = format!("{}#{number}", utterance.id);
            }
            ids.0.insert(utterance.id.clone(), number);
        }
        utterances.push(utterance);
    }
    (utterances, bad)
}
