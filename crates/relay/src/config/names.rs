//! The names of the settings: environment variables, and keys of `secrets.json` in the data folder of `relay-local`.

/// Which events are relayed.
pub const RELAYED_EVENTS: &str = "RELAYED_EVENTS";
/// How far the timestamp of a signed request may be off, in seconds.
pub const SIGNATURE_TOLERANCE_SECONDS: &str = "SIGNATURE_TOLERANCE_SECONDS";
/// What a Clay table gets.
pub const CLAY_PAYLOAD: &str = "CLAY_PAYLOAD";
/// Number of rows a second for Clay.
pub const CLAY_RATE_PER_SECOND: &str = "CLAY_RATE_PER_SECOND";
/// Number of calls a second for Loops.
pub const LOOPS_RATE_PER_SECOND: &str = "LOOPS_RATE_PER_SECOND";
/// Base URL of the Loops API.
pub const LOOPS_API_URL: &str = "LOOPS_API_URL";
/// The `source` that is written into contacts.
pub const CONTACT_SOURCE: &str = "CONTACT_SOURCE";
/// Whether values are converted to the types of their properties in Loops.
pub const TYPED_PROPERTIES: &str = "TYPED_PROPERTIES";
/// The key with which contacts are hashed for logs and listings.
pub const CONTACT_HASH_KEY: &str = "CONTACT_HASH_KEY";
/// How long a secret is used before it is read again, in seconds.
pub const SECRET_TTL_SECONDS: &str = "SECRET_TTL_SECONDS";

/// Address on which `relay-local` listens.
pub const RELAY_LISTEN: &str = "RELAY_LISTEN";
/// Whether `relay-local` serves its console.
pub const RELAY_CONSOLE: &str = "RELAY_CONSOLE";
/// Data folder of `relay-local`.
pub const RELAY_DATA: &str = "RELAY_DATA";

/// API key of the Loops account.
pub const LOOPS_API_KEY: &str = "LOOPS_API_KEY";
/// Secrets with which Loops signs webhooks.
pub const LOOPS_SIGNING_SECRET: &str = "LOOPS_SIGNING_SECRET";
/// URLs of the pool of Clay webhooks.
pub const CLAY_WEBHOOK_URL: &str = "CLAY_WEBHOOK_URL";
/// Tokens of the Clay webhooks.
pub const CLAY_WEBHOOK_AUTH_TOKEN: &str = "CLAY_WEBHOOK_AUTH_TOKEN";
/// Tokens with which Clay calls the relay.
pub const RELAY_TOKEN: &str = "RELAY_TOKEN";
