//! Everything that keeps a command from doing its work, by its remedy: one sentence with what to do.

use std::io;

use crate::exit::ExitStatus;
use crate::explain::Explain as _;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- Wrong use ----
    /// A file that was named cannot be read.
    #[error("{path} cannot be read ({detail}): give the path of a file, or - for standard input")]
    UnreadableInput {
        /// The file.
        path: String,
        /// What the system says.
        detail: io::ErrorKind,
    },
    /// A command has no JSON to print.
    #[error("{command} prints no JSON: leave --json out")]
    JsonUnsupported {
        /// The command.
        command: &'static str,
    },
    /// Nothing says which stack.
    #[error(
        "no stack is named: give --stack NAME, go to the folder of samconfig.toml, or give --local for a relay-local"
    )]
    NoStackNamed,
    /// There is no such delivery.
    #[error("there is no delivery {id} on record: look at the id, with `relayctl deliveries` or in the log")]
    NoSuchDelivery {
        /// What was looked for.
        id: String,
    },
    /// There is no record of a contact, and need not be one.
    #[error("{id} is on no record. {hint}")]
    NotRecorded {
        /// What was looked for.
        id: String,
        /// Where else it is found.
        hint: String,
    },
    /// There is no such dead letter.
    #[error(
        "there is no dead letter {id}: `relayctl dead-letters list` tells those that there are; nothing was changed"
    )]
    NoSuchDeadLetter {
        /// What was looked for.
        id: String,
    },
    /// A dead letter may be among those that cannot be read.
    #[error(
        "no dead letter {id} can be read now, but it may stand behind others of its contact: retry or drop those first; nothing was changed"
    )]
    DeadLetterBlocked {
        /// What was looked for.
        id: String,
    },
    /// A delivery's body is not kept.
    #[error("no body of {id} can be shown: it is kept of dead letters only, until they are sent again or dropped")]
    BodyNotStored {
        /// The delivery.
        id: String,
    },
    /// A body cannot be written.
    #[error("the body cannot be written to {path} ({detail}): name a file that is not there yet, in a folder that is")]
    BodyFileNotWritable {
        /// The file.
        path: String,
        /// What the system says.
        detail: io::ErrorKind,
    },
    /// Manual pages cannot be written.
    #[error("the manual pages cannot be written into {path} ({detail}): name a folder that is there")]
    ManPagesNotWritable {
        /// The folder.
        path: String,
        /// What the system says.
        detail: io::ErrorKind,
    },
    /// Two relays are named.
    #[error("--local and {option} name two relays: give one of them")]
    ConflictingTargets {
        /// The other one.
        option: &'static str,
    },
    /// Nobody can be asked.
    #[error(
        "there is no terminal to ask on: give the values in a file with --from FILE, or on standard input with --from -"
    )]
    NoTerminal,
    /// What was given is not a document of values.
    #[error(
        "what was given breaks at line {line}: give a JSON object of texts, or lines NAME=VALUE, named {}",
        crate::setup::input::INPUT_NAMES.join(", ")
    )]
    InvalidInputDocument {
        /// Where it breaks.
        line: usize,
    },
    /// A name is not known.
    #[error("{name} is no value that setup takes: it takes {}", crate::setup::input::INPUT_NAMES.join(", "))]
    UnknownValue {
        /// The name.
        name: String,
    },
    /// A signing secret is not one.
    #[error("LOOPS_SIGNING_SECRET must be what Loops shows under Settings, Webhooks: base64, with or without whsec_")]
    InvalidSigningSecret,
    /// A URL is not one.
    #[error("CLAY_WEBHOOK_URL must be https URLs of Clay webhooks, comma-separated (http only for this machine)")]
    InvalidClayUrl,
    /// A value cannot be sent in a header.
    #[error("{name} must have visible ASCII characters only: copy it again, without spaces or line breaks")]
    NotHeaderSafe {
        /// The value's name.
        name: &'static str,
    },
    /// Tokens and URLs do not match.
    #[error("{tokens} Clay tokens are given for {urls} URLs: give one for all, or one for each, comma-separated")]
    TokenCountMismatch {
        /// How many tokens.
        tokens: usize,
        /// How many URLs.
        urls: usize,
    },
    /// It is not clear which route is meant.
    #[error("name the route that the Clay webhooks belong to with --route: there are {routes}")]
    AmbiguousRoute {
        /// Those that there are.
        routes: String,
    },
    /// There is no such secret.
    #[error("there is no {what} {which}: `relayctl setup --list` shows those that there are")]
    NoSuchSecret {
        /// What kind.
        what: &'static str,
        /// Which.
        which: String,
    },
    /// Loops does not take the key.
    #[error(
        "Loops refuses this API key, so nothing was written: make a key in Loops under Settings, API, and give that"
    )]
    LoopsKeyRejected,
    /// What setup does not take.
    #[error(transparent)]
    Setup(#[from] crate::setup::error::SetupError),

    // ---- Refused ----
    /// The last of its kind would go.
    #[error(
        "this is the last {what}, and without one its route is closed: add another first, or close it with --force"
    )]
    LastSecret {
        /// What kind.
        what: &'static str,
    },
    /// One secret is written and the other is not.
    #[error("{written} is written, {missing} is not, and running setup again completes it: {why}")]
    PartialWrite {
        /// What is written.
        written: String,
        /// What is not.
        missing: String,
        /// Why.
        why: Box<Error>,
    },

    // ---- Surroundings ----
    /// A secret is not a document.
    #[error("the secret {name} is not a JSON object (line {line}): mend it where it is kept, as the README shows it")]
    InvalidSecretDocument {
        /// The secret.
        name: String,
        /// Where it breaks.
        line: usize,
    },
    /// A secret is one that the relay could not use.
    #[error("the secret {name} would be of no use to the relay, so nothing was written: {error}")]
    UnusableSecret {
        /// The secret.
        name: String,
        /// Why.
        error: relay::config::secret_document::DocumentError,
    },
    /// Loops cannot be asked.
    #[error("Loops could not check the API key ({what}), so nothing was written: try again, or look at the network")]
    LoopsUnreachable {
        /// What it answered.
        what: String,
    },
    /// The account or the stack cannot be used.
    #[error(transparent)]
    Aws(#[from] crate::aws::error::Error),
    /// There is no data folder.
    #[error("{folder} is not a data folder of relay-local: start the relay first, or give --local=FOLDER")]
    NotADataDir {
        /// Where it was looked for.
        folder: String,
    },
    /// A variable is set to something that relay-local does not take.
    #[error("{0}; correct it in this terminal, which relay-local reads it from too")]
    Setting(#[from] relay::config::env::SettingError),
    /// The data folder is not to be had.
    #[error(transparent)]
    DataDir(#[from] relay_sqlite::data_dir::DataDirError),
    /// What the folder keeps of keys is not to be had.
    #[error(transparent)]
    SecretsFile(#[from] relay_sqlite::data_dir::secrets_file::SecretsFileError),
    /// What is kept is in another's hand, or of no use.
    #[error(transparent)]
    SecretStore(#[from] crate::setup::error::SecretStoreError),
    /// The store is not to be had.
    #[error(transparent)]
    Store(#[from] relay_sqlite::store::OpenError),
    /// The store cannot be read or written.
    #[error("the store in the data folder cannot be used ({0}): try again")]
    Database(#[from] rusqlite::Error),
    /// Nothing can be printed.
    #[error("nothing can be printed ({0}): look at where the output goes")]
    Print(#[from] io::Error),
    /// Nothing to hash contacts with.
    #[error("this relay has no key to find a contact by its address: give the 16 digits that the log has for it")]
    NoContactHashKey,

    // ---- What was not brought to its end ----
    /// Somebody has stopped it.
    #[error("stopped: what was done is done, and what was read is given back; doing it again goes on with the rest")]
    Interrupted,

    // ---- Faults of the program ----
    /// A document cannot be written as JSON.
    #[error("the result cannot be written as JSON ({0}): report this")]
    Json(#[from] serde_json::Error),
    /// The HTTP client cannot be built.
    #[error(transparent)]
    HttpClient(#[from] relay::destination::http_client::BuildError),
}

impl Error {
    /// The exit code that it leads to.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::UnreadableInput { .. }
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
            Self::LastSecret { .. } | Self::Interrupted | Self::Json(_) | Self::HttpClient(_) => ExitStatus::Failed,
            Self::Aws(error) => error.exit_status(),
            _ => ExitStatus::Unavailable,
        }
    }
}

impl From<relay_aws::sdk::error::AwsError> for Error {
    fn from(error: relay_aws::sdk::error::AwsError) -> Self {
        Self::Aws(error.into())
    }
}
