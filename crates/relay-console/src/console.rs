//! What the routes of a console share.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRef, FromRequest, Request};
use relay_core::delivery::Direction;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::error::ConsoleError;

/// A secret of the page that this process serves: each of its requests that changes something has it. It is in no URL.
#[derive(Debug, Clone)]
pub(crate) struct PageToken(Arc<str>);

impl PageToken {
    pub(crate) fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the routes share.
pub(crate) struct Console<B> {
    pub(crate) backend: Arc<B>,
    /// Room for streams: each reads the relay after every change.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) token: PageToken,
}

impl<B> Clone for Console<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), streams: Arc::clone(&self.streams), token: self.token.clone() }
    }
}

impl<B> FromRef<Console<B>> for PageToken {
    fn from_ref(console: &Console<B>) -> Self {
        console.token.clone()
    }
}

/// Runs what the backend does on a thread where it may block: its futures need not be `Send`.
pub(crate) async fn run<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, ConsoleError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ConsoleError>>,
{
    let runtime = Handle::current();
    let ended = tokio::task::spawn_blocking(move || runtime.block_on(work())).await;
    ended.unwrap_or_else(|error| {
        let message = "The console failed on this: look into the log.".to_owned();
        Err(ConsoleError::Unavailable { message, source: Some(Box::new(error)) })
    })
}

/// A JSON document that the page has sent.
pub(crate) struct Document<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Document<T> {
    type Rejection = ConsoleError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let document: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        let unreadable =
            |_| ConsoleError::BadRequest("The request is not as the page sends it: load the page again.".to_owned());
        let Json(document) = document.map_err(unreadable)?;
        Ok(Self(document))
    }
}

/// Parses a direction that the page has sent.
pub(crate) fn parse_direction(text: &str) -> Result<Direction, ConsoleError> {
    let direction = Direction::ALL.into_iter().find(|direction| direction.as_str() == text);
    direction.ok_or_else(|| ConsoleError::BadRequest("A direction is loops-to-clay or clay-to-loops.".to_owned()))
}
