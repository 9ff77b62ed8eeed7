//! How a command ends: its exit code.

use std::process::ExitCode;

use crate::error::Fault;

/// The exit codes. Scripts depend on them: they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything is well. Exit code 0.
    Well,
    /// Something was refused or failed: a check of `doctor`, or a part of what was to be done. Exit code 1.
    Refused,
    /// The command was used wrongly: its arguments, or what it was given to read. Exit code 2, as for every wrong argument.
    Misuse,
    /// What the command needs is not there: a stack, a folder, a permission, credentials, a service. Exit code 3.
    Surroundings,
    /// `doctor` has warnings and nothing worse. Exit code 4.
    Warnings,
}

impl Ending {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Refused => 1,
            Self::Misuse => 2,
            Self::Surroundings => 3,
            Self::Warnings => 4,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}

impl Fault {
    /// The exit code that it leads to.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Input { .. }
            | Self::SamConfig { .. }
            | Self::NoSuchEnvironment { .. }
            | Self::NoJson { .. }
            | Self::NoStackNamed
            | Self::Setting(_)
            | Self::NoTerminal
            | Self::TwoRelays { .. }
            | Self::ValuesDocument { .. }
            | Self::UnknownValue { .. }
            | Self::SigningSecret
            | Self::ClayUrl
            | Self::NotForAHeader { .. }
            | Self::TokenCount { .. }
            | Self::WhichRoute { .. }
            | Self::NoSuchSecret { .. }
            | Self::LoopsKeyRefused
            | Self::Setup(_)
            | Self::NoSuchDelivery { .. }
            | Self::NotOnRecord { .. }
            | Self::NoSuchLetter { .. }
            | Self::LetterBehind { .. }
            | Self::NoBody { .. }
            | Self::BodyFile { .. }
            | Self::Pages { .. } => Ending::Misuse,
            Self::LastSecret { .. }
            | Self::Interrupted
            | Self::UnreadableLetter { .. }
            | Self::Json(_)
            | Self::Client(_) => Ending::Refused,
            _ => Ending::Surroundings,
        }
    }
}
