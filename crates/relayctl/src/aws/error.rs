//! Errors of an AWS account and of a stack in it, with their remedies.

use std::io;

use relay_aws::sdk::error::{AwsError, AwsErrorKind, CredentialsIssue};

use crate::exit::ExitStatus;
use crate::explain::{Explain, explained_error};

/// Why an account or a stack cannot be used.
#[derive(Debug)]
pub enum Error {
    /// A call failed.
    Call(AwsError),
    /// There are no usable credentials.
    Credentials(CredentialsIssue),
    /// There is no such profile.
    NoProfile { profile: String },
    /// Nothing says which region.
    NoRegion,
    /// There is no such stack.
    NoStack { name: String, region: String },
    /// The stack is not the relay's, or of an older version.
    NoOutput { stack: String, output: &'static str },
    /// Nothing hands messages to a worker.
    NoEventSource { function: String },
    /// SAM's configuration file cannot be read.
    UnreadableSamConfig { path: String, detail: io::ErrorKind },
    /// SAM's configuration file is not one.
    InvalidSamConfig { path: String, line: usize },
    /// SAM's configuration file has no such environment.
    NoSuchEnvironment { path: String, environment: String, names: String },
}

explained_error!(Error);

impl From<AwsError> for Error {
    fn from(error: AwsError) -> Self {
        Self::Call(error)
    }
}

impl Explain for Error {
    fn parts(&self) -> (String, String) {
        match self {
            Self::Call(error) => explain_call(error),
            Self::Credentials(issue) => explain_credentials(*issue),
            Self::NoProfile { profile } => (
                format!("there is no AWS profile {profile}"),
                "`aws configure list-profiles` lists those there are; give one with --profile, or correct \
                 samconfig.toml"
                    .to_owned(),
            ),
            Self::NoRegion => (
                "no AWS region is set".to_owned(),
                "give --region, or set AWS_REGION, or write it into samconfig.toml or your AWS profile".to_owned(),
            ),
            Self::NoStack { name, region } => (
                format!("there is no stack {name} in {region}"),
                "check --stack and --region, or deploy it with `make deploy`".to_owned(),
            ),
            Self::NoOutput { stack, output } => (
                format!("the stack {stack} has no output {output}"),
                "check that it is the relay's, and deploy this version with `make deploy`".to_owned(),
            ),
            Self::NoEventSource { function } => explain_missing(&format!("the event source of {function}")),
            Self::UnreadableSamConfig { path, detail } => (
                format!("{path} cannot be read ({detail})"),
                "give the path of a file, or - for standard input".to_owned(),
            ),
            Self::InvalidSamConfig { path, line } => (
                format!("{path} is not a configuration of SAM (line {line})"),
                "correct it, or name the stack with --stack".to_owned(),
            ),
            Self::NoSuchEnvironment { path, environment, names } => {
                (format!("{path} has no environment {environment}"), format!("give one of {names} with --config-env"))
            }
        }
    }

    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::UnreadableSamConfig { .. } | Self::InvalidSamConfig { .. } | Self::NoSuchEnvironment { .. } => {
                ExitStatus::Usage
            }
            Self::Call(_)
            | Self::Credentials(_)
            | Self::NoProfile { .. }
            | Self::NoRegion
            | Self::NoStack { .. }
            | Self::NoOutput { .. }
            | Self::NoEventSource { .. } => ExitStatus::Unavailable,
        }
    }
}

fn explain_call(error: &AwsError) -> (String, String) {
    let (action, on, region) = (error.call.operation, &error.call.resource, &error.call.region);
    match &error.kind {
        AwsErrorKind::Credentials(issue) => explain_credentials(*issue),
        AwsErrorKind::AccessDenied => (
            format!("these AWS credentials may not do {action} on {on}"),
            "have that permission added, or use others with --profile".to_owned(),
        ),
        AwsErrorKind::Throttled => {
            (format!("AWS asks to be called less often ({action})"), "try again in a minute".to_owned())
        }
        AwsErrorKind::NotFound => explain_missing(on),
        AwsErrorKind::DeletedSecret => (
            format!("the secret {on} is scheduled for deletion"),
            format!("`aws secretsmanager restore-secret --secret-id {on}` brings it back"),
        ),
        AwsErrorKind::Internal => (
            format!("AWS fails at {action} on {on}"),
            "try again, and look at the AWS health page if it stays".to_owned(),
        ),
        AwsErrorKind::Rejected(code) => (
            format!("AWS refuses {action} on {on} with {code}"),
            "look that code up in the reference of the service".to_owned(),
        ),
        AwsErrorKind::Unreachable => (
            format!("AWS cannot be reached for {action} in {region}"),
            "check the network, --region and AWS_ENDPOINT_URL, and try again".to_owned(),
        ),
    }
}

fn explain_credentials(issue: CredentialsIssue) -> (String, String) {
    let (problem, remedy) = match issue {
        CredentialsIssue::Missing => (
            "no AWS credentials are found",
            "sign in with `aws sso login` or `aws configure`, or give --profile, or set AWS_ACCESS_KEY_ID",
        ),
        CredentialsIssue::UnusableProfile => (
            "the AWS profile gives no credentials",
            "sign in with `aws sso login`, look into ~/.aws/config, or name another one with --profile",
        ),
        CredentialsIssue::Expired => {
            ("the AWS credentials have expired", "sign in again, for example with `aws sso login`")
        }
        CredentialsIssue::Rejected => {
            ("AWS does not accept the credentials", "check the keys of the profile, and this machine's clock")
        }
    };
    (problem.to_owned(), remedy.to_owned())
}

fn explain_missing(resource: &str) -> (String, String) {
    (
        format!("{resource} is not there"),
        "the stack has lost it; docs/runbook.md, \"A part of the stack is gone\", says how it comes back".to_owned(),
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
