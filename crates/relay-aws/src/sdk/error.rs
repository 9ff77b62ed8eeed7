//! A failed call to AWS: the permission and resource, the kind of failure, and AWS' own code and message.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::region::Region;
use relay::ports::queue::StoreError;

/// Longest part of AWS' message that is logged.
const MAX_MESSAGE_CHARS: usize = 200;
/// Longest part of an error code that is shown.
const MAX_CODE_CHARS: usize = 60;

/// A call, in the words of an IAM policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCall {
    /// Permission that it needs, such as `sqs:SendMessage`.
    pub operation: &'static str,
    /// Name or URL of its resource.
    pub resource: String,
    /// Region that it goes to.
    pub region: String,
}

/// A failed call.
///
/// The SDK's error is not its source: it quotes the whole response, which may hold personal data.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{description}")]
pub struct AwsError {
    /// The call.
    pub call: AwsCall,
    /// Kind of the failure.
    pub kind: AwsErrorKind,
    /// Text for the log.
    pub description: String,
}

/// Kind of a failed call, as far as the remedies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// There are no usable credentials.
    Credentials(CredentialsIssue),
    /// The permission is missing.
    AccessDenied,
    /// AWS asks for fewer calls.
    Throttled,
    /// The resource does not exist.
    NotFound,
    /// The resource is a secret that is scheduled for deletion.
    DeletedSecret,
    /// AWS failed.
    Internal,
    /// AWS rejected the call with another code, or with this status and no code.
    Rejected(String),
    /// There was no response.
    Unreachable,
}

/// Reason for which AWS credentials cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsIssue {
    /// There are none.
    Missing,
    /// The profile is misconfigured.
    UnusableProfile,
    /// They have expired.
    Expired,
    /// AWS does not accept them.
    Rejected,
}

impl AwsCall {
    /// Creates the call of a client in this region.
    pub fn new(operation: &'static str, resource: &str, region: Option<&Region>) -> Self {
        let region = region.map(ToString::to_string).unwrap_or_default();
        Self { operation, resource: resource.to_owned(), region }
    }

    /// Returns the error of this call.
    pub fn to_error<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> AwsError {
        let kind = match error {
            SdkError::ServiceError(response) => {
                let code = response.err().code().unwrap_or_default();
                AwsErrorKind::from_code(self.operation, code, response.raw().status().as_u16())
            }
            SdkError::DispatchFailure(failure) => {
                let credentials = failure.as_connector_error().and_then(|error| {
                    causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()).map(CredentialsIssue::from)
                });
                credentials.map_or(AwsErrorKind::Unreachable, AwsErrorKind::Credentials)
            }
            _ => AwsErrorKind::Unreachable,
        };
        AwsError { call: self.clone(), kind, description: describe(error) }
    }
}

impl AwsErrorKind {
    /// Returns the kind of a response with this error code and status.
    pub fn from_code(operation: &str, code: &str, status: u16) -> Self {
        // Some services put a namespace before the code, or a URL behind it.
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
        match code {
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" => {
                Self::Credentials(CredentialsIssue::Expired)
            }
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "AuthFailure"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "InvalidToken" => Self::Credentials(CredentialsIssue::Rejected),
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthorizationError"
            | "AuthorizationErrorException"
            | "UnauthorizedOperation"
            | "NotAuthorized"
            | "OptInRequired" => Self::AccessDenied,
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "SlowDown"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ProvisionedThroughputExceededException"
            | "LimitExceededException" => Self::Throttled,
            "ResourceNotFoundException"
            | "ResourceNotFound"
            | "QueueDoesNotExist"
            | "AWS.SimpleQueueService.NonExistentQueue" => Self::NotFound,
            // Secrets Manager, API reference, "GetSecretValue".
            "InvalidRequestException" if operation.starts_with("secretsmanager:") => Self::DeletedSecret,
            _ if status >= 500 => Self::Internal,
            "" => Self::Rejected(status.to_string()),
            _ => Self::Rejected(sanitize_code(code)),
        }
    }
}

impl From<&CredentialsError> for CredentialsIssue {
    fn from(error: &CredentialsError) -> Self {
        // The credentials chain reports an expired session only in the text of one of its causes.
        if causes(error).any(|cause| cause.to_string().contains("expired")) {
            return Self::Expired;
        }
        match error {
            CredentialsError::InvalidConfiguration(_) => Self::UnusableProfile,
            _ => Self::Missing,
        }
    }
}

impl From<AwsError> for StoreError {
    fn from(error: AwsError) -> Self {
        Self::new(error)
    }
}

/// Returns an error and its causes, the error itself first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Removes from an error code what no code has.
fn sanitize_code(code: &str) -> String {
    code.chars().filter(|ch| ch.is_ascii_alphanumeric() || *ch == '.').take(MAX_CODE_CHARS).collect()
}

pub(crate) fn describe<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service_error) => {
            let error = service_error.err();
            let message: String =
                error.message().unwrap_or("it gives no reason").chars().take(MAX_MESSAGE_CHARS).collect();
            format!("AWS refuses the call, {}: {message}", error.code().unwrap_or("without a code"))
        }
        SdkError::TimeoutError(_) => "AWS did not answer in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "AWS did not answer in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_io() => "AWS cannot be reached".to_owned(),
        SdkError::DispatchFailure(_) => "the call to AWS could not be sent".to_owned(),
        SdkError::ResponseError(_) => "the answer of AWS cannot be read".to_owned(),
        _ => "the call to AWS could not be made".to_owned(),
    }
}

/// Whether a failed call certainly had no effect, because AWS rejected it as a client error.
pub(crate) fn was_not_applied<E>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(service_error) => (400..500).contains(&service_error.raw().status().as_u16()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::send_message::SendMessageError;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    #[test]
    fn service_error_shows_code_and_message_without_response() {
        let error =
            SendMessageError::generic(ErrorMetadata::builder().code("AccessDenied").message("Not you.").build());
        let error = SdkError::service_error(error, "the raw answer with ada@example.com");
        assert_eq!(describe(&error), "AWS refuses the call, AccessDenied: Not you.");
    }

    #[test]
    fn timeout_is_described_without_request_data() {
        let error: SdkError<SendMessageError, &str> = SdkError::timeout_error("ada@example.com");
        assert_eq!(describe(&error), "AWS did not answer in time");
    }

    #[test]
    fn missing_credentials_are_found_among_causes() {
        use aws_smithy_runtime_api::client::result::ConnectorError;
        let call = AwsCall::new("sqs:SendMessage", "a queue", None);
        for (credentials, issue) in [
            (CredentialsError::not_loaded("no session"), CredentialsIssue::Missing),
            (CredentialsError::provider_error("the session has expired"), CredentialsIssue::Expired),
        ] {
            let error: SdkError<SendMessageError, HttpResponse> =
                SdkError::dispatch_failure(ConnectorError::other(credentials.into(), None));
            assert_eq!(call.to_error(&error).kind, AwsErrorKind::Credentials(issue));
        }
    }

    #[test]
    fn error_code_is_stripped_of_other_characters() {
        assert_eq!(sanitize_code("<b>ada@example.com</b>"), "badaexample.comb");
    }
}
