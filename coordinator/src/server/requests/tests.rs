//! Bodies that come in pieces, too long, too slowly, or not at all.

use std::{convert::Infallible, future::poll_fn};

use http_body::{Body as _, Frame};

use super::*;
use crate::server::allowance::Total;

#[test]
fn an_answer_has_a_date_that_can_be_written_where_the_clock_shows_none() {
    let epoch = SystemTime::UNIX_EPOCH;
    let before = epoch - Duration::from_secs(1);
    for (now, dated) in [(before, true), (epoch, false)] {
        let response = dated_at(http::Response::new(Body::default()), now);
        assert_eq!(response.headers().contains_key(http::header::DATE), dated);
    }
}

fn message(bytes: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((bytes as u32).to_be_bytes());
    message.extend((0..bytes).map(|at| at as u8));
    message
}

#[test]
fn ends_of_messages_are_found_however_they_are_cut() {
    let text: Vec<u8> = [0, 3, 1, 70, 0].map(message).concat();
    for size in [1, 2, 3, 4, 5, 6, 7, 11, 50, text.len()] {
        let mut messages = Messages::default();
        let mut ends = Vec::new();
        let mut at = 0;
        for piece in text.chunks(size) {
            let whole = messages.take(piece, 70).unwrap();
            if whole > 0 {
                ends.push(at + whole);
            }
            at += piece.len();
        }
        assert_eq!(ends.last(), Some(&text.len()), "pieces of {size}");
        assert!(
            ends.iter().all(|end| [5, 13, 19, 94, 99].contains(end)),
            "{ends:?}"
        );
        assert_eq!((messages.begun, messages.prefixed), (5, 0));
    }
    let mut messages = Messages::default();
    assert_eq!(messages.take(&message(71), 70), Err(71));
    let mut messages = Messages::default();
    assert_eq!(
        messages.take(&[0, 255, 255, 255, 255], 70),
        Err(u32::MAX as usize)
    );
}

/// A body of pieces that are there already; after them it ends, or never does.
struct Pieces {
    left: VecDeque<Vec<u8>>,
    ends: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.left.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

async fn next(arriving: &mut Arriving) -> Option<Result<Frame<Bytes>, Status>> {
    poll_fn(|context| Pin::new(&mut *arriving).poll_frame(context)).await
}

struct Site {
    allowance: Arc<Allowance>,
    most: usize,
}

impl Site {
    fn new(most: usize) -> Self {
        let total = Total::new(1 << 20);
        let allowance = Allowance::new(most, &total, true);
        Self { allowance, most }
    }

    fn arriving(&self, incoming: Incoming, pieces: Vec<Vec<u8>>, ends: bool) -> Arriving {
        let left = pieces.into();
        let body = Body::new(Pieces { left, ends });
        let bounds = Bounds {
            message: 1000,
            incoming,
            ..methods::bounds("")
        };
        let allowance = Arc::clone(&self.allowance);
        Arriving::new(body, bounds, allowance, Duration::from_millis(50))
    }

    fn left(&self) -> usize {
        let mut held = Held::nothing(Arc::clone(&self.allowance));
        (0..=self.most)
            .rev()
            .find(|&bytes| held.add(bytes))
            .unwrap()
    }
}

/// The data that is passed on, piece by piece, up to the end or the refusal.
async fn all(mut arriving: Arriving) -> (Vec<u8>, Option<Status>) {
    let mut data = Vec::new();
    while let Some(frame) = next(&mut arriving).await {
        match frame {
            Ok(frame) => data.extend(frame.into_data().unwrap()),
            Err(status) => return (data, Some(status)),
        }
    }
    (data, None)
}

#[tokio::test]
async fn nothing_of_a_message_is_passed_on_before_it_is_whole() {
    let site = Site::new(10_000);
    let text = message(700);
    let pieces = |upto: usize| {
        text[..upto]
            .chunks(64)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    for incoming in [Incoming::Whole, Incoming::Collected] {
        let (data, refused) = all(site.arriving(incoming, pieces(704), false)).await;
        assert_eq!(
            (data.len(), refused.unwrap().code()),
            (0, tonic::Code::DeadlineExceeded)
        );
        let (data, refused) = all(site.arriving(incoming, pieces(705), true)).await;
        assert!(refused.is_none() && data == text, "{incoming:?}");
    }
    // A streamed one has time.
    let mut streamed = site.arriving(Incoming::Streamed, pieces(704), false);
    let waited = tokio::time::timeout(Duration::from_millis(120), next(&mut streamed)).await;
    assert!(waited.is_err());
    assert!(site.left() < 10_000 - 704);
    drop(streamed);
    assert_eq!(site.left(), 10_000);
}

#[tokio::test]
async fn what_is_declared_takes_nothing_and_too_much_of_it_is_refused_by_its_number() {
    let site = Site::new(10_000);
    let declared = |bytes: u32| {
        let mut prefix = vec![0];
        prefix.extend(bytes.to_be_bytes());
        vec![prefix]
    };
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut one = site.arriving(Incoming::Streamed, declared(1000), false);
        let waited = tokio::time::timeout(Duration::from_millis(1), next(&mut one)).await;
        assert!(waited.is_err());
        open.push(one);
    }
    assert!(site.left() > 4000, "{}", site.left());
    drop(open);
    for incoming in [Incoming::Whole, Incoming::Collected, Incoming::Streamed] {
        let (_, refused) = all(site.arriving(incoming, declared(1001), false)).await;
        let refused = refused.unwrap();
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        assert!(refused.message().contains("1001"), "{refused}");
    }
    assert_eq!(site.left(), 10_000);
}

#[tokio::test]
async fn what_came_counts_until_the_call_ends_or_the_next_message_of_a_stream() {
    let site = Site::new(3000);
    let messages: Vec<Vec<u8>> = (0..9).map(|_| message(900)).collect();
    let (data, refused) = all(site.arriving(Incoming::Streamed, messages.clone(), true)).await;
    assert!(refused.is_none());
    assert_eq!(data, messages.concat());
    let (data, refused) = all(site.arriving(Incoming::Collected, messages.clone(), true)).await;
    assert_eq!(data.len(), 2 * messages[0].len());
    assert_eq!(refused.unwrap().code(), tonic::Code::Unavailable);
    let two = messages[..2].concat();
    let (data, refused) = all(site.arriving(Incoming::Whole, vec![two], true)).await;
    assert!(data.is_empty());
    assert_eq!(refused.unwrap().code(), tonic::Code::InvalidArgument);
    // Pieces of a byte are not for free.
    let bytes: Vec<Vec<u8>> = message(900).chunks(1).map(<[u8]>::to_vec).collect();
    let (_, refused) = all(site.arriving(Incoming::Whole, bytes, true)).await;
    assert_eq!(refused.unwrap().code(), tonic::Code::Unavailable);
    assert_eq!(site.left(), 3000);
}
