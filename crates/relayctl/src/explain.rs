//! Errors as an operator reads them: what happened, and what to do.

use crate::exit::ExitStatus;

/// An error that prints as `problem: remedy`, or as the problem alone where that says what to do.
pub(crate) trait Explain {
    /// Returns the problem and its remedy, which may be empty.
    fn parts(&self) -> (String, String);

    /// Returns the exit code of the command that ends with this error.
    fn exit_status(&self) -> ExitStatus;
}

/// Formats the two halves of an error.
macro_rules! parts {
    ($problem:literal, $remedy:literal) => {
        (format_args!($problem).to_string(), format_args!($remedy).to_string())
    };
}

/// Implements `Display` and `Error` for an [`Explain`].
macro_rules! impl_error {
    ($error:ty) => {
        impl std::fmt::Display for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match $crate::explain::Explain::parts(self) {
                    (problem, remedy) if remedy.is_empty() => f.write_str(&problem),
                    (problem, remedy) => write!(f, "{problem}: {remedy}"),
                }
            }
        }

        impl std::error::Error for $error {}
    };
}

pub(crate) use {impl_error, parts};
