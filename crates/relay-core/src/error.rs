//! The error that a caller gets when the relay rejects a request.
//!
//! A [`RequestError`] has a code for programs, a sentence for the Clay user, and the invalid field. Its HTTP status
//! depends on the route and is chosen outside this crate.

use strum::{Display, IntoStaticStr, VariantArray};

use crate::text::{MAX_MESSAGE_CHARS, truncate_chars};

/// Code of an error, the same in responses, logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// The body is larger than the relay reads.
    TooLarge,
    /// A header of a signed webhook is missing.
    MissingHeader,
    /// A header of a signed webhook is malformed.
    MalformedHeader,
    /// No signature matches any of the signing secrets.
    InvalidSignature,
    /// The signature matches, but its time is too far in the past or the future.
    TimestampOutOfRange,
    /// A verified webhook is not one of Loops' events.
    InvalidBody,
    /// The bearer token is missing or wrong, or none is configured.
    InvalidToken,
    /// The bearer token is right, but lacks the scope that the route needs.
    MissingScope,
    /// The row is not JSON, or not an object.
    InvalidJson,
    /// The value of a field cannot be sent to Loops.
    InvalidField,
    /// A field that Loops needs is missing or blank.
    MissingField,
    /// Clay sent a column's name or a broken object instead of the column's value.
    ColumnNotInserted,
    /// A text is longer than Loops accepts.
    ValueTooLong,
    /// An option of the route has an unknown value.
    InvalidOption,
    /// It is not known whether Loops has the event, and only an operator may have it sent again.
    OutcomeUnknown,
    /// Loops rejected the call for good.
    LoopsRejected,
    /// Loops rejected the relay's key, also after the secret was read again.
    LoopsKeyRejected,
    /// A secret that the relay needs is not set.
    NotConfigured,
    /// A service that the relay needs for this request cannot be reached now.
    Unavailable,
    /// There is no such path.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// An error of the relay itself.
    Internal,
}

impl ErrorCode {
    /// All codes, in the order in which they are declared.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The code as responses show it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An error that may be sent to the caller. All but its message may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    code: ErrorCode,
    message: String,
    field: Option<String>,
    log_detail: Option<String>,
    pub(crate) depends_on_schema: bool,
}

impl RequestError {
    /// Creates an error with one sentence that says what happened, why, and what to do; cut to 300 characters.
    pub fn new(code: ErrorCode, message: impl AsRef<str>) -> Self {
        let message = truncate_chars(message.as_ref(), MAX_MESSAGE_CHARS);
        Self { code, message, field: None, log_detail: None, depends_on_schema: false }
    }

    /// Adds the invalid field, option or header.
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds what the log says and the caller must not see, because the caller may be a stranger.
    pub fn with_log_detail(mut self, detail: impl Into<String>) -> Self {
        self.log_detail = Some(detail.into());
        self
    }

    /// Whether it depends on the list of the account's properties, which may be outdated.
    pub const fn depends_on_schema(&self) -> bool {
        self.depends_on_schema
    }

    /// Code for programs.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// Sentence for the Clay user: at most 300 characters.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The invalid field: the first, if there are several.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What the log alone says.
    pub fn log_detail(&self) -> Option<&str> {
        self.log_detail.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_truncated_to_clay_cell_limit() {
        let error = RequestError::new(ErrorCode::InvalidField, "x".repeat(400));
        assert_eq!(error.message().chars().count(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn with_field_sets_field() {
        let error = RequestError::new(ErrorCode::InvalidField, "no").with_field("email");
        assert_eq!(error.field(), Some("email"));
    }
}
