//! How answers go out: for as long as the peer takes them. It decides that who stops reading is hung up on, and
//! holds no memory; it does not depend on what is answered.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::{Status, body::Body, codegen::Bytes};

use super::{
    allowance::Held,
    gate::{OpenCall, OpenConnection},
    refusal::Refusal,
};

/// The body of an answer, which is let go of when no frame of it is taken for too long.
pub(super) struct Answer {
    rest: Arc<Mutex<Option<Rest>>>,
    /// Since when it is the peer's turn; `None` while the coordinator has nothing to send.
    since: watch::Sender<Option<Instant>>,
}

/// What an answer holds.
struct Rest {
    body: Body,
    /// Until the answer is over.
    _counted: (OpenCall, Held),
}

impl Answer {
    /// `body`, which holds `counted` until it is over. Where nothing of it is taken for as long as `stall`, `connection`
    /// ends: what was sent and not taken would be held until then.
    pub(super) fn wrap(
        body: Body,
        connection: Arc<OpenConnection>,
        counted: (OpenCall, Held),
        stall: Duration,
    ) -> Body {
        use http_body::Body as _;
        if body.is_end_stream() {
            return body;
        }
        let rest = Arc::new(Mutex::new(Some(Rest {
            body,
            _counted: counted,
        })));
        let (since, watched) = watch::channel(Some(Instant::now()));
        let held = Arc::clone(&rest);
        tokio::spawn(async move {
            if is_unread(watched, stall).await {
                // Nothing panics while it is held.
                held.lock().unwrap_or_else(PoisonError::into_inner).take();
                connection.hang_up("an answer was not read");
            }
        });
        Body::new(Self { rest, since })
    }
}

/// Waits until nothing was taken for as long as `stall`, or the answer is over: then it was not unread.
async fn is_unread(mut watched: watch::Receiver<Option<Instant>>, stall: Duration) -> bool {
    loop {
        let since = *watched.borrow_and_update();
        let changed = match since {
            None => watched.changed().await,
            Some(since) => match timeout_at(since + stall, watched.changed()).await {
                Ok(changed) => changed,
                Err(_) => return true,
            },
        };
        if changed.is_err() {
            return false;
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.since.send_replace(None);
        let mut held = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = held.as_mut() else {
            return Poll::Ready(Some(Err(Refusal::Hung.into())));
        };
        let frame = ready!(Pin::new(&mut rest.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => {
                self.since.send_replace(Some(Instant::now()));
            }
            // The last of it.
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let held = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_some_and(|rest| rest.body.is_end_stream())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let held = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref()
            .map_or_else(http_body::SizeHint::default, |rest| rest.body.size_hint())
    }
}
