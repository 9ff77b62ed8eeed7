//! Text of a failed call to AWS: the kind of failure, and AWS' own code and message.
//!
//! The SDK's own text quotes the whole response, which may hold personal data.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Longest part of AWS' message that is logged.
const MAX_MESSAGE_CHARS: usize = 200;

/// Describes a failed call for the log.
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
}
