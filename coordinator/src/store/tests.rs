//! The queue through restarts, and who may have the directory.

use super::*;

fn job(name: &str) -> Job {
    let text = format!("name = \"{name}\"\n[corpus]\ntrain = \"/data/train.jsonl\"");
    Job::parse(&text, Path::new("job.toml"), &[]).unwrap()
}

fn queue(dir: &Path) -> Layout {
    Layout::Queue {
        data_dir: dir.to_owned(),
    }
}

#[test]
fn jobs_survive_a_restart_in_order_and_the_generation_is_bumped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(queue(dir.path())).unwrap();
    assert_eq!(store.generation(), 1);
    let first = store.add(&job("a")).unwrap();
    let second = store.add(&job("b")).unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("0001-a", "0002-b"));
    store.set_state(&first, JobState::Running, None).unwrap();
    drop(store);

    let mut store = Store::open(queue(dir.path())).unwrap();
    assert_eq!(store.generation(), 2);
    assert_eq!(store.jobs()[&first].state, JobState::Queued);
    assert_eq!(store.next_queued().as_ref(), Some(&first));
    assert_eq!(store.job(&second).unwrap(), job("b"));
    store.set_state(&first, JobState::Cancelled, None).unwrap();
    assert_eq!(store.next_queued().as_ref(), Some(&second));
    store.resume(&first, Resumption::default()).unwrap();
    assert_eq!(store.next_queued().as_ref(), Some(&second));
    assert_eq!(store.add(&job("c")).unwrap(), "0003-c");
}

#[test]
fn a_second_coordinator_is_refused_and_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let held = Store::open(queue(dir.path())).unwrap();
    let error = Store::open(queue(dir.path())).unwrap_err();
    let pid = std::process::id().to_string();
    assert!(matches!(error, StoreError::Held { holder, .. } if holder == pid));
    drop(held);
    Store::open(queue(dir.path())).unwrap();
}

#[test]
fn a_run_directory_is_taken_up_only_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let single = |resume: bool| Layout::Single {
        run_dir: dir.path().join("run"),
        resume: resume.then(Resumption::default),
    };
    let error = Store::open(single(true)).unwrap_err();
    assert!(matches!(error, StoreError::NoRun { .. }));
    let mut store = Store::open(single(false)).unwrap();
    let id = store.add(&job("a")).unwrap();
    assert!(matches!(
        store.add(&job("b")).unwrap_err(),
        StoreError::RunExists { .. }
    ));
    let failed = Some(("no workers".to_owned(), Class::Infrastructure));
    store.set_state(&id, JobState::Failed, failed).unwrap();
    drop(store);
    let error = Store::open(single(false)).unwrap_err();
    assert!(matches!(error, StoreError::RunExists { .. }));
    let mut store = Store::open(single(true)).unwrap();
    assert_eq!(store.next_queued(), Some(id.clone()));
    store.set_state(&id, JobState::Succeeded, None).unwrap();
    drop(store);
    let error = Store::open(single(true)).unwrap_err();
    assert!(matches!(error, StoreError::RunEnded { .. }));
}

#[test]
fn what_cannot_be_written_is_refused_or_kept_in_mind() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(queue(dir.path())).unwrap();
    let id = store.add(&job("a")).unwrap();
    // In the place of the file that `state.json` is written by way of.
    let obstacle = dir.path().join("state.tmp");
    fs::create_dir(&obstacle).unwrap();
    let failed = Some(("no space".to_owned(), Class::Infrastructure));
    store.set_state(&id, JobState::Failed, failed).unwrap_err();
    assert_eq!(store.jobs()[&id].state, JobState::Failed);
    assert_eq!(store.jobs()[&id].error.as_deref(), Some("no space"));
    store.resume(&id, Resumption::default()).unwrap_err();
    assert_eq!(store.jobs()[&id].state, JobState::Failed);
    store.add(&job("b")).unwrap_err();
    assert_eq!(store.jobs().len(), 1);
    fs::remove_dir(&obstacle).unwrap();
    store.resume(&id, Resumption::default()).unwrap();
    assert_eq!(store.next_queued(), Some(id));
}

#[test]
fn a_damaged_state_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.json"), "{\"generation\": 3").unwrap();
    let error = Store::open(queue(dir.path())).unwrap_err().to_string();
    assert!(error.contains("state.json"), "{error}");
    let left = fs::read_to_string(dir.path().join("state.json")).unwrap();
    assert_eq!(left, "{\"generation\": 3");
}

#[test]
fn a_job_that_ends_its_coordinator_while_it_is_prepared_is_failed_at_the_third_start() {
    let dir = tempfile::tempdir().unwrap();
    let begin = |id: &str| {
        let mut store = Store::open(queue(dir.path())).unwrap();
        if store.next_queued().as_deref() == Some(id) {
            store.set_state(id, JobState::Running, None).unwrap();
        }
        store
    };
    let mut store = Store::open(queue(dir.path())).unwrap();
    let poison = store.add(&job("poison")).unwrap();
    let other = store.add(&job("other")).unwrap();
    drop(store);
    for _ in 0..2 {
        let store = begin(&poison);
        assert_eq!(store.jobs()[&poison].state, JobState::Running);
    }
    let mut store = begin(&poison);
    let entry = &store.jobs()[&poison];
    assert_eq!(entry.state, JobState::Failed);
    assert_eq!(entry.cause, Some(Class::Data));
    let error = entry.error.as_deref().unwrap();
    assert!(error.contains("ended 2 times"), "{error}");
    assert_eq!(store.next_queued().as_ref(), Some(&other));
    // Somebody may ask for it all the same, twice more.
    store.set_state(&other, JobState::Cancelled, None).unwrap();
    store.resume(&poison, Resumption::default()).unwrap();
    drop(store);
    for _ in 0..2 {
        drop(begin(&poison));
    }
    assert_eq!(begin(&poison).jobs()[&poison].state, JobState::Failed);
}

#[test]
fn a_coordinator_that_ends_while_a_job_is_trained_or_that_is_stopped_is_not_the_jobs_doing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(queue(dir.path())).unwrap();
    let id = store.add(&job("a")).unwrap();
    for start in 0..8 {
        store.set_state(&id, JobState::Running, None).unwrap();
        match start % 4 {
            0 | 2 => store.set_prepared(&id).unwrap(),
            1 => store.set_state(&id, JobState::Queued, None).unwrap(),
            // It ends while it prepares the job, once in a while.
            _ => {}
        }
        drop(store);
        store = Store::open(queue(dir.path())).unwrap();
        assert_eq!(store.next_queued().as_ref(), Some(&id), "{start}");
    }
}
