//! `corpus fetch` against a server that breaks off, lies, and changes its mind.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest as _, Sha256};

use crate::fixture::{Ended, run};

/// How the server answers one request after the other; after the last, as the last.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// All that was asked for.
    Honest,
    /// So many bytes of it, and then nothing more.
    BreaksAfter(usize),
    /// As if it had never heard of ranges.
    WithoutRanges,
    Says(u16),
}

/// A server of `file`, and the ranges that it was asked for.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

fn serve(file: Vec<u8>, ways: Vec<Way>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/corpus.tar", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let way = ways[number.min(ways.len() - 1)];
            // A client that went away is the test's to notice.
            let _ = answer(stream.unwrap(), &file, way, &noted);
        }
    });
    Server { url, asked }
}

fn answer(
    mut stream: TcpStream,
    file: &[u8],
    way: Way,
    asked: &Mutex<Vec<Option<usize>>>,
) -> std::io::Result<()> {
    let mut from = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(from);
    if let Way::Says(status) = way {
        return write!(
            stream,
            "HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let from = from.filter(|_| !matches!(way, Way::WithoutRanges));
    let body = &file[from.unwrap_or(0)..];
    let head = match from {
        Some(from) => format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}",
            file.len() - 1,
            file.len()
        ),
        None => "200 OK".to_owned(),
    };
    write!(
        stream,
        "HTTP/1.1 {head}\r\netag: \"one\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    let sent = match way {
        Way::BreaksAfter(bytes) => &body[..bytes.min(body.len())],
        _ => body,
    };
    stream.write_all(sent)
}

/// A packed archive as FSDD's publisher's would be, with one file that says so.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        // Not packed, so that there is something to break off.
        flate2::Compression::none(),
    ));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, content).unwrap();
    };
    add("free-spoken-digit-dataset-1.0.9/README.md", b"digits");
    let noise: Vec<u8> = (0..50_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    add("free-spoken-digit-dataset-1.0.9/noise", &noise);
    tar.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fetch(dir: &Path, server: &Server, sum: Option<&str>) -> Ended {
    let mut args = vec![
        "corpus",
        "fetch",
        "fsdd",
        "--mirror",
        &server.url,
        "-o",
        "json",
    ];
    args.extend(sum.iter().flat_map(|sum| ["--sha256", sum]));
    run(dir, args)
}

#[test]
fn what_breaks_off_goes_on_where_it_was() {
    let file = archive();
    assert!(file.len() > 30_000, "{} bytes", file.len());
    let dir = tempfile::tempdir().unwrap();
    let ways = vec![
        Way::BreaksAfter(10_000),
        Way::Says(503),
        Way::BreaksAfter(7000),
        Way::Honest,
    ];
    let server = serve(file.clone(), ways);
    let sum = sha256(&file);
    let ended = fetch(dir.path(), &server, Some(&sum)).expect(0);
    assert_eq!(
        *server.asked.lock().unwrap(),
        [None, Some(10_000), Some(10_000), Some(17_000)]
    );
    assert!(ended.stderr.contains("licence: CC BY-SA 4.0"), "{ended:?}");
    let fetched = ended.json();
    assert_eq!(fetched["sha256"], sum);
    assert_eq!(fetched["verified"], true);
    assert_eq!(fetched["files"], 2);
    let inner = dir.path().join("fsdd/free-spoken-digit-dataset-1.0.9");
    assert_eq!(std::fs::read(inner.join("README.md")).unwrap(), b"digits");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let again = fetch(dir.path(), &server, Some(&sum)).expect(2);
    assert!(again.stderr.contains("is there already"), "{again:?}");
}

#[test]
fn a_later_call_goes_on_and_a_server_without_ranges_begins_again() {
    let file = archive();
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("fsdd-v1.0.9.tar.gz.part");
    std::fs::write(&part, &file[..20_000]).unwrap();
    let server = serve(file.clone(), vec![Way::WithoutRanges]);
    let ended = fetch(dir.path(), &server, None).expect(0);
    assert_eq!(*server.asked.lock().unwrap(), [Some(20_000)]);
    assert!(
        ended
            .stderr
            .contains("no checksum of it is published; what came has the SHA-256"),
        "{ended:?}"
    );
    assert_eq!(ended.json()["sha256"], sha256(&file));
    assert!(ended.json()["verified"].is_null());
}

#[test]
fn an_archive_that_could_not_be_unpacked_is_not_got_again() {
    let file = archive();
    let sum = sha256(&file);
    let dir = tempfile::tempdir().unwrap();
    // A file is where the folder is unpacked.
    let blocked = dir.path().join("fsdd.unpacking");
    std::fs::write(&blocked, "").unwrap();
    for sum in [Some(sum.as_str()), None] {
        let server = serve(file.clone(), vec![Way::Honest]);
        let ended = fetch(dir.path(), &server, sum).expect(78);
        assert!(
            ended
                .stderr
                .contains("tar.gz is kept: the same command unpacks it"),
            "{ended:?}"
        );
    }
    std::fs::remove_file(&blocked).unwrap();
    let server = serve(file.clone(), vec![Way::Honest]);
    let ended = fetch(dir.path(), &server, Some(&sum)).expect(0);
    assert!(ended.stderr.contains("is not got again"), "{ended:?}");
    assert_eq!(server.asked.lock().unwrap().len(), 0);
    assert_eq!(ended.json()["files"], 2);
    // What is another file, though, is.
    std::fs::remove_dir_all(dir.path().join("fsdd")).unwrap();
    std::fs::write(dir.path().join("fsdd-v1.0.9.tar.gz"), "of another time").unwrap();
    fetch(dir.path(), &server, Some(&sum)).expect(0);
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    // And what is no archive, and has no checksum that says so, is not kept.
    std::fs::remove_dir_all(dir.path().join("fsdd")).unwrap();
    let other = serve(b"no archive".to_vec(), vec![Way::Honest]);
    fetch(dir.path(), &other, None).expect(78);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_what_it_should_be_is_not_kept() {
    let mut file = archive();
    let sum = sha256(&file);
    file[12_345] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let server = serve(file, vec![Way::Honest]);
    let ended = fetch(dir.path(), &server, Some(&sum)).expect(78);
    assert!(
        ended.stderr.contains(&format!("and should have {sum}")),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let gone = serve(Vec::new(), vec![Way::Says(404)]);
    let ended = fetch(dir.path(), &gone, Some(&sum)).expect(78);
    assert!(ended.stderr.contains("the server answers 404"), "{ended:?}");
    let unknown = run(dir.path(), ["corpus", "fetch", "timit"]).expect(2);
    assert!(
        unknown
            .stderr
            .contains("no corpus is called \"timit\"; known: an4, fsdd,")
    );
}
