//! Errors as an operator reads them: what happened, and what to do.

use crate::exit::ExitStatus;

/// An error that names its remedy.
pub(crate) trait Explain {
    /// Returns what happened, and what to do about it.
    fn parts(&self) -> (String, String);

    /// Returns the exit code of the command that ends with this error.
    fn exit_status(&self) -> ExitStatus;
}
