//! Why the trial does not do something, and how the page is told.

use relay::ports::secrets::SecretError;
use relay_console::error::ConsoleError;
use relay_simulator::LoopsError;

/// Why the trial does not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// No destination is simulated any more.
    #[error(
        "The trial is over: no destination is simulated any more. Start the relay with --simulate for another one."
    )]
    Over,
    #[error(
        "{0} is not simulated here, so it is left alone: a relay without its key or URL, in another data folder, simulates it."
    )]
    NotSimulated(&'static str),
    #[error(
        "{0} is real here, and this would write into it: a relay without its key or URL, in another data folder, simulates it."
    )]
    Real(&'static str),
    #[error("The request cannot be read: {0}.")]
    Malformed(String),
    #[error("The method must be GET, POST, PUT or DELETE, as those of an HTTP API column in Clay.")]
    Method,
    #[error("The path must begin with /api/v1/ and lead to nothing else: take one of the relay's routes for Clay.")]
    Path,
    #[error("LOOPS_SIGNING_SECRET is empty, so no webhook can be signed: set it, or do not set it at all.")]
    NoSigningSecret,
    #[error("RELAY_TOKEN is empty, so nothing may call the relay: set it, or do not set it at all.")]
    NoRelayToken,
    #[error("The secrets cannot be read now: look into the relay's log.")]
    Secrets(#[from] SecretError),
    #[error("The relay did not answer its own page: look into its log, and at the address in RELAY_LISTEN.")]
    NoAnswer,
    /// What Loops answers to such a contact.
    #[error(transparent)]
    Loops(#[from] LoopsError),
}

impl From<TrialError> for ConsoleError {
    fn from(error: TrialError) -> Self {
        let message = error.to_string();
        match error {
            TrialError::Over => Self::NotFound(message),
            TrialError::NotSimulated(_)
            | TrialError::Real(_)
            | TrialError::Malformed(_)
            | TrialError::Method
            | TrialError::Path
            | TrialError::Loops(_) => Self::BadRequest(message),
            TrialError::NoSigningSecret | TrialError::NoRelayToken | TrialError::Secrets(_) | TrialError::NoAnswer => {
                Self::Unavailable { message, source: None }
            }
        }
    }
}
