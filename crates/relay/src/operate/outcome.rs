//! What became of a dead letter, or would.

use crate::ports::dead_letters::RedriveOutcome;

/// Result for one dead letter, planned or applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Of a redrive, or of a drop that found it gone.
    Redrive(RedriveOutcome),
    /// It is thrown away.
    Drop,
}

/// What an operator calls the [options](crate::ports::dead_letters::RedriveOptions) that an outcome may need.
#[derive(Debug, Clone, Copy)]
pub struct OptionNames {
    /// Name of `even_if_older`.
    pub even_if_older: &'static str,
    /// Name of `redirect`.
    pub redirect: &'static str,
    /// Name of `even_if_sent`.
    pub even_if_sent: &'static str,
}

impl Outcome {
    /// Returns the outcome as JSON documents have it.
    pub fn as_str(self, applied: bool) -> &'static str {
        match (self, applied) {
            (Self::Redrive(RedriveOutcome::Redriven), false) => "would_send",
            (Self::Redrive(outcome), _) => outcome.as_str(),
            (Self::Drop, false) => "would_drop",
            (Self::Drop, true) => "dropped",
        }
    }

    /// Returns the outcome in words: what is or would be done, and why if that is not what was asked for.
    pub fn describe(self, applied: bool, names: &OptionNames) -> String {
        let (planned, done, explanation, hint) = match self {
            Self::Drop => ("drop", "dropped", "", ""),
            Self::Redrive(outcome) => match outcome {
                RedriveOutcome::Redriven => ("send again", "sent again", "", ""),
                RedriveOutcome::AlreadyRedriven => ("take away", "taken away", ": it was sent again before", ""),
                RedriveOutcome::AlreadyDelivered => ("take away", "taken away", ": it is delivered", ""),
                RedriveOutcome::Superseded => {
                    ("leave", "left", ": something newer of its contact was delivered", names.even_if_older)
                }
                RedriveOutcome::OtherDestination => {
                    ("leave", "left", ": it was taken for another account than is served now", names.redirect)
                }
                RedriveOutcome::OutcomeUnknown => {
                    ("leave", "left", ": Loops may have it, and may send its e-mail a second time", names.even_if_sent)
                }
                RedriveOutcome::Busy => ("leave", "left", ": a row of its contact is being sent", "try again"),
                RedriveOutcome::Conflict => ("leave", "left", ": another body was delivered under its id", "drop it"),
                RedriveOutcome::Unreadable => ("leave", "left", ": it is no delivery of this relay", "drop it"),
                RedriveOutcome::TooLarge => ("leave", "left", ": it is larger than Clay takes", "drop it"),
                RedriveOutcome::NotFound => ("nothing", "nothing", ": it is no dead letter any more", ""),
            },
        };
        let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
        format!("{}{explanation}{hint}", if applied { done } else { planned })
    }

    /// Whether it is a dead letter no more, by this action.
    pub fn is_done(self) -> bool {
        match self {
            Self::Redrive(outcome) => !outcome.stays_in_dlq() && outcome != RedriveOutcome::NotFound,
            Self::Drop => true,
        }
    }
}
