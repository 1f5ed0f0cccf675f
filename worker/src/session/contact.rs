//! The way to a coordinator: three connections, and calls repeated until they are answered. It decides
//! how long to wait between attempts and when to give up; it does not depend on what is asked.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use proto::{
    endpoint::{Connection, Credentials},
    v1::workers_client::WorkersClient,
};
use speech::escape::escape_within;
use tokio::time::Instant;
use tonic::Code;

use super::{REASON, error::SessionError};
use crate::transfer::{CallError, Transfer};

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// Connections to a coordinator, made when first used and again when they break. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    pub url: String,
    pub give_up_after: Option<Duration>,
    /// Small messages only: they do not queue behind tensors.
    pub control: WorkersClient<Connection>,
    /// Nothing but signs of life, which queue behind nothing.
    pub heartbeats: WorkersClient<Connection>,
    pub tensors: Transfer,
}

impl Contact {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When `address` is no address.
    pub(super) fn new(
        address: &str,
        credentials: &Credentials,
        give_up_after: Option<Duration>,
    ) -> Result<Self, SessionError> {
        let endpoint = proto::endpoint::coordinator(address, credentials);
        let endpoint = endpoint.map_err(|error| SessionError::Url {
            url: address.to_owned(),
            reason: error.to_string(),
        })?;
        let url = endpoint.url().to_owned();
        let workers = || {
            WorkersClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
        };
        Ok(Self {
            url,
            give_up_after,
            control: workers(),
            heartbeats: workers(),
            tensors: Transfer::new(endpoint.connect_lazy()),
        })
    }

    /// Makes a call until it is answered, be the answer yes or no. Only for calls that may be made
    /// twice.
    ///
    /// # Errors
    /// What the coordinator answered, or [`CallError::Lost`] once the time to give up has come.
    pub(super) async fn persist<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let started = Instant::now();
        let mut delays = delays();
        loop {
            let lost = match call().await {
                Err(CallError::Lost(reason)) => reason,
                answered => return answered,
            };
            let delay = delays.next().unwrap_or(LONGEST_DELAY);
            if let Some(patience) = self.give_up_after
                && started.elapsed() + delay > patience
            {
                return Err(CallError::Lost(lost));
            }
            tracing::debug!(reason = lost, ?delay, "no contact with the coordinator");
            tokio::time::sleep(delay).await;
        }
    }

    /// What a call that was given up, or answered beyond understanding, means for the session.
    pub(super) fn failed(&self, error: CallError) -> SessionError {
        let url = self.url.clone();
        match error {
            CallError::Lost(reason) => SessionError::Unreachable {
                url,
                tried_for: self.give_up_after.unwrap_or_default(),
                reason,
            },
            CallError::Refused {
                code: Code::Unauthenticated | Code::PermissionDenied,
                message,
                ..
            } => SessionError::Refused {
                url,
                reason: escape_within(&message, REASON),
                may_pass: false,
            },
            source => SessionError::Protocol { url, source },
        }
    }
}

/// Exponential and jittered, so that a cluster does not come back all at once; endless.
pub(super) fn delays() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_may_leave_the_scheme_out_and_nonsense_is_named() {
        let url = |address: &str| {
            Contact::new(address, &Credentials::default(), None).map(|contact| contact.url)
        };
        assert_eq!(url("127.0.0.1:7700").unwrap(), "http://127.0.0.1:7700");
        assert_eq!(url("http://[::1]:7700").unwrap(), "http://[::1]:7700");
        for address in ["", "https://u@host:1", "http://", "a b", "ftp://x"] {
            let error = url(address).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{address}` is no")), "{error}");
        }
    }

    #[tokio::test]
    async fn lost_calls_are_made_again_until_answered() {
        let contact = Contact::new("127.0.0.1:1", &Credentials::default(), None).unwrap();
        let mut attempts = 0;
        let answer = contact.persist(|| {
            attempts += 1;
            let attempt = attempts;
            async move {
                if attempt < 4 {
                    return Err(CallError::Lost("down".to_owned()));
                }
                Ok(attempt)
            }
        });
        assert_eq!(answer.await.unwrap(), 4);
    }

    #[tokio::test]
    async fn patience_ends_when_it_was_said_to() {
        let patience = Duration::from_millis(400);
        let contact = Contact::new("127.0.0.1:1", &Credentials::default(), Some(patience)).unwrap();
        let started = Instant::now();
        let lost = || async { Err::<(), _>(CallError::Lost("down".to_owned())) };
        let error = contact.failed(contact.persist(lost).await.unwrap_err());
        let tried = started.elapsed();
        assert!(tried > patience / 4, "{tried:?}");
        let message = error.to_string();
        assert!(
            message.contains("http://127.0.0.1:1 cannot be reached (down), tried for 400ms"),
            "{message}"
        );
    }
}
