//! The body of a request that is still on its way.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt as _;
use relay::ingress::request_body::{BodyError, RequestBody};
use relay::routes::MAX_REQUEST_BYTES;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::connections::{Connection, Stage};

/// Maximum time for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that nobody reads is passed over, and for how long, so that the caller is still there for the response.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// A body that is read on demand. What was not read is passed over.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    body: Body,
    connection: Option<Connection>,
    /// The caller sends the body only if it is asked for it (`Expect: 100-continue`), and it was not.
    is_held_back: bool,
}

/// A body that was read, and the room that it takes.
struct HeldBody {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl IncomingBody {
    /// Takes a request apart.
    pub(crate) fn split(request: Request) -> (Parts, Self) {
        let (mut parts, body) = request.into_parts();
        let connection = parts.extensions.remove::<Connection>();
        let is_held_back = parts.headers.contains_key(EXPECT);
        (parts, Self { body, connection, is_held_back })
    }

    /// Reads into one buffer that is as large as the body says it is.
    async fn collect(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::with_capacity(self.max_len());
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Incomplete)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_REQUEST_BYTES {
                return Err(BodyError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// Returns the length that the body says it has; one that does not say may have any that is taken.
    fn max_len(&self) -> usize {
        let hint = self.body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
        hint.unwrap_or(MAX_REQUEST_BYTES).min(MAX_REQUEST_BYTES)
    }
}

impl RequestBody for IncomingBody {
    fn is_too_large(&self) -> bool {
        usize::try_from(self.body.size_hint().lower()).map_or(true, |length| length > MAX_REQUEST_BYTES)
    }

    async fn read(mut self) -> Result<Bytes, BodyError> {
        if self.is_too_large() {
            return Err(BodyError::TooLarge);
        }
        let Some(connection) = self.connection.clone() else { return Err(BodyError::Incomplete) };
        let room = connection.reserve(self.max_len()).await.ok_or(BodyError::Unavailable)?;
        self.is_held_back = false;
        let bytes = tokio::select! {
            bytes = tokio::time::timeout(BODY_TIMEOUT, self.collect()) => bytes.map_err(|_| BodyError::Incomplete)??,
            () = connection.stopping() => return Err(BodyError::Unavailable),
        };
        connection.set_stage(Stage::Handling);
        Ok(Bytes::from_owner(HeldBody { bytes, _room: room }))
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        if self.is_held_back || self.body.is_end_stream() {
            return;
        }
        let mut body = std::mem::take(&mut self.body);
        tokio::spawn(tokio::time::timeout(DISCARD_TIMEOUT, async move {
            let mut discarded_bytes = 0_usize;
            while let Some(Ok(frame)) = body.frame().await {
                discarded_bytes = discarded_bytes.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                if discarded_bytes > MAX_DISCARDED_BYTES {
                    break;
                }
            }
        }));
    }
}
