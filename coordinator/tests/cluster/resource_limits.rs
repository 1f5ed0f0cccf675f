//! Peers that say nothing, nonsense, too much or too little: they cost themselves, and nobody else.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use coordinator::server::Limits;
use prost::Message as _;
use proto::{
    contribution::{Contribution, Key},
    session::WorkerSession,
    tensor,
    v1::{self, push_request::Part, receipt::Outcome},
    wire::Wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::{Code, Status};

use crate::{
    proxy::{Proxy, Road, Way},
    site::{Live, Site, calm, within},
    toy::{Toy, channel, key, spent},
};

/// The preface and an empty SETTINGS frame.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn address(live: &Live) -> SocketAddr {
    live.running.as_ref().unwrap().addr()
}

async fn connect(live: &Live, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address(live)).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// A call whose headers have come, and whose body has not.
async fn half_a_call(live: &Live) -> TcpStream {
    let path = b"/unisono.v1.Jobs/List";
    // POST http, and a path.
    let mut headers = vec![0x83, 0x86, 0x04, path.len() as u8];
    headers.extend(path);
    let headers = frame(HEADERS, 0x4, 1, &headers);
    connect(live, &[GREETING, &headers].concat()).await
}

/// Reads until the other side has closed the connection, or reset it.
async fn closed(stream: &mut TcpStream) {
    let mut unread = [0; 4096];
    while !matches!(stream.read(&mut unread).await, Ok(0) | Err(_)) {}
}

/// Writes a byte every 50 ms, for as long as they are taken.
async fn trickle(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn jobs_answer(live: &Live) {
    let mut jobs = live.jobs.clone();
    within(jobs.list(v1::ListRequest::default())).await.unwrap();
}

/// A coordinator with a job and a worker that holds a lease and its contribution.
async fn about_to_push(live: &mut Live, job: &str) -> (String, Toy, v1::Lease, Contribution) {
    let id = live.submit(job).await;
    let mut toy = Toy::join(&live.url, "toy").await;
    let lease = within(toy.lease()).await;
    let contribution = toy.compute(&lease).await.unwrap();
    (id, toy, lease, contribution)
}

/// The parts of a push: its header, and its vector in chunks of so many bytes.
fn parts(toy: &Toy, key: Key, contribution: &Contribution, bytes: usize) -> Vec<v1::PushRequest> {
    let header = v1::ContributionHeader::new(&toy.session, key, contribution, spent());
    let encoded = tensor::encode(contribution.sum.as_ref().unwrap(), Wire::F32);
    let chunks = (0..encoded.len()).step_by(bytes).map(|start| {
        Part::Chunk(v1::TensorChunk {
            offset: start as u64 / 4,
            data: encoded.slice(start..encoded.len().min(start + bytes)),
            in_lane: None,
        })
    });
    let parts = std::iter::once(Part::Header(header)).chain(chunks);
    parts
        .map(|part| v1::PushRequest { part: Some(part) })
        .collect()
}

/// Sends parts with a pause between them, and never ends the stream.
async fn push_slowly(
    toy: &Toy,
    parts: Vec<v1::PushRequest>,
    pause: Duration,
) -> Result<Outcome, Status> {
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let sending = tokio::spawn(async move {
        for part in parts {
            if send.send(part).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        send.closed().await;
    });
    let parts = tokio_stream::wrappers::ReceiverStream::new(receive);
    let answer = toy.tensors.clone().push(parts).await;
    sending.abort();
    Ok(answer?.into_inner().outcome())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_greet_in_time_are_closed_and_others_stay() {
    let site = Site::new();
    let greeting = Duration::from_millis(700);
    let limits = Limits {
        greeting,
        ..Limits::default()
    };
    let live = site.start_within(limits).await;
    let began = Instant::now();
    let mut silent = connect(&live, b"").await;
    let mut half = connect(&live, &GREETING[..15]).await;
    let mut slow = connect(&live, b"").await;
    let mut prefaced = connect(&live, &GREETING[..24]).await;
    let mut greeted = connect(&live, GREETING).await;
    let idle = channel(&live.url).await;
    // All of the greeting would take more than twice the time.
    trickle(&mut slow, GREETING).await;
    for stream in [&mut silent, &mut half, &mut slow, &mut prefaced] {
        within(closed(stream)).await;
    }
    assert!(began.elapsed() >= greeting);
    let unclosed = tokio::time::timeout(Duration::from_millis(50), closed(&mut greeted)).await;
    assert!(unclosed.is_err(), "who has greeted may be silent");
    let mut jobs = v1::jobs_client::JobsClient::new(idle);
    within(jobs.list(v1::ListRequest::default())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_headers_without_end_and_floods_of_resets_end_their_connection_alone() {
    let site = Site::new();
    let live = site.start().await;
    let web = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    let mut web = connect(&live, web).await;
    within(closed(&mut web)).await;

    let mut endless = connect(&live, GREETING).await;
    let bytes = within(async {
        let piece = vec![0; 16_000];
        let mut bytes = 0;
        let mut kind = HEADERS;
        let (mut answers, mut headers) = endless.split();
        let reading = async {
            let mut unread = [0; 4096];
            while !matches!(answers.read(&mut unread).await, Ok(0) | Err(_)) {}
        };
        let writing = async {
            while headers.write_all(&frame(kind, 0, 1, &piece)).await.is_ok() {
                kind = CONTINUATION;
                bytes += piece.len();
            }
        };
        tokio::join!(reading, writing);
        bytes
    })
    .await;
    assert!(bytes < 16 << 20, "{bytes} bytes of headers were taken");

    let mut flood = connect(&live, GREETING).await;
    within(async {
        let (mut answers, mut calls) = flood.split();
        let reading = async {
            let mut unread = [0; 4096];
            while !matches!(answers.read(&mut unread).await, Ok(0) | Err(_)) {}
        };
        let writing = async {
            for call in 0.. {
                // POST http /, taken back at once.
                let stream = 2 * call + 1;
                let mut both = frame(HEADERS, 0x4, stream, &[0x83, 0x86, 0x84]);
                both.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                if calls.write_all(&both.repeat(1)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! { () = reading => {}, () = writing => {} }
    })
    .await;
    jobs_answer(&live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_all_its_connections_leaves_the_others_theirs() {
    let site = Site::new();
    let limits = Limits {
        connections: 6,
        connections_per_peer: 4,
        ..Limits::default()
    };
    // The site holds one.
    let live = site.start_within(limits).await;
    let mut own = Vec::new();
    for _ in 0..3 {
        own.push(connect(&live, GREETING).await);
    }
    let greeted = |mut stream: TcpStream| async move {
        // The coordinator's own SETTINGS come back.
        let answered = stream.read_exact(&mut [0; 9]).await.is_ok();
        (answered, stream)
    };
    let answered = |stream| within(greeted(stream));
    for stream in own.split_off(0) {
        let (answered, stream) = answered(stream).await;
        assert!(answered);
        own.push(stream);
    }
    let refused = TcpStream::connect(address(&live)).await.unwrap();
    assert!(!answered(refused).await.0, "a fifth connection was let in");
    let elsewhere = async |last: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::from(([127, 0, 0, last], 0)))
            .unwrap();
        let mut stream = socket.connect(address(&live)).await.unwrap();
        let _ = stream.write_all(GREETING).await;
        answered(stream).await
    };
    let (two, _two) = elsewhere(2).await;
    let (three, _three) = elsewhere(3).await;
    assert!(two && three);
    // Six are the most, and the host that has four of them makes room with one that called nothing.
    let (four, _four) = elsewhere(4).await;
    assert!(four);
    within(async {
        let closings = own.iter_mut().map(|stream| Box::pin(closed(stream)));
        futures::future::select_all(closings).await;
    })
    .await;
    jobs_answer(&live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_connections_change_no_bit() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let mut strangers = Vec::new();
    for number in 0..300 {
        let said = match number % 3 {
            0 => b"".as_slice(),
            1 => &GREETING[..20],
            _ => GREETING,
        };
        strangers.push(connect(&live, said).await);
    }
    let id = live.submit(&site.job()).await;
    for name in ["one", "two"] {
        tokio::spawn(Toy::join(&live.url, name).await.work());
    }
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_whole_is_given_up() {
    let site = Site::new();
    let request = Duration::from_millis(300);
    let limits = Limits {
        request,
        ..Limits::default()
    };
    let live = site.start_within(limits).await;
    let began = Instant::now();
    let mut asking = half_a_call(&live).await;
    let answered = async {
        loop {
            let mut head = [0; 9];
            asking.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            asking.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                return head[4];
            }
        }
    };
    const END_STREAM: u8 = 1;
    assert_ne!(
        within(answered).await & END_STREAM,
        0,
        "it is the last word"
    );
    assert!(began.elapsed() >= request);
    jobs_answer(&live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_was_never_asked_for_is_not_taken() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let (id, toy, lease, contribution) = about_to_push(&mut live, &site.job()).await;
    let other = Toy::join(&live.url, "other").await;
    let forge = |worker: &WorkerSession, attempt: u32| {
        let mut forged = key(&lease);
        forged.attempt += attempt;
        // What was taken would have to be of the model's size, and is refused as too long.
        let mut header = v1::ContributionHeader::new(worker, forged, &contribution, spent());
        header.elements = 1 << 40;
        header
    };
    let sum = contribution.sum.clone().unwrap();
    for header in [forge(&other.session, 0), forge(&toy.session, 1)] {
        let answer = within(other.push_parts(header, &sum)).await.unwrap();
        assert_eq!(answer, Outcome::Stale);
    }
    let asked_for = other.push_parts(forge(&toy.session, 0), &sum);
    let refused = within(asked_for).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    tokio::spawn(toy.work());
    tokio::spawn(other.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(report.faults["foreign"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_trickles_is_given_up_and_counted() {
    let expected = calm().await;
    let site = Site::new();
    let limits = Limits {
        stall: Duration::from_millis(400),
        ..Limits::default()
    };
    let mut live = site.start_within(limits).await;
    let (id, toy, lease, contribution) = about_to_push(&mut live, &site.job()).await;
    // Never silent for long.
    let parts = parts(&toy, key(&lease), &contribution, 4);
    assert!(parts.len() > 50);
    let pushed = push_slowly(&toy, parts, Duration::from_millis(20));
    let refused = within(pushed).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    assert_eq!(report.faults["interrupted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_push_that_is_cut_off_is_added_and_its_node_is_computed_again() {
    let expected = calm().await;
    let site = Site::new();
    let mut live = site.start().await;
    let id = live.submit(&site.job()).await;
    let road = Proxy::start(&live.url, Road::default()).await;
    let mut toy = Toy::join(&road.url, "toy").await;
    let lease = within(toy.lease()).await;
    let contribution = toy.compute(&lease).await.unwrap();
    let mut some = parts(&toy, key(&lease), &contribution, 64);
    some.pop();
    // The last one that is sent is the last that arrives.
    let bytes = some.iter().map(|part| part.encoded_len() as u64).sum();
    road.cut_after(Way::Up, bytes, 1);
    within(push_slowly(&toy, some, Duration::ZERO))
        .await
        .unwrap_err();
    within(async {
        while live.status(&id).await.faults["interrupted"] == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    toy.patient = true;
    tokio::spawn(toy.work());
    let report = live.succeeded(&id).await;
    assert_eq!(report.weights_sha256, expected);
    let faults = report.faults;
    assert_eq!(
        (faults["interrupted"], faults["stale"]),
        (1, 0),
        "{faults:?}"
    );
    assert!(faults["retries"] > 0, "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_bytes_under_way_and_no_more() {
    let site = Site::new();
    let limits = Limits {
        bytes_per_peer: 8 << 20,
        ..Limits::default()
    };
    let live = site.start_within(limits).await;
    let request = |comment: usize| v1::SubmitRequest {
        job_toml: format!("{}\n#{}", site.job(), "x".repeat(comment)),
        program_version: proto::PROGRAM_VERSION.to_owned(),
    };
    let (pieces, receive) = tokio::sync::mpsc::channel(1);
    let mut holder = live.jobs.clone();
    let holding = tokio::spawn(async move {
        let pieces = tokio_stream::wrappers::ReceiverStream::new(receive);
        holder.submit_in_pieces(pieces).await
    });
    for _ in 0..5 {
        pieces.send(request(1 << 20)).await.unwrap();
    }
    let mut jobs = live.jobs.clone();
    let refused = within(async {
        loop {
            // Until the pieces have come, there is room for it.
            if let Err(refused) = jobs.submit(request(3 << 20)).await {
                return refused;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("under way"), "{refused}");
    jobs_answer(&live).await;
    holding.abort();
    drop(pieces);
    within(async {
        while jobs.submit(request(3 << 20)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_an_answer_is_hung_up_on() {
    let site = Site::new();
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut live = site.start_within(limits).await;
    for path in ["Jobs/List", "Jobs/ListWorkers"] {
        live.submit(&site.job()).await;
        // SETTINGS with a window of no bytes for answers.
        let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let path = format!("/unisono.v1.{path}");
        let mut headers = vec![0x83, 0x86, 0x04, path.len() as u8];
        headers.extend(path.as_bytes());
        headers.extend([0x0f, 0x10, 16]);
        headers.extend(b"application/grpc");
        let call = frame(HEADERS, 0x4, 1, &headers);
        // A message without fields, and the end of the request.
        let message = frame(0, 1, 1, &[0; 5]);
        let began = Instant::now();
        let said = [&GREETING[..24], &settings, &call, &message].concat();
        let mut unread = connect(&live, &said).await;
        within(closed(&mut unread)).await;
        assert!(began.elapsed() >= limits.stall, "{path}");
    }
    jobs_answer(&live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_cuts_off_who_is_in_the_middle_of_something() {
    let site = Site::new();
    let mut live = site.start().await;
    let (id, toy, lease, contribution) = about_to_push(&mut live, &site.job()).await;
    let mut silent = connect(&live, b"").await;
    let mut half = connect(&live, &GREETING[..20]).await;
    let mut greeted = connect(&live, GREETING).await;
    let mut asking = half_a_call(&live).await;
    let some = parts(&toy, key(&lease), &contribution, 64)[..3].to_vec();
    let pushing = tokio::spawn(async move { push_slowly(&toy, some, Duration::ZERO).await });
    within(async {
        while live.status(&id).await.workers == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let running = live.running.take().unwrap();
    let began = Instant::now();
    let deadline = Duration::from_secs(4);
    let shutdown = running.shutdown(deadline);
    assert!(tokio::time::timeout(2 * deadline, shutdown).await.is_ok());
    let took = began.elapsed();
    assert!(took < deadline + Duration::from_secs(1), "{took:?}");
    for stream in [&mut silent, &mut half, &mut greeted, &mut asking] {
        within(closed(stream)).await;
    }
    within(pushing).await.unwrap().unwrap_err();
}
