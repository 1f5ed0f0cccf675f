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
    let text = std::fs::read_to_string(Lines::Events.path(dir)).unwrap();
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
    let path = Lines::Events.path(dir.path());
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
    let mut follower = Follower::new(dir.path(), Lines::Events, published, true);
    let following = tokio::spawn(async move {
        let mut lines = Vec::new();
        while let Some(more) = follower.next().await.unwrap() {
            lines.extend(more);
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
    let mut follower = Follower::new(dir.path(), Lines::Events, published, false);
    assert_eq!(follower.next().await.unwrap().unwrap().len(), 1);
    assert_eq!(follower.next().await.unwrap(), None);
}

#[test]
fn a_line_longer_than_a_read_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    std::fs::write(&path, "abcdefgh\nij\n").unwrap();
    assert_eq!(read_lines(&path, 0, 12, 3).unwrap(), ["abcdefgh"]);
    assert_eq!(read_lines(&path, 9, 12, 3).unwrap(), ["ij"]);
    assert!(read_lines(&path, 9, 20, 3).is_ok());
    assert!(read_lines(&path, 12, 20, 3).is_err());
}
