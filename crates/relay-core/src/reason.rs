//! Why a delivery waits, or died.

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Why a delivery waits, or died: a word for listings and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
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
    /// The code as it stands in stores and listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The code of this text, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
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
        for code in ReasonCode::VARIANTS {
            assert_eq!(ReasonCode::parse(code.as_str()), Some(*code));
        }
    }
}
