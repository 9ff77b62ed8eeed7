//! Why a command could not do its work: errors by layer, each with its remedy and exit code.

use std::io;

use relay::destination::http_client::BuildError;

use crate::exit::ExitStatus;
use crate::explain::{Explain, impl_error, parts};
use crate::invocation::suggest;
use crate::setup::error::SetupError;
use crate::{aws, local};

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Error {
    Usage(UsageError),
    Setup(SetupError),
    Aws(aws::error::Error),
    Local(local::error::Error),
    Interrupted,
    /// Standard output cannot be written.
    Print(io::Error),
    Json(serde_json::Error),
    HttpClient(BuildError),
}

/// Wrong use of a command: its arguments, or what they name.
#[derive(Debug)]
pub(crate) enum UsageError {
    JsonUnsupported { command: &'static str },
    NoStackNamed,
    ConflictingTargets { option: &'static str },
    NoSuchDelivery { id: String },
    NotRecorded { id: String, hint: String },
    NoSuchDeadLetter { id: String },
    DeadLetterBlocked { id: String },
    BodyNotStored { id: String },
    BodyFileNotWritable { path: String, kind: io::ErrorKind },
    ManPagesNotWritable { path: String, kind: io::ErrorKind },
    NoContactHashKey,
}

impl_error!(Error);
impl_error!(UsageError);

impl Error {
    /// Whether AWS denied or throttled a call: a check that meets this is not known to fail.
    pub(crate) fn is_denied_or_throttled(&self) -> bool {
        matches!(self, Self::Aws(error) if error.is_denied_or_throttled())
    }
}

impl Explain for Error {
    fn parts(&self) -> (String, String) {
        match self {
            Self::Usage(error) => error.parts(),
            Self::Setup(error) => error.parts(),
            Self::Aws(error) => error.parts(),
            Self::Local(error) => error.parts(),
            Self::Interrupted => {
                parts!(
                    "stopped",
                    "what was done is done, and what was read is given back; doing it again goes on with the rest"
                )
            }
            Self::Print(error) => parts!("nothing can be printed ({error})", "look at where the output goes"),
            Self::Json(error) => parts!("the result cannot be written as JSON ({error})", "report this"),
            Self::HttpClient(error) => (error.to_string(), String::new()),
        }
    }

    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(error) => error.exit_status(),
            Self::Setup(error) => error.exit_status(),
            Self::Aws(error) => error.exit_status(),
            Self::Local(error) => error.exit_status(),
            Self::Print(_) => ExitStatus::Unavailable,
            Self::Interrupted | Self::Json(_) | Self::HttpClient(_) => ExitStatus::Failed,
        }
    }
}

impl Explain for UsageError {
    fn parts(&self) -> (String, String) {
        match self {
            Self::JsonUnsupported { command } => parts!("{command} prints no JSON", "leave --json out"),
            Self::NoStackNamed => parts!(
                "no stack is named",
                "give --stack NAME, go to the folder of samconfig.toml, or give --local for a relay-local"
            ),
            Self::ConflictingTargets { option } => {
                parts!("--local and {option} name two relays", "give one of them")
            }
            Self::NoSuchDelivery { id } => {
                let deliveries = suggest("deliveries");
                parts!("there is no delivery {id} on record", "look at the id, with {deliveries} or in the log")
            }
            Self::NotRecorded { id, hint } => (format!("{id} is on no record. {hint}"), String::new()),
            Self::NoSuchDeadLetter { id } => {
                let list = suggest("dead-letters list");
                parts!("there is no dead letter {id}", "{list} tells those that there are; nothing was changed")
            }
            Self::DeadLetterBlocked { id } => parts!(
                "no dead letter {id} can be read now, but it may stand behind others of its contact",
                "retry or drop those first; nothing was changed"
            ),
            Self::BodyNotStored { id } => parts!(
                "no body of {id} can be shown",
                "it is kept of dead letters only, until they are sent again or dropped"
            ),
            Self::BodyFileNotWritable { path, kind } => parts!(
                "the body cannot be written to {path} ({kind})",
                "name a file that is not there yet, in a folder that is"
            ),
            Self::ManPagesNotWritable { path, kind } => {
                parts!("the manual pages cannot be written into {path} ({kind})", "name a folder that is there")
            }
            Self::NoContactHashKey => parts!(
                "this relay has no key to find a contact by its address",
                "give the 16 digits that the log has for it"
            ),
        }
    }

    fn exit_status(&self) -> ExitStatus {
        match self {
            // The key is missing in the relay, not on the command line.
            Self::NoContactHashKey => ExitStatus::Unavailable,
            Self::JsonUnsupported { .. }
            | Self::NoStackNamed
            | Self::ConflictingTargets { .. }
            | Self::NoSuchDelivery { .. }
            | Self::NotRecorded { .. }
            | Self::NoSuchDeadLetter { .. }
            | Self::DeadLetterBlocked { .. }
            | Self::BodyNotStored { .. }
            | Self::BodyFileNotWritable { .. }
            | Self::ManPagesNotWritable { .. } => ExitStatus::Usage,
        }
    }
}

/// Converts the error of a layer.
macro_rules! from_layer {
    ($($source:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        })+
    };
}

from_layer! {
    UsageError => Usage,
    SetupError => Setup,
    aws::error::Error => Aws,
    local::error::Error => Local,
    io::Error => Print,
    serde_json::Error => Json,
    BuildError => HttpClient,
}

impl From<relay_sqlite::admin::Error> for Error {
    fn from(error: relay_sqlite::admin::Error) -> Self {
        Self::Local(error.into())
    }
}

impl From<relay_aws::sdk::error::AwsError> for Error {
    fn from(error: relay_aws::sdk::error::AwsError) -> Self {
        Self::Aws(error.into())
    }
}
