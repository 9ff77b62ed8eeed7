//! How a command ends: its exit code.

use std::process::ExitCode;

/// The exit codes. Scripts depend on them: they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Everything is well. Exit code 0.
    Ok,
    /// Something was refused or failed: a check of `doctor`, or a part of what was to be done. Exit code 1.
    Failed,
    /// The command was used wrongly: its arguments, or what it was given to read. Exit code 2, as for every wrong argument.
    Usage,
    /// What the command needs is not there: a stack, a folder, a permission, credentials, a service. Exit code 3.
    Unavailable,
    /// `doctor` has warnings and nothing worse. Exit code 4.
    Warnings,
}

impl ExitStatus {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Warnings => 4,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
