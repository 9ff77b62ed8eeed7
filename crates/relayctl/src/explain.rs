//! Errors as an operator reads them: what happened, and what to do.

use crate::exit::ExitStatus;

/// An error that names its remedy.
pub(crate) trait Explain {
    /// Returns what happened, and what to do about it.
    fn parts(&self) -> (String, String);

    /// Returns the exit code of the command that ends with this error.
    fn exit_status(&self) -> ExitStatus;
}

/// Implements `Display` and `Error` for a type that is [`Explain`].
macro_rules! explained_error {
    ($error:ty) => {
        impl std::fmt::Display for $error {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (problem, remedy) = $crate::explain::Explain::parts(self);
                write!(formatter, "{problem}: {remedy}")
            }
        }

        impl std::error::Error for $error {}
    };
}
pub(crate) use explained_error;
