//! Why a delivery waits, or died.

/// Why a delivery waits, or died: a word for listings and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonCode {
    /// Larger than Clay takes.
    TooLarge,
    /// Selected, but no route takes it.
    NoRoute,
    /// The id of an earlier delivery with another body.
    IdConflict,
    /// The route has no webhook that is set.
    NoWebhook,
    /// Clay refused the webhook's token.
    ClayTokenRejected,
    /// Every webhook of the route is used up or gone.
    ClayWebhooksExhausted,
    /// Clay refused the row for good.
    ClayRejected,
    /// Loops refused the relay's key.
    LoopsKeyRejected,
    /// Loops refused the call for good.
    LoopsRejected,
    /// A secret that is needed is not set.
    NotConfigured,
    /// A secret that is needed cannot be read.
    SecretUnavailable,
    /// The far end has no room now.
    DestinationThrottled,
    /// The far end failed.
    DestinationFailed,
    /// The far end did not answer in time.
    TimedOut,
    /// The far end could not be reached.
    Unreachable,
    /// The far end's certificate is not trusted.
    CertificateUntrusted,
    /// It has waited for ten days, or been taken up as often as a queue allows.
    Expired,
    /// A fault of the relay itself.
    Internal,
}

impl ReasonCode {
    /// Every code, for reading one back.
    const ALL: [Self; 18] = [
        Self::TooLarge,
        Self::NoRoute,
        Self::IdConflict,
        Self::NoWebhook,
        Self::ClayTokenRejected,
        Self::ClayWebhooksExhausted,
        Self::ClayRejected,
        Self::LoopsKeyRejected,
        Self::LoopsRejected,
        Self::NotConfigured,
        Self::SecretUnavailable,
        Self::DestinationThrottled,
        Self::DestinationFailed,
        Self::TimedOut,
        Self::Unreachable,
        Self::CertificateUntrusted,
        Self::Expired,
        Self::Internal,
    ];

    /// The code as it stands in stores and listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NoRoute => "no_route",
            Self::IdConflict => "id_conflict",
            Self::NoWebhook => "no_webhook",
            Self::ClayTokenRejected => "clay_token_rejected",
            Self::ClayWebhooksExhausted => "clay_webhooks_exhausted",
            Self::ClayRejected => "clay_rejected",
            Self::LoopsKeyRejected => "loops_key_rejected",
            Self::LoopsRejected => "loops_rejected",
            Self::NotConfigured => "not_configured",
            Self::SecretUnavailable => "secret_unavailable",
            Self::DestinationThrottled => "destination_throttled",
            Self::DestinationFailed => "destination_failed",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::Expired => "expired",
            Self::Internal => "internal",
        }
    }

    /// The code of this text, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// Why a delivery waits, or died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The word for it.
    pub code: ReasonCode,
    /// The far end's status, where it answered.
    pub status: Option<u16>,
}

impl Reason {
    /// A reason of the relay's own.
    #[must_use]
    pub const fn without_status(code: ReasonCode) -> Self {
        Self { code, status: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_code_round_trips() {
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::parse(code.as_str()), Some(code));
        }
    }
}
