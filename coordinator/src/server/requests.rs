//! How requests come in: whole, in time, and no more at once from one address than the coordinator
//! can hold. It does not depend on what they ask. Pushes keep their own time (`tensors::receiving`).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use futures::{TryFutureExt as _, future::MapOk};
use proto::{MAX_MESSAGE_BYTES, v1::tensors_server};
use tokio::time::Sleep;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service, http},
    service::Routes,
};

use super::{gate::Guest, refusal::Refusal};

/// Bytes that one address has under way.
#[derive(Debug)]
pub(super) struct Allowance {
    left: AtomicUsize,
}

impl Allowance {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The services, behind bodies that are bounded.
#[derive(Clone)]
pub(super) struct Bounded {
    routes: Routes,
    patience: Duration,
}

impl Bounded {
    /// Requests have `patience` to come whole.
    pub(super) fn new(routes: Routes, patience: Duration) -> Self {
        Self { routes, patience }
    }
}

impl Service<http::Request<Body>> for Bounded {
    type Response = <Routes as Service<http::Request<Body>>>::Response;
    type Error = <Routes as Service<http::Request<Body>>>::Error;
    type Future = MapOk<
        <Routes as Service<http::Request<Body>>>::Future,
        fn(http::Response<Body>) -> http::Response<Body>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        <Routes as Service<http::Request<Body>>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let push = path
            .strip_prefix('/')
            .is_some_and(|path| path.strip_prefix(tensors_server::SERVICE_NAME) == Some("/Push"));
        let guest = request.extensions().get::<Guest>();
        let allowance = guest.map(|guest| Arc::clone(&guest.allowance));
        let patience = (!push).then_some(self.patience);
        let request = request.map(|body| Body::new(Arriving::new(body, allowance, patience)));
        self.routes.call(request).map_ok(dated)
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
    allowance: Option<Arc<Allowance>>,
    /// Bytes that it has of the allowance.
    held: usize,
    /// The deadline of a request that is read whole; a push is read as it comes.
    whole: Option<(Pin<Box<Sleep>>, Duration)>,
    /// Not even one message of it can be held.
    refused: bool,
}

impl Arriving {
    fn new(body: Body, allowance: Option<Arc<Allowance>>, patience: Option<Duration>) -> Self {
        let mut arriving = Self {
            body,
            allowance,
            held: 0,
            whole: patience.map(|patience| (Box::pin(tokio::time::sleep(patience)), patience)),
            refused: false,
        };
        if arriving.whole.is_none() {
            arriving.refused = !arriving.hold(MAX_MESSAGE_BYTES);
        }
        arriving
    }

    fn hold(&mut self, bytes: usize) -> bool {
        let Some(allowance) = &self.allowance else {
            return true;
        };
        let taken = allowance.take(bytes);
        self.held += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(allowance) = &self.allowance {
            allowance.give_back(self.held);
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(Some(Err(Refusal::TooMuch.into())));
        }
        if let Some((end, patience)) = &mut self.whole
            && end.as_mut().poll(context).is_ready()
        {
            let within = *patience;
            return Poll::Ready(Some(Err(Refusal::Incomplete { within }.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.whole.is_some()
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.hold(data.len())
        {
            return Poll::Ready(Some(Err(Refusal::TooMuch.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_date_that_can_be_written_where_the_clock_shows_none() {
        let epoch = SystemTime::UNIX_EPOCH;
        let before = epoch - Duration::from_secs(1);
        for (now, dated) in [(before, true), (epoch, false)] {
            let response = dated_at(http::Response::new(Body::default()), now);
            assert_eq!(response.headers().contains_key(http::header::DATE), dated);
        }
    }
}
