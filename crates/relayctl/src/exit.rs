//! How a command ends: its exit code.

use std::process::ExitCode;

use crate::error::Error;

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

impl Error {
    /// The exit code that it leads to.
    #[must_use]
    pub const fn exit_status(&self) -> ExitStatus {
        match self {
            Self::UnreadableInput { .. }
            | Self::InvalidSamConfig { .. }
            | Self::NoSuchEnvironment { .. }
            | Self::JsonUnsupported { .. }
            | Self::NoStackNamed
            | Self::Setting(_)
            | Self::NoTerminal
            | Self::ConflictingTargets { .. }
            | Self::InvalidInputDocument { .. }
            | Self::UnknownValue { .. }
            | Self::InvalidSigningSecret
            | Self::InvalidClayUrl
            | Self::NotHeaderSafe { .. }
            | Self::TokenCountMismatch { .. }
            | Self::AmbiguousRoute { .. }
            | Self::NoSuchSecret { .. }
            | Self::LoopsKeyRejected
            | Self::Setup(_)
            | Self::NoSuchDelivery { .. }
            | Self::NotRecorded { .. }
            | Self::NoSuchDeadLetter { .. }
            | Self::DeadLetterBlocked { .. }
            | Self::BodyNotStored { .. }
            | Self::BodyFileNotWritable { .. }
            | Self::ManPagesNotWritable { .. } => ExitStatus::Usage,
            Self::LastSecret { .. }
            | Self::Interrupted
            | Self::UnreadableDeadLetter { .. }
            | Self::Json(_)
            | Self::HttpClient(_) => ExitStatus::Failed,
            _ => ExitStatus::Unavailable,
        }
    }
}
