//! Journals on disk: flat records, cut-off lines, checkpoints that say more than a file holds.

use super::{follower::read_lines, *};

fn journal(dir: &Path, offsets: Offsets) -> (Journal, watch::Receiver<Published>) {
    let (feed, published) = watch::channel(Published::default());
    (Journal::open(dir, offsets, feed).unwrap(), published)
}

fn checkpointed(number: u32) -> Event {
    Event::Checkpointed {
        file: format!("step-{number}"),
    }
}

fn lines(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(LineFile::Events.path(dir)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_record_is_one_flat_line_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = journal(dir.path(), Offsets::default());
    let record = journal.event(7, checkpointed(7)).unwrap();
    let line = &lines(dir.path())[0];
    assert!(
        line.contains(r#""step":7,"event":"checkpointed","file":"step-7""#),
        "{line}"
    );
    assert_eq!(serde_json::from_str::<Record>(line).unwrap(), record);
}

#[test]
fn what_follows_the_checkpoint_is_cut_off_and_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = journal(dir.path(), Offsets::default());
    first.event(1, checkpointed(1)).unwrap();
    let offsets = first.offsets();
    first.event(2, checkpointed(2)).unwrap();
    drop(first);
    let (mut second, _) = journal(dir.path(), offsets);
    second.event(2, checkpointed(3)).unwrap();
    let lines = lines(dir.path());
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("step-1") && lines[1].contains("step-3"));
}

#[test]
fn a_file_shorter_than_the_checkpoint_says_ends_with_its_last_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = LineFile::Events.path(dir.path());
    std::fs::write(&path, "{\"a\":1}\n{\"b\":").unwrap();
    let offsets = Offsets {
        events: 1000,
        metrics: 0,
    };
    let (journal, _) = journal(dir.path(), offsets);
    assert_eq!(journal.offsets().events, 8);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":1}\n");
}

#[tokio::test]
async fn a_follower_reads_every_line_once_and_ends_with_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, published) = journal(dir.path(), Offsets::default());
    journal.event(0, checkpointed(0)).unwrap();
    let mut follower = Follower::new(dir.path(), LineFile::Events, published, true, Begin::First);
    let following = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(more) = follower.next().await.unwrap() {
            lines.extend(texts(more));
        }
        lines
    });
    for step in 1..100 {
        journal.event(step, checkpointed(step as u32)).unwrap();
        tokio::task::yield_now().await;
    }
    journal.end();
    assert_eq!(following.await.unwrap(), lines(dir.path()));
}

#[tokio::test]
async fn without_following_the_lines_so_far_are_all() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, published) = journal(dir.path(), Offsets::default());
    journal.event(0, checkpointed(0)).unwrap();
    let mut follower = Follower::new(dir.path(), LineFile::Events, published, false, Begin::First);
    assert_eq!(follower.next().await.unwrap().unwrap().len(), 1);
    assert_eq!(follower.next().await.unwrap(), None);
}

#[test]
fn a_line_longer_than_a_read_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    std::fs::write(&path, "abcdefgh\nij\n").unwrap();
    let read = |start| read_lines(&path, start, 12, 3).unwrap();
    let line = |offset, text: &str| Line {
        offset,
        text: text.to_owned(),
    };
    assert_eq!(read(0), (vec![line(0, "abcdefgh")], 9));
    assert_eq!(read(9), (vec![line(9, "ij")], 12));
    assert!(read_lines(&path, 9, 20, 3).is_ok());
    assert!(read_lines(&path, 12, 20, 3).is_err());
}

fn texts(lines: Vec<Line>) -> Vec<String> {
    lines.into_iter().map(|line| line.text).collect()
}

/// What a follower that begins at `begin` reads next without waiting.
async fn read(dir: &Path, feed: &watch::Receiver<Published>, begin: Begin) -> Vec<Line> {
    let mut follower = Follower::new(dir, LineFile::Events, feed.clone(), false, begin);
    follower.next().await.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn a_follower_begins_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = journal(dir.path(), Offsets::default());
    for step in 0..3 {
        first.event(step, checkpointed(step as u32)).unwrap();
    }
    let offsets = first.offsets();
    first.event(3, checkpointed(3)).unwrap();
    drop(first);
    let (mut journal, feed) = journal(dir.path(), offsets);
    assert!(
        read(dir.path(), &feed, Begin::CurrentStart)
            .await
            .is_empty()
    );
    for step in 4..6 {
        journal.event(step, checkpointed(step as u32)).unwrap();
    }
    let all = read(dir.path(), &feed, Begin::First).await;
    assert_eq!(all.len(), 5);
    assert_eq!(all[3].offset, offsets.events);
    for (index, line) in all.iter().enumerate() {
        let from = read(dir.path(), &feed, Begin::Offset(line.offset)).await;
        assert_eq!(from, all[index..]);
        // Inside of a line: from where the run was taken up.
        let inside = read(dir.path(), &feed, Begin::Offset(line.offset + 1)).await;
        assert_eq!(inside[0].offset, offsets.events);
    }
    let end = journal.offsets().events;
    assert!(read(dir.path(), &feed, Begin::Offset(end)).await.is_empty());
    assert_eq!(
        read(dir.path(), &feed, Begin::Offset(end + 1)).await,
        all[3..]
    );
    assert_eq!(read(dir.path(), &feed, Begin::CurrentStart).await, all[3..]);
}

#[tokio::test]
async fn a_follower_that_waits_for_a_run_to_be_taken_up_reads_from_its_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = journal(dir.path(), Offsets::default());
    first.event(1, checkpointed(1)).unwrap();
    let offsets = first.offsets();
    first.event(2, checkpointed(2)).unwrap();
    let seen = first.offsets().events;
    drop(first);
    for begin in [Begin::Offset(seen), Begin::CurrentStart] {
        let feed = watch::Sender::<Published>::default();
        let mut follower =
            Follower::new(dir.path(), LineFile::Events, feed.subscribe(), true, begin);
        let mut next = std::pin::pin!(follower.next());
        let waits = tokio::time::timeout(std::time::Duration::from_millis(5), next.as_mut());
        assert!(waits.await.is_err(), "nothing is published");
        let mut second = Journal::open(dir.path(), offsets, feed).unwrap();
        // More is written than was there before, so that the byte that was asked for exists again.
        second.event(2, checkpointed(20_000)).unwrap();
        second.event(3, checkpointed(3)).unwrap();
        let lines = texts(next.await.unwrap().unwrap());
        assert!(lines[0].contains("step-20000"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_follower_of_a_run_that_is_taken_up_anew_goes_back_to_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let feed = watch::Sender::default();
    let mut first = Journal::open(dir.path(), Offsets::default(), feed.clone()).unwrap();
    first.event(1, checkpointed(1)).unwrap();
    let offsets = first.offsets();
    first.event(2, checkpointed(2)).unwrap();
    let mut follower = Follower::new(
        dir.path(),
        LineFile::Events,
        feed.subscribe(),
        true,
        Begin::First,
    );
    assert_eq!(follower.next().await.unwrap().unwrap().len(), 2);
    drop(first);
    let mut second = Journal::open(dir.path(), offsets, feed).unwrap();
    for step in 2..5 {
        second.event(step, checkpointed(step as u32 * 100)).unwrap();
    }
    let lines = follower.next().await.unwrap().unwrap();
    assert_eq!((lines.len(), lines[0].offset), (3, offsets.events));
}
