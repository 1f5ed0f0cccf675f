//! How requests come in: message by message, each held as its bytes come and passed on once it is whole, in time,
//! and no more at once from one address than the coordinator can hold. What a peer declares takes no memory. It
//! does not depend on what requests ask. Pushes keep their own time (`tensors::receiving`).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::time::Sleep;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
    service::Routes,
};

use super::{
    allowance::{Allowance, Held},
    answers::Answer,
    gate::Guest,
    limits::Limits,
    methods::{self, Bounds, Counted, Incoming},
    refusal::Refusal,
};

/// The services, behind bodies that are bounded.
#[derive(Clone)]
pub(super) struct Bounded {
    routes: Routes,
    limits: Limits,
}

impl Bounded {
    pub(super) const fn new(routes: Routes, limits: Limits) -> Self {
        Self { routes, limits }
    }
}

type RoutesError = <Routes as Service<http::Request<Body>>>::Error;

impl Service<http::Request<Body>> for Bounded {
    type Response = http::Response<Body>;
    type Error = RoutesError;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, RoutesError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        <Routes as Service<http::Request<Body>>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let bounds = methods::bounds(request.uri().path());
        let Some(guest) = request.extensions().get::<Guest>().cloned() else {
            let status = Status::from(Refusal::Unauthenticated(
                "nothing says where it comes from".to_owned(),
            ));
            return Box::pin(async { Ok(status.into_http()) });
        };
        let Limits {
            request: within,
            stall,
            ..
        } = self.limits;
        let call = guest.connection.begin_call();
        let mut held = Held::nothing(Arc::clone(&guest.allowance));
        let request =
            request.map(|body| Body::new(Arriving::new(body, bounds, guest.allowance, within)));
        let answered = self.routes.call(request);
        Box::pin(async move {
            let response = dated(answered.await?);
            if !held.add(bounds.answer) {
                return Ok(dated(Status::from(Refusal::TooMuch).into_http()));
            }
            Ok(response.map(|body| Answer::wrap(body, guest.connection, (call, held), stall)))
        })
    }
}

fn dated(response: http::Response<Body>) -> http::Response<Body> {
    dated_at(response, SystemTime::now())
}

/// hyper writes the date into each answer, and panics where the clock shows a time before 1970, which its form
/// cannot say: some machines begin so until their clock is set.
fn dated_at(mut response: http::Response<Body>, now: SystemTime) -> http::Response<Body> {
    if now < SystemTime::UNIX_EPOCH {
        let first = http::HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        response.headers_mut().insert(http::header::DATE, first);
    }
    response
}

/// A request's body on its way.
struct Arriving {
    body: Body,
    bounds: Bounds,
    messages: Messages,
    /// What came and was not passed on.
    waiting: VecDeque<Bytes>,
    /// How many of those make whole messages.
    whole: usize,
    /// Bytes that are counted for what was passed on and for what is whole; the others wait.
    counted: usize,
    counted_waiting: usize,
    allowance: Arc<Allowance>,
    /// What is held of it.
    held: Held,
    /// The deadline of a request that is not streamed.
    due: Option<(Pin<Box<Sleep>>, Duration)>,
    /// The call's turn among those that are counted.
    turn: Turn,
    /// The body has ended; with its trailers, if it had any.
    ended: Option<Option<http::HeaderMap>>,
}

enum Turn {
    Unasked(Counted),
    Waits(Pin<Box<Sleep>>),
    Come,
}

impl Arriving {
    fn new(body: Body, bounds: Bounds, allowance: Arc<Allowance>, patience: Duration) -> Self {
        let timed = bounds.incoming != Incoming::Streamed;
        let held = Held::nothing(Arc::clone(&allowance));
        let turn = bounds.counted.map_or(Turn::Come, Turn::Unasked);
        Self {
            body,
            bounds,
            messages: Messages::default(),
            waiting: VecDeque::new(),
            whole: 0,
            counted: 0,
            counted_waiting: 0,
            allowance,
            held,
            due: timed.then(|| (Box::pin(tokio::time::sleep(patience)), patience)),
            turn,
            ended: None,
        }
    }

    /// Takes a piece of the body.
    fn take(&mut self, mut data: Bytes) -> Result<(), Refusal> {
        /// What a piece takes beside its bytes: one of a single byte is not for free.
        const PIECE_BYTES: usize = 256;
        let bytes = data.len() + PIECE_BYTES;
        if !self.held.add(bytes) {
            return Err(Refusal::TooMuch);
        }
        self.counted_waiting += bytes;
        let most = self.bounds.message;
        let whole = self.messages.take(&data, most).map_err(|declared| {
            let bytes = declared;
            Refusal::LongMessage { bytes, most }
        })?;
        if self.bounds.incoming == Incoming::Whole && self.messages.begun > 1 {
            return Err(Refusal::SecondMessage);
        }
        if whole > 0 {
            let rest = data.split_off(whole);
            self.waiting.push_back(data);
            self.whole = self.waiting.len();
            self.counted += std::mem::take(&mut self.counted_waiting);
            data = rest;
        }
        if !data.is_empty() {
            self.waiting.push_back(data);
        }
        Ok(())
    }

    /// Whether the next piece may be passed on.
    fn may_pass(&self) -> bool {
        match self.bounds.incoming {
            Incoming::Whole => self.ended.is_some() && !self.waiting.is_empty(),
            Incoming::Collected | Incoming::Streamed => {
                self.whole > 0 || (self.ended.is_some() && !self.waiting.is_empty())
            }
        }
    }

    /// What was passed on is done with.
    fn is_asked_for_more(&mut self) {
        if self.bounds.incoming == Incoming::Streamed && self.whole == 0 {
            self.held.release(std::mem::take(&mut self.counted));
        }
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        /// How long a call waits for its turn.
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Turn::Unasked(counted) = &self.turn {
            let Some(wait) = self.allowance.turn(*counted, PATIENCE) else {
                return Poll::Ready(Err(Refusal::TooOften));
            };
            self.turn = if wait.is_zero() {
                Turn::Come
            } else {
                Turn::Waits(Box::pin(tokio::time::sleep(wait)))
            };
        }
        if let Turn::Waits(sleep) = &mut self.turn {
            ready!(sleep.as_mut().poll(context));
            self.turn = Turn::Come;
        }
        Poll::Ready(Ok(()))
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.is_asked_for_more();
        loop {
            if self.may_pass() {
                if let Err(refusal) = ready!(self.poll_turn(context)) {
                    return Poll::Ready(Some(Err(refusal.into())));
                }
                self.whole = self.whole.saturating_sub(1);
                let piece = self.waiting.pop_front();
                return Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))));
            }
            if let Some(trailers) = &mut self.ended {
                let trailers = trailers.take();
                return Poll::Ready(trailers.map(|all| Ok(http_body::Frame::trailers(all))));
            }
            if let Some((end, patience)) = &mut self.due
                && end.as_mut().poll(context).is_ready()
            {
                let within = *patience;
                return Poll::Ready(Some(Err(Refusal::Incomplete { within }.into())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.ended = Some(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Err(refusal) = self.take(data) {
                            return Poll::Ready(Some(Err(refusal.into())));
                        }
                    }
                    Err(frame) => self.ended = Some(frame.into_trailers().ok()),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_empty()
            && match &self.ended {
                Some(trailers) => trailers.is_none(),
                None => self.body.is_end_stream(),
            }
    }
}

/// Where the messages of a body end. Each is preceded by a byte, which says whether it is compressed, and by its
/// length in four bytes, the highest first.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have come.
    prefixed: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// Messages whose length has come.
    begun: u64,
}

const PREFIX_BYTES: usize = 5;

impl Messages {
    /// How many of the bytes that come next are up to the end of the last message that ends in them.
    ///
    /// # Errors
    /// The length of a message of more than `most` bytes.
    fn take(&mut self, data: &[u8], most: usize) -> Result<usize, usize> {
        let (mut at, mut whole) = (0, 0);
        while at < data.len() {
            if self.prefixed < PREFIX_BYTES {
                self.prefix[self.prefixed] = data[at];
                self.prefixed += 1;
                at += 1;
                if self.prefixed == PREFIX_BYTES {
                    let [_, length @ ..] = self.prefix;
                    self.left = u32::from_be_bytes(length) as usize;
                    self.begun += 1;
                    if self.left > most {
                        return Err(self.left);
                    }
                }
            } else {
                let taken = self.left.min(data.len() - at);
                self.left -= taken;
                at += taken;
            }
            if self.prefixed == PREFIX_BYTES && self.left == 0 {
                self.prefixed = 0;
                whole = at;
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests;
