//! What an operator does about a reason or a refusal, in one sentence.

use relay_core::delivery::ReasonCode;
use relay_core::error::ErrorCode;

/// Returns what to do about a delivery that waits for this reason.
pub const fn for_waiting(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::NoWebhook => "Its route has no Clay webhook: store one, and it is sent within a minute.",
        ReasonCode::ClayTokenRejected => {
            "Clay refuses the webhook's token: store the right one, and it is sent within a minute."
        }
        ReasonCode::ClayWebhooksExhausted => {
            "Every webhook of its route is used up or gone: make one in Clay and store it, and it is sent within a minute."
        }
        ReasonCode::LoopsKeyRejected => "Loops refuses the key: store a valid one, and it is sent within a minute.",
        ReasonCode::NotConfigured => "A key is missing: store it, and it is sent within a minute.",
        ReasonCode::SecretUnavailable => "A secret cannot be read: look into the log; it is sent when it can be again.",
        ReasonCode::DestinationThrottled => "The destination asks for fewer calls: it is sent by itself, later.",
        ReasonCode::DestinationFailed | ReasonCode::TimedOut | ReasonCode::Unreachable => {
            "The destination has a problem of its own: it is tried again by itself, for four days."
        }
        ReasonCode::CertificateUntrusted => {
            "The destination's certificate is not trusted: look at its URL, and at what stands in between."
        }
        ReasonCode::OutcomeUnknown => {
            "Whether Loops has it is not known yet: it is asked again under the same key, by itself."
        }
        ReasonCode::TooLarge
        | ReasonCode::NoRoute
        | ReasonCode::IdConflict
        | ReasonCode::ClayRejected
        | ReasonCode::LoopsRejected
        | ReasonCode::OtherDestination
        | ReasonCode::Expired
        | ReasonCode::Internal => "It is tried again by itself.",
    }
}

/// Returns what to do about a delivery that died for this reason.
pub const fn for_dead(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::TooLarge => "It is larger than Clay takes, and can only be dropped.",
        ReasonCode::NoRoute => "No route takes this event: name it in a route, then retry it.",
        ReasonCode::IdConflict => {
            "Another body was delivered under its id: drop it, or send it anew with a key of its own."
        }
        ReasonCode::LoopsRejected => {
            "Loops refuses it for good: correct the row in Clay and run it again, then drop this one."
        }
        ReasonCode::ClayRejected => {
            "Clay refuses it for good: look at its body, mend the table or the webhook, then retry it."
        }
        ReasonCode::OutcomeUnknown => {
            "Loops may have it already: look there, and retry it only if a second e-mail does less harm than none."
        }
        ReasonCode::OtherDestination => {
            "It was taken for another account than is served now: retry it to this one, or drop it."
        }
        ReasonCode::Expired => "It waited as long as the relay waits: fix the cause, then retry it.",
        ReasonCode::NoWebhook
        | ReasonCode::ClayTokenRejected
        | ReasonCode::ClayWebhooksExhausted
        | ReasonCode::LoopsKeyRejected
        | ReasonCode::NotConfigured
        | ReasonCode::SecretUnavailable => {
            "A key or a webhook was wrong for too long: store the right one, then retry it."
        }
        ReasonCode::DestinationThrottled
        | ReasonCode::DestinationFailed
        | ReasonCode::TimedOut
        | ReasonCode::Unreachable
        | ReasonCode::CertificateUntrusted => {
            "The destination was not there for too long: see that it is, then retry it."
        }
        ReasonCode::Internal => "The relay itself failed: look into its log for the id, then retry it.",
    }
}

/// Returns what to do about requests that are refused with this code.
pub const fn for_refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TooLarge => "Send less in one request: 256 KiB are the limit.",
        ErrorCode::MissingHeader | ErrorCode::MalformedHeader => {
            "These are no webhooks of Loops, or a proxy takes headers away: look at who calls."
        }
        ErrorCode::InvalidSignature => {
            "The signing secret is another one than Loops has, or a stranger calls: compare it with Settings, Webhooks in Loops."
        }
        ErrorCode::TimestampOutOfRange => {
            "The clock of this machine is wrong, or a recording is played again: look at the clock."
        }
        ErrorCode::InvalidBody => "What is signed is no event of Loops: look at who has the signing secret.",
        ErrorCode::InvalidToken => "The header Authorization lacks the relay token: compare the column in Clay.",
        ErrorCode::MissingScope => {
            "The relay token may not do this: make one with the scope, and put it into the column."
        }
        ErrorCode::InvalidJson => "The body is no JSON: put quotes around the columns in it.",
        ErrorCode::InvalidField => "A value does not fit its field: the cell in Clay says which, and why.",
        ErrorCode::MissingField => "A field that Loops needs is blank: the cell in Clay says which.",
        ErrorCode::ColumnNotInserted => {
            "A column's name came instead of its value: type / in Clay and pick the column."
        }
        ErrorCode::ValueTooLong => "A text is longer than Loops takes: shorten it in Clay.",
        ErrorCode::InvalidOption => "An option behind the URL is misspelt: the cell in Clay says which.",
        ErrorCode::OutcomeUnknown => "Whether Loops has these is not known: decide about their dead letters.",
        ErrorCode::LoopsRejected => "Loops refuses these rows: the cell in Clay has its sentence.",
        ErrorCode::LoopsKeyRejected => "Loops refuses the key: store a valid one.",
        ErrorCode::NotConfigured => "A key is missing: see Connect.",
        ErrorCode::Unavailable => "The store, a secret or Loops could not be reached: look into the log.",
        ErrorCode::NotFound | ErrorCode::MethodNotAllowed => {
            "The URL or the method of a column is wrong: compare them with those under Connect."
        }
        ErrorCode::Internal => "The relay itself failed: look into its log.",
    }
}

/// Returns what to do about requests that are refused for this cause, where only the cause is known
/// ([`refusal_cause`](relay::telemetry::metric::refusal_cause)).
pub fn for_cause(cause: &str) -> &'static str {
    match cause {
        "signature" => for_refusal(ErrorCode::InvalidSignature),
        "token" => for_refusal(ErrorCode::InvalidToken),
        "loops" => for_refusal(ErrorCode::LoopsRejected),
        "request" => "The cells in Clay say what is wrong with each row.",
        _ => for_refusal(ErrorCode::Unavailable),
    }
}
