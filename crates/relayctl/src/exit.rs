//! The exit codes. Scripts depend on them: they do not change.

use std::process::ExitCode;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Ok = 0,
    /// Something was refused or failed: a check of `doctor`, or a part of what was to be done.
    Failed = 1,
    /// Wrong use: an argument, or a file that it names. clap exits with this code, too.
    Usage = 2,
    /// Something is not there: a stack, a folder, a permission, credentials, a service.
    Unavailable = 3,
    /// `doctor` has warnings and nothing worse.
    Warnings = 4,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
