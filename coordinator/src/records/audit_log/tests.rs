//! What is written, what is not, and what becomes of a log that cannot be.

use std::os::unix::fs::symlink;

use super::*;

fn record(last: u8) -> AuditRecord {
    AuditRecord {
        time: crate::records::timestamp::now(),
        from: SocketAddr::from(([10, 0, 0, last], 999)),
        who: Some("ada\x1b[2J\n{\"forged\":1}".to_owned()),
        roles: "submit,read".to_owned(),
        authentication: "certificate".to_owned(),
        method: "Jobs/Submit".to_owned(),
        job: Some("0001-a".to_owned()),
        result: "ok".to_owned(),
        reason: None,
        suppressed: 0,
        lost: 0,
    }
}

/// The records of the file, once there are `count` of them.
fn read(path: &Path, count: usize) -> Vec<AuditRecord> {
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.ends_with('\n');
        if whole && text.lines().count() >= count {
            let lines = text.lines();
            return lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn log(path: &Path, retention: Retention) -> AuditLog {
    AuditLog::open(path.to_owned(), retention).unwrap()
}

#[test]
fn a_record_is_a_line_that_only_its_owner_may_read_and_cannot_forge_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "{\"cut\":").unwrap();
    let written = log(&path, Retention::default());
    written.write(record(1));
    let began = Instant::now();
    let text = loop {
        let text = fs::read_to_string(&path).unwrap();
        if text.matches('\n').count() == 2 {
            break text;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{text}");
    };
    let last: AuditRecord = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let who = r#"ada\u{1b}[2J\n{"forged":1}"#.to_owned();
    assert_eq!(last.who, Some(who));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_floods_the_log_is_counted_and_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let written = log(&path, Retention::default());
    let now = Instant::now();
    for _ in 0..1000 {
        written.write_paced_at(record(1), now);
    }
    written.write_paced_at(record(2), now);
    written.write_paced_at(record(1), now + INTERVAL);
    let found = read(&path, BURST as usize + 2);
    assert_eq!(found.len(), BURST as usize + 2);
    let last = found.last().unwrap();
    assert_eq!(last.suppressed, 1000 - u64::from(BURST));
    assert_eq!(last.from.ip(), IpAddr::from([10, 0, 0, 1]));
    assert!(
        found
            .iter()
            .any(|one| one.from.ip() == IpAddr::from([10, 0, 0, 2]))
    );
    // However many addresses there are, they take no more memory than some.
    for address in 0..20_000_u32 {
        let from = SocketAddr::from((address.to_be_bytes(), 1));
        written.write_paced_at(AuditRecord { from, ..record(1) }, now);
    }
    assert!(written.paces.lock().unwrap().len() <= 4097);
}

#[test]
fn files_are_rotated_by_size_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let line = serde_json::to_vec(&record(1)).unwrap().len() as u64 + 40;
    let retention = Retention {
        bytes: 3 * line,
        files: 2,
    };
    let written = log(&path, retention);
    for last in 0..30 {
        written.write(record(last));
        // The queue is bounded: what is asked here is what is kept.
        while written.lost.load(Ordering::Relaxed) > 0 {}
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    let newest = IpAddr::from([10, 0, 0, 29]);
    while !read(&path, 1).iter().any(|one| one.from.ip() == newest) {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    for name in names {
        let path = dir.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= retention.bytes);
        read(&path, 1);
    }
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up_and_says_later_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    // Never written through.
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &path).unwrap();
    let written = log(&path, Retention::default());
    let began = Instant::now();
    for _ in 0..5 {
        written.write(record(1));
    }
    while written.lost.load(Ordering::Relaxed) < 5 {
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    written.write(record(2));
    let found = read(&path, 1);
    assert_eq!((found.len(), found[0].lost), (1, 5));
}
