//! What `setup` does not take, by its remedy. Nothing was written where one of these is told.

/// Why `setup` does not take what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Webhooks that are there would be taken out of the pool.
    #[error(
        "this would take {gone} of the {known} Clay webhooks that are there out of the pool, so nothing was written: add one with --add-clay-webhook, take one out with --retire-clay-webhook, or put these in their place with --force"
    )]
    PoolWouldShrink {
        /// How many would go.
        gone: usize,
        /// How many there are.
        known: usize,
    },
    /// One token would take the place of others in a pool.
    #[error(
        "one token for all {pool} Clay webhooks would replace {gone} that are there, so nothing was written: give one for each URL, comma-separated; change one webhook's by --retire-clay-webhook and --add-clay-webhook; or put it in place of all with --force"
    )]
    TokensWouldBeReplaced {
        /// How many tokens would go.
        gone: usize,
        /// How many webhooks the pool has.
        pool: usize,
    },
    /// One of several signing secrets would be taken out.
    #[error(
        "this would take out {gone} of the {known} signing secrets that are there, so nothing was written: add one with --add-signing-secret, take one out with --retire-signing-secret, or put these in their place with --force"
    )]
    SigningSecretsWouldBeRemoved {
        /// How many would go.
        gone: usize,
        /// How many there are.
        known: usize,
    },
    /// The pool has the webhook.
    #[error("the pool has this Clay webhook already, as number {position}: nothing was written; make another in Clay")]
    DuplicateWebhook {
        /// Its position, from 1.
        position: usize,
    },
    /// A webhook is given twice.
    #[error("the Clay webhook URLs number {first} and {second} are the same, so nothing was written: give each once")]
    RepeatedUrl {
        /// The position of the one, from 1.
        first: usize,
        /// The position of the other, from 1.
        second: usize,
    },
    /// A URL is the host alone.
    #[error(
        "CLAY_WEBHOOK_URL is a host without a path, which is no webhook, so nothing was written: copy the whole URL that Clay shows for the webhook"
    )]
    UrlWithoutPath,
    /// A signing secret is too short to be one.
    #[error(
        "LOOPS_SIGNING_SECRET is too short to be what Loops shows under Settings, Webhooks: nothing was written; copy it again, whole"
    )]
    SigningSecretTooShort,
    /// The Loops key is given for the signing secret.
    #[error(
        "LOOPS_SIGNING_SECRET is the Loops API key, so nothing was written: give what Loops shows under Settings, Webhooks"
    )]
    ApiKeyAsSigningSecret,
    /// Something else than what an option takes was given.
    #[error("{option} does not take {name}, so nothing was written: give that to setup without the option")]
    UnexpectedValue {
        /// The option.
        option: &'static str,
        /// The value's name.
        name: &'static str,
    },
    /// The person has ended the input.
    #[error("the input ended: nothing was written")]
    InputEnded,
    /// What was to be read holds no value.
    #[error("no value was given, so nothing was written: give at least one of {}", crate::setup::input::INPUT_NAMES.join(", "))]
    NoInput,
    /// What an option needs was not given.
    #[error("{option} needs {name}, which was not given: nothing was written")]
    MissingValue {
        /// The option.
        option: &'static str,
        /// The value's name.
        name: &'static str,
    },
}

/// Why what is kept cannot be used as it is, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// Two have written a secret at the same time.
    #[error(
        "somebody else wrote the secret {name} at the same time, and one of the two changes may be lost: see with `relayctl setup --list` what is there, and make again what is missing"
    )]
    ConcurrentWrite {
        /// The secret.
        name: String,
    },
}
