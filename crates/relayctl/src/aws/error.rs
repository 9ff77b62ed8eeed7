//! What a failed call to AWS means for the person who made it.
//!
//! Told by its kind and AWS' code alone: the SDK's own text of a failure quotes the answer, and an answer may hold what
//! nobody should read on a screen.

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::error::Error;

/// A call, in the words of a policy: which permission it takes, and on what.
#[derive(Debug, Clone)]
pub struct AwsCall {
    /// The permission: `sqs:SendMessage`.
    pub action: &'static str,
    /// The resource: its name or URL.
    pub resource: String,
    /// The region.
    pub region: String,
}

/// A secret that somebody has deleted, and that is kept for a while.
#[derive(Debug, thiserror::Error)]
#[error("the secret {0} is scheduled for deletion: `aws secretsmanager restore-secret --secret-id {0}` brings it back")]
pub struct DeletedSecret(pub String);

impl AwsCall {
    /// What its failure means.
    #[must_use]
    pub fn to_error<E>(&self, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error {
            SdkError::ServiceError(service_error) => {
                self.classify(service_error.err().code().unwrap_or_default(), service_error.raw().status().as_u16())
            }
            SdkError::DispatchFailure(failure) => match failure.as_connector_error().map(find_credentials_error) {
                Some(Some(credentials)) => credentials,
                _ => self.unreachable(),
            },
            _ => self.unreachable(),
        }
    }

    fn unreachable(&self) -> Error {
        Error::Unreachable { action: self.action, region: self.region.clone() }
    }

    fn classify(&self, code: &str, status: u16) -> Error {
        // Some services put a namespace before the code, or a URL behind it.
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
        match code {
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" => {
                Error::ExpiredCredentials
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
            | "InvalidToken" => Error::InvalidCredentials,
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthorizationError"
            | "AuthorizationErrorException"
            | "UnauthorizedOperation"
            | "NotAuthorized"
            | "OptInRequired" => Error::AccessDenied { action: self.action, on: self.resource.clone() },
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "SlowDown"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ProvisionedThroughputExceededException"
            | "LimitExceededException" => Error::Throttled { action: self.action },
            "ResourceNotFoundException"
            | "ResourceNotFound"
            | "QueueDoesNotExist"
            | "AWS.SimpleQueueService.NonExistentQueue" => Error::ResourceMissing { what: self.resource.clone() },
            // What is said of a secret that is scheduled for deletion (Secrets Manager, API reference, "GetSecretValue").
            "InvalidRequestException" if self.action.starts_with("secretsmanager:") => {
                DeletedSecret(self.resource.clone()).into()
            }
            _ if status >= 500 => Error::AwsInternal { action: self.action, on: self.resource.clone() },
            _ => Error::AwsRejected {
                action: self.action,
                on: self.resource.clone(),
                code: if code.is_empty() { status.to_string() } else { sanitize_code(code) },
            },
        }
    }
}

/// A code as it can be shown: what is not one is cut to what a code may have.
fn sanitize_code(code: &str) -> String {
    code.chars().filter(|ch| ch.is_ascii_alphanumeric() || *ch == '.').take(60).collect()
}

fn find_credentials_error(failure: &aws_smithy_runtime_api::client::result::ConnectorError) -> Option<Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(failure);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<CredentialsError>() {
            return Some(credentials_error(error));
        }
        source = cause.source();
    }
    None
}

/// Why there are no credentials.
#[must_use]
pub fn credentials_error(error: &CredentialsError) -> Error {
    // The chain tells an expired session by words alone, somewhere among its causes.
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.to_string().contains("expired") {
            return Error::ExpiredCredentials;
        }
        source = cause.source();
    }
    match error {
        CredentialsError::InvalidConfiguration(_) => Error::UnusableProfile,
        _ => Error::NoCredentials,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> AwsCall {
        AwsCall { action: "sqs:SendMessage", resource: "a queue".to_owned(), region: "eu-west-1".to_owned() }
    }

    #[test]
    fn each_aws_error_code_has_its_own_remedy() {
        for (code, part) in [
            ("ExpiredTokenException", "have expired"),
            ("UnrecognizedClientException", "does not accept the credentials"),
            ("com.amazon.coral.service#AccessDeniedException", "sqs:SendMessage on a queue"),
            ("ThrottlingException", "less often"),
            ("AWS.SimpleQueueService.NonExistentQueue", "a queue is not there"),
            ("Odd", "refuses sqs:SendMessage on a queue with Odd"),
        ] {
            let message = call().classify(code, 400).to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(matches!(call().classify("InternalFailure", 500), Error::AwsInternal { .. }));
    }

    #[test]
    fn secret_scheduled_for_deletion_names_restore_command() {
        let call =
            AwsCall { action: "secretsmanager:GetSecretValue", resource: "relay/x".to_owned(), region: String::new() };
        let message = call.classify("InvalidRequestException", 400).to_string();
        assert!(
            message.contains("scheduled for deletion") && message.contains("restore-secret --secret-id relay/x`"),
            "{message}"
        );
    }

    #[test]
    fn error_code_is_stripped_of_other_characters() {
        assert_eq!(sanitize_code("<b>ada@example.com</b>"), "badaexample.comb");
    }
}
