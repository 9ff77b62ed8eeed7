//! `setup`: the secrets as documents that are edited, where they are stored, and what the operator gives.

use relay::config::names::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};

pub(crate) mod clay_webhooks;
pub(crate) mod documents;
pub(crate) mod error;
pub(crate) mod input;
pub(crate) mod prompt;
pub(crate) mod report;
pub(crate) mod secret_store;

/// The names of the values that `setup` takes.
pub(crate) const INPUT_NAMES: [&str; 4] =
    [LOOPS_API_KEY, LOOPS_SIGNING_SECRET, CLAY_WEBHOOK_URL, CLAY_WEBHOOK_AUTH_TOKEN];
