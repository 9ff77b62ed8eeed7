//! Errors of an AWS account and of a stack in it, with their remedies.

use std::io;

use relay_aws::sdk::error::{AwsError, AwsErrorKind, CredentialsIssue};

use crate::explain::{Explain, Explanation, explain};

/// Why an account or a stack cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
pub(crate) enum Error {
    Call(#[from] AwsError),
    Credentials(CredentialsIssue),
    NoProfile {
        profile: String,
    },
    NoRegion,
    NoStack {
        name: String,
        region: String,
    },
    /// The stack is not the relay's, or of an older version.
    NoOutput {
        stack: String,
        output: &'static str,
    },
    NoEventSource {
        function: String,
    },
    UnreadableSamConfig {
        path: String,
        detail: io::ErrorKind,
    },
    InvalidSamConfig {
        path: String,
        line: usize,
    },
    NoSuchEnvironment {
        path: String,
        environment: String,
        names: String,
    },
}

impl Error {
    /// Whether AWS denied or throttled the call.
    pub(crate) fn is_denied_or_throttled(&self) -> bool {
        matches!(self, Self::Call(error) if matches!(error.kind, AwsErrorKind::AccessDenied | AwsErrorKind::Throttled))
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Call(error) => explain_call(error),
            Self::Credentials(issue) => explain_credentials(*issue),
            Self::NoProfile { profile } => explain!(
                Unavailable,
                "there is no AWS profile {profile}",
                "`aws configure list-profiles` lists those there are; give one with --profile, or correct \
                 samconfig.toml"
            ),
            Self::NoRegion => explain!(
                Unavailable,
                "no AWS region is set",
                "give --region, or set AWS_REGION, or write it into samconfig.toml or your AWS profile"
            ),
            Self::NoStack { name, region } => explain!(
                Unavailable,
                "there is no stack {name} in {region}",
                "check --stack and --region, or deploy it with `make deploy`"
            ),
            Self::NoOutput { stack, output } => explain!(
                Unavailable,
                "the stack {stack} has no output {output}",
                "check that it is the relay's, and deploy this version with `make deploy`"
            ),
            Self::NoEventSource { function } => explain_missing(&format!("the event source of {function}")),
            Self::UnreadableSamConfig { path, detail } => {
                explain!(Usage, "{path} cannot be read ({detail})", "give the path of a file, or - for standard input")
            }
            Self::InvalidSamConfig { path, line } => explain!(
                Usage,
                "{path} is not a configuration of SAM (line {line})",
                "correct it, or name the stack with --stack"
            ),
            Self::NoSuchEnvironment { path, environment, names } => {
                explain!(Usage, "{path} has no environment {environment}", "give one of {names} with --config-env")
            }
        }
    }
}

fn explain_call(error: &AwsError) -> Explanation {
    let (action, on, region) = (error.call.operation, &error.call.resource, &error.call.region);
    match &error.kind {
        AwsErrorKind::Credentials(issue) => explain_credentials(*issue),
        AwsErrorKind::AccessDenied => explain!(
            Unavailable,
            "these AWS credentials may not do {action} on {on}",
            "have that permission added, or use others with --profile"
        ),
        AwsErrorKind::Throttled => {
            explain!(Unavailable, "AWS asks to be called less often ({action})", "try again in a minute")
        }
        AwsErrorKind::NotFound => explain_missing(on),
        AwsErrorKind::DeletedSecret => explain!(
            Unavailable,
            "the secret {on} is scheduled for deletion",
            "`aws secretsmanager restore-secret --secret-id {on}` brings it back"
        ),
        AwsErrorKind::Internal => explain!(
            Unavailable,
            "AWS fails at {action} on {on}",
            "try again, and look at the AWS health page if it stays"
        ),
        AwsErrorKind::Rejected(code) => explain!(
            Unavailable,
            "AWS refuses {action} on {on} with {code}",
            "look that code up in the reference of the service"
        ),
        AwsErrorKind::Unreachable => explain!(
            Unavailable,
            "AWS cannot be reached for {action} in {region}",
            "check the network, --region and AWS_ENDPOINT_URL, and try again"
        ),
    }
}

fn explain_credentials(issue: CredentialsIssue) -> Explanation {
    match issue {
        CredentialsIssue::Missing => explain!(
            Unavailable,
            "no AWS credentials are found",
            "sign in with `aws sso login` or `aws configure`, or give --profile, or set AWS_ACCESS_KEY_ID"
        ),
        CredentialsIssue::UnusableProfile => explain!(
            Unavailable,
            "the AWS profile gives no credentials",
            "sign in with `aws sso login`, look into ~/.aws/config, or name another one with --profile"
        ),
        CredentialsIssue::Expired => {
            explain!(Unavailable, "the AWS credentials have expired", "sign in again, for example with `aws sso login`")
        }
        CredentialsIssue::Rejected => explain!(
            Unavailable,
            "AWS does not accept the credentials",
            "check the keys of the profile, and this machine's clock"
        ),
    }
}

fn explain_missing(resource: &str) -> Explanation {
    explain!(
        Unavailable,
        "{resource} is not there",
        "the stack has lost it; docs/runbook.md, \"A part of the stack is gone\", says how it comes back"
    )
}

#[cfg(test)]
mod tests {
    use relay_aws::sdk::error::AwsCall;

    use super::*;

    fn failed(operation: &'static str, resource: &str, code: &str, status: u16) -> Error {
        let call = AwsCall { operation, resource: resource.to_owned(), region: "eu-west-1".to_owned() };
        let kind = AwsErrorKind::from_code(operation, code, status);
        Error::Call(AwsError { call, kind, description: String::new() })
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
            let message = failed("sqs:SendMessage", "a queue", code, 400).to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = failed("sqs:SendMessage", "a queue", "InternalFailure", 500).to_string();
        assert!(message.starts_with("AWS fails at sqs:SendMessage on a queue: "), "{message}");
    }

    #[test]
    fn secret_scheduled_for_deletion_names_restore_command() {
        let message = failed("secretsmanager:GetSecretValue", "relay/x", "InvalidRequestException", 400).to_string();
        assert!(
            message.contains("scheduled for deletion") && message.contains("restore-secret --secret-id relay/x`"),
            "{message}"
        );
    }
}
