//! Why a command could not do its work: errors by layer, each with its remedy and exit code.

use std::io;
use std::net::SocketAddr;

use relay::destination::http_client::BuildError;
use relay_aws::sdk::error::AwsError;
use relay_doctor::invocation::suggest;
use relay_doctor::local_error::LocalError;
use relay_sqlite::admin;
use relay_sqlite::data_dir::DataDirError;
use relay_sqlite::data_dir::secrets_file::SecretsFileError;

use crate::aws;
use crate::explain::{Explain, Explanation, explain};
use crate::setup::error::SetupError;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
pub(crate) enum Error {
    Usage(#[from] UsageError),
    Setup(#[from] SetupError),
    Aws(#[from] aws::error::Error),
    Local(#[from] LocalError),
    Interrupted,
    /// Standard output cannot be written.
    Print(#[from] io::Error),
    Json(#[from] serde_json::Error),
    HttpClient(#[from] BuildError),
}

/// Wrong use of a command: its arguments, or what they name.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.explain())]
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
    ConsoleNotLoopback { address: SocketAddr },
    ConsoleCannotListen { address: SocketAddr, kind: io::ErrorKind },
}

impl Error {
    /// Whether AWS denied or throttled a call: a check that meets this is not known to fail.
    pub(crate) fn is_denied_or_throttled(&self) -> bool {
        matches!(self, Self::Aws(error) if error.is_denied_or_throttled())
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Usage(error) => error.explain(),
            Self::Setup(error) => error.explain(),
            Self::Aws(error) => error.explain(),
            Self::Local(error) => error.explain(),
            Self::Interrupted => explain!(
                Failed,
                "stopped",
                "what was done is done, and what was read is given back; doing it again goes on with the rest"
            ),
            Self::Print(error) => {
                explain!(Unavailable, "nothing can be printed ({error})", "look at where the output goes")
            }
            Self::Json(error) => {
                explain!(Failed, "the result cannot be written as JSON ({error})", "report this")
            }
            Self::HttpClient(error) => explain!(Failed, "{error}", ""),
        }
    }
}

impl Explain for UsageError {
    fn explain(&self) -> Explanation {
        match self {
            Self::JsonUnsupported { command } => explain!(Usage, "{command} prints no JSON", "leave --json out"),
            Self::NoStackNamed => explain!(
                Usage,
                "no stack is named",
                "give --stack NAME, go to the folder of samconfig.toml, or give --local for a relay-local"
            ),
            Self::ConflictingTargets { option } => {
                explain!(Usage, "--local and {option} name two relays", "give one of them")
            }
            Self::NoSuchDelivery { id } => {
                let deliveries = suggest("deliveries");
                explain!(
                    Usage,
                    "there is no delivery {id} on record",
                    "look at the id, with {deliveries} or in the log"
                )
            }
            Self::NotRecorded { id, hint } => explain!(Usage, "{id} is on no record. {hint}", ""),
            Self::NoSuchDeadLetter { id } => {
                let list = suggest("dead-letters list");
                explain!(
                    Usage,
                    "there is no dead letter {id}",
                    "{list} tells those that there are; nothing was changed"
                )
            }
            Self::DeadLetterBlocked { id } => explain!(
                Usage,
                "no dead letter {id} can be read now, but it may stand behind others of its contact",
                "retry or drop those first; nothing was changed"
            ),
            Self::BodyNotStored { id } => explain!(
                Usage,
                "no body of {id} can be shown",
                "it is kept of dead letters only, until they are sent again or dropped"
            ),
            Self::BodyFileNotWritable { path, kind } => explain!(
                Usage,
                "the body cannot be written to {path} ({kind})",
                "name a file that is not there yet, in a folder that is"
            ),
            Self::ManPagesNotWritable { path, kind } => explain!(
                Usage,
                "the manual pages cannot be written into {path} ({kind})",
                "name a folder that is there"
            ),
            Self::ConsoleNotLoopback { address } => explain!(
                Usage,
                "the console is for this machine, and others could reach {address}",
                "give a loopback address such as 127.0.0.1:8790; from elsewhere, `ssh -L 8790:127.0.0.1:8790` leads to it"
            ),
            Self::ConsoleCannotListen { address, kind } => explain!(
                Usage,
                "nothing can listen on {address} ({kind})",
                "give another port with --listen 127.0.0.1:PORT"
            ),
            // The key is missing in the relay, not on the command line.
            Self::NoContactHashKey => explain!(
                Unavailable,
                "this relay has no key to find a contact by its address",
                "give the 16 digits that the log has for it"
            ),
        }
    }
}

/// Implements the conversion of the cause of a layer's error.
macro_rules! from_cause {
    ($($source:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error.into())
            }
        })+
    };
}

from_cause! {
    AwsError => Aws,
    admin::Error => Local,
    DataDirError => Local,
    SecretsFileError => Local,
}
