//! The body of a request, which is read only after the head has been looked at: a stranger's is not read at all.

use std::future::Future;

use bytes::Bytes;
use relay_core::error::{ErrorCode, RequestError};

use crate::ingress::response::Caller;
use crate::routes::MAX_REQUEST_BYTES;

/// A body that has arrived, or is still on its way.
pub trait RequestBody: Send {
    /// Returns whether it is known to have more than [`MAX_REQUEST_BYTES`].
    fn is_too_large(&self) -> bool;

    /// Reads it.
    ///
    /// # Errors
    /// If it is too large, breaks off, or there is no room for it.
    fn read(self) -> impl Future<Output = Result<Bytes, BodyError>> + Send;
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has more than [`MAX_REQUEST_BYTES`].
    #[error("the body is too large")]
    TooLarge,
    /// It broke off, or took too long.
    #[error("the body is not complete")]
    Incomplete,
    /// The relay has no room for it, or is stopping.
    #[error("the body cannot be taken now")]
    Unavailable,
}

impl BodyError {
    /// The error that the caller gets.
    pub(crate) fn into_request_error(self, caller: Caller) -> RequestError {
        let (code, message) = match (self, caller) {
            (Self::TooLarge, Caller::Loops) => {
                (ErrorCode::TooLarge, "The webhook is larger than 256 KiB: nothing was relayed.")
            }
            (Self::TooLarge, Caller::Clay) => (
                ErrorCode::TooLarge,
                "The row is larger than 256 KiB: take columns out of the body of the HTTP API column.",
            ),
            (Self::Incomplete, _) => {
                (ErrorCode::InvalidBody, "The request broke off before its body was complete: send it again.")
            }
            (Self::Unavailable, _) => (
                ErrorCode::Unavailable,
                "The relay has too many requests at once, or is stopping: send it again later.",
            ),
        };
        RequestError::new(code, message)
    }
}

/// A body that has arrived.
impl RequestBody for Bytes {
    fn is_too_large(&self) -> bool {
        self.len() > MAX_REQUEST_BYTES
    }

    async fn read(self) -> Result<Bytes, BodyError> {
        if self.is_too_large() { Err(BodyError::TooLarge) } else { Ok(self) }
    }
}
