//! Why a delivery waits, or was dead-lettered.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Code of a reason, as in listings and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReasonCode {
    /// The event is larger than Clay accepts.
    TooLarge,
    /// The event is selected, but no route takes it.
    NoRoute,
    /// An earlier delivery has the same id and another body.
    IdConflict,
    /// The route has no webhook that is set.
    NoWebhook,
    /// Clay rejected the webhook's token.
    ClayTokenRejected,
    /// Every webhook of the route is used up or gone.
    ClayWebhooksExhausted,
    /// Clay rejected the row for good.
    ClayRejected,
    /// Loops rejected the relay's key.
    LoopsKeyRejected,
    /// Loops rejected the call for good.
    LoopsRejected,
    /// A secret that is needed is not set.
    NotConfigured,
    /// A secret that is needed cannot be read.
    SecretUnavailable,
    /// The destination asked for fewer calls.
    DestinationThrottled,
    /// The destination failed.
    DestinationFailed,
    /// The destination did not respond in time.
    TimedOut,
    /// The destination could not be reached.
    Unreachable,
    /// The destination's certificate is not trusted.
    CertificateUntrusted,
    /// It was taken for another account than the relay serves now.
    OtherDestination,
    /// It is not known whether Loops has the event, and Loops has forgotten its key by now: sent again, it might reach people
    /// twice.
    OutcomeUnknown,
    /// The delivery has waited for ten days, or was received as often as the queue allows.
    Expired,
    /// An error of the relay itself.
    Internal,
}

impl ReasonCode {
    /// The code as stores and listings show it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a code.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Reason for which a delivery waits, or was dead-lettered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// What happened.
    pub code: ReasonCode,
    /// Status of the destination's response, if there was one.
    pub status: Option<u16>,
}

impl Reason {
    /// Creates a reason that is not a response.
    pub const fn without_status(code: ReasonCode) -> Self {
        Self { code, status: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_code_round_trips() {
        for code in ReasonCode::VARIANTS {
            assert_eq!(ReasonCode::parse(code.as_str()), Some(*code));
        }
    }
}
