//! What a run keeps of the events behind the checkpoint that it goes on from. What was computed there is
//! computed again and says so again; what befell the run (lost workers, differing answers, why it failed)
//! does not come again, and stays on record.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use speech::regular_file;

use super::{Event, JournalError, LineFile, Record};

/// What befell a run after its checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptEvents {
    /// Bytes of `events.jsonl` that are to stay.
    pub length: u64,
    /// As [`crate::records::report::Report::faults`] counts them, as far as there is an event for each.
    pub faults: BTreeMap<String, u64>,
    /// Coordinator starts.
    pub lives: u64,
}

/// Events of this kind that are kept at most, the newest ones: a run that is started again every minute
/// writes some of them each time.
const MAX_KEPT_EVENTS: usize = 10_000;

/// Cuts `events.jsonl` of `run_dir` off behind its first `offset` bytes, but for the lines that are to stay
/// on record. Whoever dies meanwhile leaves the file as it was.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn keep(run_dir: &Path, offset: u64) -> Result<KeptEvents, JournalError> {
    let path = LineFile::Events.path(run_dir);
    cut(&path, offset).map_err(|source| JournalError { path, source })
}

fn cut(path: &Path, offset: u64) -> io::Result<KeptEvents> {
    let whole = KeptEvents {
        length: offset,
        ..KeptEvents::default()
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(whole),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= offset {
        return Ok(whole);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut kept = whole;
    let mut lines = VecDeque::new();
    let mut left_out = Vec::new();
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let line = std::mem::take(&mut line);
        // A line that a power cut tore is no event.
        let whole = line.ends_with(b"\n");
        let Some(record) = whole
            .then(|| serde_json::from_slice::<Record>(&line).ok())
            .flatten()
        else {
            continue;
        };
        match &record.event {
            Event::Quarantined { .. } => left_out.push(line),
            event if is_record(event) => {
                if let Some((kind, count)) = fault(event) {
                    *kept.faults.entry(kind.to_owned()).or_default() += count;
                }
                kept.lives += u64::from(matches!(event, Event::Started { .. }));
                // What was left out is why a run fails that leaves out too much; otherwise the steps that
                // are made again tell it.
                if matches!(event, Event::Failed { .. }) {
                    lines.extend(left_out.drain(..));
                }
                lines.push_back(line);
            }
            _ => {}
        }
        while lines.len() > MAX_KEPT_EVENTS {
            lines.pop_front();
        }
    }
    if !lines.is_empty() {
        let bytes = lines.make_contiguous().concat();
        rewrite(path, &mut file, offset, &bytes)?;
        kept.length += bytes.len() as u64;
    }
    Ok(kept)
}

/// Replaces what lies behind the first `offset` bytes of the open `file` at `path` with `tail`.
fn rewrite(path: &Path, file: &mut File, offset: u64, tail: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut write = || {
        file.rewind()?;
        let mut out = regular_file::create(&temporary)?;
        io::copy(&mut io::Read::take(&*file, offset), &mut out)?;
        out.write_all(tail)?;
        out.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().inspect_err(|_| {
        // Best effort: what stays behind is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    })
}

/// Whether the event is not told again when the steps after the checkpoint are made again.
fn is_record(event: &Event) -> bool {
    match event {
        Event::Started { .. }
        | Event::JobChanged { .. }
        | Event::CheckpointDamaged { .. }
        | Event::WorkerJoined { .. }
        | Event::WorkerLeft { .. }
        | Event::WorkerLost { .. }
        | Event::LeaseExpired { .. }
        | Event::GivenBack { .. }
        | Event::Differed { .. }
        | Event::WorkerQuarantined { .. }
        | Event::ContributionRejected { .. }
        | Event::WorkerTurnedAway { .. }
        | Event::StepRestarted
        | Event::Waiting { .. }
        | Event::Unaudited
        | Event::Cancelled
        | Event::Failed { .. }
        | Event::Succeeded { .. } => true,
        Event::Prepared { .. }
        | Event::UtteranceLeftOut { .. }
        | Event::LeftOut { .. }
        | Event::UnknownText { .. }
        | Event::Warned { .. }
        | Event::Pinned { .. }
        | Event::Quarantined { .. }
        | Event::StepSkipped { .. }
        | Event::Evaluated { .. }
        | Event::RateLowered { .. }
        | Event::StoppedEarly { .. }
        | Event::Chosen { .. }
        | Event::Checkpointed { .. } => false,
    }
}

/// The count that the event is one of, and how many it stands for.
fn fault(event: &Event) -> Option<(&'static str, u64)> {
    let kind = match event {
        Event::WorkerLeft { .. } => "leaves",
        Event::WorkerLost { .. } => "lost",
        Event::LeaseExpired { .. } => "expired",
        Event::GivenBack { more, .. } => return Some(("given_back", 1 + more)),
        Event::Differed { .. } => "differed",
        Event::WorkerQuarantined { .. } => "quarantined_workers",
        Event::ContributionRejected { .. } => "rejected",
        Event::WorkerTurnedAway { .. } => "turned_away",
        Event::StepRestarted => "restarted",
        _ => return None,
    };
    Some((kind, 1))
}

#[cfg(test)]
mod tests {
    use speech::error_class::Class;

    use super::*;
    use crate::records::events::Journal;

    fn lost(worker: u64) -> Event {
        Event::WorkerLost {
            worker,
            name: format!("w{worker}"),
        }
    }

    fn failed() -> Event {
        Event::Failed {
            error: "too many".to_owned(),
            cause: Class::Training,
        }
    }

    fn left_out() -> Event {
        Event::Quarantined {
            worker: 1,
            micro_batch: 3,
            utterances: vec!["a".to_owned()],
            reason: "its norm".to_owned(),
        }
    }

    fn checkpointed() -> Event {
        Event::Checkpointed {
            file: "step-00000002.safetensors".to_owned(),
        }
    }

    /// A run's folder whose events are `before` and `after` a checkpoint, and the checkpoint's offset.
    fn run(before: &[Event], after: &[Event]) -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().unwrap();
        let feed = tokio::sync::watch::Sender::default();
        let mut journal =
            Journal::open(dir.path(), super::super::Offsets::default(), feed).unwrap();
        for event in before {
            journal.event(1, event.clone()).unwrap();
        }
        let offset = journal.offsets().events;
        for event in after {
            journal.event(2, event.clone()).unwrap();
        }
        (dir, offset)
    }

    fn events(dir: &Path) -> Vec<Event> {
        let text = fs::read_to_string(LineFile::Events.path(dir)).unwrap();
        let records = text.lines().map(serde_json::from_str::<Record>);
        records.map(|record| record.unwrap().event).collect()
    }

    #[test]
    fn faults_stay_on_record_and_what_is_computed_again_goes() {
        let (dir, offset) = run(
            &[lost(1), left_out(), checkpointed()],
            &[
                lost(2),
                Event::StepRestarted,
                checkpointed(),
                left_out(),
                lost(3),
            ],
        );
        let kept = keep(dir.path(), offset).unwrap();
        let expected = [
            lost(1),
            left_out(),
            checkpointed(),
            lost(2),
            Event::StepRestarted,
            lost(3),
        ];
        assert_eq!(events(dir.path()), expected);
        let length = fs::metadata(LineFile::Events.path(dir.path()))
            .unwrap()
            .len();
        assert_eq!(kept.length, length);
        let counts = [("lost".to_owned(), 2), ("restarted".to_owned(), 1)];
        assert_eq!((kept.faults, kept.lives), (counts.into(), 0));
        // Once more from the same checkpoint: nothing is lost or told twice.
        assert_eq!(keep(dir.path(), offset).unwrap().length, length);
        assert_eq!(events(dir.path()), expected);
    }

    #[test]
    fn what_a_run_failed_of_stays_beside_its_failure() {
        let again = Event::Started {
            generation: 2,
            resumed_from: None,
        };
        let tail = [left_out(), left_out(), failed(), again.clone(), left_out()];
        let (dir, offset) = run(&[checkpointed()], &tail);
        assert_eq!(keep(dir.path(), offset).unwrap().lives, 1);
        let expected = [checkpointed(), left_out(), left_out(), failed(), again];
        assert_eq!(events(dir.path()), expected);
    }

    #[test]
    fn a_torn_line_and_a_missing_file_are_nothing_to_keep() {
        let (dir, offset) = run(&[lost(1)], &[lost(2)]);
        let path = LineFile::Events.path(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 4);
        fs::write(&path, bytes).unwrap();
        let kept = keep(dir.path(), offset).unwrap();
        assert_eq!((kept.length, kept.faults.len()), (offset, 0));
        fs::remove_file(path).unwrap();
        assert_eq!(keep(dir.path(), offset).unwrap().length, offset);
    }

    #[test]
    fn a_long_history_is_cut_at_its_beginning() {
        let many: Vec<Event> = (0..MAX_KEPT_EVENTS as u64 + 50).map(lost).collect();
        let (dir, offset) = run(&[], &many);
        assert_eq!(offset, 0);
        let kept = keep(dir.path(), offset).unwrap();
        assert_eq!(kept.faults["lost"], many.len() as u64);
        assert_eq!(events(dir.path()), many[50..]);
    }
}
