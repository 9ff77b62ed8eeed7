//! Errors as an operator reads them: what happened, what to do, and the exit code.

use std::fmt;

use crate::exit::ExitStatus;

/// What an operator reads of an error.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(crate) exit_status: ExitStatus,
    pub(crate) problem: String,
    /// Empty if the problem says what to do.
    pub(crate) remedy: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, remedy, .. } = self;
        if remedy.is_empty() { f.write_str(problem) } else { write!(f, "{problem}: {remedy}") }
    }
}

/// An error that names its remedy and its exit code.
pub(crate) trait Explain {
    fn explain(&self) -> Explanation;
}

/// Makes an explanation from an exit status and two format strings, the problem and the remedy.
macro_rules! explain {
    ($exit_status:ident, $problem:literal, $remedy:literal) => {
        $crate::explain::Explanation {
            exit_status: $crate::exit::ExitStatus::$exit_status,
            problem: format_args!($problem).to_string(),
            remedy: format_args!($remedy).to_string(),
        }
    };
}

pub(crate) use explain;
