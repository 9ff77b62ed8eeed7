//! Errors of `setup`.

use std::io;

use relay::config::secret_document::DocumentError;
use relay_doctor::invocation::suggest;

use crate::explain::{Explain, Explanation, explain};
use crate::setup::INPUT_NAMES;

/// Why `setup` did not do its work. Nothing was written, except where the sentence says otherwise. Positions count from 1.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
pub(crate) enum SetupError {
    NoTerminal,
    InputEnded,
    NoInput,
    UnreadableInput { path: String, kind: io::ErrorKind },
    InvalidInputDocument { line: usize },
    UnknownValue { name: String },
    UnexpectedValue { option: &'static str, name: &'static str },
    MissingValue { option: &'static str, name: &'static str },
    InvalidSigningSecret,
    SigningSecretTooShort,
    ApiKeyAsSigningSecret,
    Leftover { name: &'static str, expected_format: &'static str },
    InvalidClayUrl,
    UrlWithoutPath,
    RepeatedUrl { first: usize, second: usize },
    DuplicateWebhook { position: usize },
    NotHeaderSafe { name: &'static str },
    TokenCountMismatch { tokens: usize, urls: usize },
    AmbiguousRoute { routes: String },
    NoSuchSecret { kind: &'static str, which: String },
    PoolWouldShrink { removed: usize, total: usize },
    TokensWouldBeReplaced { replaced: usize, total: usize },
    SigningSecretsWouldBeRemoved { removed: usize, total: usize },
    LastSecret { kind: &'static str },
    TokenNameTaken { name: String },
    LoopsKeyRejected,
    LoopsUnreachable { detail: String },
    InvalidSecretDocument { name: String, line: usize },
    UnusableSecret { name: String, error: DocumentError },
    PartialWrite { written: String, missing: String, error: Box<dyn std::error::Error + Send + Sync> },
    ConcurrentWrite { name: String },
}

impl Explain for SetupError {
    fn explain(&self) -> Explanation {
        let (names, list) = (INPUT_NAMES.join(", "), suggest("setup --list"));
        match self {
            Self::NoTerminal => explain!(
                Usage,
                "there is no terminal to ask on",
                "give the values in a file with --from FILE, or on standard input with --from -"
            ),
            Self::InputEnded => explain!(Usage, "the input ended", "nothing was written"),
            Self::NoInput => {
                explain!(Usage, "no value was given, so nothing was written", "give at least one of {names}")
            }
            Self::UnreadableInput { path, kind } => {
                explain!(Usage, "{path} cannot be read ({kind})", "give the path of a file, or - for standard input")
            }
            Self::InvalidInputDocument { line } => explain!(
                Usage,
                "what was given breaks at line {line}",
                "give a JSON object of texts, or lines NAME=VALUE, named {names}"
            ),
            Self::UnknownValue { name } => explain!(Usage, "{name} is no value that setup takes", "it takes {names}"),
            Self::UnexpectedValue { option, name } => {
                explain!(
                    Usage,
                    "{option} does not take {name}, so nothing was written",
                    "give that to setup without the option"
                )
            }
            Self::MissingValue { option, name } => {
                explain!(Usage, "{option} needs {name}, which was not given", "nothing was written")
            }
            Self::InvalidSigningSecret => explain!(
                Usage,
                "LOOPS_SIGNING_SECRET must be what Loops shows under Settings, Webhooks",
                "base64, with or without whsec_"
            ),
            Self::SigningSecretTooShort => explain!(
                Usage,
                "LOOPS_SIGNING_SECRET is too short to be what Loops shows under Settings, Webhooks",
                "nothing was written; copy it again, whole"
            ),
            Self::ApiKeyAsSigningSecret => explain!(
                Usage,
                "LOOPS_SIGNING_SECRET is the Loops API key, so nothing was written",
                "give what Loops shows under Settings, Webhooks"
            ),
            Self::Leftover { name, expected_format } => {
                explain!(Usage, "{name} must be {expected_format}", "give it again; nothing was written")
            }
            Self::InvalidClayUrl => explain!(
                Usage,
                "CLAY_WEBHOOK_URL must be https URLs of Clay webhooks (http only for this machine) without a user name, \
                 comma-separated",
                ""
            ),
            Self::UrlWithoutPath => explain!(
                Usage,
                "CLAY_WEBHOOK_URL is a host without a path, which is no webhook, so nothing was written",
                "copy the whole URL that Clay shows for the webhook"
            ),
            Self::RepeatedUrl { first, second } => explain!(
                Usage,
                "the Clay webhook URLs number {first} and {second} are the same, so nothing was written",
                "give each once"
            ),
            Self::DuplicateWebhook { position } => explain!(
                Usage,
                "the pool has this Clay webhook already, as number {position}",
                "nothing was written; make another in Clay"
            ),
            Self::NotHeaderSafe { name } => {
                explain!(
                    Usage,
                    "{name} must have visible ASCII characters only",
                    "copy it again, without spaces or line breaks"
                )
            }
            Self::TokenCountMismatch { tokens, urls } => explain!(
                Usage,
                "{tokens} Clay tokens are given for {urls} URLs",
                "give one for all, or one for each, comma-separated"
            ),
            Self::AmbiguousRoute { routes } => {
                explain!(Usage, "name the route that the Clay webhooks belong to with --route", "there are {routes}")
            }
            Self::NoSuchSecret { kind, which } => {
                explain!(Usage, "there is no {kind} {which}", "{list} shows those that there are")
            }
            Self::PoolWouldShrink { removed, total } => explain!(
                Usage,
                "this would take {removed} of the {total} Clay webhooks that are there out of the pool, \
                 so nothing was written",
                "add one with --add-clay-webhook, take one out with --retire-clay-webhook, \
                 or put these in their place with --force"
            ),
            Self::TokensWouldBeReplaced { replaced, total } => explain!(
                Usage,
                "one token for all {total} Clay webhooks would replace {replaced} that are there, \
                 so nothing was written",
                "give one for each URL, comma-separated; change one webhook's by --retire-clay-webhook and \
                 --add-clay-webhook; or put it in place of all with --force"
            ),
            Self::SigningSecretsWouldBeRemoved { removed, total } => explain!(
                Usage,
                "this would take out {removed} of the {total} signing secrets that are there, \
                 so nothing was written",
                "add one with --add-signing-secret, take one out with --retire-signing-secret, \
                 or put these in their place with --force"
            ),
            Self::LastSecret { kind } => explain!(
                Failed,
                "this is the last {kind}, and without one its route is closed",
                "add another first, or close it with --force"
            ),
            Self::TokenNameTaken { name } => explain!(
                Usage,
                "there is a relay token named {name}, so nothing was written",
                "give the new one another --name, and retire the old one when nothing uses it any more"
            ),
            Self::LoopsKeyRejected => explain!(
                Usage,
                "Loops refuses this API key, so nothing was written",
                "make a key in Loops under Settings, API, and give that"
            ),
            Self::LoopsUnreachable { detail } => explain!(
                Unavailable,
                "Loops could not check the API key ({detail}), so nothing was written",
                "try again, or look at the network"
            ),
            Self::InvalidSecretDocument { name, line } => explain!(
                Unavailable,
                "the secret {name} is not a JSON object (line {line})",
                "mend it where it is kept, as the README shows it"
            ),
            Self::UnusableSecret { name, error } => {
                explain!(
                    Unavailable,
                    "the secret {name} would be of no use to the relay, so nothing was written",
                    "{error}"
                )
            }
            Self::PartialWrite { written, missing, error } => {
                explain!(
                    Unavailable,
                    "{written} is written, {missing} is not, and running setup again completes it",
                    "{error}"
                )
            }
            Self::ConcurrentWrite { name } => explain!(
                Unavailable,
                "somebody else wrote the secret {name} at the same time, and one of the two changes may be lost",
                "see with {list} what is there, and make again what is missing"
            ),
        }
    }
}
